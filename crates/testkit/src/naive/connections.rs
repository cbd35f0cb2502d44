//! What becomes of connections whose requests nobody looks at.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::gateway::Found;
use super::{
    Age, Backend, Mesh, age_of, covers, full_gateway, full_host, hosts_of, id_of, is_attached,
    list, narrower, visible,
};

/// Where a connection is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Met {
    /// It leaves a workload.
    Leaving,
    /// It enters one.
    Entering,
    /// It comes to a gateway.
    AtGateway,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Where the proxy meets it.
    pub met: Met,
    /// Namespace of the proxy's workload.
    pub namespace: String,
    /// Labels of the proxy's workload.
    pub labels: Vec<(String, String)>,
    /// Where it was going; at a gateway only the port counts.
    pub destination: SocketAddr,
    /// The name that its TLS asks for, if it begins with TLS that does.
    pub server_name: Option<String>,
}

/// The expected outcome of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This rule wins.
    Rule {
        /// `NAMESPACE/NAME#PLACE`.
        rule: String,
        /// Its backends.
        backends: Vec<Backend>,
    },
    /// The service of this host, without a rule.
    Service(String),
    /// The address that was dialled.
    Passthrough,
    /// Nobody takes it, for the reason with this code.
    Refused(&'static str),
    /// The workload itself.
    Workload {
        /// Where the application is dialled.
        to: SocketAddr,
        /// What is spoken there, as names of ports begin; empty: nothing is declared.
        protocol: String,
    },
}

/// Who has an address: its namespace, host and object.
struct Holder<'a> {
    namespace: &'a str,
    host: String,
    object: &'a Value,
}

impl<'a> Mesh<'a> {
    /// The expected outcome of a connection. `blocks`: outbound traffic to nobody is refused where no
    /// Sidecar says otherwise.
    pub fn connected(self, connection: &Connection, blocks: bool) -> Outcome {
        match connection.met {
            Met::Leaving => self.leaving(connection, blocks),
            Met::Entering => self.entering(connection),
            Met::AtGateway => self.connected_at_gateway(connection),
        }
    }

