//! What a mesh measures and logs about traffic, under Istio's names.
//!
//! Nothing here reads a clock or draws a random number; both are arguments. The request path pays
//! for a hash lookup and a few plain stores: label sets are interned once, counters belong to one
//! worker each and are merged when someone scrapes.
//!
//! # Layout
//!
//! - [`labels`]: caller and callee, interned.
//! - [`metrics`]: the metric families, per worker, and their exposition for Prometheus.
//! - [`access_log`]: one line per request or connection, in Istio's text format or as JSON.
//! - [`trace_context`]: request ids, W3C and B3 trace headers.

pub mod access_log;
pub mod labels;
pub mod metrics;
pub mod trace_context;

pub use access_log::{AccessLog, AccessRecord, WorkerLog};
pub use labels::{Interned, Party, PartyId, ServiceLabels, ServiceLabelsId};
pub use metrics::{
    Page, Registry, RequestKey, RequestMeasures, TcpKey, TcpMeasures, WorkerMetrics,
};
pub use trace_context::TraceContext;
