//! The data plane: listen, detect, decide, balance, forward, observe.

pub mod client_hello;
pub mod http1;
pub mod message;

mod admin;
mod agent_channel;
mod balance;
mod buffer;
mod certificates;
mod connect;
mod connection;
mod destination;
mod detect;
mod failure;
mod http;
mod inherit;
mod l4;
mod logging;
mod observe;
mod opaque;
mod outcome;
mod park;
mod parties;
mod pool;
mod process;
mod random;
mod run;
mod serve;
mod stream;
mod tls;
mod views;
mod worker;
mod workload;

pub use run::{RunError, run};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod untrusted;
