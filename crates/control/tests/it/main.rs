//! The control plane on a source in memory: no store, no API, no controllers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod explain;
mod memory;
mod push;
mod statuses;
mod world;
