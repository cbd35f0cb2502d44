//! What can answer for the resources of a mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ironmesh_model::snapshot::{Answer, Cell, Scope};
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{ResourceKey, Snapshot};

use super::Peer;
use super::answers::Encoded;
use crate::codec;

/// What can answer for the resources of a mesh at one instant.
pub trait Source: Send + Sync + fmt::Debug + 'static {
    /// In which scope a proxy asks now, and what that depends on. (Labels of a running pod may
    /// change.)
    fn scope(&self, peer: &Peer) -> (Scope, Vec<Cell>);

    /// What is under a key in a scope.
    fn answer(&self, key: &ResourceKey, scope: &Scope) -> Answer;
}

impl Source for Snapshot {
    fn scope(&self, peer: &Peer) -> (Scope, Vec<Cell>) {
        let (known, mut reads) = self.subscriber(&peer.workload);
        let mut subscriber = known.unwrap_or_else(|| peer.subscriber.clone());
        // Its token is as good as what the snapshot knows, and there may be nothing in that yet.
        let proven = peer.subscriber.addresses.iter();
        subscriber.addresses.extend(proven);
        subscriber.addresses.sort_unstable();
        subscriber.addresses.dedup();
        let (scope, of_scope) = Self::scope(self, &subscriber, Some(peer.kind));
        reads.extend(of_scope);
        reads.sort_unstable();
        reads.dedup();
        (scope, reads)
    }

    fn answer(&self, key: &ResourceKey, scope: &Scope) -> Answer {
        Self::answer(self, key, scope)
    }
}

/// What a proxy would hold if it subscribed to `keys`: the resources with all that they refer to,
/// encoded and decoded again. `explain` decides over this, so that it sees what a proxy sees.
pub fn expand(
    source: &impl Source,
    scope: &Scope,
    keys: impl IntoIterator<Item = ResourceKey>,
) -> Vec<Change> {
    let mut expanded = BTreeMap::new();
    let mut to_visit: Vec<(ResourceKey, bool)> = keys.into_iter().map(|key| (key, false)).collect();
    while let Some((key, is_reference)) = to_visit.pop() {
        if expanded.contains_key(&key) {
            continue;
        }
        let answer = source.answer(&key, &scope.narrowed(&key, is_reference));
        let encoded = Encoded::of(answer, Arc::new);
        let references = encoded.references.iter().flat_map(|keys| keys.iter());
        to_visit.extend(references.map(|key| (ResourceKey::clone(key), true)));
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
