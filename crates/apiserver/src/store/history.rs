//! The last changes to the store, for watchers.

use std::collections::VecDeque;
use std::sync::Arc;

use ironmesh_model::limits::ControlLimits;

use super::Key;
use super::kept::Kept;
use crate::object::Object;

/// One change. Its objects are text until somebody asks for them: most who follow the changes want those
/// of one collection.
#[derive(Clone, Debug)]
pub struct Event {
    /// Resource version of the change.
    pub revision: u64,
    /// What happened.
    pub kind: EventKind,
    /// To which object.
    pub key: Key,
    pub(super) object: Kept,
    pub(super) old: Option<Kept>,
}

impl Event {
    /// The object after the change; of a deleted one its last state.
    #[must_use]
    pub fn object(&self) -> Arc<Object> {
        self.object.value()
    }

    /// Whether there was an object before the change.
    #[must_use]
    pub fn had_old(&self) -> bool {
        self.old.is_some()
    }

    /// The object before the change, if there was one.
    #[must_use]
    pub fn old(&self) -> Option<Arc<Object>> {
        self.old.as_ref().map(Kept::value)
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was deleted.
    Deleted,
}

/// The changes after that version are no longer kept: list again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({kept})")]
pub struct Gone {
    /// What was asked for.
    pub asked: u64,
    /// The oldest version after which all changes are kept.
    pub kept: u64,
}

/// Bounded in number and in bytes.
#[derive(Debug)]
pub(super) struct History {
    events: VecDeque<(Event, u64)>,
    bytes: u64,
    /// All changes after this version are here.
    floor: u64,
    count_max: usize,
    bytes_max: u64,
}

impl History {
    pub(super) fn new(limits: &ControlLimits) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            floor: 0,
            count_max: limits.watch_history_max,
            bytes_max: limits.watch_history_bytes_max,
        }
    }

    pub(super) fn push(&mut self, event: Event, bytes: u64) {
        self.bytes += bytes;
        self.events.push_back((event, bytes));
        // The last change is kept whatever its size, so that who has seen all others sees it.
        while self.events.len() > 1
            && (self.events.len() > self.count_max || self.bytes > self.bytes_max)
        {
            let Some((event, bytes)) = self.events.pop_front() else { break };
            self.bytes -= bytes;
            self.floor = event.revision;
        }
    }

    /// Drops everything up to `revision`.
    pub(super) fn forget(&mut self, revision: u64) {
        self.events.clear();
        self.bytes = 0;
        self.floor = revision;
    }

    pub(super) fn after(
        &self,
        revision: u64,
        current: u64,
        count: usize,
    ) -> Result<Vec<Event>, Gone> {
        if revision < self.floor || revision > current {
            return Err(Gone { asked: revision, kept: self.floor });
        }
        let start = self.events.partition_point(|(event, _)| event.revision <= revision);
        Ok(self.events.range(start..).take(count).map(|(event, _)| event.clone()).collect())
    }
}
