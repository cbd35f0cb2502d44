//! What one proxy wants, was sent and acknowledged. Pure: no IO and no time.

use std::collections::{BTreeMap, BTreeSet};

use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::{ResourceKey, Version};

use super::generation::{Encoded, Generation, Source};
use super::{Holding, Peer, ProxyStatus};
use crate::codec::Key;
use crate::messages::{Changed, Empty, State};

/// The keys of one proxy.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<ResourceKey, Entry>,
    /// How many of them are wanted.
    wanted: usize,
    /// Wanted keys that were not looked at yet.
    fresh: BTreeSet<ResourceKey>,
    /// Whether everything is to be looked at.
    stale: bool,
    /// Number of the generation that everything was looked at in last.
    seen: u64,
    in_flight: usize,
    pushed_resources: u64,
    pushed_bytes: u64,
}

/// One key.
#[derive(Debug, Default)]
struct Entry {
    /// Whether the proxy asked for it; else something that it asked for refers to it.
    wanted: bool,
    sent: Option<Version>,
    acknowledged: Option<Version>,
    error: Option<String>,
}

/// The keys and versions of one update; `None`: to be forgotten.
pub(super) type Sent = Vec<(ResourceKey, Option<Version>)>;

impl Ledger {
    /// The proxy wants a key, or only holds it. Of what it only holds no more is kept than
    /// [`ENTRIES_PER_SUBSCRIPTION_MAX`] allows for `wanted_max` keys: the rest it gets again.
    pub(super) fn subscribe(
        &mut self,
        key: ResourceKey,
        held: Option<Version>,
        only_held: bool,
        wanted_max: usize,
    ) {
        let entries_max = wanted_max.saturating_mul(ENTRIES_PER_SUBSCRIPTION_MAX);
        if only_held && self.entries.len() >= entries_max {
            return;
        }
        let entry = self.entries.entry(key.clone()).or_default();
        if held.is_some() && entry.sent.is_none() {
            entry.sent = held;
            entry.acknowledged = held;
        }
        if only_held {
            // It may not be referred to any more.
            self.stale = true;
        } else {
            self.wanted += usize::from(!std::mem::replace(&mut entry.wanted, true));
            self.fresh.insert(key);
        }
    }

    /// The proxy no longer wants a key.
    pub(super) fn unsubscribe(&mut self, key: &ResourceKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.wanted -= usize::from(std::mem::take(&mut entry.wanted));
            self.fresh.remove(key);
            self.stale = true;
        }
    }

    /// There is another snapshot.
    pub(super) fn look_again(&mut self) {
        self.stale = true;
    }

    /// How many keys the proxy asked for. What those refer to does not count: it is the
    /// configuration that says how much that is.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Whether [`Ledger::changes`] has anything to look at.
    pub(super) fn is_behind(&self) -> bool {
        self.stale || !self.fresh.is_empty()
    }

    /// What is to be sent now. From then on the proxy counts as having it.
    pub(super) fn changes<S: Source>(
        &mut self,
        generation: &Generation<S>,
        subscriber: &Subscriber,
    ) -> Vec<Changed> {
        let fresh = std::mem::take(&mut self.fresh);
        let everything = std::mem::take(&mut self.stale);
        let keys: Vec<ResourceKey> = if everything {
            let wanted = self.entries.iter().filter(|(_, entry)| entry.wanted);
            wanted.map(|(key, _)| key.clone()).collect()
        } else {
            fresh.into_iter().collect()
        };
        let mut changes = Vec::new();
        let mut reached = BTreeSet::new();
        let mut to_visit = keys;
        while let Some(key) = to_visit.pop() {
            if reached.contains(&key) {
                continue;
            }
            let encoded = generation.encoded(&key, subscriber);
            to_visit.extend(encoded.references.iter().cloned());
            changes.extend(self.changed(&key, encoded));
            reached.insert(key);
        }
        if everything {
            changes.extend(self.forget_all_but(&reached));
            self.seen = generation.number;
        }
        changes
    }

    /// An update with so many resources, of so many bytes, is on its way.
    pub(super) fn update_sent(&mut self, resources: u64, bytes: u64) {
        self.in_flight += 1;
        self.pushed_resources += resources;
        self.pushed_bytes += bytes;
    }

    /// Counts an update as applied, but for what the proxy refused.
    pub(super) fn acknowledge(&mut self, sent: Sent, errors: Vec<(ResourceKey, String, bool)>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let refused: BTreeSet<&ResourceKey> =
            errors.iter().filter(|(.., refused)| *refused).map(|(key, ..)| key).collect();
        for (key, version) in sent {
            let Some(version) = version else { continue };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.error = None;
                if !refused.contains(&key) {
                    entry.acknowledged = Some(version);
                }
            }
        }
        for (key, why, _) in errors {
            self.failed(&key, why);
        }
    }

    /// Notes that a resource cannot be used.
    pub(super) fn failed(&mut self, key: &ResourceKey, why: String) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.error = Some(why);
        }
    }

    /// See [`super::Server::holding`].
    pub(super) fn holding(&self, key: &ResourceKey) -> Option<Holding> {
        let entry = self.entries.get(key)?;
        Some(Holding { sent: entry.sent, acknowledged: entry.acknowledged })
    }

    /// See [`super::Server::proxies`].
    pub(super) fn status(&self, peer: Peer, latest: u64) -> ProxyStatus {
        let acknowledged =
            |entry: &&Entry| entry.sent.is_some() && entry.sent == entry.acknowledged;
        let acknowledged = self.entries.values().filter(acknowledged).count();
        let errors = self
            .entries
            .iter()
            .filter_map(|(key, entry)| Some((key.clone(), entry.error.clone()?)));
        ProxyStatus {
            peer,
            resources: self.entries.len(),
            acknowledged,
            pushed_resources: self.pushed_resources,
            pushed_bytes: self.pushed_bytes,
            synced: self.seen == latest
                && latest != 0
                && !self.is_behind()
                && self.in_flight == 0
                && acknowledged == self.entries.len(),
            errors: errors.collect(),
        }
    }

    /// The change to send for a key, if the proxy does not have it.
    fn changed(&mut self, key: &ResourceKey, encoded: Encoded) -> Option<Changed> {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.sent == Some(encoded.version) {
            return None;
        }
        entry.sent = Some(encoded.version);
        let state = match encoded.body {
            Some(bytes) => State::Is(bytes),
            None => State::Nothing(Empty {}),
        };
        Some(Changed { key: Some(Key::of(key)), version: encoded.version.0, state: Some(state) })
    }

    /// Drops every key that is neither wanted nor referred to.
    fn forget_all_but(&mut self, reached: &BTreeSet<ResourceKey>) -> Vec<Changed> {
        let mut forgotten = Vec::new();
        self.entries.retain(|key, entry| {
            let keep = reached.contains(key);
            if !keep && entry.sent.is_some() {
                forgotten.push(Changed {
                    key: Some(Key::of(key)),
                    version: 0,
                    state: Some(State::Forget(Empty {})),
                });
            }
            keep
        });
        forgotten
    }
}

/// Keys that a proxy may say it holds, for each that it may want.
const ENTRIES_PER_SUBSCRIPTION_MAX: usize = 8;
