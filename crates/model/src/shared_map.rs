//! A hash map whose copies share what they have in common, so that a value which never changes can
//! be followed by one that differs in a few entries, at a cost that does not grow with the map.
//!
//! A trie of 16 branches by the bits of the hash. A change copies the leaf and the branches above
//! it, unless nobody else holds them.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, Equivalent};

/// The map. Cloning it costs as much as cloning an [`Arc`].
pub(crate) struct SharedMap<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
    hasher: DefaultHashBuilder,
}

enum Node<K, V> {
    Leaf(Vec<Slot<K, V>>),
    Branch(Box<[Arc<Self>; WIDTH]>),
}

#[derive(Clone)]
struct Slot<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    /// The value under a key.
    pub(crate) fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let mut node = &*self.root;
        let mut depth = 0;
        loop {
            match node {
                Node::Branch(below) => node = &below[branch(hash, depth)],
                Node::Leaf(slots) => {
                    let mut slots = slots.iter();
                    let slot = slots.find(|s| s.hash == hash && key.equivalent(&s.key))?;
                    return Some(&slot.value);
                }
            }
            depth += 1;
        }
    }

    /// Puts a value under a key. Returns the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(&key);
        let slots = leaf_mut(&mut self.root, hash, true);
        if let Some(slot) = slots.iter_mut().find(|s| s.hash == hash && s.key == key) {
            return Some(std::mem::replace(&mut slot.value, value));
        }
        slots.push(Slot { hash, key, value });
        self.len += 1;
        None
    }

    /// Takes a key out. Returns its value.
    pub(crate) fn remove<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<V> {
        // What is not there costs no copy.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let slots = leaf_mut(&mut self.root, hash, false);
        let at = slots.iter().position(|s| s.hash == hash && key.equivalent(&s.key))?;
        self.len -= 1;
        let value = slots.swap_remove(at).value;
        if self.len == 0 {
            *self = Self::default();
        }
        Some(value)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut to_visit = vec![&*self.root];
        let leaves = std::iter::from_fn(move || {
            loop {
                match to_visit.pop()? {
                    Node::Leaf(slots) => return Some(slots),
                    Node::Branch(below) => to_visit.extend(below.iter().map(|node| &**node)),
                }
            }
        });
        leaves.flatten().map(|slot| (&slot.key, &slot.value))
    }

    /// The values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

/// The leaf where a hash belongs, ready to be changed. A full one is split first if one more is to
/// go in.
fn leaf_mut<K: Clone, V: Clone>(
    root: &mut Arc<Node<K, V>>,
    hash: u64,
    grows: bool,
) -> &mut Vec<Slot<K, V>> {
    let mut node = Arc::make_mut(root);
    let mut depth = 0;
    loop {
        if let Node::Leaf(slots) = node
            && grows
            && slots.len() >= LEAF_MAX
            && depth < DEPTH_MAX
        {
            let slots = std::mem::take(slots);
            *node = Node::split(slots, depth);
        }
        match node {
            Node::Leaf(slots) => return slots,
            Node::Branch(below) => node = Arc::make_mut(&mut below[branch(hash, depth)]),
        }
        depth += 1;
    }
}

/// The branch that a hash takes at a depth.
fn branch(hash: u64, depth: u32) -> usize {
    (hash >> (depth * BITS)) as usize % WIDTH
}

impl<K: Clone, V: Clone> Node<K, V> {
    fn split(slots: Vec<Slot<K, V>>, depth: u32) -> Self {
        let mut below: [Vec<Slot<K, V>>; WIDTH] = std::array::from_fn(|_| Vec::new());
        for slot in slots {
            below[branch(slot.hash, depth)].push(slot);
        }
        Self::Branch(Box::new(below.map(|slots| Arc::new(Self::Leaf(slots)))))
    }
}

impl<K: Clone, V: Clone> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(slots) => Self::Leaf(slots.clone()),
            Self::Branch(below) => Self::Branch(below.clone()),
        }
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len, hasher: self.hasher.clone() }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        let root = Arc::new(Node::Leaf(Vec::new()));
        Self { root, len: 0, hasher: DefaultHashBuilder::default() }
    }
}

impl<K, V> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMap").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Bits of the hash that choose a branch.
const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;
/// Deepest level; below it all bits of the hash are equal.
const DEPTH_MAX: u32 = u64::BITS / BITS;
/// Entries of a leaf above which it is split.
const LEAF_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It holds what a map of the standard library holds, and copies stay as they were.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0u16..600), 0..2_000)) {
            let mut shared = SharedMap::default();
            let mut plain = HashMap::new();
            let mut earlier = Vec::new();
            for (at, (is_insert, key)) in steps.into_iter().enumerate() {
                if is_insert {
                    prop_assert_eq!(shared.insert(key, at), plain.insert(key, at));
                } else {
                    prop_assert_eq!(shared.remove(&key), plain.remove(&key));
                }
                if at % 500 == 0 {
                    earlier.push((shared.clone(), plain.clone()));
                }
            }
            earlier.push((shared, plain));
            for (shared, plain) in earlier {
                prop_assert_eq!(shared.iter().count(), plain.len());
                let all: HashMap<u16, usize> = shared.iter().map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(&all, &plain);
                for key in 0..600 {
                    prop_assert_eq!(shared.get(&key), plain.get(&key));
                }
            }
        }
    }

    /// Hashes alike in all bits, so that the trie ends.
    #[derive(Clone, PartialEq, Eq, Debug)]
    struct Alike(u32);

    impl Hash for Alike {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            0u8.hash(state);
        }
    }

    #[test]
    fn equal_hashes_are_told_apart() {
        let mut map = SharedMap::default();
        for n in 0..50 {
            assert_eq!(map.insert(Alike(n), n), None);
        }
        assert!((0..50).all(|n| map.get(&Alike(n)) == Some(&n)));
        assert!((0..50).all(|n| map.remove(&Alike(n)) == Some(n)));
        assert!(map.is_empty());
    }
}
