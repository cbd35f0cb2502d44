//! The proxies, connected or not.

use std::collections::BTreeMap;

use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::object::value as object;
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_wire::server::{ProxyError, ProxyStatus};

use super::Plane;
use crate::api::mesh::{ProxyItem, ResourceError};
use crate::inject;

/// The proxies of all pods that have one, in order of namespace and name.
pub(crate) fn proxies(plane: &Plane) -> Vec<ProxyItem> {
    let connected: BTreeMap<_, _> = plane
        .mesh
        .server
        .proxies()
        .into_iter()
        .map(|status| (status.peer.workload.uid.clone(), status))
        .collect();
    let pods = plane.source.pods();
    let with_proxy = pods.iter().filter(|pod| inject::has_sidecar(pod));
    with_proxy
        .filter(|pod| !Pod::of(pod).is_finished())
        .map(|pod| {
            let kind = if inject::is_router(pod) { ProxyKind::Gateway } else { ProxyKind::Sidecar };
            let mut item = ProxyItem {
                name: object::name(pod).into(),
                namespace: object::namespace(pod).into(),
                kind,
                connected: false,
                resources: 0,
                acknowledged: 0,
                resources_pushed: 0,
                bytes_pushed: 0,
                synced: false,
                identity: None,
                errors: Vec::new(),
            };
            if let Some(status) = connected.get(object::uid(pod)) {
                note(&mut item, status);
            }
            item
        })
        .collect()
}

fn note(item: &mut ProxyItem, status: &ProxyStatus) {
    item.connected = true;
    item.resources = status.resources;
    item.acknowledged = status.acknowledged;
    item.resources_pushed = status.pushed_resources;
    item.bytes_pushed = status.pushed_bytes;
    item.synced = status.synced;
    item.identity = Some(status.peer.identity.to_string());
    let error = |error: &ProxyError| ResourceError {
        resource: error.what.clone(),
        message: error.why.clone(),
        by_control_plane: error.is_refused_here,
    };
    item.errors = status.errors.iter().map(error).collect();
}
