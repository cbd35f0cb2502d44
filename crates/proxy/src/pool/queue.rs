//! Requests that wait for a connection, and the connections that the limits of groups count.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use ironmesh_model::Reason;
use ironmesh_model::group::{Group, OpenConnection};
use tokio::sync::Notify;

use super::{Key, Target};
use crate::failure::Failure;

/// The requests that wait for a connection to one destination, or for room on one.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Cell<usize>,
    freed: Notify,
}

impl Queue {
    /// Whether a request waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Lets the one that has waited longest look again.
    pub(super) fn wake_one(&self) {
        if self.is_awaited() {
            self.freed.notify_one();
        }
    }

    /// Lets all look again.
    pub(super) fn wake_all(&self) {
        if self.is_awaited() {
            self.freed.notify_waiters();
        }
    }
}

/// The place of a request that waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waits {
    limited: Rc<Limited>,
    to: Arc<Key>,
    queue: Rc<Queue>,
}

impl Waits {
    pub(super) fn begin(
        limited: &Rc<Limited>,
        to: Arc<Key>,
        queue: Rc<Queue>,
        waiting_max: usize,
    ) -> Result<Self, Failure> {
        if queue.waiting.get() >= waiting_max {
            return Err(Failure::mesh(Reason::Overloaded));
        }
        queue.waiting.set(queue.waiting.get() + 1);
        if to.limited.is_some() {
            limited.awaited.borrow_mut().entry(to.clone()).or_insert_with(|| queue.clone());
        }
        Ok(Self { limited: limited.clone(), to, queue })
    }

    /// Waits until there may be a connection, or room. What happens after this call and before the
    /// first poll counts, too. One that is dropped lets the next have its turn.
    pub(crate) fn freed(&self) -> impl Future<Output = ()> {
        self.queue.freed.notified()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.queue.waiting.set(self.queue.waiting.get() - 1);
        if !self.queue.is_awaited() && self.to.limited.is_some() {
            self.limited.awaited.borrow_mut().remove(&self.to);
        }
    }
}

/// The connections of a worker that limits count.
#[derive(Debug, Default)]
pub(super) struct Limited {
    /// How many there are to a destination.
    open: RefCell<HashMap<Arc<Key>, usize>>,
    /// The destinations for which requests wait.
    awaited: RefCell<HashMap<Arc<Key>, Rc<Queue>>>,
}

impl Limited {
    /// See [`super::Pool::count`].
    pub(super) fn count(
        limited: &Rc<Self>,
        to: Target<'_>,
        group: &Arc<Group>,
        waits: bool,
    ) -> Option<Counted> {
        let mut open = limited.open.borrow_mut();
        let counted = group.open_connection(waits && !open.contains_key(&to))?;
        let key = match open.get_key_value_mut(&to) {
            Some((key, count)) => {
                *count += 1;
                key.clone()
            }
            None => {
                let key = to.to_key();
                open.insert(key.clone(), 1);
                key
            }
        };
        Some(Counted { limited: limited.clone(), to: key, open: Some(counted) })
    }
}

/// A connection that a limit counts, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    limited: Rc<Limited>,
    to: Arc<Key>,
    open: Option<OpenConnection>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open = None;
        let mut open = self.limited.open.borrow_mut();
        if let Some(count) = open.get_mut(&self.to) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.to);
            }
        }
        drop(open);
        // The limit is of the group: there is room for one more to any of its endpoints.
        let group = self.to.limited.as_ref().map(Arc::as_ptr);
        let awaited = self.limited.awaited.borrow();
        let of_group =
            awaited.iter().filter(|(to, _)| to.limited.as_ref().map(Arc::as_ptr) == group);
        of_group.for_each(|(_, queue)| queue.wake_one());
    }
}
