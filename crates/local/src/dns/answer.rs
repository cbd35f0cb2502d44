//! The answer to a query: pure, from bytes and the names of the mesh to bytes.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, PTR, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::addresses::{EXTERNAL_NETWORK, POD_NETWORK, SERVICE_NETWORK, is_in};

/// What the mesh knows by name.
pub(crate) trait Names {
    /// What a Service's name stands for.
    fn service(&self, namespace: &str, name: &str) -> Option<Target>;
    /// Where a named port of a Service is, of this protocol (`tcp`, `udp`).
    fn port(&self, namespace: &str, name: &str, port: &str, protocol: &str) -> Option<PortTarget>;
    /// The addresses at which a workload that has a proxy reaches a name which the mesh knows beside
    /// those of Services; none: it knows none, or who asks has no proxy.
    fn entry(&self, client: IpAddr, name: &str) -> Option<Vec<Ipv4Addr>>;
    /// The name of an address, without the mesh's domain, such as `cart.shop.svc`.
    fn reverse(&self, ip: Ipv4Addr) -> Option<String>;
}

/// Where a port of a Service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortTarget {
    /// At the Service's own address.
    Service(u16),
    /// At its ready pods (headless), each by host name.
    Pods(Vec<(String, u16)>),
}

/// What the name of a Service stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Its own address.
    ClusterIp(Ipv4Addr),
    /// Its ready pods (headless), each by host name.
    Pods(Vec<(String, Ipv4Addr)>),
    /// Another name.
    Alias(String),
}

/// A query that was read.
#[derive(Clone, Debug)]
pub(super) struct Asked(Message);

/// What is known of the name of a query.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
    /// The name with whose records it would be whole, if it is one outside the mesh: that which was
    /// asked for, or that to which it leads.
    pub(super) outside: Option<Name>,
}

impl Resolved {
    pub(super) fn of(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), outside: None }
    }

    /// The whole, from what the mesh knows and what is known outside.
    pub(super) fn with(mut self, outside: Self) -> Self {
        self.records.extend(outside.records);
        Self { code: outside.code, records: self.records, outside: None }
    }
}

impl Asked {
    /// Reads a query; `None` if it is not one.
    pub(super) fn read(query: &[u8]) -> Option<Self> {
        let query = Message::from_vec(query).ok()?;
        (query.metadata.message_type == MessageType::Query).then_some(Self(query))
    }

    /// The type of the records that are asked for.
    pub(super) fn query_type(&self) -> RecordType {
        self.0.queries.first().map_or(RecordType::A, |query| query.query_type)
    }

    /// What the mesh knows of the name. `client`: who asks, if it is not a proxy that is to go further
    /// than its workload.
    pub(super) fn resolve(&self, names: &dyn Names, client: Option<IpAddr>) -> Resolved {
        match self.0.queries.as_slice() {
            [question] if self.0.metadata.op_code == OpCode::Query => {
                resolve(question, names, client)
            }
            _ => Resolved::of(ResponseCode::NotImp),
        }
    }

    /// The answer. With `bytes_max` (over UDP) one that is longer, or longer than the client said it
    /// takes, 512 if it said nothing, is truncated, so that the client asks again over TCP.
    pub(super) fn answer(self, resolved: Resolved, bytes_max: Option<usize>) -> Option<Vec<u8>> {
        answer(self.0, resolved, bytes_max)
    }
}

fn answer(query: Message, resolved: Resolved, bytes_max: Option<usize>) -> Option<Vec<u8>> {
    let op_code = query.metadata.op_code;
    let mut response = Message::response(query.metadata.id, op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.authoritative = true;
    response.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        response.set_edns(Edns::new());
    }
    response.metadata.response_code = resolved.code;
    response.add_answers(resolved.records);
    let bytes = response.to_vec().ok()?;
    let taken = query.edns.as_ref().map_or(0, |edns| usize::from(edns.max_payload()));
    match bytes_max.map(|most| most.min(taken.max(PLAIN_BYTES_MAX))) {
        Some(most) if bytes.len() > most => {
            let mut truncated = response.truncate();
            truncated.metadata.truncation = true;
            truncated.to_vec().ok()
        }
        _ => Some(bytes),
    }
}

