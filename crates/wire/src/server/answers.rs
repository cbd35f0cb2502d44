//! The answers that proxies hold: each made once for all who ask alike, and made again when a change
//! touches what it was made from. From a change to those whom it concerns it goes by indexes alone:
//! cells, answers that read them, proxies that hold these.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use ironmesh_model::snapshot::{Answer, Cell, Readers, Scope, Touched};
use ironmesh_model::{ResourceKey, Version};
use smallvec::SmallVec;

use super::source::Source;
use super::{Proxy, Work};
use crate::codec;

/// All answers that somebody holds.
#[derive(Debug)]
pub(super) struct Answers<S> {
    source: Option<Arc<S>>,
    /// Mostly there is one scope in which a key is asked for.
    by_key: HashMap<Key, SmallVec<[AnswerId; 2]>>,
    answers: HashMap<AnswerId, Box<Kept>>,
    proxies: HashMap<ProxyId, Arc<Proxy>>,
    readers: Readers<Reader>,
    last_id: u32,
    work: Work,
}

/// A key, shared by an answer and all who hold it.
pub(super) type Key = Arc<ResourceKey>;

/// The keys that an answer refers to; none if there are none. (One word, since everyone who holds the
/// answer has it, too.)
pub(super) type References = Option<Arc<Vec<Key>>>;

/// Which answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AnswerId(NonZeroU32);

/// Which connection of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ProxyId(NonZeroU32);

/// What depends on cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Reader {
    /// The scope of a proxy.
    Scope(ProxyId),
    Answer(AnswerId),
}

/// An answer that somebody holds.
#[derive(Debug)]
struct Kept {
    key: Key,
    scope: Scope,
    encoded: Encoded,
    holders: HashSet<ProxyId>,
}

/// An answer, encoded.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub(super) version: Version,
    /// `None`: there is nothing.
    pub(super) body: Option<Bytes>,
    pub(super) references: References,
}

impl Encoded {
    /// Encodes an answer; `share` gives the keys that it refers to.
    pub(super) fn of(answer: Answer, share: impl Fn(ResourceKey) -> Key) -> Self {
        let references: Vec<Key> = answer.references.into_iter().map(share).collect();
        let references = (!references.is_empty()).then(|| Arc::new(references));
        match answer.resource {
            None => Self { version: codec::nothing(), body: None, references },
            Some(resource) => {
                let body = codec::encode(&resource);
                Self { version: Version::of(&body), body: Some(body), references }
            }
        }
    }
}

impl<S> Default for Answers<S> {
    fn default() -> Self {
        Self {
            source: None,
            by_key: HashMap::new(),
            answers: HashMap::new(),
            proxies: HashMap::new(),
            readers: Readers::default(),
            last_id: 0,
            work: Work::default(),
        }
    }
}

impl<S: Source> Answers<S> {
    /// Takes the next snapshot, and tells the proxies that hold something that is another now.
    pub(super) fn publish(&mut self, source: Arc<S>, touched: &Touched) {
        let is_first = self.source.is_none();
        self.source = Some(source.clone());
        for reader in self.readers.of(touched) {
            match reader {
                Reader::Answer(id) => self.look_again(&source, id),
                Reader::Scope(id) => self.find_scope(&source, id),
            }
        }
        if is_first {
            let proxies: Vec<ProxyId> = self.proxies.keys().copied().collect();
            for id in proxies {
                self.find_scope(&source, id);
            }
        }
    }

    /// How many answers somebody holds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    /// What was done so far.
    pub(super) fn work(&mut self) -> &mut Work {
        &mut self.work
    }

    fn look_again(&mut self, source: &Arc<S>, id: AnswerId) {
        let Some(kept) = self.answers.get_mut(&id) else { return };
        let (encoded, reads) = make(&mut self.work, &self.by_key, source, &kept.key, &kept.scope);
        self.readers.set(Reader::Answer(id), reads);
        let before = &kept.encoded;
        if before.version == encoded.version && before.references == encoded.references {
            return;
        }
        kept.encoded = encoded;
        for holder in &kept.holders {
            if let Some(proxy) = self.proxies.get(holder) {
                proxy.ledger().look_at(kept.key.clone());
                proxy.changed.notify_one();
            }
        }
    }

    fn find_scope(&mut self, source: &Arc<S>, id: ProxyId) {
        let Some(proxy) = self.proxies.get(&id) else { return };
        let (scope, reads) = source.scope(&proxy.peer);
        self.readers.set(Reader::Scope(id), reads);
        if proxy.ledger().enter(scope) {
            proxy.changed.notify_one();
        }
    }

