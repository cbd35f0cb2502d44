//! The control plane: what the proxies are told, who gets certificates, what is injected into pods, and
//! what is explained.
//!
//! It runs as it is on one machine and on Kubernetes: it has its objects from a [`source`], and knows no
//! store and no API.
//!
//! # Layout
//!
//! - [`source`]: list, then watch, of objects with a version.
//! - [`plane`]: the control plane as a whole.
//! - [`api`]: the types of the parts of its API that are not Kubernetes'.
//! - `mesh`: the snapshot that follows the source, the push to proxies, the certificate authority.
//! - `explain`: what the proxies would decide about a request, written down.
//! - [`mod@inject`]: what a pod of the mesh gets beside its containers; [`gateway`]: the ingress gateway.

pub mod api;
mod explain;
pub mod gateway;
pub mod inject;
mod mesh;
pub mod plane;
pub mod source;

pub use plane::Plane;
pub use source::Source;
