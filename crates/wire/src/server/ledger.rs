//! What one proxy wants, was sent and acknowledged. No IO and no time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use ironmesh_model::snapshot::Scope;
use ironmesh_model::{ResourceKey, Version};

use super::answers::{AnswerId, Answers, Encoded, Key, ProxyId, References};
use super::source::Source;
use super::{Holding, Peer, ProxyError, ProxyStatus};
use crate::codec::{self, key_bytes};
use crate::messages::{Changed, Empty, State};

/// The keys of one proxy.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// In which it asks; `None` before the first snapshot.
    scope: Option<Scope>,
    /// By keys that all who hold an answer share with it.
    entries: HashMap<Key, Entry>,
    /// How many of them are wanted.
    wanted: usize,
    /// What the proxy cannot use, and why.
    errors: BTreeMap<Key, Box<str>>,
    /// Keys to be looked at: newly wanted, no longer wanted, or with another answer.
    to_look_at: BTreeSet<Key>,
    /// Keys that are not understood, why, and whether the proxy was told.
    not_understood: BTreeMap<Bytes, (String, bool)>,
    /// Keys that the proxy may not ask for, as it was told, and why.
    refused: BTreeMap<Key, &'static str>,
    in_flight: usize,
    pushed_resources: u64,
    pushed_bytes: u64,
}

/// A change to send.
#[derive(Clone, Debug)]
pub(super) struct ToSend {
    /// `None`: a key that is not understood.
    pub(super) key: Option<Key>,
    pub(super) message: Changed,
}

/// One key. There are as many as all proxies together hold, so that each byte counts.
#[derive(Debug, Default)]
struct Entry {
    /// What the answer refers to.
    references: References,
    /// Counts if `is_sent`.
    sent: Version,
    /// Counts if `is_acknowledged`.
    acknowledged: Version,
    answer: Option<AnswerId>,
    /// How many answers that it has refer to it.
    referred: u32,
    /// Whether the proxy asked for it.
    wanted: bool,
    is_sent: bool,
    is_acknowledged: bool,
}

