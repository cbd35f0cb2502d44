//! The metric families of traffic, with Istio's names and labels.
//!
//! Each worker has counters of its own, which only it writes; a scrape reads them all and merges.
//! A series is found by a small key; a new one costs an allocation and a short lock, every further
//! request a hash lookup and a few stores. A worker keeps at most `metric_series_max` series of a
//! family: what comes beyond is counted in one series with the label value `other`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use ironmesh_model::{Name, Reason};

use crate::labels::{Interner, OTHER, OTHER_WORD, Party, PartyId, ServiceLabels, ServiceLabelsId};

mod histogram;
mod render;

use histogram::Histogram;

/// All metrics of a process.
#[derive(Debug)]
pub struct Registry {
    parties: Interner<Party>,
    services: Interner<ServiceLabels>,
    workers: Mutex<Vec<Arc<Series>>>,
    singles: Mutex<Vec<(Single, Arc<AtomicU64>)>>,
    series_max: usize,
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

/// From which end a request was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// By the caller's proxy.
    Source,
    /// By the called workload's proxy.
    Destination,
}

/// What was spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestProtocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

/// How a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Security {
    /// In plaintext.
    None,
    /// With mutual TLS.
    MutualTls,
}

/// The labels of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// From which end it was seen.
    pub reporter: Reporter,
    /// Who called.
    pub source: PartyId,
    /// Who answered.
    pub destination: PartyId,
    /// What was called.
    pub service: ServiceLabelsId,
    /// What was spoken.
    pub protocol: RequestProtocol,
    /// Status of the answer; 0 if there was none.
    pub response_code: u16,
    /// Status of the gRPC answer, if it was one.
    pub grpc_status: Option<u8>,
    /// Why it went as it went; tells the response flag.
    pub reason: Reason,
    /// How it came in. Istio shows it only where the destination reports.
    pub security: Security,
}

/// What is measured about a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestMeasures {
    /// From the end of its head to the last byte of its answer.
    pub duration: Duration,
    /// Bytes of its body.
    pub request_bytes: u64,
    /// Bytes of its answer's body.
    pub response_bytes: u64,
}

/// The labels of an opaque connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpKey {
    /// From which end it was seen.
    pub reporter: Reporter,
    /// Who called.
    pub source: PartyId,
    /// Who was called.
    pub destination: PartyId,
    /// What was called.
    pub service: ServiceLabelsId,
    /// Why it went as it went; tells the response flag.
    pub reason: Reason,
    /// How it came in.
    pub security: Security,
}

/// What happened on an opaque connection since it was told last.
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
    /// A registry whose workers keep at most `series_max` series of a family each.
    pub fn new(series_max: usize) -> Arc<Self> {
        let word = || Some(Name::from(OTHER_WORD));
        let other_party = Party { workload: word(), namespace: word(), ..Party::default() };
        let other_service = ServiceLabels { host: word(), name: word(), namespace: word() };
        Arc::new(Self {
            parties: Interner::new(series_max, other_party),
            services: Interner::new(series_max, other_service),
            workers: Mutex::default(),
            singles: Mutex::default(),
            series_max,
        })
    }

    /// The number of a workload's labels. Ask once per connection, not per request.
    pub fn party(&self, party: &Party) -> PartyId {
        PartyId(self.parties.intern(party))
    }

    /// The number of a service's labels. Ask once per service, not per request.
    pub fn service(&self, service: &ServiceLabels) -> ServiceLabelsId {
        ServiceLabelsId(self.services.intern(service))
    }

    /// Shows a metric without labels. What is stored into `value` shows at the next scrape.
    pub fn single(&self, single: Single, value: Arc<AtomicU64>) {
        self.singles.lock().unwrap_or_else(PoisonError::into_inner).push((single, value));
    }

    /// Counters for one more worker.
    pub fn worker(&self) -> WorkerMetrics {
        let series = Arc::<Series>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(series.clone());
        WorkerMetrics {
            series,
            requests: HashMap::new(),
            connections: HashMap::new(),
            series_max: self.series_max,
        }
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        render::render(self)
    }

    fn workers(&self) -> Vec<Arc<Series>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The counters of one worker, who alone writes them.
