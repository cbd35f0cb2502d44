//! Columns of the mesh's own kinds: those of Istio's resource definitions.

use serde_json::{Value, json};

use super::{Columns, age, column};
use crate::istio::destination_rule::DestinationRule;
use crate::istio::peer_authentication::{MutualTlsMode, PeerAuthentication};
use crate::istio::virtual_service::VirtualService;
use crate::kubernetes::kinds::AnyObject;
use crate::schema::Items;

pub(crate) const VIRTUAL_SERVICE: Columns = Columns {
    all: &[column("Name"), column("Gateways"), column("Hosts"), column("Age")],
    cells: |object, now| {
        let service = VirtualService::of(object);
        let (metadata, spec) = (service.metadata(), service.spec());
        vec![
            metadata.name().into(),
            as_json(spec.gateways()),
            as_json(spec.hosts()),
            age(metadata, now),
        ]
    },
};

pub(crate) const DESTINATION_RULE: Columns = Columns {
    all: &[column("Name"), column("Host"), column("Age")],
    cells: |object, now| {
        let rule = DestinationRule::of(object);
        vec![rule.metadata().name().into(), rule.spec().host().into(), age(rule.metadata(), now)]
    },
};

pub(crate) const PEER_AUTHENTICATION: Columns = Columns {
    all: &[column("Name"), column("Mode"), column("Age")],
    cells: |object, now| {
        let policy = PeerAuthentication::of(object);
        let mode = match policy.spec().mtls().mode() {
            MutualTlsMode::Unset => "",
            mode => mode.word(),
        };
        vec![policy.metadata().name().into(), mode.into(), age(policy.metadata(), now)]
    },
};

// The last two have no tables yet.

pub(crate) const SERVICE_ENTRY: Columns = Columns {
    all: &[
        column("Name"),
        column("Hosts"),
        column("Location"),
        column("Resolution"),
        column("Age"),
    ],
    cells: |object, now| {
        let (metadata, spec) = (AnyObject::of(object).metadata(), &object["spec"]);
        let hosts = Some(&spec["hosts"]).filter(|hosts| !hosts.is_null());
        vec![
            metadata.name().into(),
            hosts.map_or_else(String::new, Value::to_string).into(),
            spec["location"].as_str().unwrap_or_default().into(),
            spec["resolution"].as_str().unwrap_or_default().into(),
            age(metadata, now),
        ]
    },
};

pub(crate) const AUTHORIZATION_POLICY: Columns = Columns {
    all: &[column("Name"), column("Action"), column("Age")],
    cells: |object, now| {
        let metadata = AnyObject::of(object).metadata();
        let action = object["spec"]["action"].as_str().unwrap_or_default();
        vec![metadata.name().into(), action.into(), age(metadata, now)]
    },
};

/// A list as kubectl prints that of a custom column: JSON.
fn as_json(list: Items<'_, String>) -> Value {
    if list.len() == 0 { "".into() } else { json!(list.collect::<Vec<_>>()).to_string().into() }
}
