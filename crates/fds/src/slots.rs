//! Who may hold how many connections of a listener: slots in all and per peer. A peer that wants more
//! than its share takes them from itself, and the connection that has been idle for longest goes first;
//! so nobody can keep others out by holding connections open.

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

/// A time in which a connection is in use, until this is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Slot>);

#[derive(Debug, Default)]
struct Held {
    /// Counts what happens: the order of connections, and of their idling.
    steps: u64,
    slots: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    peer: IpAddr,
    /// For how many reasons it may not go now: what is being answered, or that its peer has said
    /// something that is worth a place.
    uses: usize,
    /// Since which step there are none.
    idle_since: u64,
    evicted: Arc<Notify>,
}

impl Slots {
    /// So many slots in all, and so many of them for one peer.
    #[must_use]
    pub fn new(most: usize, most_per_peer: usize) -> Self {
        Self { held: Arc::default(), most, most_per_peer }
    }

    /// A slot for a connection of a peer. If the peer has its share, or all are taken, the connection
    /// goes that has been idle for longest: of this peer, or of the one that holds most. `None` if there
    /// is no idle one: the new one is to be closed.
    #[must_use]
    pub fn take(&self, peer: IpAddr) -> Option<Slot> {
        let peer = peer.to_canonical();
        let mut held = locked(&self.held);
        if held.count(peer) >= self.most_per_peer {
            held.evict(peer)?;
        } else if held.slots.len() >= self.most {
            let greediest = held.greediest()?;
            held.evict(greediest)?;
        }
        let number = held.step();
        let evicted = Arc::<Notify>::default();
        let taken = Taken { peer, uses: 0, idle_since: number, evicted: evicted.clone() };
        held.slots.insert(number, taken);
        Some(Slot { held: self.held.clone(), number, evicted })
    }
}

impl Slot {
    /// Notes that the peer has said something: its connection does not go for another one any more.
    pub fn use_it(&self) {
        self.begin_use();
    }

    /// Notes that something is being done for the peer, until what is returned is dropped.
    #[must_use]
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.begin_use();
        Busy(self.clone())
    }

    /// Whether the connection is in use.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        locked(&self.held).slots.get(&self.number).is_some_and(|taken| taken.uses > 0)
    }

    /// Returns when the connection is to go for another one. Cancel safe.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn begin_use(&self) {
        if let Some(taken) = locked(&self.held).slots.get_mut(&self.number) {
            taken.uses += 1;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        locked(&self.held).slots.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut held = locked(&self.0.held);
        let now = held.step();
        if let Some(taken) = held.slots.get_mut(&self.0.number) {
            taken.uses -= 1;
            taken.idle_since = now;
        }
    }
}

impl Held {
    fn step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    fn count(&self, peer: IpAddr) -> usize {
        self.slots.values().filter(|taken| taken.peer == peer).count()
    }

    fn idle(&self) -> impl Iterator<Item = (&u64, &Taken)> {
        self.slots.iter().filter(|(_, taken)| taken.uses == 0)
    }

    /// The peer that holds most idle slots.
    fn greediest(&self) -> Option<IpAddr> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (_, taken) in self.idle() {
            *counts.entry(taken.peer).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(peer, _)| peer)
    }

    /// Takes the slot of a peer away that has been idle for longest.
    fn evict(&mut self, peer: IpAddr) -> Option<()> {
        let own = self.idle().filter(|(_, taken)| taken.peer == peer);
        let number = *own.min_by_key(|(_, taken)| taken.idle_since)?.0;
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

    #[test]
    fn what_is_busy_stays_and_what_was_busy_last_goes_last() {
        let slots = Slots::new(2, 2);
        let [first, second] = [(); 2].map(|()| Arc::new(slots.take(ip(1)).unwrap()));
        let (busy, also_busy) = (first.busy(), second.busy());
        assert!(slots.take(ip(1)).is_none(), "all are busy");
        assert!(first.is_busy());
        drop(also_busy);
        let third = slots.take(ip(1)).unwrap();
        assert!(is_evicted(&second) && !is_evicted(&first));
        // What was busy last has been idle for the shortest time.
        drop(busy);
        let _fourth = slots.take(ip(1)).unwrap();
        assert!(is_evicted(&third) && !is_evicted(&first));
        let _fifth = slots.take(ip(1)).unwrap();
        assert!(is_evicted(&first));
    }
}
