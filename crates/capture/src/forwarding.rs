//! Plain Services for who has no proxy: each connection to a Service's address goes to the next of
//! its endpoints, by nf_tables rules in the mesh's root network namespace.
//!
//! ```text
//! prerouting, output   address . protocol . port vmap @ports      → chain of the port
//! chain of the port    dnat to numgen inc mod N map { 0 : endpoint, 1 : endpoint, ... }
//!                      (a caller keeps its endpoint: jhash of its address, mod N)
//! refuse*              address . protocol . port @refused         → reset, or port unreachable
//! unknown*             address in the Services' network           → host unreachable, or reset
//! postrouting          source . destination @hairpin, dnat        → masquerade
//! ```
//!
//! A packet costs one hash lookup however many Services there are, and a change of one Service
//! touches its own chain and element alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::KernelError;
use crate::netlink::{Connection, Subsystem};

use crate::nft::{
    self, Element, ElementValue, Expression, FIRST, Field, Hook, SECOND, Set, THIRD, Transaction,
    Value,
};

/// Transport protocol of a Service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedPort {
    /// Address and port that callers use.
    pub address: SocketAddrV4,
    /// Its protocol.
    pub transport: Transport,
    /// Where its connections go, strictly in turn. None: they are refused.
    pub endpoints: Vec<SocketAddrV4>,
    /// Whether those of one address go to one endpoint instead, for as long as these are the same.
    pub sticky: bool,
}

/// The rules of all Services, as they are in the kernel.
#[derive(Debug)]
pub struct Forwarding {
    network: (Ipv4Addr, u8),
    node: Option<Ipv4Addr>,
    installed: bool,
    ports: BTreeMap<Key, Installed>,
    /// Endpoints' addresses in the set of those that may call themselves.
    hairpin: BTreeSet<Ipv4Addr>,
}

/// What callers dial.
type Key = (Transport, Ipv4Addr, u16);

/// A port as the kernel has it.
#[derive(Debug)]
struct Installed {
    endpoints: Vec<SocketAddrV4>,
    sticky: bool,
    /// With which endpoint its map begins. The kernel counts from 0 for each new map, so without
    /// this the first endpoint would get the connection after every change.
    rotation: usize,
}

impl Forwarding {
    /// Rules for Services with addresses of this network (address, prefix length). Nothing is
    /// installed yet.
    #[must_use]
    pub fn new(network: (Ipv4Addr, u8)) -> Self {
        Self {
            network,
            node: None,
            installed: false,
            ports: BTreeMap::new(),
            hairpin: BTreeSet::new(),
        }
    }

    /// The same, that takes ports of the node at this address, too. Those that nobody asks for stay
    /// what they are.
    #[must_use]
    pub fn with_node(self, node: Ipv4Addr) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Makes the rules of the calling thread's network namespace those of `ports`. Only what differs
    /// from the last call is sent. Open connections stay where they are, and a changed list of
    /// endpoints begins one further than it did before.
    ///
    /// # Errors
    ///
    /// The step that failed. The next call then installs everything anew.
    pub fn apply(&mut self, ports: &[ForwardedPort]) -> Result<(), KernelError> {
        let result = self.try_apply(ports);
        if result.is_err() {
            *self = Self { node: self.node, ..Self::new(self.network) };
        }
        result
    }

    fn try_apply(&mut self, ports: &[ForwardedPort]) -> Result<(), KernelError> {
        let connection = Connection::open(Subsystem::Netfilter)?;
        if !self.installed {
            base(self.network).commit(&connection)?;
            self.installed = true;
        }
        let allowed: Vec<ForwardedPort> =
            ports.iter().filter(|port| self.may_be_dialled(port)).map(without_special).collect();
        let wanted: BTreeMap<Key, &ForwardedPort> =
            allowed.iter().map(|port| (port.key(), port)).collect();
        let mut transaction = Transaction::new(TABLE);
        let before = transaction.size();
        self.hairpins(&mut transaction, &wanted);
        let gone: Vec<Key> =
            self.ports.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for key in gone {
            transaction = send_if_large(transaction, &connection)?;
            if let Some(old) = self.ports.remove(&key) {
                remove(&mut transaction, key, &old);
            }
        }
        for (key, ForwardedPort { endpoints, sticky, .. }) in wanted {
            let old = self.ports.get(&key);
            if old.is_some_and(|old| old.endpoints == *endpoints && old.sticky == *sticky) {
                continue;
            }
            transaction = send_if_large(transaction, &connection)?;
            let rotation = old.map_or(0, |old| old.rotation.wrapping_add(1));
            // Whoever comes back is to find the same one.
            let rotation = if *sticky { 0 } else { rotation };
            let new = Installed { endpoints: endpoints.clone(), sticky: *sticky, rotation };
            change(&mut transaction, key, old, &new);
            self.ports.insert(key, new);
        }
        if transaction.size() > before { transaction.commit(&connection) } else { Ok(()) }
    }