/// The keys and versions of one update; `None`: to be forgotten.
pub(super) type Sent = Vec<(Key, Option<Version>)>;

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
        let key = Arc::new(key);
        let entry = self.entries.entry(key.clone()).or_default();
        if let Some(held) = held
            && !entry.is_sent
        {
            (entry.sent, entry.is_sent) = (held, true);
            (entry.acknowledged, entry.is_acknowledged) = (held, true);
        }
        if !only_held {
            self.wanted += usize::from(!std::mem::replace(&mut entry.wanted, true));
        }
        self.to_look_at.insert(key);
    }

    /// The proxy no longer wants a key.
    pub(super) fn unsubscribe(&mut self, key: &ResourceKey) {
        if let Some((key, _)) = self.entries.get_key_value(key) {
            self.to_look_at.insert(key.clone());
        }
        if let Some(entry) = self.entries.get_mut(key) {
            self.wanted -= usize::from(std::mem::take(&mut entry.wanted));
        }
    }

    /// The proxy wants a key that is not understood. It counts as one that is wanted.
    pub(super) fn note_not_understood(&mut self, key: Bytes, why: String) {
        self.not_understood.entry(key).or_insert((why, false));
    }

    /// The proxy no longer wants a key that is not understood.
    pub(super) fn forget_not_understood(&mut self, key: &Bytes) {
        self.not_understood.remove(key);
    }

    /// The proxy asks in this scope from now on. Returns whether that is another one.
    pub(super) fn enter(&mut self, scope: Scope) -> bool {
        if self.scope.as_ref() == Some(&scope) {
            return false;
        }
        self.scope = Some(scope);
        self.to_look_at.extend(self.entries.keys().cloned());
        true
    }

    /// A key has another answer.
    pub(super) fn look_at(&mut self, key: Key) {
        self.to_look_at.insert(key);
    }

    /// How many keys the proxy asked for. What those refer to does not count: it is the
    /// configuration that says how much that is.
    pub(super) fn wanted(&self) -> usize {
        self.wanted + self.not_understood.len()
    }

    /// Whether [`Ledger::changes`] has anything to look at, and can.
    pub(super) fn is_behind(&self) -> bool {
        let to_tell = || self.not_understood.values().any(|(_, told)| !told);
        (self.scope.is_some() && !self.to_look_at.is_empty()) || to_tell()
    }

    /// What is to be sent now. From then on the proxy counts as having it.
    pub(super) fn changes<S: Source>(
        &mut self,
        answers: &mut Answers<S>,
        own: ProxyId,
    ) -> Vec<ToSend> {
        let mut changes = self.refusals();
        let Some(scope) = self.scope.clone() else { return changes };
        let mut to_visit: Vec<Key> = std::mem::take(&mut self.to_look_at).into_iter().collect();
        // What nothing may need any more; others of this update may turn out to need it.
        let mut doubtful: Vec<Key> = Vec::new();
        let mut visited = HashSet::new();
        while let Some(key) = to_visit.pop() {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if !entry.is_needed() {
                doubtful.push(key);
                continue;
            }
            if !visited.insert(key.clone()) {
                continue;
            }
            let is_reference = entry.referred > 0;
            if let Some(why) = scope.refusal(&key).filter(|_| !is_reference) {
                changes.extend(entry.refused(&key, why, &mut self.refused));
                entry.answer.take().into_iter().for_each(|before| answers.release(before, own));
                let had = entry.references.take();
                self.refer(&had, &None, &mut to_visit);
                continue;
            }
            self.refused.remove(&key);
            let scope = scope.narrowed(&key, is_reference);
            let Some((answer, shared, encoded)) = answers.hold(&key, scope, own) else { continue };
            let before = entry.answer.replace(answer);
            let had = std::mem::replace(&mut entry.references, encoded.references.clone());
            changes.extend(entry.changed(&shared, &encoded));
            if before != Some(answer) {
                before.into_iter().for_each(|before| answers.release(before, own));
                self.share(shared);
            }
            self.refer(&had, &encoded.references, &mut to_visit);
        }
        while let Some(key) = doubtful.pop() {
            self.forget(key, &mut doubtful, &mut changes, |answer| answers.release(answer, own));
        }
        changes
    }

    /// What is to be said about keys that are not understood.
    fn refusals(&mut self) -> Vec<ToSend> {
        let untold = self.not_understood.iter_mut().filter(|(_, (_, told))| !told);
        let refusal = |(key, (why, told)): (&Bytes, &mut (String, bool))| {
            *told = true;
            let state = Some(State::Refused(why.clone()));
            ToSend { key: None, message: Changed { key: key.clone(), version: 0, state } }
        };
        untold.map(refusal).collect()
    }

    /// Keeps an entry under the key of its answer.
    fn share(&mut self, key: Key) {
        if let Some((own, entry)) = self.entries.remove_entry(&key) {
            self.errors.remove(&own).map(|why| self.errors.insert(key.clone(), why));
            self.entries.insert(key, entry);
        }
    }

    /// An answer refers to `after`, and no longer to `before`.
    fn refer(&mut self, before: &References, after: &References, to_visit: &mut Vec<Key>) {
        if before == after {
            return;
        }
        let set = |references: &References| -> HashSet<Key> {
            references.iter().flat_map(|keys| keys.iter().cloned()).collect()
        };
        let (old, new) = (set(before), set(after));
        for key in new.difference(&old) {
            self.entries.entry(key.clone()).or_default().referred += 1;
            to_visit.push(key.clone());
        }
        for key in old.difference(&new) {
            self.let_go(key);
            to_visit.push(key.clone());
        }
    }

    /// One reference to a key less.
    fn let_go(&mut self, key: &ResourceKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.referred = entry.referred.saturating_sub(1);
        }
    }

    /// Drops a key that is neither wanted nor referred to, and what only it referred to.
    fn forget(
        &mut self,
        key: Key,
        doubtful: &mut Vec<Key>,
        changes: &mut Vec<ToSend>,
        release: impl FnOnce(AnswerId),
    ) {
        if self.entries.get(&key).is_none_or(Entry::is_needed) {
            return;
        }
        let Some(entry) = self.entries.remove(&key) else { return };
        self.errors.remove(&key);
        self.refused.remove(&key);
        for reference in entry.references.iter().flat_map(|keys| keys.iter()) {
            self.let_go(reference);
            doubtful.push(reference.clone());
        }
        if let Some(answer) = entry.answer {
            release(answer);
        }
        if entry.is_sent {
            let state = Some(State::Forget(Empty {}));
            let message = Changed { key: key_bytes(&key), version: 0, state };
            changes.push(ToSend { key: Some(key), message });
        }
    }

    /// The answers that it holds.
    pub(super) fn answers(&self) -> Vec<AnswerId> {
        self.entries.values().filter_map(|entry| entry.answer).collect()
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
            self.errors.remove(&key);
            if let Some(entry) = self.entries.get_mut(&key)
                && !refused.contains(&*key)
            {
                (entry.acknowledged, entry.is_acknowledged) = (version, true);
            }
        }
        for (key, why, _) in errors {
            self.failed(&key, why);
        }
    }

    /// Notes that a resource cannot be used.
    pub(super) fn failed(&mut self, key: &ResourceKey, why: String) {
        if let Some((key, _)) = self.entries.get_key_value(key) {
            self.errors.insert(key.clone(), why.into());
        }
    }

    /// See [`super::Server::holding`].
    pub(super) fn holding(&self, key: &ResourceKey) -> Option<Holding> {
        let entry = self.entries.get(key)?;
        Some(Holding {
            sent: entry.is_sent.then_some(entry.sent),
            acknowledged: entry.is_acknowledged.then_some(entry.acknowledged),
        })
    }

    /// See [`super::Server::proxies`].
    pub(super) fn status(&self, peer: Peer) -> ProxyStatus {
        let acknowledged = |entry: &&Entry| {
            entry.is_sent && entry.is_acknowledged && entry.sent == entry.acknowledged
        };
        let acknowledged = self.entries.values().filter(acknowledged).count();
        let of_keys = self.errors.iter().map(|(key, why)| {
            let (what, why) = (key.to_string(), why.to_string());
            ProxyError { what, why, is_refused_here: false }
        });
        let refused = self.refused.iter().map(|(key, why)| {
            let (what, why) = (key.to_string(), (*why).to_owned());
            ProxyError { what, why, is_refused_here: true }
        });
        let not_understood = self.not_understood.iter().map(|(key, (why, _))| {
            let digits: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            let what = format!("a key that begins with {digits}");
            ProxyError { what, why: why.clone(), is_refused_here: true }
        });
        ProxyStatus {
            peer,
            resources: self.entries.len(),
            acknowledged,
            pushed_resources: self.pushed_resources,
            pushed_bytes: self.pushed_bytes,
            synced: self.scope.is_some()
                && self.to_look_at.is_empty()
                && self.in_flight == 0
                && acknowledged == self.entries.len(),
            errors: of_keys.chain(refused).chain(not_understood).collect(),
        }
    }
}

