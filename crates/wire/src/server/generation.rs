//! One published snapshot and the bytes of what was asked of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{ListenerKind, Resource, ResourceKey, Snapshot, Version, WorkloadId};

use crate::codec;

/// What can answer for the resources of a mesh.
pub trait Source: Send + Sync + fmt::Debug + 'static {
    /// As whom the proxy of a workload sees it now; `None`: as it was when it connected. (Labels of
    /// a running pod may change.)
    fn subscriber(&self, workload: &WorkloadId) -> Option<Subscriber>;

    /// The resource under a key, as `subscriber` sees it.
    fn resource(&self, key: &ResourceKey, subscriber: &Subscriber) -> Option<Resource>;

    /// What travels with a resource.
    fn references(&self, resource: &Resource) -> Vec<ResourceKey>;
}

impl Source for Snapshot {
    fn subscriber(&self, workload: &WorkloadId) -> Option<Subscriber> {
        Self::subscriber(self, workload).0
    }

    fn resource(&self, key: &ResourceKey, subscriber: &Subscriber) -> Option<Resource> {
        Self::resource(self, key, subscriber)
    }

    fn references(&self, resource: &Resource) -> Vec<ResourceKey> {
        Self::references(self, resource)
    }
}

/// What a proxy would hold if it subscribed to `keys`: the resources with all that they refer to,
/// encoded and decoded again. `explain` decides over this, so that it sees what a proxy sees.
pub fn expand(
    source: &impl Source,
    subscriber: &Subscriber,
    keys: impl IntoIterator<Item = ResourceKey>,
) -> Vec<Change> {
    let mut expanded = BTreeMap::new();
    let mut to_visit: Vec<ResourceKey> = keys.into_iter().collect();
    while let Some(key) = to_visit.pop() {
        if expanded.contains_key(&key) {
            continue;
        }
        let encoded = Encoded::of(source, &key, subscriber);
        to_visit.extend(encoded.references.iter().cloned());
        expanded.insert(key, encoded);
    }
    expanded
        .into_iter()
        .map(|(key, Encoded { version, body, .. })| {
            let decoded = body.and_then(|bytes| codec::decode(&bytes).ok());
            Change { key, version, body: decoded.map_or(Body::Nothing, Body::Is) }
        })
        .collect()
}

/// A snapshot with a number of its own.
#[derive(Debug)]
pub(super) struct Generation<S> {
    pub(super) number: u64,
    snapshot: Arc<S>,
    /// What is the same for every subscriber, encoded once.
    shared: Mutex<HashMap<ResourceKey, Encoded>>,
}

/// An answer to a key, encoded.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub(super) version: Version,
    /// `None`: there is nothing.
    pub(super) body: Option<Bytes>,
    pub(super) references: Arc<[ResourceKey]>,
}

impl<S: Source> Generation<S> {
    pub(super) fn new(snapshot: Arc<S>, number: u64) -> Self {
        Self { number, snapshot, shared: Mutex::default() }
    }

    /// As whom a proxy sees it, who was `connected` when it connected.
    pub(super) fn subscriber(&self, workload: &WorkloadId, connected: &Subscriber) -> Subscriber {
        self.snapshot.subscriber(workload).unwrap_or_else(|| connected.clone())
    }

    /// What is under a key for a subscriber.
    pub(super) fn encoded(&self, key: &ResourceKey, subscriber: &Subscriber) -> Encoded {
        if depends_on_subscriber(key) {
            return Encoded::of(&*self.snapshot, key, subscriber);
        }
        if let Some(encoded) = self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return encoded.clone();
        }
        let encoded = Encoded::of(&*self.snapshot, key, subscriber);
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), encoded.clone());
        encoded
    }
}

impl Encoded {
    fn of(source: &impl Source, key: &ResourceKey, subscriber: &Subscriber) -> Self {
        let Some(resource) = source.resource(key, subscriber) else {
            return Self { version: codec::nothing(), body: None, references: [].into() };
        };
        let body = codec::encode(&resource);
        Self {
            version: Version::of(&body),
            body: Some(body),
            references: source.references(&resource).into(),
        }
    }
}

/// Whether two subscribers may get different answers. What applies to outbound traffic depends on
/// the namespace alone, which stands in the key.
fn depends_on_subscriber(key: &ResourceKey) -> bool {
    match key {
        ResourceKey::Listeners | ResourceKey::Domains(..) => true,
        ResourceKey::Resolution(resolution) => resolution.listener != ListenerKind::Outbound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ironmesh_model::resource::Resolution;
    use ironmesh_model::{Labels, ResolutionKey, Target};

    use super::*;

    /// Counts what it is asked.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl Source for Counting {
        fn subscriber(&self, _: &WorkloadId) -> Option<Subscriber> {
            None
        }

        fn resource(&self, _: &ResourceKey, _: &Subscriber) -> Option<Resource> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Some(Resource::Resolution(Resolution::Absent.into()))
        }

        fn references(&self, _: &Resource) -> Vec<ResourceKey> {
            Vec::new()
        }
    }

    #[test]
    fn what_is_the_same_for_all_is_made_once() {
        let times_asked = |listener, port| {
            let generation = Generation::new(Arc::<Counting>::default(), 1);
            let target = Target::Address([10, 0, 0, 1].into(), port);
            let key = ResolutionKey { listener, target, namespace: "default".into() };
            for app in ["a", "b", "c"] {
                let labels: Labels = [("app", app)].into_iter().collect();
                let subscriber = Subscriber { namespace: "default".into(), labels };
                generation.encoded(&ResourceKey::Resolution(key.clone()), &subscriber);
            }
            generation.snapshot.0.load(Ordering::SeqCst)
        };
        assert_eq!(times_asked(ListenerKind::Outbound, 80), 1);
        assert_eq!(times_asked(ListenerKind::Inbound, 0), 3, "policies select by labels");
    }
}