    /// Whether a port is at an address of Services, or the node's: at any other it would take what
    /// others serve.
    fn may_be_dialled(&self, port: &ForwardedPort) -> bool {
        let (network, prefix) = self.network;
        let address = port.address.ip();
        let is_service = (network.to_bits() ^ address.to_bits()) & mask(prefix) == 0;
        is_service || self.node == Some(*address)
    }

    /// Keeps the set of endpoints that may call themselves: nf_tables cannot compare two addresses
    /// of a packet, so that each has an element of its own. Those of past endpoints do no harm, but
    /// would pile up.
    fn hairpins(&mut self, transaction: &mut Transaction, wanted: &BTreeMap<Key, &ForwardedPort>) {
        let addresses: BTreeSet<Ipv4Addr> =
            wanted.values().flat_map(|port| port.endpoints.iter().map(|e| *e.ip())).collect();
        let element = |address: &Ipv4Addr| Element {
            key: [address.octets(), address.octets()].concat(),
            value: ElementValue::None,
        };
        let new: Vec<Element> = addresses.difference(&self.hairpin).map(element).collect();
        let old: Vec<Element> = self.hairpin.difference(&addresses).map(element).collect();
        transaction.add_elements(HAIRPIN, 0, &new);
        transaction.delete_elements(HAIRPIN, &old);
        self.hairpin = addresses;
    }
}

impl ForwardedPort {
    fn key(&self) -> Key {
        (self.transport, *self.address.ip(), self.address.port())
    }
}

impl Transport {
    fn number(self) -> i32 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP,
            Self::Udp => libc::IPPROTO_UDP,
        }
    }
}

