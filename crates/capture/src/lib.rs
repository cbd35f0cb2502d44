//! Capture: nf_tables rules that lead a pod's traffic through its proxy, and plain Services.
//!
//! Outgoing TCP connections of the workload are redirected to the proxy's outbound port, incoming
//! ones to its inbound port; the proxy finds their original destination by `SO_ORIGINAL_DST`. No
//! process is started: the rules are netlink messages.
//!
//! Only IPv4 is captured. A pod of the local platform has IPv6 on loopback only, so that no other
//! family carries traffic past the proxy.

//!
//! This crate depends on no other of the mesh: an init container or a CNI plugin needs no more.

mod error;
pub mod forwarding;
pub mod netlink;
mod netns;
mod nft;
pub mod outside;

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use netlink::{Connection, Subsystem};
use nft::{Element, ElementValue, Expression, FIRST, Field, Hook, Set, Transaction, Value};

pub use error::KernelError;
pub use netns::in_netns;

/// Whose traffic capture leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemption {
    /// Sockets with one of two marks: the local platform.
    Marks {
        /// Of connections that an outbound proxy makes.
        outbound: u32,
        /// Of connections that an inbound proxy makes to its workload, and of probes.
        inbound: u32,
        /// Whose sockets these are, by the number that the user namespace has for him which owns the
        /// network namespace. None: anybody's, where applications cannot set a mark.
        user: Option<u32>,
    },
    /// Processes of this user or this group (Istio: 1337 both). There the proxy dials its workload
    /// from the source address 127.0.0.6, as Istio's does, which tells it from what the proxy sends
    /// to a Service that happens to be its own.
    Owner {
        /// The proxy's user.
        uid: u32,
        /// The proxy's group.
        gid: u32,
    },
}

/// The ports of the proxy of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyPorts {
    /// Where captured outbound connections arrive.
    pub outbound: u16,
    /// Where captured inbound connections arrive.
    pub inbound: u16,
    /// Ports that the proxy serves itself, and which are not captured: metrics, health.
    pub own: [u16; 3],
}

/// What is captured in one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSpec {
    /// Where it is led.
    pub ports: ProxyPorts,
    /// The proxy's own traffic.
    pub exemption: Exemption,
    /// The pod's address, if known: connections from it to itself that no proxy is part of are then
    /// kept out of conntrack.
    pub pod: Option<Ipv4Addr>,
    /// Resolver whose TCP port 53 stays reachable directly.
    pub resolver: Option<Ipv4Addr>,
}

/// Installs the rules in a network namespace, in one transaction, in place of those that were there.
/// Open connections stay as they are.
///
/// # Errors
///
/// The step that failed.
pub fn apply(netns: BorrowedFd<'_>, spec: &CaptureSpec) -> Result<(), KernelError> {
    in_netns(netns, || apply_here(spec))?
}

/// As [`apply`], in the network namespace of the calling thread.
///
/// # Errors
///
/// As [`apply`].
pub fn apply_here(spec: &CaptureSpec) -> Result<(), KernelError> {
    rules(spec, false).commit(&Connection::open(Subsystem::Netfilter)?)
}

/// Rules that belong to whoever holds this: nobody else can change or flush them, whatever
/// capabilities he has in their network namespace. They go when this is dropped. A kernel before 5.12
/// has no owners: there the rules are as those of [`apply`], and stay.
#[derive(Debug)]
pub struct OwnRules(Connection);

impl OwnRules {
    /// Installs rules in a network namespace, in one transaction.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn install(netns: BorrowedFd<'_>, spec: &CaptureSpec) -> Result<Self, KernelError> {
        let own = in_netns(netns, || Connection::open(Subsystem::Netfilter).map(Self))??;
        own.replace(spec)?;
        Ok(own)
    }

    /// Installs others in place of those that were there. Open connections stay as they are.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn replace(&self, spec: &CaptureSpec) -> Result<(), KernelError> {
        rules(spec, true).commit(&self.0).or_else(|error| match error.errno {
            libc::EINVAL | libc::EOPNOTSUPP => rules(spec, false).commit(&self.0),
            _ => Err(error),
        })
    }
}

fn rules(spec: &CaptureSpec, owned: bool) -> Transaction {
    let mut transaction = Transaction::new(TABLE).owned(owned);
    transaction.replace_table();
    outgoing(&mut transaction, spec);
    incoming(&mut transaction, &spec.ports);
    untracked(&mut transaction, spec);
    transaction
}

