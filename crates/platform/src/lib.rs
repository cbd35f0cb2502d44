//! Where workloads run: capture of their traffic, and the local platform.

pub mod local;