/// The table without any Service.
fn base(network: (Ipv4Addr, u8)) -> Transaction {
    let mut transaction = Transaction::new(TABLE);
    transaction.replace_table();
    let key = &[Field::Address, Field::Protocol, Field::Port];
    let set = |name, id, key, value| Set { name, id, anonymous: false, key, value };
    transaction.set(&set(PORTS, 1, key, Value::Verdict));
    transaction.set(&set(REFUSED, 2, key, Value::None));
    transaction.set(&set(HAIRPIN, 3, &[Field::Address; 2], Value::None));
    let lookup = |set, id, to| Expression::Lookup { set, id, to };
    let dialled = [
        nft::destination(4, FIRST),
        Expression::Meta { key: libc::NFT_META_L4PROTO, register: SECOND },
        nft::destination_port(THIRD),
    ];
    for (chain, refuse, point) in [
        ("prerouting", "refuse-prerouting", libc::NF_INET_PRE_ROUTING),
        ("output", "refuse-output", libc::NF_INET_LOCAL_OUT),
    ] {
        transaction.chain(chain, Some(Hook { kind: "nat", point, priority: -100 }));
        let by_port = lookup(PORTS, 1, Some(nft::VERDICT));
        transaction.rule(chain, &[&dialled[..], &[by_port]].concat());
        transaction.chain(refuse, Some(Hook { kind: "filter", point, priority: -150 }));
        let refused = [lookup(REFUSED, 2, None)];
        let reset = [Expression::Reject(libc::NFT_REJECT_TCP_RST, 0)];
        transaction.rule(refuse, &[&dialled[..], &refused, &nft::tcp(), &reset].concat());
        let unreachable =
            [Expression::Reject(libc::NFT_REJECT_ICMP_UNREACH, ICMP_PORT_UNREACHABLE)];
        transaction.rule(refuse, &[&dialled[..], &refused, &unreachable].concat());
    }
    let in_network = nft::to_network(network);
    let unreachable = [Expression::Reject(libc::NFT_REJECT_ICMP_UNREACH, ICMP_HOST_UNREACHABLE)];
    let (forward, output) = ("unknown-forward", "unknown-output");
    let hook = |point| Some(Hook { kind: "filter", point, priority: 0 });
    transaction.chain(forward, hook(libc::NF_INET_FORWARD));
    transaction.rule(forward, &[&in_network[..], &unreachable].concat());
    transaction.chain(output, hook(libc::NF_INET_LOCAL_OUT));
    // A socket that is just connecting takes no ICMP error from its own machine.
    let reset = [Expression::Reject(libc::NFT_REJECT_TCP_RST, 0)];
    transaction.rule(output, &[&in_network[..], &nft::tcp(), &reset].concat());
    transaction.rule(output, &[&in_network[..], &unreachable].concat());
    let point = libc::NF_INET_POST_ROUTING;
    transaction.chain("postrouting", Some(Hook { kind: "nat", point, priority: 100 }));
    let to_itself = [
        nft::source(4, FIRST),
        nft::destination(4, SECOND),
        lookup(HAIRPIN, 3, None),
        Expression::ConnectionStatus,
        Expression::Mask(IPS_DST_NAT),
        Expression::Differs(vec![0; 4]),
        Expression::Masquerade,
    ];
    transaction.rule("postrouting", &to_itself);
    transaction
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// A port without endpoints at addresses that are no host's, such as the loopback of the mesh.
fn without_special(port: &ForwardedPort) -> ForwardedPort {
    let is_host = |endpoint: &&SocketAddrV4| {
        let ip = endpoint.ip();
        let is_special = ip.is_loopback() || ip.is_link_local() || ip.is_multicast();
        !is_special && !ip.is_broadcast() && ip.octets()[0] != 0
    };
    let endpoints = port.endpoints.iter().filter(is_host).copied().collect();
    ForwardedPort { endpoints, ..*port }
}

/// From one state of a port to the next.
fn change(transaction: &mut Transaction, key: Key, old: Option<&Installed>, new: &Installed) {
    let chain = chain_name(key);
    let was_served = old.is_some_and(|old| !old.endpoints.is_empty());
    if new.endpoints.is_empty() {
        if let Some(old) = old {
            remove(transaction, key, old);
        }
        transaction.add_elements(REFUSED, 0, &[element(key, ElementValue::None)]);
        return;
    }
    if was_served {
        transaction.flush_chain(&chain);
    } else {
        if let Some(old) = old {
            remove(transaction, key, old);
        }
        transaction.chain(&chain, None);
        let to_chain = element(key, ElementValue::Goto(chain.clone()));
        transaction.add_elements(PORTS, 0, &[to_chain]);
    }
    balance(transaction, key, &chain, new);
}

/// The rule that gives each connection its endpoint: the next one, or that of the caller.
fn balance(transaction: &mut Transaction, key: Key, chain: &str, port: &Installed) {
    let (map, id) = ("__map%d", transaction.next_id());
    transaction.set(&Set {
        name: map,
        id,
        anonymous: true,
        key: &[Field::Integer],
        value: Value::Fields(&[Field::Address, Field::Port]),
    });
    let count = port.endpoints.len();
    let elements: Vec<Element> = (0..count)
        .map(|position| {
            let endpoint = &port.endpoints[(position + port.rotation) % count];
            let mut bytes = endpoint.ip().octets().to_vec();
            bytes.extend(endpoint.port().to_be_bytes());
            bytes.extend([0; 2]);
            let key = (position as u32).to_ne_bytes().to_vec();
            Element { key, value: ElementValue::Bytes(bytes) }
        })
        .collect();
    transaction.add_elements(map, id, &elements);
    let protocol = vec![key.0.number() as u8];
    let choice = match port.sticky {
        true => vec![nft::source(4, FIRST), Expression::HashModulo(count as u32)],
        false => vec![Expression::CountModulo(count as u32)],
    };
    // For the kernel, which translates ports only of a protocol that it knows.
    let known = [
        Expression::Meta { key: libc::NFT_META_L4PROTO, register: FIRST },
        Expression::Equal(protocol),
    ];
    let to_endpoint =
        [Expression::Lookup { set: map, id, to: Some(FIRST) }, Expression::Destination];
    transaction.rule(chain, &[&known[..], &choice, &to_endpoint].concat());
}

fn remove(transaction: &mut Transaction, key: Key, old: &Installed) {
    if old.endpoints.is_empty() {
        transaction.delete_elements(REFUSED, &[element(key, ElementValue::None)]);
    } else {
        let chain = chain_name(key);
        transaction.delete_elements(PORTS, &[element(key, ElementValue::None)]);
        transaction.flush_chain(&chain);
        transaction.delete_chain(&chain);
    }
}

fn send_if_large(
    transaction: Transaction,
    connection: &Connection,
) -> Result<Transaction, KernelError> {
    if transaction.size() < TRANSACTION_BYTES_MAX {
        return Ok(transaction);
    }
    transaction.commit(connection)?;
    Ok(Transaction::new(TABLE))
}

fn element((transport, address, port): Key, value: ElementValue) -> Element {
    let [high, low] = port.to_be_bytes();
    let protocol = [transport.number() as u8, 0, 0, 0];
    Element { key: [address.octets(), protocol, [high, low, 0, 0]].concat(), value }
}

fn chain_name((transport, address, port): Key) -> String {
    let transport = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    format!("{transport}-{address}-{port}")
}

/// Name of the table, in the mesh's root network namespace.
const TABLE: &str = "ironmesh-services";
/// From what callers dial to the chain of that port.
const PORTS: &str = "ports";
/// What has no endpoints.
const REFUSED: &str = "refused";
/// Pairs of each endpoint's address with itself.
const HAIRPIN: &str = "hairpin";
/// Size at which a transaction is sent and another begun. Together they are then not one change,
/// but each Service is.
const TRANSACTION_BYTES_MAX: usize = 64 << 10;
/// The connection's destination has been translated.
const IPS_DST_NAT: u32 = 1 << 5;
const ICMP_HOST_UNREACHABLE: u8 = 1;
const ICMP_PORT_UNREACHABLE: u8 = 3;
