//! Names and ids. All are cheap to clone; equality is by text, never by handle.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An immutable, shared piece of text: a host name, a namespace, a label value.
pub type Name = Arc<str>;

/// Labels of a workload or a selector over them, in name order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Labels(pub BTreeMap<Name, Name>);

impl Labels {
    /// Whether every label of `self`, read as a selector, stands in `labels` with the same value.
    ///
    /// An empty selector selects everything; callers for whom it selects nothing check first.
    pub fn selects(&self, labels: &Self) -> bool {
        self.is_empty() || self.0.iter().all(|(name, value)| labels.0.get(name) == Some(value))
    }

    /// The labels that [`Labels`]'s text form says: `app=reviews,version=v1`; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|pair| pair.split_once('=')).collect()
    }

    /// The value of one label.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Name>, V: Into<Name>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// As `NAME=VALUE`, with commas between them.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

/// A service: a name that callers use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceId {
    /// Namespace of the object that declares it.
    pub namespace: Name,
    /// Fully qualified host name, lower case, such as `reviews.default.svc.cluster.local`.
    pub hostname: Name,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

/// A user's object that a resource was made from, such as `VirtualService default/reviews`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId {
    /// Kind as the user wrote it (`VirtualService`, `DestinationRule`, ...).
    pub kind: Name,
    /// Namespace of the object.
    pub namespace: Name,
    /// Name of the object.
    pub name: Name,
}

impl ObjectId {
    /// An id from its three parts.
    pub fn new(kind: impl Into<Name>, namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// One running workload: a pod, or a process that acts as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkloadId {
    /// Cluster that runs it; `Kubernetes` unless set, as Istio names it.
    pub cluster: Name,
    /// Namespace of the workload.
    pub namespace: Name,
    /// Name of the pod.
    pub name: Name,
    /// Unique id, so that a pod made again under its old name is another workload.
    pub uid: Name,
}

/// A SPIFFE identity of the form `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Trust domain, `cluster.local` unless set.
    pub trust_domain: Name,
    /// Namespace.
    pub namespace: Name,
    /// Service account.
    pub service_account: Name,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

/// A text that is not a SPIFFE identity of the mesh's form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
pub struct NotAnIdentity(pub String);

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let parts: Vec<&str> =
            text.strip_prefix("spiffe://").unwrap_or_default().split('/').collect();
        match parts[..] {
            [trust_domain, "ns", namespace, "sa", service_account]
                if [trust_domain, namespace, service_account].iter().all(|p| is_segment(p)) =>
            {
                Ok(Self {
                    trust_domain: trust_domain.into(),
                    namespace: namespace.into(),
                    service_account: service_account.into(),
                })
            }
            _ => Err(NotAnIdentity(text.to_owned())),
        }
    }
}

/// Whether `text` may stand between two slashes of a SPIFFE id (SPIFFE-ID, section 2.2).
fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_round_trips_and_refuses_other_forms() {
        let id: Identity = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews".parse().unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/default/sa/bookinfo-reviews");
        for bad in [
            "",
            "spiffe://cluster.local",
            "spiffe://cluster.local/ns//sa/x",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/ns/../sa/b",
            "https://cluster.local/ns/a/sa/b",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn selector_needs_every_label() {
        let pod: Labels = [("app", "reviews"), ("version", "v1")].into_iter().collect();
        let both: Labels = [("app", "reviews"), ("version", "v1")].into_iter().collect();
        let other: Labels = [("app", "reviews"), ("version", "v2")].into_iter().collect();
        assert!(both.selects(&pod));
        assert!(!other.selects(&pod));
        assert!(Labels::default().selects(&pod));
    }
}
