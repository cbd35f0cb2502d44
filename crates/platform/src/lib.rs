//! Where workloads run: capture of their traffic, and the local platform.

pub mod capture;
pub mod fds;
pub mod local;
mod netlink;
pub mod preflight;
pub mod sandbox;