impl Entry {
    fn is_needed(&self) -> bool {
        self.wanted || self.referred > 0
    }

    /// The change to send for its key, which the proxy may not ask for, if it was not told so.
    fn refused(
        &mut self,
        key: &Key,
        why: &'static str,
        told: &mut BTreeMap<Key, &'static str>,
    ) -> Option<ToSend> {
        if told.insert(key.clone(), why) == Some(why) {
            return None;
        }
        // The proxy then holds that nothing is there.
        (self.sent, self.is_sent) = (codec::nothing(), true);
        let (version, state) = (self.sent.0, Some(State::Refused(why.to_owned())));
        let message = Changed { key: key_bytes(key), version, state };
        Some(ToSend { key: Some(key.clone()), message })
    }

    /// The change to send for its key, if the proxy does not have it.
    fn changed(&mut self, key: &Key, encoded: &Encoded) -> Option<ToSend> {
        if self.is_sent && self.sent == encoded.version {
            return None;
        }
        (self.sent, self.is_sent) = (encoded.version, true);
        let state = match &encoded.body {
            Some(bytes) => State::Is(bytes.clone()),
            None => State::Nothing(Empty {}),
        };
        let version = encoded.version.0;
        let message = Changed { key: key_bytes(key), version, state: Some(state) };
        Some(ToSend { key: Some(key.clone()), message })
    }
}

/// Keys that a proxy may say it holds, for each that it may want.
const ENTRIES_PER_SUBSCRIPTION_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two thousand proxies with a hundred keys each have as many entries as this is large in units of
    /// 200 kB.
    #[test]
    fn a_key_of_a_proxy_costs_few_bytes() {
        assert!(size_of::<(Key, Entry)>() <= 48, "{}", size_of::<(Key, Entry)>());
    }

    #[test]
    fn who_holds_an_answer_shares_its_key() {
        let key = || ResourceKey::Workload([10, 77, 0, 1].into());
        let mut ledger = Ledger::default();
        ledger.subscribe(key(), None, false, 10);
        ledger.failed(&key(), "why".to_owned());
        let shared = Arc::new(key());
        ledger.share(shared.clone());
        let (own, entry) = ledger.entries.get_key_value(&key()).unwrap();
        assert!(Arc::ptr_eq(own, &shared) && entry.wanted);
        assert!(ledger.errors.keys().all(|own| Arc::ptr_eq(own, &shared)));
        assert_eq!(ledger.errors.len(), 1);
    }
}
