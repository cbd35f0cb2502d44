//! Which ports a gateway has: those that the `Gateway` objects name which select its pod, and those of
//! Ingresses if it is for them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use ironmesh_dialects::istio::gateway::{Gateway, edge_port};
use ironmesh_dialects::istio::settings_with;
use ironmesh_dialects::kubernetes::IngressClasses;
use ironmesh_dialects::kubernetes::kinds::ObjectMeta;
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::settings::{IngressControl, Settings};
use serde_json::Value;

use super::reflector::Reflector;

/// What names ports of gateways.
#[derive(Default)]
pub(crate) struct GatewayPorts {
    pub(crate) gateways: Reflector<Gateway>,
    /// As they are, since what they say of themselves is written, too.
    pub(crate) ingresses: Reflector<Value>,
    pub(crate) ingress_classes: Reflector<Value>,
    /// What MeshConfig says of Ingresses.
    pub(crate) ingress_control: RefCell<IngressControl>,
    /// Those that the mesh was started with.
    pub(crate) settings: Settings,
}

impl GatewayPorts {
    /// Those of a mesh that was started with these settings, of which nothing is known yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { ingress_control: settings.ingress.clone().into(), settings, ..Self::default() }
    }

    /// Takes what MeshConfig says now; returns whether that is something else for Ingresses.
    pub(crate) fn take_mesh_config(&self, text: Option<&str>) -> bool {
        let now = text.map_or_else(
            || self.settings.ingress.clone(),
            |text| settings_with(text, &self.settings).ingress,
        );
        self.ingress_control.replace(now.clone()) != now
    }

    /// Whether the proxy of a pod may listen at the edge on a port: it must be a gateway, and a
    /// `Gateway` that selects the pod must name the port (Istio's `Gateway.selector`; an empty one
    /// selects all), or an Ingress if it is the ingress gateway.
    pub(crate) fn may_listen(&self, kind: ProxyKind, pod: &ObjectMeta, port: u16) -> bool {
        let mut named = !self.numbers(pod, port).is_empty();
        let label = self.ingress_control.borrow().gateway_label().clone();
        if !named && pod.labels.get("istio").is_some_and(|of| **of == *label) {
            self.for_each_ingress(|_, ports| named |= ports.contains(&port));
        }
        kind == ProxyKind::Gateway && named
    }

    /// The numbers by which the `Gateway`s that select a pod name a port of it.
    pub(crate) fn numbers(&self, pod: &ObjectMeta, port: u16) -> BTreeSet<u16> {
        let mut numbers = BTreeSet::new();
        self.gateways.for_each(|gateway| {
            let selector = &gateway.spec.selector;
            if selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)) {
                let named = gateway.spec.servers.iter().map(|server| server.port.number);
                numbers.extend(named.filter(|number| edge_port(selector, *number) == port));
            }
        });
        numbers
    }

    /// Calls a function with each Ingress that the mesh serves, and its ports.
    pub(crate) fn for_each_ingress(&self, mut f: impl FnMut(&Value, &[u16])) {
        let mut classes = Vec::new();
        self.ingress_classes.for_each(|class| classes.push(class.clone()));
        let (classes, control) = (IngressClasses::of(&classes), self.ingress_control.borrow());
        self.ingresses.for_each(|ingress| match classes.ports(ingress, &control) {
            [] => {}
            ports => f(ingress, ports),
        });
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
    fn two_numbers_name_one_port_of_istios_gateway() {
        let ports = GatewayPorts::default();
        for (selector, number) in
            [("ingressgateway", 8080), ("ingressgateway", 80), ("edge", 8080), ("edge", 8443)]
        {
            let port = json!({"number": number, "name": "http", "protocol": "HTTP"});
            let servers = json!([{"port": port, "hosts": ["*"]}]);
            let gateway = gateway(json!({"selector": {"istio": selector}, "servers": servers}));
            ports.gateways.insert(("n".to_owned(), format!("{selector}-{number}")), gateway);
        }
        let numbers = |role: &str, port| {
            let labels = BTreeMap::from([("istio".to_owned(), role.to_owned())]);
            let pod = ObjectMeta { labels, ..ObjectMeta::default() };
            let numbers = ports.numbers(&pod, port);
            assert_eq!(ports.may_listen(ProxyKind::Gateway, &pod, port), !numbers.is_empty());
            numbers.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(numbers("ingressgateway", 80), [80, 8080]);
        assert_eq!(numbers("ingressgateway", 8080), [0; 0], "it is 80");
        assert_eq!(numbers("edge", 8080), [8080]);
        assert_eq!(numbers("edge", 80), [0; 0]);
        assert_eq!(numbers("edge", 443), [0; 0]);
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
        ports.ingress_control.borrow_mut().selector = "egressgateway".into();
        assert!(!listens("ingressgateway", 80) && listens("egressgateway", 80));
        ports.ingress_control.borrow_mut().class = "edge".into();
        assert!(!listens("egressgateway", 80), "of another class");
        let of = json!({"metadata": {"name": "istio"}, "spec": {"controller": "istio.io/ingress-controller"}});
        ports.ingress_classes.insert((String::new(), "istio".to_owned()), of);
        assert!(listens("egressgateway", 80), "its IngressClass says whose it is");
    }
}
