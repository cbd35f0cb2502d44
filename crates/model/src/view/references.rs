//! Which resolutions refer to which resources, so that a change finds those that it concerns.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::resource::{ResolutionKey, ResourceKey};
use crate::shared_map::SharedMap;

/// References of resolutions, in both directions. Copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct References {
    of: SharedMap<ResolutionKey, Arc<[ResourceKey]>>,
    to: SharedMap<ResourceKey, SharedMap<ResolutionKey, ()>>,
}

impl References {
    /// A resolution refers to these and to nothing else.
    pub(super) fn set(&mut self, from: &ResolutionKey, to: Vec<ResourceKey>) {
        let before = self.of.get(from).cloned().unwrap_or_default();
        if *before == *to {
            return;
        }
        let (old, new): (HashSet<&ResourceKey>, HashSet<&ResourceKey>) =
            (before.iter().collect(), to.iter().collect());
        for key in old.difference(&new) {
            let mut referrers = self.to.remove(*key).unwrap_or_default();
            referrers.remove(from);
            if !referrers.is_empty() {
                self.to.insert((*key).clone(), referrers);
            }
        }
        for key in new.difference(&old) {
            let mut referrers = self.to.remove(*key).unwrap_or_default();
            referrers.insert(from.clone(), ());
            self.to.insert((*key).clone(), referrers);
        }
        match &to[..] {
            [] => self.of.remove(from),
            to => self.of.insert(from.clone(), to.into()),
        };
    }

    /// Whether nothing refers to anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.to.is_empty()
    }

    /// Whether a resolution refers to a resource.
    pub(super) fn has(&self, from: &ResolutionKey, to: &ResourceKey) -> bool {
        self.to.get(to).is_some_and(|referrers| referrers.get(from).is_some())
    }

    /// The resolutions that refer to a resource.
    pub(super) fn to(&self, key: &ResourceKey) -> impl Iterator<Item = &ResolutionKey> {
        self.to.get(key).into_iter().flat_map(SharedMap::iter).map(|(from, ())| from)
    }
}
