//! Which ports a gateway has: those that the `Gateway` objects name which select its pod.

use ironmesh_dialects::istio::gateway::Gateway;
use ironmesh_dialects::kubernetes::kinds::ObjectMeta;
use ironmesh_model::bootstrap::ProxyKind;

use super::reflector::Reflector;

/// Whether the proxy of a pod may listen at the edge on a port: it must be a gateway, and a `Gateway`
/// that selects the pod must name the port (Istio's `Gateway.selector`; an empty one selects all).
pub(crate) fn may_listen(
    kind: ProxyKind,
    pod: &ObjectMeta,
    gateways: &Reflector<Gateway>,
    port: u16,
) -> bool {
    let mut named = false;
    gateways.for_each(|gateway| {
        let mut selector = gateway.spec.selector.iter();
        named |= gateway.spec.servers.iter().any(|server| server.port.number == port)
            && selector.all(|(key, value)| pod.labels.get(key) == Some(value));
    });
    kind == ProxyKind::Gateway && named
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ironmesh_dialects::schema::parse;
    use serde_json::{Value, json};

    use super::*;

    fn gateway(spec: Value) -> Gateway {
        parse(&json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "g", "namespace": "n"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn only_gateways_listen_and_only_on_their_own_ports() {
        let gateways = Reflector::default();
        for (name, selector, port) in
            [("own", json!({"istio": "edge"}), 80), ("other", json!({"istio": "inner"}), 443)]
        {
            let port = json!({"number": port, "name": "http", "protocol": "HTTP"});
            let servers = json!([{"port": port, "hosts": ["*"]}]);
            let gateway = gateway(json!({"selector": selector, "servers": servers}));
            gateways.insert(("n".to_owned(), name.to_owned()), gateway);
        }
        let labels = BTreeMap::from([("istio".to_owned(), "edge".to_owned())]);
        let pod = ObjectMeta { labels, ..ObjectMeta::default() };
        assert!(may_listen(ProxyKind::Gateway, &pod, &gateways, 80));
        assert!(!may_listen(ProxyKind::Gateway, &pod, &gateways, 443), "another gateway's");
        assert!(!may_listen(ProxyKind::Gateway, &pod, &gateways, 22), "nobody's");
        assert!(!may_listen(ProxyKind::Sidecar, &pod, &gateways, 80), "no gateway");
        let port = json!({"number": 22, "protocol": "TCP"});
        let any = gateway(json!({"servers": [{"port": port, "hosts": ["*"]}]}));
        gateways.insert(("n".to_owned(), "any".to_owned()), any);
        assert!(may_listen(ProxyKind::Gateway, &pod, &gateways, 22));
    }
}
