//! Keeping the journal: on the disk, and short. Requests do not wait for either.

use std::ops::Bound;
use std::sync::PoisonError;

use super::journal::{Mark, Next};
use super::{Inner, Key, Store, Stored};

impl Store {
    /// Brings what was written so far to the disk, notes how far it came, and compacts the journal
    /// if it has grown; with `anew` in any case, since after a failed sync nobody knows what of the
    /// file the disk has. Waits for the disk; requests do not wait for it.
    ///
    /// # Errors
    ///
    /// If the disk refuses. The objects and the journal stay as they are.
    pub(crate) fn tend(&self, anew: bool) -> std::io::Result<()> {
        let _one = self.tending.lock().unwrap_or_else(PoisonError::into_inner);
        let due = {
            let inner = self.lock();
            let enough = 2 * inner.live_bytes + self.limits.journal_slack_bytes;
            inner.journal.bytes() > enough.max(inner.compact_beyond)
        };
        if due || anew {
            let compacted = self.compact();
            let mut inner = self.lock();
            // Not compacting is no loss: the journal as it is holds everything.
            inner.compact_beyond = match &compacted {
                Ok(()) => 0,
                Err(_) => inner.journal.bytes() + self.limits.journal_slack_bytes,
            };
            drop(inner);
            match compacted {
                Err(error) if anew => return Err(error),
                Err(error) => tracing::warn!(%error, "journal not compacted"),
                Ok(()) => {}
            }
        }
        let inner = self.lock();
        let mark = Mark { revision: inner.revision, objects: inner.objects.len() };
        let sync = inner.journal.sync(mark);
        drop(inner);
        sync.run()
    }

    /// Replaces the journal by one that holds only the live objects. If it cannot, the journal stays
    /// as it was, and nothing is left beside it.
    fn compact(&self) -> std::io::Result<()> {
        let inner = self.lock();
        let (begun, revision) = (inner.journal.begin_next(), inner.revision);
        drop(inner);
        let next = begun?;
        let path = next.path();
        let compacted = self.write_compacted(next, revision);
        if compacted.is_err() {
            // It holds nothing that the journal does not; if it was renamed, it is not there.
            let _ = std::fs::remove_file(&path);
        }
        compacted
    }

    /// Writes the objects part by part, then what changed meanwhile: the lock is held for as long as
    /// a part is copied in memory.
    fn write_compacted(&self, mut next: Next, revision: u64) -> std::io::Result<()> {
        let mut last: Option<Key> = None;
        loop {
            let part = self.lock().part_after(last.as_ref());
            let Some((key, _)) = part.last() else { break };
            last = Some(key.clone());
            for (key, stored) in part {
                // What is newer stands in what is copied behind.
                if stored.revision <= revision {
                    next.live(revision, &key, &stored.object)?;
                }
            }
        }
        next.close(revision)?;
        loop {
            let length = self.lock().journal.bytes();
            if next.catch_up(length)? < CATCH_UP_BYTES {
                break;
            }
        }
        next.sync()?;
        let mut inner = self.lock();
        let length = inner.journal.bytes();
        next.catch_up(length)?;
        next.flush()?;
        inner.journal.replace(next)?;
        let directory = inner.journal.directory();
        drop(inner);
        // From here on the new file is the journal, whatever happens.
        if let Some(directory) = directory
            && let Err(error) = std::fs::File::open(directory).and_then(|open| open.sync_all())
        {
            tracing::warn!(%error, "directory of the journal not synced to disk");
        }
        Ok(())
    }
}

impl Inner {
    /// Some objects behind a key, in order.
    fn part_after(&self, last: Option<&Key>) -> Vec<(Key, Stored)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let part = self.objects.range::<Key, _>((from, Bound::Unbounded)).take(PART_OBJECTS);
        part.map(|(key, stored)| (key.clone(), stored.clone())).collect()
    }
}

/// Objects that are copied while the lock is held.
const PART_OBJECTS: usize = 256;
/// Bytes of changes that are left to be copied while requests wait.
const CATCH_UP_BYTES: u64 = 64 << 10;