fn resolve(question: &Query, names: &dyn Names, client: Option<IpAddr>) -> Resolved {
    let mut records = Vec::new();
    let mut name = question.name.clone();
    for _ in 0..ALIASES_MAX {
        let text = name.to_ascii().to_ascii_lowercase();
        let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
        let entry = || names.entry(client?, &labels.join(".")).map(Found::Addresses);
        let Some(found) = look_up(&labels, names).or_else(entry) else {
            // Where an alias leads out of the mesh its target is all that can be said.
            let code =
                if records.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
            let outside = (!is_own(&labels)).then_some(name);
            return Resolved { code, records, outside };
        };
        let mut add = |data| records.push(Record::from_rdata(name.clone(), TTL_SECONDS, data));
        match (found, question.query_type) {
            (Found::Addresses(ips), RecordType::A) => {
                ips.into_iter().for_each(|ip| add(RData::A(ip.into())));
            }
            (Found::Ports(ports), RecordType::SRV) => {
                let target = |(port, host): (u16, String)| Some((port, absolute(&host)?));
                for (port, host) in ports.into_iter().filter_map(target) {
                    add(RData::SRV(SRV::new(0, 100, port, host)));
                }
            }
            (Found::Name(host), RecordType::PTR) => {
                absolute(&host).into_iter().for_each(|host| add(RData::PTR(PTR(host))));
            }
            (Found::Alias(target), RecordType::A | RecordType::AAAA | RecordType::CNAME) => {
                let Some(target) = absolute(&target) else { break };
                add(RData::CNAME(CNAME(target.clone())));
                if question.query_type != RecordType::CNAME {
                    name = target;
                    continue;
                }
            }
            // The name is there, but has no such record: among others, no IPv6 address.
            _ => {}
        }
        break;
    }
    Resolved { code: ResponseCode::NoError, records, outside: None }
}

