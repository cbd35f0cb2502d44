//! Istio's kinds, in all their generations.

use ironmesh_model::Name;

use crate::Object;
use crate::schema::{API_VERSION, KIND, METADATA, Message, PORT, STATUS, Type, honoured, later};

mod destination_rule;
mod gateway;
mod peer_authentication;
mod virtual_service;

pub(crate) use destination_rule::destination_rule;
pub(crate) use gateway::gateway;
pub(crate) use peer_authentication::peer_authentication;
pub(crate) use virtual_service::virtual_service;

/// The port of a destination.
static PORT_SELECTOR: Message = Message {
    name: "the port of a destination",
    open: false,
    fields: &[honoured("number", PORT), later("name", Type::Text)],
};

/// The fully qualified form of a host in an object: a name without a dot is a service of the
/// object's namespace.
fn fully_qualified(host: &str, object: &Object) -> Name {
    let host = host.to_ascii_lowercase();
    if host.contains(['.', '*']) {
        host.into()
    } else {
        format!("{host}.{}.svc.cluster.local", object.namespace()).into()
    }
}

/// `exportTo`: the namespaces that see an object, none for all.
fn export_to(given: &[String], object: &Object) -> Vec<Name> {
    if given.iter().any(|namespace| namespace == "*") {
        return Vec::new();
    }
    let mut namespaces: Vec<Name> = given
        .iter()
        .map(|namespace| match namespace.as_str() {
            "." => object.namespace().clone(),
            // `~` is no namespace's name, so that nobody sees the object.
            other => other.into(),
        })
        .collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

/// The name under which a route is attached to a gateway: `NAMESPACE/NAME`, or `mesh`.
fn gateway_name(given: &str, object: &Object) -> Name {
    if let Some(name) = given.strip_prefix("./") {
        return format!("{}/{name}", object.namespace()).into();
    }
    if given == "mesh" || given.contains('/') {
        return given.into();
    }
    // Istio before 1.0.1 took gateways by the host name of their service.
    match given.strip_suffix(".svc.cluster.local").unwrap_or(given).split_once('.') {
        Some((name, namespace)) => format!("{namespace}/{name}").into(),
        None => format!("{}/{given}", object.namespace()).into(),
    }
}
