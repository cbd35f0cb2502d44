//! Addresses of the mesh's own for names that have none: one for each, so that services on one port are
//! told apart by the address that their callers dial.
//!
//! Which name has which address follows from the names and their ages alone, so that it is the same
//! after a restart and for whoever works it out: each name has an order of addresses that it would take,
//! from its hash; the oldest gets its first, each other one the first that no older one has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ironmesh_model::ServiceId;
use ironmesh_model::snapshot::Created;

/// Who has which address.
#[derive(Clone, Debug, Default)]
pub(super) struct Synthetic {
    /// With the number of the choice that it is.
    holders: BTreeMap<u16, (Claim, u16)>,
    claims: BTreeMap<ServiceId, Created>,
}

/// A name that wants an address; the older goes before the younger.
type Claim = (Created, ServiceId);

impl Synthetic {
    /// The address of a name, if it has one.
    pub(super) fn address(&self, id: &ServiceId) -> Option<IpAddr> {
        let claim = (*self.claims.get(id)?, id.clone());
        let is_own = |number: &u16| self.holders.get(number).is_some_and(|(own, _)| *own == claim);
        let number = choices(id).find(is_own)?;
        Some(IpAddr::V4(address(number)))
    }

    /// Gives a name an address since then, or takes it away. Returns the others that have another one
    /// than before.
    pub(super) fn set(&mut self, id: &ServiceId, since: Option<Created>) -> BTreeSet<ServiceId> {
        let before = self.claims.get(id).copied();
        if before == since {
            return BTreeSet::new();
        }
        let mut moved = BTreeSet::new();
        if before.is_some() {
            self.claims.remove(id);
            self.release(id, &mut moved);
        }
        if let Some(created) = since {
            self.claims.insert(id.clone(), created);
            self.settle((created, id.clone()), 0, &mut moved);
        }
        moved.remove(id);
        moved
    }

    /// Gives the first address from a choice on that nobody older has, and what that moves another
    /// one, and so on.
    fn settle(&mut self, mut claim: Claim, mut choice: u16, moved: &mut BTreeSet<ServiceId>) {
        loop {
            // There are as many choices as addresses: more names than these get none.
            let Some(number) = choices(&claim.1).nth(usize::from(choice)) else { return };
            match self.holders.get(&number) {
                Some((other, _)) if *other < claim => choice += 1,
                _ => {
                    moved.insert(claim.1.clone());
                    let Some((other, its)) = self.holders.insert(number, (claim, choice)) else {
                        return;
                    };
                    (claim, choice) = (other, its + 1);
                }
            }
        }
    }

    /// Takes the address of a name that is gone away from it. If another one would have had it, all is
    /// given anew.
    fn release(&mut self, id: &ServiceId, moved: &mut BTreeSet<ServiceId>) {
        let held = self.holders.iter().find(|(_, ((_, own), _))| own == id);
        let Some(number) = held.map(|(number, _)| *number) else { return };
        self.holders.remove(&number);
        if self.holders.values().all(|(_, choice)| *choice == 0) {
            return;
        }
        let before: Vec<(ServiceId, Option<IpAddr>)> =
            self.claims.keys().map(|id| (id.clone(), self.address(id))).collect();
        self.holders.clear();
        for (id, created) in self.claims.clone() {
            self.settle((created, id), 0, &mut BTreeSet::new());
        }
        moved.extend(
            before.into_iter().filter(|(id, ip)| self.address(id) != *ip).map(|(id, _)| id),
        );
    }
}

/// The addresses that a name would take, by number, in order; each once.
fn choices(id: &ServiceId) -> impl Iterator<Item = u16> {
    let hash = hash(&format!("{}/{}", id.namespace, id.hostname));
    let (first, step) = (hash % COUNT, (hash >> 32) % (COUNT - 1) + 1);
    // `COUNT` is prime, so that each step comes to all of them.
    (0..COUNT).map(move |n| ((first + n * step) % COUNT) as u16)
}

/// FNV-1a, whose values stay the same for ever.
fn hash(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    // Its last bits alone would depend on little.
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32)
}

fn address(number: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(NETWORK.to_bits() + 1 + u32::from(number))
}

/// The network that Istio takes them from, too: nobody has addresses of it.
const NETWORK: Ipv4Addr = Ipv4Addr::new(240, 240, 0, 0);
/// How many addresses there are; prime.
const COUNT: u64 = 65_521;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> ServiceId {
        ServiceId { namespace: "default".into(), hostname: format!("h{n}.test").into() }
    }

    /// Many names, so that some want the same address.
    #[test]
    fn addresses_are_a_function_of_the_names_and_their_ages() {
        let all: Vec<usize> = (0..2_000).collect();
        let mut up = Synthetic::default();
        for n in &all {
            up.set(&id(*n), Some((*n % 7) as i64));
        }
        let mut down = Synthetic::default();
        for n in (0..3_000).rev() {
            down.set(&id(n), Some((n % 7) as i64));
        }
        assert!(down.holders.values().any(|(_, choice)| *choice > 0), "no two want the same");
        for n in 2_000..3_000 {
            down.set(&id(n), None);
        }
        let of = |synthetic: &Synthetic| {
            all.iter().map(|n| synthetic.address(&id(*n)).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of(&up), of(&down));
        assert_eq!(of(&up).into_iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(down.address(&id(2_500)), None);
    }

    #[test]
    fn a_younger_name_never_takes_the_address_of_an_older_one() {
        let mut synthetic = Synthetic::default();
        let mut before: BTreeMap<usize, IpAddr> = BTreeMap::new();
        for n in 0..1_500 {
            assert!(synthetic.set(&id(n), Some(n as i64)).is_empty());
            before.insert(n, synthetic.address(&id(n)).unwrap());
        }
        assert!(before.iter().all(|(n, ip)| synthetic.address(&id(*n)) == Some(*ip)));
        // What one is today it is tomorrow.
        assert_eq!(before[&0].to_string(), "240.240.235.95");
    }
}