    /// A proxy connected. Only from then on is it told of changes.
    pub(super) fn connect(&mut self, proxy: impl FnOnce(ProxyId) -> Arc<Proxy>) -> Arc<Proxy> {
        let id = ProxyId(self.next_id());
        let proxy = proxy(id);
        self.proxies.insert(id, proxy.clone());
        if let Some(source) = self.source.clone() {
            self.find_scope(&source, id);
        }
        proxy
    }

    /// A proxy is gone; it held these.
    pub(super) fn disconnect(&mut self, id: ProxyId, held: impl IntoIterator<Item = AnswerId>) {
        self.proxies.remove(&id);
        self.readers.remove(Reader::Scope(id));
        for answer in held {
            self.release(answer, id);
        }
    }

    /// The answer to a key in a scope, which the proxy holds from now on; `None` before the first
    /// snapshot.
    pub(super) fn hold(
        &mut self,
        key: &Key,
        scope: Scope,
        holder: ProxyId,
    ) -> Option<(AnswerId, Key, Encoded)> {
        let source = self.source.clone()?;
        let same_key = self.by_key.get(key).into_iter().flatten();
        for id in same_key {
            if let Some(kept) = self.answers.get_mut(id)
                && kept.scope == scope
            {
                kept.holders.insert(holder);
                return Some((*id, kept.key.clone(), kept.encoded.clone()));
            }
        }
        let id = AnswerId(self.next_id());
        let (encoded, reads) = make(&mut self.work, &self.by_key, &source, key, &scope);
        self.readers.set(Reader::Answer(id), reads);
        let key = shared(&self.by_key, key.clone());
        self.by_key.entry(key.clone()).or_default().push(id);
        let holders = HashSet::from_iter([holder]);
        let kept = Kept { key: key.clone(), scope, encoded: encoded.clone(), holders };
        self.answers.insert(id, Box::new(kept));
        Some((id, key, encoded))
    }

    /// A proxy no longer holds an answer. What nobody holds is forgotten.
    pub(super) fn release(&mut self, id: AnswerId, holder: ProxyId) {
        let Some(kept) = self.answers.get_mut(&id) else { return };
        kept.holders.remove(&holder);
        if kept.holders.is_empty()
            && let Some(kept) = self.answers.remove(&id)
        {
            if let Some(same_key) = self.by_key.get_mut(&kept.key) {
                same_key.retain(|own| *own != id);
                if same_key.is_empty() {
                    self.by_key.remove(&kept.key);
                }
            }
            self.readers.remove(Reader::Answer(id));
        }
    }

    /// A number that neither an answer nor a proxy has.
    fn next_id(&mut self) -> NonZeroU32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let is_free = |id: &NonZeroU32| {
                !self.answers.contains_key(&AnswerId(*id))
                    && !self.proxies.contains_key(&ProxyId(*id))
            };
            if let Some(id) = NonZeroU32::new(self.last_id).filter(is_free) {
                return id;
            }
        }
    }
}

/// The key that answers have already which is equal to this one, or else it.
fn shared(by_key: &HashMap<Key, SmallVec<[AnswerId; 2]>>, key: Key) -> Key {
    by_key.get_key_value(&key).map_or(key, |(shared, _)| shared.clone())
}

fn make<S: Source>(
    work: &mut Work,
    by_key: &HashMap<Key, SmallVec<[AnswerId; 2]>>,
    source: &Arc<S>,
    key: &ResourceKey,
    scope: &Scope,
) -> (Encoded, Vec<Cell>) {
    let answer = source.answer(key, scope);
    work.queries += u64::from(is_query(key));
    work.encodings += u64::from(answer.resource.is_some());
    let reads = answer.reads.clone();
    (Encoded::of(answer, |key| shared(by_key, Arc::new(key))), reads)
}

/// Whether what is under a key is found by a question over the objects. The others are made from one
/// object each, or from one chunk of a set.
fn is_query(key: &ResourceKey) -> bool {
    match key {
        ResourceKey::Resolution(_) | ResourceKey::Listeners | ResourceKey::Domains(..) => true,
        ResourceKey::Settings
        | ResourceKey::Route(_)
        | ResourceKey::Service(_)
        | ResourceKey::Policy(_)
        | ResourceKey::Workload(_)
        | ResourceKey::Endpoints(..) => false,
    }
}
