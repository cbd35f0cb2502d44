//! Large sets in chunks: the leaves of a trie by the bits of a hash.
//!
//! A leaf with more than [`CHUNK_MAX`] elements is split in two, and two that have no more together
//! are joined. So the chunks are a function of the set alone, however it came about, and one
//! element more or less touches one of them, and at times their list.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Elements of a chunk, at most.
pub const CHUNK_MAX: usize = 128;

/// A chunk of a set: those of its elements whose hashes begin with certain bits. The number is these
/// bits behind a 1, so that 1 is the whole set, 2 and 3 are its halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Chunk(pub u32);

impl Chunk {
    /// The one chunk of a small set.
    pub const WHOLE: Self = Self(1);

    /// The chunk that `bits` bits of the hash of an element name.
    fn of(id: &str, bits: u32) -> Self {
        let hash = twox_hash::XxHash3_64::oneshot(id.as_bytes());
        Self((1 << bits) | (hash >> 1 >> (u64::BITS - 1 - bits)) as u32)
    }

    fn bits(self) -> u32 {
        self.0.max(1).ilog2()
    }

    /// Whether an element belongs to it.
    pub(crate) fn contains(self, id: &str) -> bool {
        Self::of(id, self.bits().min(BITS_MAX)) == self
    }

    /// Every chunk that an element belongs to, if there is one so deep; the whole set first.
    pub(crate) fn all_of(id: &str) -> impl Iterator<Item = Self> {
        let deepest = Self::of(id, BITS_MAX);
        (0..=BITS_MAX).map(move |bits| Self(deepest.0 >> (BITS_MAX - bits)))
    }

    /// Its halves; `None` if it is so deep that it is not divided.
    pub(crate) fn halves(self) -> Option<[Self; 2]> {
        (self.bits() < BITS_MAX).then_some([Self(self.0 << 1), Self((self.0 << 1) | 1)])
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits() as usize {
            0 => f.write_str("all"),
            bits => write!(f, "{:0bits$b}", self.0 ^ (1 << bits)),
        }
    }
}

/// What has an id of its own in its set.
pub(crate) trait Identified {
    /// The id.
    fn id(&self) -> &str;
}

impl Identified for Arc<str> {
    fn id(&self) -> &str {
        self
    }
}

/// A set in chunks, each in order of the ids. Copies share what they have in common.
#[derive(Debug)]
pub(crate) enum Chunked<T> {
    Leaf(Arc<[T]>),
    Split { len: usize, halves: Arc<[Self; 2]> },
}

