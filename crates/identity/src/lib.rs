//! Who is who in a mesh: the tokens that attest workloads, the certificate authority, the
//! certificates of workloads and the TLS that is spoken with them.
//!
//! A private key is made where it is used and never leaves that process's memory. Trust anchors are
//! a list and the trust domain is data, so that both can change while the mesh runs. Types of the
//! TLS library stay within this crate and one module of the proxy.
//!
//! # Layout
//!
//! - [`token`]: what a workload proves itself with to the control plane.
//! - [`ca`]: the authority that signs certificates.
//! - [`workload`]: key pair, certificate and rotation of one workload, and the TLS of mesh traffic.
//! - [`channel`]: the TLS between proxies and the control plane.
//! - [`peer`]: the SPIFFE id in a peer's certificate, and its verification.
//! - [`random`]: the only place of the mesh that draws unforeseeable bytes.
//! - [`clock`]: the only place of this crate, and of the proxy, that reads the wall clock.

pub mod ca;
pub mod channel;
pub mod clock;
pub mod peer;
pub mod random;
pub mod token;
pub mod workload;

mod hex;
mod provider;

pub use ca::{Authority, Issued};
pub use clock::{Clock, SystemClock, Timestamp};
pub use peer::peer_identity;
pub use token::{Attest, Claims, LocalAttestation, TokenKey};
pub use workload::{ClientAuth, Credentials, KeyPair};
