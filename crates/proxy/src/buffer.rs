//! Byte buffers: lent by the worker to connections that have something to read or write, so that an
//! idle connection holds none.

use std::cell::{Cell, RefCell};

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of one buffer. Reading large bodies needs fewer calls with more (see the measurements in
/// `bench/`); pages that are never touched cost nothing.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;

/// Room below which a buffer is made larger before it is read into.
const ROOM_MIN: usize = 4 << 10;

/// Buffers that one worker keeps for the next connection; more are given back to the allocator.
const SPARE_MAX: usize = 64;

/// Bytes that were read and not yet consumed.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: BytesMut,
}

impl Buffer {
    /// A buffer that begins with bytes which were already read.
    pub(crate) fn with(bytes: BytesMut) -> Self {
        Self { bytes }
    }

    /// What is not consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes bytes off the front, without copying them.
    pub(crate) fn take(&mut self, count: usize) -> Bytes {
        self.bytes.split_to(count.min(self.bytes.len())).freeze()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Consumes bytes from the front; more than there are consume all.
    pub(crate) fn consume(&mut self, count: usize) {
        self.bytes.advance(count.min(self.bytes.len()));
    }

    /// Whether something must be consumed before more is read.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= BUFFER_BYTES
    }

    /// The bytes to read behind, with room.
    pub(crate) fn room(&mut self, spare: &Buffers) -> &mut BytesMut {
        if self.bytes.is_empty() {
            // Its own memory from the front, unless it has none or some of it is still on its way.
            if !self.bytes.try_reclaim(BUFFER_BYTES) {
                self.bytes = spare.take();
            }
        } else if self.bytes.capacity() - self.bytes.len() < ROOM_MIN {
            self.bytes.reserve(BUFFER_BYTES);
        }
        &mut self.bytes
    }

    /// Whether there is room left to read into without moving or making memory.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes.capacity() - self.bytes.len() >= ROOM_MIN
    }

    /// Gives the memory back if nothing is unread.
    pub(crate) fn rest(&mut self, spare: &Buffers) {
        if self.bytes.is_empty() {
            spare.give(std::mem::take(&mut self.bytes));
        }
    }
}

/// The spare buffers of one worker, last used first, as those are in the cache.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: RefCell<Vec<BytesMut>>,
    /// The fewest that there were since [`Buffers::shrink`] was called last: these nobody needed.
    unneeded: Cell<usize>,
}

impl Buffers {
    /// An empty buffer of [`BUFFER_BYTES`].
    pub(crate) fn take(&self) -> BytesMut {
        let mut spare = self.spare.borrow_mut();
        let taken = spare.pop();
        self.unneeded.set(self.unneeded.get().min(spare.len()));
        taken.unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back. One of another size is dropped, and so is one of which a part is still
    /// on its way.
    pub(crate) fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        let whole = buffer.try_reclaim(BUFFER_BYTES) && buffer.capacity() <= 2 * BUFFER_BYTES;
        let mut spare = self.spare.borrow_mut();
        if whole && spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }

    /// Gives those back to the allocator that nobody needed since the last call.
    pub(crate) fn shrink(&self) {
        let mut spare = self.spare.borrow_mut();
        let unneeded = self.unneeded.get().min(spare.len());
        // Those at the front were used the longest time ago.
        drop(spare.drain(..unneeded));
        self.unneeded.set(spare.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_nobody_needs_are_given_back() {
        let buffers = Buffers::default();
        let many: Vec<BytesMut> = (0..8).map(|_| buffers.take()).collect();
        many.into_iter().for_each(|buffer| buffers.give(buffer));
        let count = || buffers.spare.borrow().len();
        buffers.shrink();
        assert_eq!(count(), 8, "they were needed until now");
        let two = [buffers.take(), buffers.take()];
        two.into_iter().for_each(|buffer| buffers.give(buffer));
        buffers.shrink();
        assert_eq!(count(), 2);
        buffers.shrink();
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_buffer_that_was_read_full_is_used_again() {
        let spare = Buffers::default();
        let mut buffer = Buffer::default();
        let room = buffer.room(&spare);
        room.resize(BUFFER_BYTES, 1);
        let memory = room.as_ptr();
        assert!(!buffer.has_room());
        buffer.consume(BUFFER_BYTES);
        assert_eq!(buffer.room(&spare).as_ptr(), memory);

        // As what is passed on, too, once it has arrived.
        buffer.room(&spare).resize(BUFFER_BYTES, 2);
        let passed_on = buffer.take(BUFFER_BYTES);
        assert_ne!(buffer.room(&spare).as_ptr(), memory);
        drop(passed_on);
        buffer.rest(&spare);
        assert_eq!(spare.spare.borrow().len(), 1);
        assert!(spare.take().capacity() >= BUFFER_BYTES);
    }
}