/// Whether the mesh alone knows a name, so that nobody else is asked.
fn is_own(labels: &[&str]) -> bool {
    if let Some(&[d, c, b, a]) = labels.strip_suffix(&["in-addr", "arpa"]) {
        let ip: Option<Ipv4Addr> = [a, b, c, d].join(".").parse().ok();
        let own = [POD_NETWORK, SERVICE_NETWORK, EXTERNAL_NETWORK];
        return ip.is_none_or(|ip| own.iter().any(|network| is_in(ip, *network)));
    }
    labels.ends_with(&["cluster", "local"])
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

enum Found {
    Addresses(Vec<Ipv4Addr>),
    Alias(String),
    Ports(Vec<(u16, String)>),
    Name(String),
}

fn look_up(labels: &[&str], names: &dyn Names) -> Option<Found> {
    if let Some(&[d, c, b, a]) = labels.strip_suffix(&["in-addr", "arpa"]) {
        let ip = [a, b, c, d].join(".").parse().ok()?;
        return names.reverse(ip).map(|name| Found::Name(format!("{name}.{DOMAIN}")));
    }
    let labels = labels.strip_suffix(&["cluster", "local"])?;
    if let Some(&[ip, _namespace]) = labels.strip_suffix(&["pod"]) {
        return Some(Found::Addresses(vec![ip.replace('-', ".").parse().ok()?]));
    }
    match *labels.strip_suffix(&["svc"])? {
        [service, namespace] => Some(match names.service(namespace, service)? {
            Target::ClusterIp(ip) => Found::Addresses(vec![ip]),
            Target::Pods(pods) => Found::Addresses(pods.into_iter().map(|(_, ip)| ip).collect()),
            Target::Alias(name) => Found::Alias(name),
        }),
        [host, service, namespace] => match names.service(namespace, service)? {
            Target::Pods(pods) => {
                let ips: Vec<_> =
                    pods.into_iter().filter(|(name, _)| name == host).map(|(_, ip)| ip).collect();
                (!ips.is_empty()).then_some(Found::Addresses(ips))
            }
            _ => None,
        },
        [port, protocol, service, namespace] => {
            let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
            let service_name = format!("{service}.{namespace}.svc.{DOMAIN}");
            Some(Found::Ports(match names.port(namespace, service, port, protocol)? {
                PortTarget::Service(number) => vec![(number, service_name)],
                PortTarget::Pods(pods) => {
                    let named = |(host, number)| (number, format!("{host}.{service_name}"));
                    pods.into_iter().map(named).collect()
                }
            }))
        }
        _ => None,
    }
}

/// The domain of the mesh.
const DOMAIN: &str = "cluster.local";
/// Bytes that every client takes over UDP (RFC 1035, section 4.2.1).
const PLAIN_BYTES_MAX: usize = 512;
/// Names in a chain of aliases.
const ALIASES_MAX: usize = 8;
/// How long an answer may be kept. Short, as pods come and go; as Kubernetes' default for its own
/// names.
pub(super) const TTL_SECONDS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    /// Who has a proxy.
    const MESHED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 5));

    impl Names for Fixed {
        fn entry(&self, client: IpAddr, name: &str) -> Option<Vec<Ipv4Addr>> {
            let is_it = client == MESHED && name == "api.test";
            is_it.then(|| vec![[240, 240, 0, 1].into()])
        }

        fn service(&self, namespace: &str, name: &str) -> Option<Target> {
            match (namespace, name) {
                ("shop", "cart") => Some(Target::ClusterIp([10, 96, 0, 7].into())),
                ("shop", "few") => Some(Target::Pods(
                    (0..40).map(|n| (format!("few-{n}"), [10, 77, 1, n].into())).collect(),
                )),
                ("shop", "db") => Some(Target::Pods(
                    (0..100).map(|n| (format!("db-{n}"), [10, 77, 0, n].into())).collect(),
                )),
                ("shop", "out") => Some(Target::Alias("example.com".to_owned())),
                ("shop", "in") => Some(Target::Alias("cart.shop.svc.cluster.local".to_owned())),
                ("shop", "loop") => Some(Target::Alias("loop.shop.svc.cluster.local".to_owned())),
                _ => None,
            }
        }

        fn port(&self, _: &str, name: &str, port: &str, protocol: &str) -> Option<PortTarget> {
            match (name, port, protocol) {
                ("cart", "http", "tcp") => Some(PortTarget::Service(9080)),
                ("db", "sql", "tcp") => Some(PortTarget::Pods(vec![("db-0".to_owned(), 3306)])),
                _ => None,
            }
        }

        fn reverse(&self, ip: Ipv4Addr) -> Option<String> {
            (ip == Ipv4Addr::new(10, 96, 0, 7)).then(|| "cart.shop.svc".to_owned())
        }
    }

    fn ask(name: &str, kind: RecordType, bytes_max: Option<usize>) -> Message {
        ask_with(name, kind, bytes_max, None)
    }

    fn ask_with(
        name: &str,
        kind: RecordType,
        bytes_max: Option<usize>,
        payload: Option<u16>,
    ) -> Message {
        let mut query = Message::query();
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            query.set_edns(edns);
        }
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let asked = Asked::read(&query.to_vec().unwrap()).unwrap();
        let resolved = asked.resolve(&Fixed, Some(MESHED));
        Message::from_vec(&asked.answer(resolved, bytes_max).unwrap()).unwrap()
    }

    #[test]
    fn names_of_the_mesh() {
        use RecordType::{A, AAAA, CNAME, PTR, SRV};
        for (name, kind, code, answers) in [
            ("cart.shop.svc.cluster.local.", A, ResponseCode::NoError, vec!["10.96.0.7"]),
            ("Cart.SHOP.svc.cluster.local.", A, ResponseCode::NoError, vec!["10.96.0.7"]),
            ("cart.shop.svc.cluster.local.", AAAA, ResponseCode::NoError, vec![]),
            ("db-3.db.shop.svc.cluster.local.", A, ResponseCode::NoError, vec!["10.77.0.3"]),
            ("x.db.shop.svc.cluster.local.", A, ResponseCode::NXDomain, vec![]),
            ("out.shop.svc.cluster.local.", A, ResponseCode::NoError, vec!["example.com."]),
            (
                "_http._tcp.cart.shop.svc.cluster.local.",
                SRV,
                ResponseCode::NoError,
                vec!["0 100 9080 cart.shop.svc.cluster.local."],
            ),
            ("_http._udp.cart.shop.svc.cluster.local.", SRV, ResponseCode::NXDomain, vec![]),
            (
                "_sql._tcp.db.shop.svc.cluster.local.",
                SRV,
                ResponseCode::NoError,
                vec!["0 100 3306 db-0.db.shop.svc.cluster.local."],
            ),
            (
                "in.shop.svc.cluster.local.",
                A,
                ResponseCode::NoError,
                vec!["cart.shop.svc.cluster.local.", "10.96.0.7"],
            ),
            (
                "in.shop.svc.cluster.local.",
                CNAME,
                ResponseCode::NoError,
                vec!["cart.shop.svc.cluster.local."],
            ),
            (
                "loop.shop.svc.cluster.local.",
                A,
                ResponseCode::NoError,
                vec!["loop.shop.svc.cluster.local."; ALIASES_MAX],
            ),
            (
                "7.0.96.10.in-addr.arpa.",
                PTR,
                ResponseCode::NoError,
                vec!["cart.shop.svc.cluster.local."],
            ),
            ("8.0.96.10.in-addr.arpa.", PTR, ResponseCode::NXDomain, vec![]),
            ("10-77-0-9.shop.pod.cluster.local.", A, ResponseCode::NoError, vec!["10.77.0.9"]),
            ("none.shop.svc.cluster.local.", A, ResponseCode::NXDomain, vec![]),
            ("cart.", A, ResponseCode::NXDomain, vec![]),
            ("example.com.", A, ResponseCode::NXDomain, vec![]),
        ] {
            let message = ask(name, kind, None);
            assert_eq!(message.metadata.response_code, code, "{name}");
            let found: Vec<String> =
                message.answers.iter().map(|record| record.data.to_string()).collect();
            assert_eq!(found, answers, "{name}");
        }
    }

    #[test]
    fn long_answers_are_truncated_over_udp_only() {
        let name = "db.shop.svc.cluster.local.";
        assert_eq!(ask(name, RecordType::A, None).answers.len(), 100);
        let truncated = ask(name, RecordType::A, Some(1232));
        assert!(truncated.metadata.truncation);
        // 40 addresses are more than 512 bytes, and less than 1232.
        let name = "few.shop.svc.cluster.local.";
        for (payload, is_truncated) in [(None, true), (Some(100), true), (Some(4096), false)] {
            let answer = ask_with(name, RecordType::A, Some(1232), payload);
            assert_eq!(answer.metadata.truncation, is_truncated, "{payload:?}");
        }
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        assert!(Asked::read(b"").is_none());
        assert!(Asked::read(&[0xff; 40]).is_none());
        let response = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert!(Asked::read(&response).is_none());
    }

    #[test]
    fn only_names_outside_the_mesh_are_asked_for_outside() {
        use RecordType::{A, PTR};
        for (name, kind, outside) in [
            ("example.com.", A, Some("example.com.")),
            ("cluster.local.example.com.", A, Some("cluster.local.example.com.")),
            ("out.shop.svc.cluster.local.", A, Some("example.com.")),
            ("none.shop.svc.cluster.local.", A, None),
            ("cart.shop.svc.cluster.local.", A, None),
            ("secret.cluster.local.", A, None),
            ("cluster.local.", A, None),
            ("1.2.0.192.in-addr.arpa.", PTR, Some("1.2.0.192.in-addr.arpa.")),
            ("9.0.77.10.in-addr.arpa.", PTR, None),
            ("1.0.97.10.in-addr.arpa.", PTR, None),
        ] {
            let mut query = Message::query();
            query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
            let asked = Asked::read(&query.to_vec().unwrap()).unwrap();
            let found = asked.resolve(&Fixed, Some(MESHED)).outside.map(|name| name.to_string());
            assert_eq!(found.as_deref(), outside, "{name}");
        }
    }

    /// Who has no proxy goes there himself, and a proxy further than its workload.
    #[test]
    fn entries_have_addresses_of_the_mesh_for_workloads_with_a_proxy() {
        let resolved = |client, kind| {
            let mut query = Message::query();
            query.add_query(Query::query(Name::from_ascii("API.test.").unwrap(), kind));
            Asked::read(&query.to_vec().unwrap()).unwrap().resolve(&Fixed, client)
        };
        let found = resolved(Some(MESHED), RecordType::A);
        assert_eq!(found.records[0].data, RData::A(Ipv4Addr::new(240, 240, 0, 1).into()));
        assert!(found.outside.is_none());
        let none = resolved(Some(MESHED), RecordType::AAAA);
        assert!(none.outside.is_none() && none.records.is_empty());
        assert_eq!(none.code, ResponseCode::NoError);
        for client in [None, Some([10, 77, 0, 6].into())] {
            assert!(resolved(client, RecordType::A).outside.is_some(), "{client:?}");
        }
    }
}
