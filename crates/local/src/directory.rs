//! The names of the mesh and the plain forwarding of Services: both follow from the Services and
//! from which pods are ready.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use ironmesh_capture::forwarding::{ForwardedPort, Forwarding, Transport};
use ironmesh_dialects::kubernetes::kinds::{
    EndpointPort, EndpointSubset, ListedAddress, Service, ServicePort, ServiceProtocol,
    SessionAffinity,
};

use super::addresses::{GATEWAY, SERVICE_NETWORK};
use super::dns::{Names, PortTarget, Target};
use super::kubelet::host_ports;
use super::kubelet::pod::PodState;
use super::node::Node;

impl Names for Node {
    fn service(&self, namespace: &str, name: &str) -> Option<Target> {
        let service = self.services.object(namespace, name)?;
        if !service.spec.external_name.is_empty() {
            return Some(Target::Alias(service.spec.external_name));
        }
        if !service.spec.is_headless() {
            return service.spec.cluster_ip.parse().ok().map(Target::ClusterIp);
        }
        if service.spec.selector.is_empty() {
            return Some(Target::Pods(given_addresses(self, namespace, name)));
        }
        let pods = self.endpoints(&service);
        let named =
            |(pod, ip): (Rc<PodState>, Ipv4Addr)| (pod.pod.borrow().hostname().to_owned(), ip);
        Some(Target::Pods(pods.into_iter().map(named).collect()))
    }

    fn port(&self, namespace: &str, name: &str, port: &str, protocol: &str) -> Option<PortTarget> {
        let service = self.services.object(namespace, name)?;
        let is_asked_for = |other: &&ServicePort| {
            other.name == port && other.protocol.word().eq_ignore_ascii_case(protocol)
        };
        let port = service.spec.ports.iter().find(is_asked_for)?;
        if !service.spec.is_headless() {
            return Some(PortTarget::Service(port.port));
        }
        let of_pod = |(pod, _): (Rc<PodState>, Ipv4Addr)| {
            let pod = pod.pod.borrow();
            Some((pod.hostname().to_owned(), port.target(&pod)?))
        };
        Some(PortTarget::Pods(self.endpoints(&service).into_iter().filter_map(of_pod).collect()))
    }

    fn entry(&self, client: IpAddr, name: &str) -> Option<Vec<Ipv4Addr>> {
        let pods = self.pods.borrow();
        let pod = pods.values().find(|pod| pod.ip().map(IpAddr::V4) == Some(client))?;
        if !pod.slots(false).iter().any(|slot| slot.is_proxy()) {
            return None;
        }
        let namespace = pod.pod.borrow().metadata.namespace.clone();
        let addresses = self.entries.borrow().addresses(name, &namespace)?;
        let v4 = addresses.into_iter().filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        Some(v4.collect())
    }

    fn reverse(&self, ip: Ipv4Addr) -> Option<String> {
        let text = ip.to_string();
        let services = self.services.filtered(|service| service.spec.cluster_ip == text);
        if let Some(Service { metadata, .. }) = services.first() {
            return Some(format!("{}.{}.svc", metadata.name, metadata.namespace));
        }
        let pods = self.pods.borrow();
        let pod = pods.values().find(|pod| pod.ip() == Some(ip))?;
        let namespace = pod.pod.borrow().metadata.namespace.clone();
        Some(format!("{}.{namespace}.pod", text.replace('.', "-")))
    }
}

/// Keeps the forwarding rules of the mesh's root network namespace as the Services are, for ever.
pub(crate) async fn forward(node: Rc<Node>) {
    let mut forwarding = Forwarding::new(SERVICE_NETWORK).with_node(GATEWAY);
    let mut applied: Option<Vec<ForwardedPort>> = None;
    loop {
        let ports = forwarded_ports(&node);
        if applied.as_ref() != Some(&ports) {
            match forwarding.apply(&ports) {
                Ok(()) => applied = Some(ports),
                Err(error) => {
                    tracing::error!(%error, "plain Services are not forwarded; tried again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            }
        }
        node.topology.notified().await;
        tokio::time::sleep(COALESCE).await;
    }
}

fn forwarded_ports(node: &Node) -> Vec<ForwardedPort> {
    let mut ports = Vec::new();
    node.services.for_each(|service| {
        let Ok(ip) = service.spec.cluster_ip.parse::<Ipv4Addr>() else { return };
        ports.extend(service_ports(node, service, ip));
    });
    ports.extend(host_ports::forwarded(node));
    ports
}

fn service_ports(node: &Node, service: &Service, ip: Ipv4Addr) -> Vec<ForwardedPort> {
    let pods = node.endpoints(service);
    let port = |port: &ServicePort| {
        let transport = match port.protocol {
            ServiceProtocol::Tcp => Transport::Tcp,
            ServiceProtocol::Udp => Transport::Udp,
            ServiceProtocol::Sctp => return None,
        };
        let of_pod = |(pod, ip): &(Rc<PodState>, Ipv4Addr)| {
            Some(SocketAddrV4::new(*ip, port.target(&pod.pod.borrow())?))
        };
        let endpoints = match service.spec.selector.is_empty() {
            true => given(node, service, port),
            false => pods.iter().filter_map(of_pod).collect(),
        };
        let address = SocketAddrV4::new(ip, port.port);
        let sticky = service.spec.session_affinity == SessionAffinity::ClientIp;
        Some(ForwardedPort { address, transport, endpoints, sticky })
    };
    service.spec.ports.iter().filter_map(port).collect()
}

/// Where a port of a Service without a selector leads: to what the Endpoints of its name say.
fn given(node: &Node, service: &Service, port: &ServicePort) -> Vec<SocketAddrV4> {
    let meta = &service.metadata;
    let object = node.given_endpoints.object(&meta.namespace, &meta.name).unwrap_or_default();
    let of_subset = |subset: EndpointSubset| {
        let is_it =
            |other: &&EndpointPort| other.name == port.name && other.protocol == port.protocol;
        let number = subset.ports.iter().find(is_it).map(|port| port.port);
        let address = move |address: ListedAddress| {
            Some(SocketAddrV4::new(address.ip.parse().ok()?, number?))
        };
        subset.addresses.into_iter().filter_map(address)
    };
    object.subsets.into_iter().flat_map(of_subset).collect()
}

/// The addresses of the Endpoints of a Service, each with its host name.
fn given_addresses(node: &Node, namespace: &str, name: &str) -> Vec<(String, Ipv4Addr)> {
    let object = node.given_endpoints.object(namespace, name).unwrap_or_default();
    let addresses = object.subsets.into_iter().flat_map(|subset| subset.addresses);
    addresses.filter_map(|address| Some((address.hostname, address.ip.parse().ok()?))).collect()
}

/// Changes that come together are applied together.
const COALESCE: Duration = Duration::from_millis(2);
/// Pause before rules that could not be applied are tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
