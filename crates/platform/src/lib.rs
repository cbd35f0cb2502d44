//! Where workloads run: capture of their traffic, and the local platform.

pub mod capture;
pub mod local;
mod netlink;
pub mod preflight;
pub mod sandbox;

pub use ironmesh_fds as fds;
