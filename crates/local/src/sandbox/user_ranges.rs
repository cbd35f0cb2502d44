//! Which users of the machine stand for those of pods, where the mesh was started by root: a range
//! for each pod that no other has, of this mesh or of another, while both are there.
//!
//! ```text
//! 0x3fff_0000 + n              the proxy of the pod that has range n
//! 0x4000_0000 + n * 65 536 ..  the users of its containers
//! ```
//!
//! A mesh holds its ranges in blocks, each by a socket of an abstract name, so that they are given
//! back with its last process however it ends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;

use super::namespaces::PodUsers;
use super::users::USERS_PER_NAMESPACE;

/// The blocks of a mesh.
#[derive(Debug)]
pub(crate) struct UserBlocks {
    blocks: Vec<Block>,
    /// How many pods they are for.
    pods: u32,
}

/// A block, and what holds it.
#[derive(Debug)]
struct Block {
    number: u32,
    _held: UnixDatagram,
}

/// Why a mesh gets no ranges.
#[derive(Debug, thiserror::Error)]
pub enum NoUsers {
    /// Too many meshes.
    #[error(
        "the users that ironmesh gives to pods are all taken by other meshes that root started: end \
         one, or set limits.platform.pods_max lower"
    )]
    AllTaken,
    /// More pods than there can be.
    #[error("limits.platform.pods_max is above {RANGES}, for which the machine has no users")]
    TooMany,
    /// The socket that holds a block could not be made.
    #[error("the users of pods: {0}")]
    Io(#[from] io::Error),
}

impl UserBlocks {
    /// Takes what `pods` at a time need.
    pub(crate) fn take(pods: u32) -> Result<Self, NoUsers> {
        if pods > RANGES {
            return Err(NoUsers::TooMany);
        }
        let wanted = pods.div_ceil(BLOCK) as usize;
        let mut blocks = Vec::new();
        for number in 0..RANGES / BLOCK {
            if blocks.len() == wanted {
                break;
            }
            let address = SocketAddr::from_abstract_name(format!("ironmesh/users/{number}"))?;
            match UnixDatagram::bind_addr(&address) {
                Ok(held) => blocks.push(Block { number, _held: held }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error.into()),
            }
        }
        if blocks.len() < wanted {
            return Err(NoUsers::AllTaken);
        }
        Ok(Self { blocks, pods })
    }
}

/// The ranges of a mesh, to be given to its pods.
#[derive(Clone, Debug)]
pub(crate) struct UserRanges(Rc<Pool>);

#[derive(Debug)]
struct Pool {
    _blocks: UserBlocks,
    /// The one that was given back longest ago first.
    free: RefCell<VecDeque<u32>>,
}

impl UserRanges {
    /// The ranges of these blocks, as many as were asked for.
    pub(crate) fn new(blocks: UserBlocks) -> Self {
        let numbers =
            blocks.blocks.iter().flat_map(|block| (0..BLOCK).map(|n| block.number * BLOCK + n));
        let free = RefCell::new(numbers.take(blocks.pods as usize).collect());
        Self(Rc::new(Pool { _blocks: blocks, free }))
    }

    /// A range that no pod has; none if all are given.
    pub(crate) fn take(&self) -> Option<UserRange> {
        let number = self.0.free.borrow_mut().pop_front()?;
        Some(UserRange { number, pool: Rc::clone(&self.0) })
    }
}

/// The users of one pod; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct UserRange {
    number: u32,
    pool: Rc<Pool>,
}

impl UserRange {
    /// What the root of the pod's containers is on the host.
    pub(crate) fn base(&self) -> u32 {
        FIRST_BASE + self.number * USERS_PER_NAMESPACE
    }

    /// What the pod's proxy runs as: a user that no `runAsUser` of any pod can be.
    pub(crate) fn proxy(&self) -> u32 {
        FIRST_PROXY + self.number
    }
}

impl Drop for UserRange {
    fn drop(&mut self) {
        self.pool.free.borrow_mut().push_back(self.number);
    }
}

/// Ranges of a block.
const BLOCK: u32 = 256;
/// Users of pods begin here, well above those of a machine.
const FIRST_BASE: u32 = 0x4000_0000;
/// The users of proxies are below.
const FIRST_PROXY: u32 = 0x3fff_0000;
/// Ranges of the machine: to the last user but those with a meaning of their own, in whole blocks.
const RANGES: u32 = (u32::MAX - FIRST_BASE) / USERS_PER_NAMESPACE / BLOCK * BLOCK;
/// The users of a pod that has the last range.
pub(crate) const LAST: PodUsers = PodUsers {
    base: FIRST_BASE + (RANGES - 1) * USERS_PER_NAMESPACE,
    proxy: FIRST_PROXY + RANGES - 1,
    processes_max: 1,
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_pods_and_no_proxy_share_a_user() {
        const { assert!(FIRST_PROXY + RANGES <= FIRST_BASE) };
        const { assert!(LAST.base.checked_add(USERS_PER_NAMESPACE).is_some()) };
        let (one, two) = (UserBlocks::take(300).unwrap(), UserBlocks::take(300).unwrap());
        let (one, two) = (UserRanges::new(one), UserRanges::new(two));
        let held: Vec<_> = std::iter::from_fn(|| one.take()).collect();
        let others: Vec<_> = std::iter::from_fn(|| two.take()).collect();
        assert_eq!((held.len(), others.len()), (300, 300));
        let all = held.iter().chain(&others);
        let bases: BTreeSet<u32> = all.clone().map(UserRange::base).collect();
        let proxies: BTreeSet<u32> = all.map(UserRange::proxy).collect();
        assert_eq!((bases.len(), proxies.len()), (600, 600));
        let inside = |user: u32| bases.iter().any(|base| (*base..base + 65_536).contains(&user));
        assert!(!proxies.iter().any(|proxy| inside(*proxy)));
    }

    #[test]
    fn ranges_come_back_however_many_pods_there_were() {
        let ranges = UserRanges::new(UserBlocks::take(2).unwrap());
        let (mut held, mut seen) = (ranges.take().unwrap(), BTreeSet::new());
        for _ in 0..100_000 {
            let next = ranges.take().unwrap();
            assert_ne!(held.base(), next.base());
            assert!(ranges.take().is_none());
            seen.insert(next.base());
            held = next;
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn more_than_there_are_is_refused() {
        assert!(matches!(UserBlocks::take(RANGES + 1), Err(NoUsers::TooMany)));
    }
}
