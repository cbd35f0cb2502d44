//! Encoder for nf_tables: tables, chains, sets and rules of the IPv4 family as netlink messages of
//! one transaction. `nft --debug=netlink` prints the same expressions, which is how it was checked.

mod expressions;
mod sets;

use crate::KernelError;
use crate::netlink::{Batch, Connection, Payload};

pub(crate) use expressions::{
    Expression, FIRST, SECOND, THIRD, VERDICT, destination, destination_port, leaves_by_loopback,
    mark, meta_is, redirect, source, tcp, to_address, to_network,
};
pub(crate) use sets::{Element, ElementValue, Field, Set, Value};

/// Changes that the kernel makes all at once, or not at all.
#[derive(Debug)]
pub(crate) struct Transaction {
    batch: Batch,
    table: &'static str,
    owned: bool,
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

impl Transaction {
    /// A transaction on this table. Its chains and sets need not be named further.
    pub(crate) fn new(table: &'static str) -> Self {
        let mut batch = Batch::new();
        batch.push_silent(BATCH_BEGIN, 0, ("begin", "a transaction"), |m| {
            header(m, libc::AF_UNSPEC, libc::NFNL_SUBSYS_NFTABLES as u16);
        });
        Self { batch, table, owned: false, ids: FIRST_FREE_ID }
    }

    /// Has a table that is made belong to the socket that sends the transaction.
    pub(crate) fn owned(self, owned: bool) -> Self {
        Self { owned, ..self }
    }

    /// Makes the table afresh, whether or not it was there. Connections that it has led somewhere
    /// stay there.
    pub(crate) fn replace_table(&mut self) {
        let flags = libc::NLM_F_CREATE;
        let owned = self.owned;
        let made = move |m: &mut Payload<'_>| {
            if owned {
                m.be32(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
            }
        };
        self.message(libc::NFT_MSG_NEWTABLE, flags, ("create", "table"), made);
        self.message(libc::NFT_MSG_DELTABLE, 0, ("delete", "table"), |_| {});
        self.message(libc::NFT_MSG_NEWTABLE, flags, ("create", "table"), made);
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
        self.message(libc::NFT_MSG_NEWSET, flags, ("create set", set.name), |m| set.encode(m));
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
    pub(crate) fn commit(self, connection: &Connection) -> Result<(), KernelError> {
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

fn header(m: &mut Payload<'_>, family: i32, resource: u16) {
    let resource = resource.to_be_bytes();
    m.raw(&[family as u8, libc::NFNETLINK_V0 as u8, resource[0], resource[1]]);
}

/// Numbers up to this one are chosen by who describes the sets.
const FIRST_FREE_ID: u32 = 100;

/// Elements of one message; an attribute holds at most 64 KiB.
const ELEMENTS_PER_MESSAGE_MAX: usize = 500;

// From linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Table: the first attribute of every kind of message.
const NFTA_TABLE: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFT_TABLE_F_OWNER: u32 = 2;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
const NFTA_DATA_VALUE: u16 = 1;
