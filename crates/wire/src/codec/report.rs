//! What proxies tell of their groups. They may be anyone's build, so that all of it is checked.

use std::net::SocketAddr;
use std::time::Duration;

use ironmesh_model::Name;
use ironmesh_model::group::{EndpointLoad, GroupKey, GroupReport, GroupUsage, MemberReport};
use prost::Message;
use prost::bytes::Bytes;

use super::common::{
    ServiceIdMessage, ip, ip_bytes, messages, narrow, optional_text, required, text, values,
};
use super::{Coded, DecodeError};

/// The bytes of a report.
pub fn report_bytes(report: &GroupReport) -> Bytes {
    Bytes::from(report.message().encode_to_vec())
}

/// The report that [`report_bytes`] wrote. What a later build tells beside is skipped. Never panics,
/// whatever the bytes are.
///
/// # Errors
///
/// If the bytes are no report, or names in it are none.
pub fn read_report(bytes: &[u8]) -> Result<GroupReport, DecodeError> {
    GroupReport::value(GroupMessage::decode(bytes)?)
}

/// What a piece of a report counts for in an answer: the bytes that it takes on the wire, and those
/// that it takes in memory when it is read, or more.
pub(crate) fn answer_bytes(piece: &[u8], report: &GroupReport) -> usize {
    piece.len() + OVERHEAD_BYTES * (1 + report.members.len())
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GroupMessage {
    #[prost(message, optional, tag = "1")]
    service: Option<ServiceIdMessage>,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(string, optional, tag = "3")]
    subset: Option<String>,
    #[prost(message, optional, tag = "4")]
    usage: Option<CountsMessage>,
    #[prost(message, repeated, tag = "5")]
    members: Vec<MemberMessage>,
}

/// Connections, and the requests that wait for one or are on them.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct CountsMessage {
    #[prost(uint32, tag = "1")]
    connections: u32,
    #[prost(uint32, tag = "2")]
    requests: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MemberMessage {
    #[prost(bytes = "vec", tag = "1")]
    ip: Vec<u8>,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "4")]
    workload: String,
    #[prost(bool, tag = "5")]
    ready: bool,
    #[prost(uint64, tag = "6")]
    ejected_for_ms: u64,
    #[prost(uint32, tag = "7")]
    failures_in_a_row: u32,
    #[prost(uint64, tag = "8")]
    failures: u64,
    #[prost(message, optional, tag = "9")]
    load: Option<CountsMessage>,
}

impl Coded for GroupReport {
    type Message = GroupMessage;

    fn message(&self) -> GroupMessage {
        let usage = |usage: GroupUsage| CountsMessage {
            connections: usage.connections,
            requests: usage.waiting,
        };
        GroupMessage {
            service: Some(self.key.service.message()),
            port: self.key.port.into(),
            subset: optional_text(self.key.subset.as_ref()),
            usage: self.usage.map(usage),
            members: messages(&self.members),
        }
    }

    fn value(m: GroupMessage) -> Result<Self, DecodeError> {
        let key = GroupKey {
            service: required(m.service, "the service of a group")?,
            port: narrow(m.port, "a port")?,
            subset: m.subset.map(|subset| name(subset, "the name of a subset")).transpose()?,
        };
        name(key.service.namespace.to_string(), "a namespace")?;
        name(key.service.hostname.to_string(), "a host")?;
        let usage = m.usage.map(|m| GroupUsage { connections: m.connections, waiting: m.requests });
        Ok(Self { key, usage, members: values(m.members)? })
    }
}

impl Coded for MemberReport {
    type Message = MemberMessage;

    fn message(&self) -> MemberMessage {
        let load = |load: EndpointLoad| CountsMessage {
            connections: load.connections,
            requests: load.requests,
        };
        MemberMessage {
            ip: ip_bytes(self.address.ip()),
            port: self.address.port().into(),
            namespace: text(&self.namespace),
            workload: text(&self.workload),
            ready: self.ready,
            ejected_for_ms: u64::try_from(self.ejected_for.as_millis()).unwrap_or(u64::MAX),
            failures_in_a_row: self.failures_in_a_row,
            failures: self.failures,
            load: self.load.map(load),
        }
    }

