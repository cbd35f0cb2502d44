//! Ports of the node that lead to pods: each is one pod's at a time. A pod that asks for one that is not
//! free waits for it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

use ironmesh_capture::forwarding::{ForwardedPort, Transport};
use ironmesh_dialects::kubernetes::kinds::{Container, PortProtocol};
use ironmesh_model::bootstrap::CONTROL_PORT;
use tokio::sync::Notify;

use super::pod::PodState;
use crate::addresses::GATEWAY;
use crate::events::EventKind;
use crate::node::Node;
use crate::path_name::PathName;

/// The ports of the node, and which pods have them.
#[derive(Default)]
pub(crate) struct HostPorts {
    held: RefCell<BTreeMap<(Transport, u16), PathName>>,
    /// Rung when some are free again.
    freed: Notify,
}

/// A port of the node, and that of the pod to which it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HostPort {
    transport: Transport,
    of_node: u16,
    of_pod: u16,
}

impl HostPorts {
    /// Takes ports for a pod: all of them, or none if another pod, or the mesh, has one.
    fn take(&self, ports: &[HostPort], pod: &PathName) -> bool {
        let mut held = self.held.borrow_mut();
        let is_free = |port: &HostPort| {
            let holder = held.get(&(port.transport, port.of_node));
            !OWN_PORTS.contains(&port.of_node) && holder.is_none_or(|holder| holder == pod)
        };
        if !ports.iter().all(is_free) {
            return false;
        }
        held.extend(ports.iter().map(|port| ((port.transport, port.of_node), pod.clone())));
        true
    }

    /// Gives back what a pod has.
    pub(super) fn give_back(&self, pod: &PathName) {
        let mut held = self.held.borrow_mut();
        let before = held.len();
        held.retain(|_, holder| holder != pod);
        if held.len() < before {
            self.freed.notify_waiters();
        }
    }
}

/// Waits until the pod has the ports of the node that it asks for. Until then it is Pending, with a
/// reason.
pub(super) async fn wait(state: &PodState) {
    let ports = asked(state.pod.borrow().spec.containers.iter());
    if ports.is_empty() {
        return;
    }
    loop {
        let freed = state.node.host_ports.freed.notified();
        if state.node.host_ports.take(&ports, &state.uid) {
            break;
        }
        if state.record.borrow().unscheduled.is_none() {
            state.record.borrow_mut().unscheduled = Some(NO_PORTS.to_owned());
            state.note_change();
            state.event(None, EventKind::Warning, "FailedScheduling", NO_PORTS);
        }
        freed.await;
    }
    if state.record.borrow_mut().unscheduled.take().is_some() {
        state.note_change();
    }
}

fn asked<'a>(containers: impl Iterator<Item = &'a Container>) -> Vec<HostPort> {
    let port = |port: &ironmesh_dialects::kubernetes::kinds::ContainerPort| {
        let transport = match port.protocol {
            PortProtocol::Tcp => Transport::Tcp,
            PortProtocol::Udp => Transport::Udp,
            PortProtocol::Sctp => return None,
        };
        let is_asked = port.host_port != 0 && port.container_port != 0;
        is_asked.then_some(HostPort {
            transport,
            of_node: port.host_port,
            of_pod: port.container_port,
        })
    };
    containers.flat_map(|container| &container.ports).filter_map(port).collect()
}

/// Where the ports of the node lead now.
pub(crate) fn forwarded(node: &Node) -> Vec<ForwardedPort> {
    let pods = node.pods.borrow();
    let of_pod = |pod: &Rc<PodState>| {
        let ip: Option<Ipv4Addr> = pod.ip().filter(|_| !pod.is_ending());
        let ports = asked(pod.pod.borrow().spec.containers.iter());
        let held = node.host_ports.held.borrow();
        let has = |port: &HostPort| held.get(&(port.transport, port.of_node)) == Some(&pod.uid);
        let ports = ports.into_iter().filter(has).filter_map(|port| {
            Some(ForwardedPort {
                address: SocketAddrV4::new(GATEWAY, port.of_node),
                transport: port.transport,
                endpoints: vec![SocketAddrV4::new(ip?, port.of_pod)],
                sticky: false,
            })
        });
        ports.collect::<Vec<_>>()
    };
    pods.values().flat_map(of_pod).collect()
}

/// Ports at the node's address that are the mesh's: names, push and certificates.
const OWN_PORTS: [u16; 2] = [53, CONTROL_PORT];
/// What a pod waits for, as Kubernetes' scheduler says it.
const NO_PORTS: &str =
    "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_the_node_is_one_pods_at_a_time_and_never_the_meshs() {
        let ports = HostPorts::default();
        let pod = |uid: &str| PathName::label(uid).unwrap();
        let tcp = |of_node| HostPort { transport: Transport::Tcp, of_node, of_pod: 80 };
        let udp = HostPort { transport: Transport::Udp, ..tcp(4140) };
        assert!(ports.take(&[tcp(4140), tcp(9990)], &pod("a")));
        assert!(ports.take(&[tcp(4140)], &pod("a")));
        assert!(ports.take(&[udp], &pod("b")));
        // All or none.
        assert!(!ports.take(&[tcp(4141), tcp(4140)], &pod("b")));
        assert!(ports.take(&[tcp(4141)], &pod("c")));
        ports.give_back(&pod("a"));
        assert!(ports.take(&[tcp(4140)], &pod("b")));
        for own in [53, CONTROL_PORT] {
            assert!(!ports.take(&[tcp(own)], &pod("d")), "{own}");
        }
    }
}
