//! The connections to one socket of the API: at most so many, and an idle one makes room for a new
//! one, so that clients who keep connections open keep nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connections of one socket.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    connections: BTreeMap<u64, Connection>,
    /// Counts what happens: the order of connections, and of their idling.
    steps: u64,
}

#[derive(Debug)]
struct Connection {
    /// Requests that are being answered.
    requests: usize,
    /// Since which step there are none.
    idle_since: u64,
    given_up: Arc<Notify>,
}

impl Slots {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A slot for a new connection, if need be that of the one which has been idle for longest; none
    /// if all are busy.
    pub(super) fn take(self: &Arc<Self>) -> Option<Slot> {
        let mut taken = self.lock();
        if taken.connections.len() >= self.most {
            let idle = taken.connections.iter().filter(|(_, open)| open.requests == 0);
            let longest = *idle.min_by_key(|(_, open)| open.idle_since)?.0;
            if let Some(open) = taken.connections.remove(&longest) {
                open.given_up.notify_one();
            }
        }
        taken.steps += 1;
        let (number, given_up) = (taken.steps, Arc::new(Notify::new()));
        let open = Connection { requests: 0, idle_since: number, given_up: given_up.clone() };
        taken.connections.insert(number, open);
        Some(Slot { slots: self.clone(), number, given_up })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    given_up: Arc<Notify>,
}

impl Slot {
    /// Completes when the connection is to make room.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Notes a request, until what is returned is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        if let Some(open) = self.slots.lock().connections.get_mut(&self.number) {
            open.requests += 1;
        }
        Busy(self.clone())
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.slots.lock().connections.get(&self.number).is_some_and(|open| open.requests > 0)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().connections.remove(&self.number);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Slot>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut taken = self.0.slots.lock();
        taken.steps += 1;
        let now = taken.steps;
        if let Some(open) = taken.connections.get_mut(&self.0.number) {
            open.requests -= 1;
            open.idle_since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_idle_connection_makes_room_and_a_busy_one_does_not() {
        let slots = Slots::new(2);
        let (first, second) = (Arc::new(slots.take().unwrap()), Arc::new(slots.take().unwrap()));
        let (busy, also_busy) = (first.busy(), second.busy());
        assert!(slots.take().is_none(), "all are busy");
        drop(also_busy);
        let third = Arc::new(slots.take().unwrap());
        second.given_up().await;
        drop(second);
        // What was busy last has been idle for the shortest time.
        drop(busy);
        let _fourth = slots.take().unwrap();
        third.given_up().await;
        drop(third);
        drop(first);
        let _fifth = slots.take().unwrap();
    }
}
