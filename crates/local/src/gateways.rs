//! Which ports a gateway has: those that the `Gateway` objects name which select its pod, and the
//! ingress gateway those of Ingresses.

use ironmesh_dialects::istio::gateway::Gateway;
use ironmesh_dialects::kubernetes::ingress_ports;
use ironmesh_dialects::kubernetes::kinds::ObjectMeta;
use ironmesh_model::bootstrap::ProxyKind;
use serde_json::Value;

use super::reflector::Reflector;

/// What names ports of gateways.
#[derive(Default)]
pub(crate) struct GatewayPorts {
    pub(crate) gateways: Reflector<Gateway>,
    /// As they are, since what they say of themselves is written, too.
    pub(crate) ingresses: Reflector<Value>,
}

impl GatewayPorts {
    /// Whether the proxy of a pod may listen at the edge on a port: it must be a gateway, and a
    /// `Gateway` that selects the pod must name the port (Istio's `Gateway.selector`; an empty one
    /// selects all), or an Ingress if it is the ingress gateway.
    pub(crate) fn may_listen(&self, kind: ProxyKind, pod: &ObjectMeta, port: u16) -> bool {
        let mut named = false;
        self.gateways.for_each(|gateway| {
            let mut selector = gateway.spec.selector.iter();
            named |= gateway.spec.servers.iter().any(|server| server.port.number == port)
                && selector.all(|(key, value)| pod.labels.get(key) == Some(value));
        });
        if pod.labels.get("istio").is_some_and(|of| of == "ingressgateway") {
            self.ingresses.for_each(|ingress| named |= ingress_ports(ingress).contains(&port));
        }
        kind == ProxyKind::Gateway && named
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ironmesh_dialects::schema::parse;
    use serde_json::json;

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
        let ports = GatewayPorts::default();
        for (name, selector, port) in
            [("own", json!({"istio": "edge"}), 80), ("other", json!({"istio": "inner"}), 443)]
        {
            let port = json!({"number": port, "name": "http", "protocol": "HTTP"});
            let servers = json!([{"port": port, "hosts": ["*"]}]);
            let gateway = gateway(json!({"selector": selector, "servers": servers}));
            ports.gateways.insert(("n".to_owned(), name.to_owned()), gateway);
        }
        let labels = BTreeMap::from([("istio".to_owned(), "edge".to_owned())]);
        let pod = ObjectMeta { labels, ..ObjectMeta::default() };
        assert!(ports.may_listen(ProxyKind::Gateway, &pod, 80));
        assert!(!ports.may_listen(ProxyKind::Gateway, &pod, 443), "another gateway's");
        assert!(!ports.may_listen(ProxyKind::Gateway, &pod, 22), "nobody's");
        assert!(!ports.may_listen(ProxyKind::Sidecar, &pod, 80), "no gateway");
        let port = json!({"number": 22, "protocol": "TCP"});
        let any = gateway(json!({"servers": [{"port": port, "hosts": ["*"]}]}));
        ports.gateways.insert(("n".to_owned(), "any".to_owned()), any);
        assert!(ports.may_listen(ProxyKind::Gateway, &pod, 22));
    }
    #[test]
    fn the_ingress_gateway_listens_where_an_ingress_is_served() {
        let ports = GatewayPorts::default();
        let ingress = |class: &str, tls| json!({"spec": {"ingressClassName": class, "tls": tls}});
        let pod = |role: &str| ObjectMeta {
            labels: BTreeMap::from([("istio".to_owned(), role.to_owned())]),
            ..ObjectMeta::default()
        };
        let listens = |role: &str, port| ports.may_listen(ProxyKind::Gateway, &pod(role), port);
        let put = |name: &str, ingress| {
            ports.ingresses.insert(("n".to_owned(), name.to_owned()), ingress);
        };
        put("foreign", ingress("nginx", json!([{}])));
        assert!(!listens("ingressgateway", 80) && !listens("ingressgateway", 443));
        put("plain", ingress("istio", json!([])));
        assert!(listens("ingressgateway", 80) && !listens("ingressgateway", 443));
        assert!(!listens("egressgateway", 80), "another gateway");
        put("tls", ingress("istio", json!([{"secretName": "s"}])));
        assert!(listens("ingressgateway", 443));
    }
}
