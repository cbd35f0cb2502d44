//! The control plane as its clients see it: over its sockets, with a toy kubelet that makes pods
//! ready.

mod api;
mod explain;
mod push;
mod rollout;
mod world;
