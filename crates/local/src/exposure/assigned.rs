//! The addresses of Services on the host's loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use twox_hash::XxHash3_64;

use crate::addresses::HostAddresses;
use crate::reflector::Key;

/// Which Service has which address.
#[derive(Debug)]
pub(super) struct Assigned {
    host: HostAddresses,
    by_service: BTreeMap<Key, Ipv4Addr>,
    taken: BTreeSet<Ipv4Addr>,
}

impl Assigned {
    pub(super) fn new(host: HostAddresses) -> Self {
        Self { host, by_service: BTreeMap::new(), taken: BTreeSet::new() }
    }

    /// The address of a Service. One that has none gets that which it had, if an earlier mesh noted
    /// that and nobody has it; else one that follows from its name as far as others leave it free, so
    /// that it is the same at each start. `None` if all are taken.
    pub(super) fn of(&mut self, service: &Key, noted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        if let Some(address) = self.by_service.get(service) {
            return Some(*address);
        }
        let is_free = |address: &Ipv4Addr| !self.taken.contains(address);
        let noted = noted.filter(|address| self.host.has(*address)).filter(is_free);
        let count = HostAddresses::count();
        let (namespace, name) = service;
        let hash = XxHash3_64::oneshot(format!("{namespace}/{name}").as_bytes());
        let first = (hash % u64::from(count)) as u32;
        let mut all = (0..count).map(|step| self.host.of_service((first + step) % count));
        let address = noted.or_else(|| all.find(is_free))?;
        self.taken.insert(address);
        self.by_service.insert(service.clone(), address);
        Some(address)
    }

    /// The address of a Service that has one.
    pub(super) fn get(&self, service: &Key) -> Option<Ipv4Addr> {
        self.by_service.get(service).copied()
    }

    /// Takes the addresses back of all Services but these.
    pub(super) fn keep(&mut self, services: &BTreeSet<Key>) {
        self.by_service.retain(|service, address| {
            let kept = services.contains(service);
            if !kept {
                self.taken.remove(address);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("n".to_owned(), name.to_owned())
    }

    #[test]
    fn an_address_is_the_same_at_each_start_and_nobody_elses() {
        let host = HostAddresses { network: [127, 130, 0, 0].into(), lowest_port: 0 };
        let mut first = Assigned::new(host);
        let addresses: BTreeSet<Ipv4Addr> =
            (0..3_000).filter_map(|n| first.of(&key(&format!("s{n}")), None)).collect();
        assert_eq!(addresses.len(), 3_000);
        assert!(addresses.iter().all(|address| host.has(*address)));
        let mut next = Assigned::new(host);
        assert_eq!(next.of(&key("s0"), None), first.get(&key("s0")));
        // Freed, it is given again.
        let s0 = first.get(&key("s0")).unwrap();
        first.keep(&BTreeSet::from([key("s1")]));
        assert_eq!((first.get(&key("s0")), first.of(&key("s0"), None)), (None, Some(s0)));
    }

    #[test]
    fn what_was_noted_is_kept_unless_it_is_anothers() {
        let host = HostAddresses { network: [127, 130, 0, 0].into(), lowest_port: 0 };
        let mut assigned = Assigned::new(host);
        let noted = Ipv4Addr::new(127, 130, 3, 7);
        assert_eq!(assigned.of(&key("a"), Some(noted)), Some(noted));
        assert_ne!(assigned.of(&key("thief"), Some(noted)).unwrap(), noted);
        for strange in [[127, 0, 0, 1], [127, 130, 0, 1], [127, 131, 0, 5], [10, 0, 0, 1]] {
            let name = format!("{strange:?}");
            let given = assigned.of(&key(&name), Some(strange.into())).unwrap();
            assert!(host.has(given), "{given}");
        }
    }

    #[test]
    fn when_all_are_taken_there_is_none() {
        let host = HostAddresses { network: [127, 130, 0, 0].into(), lowest_port: 0 };
        let mut assigned = Assigned::new(host);
        let given = (0..5_000).filter_map(|n| assigned.of(&key(&format!("s{n}")), None)).count();
        assert_eq!(given, HostAddresses::count() as usize);
    }
}