    fn value(m: MemberMessage) -> Result<Self, DecodeError> {
        let load =
            |m: CountsMessage| EndpointLoad { connections: m.connections, requests: m.requests };
        Ok(Self {
            address: SocketAddr::new(ip(&m.ip)?, narrow(m.port, "a port")?),
            namespace: name(m.namespace, "a namespace")?,
            workload: name(m.workload, "the name of a workload")?,
            ready: m.ready,
            ejected_for: Duration::from_millis(m.ejected_for_ms.min(EJECTED_FOR_MS_MAX)),
            failures_in_a_row: m.failures_in_a_row,
            failures: m.failures,
            load: m.load.map(load),
        })
    }
}

/// A name that people can be shown: no control characters, and no longer than names are. Those of
/// endpoints outside of the cluster may be empty.
fn name(text: String, what: &'static str) -> Result<Name, DecodeError> {
    let is_plain = |c: char| c.is_ascii_graphic();
    match text.len() <= NAME_BYTES_MAX && text.chars().all(is_plain) {
        true => Ok(text.into()),
        false => Err(DecodeError::OutOfRange(what)),
    }
}

/// Bytes of one piece of a report; a longer one is not read.
pub(crate) const PIECE_BYTES_MAX: usize = 32 << 10;

/// Bytes of memory that a group, or an endpoint of one, takes beside its names.
const OVERHEAD_BYTES: usize = 192;

/// Longest name of Kubernetes (RFC 1123, section 2.1).
const NAME_BYTES_MAX: usize = 255;

/// Longest ejection that is believed, 100 years: so that a moment can be made of it.
const EJECTED_FOR_MS_MAX: u64 = 100 * 365 * 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use ironmesh_model::ServiceId;

    fn report() -> GroupReport {
        let member = MemberReport {
            address: "10.77.0.3:9080".parse().unwrap(),
            namespace: "default".into(),
            workload: "reviews-v1-abc".into(),
            ready: true,
            ejected_for: Duration::from_millis(29_999),
            failures_in_a_row: 2,
            failures: 7,
            load: Some(EndpointLoad { connections: 3, requests: 1 }),
        };
        let other = MemberReport {
            address: "[fd00::1]:80".parse().unwrap(),
            ejected_for: Duration::ZERO,
            load: None,
            ..member.clone()
        };
        GroupReport {
            key: GroupKey {
                service: ServiceId {
                    namespace: "default".into(),
                    hostname: "reviews.default.svc.cluster.local".into(),
                },
                port: 9080,
                subset: Some("v1".into()),
            },
            usage: Some(GroupUsage { connections: 4, waiting: 2 }),
            members: vec![member, other],
        }
    }

    #[test]
    fn reports_come_back_as_they_were() {
        let (with, without) = (report(), GroupReport { usage: None, ..report() });
        for report in [with, without] {
            assert_eq!(read_report(&report_bytes(&report)), Ok(report));
        }
    }

    #[test]
    fn what_must_not_be_shown_or_makes_no_sense_is_refused() {
        type Spoil = fn(&mut GroupMessage);
        let spoils: [Spoil; 7] = [
            |m| m.service = None,
            |m| m.port = 70_000,
            |m| m.subset = Some("v1\u{1b}[2J".to_owned()),
            |m| m.members[0].workload = "\u{202e}evil".to_owned(),
            |m| m.members[0].namespace = "x".repeat(256),
            |m| m.members[0].ip = vec![1, 2, 3],
            |m| m.members[1].port = 1 << 16,
        ];
        for (at, spoil) in spoils.iter().enumerate() {
            let mut message = report().message();
            spoil(&mut message);
            assert!(read_report(&message.encode_to_vec()).is_err(), "{at}");
        }
        assert!(read_report(b"\xff\xff\xff").is_err());
        let mut longest = report().message();
        longest.members[0].ejected_for_ms = u64::MAX;
        let read = read_report(&longest.encode_to_vec()).unwrap();
        assert!(read.members[0].ejected_for < Duration::from_secs(1 << 32));
    }
}
