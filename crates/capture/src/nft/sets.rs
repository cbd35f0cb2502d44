//! Sets and maps, and their elements.

use crate::netlink::Payload;

use super::NFTA_DATA_VALUE;
use super::expressions::verdict;

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

impl Set<'_> {
    /// Writes its attributes.
    pub(super) fn encode(&self, m: &mut Payload<'_>) {
        m.text(NFTA_SET_NAME, self.name);
        m.be32(NFTA_SET_FLAGS, self.flags());
        m.be32(NFTA_SET_KEY_TYPE, concatenated(self.key));
        m.be32(NFTA_SET_KEY_LEN, key_length(self.key));
        match self.value {
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
        m.be32(NFTA_SET_ID, self.id);
        if matches!(self.key, [Field::Integer]) {
            // Type, length and value: the key is in the machine's byte order. For listings.
            let mut order = vec![UDATA_KEY_BYTE_ORDER, 4];
            order.extend(BYTE_ORDER_HOST.to_ne_bytes());
            m.bytes(NFTA_SET_USERDATA, &order);
        }
    }

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
    /// Writes its attributes.
    pub(super) fn encode(&self, m: &mut Payload<'_>) {
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

// From linux/netfilter/nf_tables.h and nft.
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const UDATA_KEY_BYTE_ORDER: u8 = 0;
const BYTE_ORDER_HOST: u32 = 1;
