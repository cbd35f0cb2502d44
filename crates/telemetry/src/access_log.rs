//! The access log: one line for each request or opaque connection, when it has ended. Lines are as Istio
//! has them by default, or in a format of the user's own ([`ironmesh_model::log_format`]).
//!
//! A worker formats a line into a buffer of its own; one thread of the process writes what the
//! workers have gathered. The request path never waits: while the output does not take more, lines
//! beyond `access_log_bytes_max` are dropped and counted.

mod json;
mod own;
mod pieces;
mod record;
mod text;
mod time;
mod writer;

pub use own::VALUE_BYTES_MAX;
pub use record::{AccessRecord, Cluster};
pub use time::{HTTP_DATE_BYTES, http_date, time_text};
pub use writer::{AccessLog, WorkerLog};

#[cfg(test)]
mod tests;
