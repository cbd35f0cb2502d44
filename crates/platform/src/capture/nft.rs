//! Encoder for nf_tables: tables, chains, sets and rules of the IPv4 family as netlink messages of
//! one transaction. `nft --debug=netlink` prints the same expressions, which is how it was checked.

use std::net::Ipv4Addr;

use crate::netlink::{Batch, Connection, Payload};
use crate::sandbox::SandboxError;

/// Changes that the kernel makes all at once, or not at all.
#[derive(Debug)]
pub(crate) struct Transaction {
    batch: Batch,
    table: &'static str,
    ids: u32,
}

/// A chain that packets pass through by themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    /// Where, as `NF_INET_*`.
    pub(crate) point: i32,
    /// Order among the chains there; lowest first.
    pub(crate) priority: i32,
}

/// A set or map.
#[derive(Clone, Debug)]
pub(crate) struct Set<'a> {
    /// Its name; with `%d` for an anonymous one.
    pub(crate) name: &'a str,
    /// By which messages of this transaction refer to it.
    pub(crate) id: u32,
    /// Whether it belongs to one rule, and never changes.
    pub(crate) anonymous: bool,
    /// Types of the key's parts.
    pub(crate) key: &'a [Field],
    /// What it maps to.
    pub(crate) value: Value<'a>,
}

/// What a set maps its keys to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// Nothing: a plain set.
    None,
    /// Data of these types.
    Fields(&'a [Field]),
    /// Verdicts.
    Verdict,
}

/// Type of a part of a key, by nft's numbers, which only its listings use. Each part takes four
/// bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    /// A number in the machine's byte order.
    Integer,
    /// An IPv4 address.
    Address,
    /// A transport protocol.
    Protocol,
    /// A port.
    Port,
}

/// An element of a set.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    /// Key: its parts, each padded to four bytes.
    pub(crate) key: Vec<u8>,
    /// What it maps to.
    pub(crate) value: ElementValue,
}

/// What an element maps to.
#[derive(Clone, Debug)]
pub(crate) enum ElementValue {
    /// Nothing.
    None,
    /// Data.
    Bytes(Vec<u8>),
    /// Go on in this chain.
    Goto(String),
}

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

impl Transaction {
    /// A transaction on this table. Its chains and sets need not be named further.
    pub(crate) fn new(table: &'static str) -> Self {
        let mut batch = Batch::new();
        batch.push_silent(BATCH_BEGIN, 0, ("begin", "a transaction"), |m| {
            header(m, libc::AF_UNSPEC, libc::NFNL_SUBSYS_NFTABLES as u16);
        });
        Self { batch, table, ids: FIRST_FREE_ID }
    }

    /// Makes the table afresh, whether or not it was there. Connections that it has led somewhere
    /// stay there.
    pub(crate) fn replace_table(&mut self) {
        let flags = libc::NLM_F_CREATE;
        self.message(libc::NFT_MSG_NEWTABLE, flags, ("create", "table"), |_| {});
        self.message(libc::NFT_MSG_DELTABLE, 0, ("delete", "table"), |_| {});
        self.message(libc::NFT_MSG_NEWTABLE, flags, ("create", "table"), |_| {});
    }

    /// Adds a chain.
    pub(crate) fn chain(&mut self, name: &str, hook: Option<Hook>) {
        let flags = libc::NLM_F_CREATE;
        self.message(libc::NFT_MSG_NEWCHAIN, flags, ("create chain", name), |m| {
            m.text(NFTA_CHAIN_NAME, name);
            if let Some(hook) = hook {
                m.nest(NFTA_CHAIN_HOOK, |m| {
                    m.be32(NFTA_HOOK_HOOKNUM, hook.point as u32);
                    m.be32(NFTA_HOOK_PRIORITY, hook.priority as u32);
                });
                m.be32(NFTA_CHAIN_POLICY, libc::NF_ACCEPT as u32);
                m.text(NFTA_CHAIN_TYPE, hook.kind);
            }
        });
    }

