//! Where a request begins, and the address that its caller dials.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ironmesh_model::ListenerKind;
use serde_json::Value;

use super::url::Url;
use crate::api::kinds::Resource;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{inject, owner_name};
use crate::store::{Collection, Store};

/// The caller.
#[derive(Debug)]
pub(super) struct Origin {
    /// Its pod, or the gateway's.
    pub(super) pod: Arc<Object>,
    /// Where the request enters the pod's proxy; `None` if it has none.
    pub(super) listener: Option<ListenerKind>,
}

impl Origin {
    /// Finds the pod that `from` names.
    pub(super) fn find(store: &Store, from: &str, namespace: &str) -> Result<Self, Failure> {
        let (pods, _) = store.list(&Collection::core("pods"), None);
        let mut living: Vec<_> = pods
            .into_iter()
            .filter(|pod| !object::is_terminating(pod) && !object::is_finished_pod(pod))
            .collect();
        // Of several a ready one is taken.
        living.sort_by_key(|pod| !object::is_ready_pod(pod));
        let found = if from == "gateway" {
            let selected = |pod: &&Arc<Object>| {
                inject::is_router(pod) && object::label(pod, "istio") == Some("ingressgateway")
            };
            living.iter().find(selected)
        } else {
            let (name, namespace) = from.rsplit_once('.').unwrap_or((from, namespace));
            let here = || living.iter().filter(|pod| object::namespace(pod) == namespace);
            here()
                .find(|pod| object::name(pod) == name)
                .or_else(|| here().find(|pod| owner_name(pod) == name))
                .or_else(|| here().find(|pod| object::label(pod, "app") == Some(name)))
        };
        let pod = found.cloned().ok_or_else(|| {
            if from == "gateway" {
                Failure::bad_request("no pod is an ingress gateway (label istio=ingressgateway)")
            } else {
                Failure::not_found(&Resource::of("v1", "Pod"), from)
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
        object::text(&self.pod, "/status/podIP").parse().unwrap_or(UNKNOWN)
    }
}

/// The address that a caller in `namespace` dials for a URL: the host itself if it is an address,
/// or what the mesh's DNS would answer. Of a host outside the mesh the address is not known.
pub(super) fn destination(store: &Store, namespace: &str, url: &Url) -> SocketAddr {
    let ip = url.host.parse().ok().or_else(|| {
        let (name, namespace) = match url.host.split_once('.') {
            None => (url.host.as_str(), namespace),
            Some((name, rest)) => {
                let namespace =
                    [".svc.cluster.local", ".svc"].iter().find_map(|s| rest.strip_suffix(s));
                (name, namespace.unwrap_or(rest))
            }
        };
        let service = store.object(&Collection::core("services").key(namespace, name))?;
        match object::text(&service, "/spec/clusterIP").parse() {
            Ok(ip) => Some(ip),
            Err(_) => ready_pods(store, &service).first().and_then(|pod| pod_ip(pod)),
        }
    });
    SocketAddr::new(ip.unwrap_or(UNKNOWN), url.port)
}

/// Where a connection of a pod without a proxy ends: at a ready pod of the Service that has the
/// address, or at the address itself.
pub(super) fn plain_endpoint(store: &Store, to: SocketAddr) -> Option<SocketAddr> {
    let (services, _) = store.list(&Collection::core("services"), None);
    let address = to.ip().to_string();
    let service =
        services.iter().find(|service| object::text(service, "/spec/clusterIP") == address);
    let Some(service) = service else { return Some(to) };
    let port = object::list(service, "/spec/ports")
        .iter()
        .find(|port| object::number(port, "/port") == Some(i64::from(to.port())))?;
    let pod = ready_pods(store, service).into_iter().next()?;
    Some(SocketAddr::new(pod_ip(&pod)?, target_port(&pod, port)?))
}

fn ready_pods(store: &Store, service: &Object) -> Vec<Arc<Object>> {
    let (mut pods, _) = store.list(&Collection::core("pods"), Some(object::namespace(service)));
    let selector = object::map(service, "/spec/selector");
    pods.retain(|pod| {
        object::is_ready_pod(pod)
            && selector.is_some_and(|selector| {
                selector.iter().all(|(key, value)| object::label(pod, key) == value.as_str())
            })
    });
    pods
}

fn pod_ip(pod: &Object) -> Option<IpAddr> {
    object::text(pod, "/status/podIP").parse().ok()
}

/// The port of a pod that a Service port means, by number or by name.
fn target_port(pod: &Object, port: &Value) -> Option<u16> {
    let named = |name: &str| {
        object::list(pod, "/spec/containers")
            .iter()
            .flat_map(|container| object::list(container, "/ports"))
            .find(|port| object::text(port, "/name") == name)
            .and_then(|port| object::number(port, "/containerPort"))
    };
    let number = match port.get("targetPort") {
        Some(Value::String(name)) => name.parse().ok().or_else(|| named(name)),
        Some(Value::Number(number)) => number.as_i64(),
        _ => object::number(port, "/port"),
    };
    number.and_then(|number| u16::try_from(number).ok())
}

const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
