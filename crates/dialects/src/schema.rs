//! Kinds as data: which fields they have, of which types, and which of them the mesh honours.
//!
//! A field is written once, in the table of its kind (`fields!`, `words!`). The table is the
//! definition of
//!
//! - the check, which reports what is wrong or not honoured, each with its exact path;
//! - the struct that code works on: what was checked converts into it without fail ([`Typed`]); and
//!   the same read in place, where many objects are looked at ([`Fields`]);
//! - the description of the kind for people and tools ([`Message`]).

mod check;
mod fill;
mod in_place;
mod openapi;
mod quantity;
pub(crate) mod table;
mod typed;

use ironmesh_model::FindingCode;
use serde_json::Value;

pub(crate) use check::{DID_YOU_MEAN, read};
pub use check::{Unreadable, parse};
pub use fill::{fill, normalize};
pub use in_place::{Entries, Fields, Items};
pub use ironmesh_model::spelling::nearest;
pub use quantity::Quantity;
pub(crate) use table::{fields, kind, words};
pub use typed::{Bounded, Count, IntegerOrText, Positive, Typed};
pub(crate) use typed::{entries, put, take};

/// The fields of one kind, or of one part of it.
#[derive(Debug)]
pub struct Message {
    /// Name, for messages.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// Whether fields that are not listed are someone else's business, and no finding.
    pub open: bool,
    /// Whether names may be written in snake case, too, as protobuf's JSON allows.
    pub protobuf: bool,
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Name in manifests.
    pub name: &'static str,
    /// What it says.
    pub doc: &'static str,
    /// What it takes.
    pub of: Type,
    /// What the mesh does with it.
    pub status: Status,
    /// What it is where it is left out, if that is not what its type has for nothing.
    pub default: Option<fn() -> Value>,
}

/// What the mesh does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Honoured,
    /// It does what it says, must be there, and not be empty.
    Required,
    /// Parsed, without effect yet.
    NotHonoured,
    /// An old name or form of what is now written as this; honoured.
    Old(&'static str),
    /// Understood, and if it asks for anything a finding of this code, with the reason.
    Found(FindingCode, &'static str),
}

/// The statuses as tables write them.
impl Status {
    /// See [`Status::Honoured`].
    pub(crate) const fn honoured() -> Self {
        Self::Honoured
    }

    /// See [`Status::Required`].
    pub(crate) const fn required() -> Self {
        Self::Required
    }

    /// See [`Status::NotHonoured`].
    pub(crate) const fn later() -> Self {
        Self::NotHonoured
    }

    /// A field that can have no effect, and why.
    pub(crate) const fn no_effect(why: &'static str) -> Self {
        Self::Found(FindingCode::NoEffect, why)
    }

    /// See [`Status::Old`].
    pub(crate) const fn old(new: &'static str) -> Self {
        Self::Old(new)
    }
}

/// What a field takes.
#[derive(Debug)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// An integer within these bounds.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// A text.
    Text,
    /// A whole number, or a text: a port by number or name, a count or a percentage.
    IntegerOrText,
    /// An amount as Kubernetes writes it: `0.5`, `500m`, `1Gi`.
    Quantity,
    /// A text such as `1.5s`.
    Duration,
    /// One of these words, of which only some are honoured.
    Words {
        /// All that are understood.
        words: &'static [Word],
        /// Whether letter case does not matter.
        any_case: bool,
    },
    /// A list.
    List(&'static Self),
    /// Values by name.
    Map(&'static Self),
    /// An object with these fields.
    Object(&'static Message),
    /// Anything: it is not looked into.
    Any,
}

/// A word that a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// As it is written.
    pub word: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Whether the mesh does what it says.
    pub honoured: bool,
}

#[cfg(test)]
mod tests;
