//! The parts of long answers. Many clients get the same, and some do not read: what waits for them
//! is kept once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use twox_hash::XxHash3_64;

/// Parts that wait for clients.
#[derive(Debug, Default)]
pub(crate) struct Parts(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    by_hash: HashMap<u64, Weak<Vec<u8>>>,
    /// How many there may be before those that nobody waits for are looked for.
    sweep_beyond: usize,
}

/// Bytes that others may hold, too.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Parts {
    /// A part of an answer; shares the memory of an equal one that waits for another client.
    pub(crate) fn part(&self, bytes: Vec<u8>) -> Bytes {
        if bytes.len() < SHARED_BYTES_MIN {
            return Bytes::from(bytes);
        }
        let hash = XxHash3_64::oneshot(&bytes);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(equal) = waiting.by_hash.get(&hash).and_then(Weak::upgrade)
            && *equal == bytes
        {
            return Bytes::from_owner(Shared(equal));
        }
        if waiting.by_hash.len() >= waiting.sweep_beyond {
            waiting.by_hash.retain(|_, part| part.strong_count() > 0);
            waiting.sweep_beyond = 2 * waiting.by_hash.len().max(SWEEP_MIN);
        }
        let part = Arc::new(bytes);
        waiting.by_hash.insert(hash, Arc::downgrade(&part));
        Bytes::from_owner(Shared(part))
    }
}

/// Bytes after which a part is sent; one object may be longer.
pub(crate) const PART_BYTES: usize = 32 << 10;
/// Shorter parts are not worth looking for equal ones.
const SHARED_BYTES_MIN: usize = 4 << 10;
/// Fewer parts are not worth sweeping.
const SWEEP_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parts_are_kept_once_and_not_longer_than_they_wait() {
        let parts = Parts::default();
        let (one, other) = (parts.part(vec![1; 10_000]), parts.part(vec![1; 10_000]));
        assert_eq!(one.as_ptr(), other.as_ptr());
        assert_ne!(parts.part(vec![2; 10_000]), one);
        for number in 0..1_000u32 {
            parts.part(number.to_le_bytes().repeat(2_000));
        }
        assert!(parts.0.lock().unwrap().by_hash.len() < 200);
        assert_eq!(one, parts.part(vec![1; 10_000]));
    }
}
