//! Scopes: what of a proxy decides which answers it gets.

use std::sync::Arc;

use super::cell::Cell;
use super::reader::Reader;
use super::{Snapshot, Subscriber, inbound};
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
    /// Inbound policies that hold for it, most specific first.
    pub(super) inbound_policies: Arc<[ObjectId]>,
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
        let Self { namespace, asker, gateways, inbound_policies } = self;
        let namespace = namespace.clone();
        match key {
            ResourceKey::Listeners | ResourceKey::Domains(..) => {
                Self { namespace, asker: *asker, gateways: gateways.clone(), ..Self::default() }
            }
            ResourceKey::Resolution(resolution) => match resolution.listener {
                ListenerKind::Outbound => Self { namespace, asker: Asker::Any, ..Self::default() },
                ListenerKind::Inbound => {
                    let inbound_policies = inbound_policies.clone();
                    Self { namespace, asker: *asker, inbound_policies, ..Self::default() }
                }
                ListenerKind::Gateway => {
                    Self { namespace, asker: *asker, gateways: gateways.clone(), ..Self::default() }
                }
            },
            ResourceKey::Settings | ResourceKey::Workload(_) => Self::default(),
            _ if is_reference => Self::default(),
            _ => Self { namespace, asker: Asker::Any, ..Self::default() },
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
        let Subscriber { namespace, labels } = subscriber;
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
            inbound_policies: inbound::policies(&reader, namespace, labels).into(),
        };
        (scope, reader.into_reads())
    }
}
