//! Tests of whole proxies, in this process and over loopback: the original destination is given
//! instead of captured, and a snapshot answers instead of a control plane.

mod access_log;
mod admin;
mod agent;
mod asked;
mod attempts;
mod balance;
mod beside;
mod edge;
mod edge_tls;
mod first_bytes;
mod forms;
mod gateway;
mod heads;
mod http1;
mod http2;
mod leaving;
mod memory;
mod mesh;
mod metrics;
mod opaque;
mod oracle;
mod origination;
mod paths;
mod patience;
mod peers;
mod plans;
mod policies;
mod pools;
mod protocols;
mod replay;
mod size;
mod streams;
mod terms;
mod told_who_calls;
mod traces;
pub(super) mod world;
