//! The data plane: listen, detect, decide, pick, forward, observe.
//!
//! A proxy process has one control thread and some workers. Each worker is a thread with a runtime
//! of its own, its own connection pool, buffers and counters; a connection stays on the worker to
//! which it was handed, and no request is ever passed between threads. What a request needs of the
//! configuration is one immutable [`View`](ironmesh_model::View), which it reads once.
//!
//! # Layout, in the order of a request
//!
//! - `worker`: threads; accepts connections and hands each to the least loaded worker.
//! - `serve`, `detect`, [`proxy_protocol`], [`client_hello`], `tls`: a connection: where it was going,
//!   what it speaks, who calls.
//! - `http`: the path of a request. `http::http1_server`, `http::http2_server`: the client's side;
//!   `http::exchange`: the request's context; `http::edit`: what changes in heads;
//!   `http::dial`, `http::upstream`: the endpoint's side; `http::forward`, `http::body`: both
//!   directions at once; `http::deadlines`, `idle`: how long that may take; `http::local`: the mesh's own
//!   answers.
//! - [`http1`], [`message`]: the HTTP/1 codec, and the heads that it shares with HTTP/2.
//! - `opaque`, `l4`: connections whose bytes nobody looks at.
//! - `pool`, `connect`, `agent_channel`, `sockets`: endpoints and connections to them.
//! - `observe`, `outcome`, `parties`: metrics and the access log.
//! - `edge`: the ports of a gateway.
//! - `process`, `workload`: what all threads share, and what belongs to one workload of them.
//! - `run`, `views`, `park`, `subscriptions`, `certificates`: the control thread, and how workers
//!   wait for what it brings. `admin`, [`dump`], `report`: what is told, to whoever asks and to
//!   the control plane.
//!
//! Workload, identity and kind of listener are properties of a `connection`, never of the process.

pub mod client_hello;
pub mod dump;
pub mod http1;
pub mod memory;
pub mod message;
pub mod proxy_protocol;

mod admin;
mod agent_channel;
mod buffer;
mod certificates;
mod connect;
mod connection;
mod destination;
mod detect;
mod edge;
mod failure;
mod given_tls;
mod http;
mod idle;
mod l4;
mod logging;
mod names;
mod observe;
mod opaque;
mod outcome;
mod park;
mod parties;
mod pool;
mod process;
mod random;
mod report;
mod run;
mod serve;
mod sockets;
mod statistics;
mod stream;
mod subscriptions;
mod tls;
mod tunnel;
mod views;
mod words;
mod worker;
mod workload;

pub use run::{RunError, run};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod untrusted;
