//! Which routes hold at a gateway.

use serde_json::Value;

use super::{
    Answer, Mesh, Request, age_of, covers, full_gateway, hosts_of, id_of, is_catch_all, list,
    narrower, tries_of, visible,
};

/// A domain, a route for it, and the gateway at which it holds.
pub(super) type Found<'a> = (String, &'a Value, String);

/// The port of a server: for Istio's own gateway 80 and 443 have another number each.
fn port_of(gateway: &Value, server: &Value) -> u64 {
    let is_istios = gateway["spec"]["selector"]["istio"] == "ingressgateway";
    match server["port"]["number"].as_u64().unwrap() {
        8080 if is_istios => 80,
        8443 if is_istios => 443,
        number => number,
    }
}

impl<'a> Mesh<'a> {
    pub(super) fn at_gateway(self, request: &Request, host: &str) -> Answer {
        // (domain, route, gateway) for every virtual host that covers the request's host.
        let mut found: Vec<Found<'_>> = Vec::new();
        for gateway in self.kind("Gateway") {
            let name = id_of(gateway);
            let servers = list(&gateway["spec"]["servers"]);
            for server in servers.iter().filter(|s| port_of(gateway, s) == request.port) {
                for route in self.kind("VirtualService") {
                    let attached = list(&route["spec"]["gateways"])
                        .iter()
                        .any(|g| full_gateway(g.as_str().unwrap(), route) == name);
                    if !attached || !visible(route, &request.namespace) {
                        continue;
                    }
                    for served in list(&server["hosts"]) {
                        let served = served.as_str().unwrap();
                        let (allowed, served) = served.split_once('/').unwrap_or(("*", served));
                        if allowed != "*" && allowed != route["metadata"]["namespace"] {
                            continue;
                        }
                        for pattern in hosts_of(route) {
                            if covers(served, host) && covers(&pattern, host) {
                                let domain = narrower(served, &pattern);
                                found.push((domain.to_owned(), route, name.clone()));
                            }
                        }
                    }
                }
            }
        }
        if found.is_empty() {
            found = self.bound_by_host(&request.namespace, request.port, host, &|_| true);
        }
        let best = found.iter().map(|(d, ..)| (!d.starts_with('*'), d.len())).max();
        found.retain(|(d, ..)| Some((!d.starts_with('*'), d.len())) == best);
        let gateways: Vec<String> = found.iter().map(|(_, _, gateway)| gateway.clone()).collect();
        let mut routes: Vec<&Value> = found.into_iter().map(|(_, route, _)| route).collect();
        routes.sort_by_key(|route| age_of(route));
        routes.dedup_by_key(|route| id_of(route));
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for route in routes {
            for tried in tries_of(route) {
                if is_catch_all(&tried, &gateways, request.port) {
                    last.push(tried);
                    break;
                }
                first.push(tried);
            }
        }
        first.extend(last);
        self.first(request, &gateways, &first, false)
    }

    /// The routes that name no gateway, but are for a host that is no service, that a server in their
    /// namespace names, and that no route which names a gateway of the port is for.
    pub(super) fn bound_by_host(
        self,
        namespace: &str,
        port: u64,
        host: &str,
        counts: &dyn Fn(&Value) -> bool,
    ) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        let servers = |gateway: &'a Value| {
            let servers = list(&gateway["spec"]["servers"]).iter();
            servers.filter(move |server| port_of(gateway, server) == port && counts(server))
        };
        let gateways = self.kind("Gateway").filter(|gateway| servers(gateway).next().is_some());
        let gateways: Vec<&Value> = gateways.collect();
        let is_attached = |route: &Value| {
            let named = list(&route["spec"]["gateways"]).iter();
            let mut named = named.map(|g| full_gateway(g.as_str().unwrap(), route));
            named.any(|name| gateways.iter().any(|gateway| id_of(gateway) == name))
        };
        let is_for_host = |route: &Value| hosts_of(route).iter().any(|p| covers(p, host));
        let taken = self.kind("VirtualService").any(|r| is_attached(r) && is_for_host(r));
        if taken || self.service(host).is_some() {
            return found;
        }
        for gateway in &gateways {
            let of = &gateway["metadata"]["namespace"];
            let names_it = |server: &Value| {
                list(&server["hosts"]).iter().any(|served| {
                    let served = served.as_str().unwrap();
                    let (allowed, served) = served.split_once('/').unwrap_or(("*", served));
                    served == host && (["*", "."].contains(&allowed) || allowed == *of)
                })
            };
            if !servers(gateway).any(names_it) {
                continue;
            }
            for route in self.kind("VirtualService") {
                if route["spec"].get("gateways").is_none()
                    && route["metadata"]["namespace"] == *of
                    && visible(route, namespace)
                    && hosts_of(route).iter().any(|pattern| pattern == host)
                {
                    found.push((host.to_owned(), route, id_of(gateway)));
                }
            }
        }
        found
    }
}
