//! Expressions: what a rule consists of.

use std::net::Ipv4Addr;

use crate::netlink::Payload;

use super::NFTA_DATA_VALUE;

/// One expression of a rule. Where none is named, the register is the first.
#[derive(Clone, Debug)]
pub(crate) enum Expression<'a> {
    /// Loads what the kernel knows about the packet (`NFT_META_*`).
    Meta { key: i32, register: u32 },
    /// Loads bytes of the network or transport header.
    Header { base: i32, offset: u32, length: u32, register: u32 },
    /// Loads the status of the connection.
    ConnectionStatus,
    /// Goes on if the register is these bytes.
    Equal(Vec<u8>),
    /// Goes on if the register is not these bytes.
    Differs(Vec<u8>),
    /// Keeps only these bits.
    Mask(u32),
    /// Goes on if the registers are in a set; loads what it maps to.
    Lookup { set: &'a str, id: u32, to: Option<u32> },
    /// Loads a number that counts cyclically from 0.
    CountModulo(u32),
    /// Loads a number below this one, which follows from the first four bytes of the register.
    HashModulo(u32),
    /// Loads bytes.
    Load(Vec<u8>),
    /// Ends the chain.
    Return,
    /// Leads the connection to a local port, from the register.
    Redirect,
    /// Leads the connection elsewhere: address and port from the first two registers.
    Destination,
    /// Gives the connection the address of the interface it leaves by.
    Masquerade,
    /// Keeps the connection out of conntrack.
    NoTrack,
    /// Answers with an error: `NFT_REJECT_*`, ICMP code.
    Reject(i32, u8),
}

impl Expression<'_> {
    /// Writes its name and its attributes.
    pub(super) fn encode(&self, m: &mut Payload<'_>) {
        match self {
            Self::Meta { key, register } => expression(m, "meta", |m| {
                m.be32(NFTA_META_DREG, *register);
                m.be32(NFTA_META_KEY, *key as u32);
            }),
            Self::Header { base, offset, length, register } => expression(m, "payload", |m| {
                m.be32(NFTA_PAYLOAD_DREG, *register);
                m.be32(NFTA_PAYLOAD_BASE, *base as u32);
                m.be32(NFTA_PAYLOAD_OFFSET, *offset);
                m.be32(NFTA_PAYLOAD_LEN, *length);
            }),
            Self::ConnectionStatus => expression(m, "ct", |m| {
                m.be32(NFTA_CT_DREG, FIRST);
                m.be32(NFTA_CT_KEY, libc::NFT_CT_STATUS as u32);
            }),
            Self::Equal(bytes) => compare(m, libc::NFT_CMP_EQ, bytes),
            Self::Differs(bytes) => compare(m, libc::NFT_CMP_NEQ, bytes),
            Self::Mask(bits) => expression(m, "bitwise", |m| {
                m.be32(NFTA_BITWISE_SREG, FIRST);
                m.be32(NFTA_BITWISE_DREG, FIRST);
                m.be32(NFTA_BITWISE_LEN, 4);
                value(m, NFTA_BITWISE_MASK, &bits.to_ne_bytes());
                value(m, NFTA_BITWISE_XOR, &[0; 4]);
            }),
            Self::Lookup { set, id, to } => expression(m, "lookup", |m| {
                m.text(NFTA_LOOKUP_SET, set);
                m.be32(NFTA_LOOKUP_SREG, FIRST);
                if let Some(register) = to {
                    m.be32(NFTA_LOOKUP_DREG, *register);
                }
                m.be32(NFTA_LOOKUP_SET_ID, *id);
            }),
            Self::CountModulo(modulus) => expression(m, "numgen", |m| {
                m.be32(NFTA_NG_DREG, FIRST);
                m.be32(NFTA_NG_MODULUS, *modulus);
                m.be32(NFTA_NG_TYPE, NFT_NG_INCREMENTAL);
            }),
            Self::HashModulo(modulus) => expression(m, "hash", |m| {
                m.be32(NFTA_HASH_SREG, FIRST);
                m.be32(NFTA_HASH_DREG, FIRST);
                m.be32(NFTA_HASH_LEN, 4);
                m.be32(NFTA_HASH_MODULUS, *modulus);
                // Without one the kernel takes another for each rule.
                m.be32(NFTA_HASH_SEED, HASH_SEED);
            }),
            Self::Load(bytes) => expression(m, "immediate", |m| {
                m.be32(NFTA_IMMEDIATE_DREG, FIRST);
                value(m, NFTA_IMMEDIATE_DATA, bytes);
            }),
            Self::Return => expression(m, "immediate", |m| {
                m.be32(NFTA_IMMEDIATE_DREG, VERDICT);
                m.nest(NFTA_IMMEDIATE_DATA, |m| verdict(m, libc::NFT_RETURN, None));
            }),
            Self::Redirect => expression(m, "redir", |m| {
                m.be32(NFTA_REDIR_REG_PROTO_MIN, FIRST);
                m.be32(NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
            }),
            Self::Destination => expression(m, "nat", |m| {
                m.be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
                m.be32(NFTA_NAT_FAMILY, libc::AF_INET as u32);
                m.be32(NFTA_NAT_REG_ADDR_MIN, FIRST);
                m.be32(NFTA_NAT_REG_PROTO_MIN, SECOND);
            }),
            Self::Masquerade => expression(m, "masq", |_| {}),
            Self::NoTrack => expression(m, "notrack", |_| {}),
            Self::Reject(kind, code) => expression(m, "reject", |m| {
                m.be32(NFTA_REJECT_TYPE, *kind as u32);
                m.bytes(NFTA_REJECT_ICMP_CODE, &[*code]);
            }),
        }
    }
}

