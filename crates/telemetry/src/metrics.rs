//! The metric families of traffic, with Istio's names and labels.
//!
//! Each worker has its own counters, which only it writes; a scrape adds them up. A series is found
//! by a small key: a new one costs an allocation and a short lock, every further request a hash
//! lookup and a few stores. A family has at most `metric_series_max` series; the rest is counted in
//! one whose labels say `other`. A series in which nothing is counted any more is dropped, and its
//! labels with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ironmesh_model::{Name, Reason};

use crate::labels::{
    Interned, Interner, OTHER, OTHER_WORD, Party, PartyId, ServiceLabels, ServiceLabelsId,
};

mod family;
mod histogram;
mod page;

pub use page::Page;

use family::{Counters, Family, Key, WorkerFamily};
use histogram::Histogram;

/// All metrics of a process.
#[derive(Debug)]
pub struct Registry {
    parties: Interner<Party>,
    services: Interner<ServiceLabels>,
    requests: Arc<Requests>,
    connections: Arc<Connections>,
    singles: Mutex<Vec<(Single, Arc<AtomicU64>)>>,
}

type Requests = Family<RequestKey, Labels, RequestCounters>;
type Connections = Family<TcpKey, Labels, TcpCounters>;

/// What the numbers in a key stand for.
#[derive(Debug)]
struct Labels {
    source: Arc<Party>,
    destination: Arc<Party>,
    service: Arc<ServiceLabels>,
}

/// A metric without labels.
#[derive(Clone, Copy, Debug)]
pub struct Single {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Whether it may also go down.
    pub gauge: bool,
}

/// Which end reports a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// By the caller's proxy.
    Source,
    /// By the called workload's proxy.
    Destination,
}

impl Reporter {
    /// As in Istio, only the destination reports how a connection was secured; where the source
    /// reports, it makes no difference to the series.
    fn knows(self, security: Security) -> Security {
        match self {
            Self::Source => Security::None,
            Self::Destination => security,
        }
    }
}

/// Application protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestProtocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

/// How an inbound connection was secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Security {
    /// Plaintext.
    None,
    /// Mutual TLS.
    MutualTls,
}

/// The labels of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Which end reports it.
    pub reporter: Reporter,
    /// Who called.
    pub source: PartyId,
    /// Who was called.
    pub destination: PartyId,
    /// What was called.
    pub service: ServiceLabelsId,
    /// Application protocol.
    pub protocol: RequestProtocol,
    /// Status of the response; 0 if there was none.
    pub response_code: u16,
    /// gRPC status, if it was a gRPC request.
    pub grpc_status: Option<u8>,
    /// Why it ended as it did; determines the response flag.
    pub reason: Reason,
    /// How it was secured. As in Istio, shown only where the destination reports.
    pub security: Security,
}

/// What is measured about a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestMeasures {
    /// From the end of its head to the last byte of the response.
    pub duration: Duration,
    /// Bytes of its body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
}

/// The labels of an opaque connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpKey {
    /// Which end reports it.
    pub reporter: Reporter,
    /// Who called.
    pub source: PartyId,
    /// Who was called.
    pub destination: PartyId,
    /// What was called.
    pub service: ServiceLabelsId,
    /// Why it ended as it did; determines the response flag.
    pub reason: Reason,
    /// How it was secured.
    pub security: Security,
}

/// What has happened on an opaque connection since the last report.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpMeasures {
    /// Connections opened.
    pub opened: u64,
    /// Connections closed.
    pub closed: u64,
    /// Bytes from the server to the client.
    pub sent_bytes: u64,
    /// Bytes from the client to the server.
    pub received_bytes: u64,
}

impl Registry {
    /// A registry of at most `series_max` series of a family.
    pub fn new(series_max: usize) -> Arc<Self> {
        let word = || Some(Name::from(OTHER_WORD));
        let other_party = Party { workload: word(), namespace: word(), ..Party::default() };
        let other_service = ServiceLabels { host: word(), name: word(), namespace: word() };
        Arc::new(Self {
            // A series has two.
            parties: Interner::new(series_max.saturating_mul(2), other_party),
            services: Interner::new(series_max, other_service),
            requests: Arc::new(Family::new(series_max)),
            connections: Arc::new(Family::new(series_max)),
            singles: Mutex::default(),
        })
    }

    /// The number of a workload's labels. Ask once per connection, not per request.
    pub fn party(&self, party: &Party) -> Interned<Party> {
        self.parties.intern(party)
    }

    /// The number of a service's labels. Ask once per service, not per request.
    pub fn service(&self, service: &ServiceLabels) -> Interned<ServiceLabels> {
        self.services.intern(service)
    }

    /// Registers a metric without labels. What is stored in `value` shows at the next scrape.
    pub fn single(&self, single: Single, value: Arc<AtomicU64>) {
        self.singles.lock().unwrap_or_else(PoisonError::into_inner).push((single, value));
    }

    /// Counters for one more worker.
    pub fn worker(self: &Arc<Self>) -> WorkerMetrics {
        WorkerMetrics {
            registry: self.clone(),
            requests: WorkerFamily::new(self.requests.clone()),
            connections: WorkerFamily::new(self.connections.clone()),
        }
    }

    /// All metrics in Prometheus' text format, piece by piece.
    pub fn page(&self) -> Page {
        Page::new(self)
    }

    /// All metrics in one string.
    pub fn render(&self) -> String {
        self.page().collect()
    }

