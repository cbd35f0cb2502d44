//! Where a request begins, and the address that its caller dials.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::object::value as object;
use ironmesh_model::resource::Resolution;
use ironmesh_model::service::EndpointAddress;
use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::{
    Labels, ListenerKind, ResolutionKey, Resource, ResourceKey, ServiceId, Snapshot, Target,
};
use serde_json::Value;

use super::url::Url;
use crate::inject;
use crate::plane::Refused;
use crate::source::Source;

/// The caller.
#[derive(Debug)]
pub(super) struct Origin {
    /// Its pod, or the gateway's.
    pub(super) pod: Arc<Value>,
    /// Where the request enters the pod's proxy; `None` if it has none.
    pub(super) listener: Option<ListenerKind>,
}

impl Origin {
    /// Finds the pod that `from` names.
    pub(super) fn find(source: &dyn Source, from: &str, namespace: &str) -> Result<Self, Refused> {
        let mut living: Vec<_> = source
            .pods()
            .into_iter()
            .filter(|pod| !object::is_terminating(pod) && !Pod::of(pod).is_finished())
            .collect();
        // Of several a ready one is taken.
        living.sort_by_key(|pod| !Pod::of(pod).is_ready());
        let found = if from == "gateway" {
            let selected = |pod: &&Arc<Value>| {
                inject::is_router(pod) && object::label(pod, "istio") == Some("ingressgateway")
            };
            living.iter().find(selected)
        } else {
            let (name, namespace) = from.rsplit_once('.').unwrap_or((from, namespace));
            let here = || living.iter().filter(|pod| object::namespace(pod) == namespace);
            here()
                .find(|pod| object::name(pod) == name)
                .or_else(|| here().find(|pod| Pod::of(pod).metadata().pod_owner() == name))
                .or_else(|| here().find(|pod| object::label(pod, "app") == Some(name)))
        };
        let pod = found.cloned().ok_or_else(|| {
            if from == "gateway" {
                let why = "no pod is an ingress gateway (label istio=ingressgateway)";
                Refused::BadRequest(why.to_owned())
            } else {
                Refused::NoPod(from.to_owned())
            }
        })?;
        let listener = if inject::is_router(&pod) {
            Some(ListenerKind::Gateway)
        } else {
            inject::has_sidecar(&pod).then_some(ListenerKind::Outbound)
        };
        Ok(Self { pod, listener })
    }

    /// Address of the pod.
    pub(super) fn ip(&self) -> IpAddr {
        Pod::of(&self.pod).status().pod_ip().parse().unwrap_or(UNKNOWN)
    }
}

/// The address that a caller in `namespace` dials for a URL: the host itself if it is an address,
/// or what the mesh's DNS would answer. Of a host outside the mesh the address is not known.
pub(super) fn destination(snapshot: &Snapshot, namespace: &str, url: &Url) -> SocketAddr {
    let ip = url.host.parse().ok().or_else(|| service_ip(snapshot, namespace, &url.host));
    let ip = ip.or_else(|| outside_ip(snapshot, namespace, url));
    SocketAddr::new(ip.unwrap_or(UNKNOWN), url.port)
}

/// What the mesh's DNS answers for a name: the Service's address, or that of a ready pod.
fn service_ip(snapshot: &Snapshot, namespace: &str, host: &str) -> Option<IpAddr> {
    let (name, namespace) = match host.split_once('.') {
        None => (host, namespace),
        Some((name, rest)) => {
            let namespace =
                [".svc.cluster.local", ".svc"].iter().find_map(|s| rest.strip_suffix(s));
            (name, namespace.unwrap_or(rest))
        }
    };
    let hostname = format!("{name}.{namespace}.svc.cluster.local").into();
    let id = ServiceId { namespace: namespace.into(), hostname };
    let subscriber = Subscriber {
        namespace: namespace.into(),
        labels: Labels::default(),
        addresses: Vec::new(),
    };
    let resource = |key| snapshot.resource(&key, &subscriber);
    let Resource::Service(service) = resource(ResourceKey::Service(id))? else {
        return None;
    };
    if let Some(address) = service.addresses.first() {
        return Some(*address);
    }
    let chunks = service.endpoint_keys().filter_map(resource);
    let mut ready = chunks.filter_map(|resource| match resource {
        Resource::Endpoints(chunk) => chunk.endpoints.iter().find(|e| e.ready).cloned(),
        _ => None,
    });
    ready.find_map(|endpoint| match endpoint.address {
        EndpointAddress::Ip(ip) => Some(ip),
        EndpointAddress::Dns(_) | EndpointAddress::Gateway(..) => None,
    })
}

/// The address that a host outside has in the mesh, if it has one.
fn outside_ip(snapshot: &Snapshot, namespace: &str, url: &Url) -> Option<IpAddr> {
    let subscriber = Subscriber {
        namespace: namespace.into(),
        labels: Labels::default(),
        addresses: Vec::new(),
    };
    let key = ResolutionKey {
        listener: ListenerKind::Outbound,
        target: Target::Host(url.host.as_str().into(), url.port),
        namespace: namespace.into(),
    };
    let resource = |key| snapshot.resource(&key, &subscriber);
    let Resource::Resolution(resolution) = resource(ResourceKey::Resolution(key))? else {
        return None;
    };
    let Resolution::Present(applies) = &*resolution else { return None };
    match resource(ResourceKey::Service(applies.service.clone()?))? {
        Resource::Service(service) => service.addresses.first().copied(),
        _ => None,
    }
}

/// Stands for an address that only the caller's resolver knows.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
