//! What a mesh means: identities, services, routes and policies, and the pure functions that
//! decide over them.
//!
//! Nothing in this crate does IO, reads a clock or draws a random number; all three are arguments.
//! The proxy, `explain`, the analyzer and the console call the same [`decide()`], so they cannot
//! disagree about a request.
//!
//! # Layout
//!
//! - [`name`]: names and ids: services, workloads, objects, SPIFFE identities, labels; [`network`]:
//!   ranges of addresses.
//! - [`resource`]: what moves from the control plane to a proxy, each under a [`ResourceKey`].
//! - [`chunk`]: how large sets are divided, so that one element moves alone.
//! - [`service`], [`route`], [`policy`], [`listeners`], [`settings`]: the bodies of the resources;
//!   [`credential`]: certificates and keys that users give.
//! - [`snapshot`]: all objects of the mesh at one instant; answers any [`ResourceKey`].
//! - [`view`]: the part of a snapshot that one proxy holds, compiled and linked.
//! - [`traffic`], [`request`], [`path`], [`entry`], [`draw`], [`mod@decide`], [`recorder`]: a
//!   connection or a request, and what the mesh does with it.
//! - [`group`]: the endpoints of a destination, which of them gets a request, and what is known of
//!   them; [`retry`]: what is done after an attempt.
//! - [`reason`], [`finding`]: the tables of everything the mesh says about a request or an object.
//! - [`limits`]: the one table of limits; [`bootstrap`]: what processes are started with.

pub mod bootstrap;
pub mod chunk;
pub mod credential;
pub mod decide;
pub mod draw;
pub mod entry;
pub mod finding;
pub mod group;
pub mod header_value;
pub mod host;
pub mod limits;
pub mod listeners;
pub mod log_format;
pub mod log_times;
pub mod name;
pub mod network;
pub mod operator;
pub mod path;
pub mod path_rewrite;
pub mod place;
pub mod policy;
pub mod reason;
pub mod recorder;
pub mod request;
pub mod resource;
pub mod retry;
pub mod route;
pub mod service;
pub mod settings;
mod shared_map;
pub mod snapshot;
mod special;
pub mod spelling;
pub mod text_match;
pub mod topology;
pub mod traffic;
pub mod view;

#[cfg(test)]
mod test_world;

pub use decide::{Decision, Hashed, Plan, decide};
pub use draw::{Draw, Purpose};
pub use finding::{Finding, FindingCode, Severity};
pub use group::{Group, Member, Tick, Tried};
pub use name::{Identity, Labels, Name, ObjectId, ServiceId, WorkloadId};
pub use reason::Reason;
pub use recorder::{Event, Recorder, Silent, Trace};
pub use request::HeaderLookup;
pub use resource::{ListenerKind, ResolutionKey, Resource, ResourceKey, Target, Version};
pub use snapshot::Snapshot;
pub use special::Special;
pub use traffic::{Connection, Local, Request, Seen, Traffic};
pub use view::View;