/// What processes of the pod send.
fn outgoing(transaction: &mut Transaction, spec: &CaptureSpec) {
    let point = libc::NF_INET_LOCAL_OUT;
    transaction.chain("output", Some(Hook { kind: "nat", point, priority: DESTINATION_NAT }));
    let mut rule = |parts: &[&[Expression<'_>]]| transaction.rule("output", &parts.concat());
    let (lo, tcp, end) = (nft::leaves_by_loopback(), nft::tcp(), [Expression::Return]);
    let (to_loopback, inbound) = (to_loopback(), nft::redirect(spec.ports.inbound));
    match spec.exemption {
        Exemption::Marks { outbound, inbound: to_workload, user } => {
            let (to_workload, outbound) = (marked(to_workload, user), marked(outbound, user));
            // The inbound proxy to its workload, and probes.
            rule(&[&to_workload, &end]);
            rule(&[&lo, &to_loopback, &end]);
            // The outbound proxy to its own pod: the workload calls its own Service.
            rule(&[&outbound, &lo, &tcp, &inbound]);
            rule(&[&outbound, &end]);
        }
        Exemption::Owner { uid, gid } => {
            let to_workload =
                [nft::source(4, FIRST), Expression::Equal(TO_WORKLOAD_SOURCE.octets().to_vec())];
            rule(&[&lo, &to_workload, &end]);
            rule(&[&lo, &to_loopback, &end]);
            for owner in [(libc::NFT_META_SKUID, uid), (libc::NFT_META_SKGID, gid)] {
                rule(&[&nft::meta_is(owner.0, owner.1), &lo, &tcp, &inbound]);
                rule(&[&nft::meta_is(owner.0, owner.1), &end]);
            }
        }
    }
    rule(&[&lo, &end]);
    if let Some(resolver) = spec.resolver {
        let dns = [nft::destination_port(FIRST), Expression::Equal(vec![0, 53])];
        rule(&[&nft::to_address(resolver), &tcp, &dns, &end]);
    }
    rule(&[&tcp, &nft::redirect(spec.ports.outbound)]);
}

/// What reaches the pod from outside. Ports that the proxy itself serves in the clear are left alone.
fn incoming(transaction: &mut Transaction, ports: &ProxyPorts) {
    let point = libc::NF_INET_PRE_ROUTING;
    transaction.chain("prerouting", Some(Hook { kind: "nat", point, priority: DESTINATION_NAT }));
    let (set, id) = ("__set%d", 1);
    transaction.set(&Set {
        name: set,
        id,
        anonymous: true,
        key: &[Field::Port],
        value: Value::None,
    });
    let own = ports
        .own
        .map(|port| Element { key: port.to_be_bytes().to_vec(), value: ElementValue::None });
    transaction.add_elements(set, id, &own);
    let in_set = [nft::destination_port(FIRST), Expression::Lookup { set, id, to: None }];
    let mut rule = |parts: &[&[Expression<'_>]]| transaction.rule("prerouting", &parts.concat());
    rule(&[&nft::tcp(), &in_set, &[Expression::Return]]);
    rule(&[&nft::tcp(), &nft::redirect(ports.inbound)]);
}

/// What needs no connection tracking, because no redirection is part of it. Each entry lives for a
/// while after its connection, and their number is limited for the whole machine.
fn untracked(transaction: &mut Transaction, spec: &CaptureSpec) {
    let point = libc::NF_INET_LOCAL_OUT;
    transaction.chain("untracked", Some(Hook { kind: "filter", point, priority: RAW }));
    let mut rule = |parts: &[&[Expression<'_>]]| transaction.rule("untracked", &parts.concat());
    let (lo, end) = (nft::leaves_by_loopback(), [Expression::NoTrack]);
    if let Exemption::Marks { inbound, .. } = spec.exemption {
        // Whoever's: what leaves by this interface is redirected for the outbound proxy alone.
        rule(&[&lo, &nft::mark(inbound), &end]);
        if let Some(pod) = spec.pod {
            // The other direction of it.
            let from_pod = [nft::source(4, FIRST), Expression::Equal(pod.octets().to_vec())];
            rule(&[&lo, &from_pod, &nft::to_address(pod), &nft::mark(0), &end]);
        }
    }
    let from_loopback = [nft::source(1, FIRST), Expression::Equal(vec![127])];
    rule(&[&lo, &from_loopback, &to_loopback(), &end]);
}

/// Goes on if the packet has this mark and is this user's.
fn marked<'a>(mark: u32, user: Option<u32>) -> Vec<Expression<'a>> {
    let of_user = user.map(|user| nft::meta_is(libc::NFT_META_SKUID, user));
    nft::mark(mark).into_iter().chain(of_user.into_iter().flatten()).collect()
}

/// Goes on if the destination is in 127.0.0.0/8.
fn to_loopback<'a>() -> [Expression<'a>; 2] {
    [nft::destination(1, FIRST), Expression::Equal(vec![127])]
}

/// Name of the table, in each network namespace with capture.
const TABLE: &str = "ironmesh";
/// Priority of chains that change destinations. (nft calls it `dstnat`, but not in this hook.)
const DESTINATION_NAT: i32 = -100;
/// Priority before connection tracking.
const RAW: i32 = -300;
/// From where Istio's proxy, and ours where users tell it from others, dials its workload.
const TO_WORKLOAD_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole transaction as bytes, which the kernel's and nft's reading of them was checked with
    /// (`tests/it`). `UPDATE=1` writes the file anew.
    #[test]
    fn the_rules_are_these_bytes() {
        let spec = CaptureSpec {
            ports: ProxyPorts { outbound: 15001, inbound: 15006, own: [15020, 15021, 15090] },
            exemption: Exemption::Marks { outbound: 1, inbound: 2, user: Some(65_536) },
            pod: Some(Ipv4Addr::new(10, 77, 0, 2)),
            resolver: Some(Ipv4Addr::new(10, 77, 0, 1)),
        };
        let batch = rules(&spec, false).finish();
        let mut hex = String::new();
        for line in batch.bytes().chunks(32) {
            hex.extend(line.iter().map(|byte| format!("{byte:02x}")));
            hex.push('\n');
        }
        if std::env::var_os("UPDATE").is_some() {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/capture.hex");
            std::fs::write(file, &hex).unwrap();
        }
        assert_eq!(hex, include_str!("capture.hex"));
    }
}
