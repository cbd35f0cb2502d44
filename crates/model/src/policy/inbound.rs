//! What a workload takes.

use serde::{Deserialize, Serialize};

use crate::name::{Labels, ObjectId};

/// What a workload takes (a `PeerAuthentication`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InboundPolicy {
    /// The object it was made from.
    pub id: ObjectId,
    /// Mutual TLS; `None` leaves it to the next wider policy.
    pub mtls: Option<MtlsMode>,
    /// What it says of single ports, or of some of its workloads; at most
    /// [`InboundPolicy::PARTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<InboundPart>,
}

/// What an inbound policy says of a part of what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InboundPart {
    /// The workloads, by their labels; none: all that the policy is for.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub workloads: Labels,
    /// Their port (not that of a service); `None`: all of which nothing else is said.
    pub port: Option<u16>,
    /// Mutual TLS there.
    pub mtls: MtlsMode,
}

/// Which connections a workload takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MtlsMode {
    /// Mutual TLS and plaintext.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
    /// Plaintext, and TLS is the application's own affair. Callers of the mesh send plaintext, too;
    /// of one that has not learned of it yet the mesh's own TLS is still taken.
    Disable,
}

impl MtlsMode {
    /// The word for it, as manifests have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
            Self::Disable => "DISABLE",
        }
    }
}

/// What a workload takes at a port, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundMode<'a> {
    /// Mutual TLS there.
    pub mtls: MtlsMode,
    /// The policy that says so.
    pub policy: &'a ObjectId,
    /// Whether it says so of this port alone.
    pub of_port: bool,
}

impl InboundPolicy {
    /// Parts of one policy. Each is looked at for every connection, and told to those who call.
    pub const PARTS_MAX: usize = 256;

    /// What holds at a port of the workload with these labels, of all policies that it is under, the
    /// narrowest first; `None`: none says anything. What is said of the port goes before what is said
    /// of all ports.
    pub fn mode<'a, I: Iterator<Item = &'a Self>>(
        policies: impl Fn() -> I,
        port: u16,
        labels: &Labels,
    ) -> Option<InboundMode<'a>> {
        let of_port = |policy: &'a Self| policy.part(Some(port), labels);
        let of_all = |policy: &'a Self| policy.mtls.or_else(|| policy.part(None, labels));
        let said = |of_port| {
            move |(policy, mtls): (&'a Self, MtlsMode)| InboundMode {
                mtls,
                policy: &policy.id,
                of_port,
            }
        };
        let first = policies().find_map(|policy| Some((policy, of_port(policy)?)));
        let next = || policies().find_map(|policy| Some((policy, of_all(policy)?)));
        first.map(said(true)).or_else(|| next().map(said(false)))
    }

    fn part(&self, port: Option<u16>, labels: &Labels) -> Option<MtlsMode> {
        let mut parts = self.parts.iter().filter(|part| part.port == port);
        parts.find(|part| part.workloads.selects(labels)).map(|part| part.mtls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, mtls: Option<MtlsMode>, parts: &[(&str, Option<u16>)]) -> InboundPolicy {
        let part = |(app, port): &(&str, Option<u16>)| InboundPart {
            workloads: match *app {
                "" => Labels::default(),
                app => [("app", app)].into_iter().collect(),
            },
            port: *port,
            mtls: MtlsMode::Disable,
        };
        let id = ObjectId::new("PeerAuthentication", "default", name);
        InboundPolicy { id, mtls, parts: parts.iter().map(part).collect() }
    }

    fn told(policies: &[InboundPolicy], port: u16, app: &str) -> Option<(MtlsMode, String, bool)> {
        let labels = [("app", app)].into_iter().collect();
        let mode = InboundPolicy::mode(|| policies.iter(), port, &labels)?;
        Some((mode.mtls, mode.policy.name.to_string(), mode.of_port))
    }

    #[test]
    fn what_is_said_of_a_port_goes_before_what_is_said_of_all() {
        use MtlsMode::{Disable, Strict};
        let policies = [
            policy("open", None, &[("a", Some(80)), ("b", None), ("b", Some(90))]),
            policy("wide", Some(Strict), &[("", Some(90))]),
        ];
        let of = |mtls, name: &str, of_port| Some((mtls, name.to_owned(), of_port));
        assert_eq!(told(&policies, 80, "a"), of(Disable, "open", true));
        assert_eq!(told(&policies, 81, "a"), of(Strict, "wide", false));
        assert_eq!(told(&policies, 90, "a"), of(Disable, "wide", true));
        assert_eq!(told(&policies, 90, "b"), of(Disable, "open", true));
        assert_eq!(told(&policies, 80, "b"), of(Disable, "open", false));
        assert_eq!(told(&policies, 80, "c"), of(Strict, "wide", false));
        assert_eq!(told(&policies[..1], 80, "c"), None);
        assert_eq!(told(&[], 80, "c"), None);
    }
}
