//! The control plane as its clients see it: over its sockets, with a toy kubelet that makes pods
//! ready.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod clients;
mod explain;
mod memory;
mod push;
mod rollout;
mod world;