    /// Deletes a chain, which nothing may lead to any more.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.message(libc::NFT_MSG_DELCHAIN, 0, ("delete chain", name), |m| {
            m.text(NFTA_CHAIN_NAME, name);
        });
    }

    /// Deletes every rule of a chain.
    pub(crate) fn flush_chain(&mut self, name: &str) {
        self.message(libc::NFT_MSG_DELRULE, 0, ("flush chain", name), |m| {
            m.text(NFTA_RULE_CHAIN, name);
        });
    }

    /// Adds a rule at the end of a chain.
    pub(crate) fn rule(&mut self, chain: &str, expressions: &[Expression<'_>]) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        self.message(libc::NFT_MSG_NEWRULE, flags, ("create a rule in chain", chain), |m| {
            m.text(NFTA_RULE_CHAIN, chain);
            m.nest(NFTA_RULE_EXPRESSIONS, |m| {
                for expression in expressions {
                    m.nest(NFTA_LIST_ELEM, |m| expression.encode(m));
                }
            });
        });
    }

    /// Adds a set or map.
    pub(crate) fn set(&mut self, set: &Set<'_>) {
        let flags = libc::NLM_F_CREATE;
        self.message(libc::NFT_MSG_NEWSET, flags, ("create set", set.name), |m| {
            m.text(NFTA_SET_NAME, set.name);
            m.be32(NFTA_SET_FLAGS, set.flags());
            m.be32(NFTA_SET_KEY_TYPE, concatenated(set.key));
            m.be32(NFTA_SET_KEY_LEN, key_length(set.key));
            match set.value {
                Value::None => {}
                Value::Fields(fields) => {
                    m.be32(NFTA_SET_DATA_TYPE, concatenated(fields));
                    m.be32(NFTA_SET_DATA_LEN, key_length(fields));
                }
                Value::Verdict => {
                    m.be32(NFTA_SET_DATA_TYPE, libc::NFT_DATA_VERDICT);
                    m.be32(NFTA_SET_DATA_LEN, 0);
                }
            }
            m.be32(NFTA_SET_ID, set.id);
            if matches!(set.key, [Field::Integer]) {
                // Type, length and value: the key is in the machine's byte order. For listings.
                let mut order = vec![UDATA_KEY_BYTE_ORDER, 4];
                order.extend(BYTE_ORDER_HOST.to_ne_bytes());
                m.bytes(NFTA_SET_USERDATA, &order);
            }
        });
    }

    /// Adds elements to a set.
    pub(crate) fn add_elements(&mut self, set: &str, id: u32, elements: &[Element]) {
        let flags = libc::NLM_F_CREATE;
        self.elements(libc::NFT_MSG_NEWSETELEM, flags, ("add to set", set), id, elements);
    }

    /// Removes elements from a set.
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, ("remove from set", set), 0, elements);
    }

    /// The messages, closed and ready to be sent.
    pub(crate) fn finish(mut self) -> Batch {
        // The kernel keeps the answers of a transaction until its end, so one says all.
        self.batch.acknowledge_last();
        self.batch.push_silent(BATCH_END, 0, ("end", "a transaction"), |m| {
            header(m, libc::AF_UNSPEC, libc::NFNL_SUBSYS_NFTABLES as u16);
        });
        self.batch
    }

    /// Sends it.
    pub(crate) fn commit(self, connection: &Connection) -> Result<(), SandboxError> {
        connection.transact(&self.finish())
    }

    /// A number for a set that this transaction has not used yet.
    pub(crate) fn next_id(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> usize {
        self.batch.bytes().len()
    }

    fn elements(
        &mut self,
        kind: i32,
        flags: i32,
        what: (&'static str, &str),
        id: u32,
        elements: &[Element],
    ) {
        for some in elements.chunks(ELEMENTS_PER_MESSAGE_MAX) {
            self.message(kind, flags, what, |m| {
                m.text(NFTA_SET_ELEM_LIST_SET, what.1);
                if id != 0 {
                    m.be32(NFTA_SET_ELEM_LIST_SET_ID, id);
                }
                m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
                    for element in some {
                        m.nest(NFTA_LIST_ELEM, |m| element.encode(m));
                    }
                });
            });
        }
    }

    /// Adds a message. The table's name is the first attribute of all of them.
    fn message(
        &mut self,
        kind: i32,
        flags: i32,
        (step, object): (&'static str, &str),
        fill: impl FnOnce(&mut Payload<'_>),
    ) {
        let table = self.table;
        let kind = ((libc::NFNL_SUBSYS_NFTABLES << 8) | kind) as u16;
        self.batch.push_silent(kind, flags, (step, format!("{object} of {table}")), |m| {
            header(m, libc::AF_INET, 0);
            m.text(NFTA_TABLE, table);
            fill(m);
        });
    }
}

impl Set<'_> {
    fn flags(&self) -> u32 {
        let mut flags = 0;
        if self.anonymous {
            flags |= libc::NFT_SET_ANONYMOUS | libc::NFT_SET_CONSTANT;
        }
        if !matches!(self.value, Value::None) {
            flags |= libc::NFT_SET_MAP;
        }
        flags as u32
    }
}

