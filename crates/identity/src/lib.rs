//! Identity in a mesh: the tokens that attest workloads, the certificate authority, the
//! certificates of workloads, and the TLS that uses them.
//!
//! A private key is generated where it is used and never leaves that process's memory. Trust anchors
//! are a list and the trust domain is data, so that both can change while the mesh runs. Types of the
//! TLS library stay within this crate and one module of the proxy.
//!
//! # Layout
//!
//! - [`token`]: how a workload authenticates to the control plane.
//! - [`ca`]: the authority that signs certificates.
//! - [`workload`]: key pair, certificate and rotation of one workload, and the TLS of mesh traffic.
//! - [`channel`]: TLS between proxies and the control plane.
//! - [`api`]: TLS of the API for who comes over a network, and the tokens that say who that is.
//! - [`edge`]: TLS with clients that are no members, by certificates of users.
//! - [`given`]: TLS towards servers that are no members, as a policy says it.
//! - [`peer`]: the SPIFFE id in a peer's certificate, and its verification.
//! - [`random`]: the only place in the mesh that draws secret random bytes.
//! - [`clock`]: the only place in this crate and the proxy that reads the wall clock.

pub mod api;
pub mod ca;
pub mod channel;
pub mod clock;
pub mod edge;
pub mod given;
pub mod peer;
pub mod random;
pub mod token;
pub mod workload;

mod provider;

pub use ca::{Authority, Issued};
pub use clock::{Clock, SystemClock, Timestamp};
pub use given::{GivenFiles, GivenTls, GivenTlsError};
pub use peer::peer_identity;
pub use token::{Attest, Claims, LocalAttestation, TokenKey};
pub use workload::{ClientAuth, Credentials, KeyPair};