/// Loads the protocol above IP and goes on if it is TCP.
pub(crate) fn tcp<'a>() -> [Expression<'a>; 2] {
    let protocol = vec![libc::IPPROTO_TCP as u8];
    [Expression::Meta { key: libc::NFT_META_L4PROTO, register: FIRST }, Expression::Equal(protocol)]
}

/// Goes on if the packet's mark is this one.
pub(crate) fn mark<'a>(mark: u32) -> [Expression<'a>; 2] {
    meta_is(libc::NFT_META_MARK, mark)
}

/// Goes on if what the kernel knows is this number.
pub(crate) fn meta_is<'a>(key: i32, number: u32) -> [Expression<'a>; 2] {
    let bytes = number.to_ne_bytes().to_vec();
    [Expression::Meta { key, register: FIRST }, Expression::Equal(bytes)]
}

/// Goes on if the packet leaves by the loopback interface.
pub(crate) fn leaves_by_loopback<'a>() -> [Expression<'a>; 2] {
    let mut name = b"lo".to_vec();
    name.resize(libc::IFNAMSIZ, 0);
    [Expression::Meta { key: libc::NFT_META_OIFNAME, register: FIRST }, Expression::Equal(name)]
}

/// Loads the source address.
pub(crate) fn source<'a>(length: u32, register: u32) -> Expression<'a> {
    Expression::Header { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset: 12, length, register }
}

/// Loads the destination address, or its first bytes.
pub(crate) fn destination<'a>(length: u32, register: u32) -> Expression<'a> {
    Expression::Header { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset: 16, length, register }
}

/// Loads the destination port.
pub(crate) fn destination_port<'a>(register: u32) -> Expression<'a> {
    let base = libc::NFT_PAYLOAD_TRANSPORT_HEADER;
    Expression::Header { base, offset: 2, length: 2, register }
}

/// Goes on if the destination is this address.
pub(crate) fn to_address<'a>(address: Ipv4Addr) -> [Expression<'a>; 2] {
    [destination(4, FIRST), Expression::Equal(address.octets().to_vec())]
}

/// Goes on if the destination is in this network (address, prefix length).
pub(crate) fn to_network<'a>((address, prefix): (Ipv4Addr, u8)) -> [Expression<'a>; 3] {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let network = (address.to_bits() & mask).to_be_bytes().to_vec();
    [destination(4, FIRST), Expression::Mask(mask.to_be()), Expression::Equal(network)]
}

/// Leads the connection to a local port.
pub(crate) fn redirect<'a>(port: u16) -> [Expression<'a>; 2] {
    [Expression::Load(port.to_be_bytes().to_vec()), Expression::Redirect]
}

fn expression(m: &mut Payload<'_>, name: &str, fill: impl FnOnce(&mut Payload<'_>)) {
    m.text(NFTA_EXPR_NAME, name);
    m.nest(NFTA_EXPR_DATA, fill);
}

fn compare(m: &mut Payload<'_>, operation: i32, bytes: &[u8]) {
    expression(m, "cmp", |m| {
        m.be32(NFTA_CMP_SREG, FIRST);
        m.be32(NFTA_CMP_OP, operation as u32);
        value(m, NFTA_CMP_DATA, bytes);
    });
}

fn value(m: &mut Payload<'_>, kind: u16, bytes: &[u8]) {
    m.nest(kind, |m| {
        m.bytes(NFTA_DATA_VALUE, bytes);
    });
}

/// Writes a verdict.
pub(super) fn verdict(m: &mut Payload<'_>, code: i32, chain: Option<&str>) {
    m.nest(NFTA_DATA_VERDICT, |m| {
        m.be32(NFTA_VERDICT_CODE, code as u32);
        if let Some(chain) = chain {
            m.text(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

/// The register of verdicts.
pub(crate) const VERDICT: u32 = 0;
/// The first register; it has 16 bytes.
pub(crate) const FIRST: u32 = 1;
/// Bytes 4 to 8 of the first register.
pub(crate) const SECOND: u32 = 9;
/// Bytes 8 to 12 of the first register.
pub(crate) const THIRD: u32 = 10;

// From linux/netfilter/nf_tables.h.
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_SET_ID: u16 = 4;
const NFTA_NG_DREG: u16 = 1;
const NFTA_NG_MODULUS: u16 = 2;
const NFTA_NG_TYPE: u16 = 3;
const NFT_NG_INCREMENTAL: u32 = 0;
const NFTA_HASH_SREG: u16 = 1;
const NFTA_HASH_DREG: u16 = 2;
const NFTA_HASH_LEN: u16 = 3;
const NFTA_HASH_MODULUS: u16 = 4;
const NFTA_HASH_SEED: u16 = 5;
const HASH_SEED: u32 = 1;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
const NFTA_REDIR_FLAGS: u16 = 3;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFT_NAT_DNAT: u32 = 1;
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