impl<T: Identified + Clone> Chunked<T> {
    /// How many elements it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Leaf(elements) => elements.len(),
            Self::Split { len, .. } => *len,
        }
    }

    /// The element with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&T> {
        let (_, elements) = self.leaf_of(id);
        Some(&elements[elements.binary_search_by(|own| own.id().cmp(id)).ok()?])
    }

    /// The chunk in which an element is, or would be, and its elements.
    pub(crate) fn leaf_of(&self, id: &str) -> (Chunk, &[T]) {
        let mut node = self;
        let mut chunks = Chunk::all_of(id);
        let mut chunk = chunks.next().unwrap_or(Chunk::WHOLE);
        while let Self::Split { halves, .. } = node {
            chunk = chunks.next().unwrap_or(chunk);
            node = &halves[(chunk.0 & 1) as usize];
        }
        match node {
            Self::Leaf(elements) => (chunk, elements),
            Self::Split { .. } => (chunk, &[]),
        }
    }

    /// Puts an element in, instead of the one with its id.
    pub(crate) fn insert(&mut self, element: T) {
        self.insert_below(Chunk::WHOLE, element);
    }

    fn insert_below(&mut self, chunk: Chunk, element: T) {
        match self {
            Self::Leaf(elements) => {
                let mut all = elements.to_vec();
                match all.binary_search_by(|own| own.id().cmp(element.id())) {
                    Ok(at) => all[at] = element,
                    Err(at) => all.insert(at, element),
                }
                *self = Self::of_sorted(chunk, all);
            }
            Self::Split { len, halves } => {
                let below = half(chunk, element.id());
                let halves = Arc::make_mut(halves);
                halves[(below.0 & 1) as usize].insert_below(below, element);
                *len = halves[0].len() + halves[1].len();
            }
        }
    }

    /// Takes out the element with this id. Returns whether there was one.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        self.get(id).is_some() && {
            self.remove_below(Chunk::WHOLE, id);
            true
        }
    }

    fn remove_below(&mut self, chunk: Chunk, id: &str) {
        match self {
            Self::Leaf(elements) => {
                *elements = elements.iter().filter(|own| own.id() != id).cloned().collect();
            }
            Self::Split { len, halves } => {
                let below = half(chunk, id);
                let halves = Arc::make_mut(halves);
                halves[(below.0 & 1) as usize].remove_below(below, id);
                *len = halves[0].len() + halves[1].len();
                if *len <= CHUNK_MAX {
                    let mut all: Vec<T> = self.iter().cloned().collect();
                    all.sort_by(|a, b| a.id().cmp(b.id()));
                    *self = Self::Leaf(all.into());
                }
            }
        }
    }

    /// A part of the set, whose elements are in order of their ids.
    fn of_sorted(chunk: Chunk, elements: Vec<T>) -> Self {
        match chunk.halves() {
            Some([zero, one]) if elements.len() > CHUNK_MAX => {
                let len = elements.len();
                let (of_zero, of_one) = elements.into_iter().partition(|e| zero.contains(e.id()));
                let halves = [Self::of_sorted(zero, of_zero), Self::of_sorted(one, of_one)];
                Self::Split { len, halves: halves.into() }
            }
            _ => Self::Leaf(elements.into()),
        }
    }

    /// The chunks that a chunk is divided into, in order; itself if it is not.
    pub(crate) fn chunks_below(&self, chunk: Chunk) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        self.below(chunk).add_chunks(chunk, &mut chunks);
        chunks
    }

    fn add_chunks(&self, chunk: Chunk, chunks: &mut Vec<Chunk>) {
        match (self, chunk.halves()) {
            (Self::Split { halves, .. }, Some([zero, one])) => {
                halves[0].add_chunks(zero, chunks);
                halves[1].add_chunks(one, chunks);
            }
            _ => chunks.push(chunk),
        }
    }

    /// The smallest part of the tree that holds all of a chunk.
    fn below(&self, chunk: Chunk) -> &Self {
        let mut node = self;
        for bit in (0..chunk.bits()).rev() {
            let Self::Split { halves, .. } = node else { break };
            node = &halves[((chunk.0 >> bit) & 1) as usize];
        }
        node
    }

    /// The elements of a chunk, be it one of this set's own or not; those of one of its own in order.
    pub(crate) fn in_chunk(&self, chunk: Chunk) -> impl Iterator<Item = &T> {
        self.below(chunk).iter().filter(move |element| chunk.contains(element.id()))
    }

    /// How many elements are in a chunk, be it one of this set's own or not.
    pub(crate) fn count_in(&self, chunk: Chunk) -> usize {
        let mut node = self;
        for bit in (0..chunk.bits()).rev() {
            match node {
                Self::Split { halves, .. } => node = &halves[((chunk.0 >> bit) & 1) as usize],
                Self::Leaf(elements) => {
                    return elements.iter().filter(|element| chunk.contains(element.id())).count();
                }
            }
        }
        node.len()
    }

    /// The elements of one of the set's own chunks; `None` if there is no such chunk.
    pub(crate) fn chunk(&self, chunk: Chunk) -> Option<&[T]> {
        let mut node = self;
        for bit in (0..chunk.bits()).rev() {
            let Self::Split { halves, .. } = node else { return None };
            node = &halves[((chunk.0 >> bit) & 1) as usize];
        }
        match node {
            Self::Leaf(elements) if chunk.0 > 0 => Some(elements),
            _ => None,
        }
    }

    /// All elements, chunk after chunk.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = &T> + '_> {
        match self {
            Self::Leaf(elements) => Box::new(elements.iter()),
            Self::Split { halves, .. } => Box::new(halves[0].iter().chain(halves[1].iter())),
        }
    }
}