    fn labels(&self, source: PartyId, destination: PartyId, service: ServiceLabelsId) -> Labels {
        Labels {
            source: self.parties.value(source.0),
            destination: self.parties.value(destination.0),
            service: self.services.value(service.0),
        }
    }
}

/// The counters of one worker, which alone writes them.
#[derive(Debug)]
pub struct WorkerMetrics {
    registry: Arc<Registry>,
    requests: WorkerFamily<RequestKey, Labels, RequestCounters>,
    connections: WorkerFamily<TcpKey, Labels, TcpCounters>,
}

impl WorkerMetrics {
    /// Counts a request that has ended.
    pub fn request(&mut self, key: &RequestKey, measures: RequestMeasures) {
        let key = &RequestKey { security: key.reporter.knows(key.security), ..*key };
        let counters = match self.requests.counters(key) {
            Some(counters) => counters,
            None => self
                .requests
                .begin(key, || self.registry.labels(key.source, key.destination, key.service)),
        };
        counters.duration.observe(
            measures.duration.as_secs_f64() * 1e3,
            u64::try_from(measures.duration.as_micros()).unwrap_or(u64::MAX),
        );
        counters.request_bytes.observe(measures.request_bytes as f64, measures.request_bytes);
        counters.response_bytes.observe(measures.response_bytes as f64, measures.response_bytes);
    }

    /// Counts what happened on an opaque connection.
    pub fn connection(&mut self, key: &TcpKey, measures: TcpMeasures) {
        let (reason, security) = (first_of_flag(key.reason), key.reporter.knows(key.security));
        let key = &TcpKey { reason, security, ..*key };
        let counters = match self.connections.counters(key) {
            Some(counters) => counters,
            None => self
                .connections
                .begin(key, || self.registry.labels(key.source, key.destination, key.service)),
        };
        add(&counters.opened, measures.opened);
        add(&counters.closed, measures.closed);
        add(&counters.sent_bytes, measures.sent_bytes);
        add(&counters.received_bytes, measures.received_bytes);
    }

    /// Drops the series in which this worker has counted nothing since the last call, except those of
    /// connections that are still open. A series that other workers count in stays, including what
    /// was counted here. Labels that nothing uses any more are dropped too.
    pub fn end_idle(&mut self) {
        self.requests.end_idle();
        self.connections.end_idle();
        self.registry.parties.forget_unused();
        self.registry.services.forget_unused();
    }
}

/// The first reason with the same flag, since connections show only the flag.
fn first_of_flag(reason: Reason) -> Reason {
    Reason::ALL.iter().copied().find(|first| first.flag() == reason.flag()).unwrap_or(reason)
}

/// Counters of the requests of one key.
#[derive(Debug, Default)]
struct RequestCounters {
    /// In milliseconds; the sum in microseconds.
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl RequestKey {
    /// Sort key, so that series always come in the same order.
    fn order(&self) -> impl Ord + use<> {
        let ends = (self.reporter, self.source, self.destination, self.service, self.protocol);
        (ends, self.response_code, self.grpc_status, self.reason.code(), self.security)
    }
}

impl Key for RequestKey {
    fn overflow(self) -> Self {
        Self {
            reporter: self.reporter,
            source: PartyId(OTHER),
            destination: PartyId(OTHER),
            service: ServiceLabelsId(OTHER),
            protocol: self.protocol,
            response_code: 0,
            grpc_status: None,
            reason: Reason::Inbound,
            security: Security::None,
        }
    }
}

impl Counters for RequestCounters {
    fn add_to(&self, sum: &Self) {
        self.duration.add_to(&sum.duration);
        self.request_bytes.add_to(&sum.request_bytes);
        self.response_bytes.add_to(&sum.response_bytes);
    }

    fn events(&self) -> u64 {
        self.duration.counts().sum()
    }

    fn is_at_rest(&self) -> bool {
        true
    }
}

/// Counters of the opaque connections of one key.
#[derive(Debug, Default)]
struct TcpCounters {
    opened: AtomicU64,
    closed: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl TcpCounters {
    fn all(&self) -> [&AtomicU64; 4] {
        [&self.opened, &self.closed, &self.sent_bytes, &self.received_bytes]
    }
}

impl TcpKey {
    /// Sort key, so that series always come in the same order.
    fn order(&self) -> impl Ord + use<> {
        let ends = (self.reporter, self.source, self.destination, self.service);
        (ends, self.reason.code(), self.security)
    }
}

impl Key for TcpKey {
    fn overflow(self) -> Self {
        Self {
            reporter: self.reporter,
            source: PartyId(OTHER),
            destination: PartyId(OTHER),
            service: ServiceLabelsId(OTHER),
            reason: Reason::Passthrough,
            security: Security::None,
        }
    }
}

impl Counters for TcpCounters {
    fn add_to(&self, sum: &Self) {
        for (counter, into) in self.all().into_iter().zip(sum.all()) {
            add(into, counter.load(Ordering::Relaxed));
        }
    }

    fn events(&self) -> u64 {
        let counted = self.all().map(|counter| counter.load(Ordering::Relaxed));
        counted.into_iter().fold(0, u64::wrapping_add)
    }

    fn is_at_rest(&self) -> bool {
        self.opened.load(Ordering::Relaxed) <= self.closed.load(Ordering::Relaxed)
    }
}

/// Adds to a counter that only this thread writes: a plain load and store, no atomic instruction.
fn add(counter: &AtomicU64, amount: u64) {
    if amount != 0 {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