impl Element {
    fn encode(&self, m: &mut Payload<'_>) {
        m.nest(NFTA_SET_ELEM_KEY, |m| {
            m.bytes(NFTA_DATA_VALUE, &self.key);
        });
        match &self.value {
            ElementValue::None => {}
            ElementValue::Bytes(bytes) => {
                m.nest(NFTA_SET_ELEM_DATA, |m| {
                    m.bytes(NFTA_DATA_VALUE, bytes);
                });
            }
            ElementValue::Goto(chain) => {
                m.nest(NFTA_SET_ELEM_DATA, |m| verdict(m, libc::NFT_GOTO, Some(chain)));
            }
        }
    }
}

impl Expression<'_> {
    /// Writes its name and its attributes.
    fn encode(&self, m: &mut Payload<'_>) {
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

/// Leads the connection to a local port.
pub(crate) fn redirect<'a>(port: u16) -> [Expression<'a>; 2] {
    [Expression::Load(port.to_be_bytes().to_vec()), Expression::Redirect]
}

fn header(m: &mut Payload<'_>, family: i32, resource: u16) {
    let resource = resource.to_be_bytes();
    m.raw(&[family as u8, libc::NFNETLINK_V0 as u8, resource[0], resource[1]]);
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

fn verdict(m: &mut Payload<'_>, code: i32, chain: Option<&str>) {
    m.nest(NFTA_DATA_VERDICT, |m| {
        m.be32(NFTA_VERDICT_CODE, code as u32);
        if let Some(chain) = chain {
            m.text(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

fn concatenated(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |all, field| (all << 6) | field.number())
}

/// Length of a key: a single part as it is, several in four bytes each.
fn key_length(fields: &[Field]) -> u32 {
    match fields {
        [Field::Port] => 2,
        [Field::Protocol] => 1,
        fields => 4 * fields.len() as u32,
    }
}

impl Field {
    /// nft's number of the type.
    fn number(self) -> u32 {
        match self {
            Self::Integer => 4,
            Self::Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }
}

/// The register of verdicts.
pub(crate) const VERDICT: u32 = 0;
/// The first register; it has 16 bytes.
pub(crate) const FIRST: u32 = 1;
/// Bytes 4 to 8 of the first register.
pub(crate) const SECOND: u32 = 9;
/// Bytes 8 to 12 of the first register.
pub(crate) const THIRD: u32 = 10;

/// Numbers up to this one are chosen by who describes the sets.
const FIRST_FREE_ID: u32 = 100;

/// Elements of one message; an attribute holds at most 64 KiB.
const ELEMENTS_PER_MESSAGE_MAX: usize = 500;

// From linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Table: the first attribute of every kind of message.
const NFTA_TABLE: u16 = 1;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
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
const UDATA_KEY_BYTE_ORDER: u8 = 0;
const BYTE_ORDER_HOST: u32 = 1;