/// The half of a chunk in which an element is.
fn half(chunk: Chunk, id: &str) -> Chunk {
    Chunk::of(id, chunk.bits() + 1)
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self::Leaf(Arc::new([]))
    }
}

impl<T> Clone for Chunked<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(elements) => Self::Leaf(elements.clone()),
            Self::Split { len, halves } => Self::Split { len: *len, halves: halves.clone() },
        }
    }
}

/// Bits of the hash, at most; a chunk that has so many is not divided.
const BITS_MAX: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    type Names = Chunked<Arc<str>>;

    fn name(n: usize) -> Arc<str> {
        format!("n{n}").into()
    }

    fn shape(set: &Names) -> Vec<(Chunk, Vec<Arc<str>>)> {
        let of = |chunk| (chunk, set.chunk(chunk).unwrap().to_vec());
        set.chunks_below(Chunk::WHOLE).into_iter().map(of).collect()
    }

    #[test]
    fn chunks_are_a_function_of_the_set() {
        let mut up = Names::default();
        (0..1_000).for_each(|n| up.insert(name(n)));
        let mut down = Names::default();
        (0..3_000).rev().for_each(|n| down.insert(name(n)));
        assert_eq!(down.len(), 3_000);
        for n in 1_000..3_000 {
            assert!(down.remove(&name(n)));
        }
        assert!(!down.remove("n5000"));
        assert_eq!(shape(&up), shape(&down));
        assert!(shape(&up).iter().all(|(_, names)| names.len() <= CHUNK_MAX));
        assert!(shape(&up).iter().all(|(_, names)| names.is_sorted()));
        (64..1_000).for_each(|n| assert!(up.remove(&name(n))));
        assert_eq!(up.chunks_below(Chunk::WHOLE), [Chunk::WHOLE]);
    }

    #[test]
    fn one_element_more_touches_one_chunk() {
        let mut set = Names::default();
        (0..5_000).for_each(|n| set.insert(name(n)));
        let before = shape(&set);
        for n in 5_000..5_050 {
            let mut more = set.clone();
            more.insert(name(n));
            let (chunk, _) = set.leaf_of(&name(n));
            let other = |(own, _): &&(Chunk, _)| *own != chunk;
            let rest: Vec<_> = before.iter().filter(other).cloned().collect();
            let split = more.chunks_below(chunk);
            let of_more = shape(&more).into_iter().filter(|(own, _)| !split.contains(own));
            assert_eq!(of_more.collect::<Vec<_>>(), rest);
        }
        assert_eq!(shape(&set), before, "a copy stays as it is");
    }

    #[test]
    fn a_chunk_of_another_set_has_the_elements_that_belong_to_it() {
        let mut set = Names::default();
        (0..500).for_each(|n| set.insert(name(n)));
        for chunk in [Chunk::WHOLE, Chunk(2), Chunk(3), Chunk(9), Chunk(200)] {
            let found: Vec<_> = set.in_chunk(chunk).cloned().collect();
            let belong = set.iter().filter(|n| chunk.contains(n)).count();
            assert_eq!((found.len(), set.count_in(chunk)), (belong, belong), "{chunk}");
        }
        assert_eq!(set.chunk(Chunk(0)), None);
        assert_eq!(set.chunk(Chunk(u32::MAX)), None);
    }

    #[test]
    fn chunks_are_shown_by_their_bits() {
        let texts = [1, 2, 3, 5].map(|n| Chunk(n).to_string());
        assert_eq!(texts, ["all", "0", "1", "01"]);
    }
}
