//! Tables of the mesh's own kinds, with the columns of Istio's resource definitions.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, age, as_json, column, name};
use crate::object::{self, Object};

pub(super) const VIRTUAL_SERVICE: &[Column] =
    &[column("Name"), column("Gateways"), column("Hosts"), column("Age")];

pub(super) fn virtual_service(object: &Object, now: Timestamp) -> Vec<Value> {
    let field = |pointer| as_json(object.pointer(pointer));
    vec![name(object), field("/spec/gateways"), field("/spec/hosts"), age(object, now)]
}

pub(super) const DESTINATION_RULE: &[Column] = &[column("Name"), column("Host"), column("Age")];

pub(super) fn destination_rule(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(object), object::text(object, "/spec/host").into(), age(object, now)]
}

pub(super) const SERVICE_ENTRY: &[Column] =
    &[column("Name"), column("Hosts"), column("Location"), column("Resolution"), column("Age")];

pub(super) fn service_entry(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        as_json(object.pointer("/spec/hosts")),
        object::text(object, "/spec/location").into(),
        object::text(object, "/spec/resolution").into(),
        age(object, now),
    ]
}

pub(super) const PEER_AUTHENTICATION: &[Column] = &[column("Name"), column("Mode"), column("Age")];

pub(super) fn peer_authentication(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(object), object::text(object, "/spec/mtls/mode").into(), age(object, now)]
}

pub(super) const AUTHORIZATION_POLICY: &[Column] =
    &[column("Name"), column("Action"), column("Age")];

pub(super) fn authorization_policy(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(object), object::text(object, "/spec/action").into(), age(object, now)]
}
