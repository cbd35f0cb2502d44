//! The API as its clients see it: over its socket, with a toy kubelet that makes pods ready.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod clients;
mod daemons;
mod evictions;
mod jobs;
mod owners;
mod proxied;
mod rollout;
mod secure;
mod stateful;
mod streams;
mod stub_node;
mod usage;
mod world;
