//! Istio's kinds, in all their generations.

use std::collections::BTreeMap;

use ironmesh_model::{Labels, Name};

use crate::Object;
use crate::schema::fields;

mod config;
pub mod destination_policy;
pub mod destination_rule;
pub mod gateway;
mod mesh_config;
pub mod peer_authentication;
pub mod policy;
pub mod route_rule;
pub mod service_entry;
pub mod sidecar;
pub(crate) mod status;
pub mod topology;
pub(crate) mod validation;
pub mod virtual_service;
pub mod workload_entry;
pub mod workload_group;

pub(crate) use destination_policy::destination_policy;
pub(crate) use destination_rule::destination_rule;
pub(crate) use gateway::gateway;
pub use mesh_config::settings_with;
pub(crate) use mesh_config::{MeshConfig, mesh_config, proxy_settings};
pub(crate) use peer_authentication::peer_authentication;
pub(crate) use policy::{mesh_policy, policy};
pub(crate) use route_rule::route_rule;
pub(crate) use service_entry::{Entries, EntryPart, egress_rule, service_entry};
pub(crate) use sidecar::sidecar;
pub(crate) use virtual_service::virtual_service;
pub(crate) use workload_entry::workload_entry;
pub(crate) use workload_group::{proxy_config, workload_group};

fields! {
    istio;
    /// The port of a destination.
    pub struct PortSelector "the port of a destination" {
        /// Its number.
        honoured number: Option<u16>,
        /// Its name; Istio does not honour it either.
        no_effect("Istio takes numbers only; write number")
            name: String,
    }

    /// Workloads of the namespace, by labels.
    pub struct WorkloadSelector "selector" {
        /// Labels that they have; none: all of them.
        honoured match_labels "matchLabels": BTreeMap<String, String>,
    }
}

/// The domain under which services of the cluster have their names.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Labels as the model has them.
fn labels(given: &BTreeMap<String, String>) -> Labels {
    given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The fully qualified form of a host in an object: a name without a dot is a service of the
/// object's namespace.
pub(crate) fn fully_qualified(host: &str, object: &Object) -> Name {
    let host = host.to_ascii_lowercase();
    if host.contains(['.', '*']) {
        host.into()
    } else {
        format!("{host}.{}.svc.cluster.local", object.namespace()).into()
    }
}

/// `exportTo`: the namespaces that see an object, none for all.
pub(crate) fn export_to(given: &[String], object: &Object) -> Vec<Name> {
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
    // Istio before 1.0.1 took gateways by the host name of their service, of which the second label is
    // the namespace.
    let mut labels = given.split('.');
    match (labels.next(), labels.next()) {
        (Some(name), Some(namespace)) => format!("{namespace}/{name}").into(),
        _ => format!("{}/{given}", object.namespace()).into(),
    }
}