#[derive(Debug)]
pub struct WorkerMetrics {
    series: Arc<Series>,
    requests: HashMap<RequestKey, Arc<RequestSeries>>,
    connections: HashMap<TcpKey, Arc<TcpSeries>>,
    series_max: usize,
}

impl WorkerMetrics {
    /// Counts a request that has ended.
    pub fn request(&mut self, key: &RequestKey, measures: RequestMeasures) {
        let series = match self.requests.get(key) {
            Some(series) => series,
            None => self.new_request_series(key),
        };
        series.duration.observe(
            measures.duration.as_secs_f64() * 1e3,
            u64::try_from(measures.duration.as_micros()).unwrap_or(u64::MAX),
        );
        series.request_bytes.observe(measures.request_bytes as f64, measures.request_bytes);
        series.response_bytes.observe(measures.response_bytes as f64, measures.response_bytes);
    }

    /// Counts what happened on an opaque connection.
    pub fn connection(&mut self, key: &TcpKey, measures: TcpMeasures) {
        let series = match self.connections.get(key) {
            Some(series) => series,
            None => self.new_tcp_series(key),
        };
        add(&series.opened, measures.opened);
        add(&series.closed, measures.closed);
        add(&series.sent_bytes, measures.sent_bytes);
        add(&series.received_bytes, measures.received_bytes);
    }

    #[cold]
    fn new_request_series(&mut self, key: &RequestKey) -> &RequestSeries {
        // One place is kept for what is too much, whose key is made only of few values.
        let key = if self.requests.len() < self.series_max {
            *key
        } else {
            RequestKey {
                source: PartyId(OTHER),
                destination: PartyId(OTHER),
                service: ServiceLabelsId(OTHER),
                ..*key
            }
        };
        let all = &self.series.requests;
        self.requests.entry(key).or_insert_with(|| {
            let series = Arc::new(RequestSeries::new(key));
            all.lock().unwrap_or_else(PoisonError::into_inner).push(series.clone());
            series
        })
    }

    #[cold]
    fn new_tcp_series(&mut self, key: &TcpKey) -> &TcpSeries {
        let key = if self.connections.len() < self.series_max {
            *key
        } else {
            TcpKey {
                source: PartyId(OTHER),
                destination: PartyId(OTHER),
                service: ServiceLabelsId(OTHER),
                ..*key
            }
        };
        let all = &self.series.connections;
        self.connections.entry(key).or_insert_with(|| {
            let series = Arc::new(TcpSeries::new(key));
            all.lock().unwrap_or_else(PoisonError::into_inner).push(series.clone());
            series
        })
    }
}

/// The series of one worker, as a scrape sees them. The locks are taken for a new series and for a
/// scrape only.
#[derive(Debug, Default)]
struct Series {
    requests: Mutex<Vec<Arc<RequestSeries>>>,
    connections: Mutex<Vec<Arc<TcpSeries>>>,
}

/// Counters of the requests of one key.
#[derive(Debug)]
struct RequestSeries {
    key: RequestKey,
    /// In milliseconds; the sum in microseconds.
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl RequestSeries {
    fn new(key: RequestKey) -> Self {
        Self {
            key,
            duration: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
        }
    }
}

/// Counters of the opaque connections of one key.
#[derive(Debug)]
struct TcpSeries {
    key: TcpKey,
    opened: AtomicU64,
    closed: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl TcpSeries {
    fn new(key: TcpKey) -> Self {
        Self {
            key,
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        }
    }
}

/// Adds to a counter that only this thread writes: a plain load and store, no locked instruction.
fn add(counter: &AtomicU64, amount: u64) {
    if amount != 0 {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