    /// The Sidecar of a workload: one that selects it, one of its namespace, one of the mesh.
    fn sidecar(self, connection: &Connection) -> Option<&'a Value> {
        let mut all: Vec<&Value> = self.kind("Sidecar").collect();
        all.sort_by_key(|sidecar| age_of(sidecar));
        let labels = |sidecar: &Value| sidecar["spec"]["workloadSelector"]["labels"].clone();
        let of = |namespace: &str, selecting: bool| {
            all.iter().copied().find(|sidecar| {
                let labels = labels(sidecar);
                sidecar["metadata"]["namespace"] == namespace
                    && labels.is_object() == selecting
                    && (!selecting || has_labels(&labels, &connection.labels))
            })
        };
        let own = &connection.namespace;
        of(own, true).or_else(|| of(own, false)).or_else(|| of("istio-system", false))
    }

    fn leaving(self, connection: &Connection, blocks: bool) -> Outcome {
        let Connection { namespace, destination, .. } = connection;
        let port = u64::from(destination.port());
        let sidecar = self.sidecar(connection);
        let shown = |of: &str, host: &str| sidecar.is_none_or(|own| shows(own, of, host, port));
        let holder = self.holder(destination.ip(), port, namespace);
        if let Some(holder) = holder
            && shown(holder.namespace, &holder.host)
            && let Some(protocol) = protocol_of(holder.object, port)
        {
            let lists: &[&str] = if is_tls(&protocol) { &["tls"] } else { &["tcp"] };
            let route = self.route_of(&holder.host, namespace, &shown);
            let matched =
                route.and_then(|route| self.matched(&[route], lists, connection, &["mesh"]));
            return matched.unwrap_or(Outcome::Service(holder.host));
        }
        // Services that are reached wherever somebody dials, by the name that TLS asks for.
        let mut named: Vec<(String, &Value)> = Vec::new();
        for entry in self.kind("ServiceEntry") {
            let is_anywhere = list(&entry["spec"]["addresses"]).is_empty();
            let of = entry["metadata"]["namespace"].as_str().unwrap();
            let is_tls = protocol_of(entry, port).is_some_and(|protocol| is_tls(&protocol));
            for host in entry_hosts(entry) {
                if is_anywhere && is_tls && visible(entry, namespace) && shown(of, &host) {
                    named.push((host, entry));
                }
            }
        }
        named.sort_by_key(|(host, entry)| (std::cmp::Reverse(host.len()), age_of(entry)));
        let routes = named.iter().filter_map(|(host, _)| self.route_of(host, namespace, &shown));
        if let Some(outcome) =
            self.matched(&routes.collect::<Vec<_>>(), &["tls"], connection, &["mesh"])
        {
            return outcome;
        }
        let name = connection.server_name.as_deref().unwrap_or_default().to_lowercase();
        if let Some((host, _)) = named.iter().find(|(host, _)| covers(host, &name)) {
            return Outcome::Service(host.clone());
        }
        let blocks = match sidecar.and_then(|s| s["spec"]["outboundTrafficPolicy"]["mode"].as_str())
        {
            Some(mode) => mode == "REGISTRY_ONLY",
            None => blocks,
        };
        if blocks { Outcome::Refused("blocked") } else { Outcome::Passthrough }
    }

    /// Who has an address: whose own it is, else whose network it is in, the narrowest first; of equals
    /// the namespace's own, then the oldest.
    fn holder(self, ip: IpAddr, port: u64, namespace: &str) -> Option<Holder<'a>> {
        let mut found: Vec<((u8, bool, bool, Age), Holder<'a>)> = Vec::new();
        for object in self.objects {
            let of = object["metadata"]["namespace"].as_str().unwrap();
            let (host, addresses): (String, Vec<&str>) = match object["kind"].as_str() {
                Some("Service") => {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    let address = object["spec"]["clusterIP"].as_str();
                    (format!("{name}.{of}.svc.cluster.local"), address.into_iter().collect())
                }
                Some("ServiceEntry") if visible(object, namespace) => {
                    let addresses = list(&object["spec"]["addresses"]).iter();
                    let addresses = addresses.map(|address| address.as_str().unwrap());
                    (entry_hosts(object).remove(0), addresses.collect())
                }
                _ => continue,
            };
            for text in addresses {
                let is_own = !text.contains('/');
                let has_port = protocol_of(object, port).is_some();
                // On a port that nobody has, an own address is its holder's all the same.
                if is_in(ip, text) && (is_own || has_port) {
                    let width = if is_own { 0 } else { 33 - bits_of(text) };
                    let rank = (width, !has_port, of != namespace, age_of(object));
                    found.push((rank, Holder { namespace: of, host: host.clone(), object }));
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.into_iter().next().map(|(_, holder)| holder)
    }

    /// The VirtualService that holds for a host that is a service's, as far as it is shown.
    fn route_of(
        self,
        host: &str,
        namespace: &str,
        shown: &dyn Fn(&str, &str) -> bool,
    ) -> Option<&'a Value> {
        let mut best: Option<((bool, usize), Age, &Value)> = None;
        for route in self.kind("VirtualService") {
            let gateways = route["spec"]["gateways"].as_array();
            let in_mesh = gateways.is_none_or(|all| all.iter().any(|g| g == "mesh"));
            let of = route["metadata"]["namespace"].as_str().unwrap();
            if !in_mesh || !visible(route, namespace) || !shown(of, host) {
                continue;
            }
            for pattern in hosts_of(route) {
                if !covers(&pattern, host) && pattern != host {
                    continue;
                }
                let specific = (!pattern.starts_with('*') || pattern == host, pattern.len());
                let better = best.as_ref().is_none_or(|(other, age, _)| {
                    specific > *other || (specific == *other && age_of(route) < *age)
                });
                if better {
                    best = Some((specific, age_of(route), route));
                }
            }
        }
        best.map(|(.., route)| route)
    }

    /// The first rule in these lists of these routes that takes a connection.
    fn matched(
        self,
        routes: &[&Value],
        lists: &[&str],
        connection: &Connection,
        attached: &[&str],
    ) -> Option<Outcome> {
        let attached: Vec<String> = attached.iter().map(|name| (*name).to_owned()).collect();
        for route in routes {
            for name in lists {
                for (at, rule) in list(&route["spec"][*name]).iter().enumerate() {
                    let any = list(&rule["match"]);
                    let is_taken = |given: &Value| takes(given, connection, &attached, route);
                    if any.is_empty() || any.iter().any(is_taken) {
                        let rule_name = format!("{}#{name}[{at}]", id_of(route));
                        return Some(self.by_rule(rule_name, rule, route, connection));
                    }
                }
            }
        }
        None
    }

    fn by_rule(
        self,
        name: String,
        rule: &Value,
        route: &Value,
        connection: &Connection,
    ) -> Outcome {
        let given = list(&rule["route"]);
        let equal = given.iter().all(|backend| backend.get("weight").is_none());
        let port = u64::from(connection.destination.port());
        let backends = given.iter().map(|given| {
            let backend = self.backend(given, route, &connection.namespace, port);
            if equal { Backend { weight: 1, ..backend } } else { backend }
        });
        Outcome::Rule { rule: name, backends: backends.collect() }
    }

    /// Where a connection goes that enters a workload: a Sidecar with `ingress` says so alone.
    fn entering(self, connection: &Connection) -> Outcome {
        let dialled = connection.destination;
        let port = u64::from(dialled.port());
        let sidecar = self.sidecar(connection);
        let named = sidecar.map_or(&[][..], |sidecar| list(&sidecar["spec"]["ingress"]));
        if !named.is_empty() {
            let own = named.iter().find(|given| given["port"]["number"] == port);
            let Some(own) = own else {
                return Outcome::Workload { to: dialled, protocol: String::new() };
            };
            let endpoint = own["defaultEndpoint"].as_str().unwrap_or_default();
            let to = match endpoint.rsplit_once(':') {
                None => dialled,
                Some(("127.0.0.1", to)) => SocketAddr::from(([127, 0, 0, 1], to.parse().unwrap())),
                // The workload's own address.
                Some((_, to)) => SocketAddr::new(dialled.ip(), to.parse().unwrap()),
            };
            let protocol = own["port"]["protocol"].as_str().unwrap().to_lowercase();
            return Outcome::Workload { to, protocol };
        }
        let mut protocols: Vec<String> = Vec::new();
        for service in self.kind("Service") {
            let selects = has_labels(&service["spec"]["selector"], &connection.labels);
            if service["metadata"]["namespace"] != connection.namespace || !selects {
                continue;
            }
            for given in list(&service["spec"]["ports"]) {
                let target = given.get("targetPort").unwrap_or(&given["port"]);
                if *target == port {
                    protocols.push(declared(given));
                }
            }
        }
        protocols.dedup();
        let protocol = match &protocols[..] {
            [only] => only.clone(),
            [] => String::new(),
            // Both are bytes that nobody looks at.
            _ => "tcp".to_owned(),
        };
        Outcome::Workload { to: dialled, protocol }
    }

    fn connected_at_gateway(self, connection: &Connection) -> Outcome {
        let port = u64::from(connection.destination.port());
        let mut gateways: Vec<&Value> = self.kind("Gateway").collect();
        gateways.sort_by_key(|gateway| age_of(gateway));
        let servers = gateways.iter().flat_map(|gateway| {
            let servers = list(&gateway["spec"]["servers"]).iter();
            servers.map(move |server| (id_of(gateway), server, *gateway))
        });
        let servers: Vec<_> =
            servers.filter(|(_, server, _)| server["port"]["number"] == port).collect();
        let Some((_, first, _)) = servers.first() else { return Outcome::Refused("no_route") };
        // What the oldest says of a port holds; who says otherwise is not there.
        let protocol = &first["port"]["protocol"];
        let servers: Vec<_> = servers
            .iter()
            .filter(|(_, server, _)| server["port"]["protocol"] == *protocol)
            .collect();
        let by_name = *protocol == "TLS";
        let name = connection.server_name.as_deref().unwrap_or_default().to_lowercase();
        let mut found: Vec<Found<'_>> = Vec::new();
        let mut is_served = !by_name;
        // What names nobody belongs to one server.
        let servers = if by_name { &servers[..] } else { &servers[..1] };
        for (gateway, server, object) in servers {
            for served in list(&server["hosts"]) {
                let served = served.as_str().unwrap();
                let (allowed, served) = served.split_once('/').unwrap_or(("*", served));
                let own = object["metadata"]["namespace"].as_str().unwrap();
                let allowed = if allowed == "." { own } else { allowed };
                is_served |= served == "*" || covers(served, &name);
                for route in self.kind("VirtualService") {
                    let named = list(&route["spec"]["gateways"]);
                    let names =
                        named.iter().map(|name| full_gateway(name.as_str().unwrap(), route));
                    let is_attached = names.into_iter().any(|name| name == *gateway);
                    let of = &route["metadata"]["namespace"];
                    if !is_attached
                        || (allowed != "*" && allowed != *of)
                        || !visible(route, &connection.namespace)
                    {
                        continue;
                    }
                    for pattern in hosts_of(route) {
                        if by_name && covers(served, &name) && covers(&pattern, &name) {
                            let domain = narrower(served, &pattern).to_owned();
                            found.push((domain, route, gateway.clone()));
                        } else if !by_name && meet(served, &pattern) {
                            // There is no name to go by.
                            found.push((String::new(), route, gateway.clone()));
                        }
                    }
                }
            }
        }
        if !is_served {
            return Outcome::Refused("no_server");
        }
        if found.is_empty() {
            let hosts = if by_name { vec![name.as_str()] } else { exact_hosts(servers[0].1) };
            let counts =
                |server: &Value| servers.iter().any(|(_, own, _)| std::ptr::eq(*own, server));
            let bound = hosts
                .into_iter()
                .flat_map(|host| self.bound_by_host(&connection.namespace, port, host, &counts));
            found = bound.map(|(_, route, gateway)| (name.clone(), route, gateway)).collect();
        }
        keep_narrowest(&mut found);
        let attached: Vec<&str> = found.iter().map(|(.., gateway)| gateway.as_str()).collect();
        let mut routes: Vec<&Value> = found.iter().map(|(_, route, _)| *route).collect();
        routes.sort_by_key(|route| age_of(route));
        routes.dedup_by_key(|route| id_of(route));
        let lists: &[&str] = if by_name { &["tls"] } else { &["tcp"] };
        let matched = self.matched(&routes, lists, connection, &attached);
        matched.unwrap_or(Outcome::Refused("no_route"))
    }
}

/// Keeps what was found under the most specific domain.
fn keep_narrowest(found: &mut Vec<Found<'_>>) {
    let rank = |domain: &str| (!domain.starts_with('*'), domain.len());
    let best = found.iter().map(|(domain, ..)| rank(domain)).max();
    found.retain(|(domain, ..)| Some(rank(domain)) == best);
}

/// The names that a server of a gateway serves, without those that are patterns.
fn exact_hosts(server: &Value) -> Vec<&str> {
    let hosts = list(&server["hosts"]).iter().map(|served| served.as_str().unwrap());
    let hosts = hosts.map(|served| served.split_once('/').map_or(served, |(_, host)| host));
    hosts.filter(|host| !host.starts_with('*')).collect()
}

/// Whether a condition of `tls` or `tcp` takes a connection.
fn takes(given: &Value, connection: &Connection, attached: &[String], route: &Value) -> bool {
    let Connection { met, destination, server_name, .. } = connection;
    given.as_object().unwrap().iter().all(|(field, value)| match field.as_str() {
        "gateways" => is_attached(value, attached, route),
        "port" => *value == u64::from(destination.port()),
        "sourceLabels" => has_labels(value, &connection.labels),
        "sourceNamespace" => *value == *connection.namespace,
        // A gateway is dialled by its own address.
        "destinationSubnets" => {
            *met == Met::AtGateway
                || list(value).iter().any(|text| is_in(destination.ip(), text.as_str().unwrap()))
        }
        "sniHosts" => {
            let name = server_name.as_deref().unwrap_or_default().to_lowercase();
            list(value)
                .iter()
                .any(|pattern| covers(&pattern.as_str().unwrap().to_lowercase(), &name))
        }
        other => panic!("{other} is not known here"),
    })
}

fn has_labels(wanted: &Value, labels: &[(String, String)]) -> bool {
    let wanted = wanted.as_object().unwrap();
    wanted.iter().all(|(name, value)| labels.iter().any(|(n, v)| n == name && value == v))
}

/// Whether a Sidecar shows what is in a namespace under a host: by its list for the port, else by those
/// without one.
fn shows(sidecar: &Value, namespace: &str, host: &str, port: u64) -> bool {
    let lists = list(&sidecar["spec"]["egress"]);
    if lists.is_empty() {
        return true;
    }
    let own = |given: &&Value| given["port"]["number"] == port;
    let of_port: Vec<&Value> = lists.iter().filter(own).collect();
    let of_rest = lists.iter().filter(|given| given.get("port").is_none()).collect();
    let lists = if of_port.is_empty() { of_rest } else { of_port };
    lists.iter().flat_map(|given| list(&given["hosts"])).any(|text| {
        let (of, pattern) = text.as_str().unwrap().split_once('/').unwrap();
        let of_own = of == "." && sidecar["metadata"]["namespace"] == namespace;
        (of == "*" || of == namespace || of_own) && (covers(pattern, host) || pattern == host)
    })
}

fn entry_hosts(entry: &Value) -> Vec<String> {
    list(&entry["spec"]["hosts"])
        .iter()
        .map(|host| full_host(host.as_str().unwrap(), entry))
        .collect()
}

/// What a port of a service or an entry declares, if it has the port.
fn protocol_of(object: &Value, port: u64) -> Option<String> {
    list(&object["spec"]["ports"]).iter().find_map(|given| {
        let number = given.get("port").unwrap_or(&given["number"]);
        (*number == port).then(|| declared(given))
    })
}

/// By the protocol of an entry's port, or by the first word of the name of a service's.
fn declared(port: &Value) -> String {
    let given = port["protocol"].as_str().filter(|_| port.get("number").is_some());
    let name = port["name"].as_str().unwrap();
    let word = given.unwrap_or_else(|| name.split_once('-').map_or(name, |(word, _)| word));
    word.to_lowercase()
}

fn is_tls(protocol: &str) -> bool {
    matches!(protocol, "tls" | "https")
}

/// Whether two patterns have names in common.
fn meet(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a) || a == b || ends_meet(a, b) || ends_meet(b, a)
}

fn ends_meet(wide: &str, narrow: &str) -> bool {
    match (wide.strip_prefix('*'), narrow.strip_prefix('*')) {
        (Some(wide), Some(narrow)) => narrow.ends_with(wide),
        _ => false,
    }
}

fn bits_of(network: &str) -> u8 {
    network.split_once('/').map_or(32, |(_, bits)| bits.parse().unwrap())
}

/// Whether an address is in a network, both of the old kind.
fn is_in(ip: IpAddr, network: &str) -> bool {
    let IpAddr::V4(ip) = ip else { return false };
    let (address, _) = network.split_once('/').unwrap_or((network, ""));
    let Ok(address) = address.parse::<std::net::Ipv4Addr>() else { return false };
    let shift = 32 - u32::from(bits_of(network));
    let cut = |ip: std::net::Ipv4Addr| u64::from(u32::from(ip)) >> shift;
    cut(ip) == cut(address)
}
