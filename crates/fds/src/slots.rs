//! Who may hold how many connections of a listener: slots in all and per peer. A peer that wants more
//! than its share takes them from itself, and the connection that has said nothing for longest goes
//! first; so nobody can keep others out by holding connections open.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The slots of one listener, or of several together.
#[derive(Clone, Debug)]
pub struct Slots {
    held: Arc<Mutex<Held>>,
    most: usize,
    most_per_peer: usize,
}

/// A connection's place; it is given back when this is dropped.
#[derive(Debug)]
pub struct Slot {
    held: Arc<Mutex<Held>>,
    number: u64,
    evicted: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// In the order in which they were taken.
    slots: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    peer: IpAddr,
    /// Whether the peer has said something that is worth a place.
    is_used: bool,
    evicted: Arc<Notify>,
}

impl Slots {
    /// So many slots in all, and so many of them for one peer.
    #[must_use]
    pub fn new(most: usize, most_per_peer: usize) -> Self {
        Self { held: Arc::default(), most, most_per_peer }
    }

    /// A slot for a connection of a peer. If the peer has its share, or all are taken, the oldest
    /// connection goes that has said nothing yet: of this peer, or of the one that holds most.
    /// `None` if there is no such connection: the new one is to be closed.
    #[must_use]
    pub fn take(&self, peer: IpAddr) -> Option<Slot> {
        let peer = peer.to_canonical();
        let mut held = locked(&self.held);
        if held.count(peer) >= self.most_per_peer {
            held.evict(|taken| taken.peer == peer)?;
        } else if held.slots.len() >= self.most {
            let greediest = held.greediest()?;
            held.evict(|taken| taken.peer == greediest)?;
        }
        let number = held.next;
        held.next += 1;
        let evicted = Arc::<Notify>::default();
        held.slots.insert(number, Taken { peer, is_used: false, evicted: evicted.clone() });
        Some(Slot { held: self.held.clone(), number, evicted })
    }
}

impl Slot {
    /// Notes that the peer has said something: its connection does not go for another one.
    pub fn use_it(&self) {
        if let Some(taken) = locked(&self.held).slots.get_mut(&self.number) {
            taken.is_used = true;
        }
    }

    /// Returns when the connection is to go for another one. Cancel safe.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        locked(&self.held).slots.remove(&self.number);
    }
}

impl Held {
    fn count(&self, peer: IpAddr) -> usize {
        self.slots.values().filter(|taken| taken.peer == peer).count()
    }

    /// The peer that holds most slots with nothing said.
    fn greediest(&self) -> Option<IpAddr> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for taken in self.slots.values().filter(|taken| !taken.is_used) {
            *counts.entry(taken.peer).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(peer, _)| peer)
    }

    /// Takes the oldest unused slot away from those that a filter picks.
    fn evict(&mut self, of: impl Fn(&Taken) -> bool) -> Option<()> {
        let oldest = self.slots.iter().find(|(_, taken)| !taken.is_used && of(taken))?;
        let number = *oldest.0;
        let taken = self.slots.remove(&number)?;
        taken.evicted.notify_one();
        Some(())
    }
}

fn locked(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_evicted(slot: &Slot) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(slot.evicted()).poll(&mut context) == Poll::Ready(())
    }

    #[test]
    fn a_peer_takes_from_itself_and_the_oldest_silent_one_goes() {
        let slots = Slots::new(10, 3);
        let own: Vec<Slot> = (0..3).map(|_| slots.take(ip(1)).unwrap()).collect();
        let other = slots.take(ip(2)).unwrap();
        own[0].use_it();
        let next = slots.take(ip(1)).unwrap();
        let gone: Vec<bool> = own.iter().chain([&next, &other]).map(is_evicted).collect();
        assert_eq!(gone, [false, true, false, false, false]);
        // Those that are in use stay, and the new one is refused.
        own[2].use_it();
        next.use_it();
        assert!(slots.take(ip(1)).is_none());
        drop(next);
        assert!(slots.take(ip(1)).is_some());
    }

    #[test]
    fn when_all_are_taken_the_greediest_gives_way() {
        let slots = Slots::new(4, 3);
        let greedy: Vec<Slot> = (0..3).map(|_| slots.take(ip(1)).unwrap()).collect();
        let modest = slots.take(ip(2)).unwrap();
        let late = slots.take(ip(3)).unwrap();
        let gone: Vec<bool> = greedy.iter().chain([&modest, &late]).map(is_evicted).collect();
        assert_eq!(gone, [true, false, false, false, false]);
        // IPv4 in the clothes of IPv6 is the same peer.
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        let _again = slots.take(mapped);
        assert!(is_evicted(&greedy[1]));
    }
}
