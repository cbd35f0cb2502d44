//! Scopes: what of a proxy decides which answers it gets.

use std::net::IpAddr;
use std::sync::Arc;

use super::cell::Cell;
use super::reader::Reader;
use super::{Snapshot, Subscriber, inbound, sidecar};
use crate::bootstrap::ProxyKind;
use crate::name::{Name, ObjectId};
use crate::resource::{ListenerKind, ResourceKey};

/// What of a proxy decides which answers it gets: where it is, what it is, and the objects that
/// select it. Proxies that are alike in this get the same answers, which are made once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    pub(super) namespace: Name,
    pub(super) asker: Asker,
    /// Gateways that select it, oldest first.
    pub(super) gateways: Arc<[ObjectId]>,
    /// Destination policies of its namespace that are for some workloads only, this among them.
    pub(super) selecting_policies: Arc<[ObjectId]>,
    /// Inbound policies that hold for it, most specific first.
    pub(super) inbound_policies: Arc<[ObjectId]>,
    /// The Sidecar that says what it sees.
    pub(super) sidecar: Option<ObjectId>,
    /// Addresses of its own workload.
    pub(super) addresses: Arc<[IpAddr]>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// An answer that the asker may have refers to what is asked for.
    #[default]
    Reference,
    /// A proxy of either kind.
    Any,
    /// The proxy beside a workload.
    Sidecar,
    /// The proxy of a gateway.
    Gateway,
}

impl Scope {
    /// As this scope asks for what one of its answers refers to (`is_reference`), or for a key that
    /// its proxy names: the same, without what does not matter there.
    pub fn narrowed(&self, key: &ResourceKey, is_reference: bool) -> Self {
        let Self { asker, gateways, inbound_policies, addresses, .. } = self;
        let namespace = self.namespace.clone();
        let selecting_policies = self.selecting_policies.clone();
        let sidecar = self.sidecar.clone();
        match key {
            ResourceKey::Listeners | ResourceKey::Domains(..) => {
                Self { namespace, asker: *asker, gateways: gateways.clone(), ..Self::default() }
            }
            ResourceKey::Resolution(resolution) => match resolution.listener {
                ListenerKind::Outbound => {
                    let asker = Asker::Any;
                    Self { namespace, asker, selecting_policies, sidecar, ..Self::default() }
                }
                ListenerKind::Inbound => {
                    let inbound_policies = inbound_policies.clone();
                    let is_asked = |own: &&IpAddr| resolution.target.ip() == Some(**own);
                    let addresses = addresses.iter().filter(is_asked).copied().collect();
                    let asker = *asker;
                    Self {
                        namespace,
                        asker,
                        inbound_policies,
                        addresses,
                        sidecar,
                        ..Self::default()
                    }
                }
                ListenerKind::Gateway => Self {
                    namespace,
                    asker: *asker,
                    gateways: gateways.clone(),
                    selecting_policies,
                    ..Self::default()
                },
            },
            ResourceKey::Settings => Self { sidecar, ..Self::default() },
            ResourceKey::Workload(_) => Self::default(),
            _ if is_reference => Self::default(),
            _ => Self { namespace, asker: Asker::Any, ..Self::default() },
        }
    }

    /// Why a proxy in this scope may not ask for a key, whatever is there; `None` if it may.
    pub fn refusal(&self, key: &ResourceKey) -> Option<&'static str> {
        let of_gateways = || (self.asker == Asker::Sidecar).then_some(OF_GATEWAYS);
        let resolution = match key {
            _ if self.asker == Asker::Reference => return None,
            ResourceKey::Listeners | ResourceKey::Domains(..) => return of_gateways(),
            ResourceKey::Resolution(resolution) => resolution,
            ResourceKey::Settings
            | ResourceKey::Route(_)
            | ResourceKey::Service(_)
            | ResourceKey::Policy(_)
            | ResourceKey::Workload(_)
            | ResourceKey::Endpoints(..) => return None,
        };
        if resolution.namespace != self.namespace {
            return Some(OF_OTHER_NAMESPACE);
        }
        match (resolution.listener, self.asker) {
            (ListenerKind::Gateway, _) => of_gateways(),
            (ListenerKind::Inbound, Asker::Gateway) => Some(OF_SIDECARS),
            (ListenerKind::Inbound, Asker::Sidecar) => {
                let is_own = resolution.target.ip().is_some_and(|ip| self.addresses.contains(&ip));
                (!is_own).then_some(OF_OTHER_WORKLOAD)
            }
            (ListenerKind::Inbound | ListenerKind::Outbound, _) => None,
        }
    }

    /// Whether it may see what is seen from these namespaces only.
    pub(super) fn sees(&self, is_seen_from: impl Fn(&str) -> bool) -> bool {
        self.asker == Asker::Reference || is_seen_from(&self.namespace)
    }
}

impl Snapshot {
    /// The scope of a subscriber; a proxy of which `kind` is not known counts as one of either. With
    /// what it depends on.
    pub fn scope(&self, subscriber: &Subscriber, kind: Option<ProxyKind>) -> (Scope, Vec<Cell>) {
        let reader = Reader::new(&self.index);
        let Subscriber { namespace, labels, addresses } = subscriber;
        let asker = match kind {
            None => Asker::Any,
            Some(ProxyKind::Sidecar) => Asker::Sidecar,
            Some(ProxyKind::Gateway) => Asker::Gateway,
        };
        let gateways = match asker {
            Asker::Sidecar => Vec::new(),
            _ => reader.gateways_selecting(labels).into_iter().map(|g| g.id.clone()).collect(),
        };
        let scope = Scope {
            namespace: namespace.clone(),
            asker,
            gateways: gateways.into(),
            selecting_policies: reader.policies_selecting(namespace, labels).into(),
            inbound_policies: inbound::policies(&reader, namespace, labels).into(),
            sidecar: match asker {
                Asker::Gateway => None,
                _ => sidecar::of_workload(&reader, namespace, labels),
            },
            addresses: addresses.as_slice().into(),
        };
        (scope, reader.into_reads())
    }
}

const OF_GATEWAYS: &str = "only the proxy of a gateway may ask what a gateway serves";
const OF_SIDECARS: &str =
    "only the sidecar of a workload may ask what applies to its inbound traffic";
const OF_OTHER_WORKLOAD: &str =
    "a sidecar may ask what applies to the inbound traffic of its own workload only";
const OF_OTHER_NAMESPACE: &str = "a proxy may ask as one of its own namespace only";
