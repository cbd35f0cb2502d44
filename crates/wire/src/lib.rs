//! The push protocol: how the model moves from the control plane to a proxy, and comes alive there.
//!
//! A proxy subscribes to the resources that it needs, by key. The control plane answers with their
//! bytes and versions, follows the references of a resolution so that all that belongs together
//! arrives in one update, and from then on sends what changes, alone. Bytes are deterministic and a
//! version is their hash, so that any replica of the control plane can go on where another stopped:
//! a proxy that comes back tells what it holds and is sent only what differs.
//!
//! # Layout
//!
//! - [`codec`]: resources and keys to bytes and back.
//! - [`messages`]: what the two sides say to each other.
//! - [`frame`]: messages over a byte stream, within limits.
//! - [`server`]: the control plane's end. [`client`]: the proxy's end.

pub mod client;
pub mod codec;
pub mod frame;
pub mod messages;
pub mod server;

#[cfg(test)]
mod testing;

pub use client::Client;
pub use messages::Certificate;
pub use server::Server;
