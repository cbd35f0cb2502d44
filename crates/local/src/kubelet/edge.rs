//! The ports of gateways: where their proxies listen, in the pod and on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use ironmesh_dialects::kubernetes::kinds::{Pod, Service, ServiceProtocol};
use ironmesh_model::bootstrap::{FromAgent, ProxyKind};

use super::pod::{PodState, blocking};
use crate::addresses::PROXY_PORTS;

/// The sockets of a gateway's port: in the pod, and on the host.
pub(super) async fn listen(
    state: &PodState,
    kind: ProxyKind,
    port: u16,
) -> (FromAgent, Vec<OwnedFd>) {
    let sockets = match becomes_own_port(state, kind, port).await {
        true => sockets(state, port).await,
        false => Err(format!("no Gateway that selects this pod names port {port}")),
    };
    match sockets {
        Ok(sockets) => (FromAgent::Listen { port, refused: None }, sockets),
        Err(refused) => (FromAgent::Listen { port, refused: Some(refused) }, Vec::new()),
    }
}

/// Whether a port is a gateway's own. The proxy may have heard of its `Gateway` or Ingress a moment before the
/// agent does.
async fn becomes_own_port(state: &PodState, kind: ProxyKind, port: u16) -> bool {
    let node = &state.node;
    let is_own = || node.gateway_ports.may_listen(kind, &state.pod.borrow().metadata, port);
    let comes = async {
        loop {
            let changed = node.edge.notified();
            if is_own() {
                return;
            }
            changed.await;
        }
    };
    let time = node.limits.platform.gateway_port_wait;
    kind == ProxyKind::Gateway && tokio::time::timeout(time, comes).await.is_ok()
}

async fn sockets(state: &PodState, port: u16) -> Result<Vec<OwnedFd>, String> {
    let made = state.edge_listeners.borrow().contains_key(&port);
    if !made {
        let sandbox = state.sandbox.get().cloned().ok_or("the pod has no network yet")?;
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        let listener =
            blocking(move || sandbox.listen(address)).await.map_err(|error| error.to_string())?;
        state.edge_listeners.borrow_mut().insert(port, listener);
        // Those on the host follow, and the proxy is told then.
        state.node.exposure.changed.notify_one();
    }
    let inside = {
        let listeners = state.edge_listeners.borrow();
        listeners.get(&port).map(TcpListener::try_clone)
    };
    let inside = inside.ok_or("the socket is gone")?.map_err(|error| error.to_string())?;
    let mut sockets = vec![inside.into()];
    sockets.extend(at_targets(state, port).await);
    sockets.extend(state.node.exposure.sockets(state, port));
    Ok(sockets)
}

/// Sockets at the targets to which Services lead a port.
async fn at_targets(state: &PodState, port: u16) -> Vec<OwnedFd> {
    let wanted = targets(state);
    state.edge_targets.borrow_mut().retain(|target, (of, _)| wanted.get(target) == Some(of));
    for (&target, _) in wanted.iter().filter(|(_, of)| **of == port) {
        let is_made = state.edge_targets.borrow().contains_key(&target);
        let Some(sandbox) = state.sandbox.get().cloned().filter(|_| !is_made) else { continue };
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, target);
        match blocking(move || sandbox.listen(address)).await {
            Ok(listener) => {
                state.edge_targets.borrow_mut().insert(target, (port, listener));
                state.node.exposure.changed.notify_one();
            }
            Err(error) => tracing::warn!(%error, port, target, "no Service leads to the port"),
        }
    }
    let made = state.edge_targets.borrow();
    let own = made.values().filter(|(of, _)| *of == port);
    // One that cannot be copied is missing, as if it were taken.
    own.filter_map(|(_, listener)| listener.try_clone().ok().map(Into::into)).collect()
}

/// The port of a gateway that is reached at a port of its pod.
pub(crate) fn led_from(state: &PodState, target: u16) -> u16 {
    state.edge_targets.borrow().get(&target).map_or(target, |(of, _)| *of)
}

/// Whether a gateway is to listen at other targets of Services than it does.
pub(crate) fn has_moved(state: &PodState) -> bool {
    let listening = state.edge_targets.borrow();
    targets(state) != listening.iter().map(|(target, (of, _))| (*target, *of)).collect()
}

/// At which other ports of its pod the ports of a gateway are reached, since Services lead them there: by
/// the target, the port that a `Gateway` names, as Istio has it (`resolvePorts`). What a `Gateway` names
/// itself is not led elsewhere, and of two ports that lead to one place the lower has it.
fn targets(state: &PodState) -> BTreeMap<u16, u16> {
    let (node, pod) = (&state.node, state.pod.borrow());
    let open: BTreeSet<u16> = state.edge_listeners.borrow().keys().copied().collect();
    if open.is_empty() {
        return BTreeMap::new();
    }
    let mut found = BTreeMap::new();
    node.services.for_each(|service| {
        if service.selects(&pod.metadata) && !service.metadata.labels.contains_key(NOT_LED) {
            lead(service, &pod, &open, &mut found);
        }
    });
    let is_named = |port| node.gateway_ports.may_listen(ProxyKind::Gateway, &pod.metadata, port);
    found.retain(|target, port| {
        is_named(*port) && !is_named(*target) && !PROXY_PORTS.own.contains(target)
    });
    found
}

/// Adds where one Service leads the ports of a gateway.
fn lead(service: &Service, pod: &Pod, open: &BTreeSet<u16>, found: &mut BTreeMap<u16, u16>) {
    for port in &service.spec.ports {
        let is_led = port.protocol != ServiceProtocol::Udp && open.contains(&port.port);
        let Some(target) = port.target(pod).filter(|_| is_led) else { continue };
        let of = found.entry(target).or_insert(port.port);
        *of = port.port.min(*of);
    }
}

/// Label of a Service that leads no port elsewhere (Istio, `DisableGatewayPortTranslationLabel`).
const NOT_LED: &str = "experimental.istio.io/disable-gateway-port-translation";

#[cfg(test)]
mod tests {
    use ironmesh_dialects::schema::parse;
    use serde_json::json;

    use super::*;

    #[test]
    fn services_lead_ports_of_gateways_to_their_targets() {
        let pod: Pod = parse(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "edge", "namespace": "n"},
            "spec": {"containers": [{
                "name": "istio-proxy", "ports": [{"name": "web", "containerPort": 8080}],
            }]},
        }))
        .unwrap();
        let open = BTreeSet::from([80, 81, 443]);
        let led = |ports: serde_json::Value| {
            let service: Service = parse(&json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
                "spec": {"ports": ports},
            }))
            .unwrap();
            let mut found = BTreeMap::new();
            lead(&service, &pod, &open, &mut found);
            found.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(led(json!([{"port": 80, "targetPort": "web"}])), [(8080, 80)]);
        assert_eq!(led(json!([{"port": 80, "targetPort": "other"}])), []);
        assert_eq!(led(json!([{"port": 82, "targetPort": 8080}])), [], "no Gateway has it");
        assert_eq!(led(json!([{"port": 443, "protocol": "UDP", "targetPort": 8443}])), []);
        let both = json!([{"port": 81, "targetPort": 8080}, {"port": 80, "targetPort": 8080}]);
        assert_eq!(led(both), [(8080, 80)]);
    }
}
