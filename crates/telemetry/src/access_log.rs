//! The access log: one line for each request or opaque connection, when it has ended.
//!
//! A worker formats a line into a buffer of its own; one thread of the process writes what the
//! workers have gathered. The request path never waits: while the output does not take more, lines
//! beyond `access_log_bytes_max` are dropped and counted.

mod json;
mod pieces;
mod record;
mod text;
mod time;
mod writer;

pub use record::{AccessRecord, Cluster};
pub use time::{HTTP_DATE_BYTES, date_time, http_date};
pub use writer::{AccessLog, WorkerLog};

#[cfg(test)]
mod tests;
