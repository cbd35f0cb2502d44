//! By what connections are kept.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::Equivalent;
use ironmesh_model::ListenerKind;
use ironmesh_model::group::Group;
use ironmesh_model::policy::ConnectionPool;
use ironmesh_model::service::UpstreamTls;

use crate::proxy_protocol::{KeptOrigin, Origin};
use crate::workload::LocalWorkload;

/// Where to connect, on whose behalf, and how. Borrowed from the decision about a request, so that
/// one that finds a connection copies nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The workload in whose name.
    pub(crate) workload: &'a Arc<LocalWorkload>,
    /// Through which listener the request came; decides the mark.
    pub(crate) listener: ListenerKind,
    /// The address.
    pub(crate) address: &'a SocketAddr,
    /// How to speak to it, and whom to expect there.
    pub(crate) tls: &'a UpstreamTls,
    /// Whether to speak HTTP/2.
    pub(crate) http2: bool,
    /// The group with a policy for the connection, which counts it. It serves no other group.
    pub(crate) limited: Option<&'a Arc<Group>>,
    /// What is told of the client by the PROXY protocol: it serves no other client.
    pub(crate) origin: Option<Origin<'a>>,
}

impl PartialEq for Target<'_> {
    fn eq(&self, other: &Self) -> bool {
        let limited = match (self.limited, other.limited) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        };
        limited
            && self.address == other.address
            && self.listener == other.listener
            && self.http2 == other.http2
            && self.workload == other.workload
            && self.tls == other.tls
            && self.origin == other.origin
    }
}

impl Eq for Target<'_> {}

impl Target<'_> {
    /// What holds for its connections, if anything does.
    pub(crate) fn pool(&self) -> Option<ConnectionPool> {
        self.limited?.pool()
    }

    /// A copy that lasts.
    pub(crate) fn to_key(self) -> Arc<Key> {
        Arc::new(Key {
            workload: self.workload.clone(),
            listener: self.listener,
            address: *self.address,
            tls: self.tls.clone(),
            http2: self.http2,
            limited: self.limited.cloned(),
            origin: self.origin.map(Origin::kept),
        })
    }
}

impl Hash for Target<'_> {
    /// Of what differs most; equality looks at all.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.address, self.listener, self.http2).hash(state);
    }
}

impl Equivalent<Arc<Key>> for Target<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        *self == key.target()
    }
}

/// A destination by which connections are kept.
#[derive(Debug)]
pub(crate) struct Key {
    pub(super) workload: Arc<LocalWorkload>,
    pub(super) listener: ListenerKind,
    pub(super) address: SocketAddr,
    pub(super) tls: UpstreamTls,
    http2: bool,
    pub(super) limited: Option<Arc<Group>>,
    origin: Option<KeptOrigin>,
}

impl Key {
    /// The destination.
    pub(crate) fn target(&self) -> Target<'_> {
        Target {
            workload: &self.workload,
            listener: self.listener,
            address: &self.address,
            tls: &self.tls,
            http2: self.http2,
            limited: self.limited.as_ref(),
            origin: self.origin.as_ref().map(KeptOrigin::origin),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.target() == other.target()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.target().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use ironmesh_model::policy::ProxyProtocol;
    use ironmesh_model::service::Protocol;

    use super::*;
    use crate::tests::world::{Wire, identity, outbound, workload};

    /// A connection is used by nobody else than those who would have made the same.
    #[test]
    fn each_part_makes_another_key() {
        let (own, other) = (workload("client"), workload("other"));
        let (one, two) = (UpstreamTls::Mesh(identity("one")), UpstreamTls::Mesh(identity("two")));
        let proxy = outbound(Protocol::Http, &[]);
        Wire::connect(&proxy).get("/");
        let group = proxy.workload.views.load().groups().next().unwrap();
        let [address, other_port, elsewhere] =
            [([10, 0, 0, 1], 80), ([10, 0, 0, 1], 81), ([10, 0, 0, 2], 80)].map(SocketAddr::from);
        let target = Target {
            workload: &own,
            listener: ListenerKind::Outbound,
            address: &address,
            tls: &one,
            http2: false,
            limited: None,
            origin: None,
        };
        let told = Origin { version: ProxyProtocol::V2, ends: None };
        let key = target.to_key();
        assert!(target.equivalent(&key) && key.target() == target);
        for different in [
            Target { workload: &other, ..target },
            Target { listener: ListenerKind::Inbound, ..target },
            Target { address: &other_port, ..target },
            Target { address: &elsewhere, ..target },
            Target { tls: &two, ..target },
            Target { tls: &UpstreamTls::None, ..target },
            Target { http2: true, ..target },
            Target { limited: Some(&group), ..target },
            Target { origin: Some(told), ..target },
        ] {
            assert!(!different.equivalent(&key), "{different:?}");
            assert!(different.equivalent(&different.to_key()));
        }
    }
}
