//! The answer to a query: pure, from bytes and the names of the mesh to bytes.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What the mesh knows by name.
pub(crate) trait Names {
    /// What a Service's name stands for.
    fn service(&self, namespace: &str, name: &str) -> Option<Target>;
    /// Number of a named port of a Service.
    fn port(&self, namespace: &str, name: &str, port: &str) -> Option<u16>;
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

/// Answers one query; `None` if it is not one. An answer longer than `bytes_max` is truncated, so
/// that the client asks again over TCP.
pub(crate) fn answer(query: &[u8], names: &dyn Names, bytes_max: Option<usize>) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let op_code = query.metadata.op_code;
    let mut response = Message::response(query.metadata.id, op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.authoritative = true;
    response.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        response.set_edns(Edns::new());
    }
    let (code, records) = match query.queries.as_slice() {
        [question] if op_code == OpCode::Query => resolve(question, names),
        _ => (ResponseCode::NotImp, Vec::new()),
    };
    response.metadata.response_code = code;
    response.add_answers(records);
    let bytes = response.to_vec().ok()?;
    match bytes_max {
        Some(most) if bytes.len() > most => {
            let mut truncated = response.truncate();
            truncated.metadata.truncation = true;
            truncated.to_vec().ok()
        }
        _ => Some(bytes),
    }
}

fn resolve(question: &Query, names: &dyn Names) -> (ResponseCode, Vec<Record>) {
    let name = question.name.to_ascii().to_ascii_lowercase();
    let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    let Some(found) = look_up(&labels, names) else {
        return (ResponseCode::NXDomain, Vec::new());
    };
    let record = |data| Record::from_rdata(question.name.clone(), TTL_SECONDS, data);
    let records = match (found, question.query_type) {
        (Found::Addresses(ips), RecordType::A) => {
            ips.into_iter().map(|ip| record(RData::A(ip.into()))).collect()
        }
        (Found::Alias(target), RecordType::A | RecordType::AAAA | RecordType::CNAME) => {
            Name::from_ascii(&target).map_or_else(
                |_bad| Vec::new(),
                |mut target| {
                    target.set_fqdn(true);
                    vec![record(RData::CNAME(CNAME(target)))]
                },
            )
        }
        (Found::Port(port, host), RecordType::SRV) => Name::from_ascii(&host).map_or_else(
            |_bad| Vec::new(),
            |host| vec![record(RData::SRV(SRV::new(0, 100, port, host)))],
        ),
        // The name is there, but has no such record: among others, no IPv6 address.
        _ => Vec::new(),
    };
    (ResponseCode::NoError, records)
}

enum Found {
    Addresses(Vec<Ipv4Addr>),
    Alias(String),
    Port(u16, String),
}

fn look_up(labels: &[&str], names: &dyn Names) -> Option<Found> {
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
        [port, _protocol, service, namespace] => {
            let number = names.port(namespace, service, port.strip_prefix('_')?)?;
            Some(Found::Port(number, format!("{service}.{namespace}.svc.cluster.local.")))
        }
        _ => None,
    }
}

/// How long an answer may be kept. Short, as pods come and go; as Kubernetes' default for its own
/// names.
const TTL_SECONDS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Names for Fixed {
        fn service(&self, namespace: &str, name: &str) -> Option<Target> {
            match (namespace, name) {
                ("shop", "cart") => Some(Target::ClusterIp([10, 96, 0, 7].into())),
                ("shop", "db") => Some(Target::Pods(
                    (0..100).map(|n| (format!("db-{n}"), [10, 77, 0, n].into())).collect(),
                )),
                ("shop", "out") => Some(Target::Alias("example.com".to_owned())),
                _ => None,
            }
        }

        fn port(&self, _namespace: &str, name: &str, port: &str) -> Option<u16> {
            ((name, port) == ("cart", "http")).then_some(9080)
        }
    }

    fn ask(name: &str, kind: RecordType, bytes_max: Option<usize>) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let answer = answer(&query.to_vec().unwrap(), &Fixed, bytes_max).unwrap();
        Message::from_vec(&answer).unwrap()
    }

    #[test]
    fn names_of_the_mesh() {
        use RecordType::{A, AAAA, SRV};
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
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        assert_eq!(answer(b"", &Fixed, None), None);
        assert_eq!(answer(&[0xff; 40], &Fixed, None), None);
        let response = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert_eq!(answer(&response, &Fixed, None), None);
    }
}
