//! Which ports a gateway has: those that the `Gateway` objects name which select its pod.

use std::collections::BTreeMap;

use ironmesh_model::bootstrap::ProxyKind;
use serde::Deserialize;

use super::object::Metadata;
use super::reflector::Reflector;

/// What the agent reads of a `Gateway`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Gateway {
    pub(crate) spec: GatewaySpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct GatewaySpec {
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) servers: Vec<Server>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Server {
    pub(crate) port: ServerPort,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ServerPort {
    pub(crate) number: u16,
}

/// Whether the proxy of a pod may listen at the edge on a port: it must be a gateway, and a `Gateway`
/// that selects the pod must name the port (Istio's `Gateway.selector`; an empty one selects all).
pub(crate) fn may_listen(
    kind: ProxyKind,
    pod: &Metadata,
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
    use serde_json::json;

    use super::*;

    #[test]
    fn only_gateways_listen_and_only_on_their_own_ports() {
        let gateways = Reflector::default();
        for (name, selector, port) in
            [("own", json!({"istio": "edge"}), 80), ("other", json!({"istio": "inner"}), 443)]
        {
            let servers = json!([{"port": {"number": port, "name": "http", "protocol": "HTTP"}}]);
            let object = json!({"spec": {"selector": selector, "servers": servers}});
            let gateway = serde_json::from_value(object).unwrap();
            gateways.insert(("n".to_owned(), name.to_owned()), gateway);
        }
        let labels = BTreeMap::from([("istio".to_owned(), "edge".to_owned())]);
        let pod = Metadata { labels, ..Metadata::default() };
        assert!(may_listen(ProxyKind::Gateway, &pod, &gateways, 80));
        assert!(!may_listen(ProxyKind::Gateway, &pod, &gateways, 443), "another gateway's");
        assert!(!may_listen(ProxyKind::Gateway, &pod, &gateways, 22), "nobody's");
        assert!(!may_listen(ProxyKind::Sidecar, &pod, &gateways, 80), "no gateway");
        let any: Gateway =
            serde_json::from_value(json!({"spec": {"servers": [{"port": {"number": 22}}]}}))
                .unwrap();
        gateways.insert(("n".to_owned(), "any".to_owned()), any);
        assert!(may_listen(ProxyKind::Gateway, &pod, &gateways, 22));
    }
}
