//! How many queries a peer may ask in a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Counts the queries of each peer by the second.
#[derive(Debug)]
pub(super) struct Rate {
    most: u32,
    peers: HashMap<IpAddr, (Instant, u32)>,
}

impl Rate {
    /// So many queries a second for each peer.
    pub(super) fn new(most: u32) -> Self {
        Self { most, peers: HashMap::new() }
    }

    /// Counts a query; whether it is to be answered.
    pub(super) fn allows(&mut self, peer: IpAddr, now: Instant) -> bool {
        if self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, (since, _)| now < *since + WINDOW);
        }
        let (since, count) = self.peers.entry(peer).or_insert((now, 0));
        if now >= *since + WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= self.most
    }
}

const WINDOW: Duration = Duration::from_secs(1);
/// Peers that are remembered until those are looked for that have been silent: as many as there are
/// pods, so that none is forgotten that asks.
const PEERS_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_queries_a_second() {
        let mut rate = Rate::new(3);
        let [one, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let now = Instant::now();
        let allowed: Vec<bool> = (0..5).map(|_| rate.allows(one, now)).collect();
        assert_eq!(allowed, [true, true, true, false, false]);
        assert!(rate.allows(other, now));
        assert!(rate.allows(one, now + WINDOW));
    }
}
