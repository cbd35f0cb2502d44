//! The metrics in Prometheus' text exposition format, version 0.0.4, rendered piece by piece. Only
//! pointers to the series are copied up front; each piece is rendered when the one before has been
//! sent.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::family::Series;
use super::histogram::{BOUNDS, Histogram};
use super::{
    Counters, Labels, Registry, Reporter, RequestCounters, RequestKey, RequestProtocol, Security,
    Single, TcpCounters, TcpKey,
};
use crate::labels::{OTHER_WORD, Party};

/// The page of all metrics, in pieces of a few kilobytes. Each ends with a whole line.
///
/// Each number is as of the moment its piece was rendered.
#[derive(Debug)]
pub struct Page {
    requests: Vec<Arc<RequestSeries>>,
    connections: Vec<Arc<TcpSeries>>,
    singles: Vec<(Single, Arc<AtomicU64>)>,
    /// What to write next: the family, and the position in its list of series.
    family: usize,
    at: usize,
}

type RequestSeries = Series<RequestKey, Labels, RequestCounters>;
type TcpSeries = Series<TcpKey, Labels, TcpCounters>;

impl Page {
    pub(super) fn new(registry: &Registry) -> Self {
        let mut requests = registry.requests.list();
        requests.sort_unstable_by_key(|series| (series.labels.is_none(), series.key.order()));
        let mut connections = registry.connections.list();
        connections.sort_unstable_by_key(|series| (series.labels.is_none(), series.key.order()));
        let singles = registry.singles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { requests, connections, singles, family: 0, at: 0 }
    }

    /// Writes the next series, or moves on to the next family.
    fn step(&mut self, out: &mut String) {
        let histograms = REQUEST_HISTOGRAMS.len();
        let has_written = match self.family {
            0 => self.total(out),
            n if n <= histograms => self.histogram(n - 1, out),
            n => self.tcp(n - 1 - histograms, out),
        };
        if has_written {
            self.at += 1;
        } else {
            self.family += 1;
            self.at = 0;
        }
    }

    /// Writes the request count of the next series, if there is one.
    fn total(&self, out: &mut String) -> bool {
        const NAME: &str = "istio_requests_total";
        let Some(series) = self.requests.get(self.at) else { return false };
        if self.at == 0 {
            head(out, NAME, "Requests that have ended.", "counter");
        }
        let count = series.sum().events();
        line(out, format_args!("{NAME}{{{}}} {count}", request_labels(series).0));
        true
    }

    /// Writes one of its histograms.
    fn histogram(&self, index: usize, out: &mut String) -> bool {
        let (name, help) = REQUEST_HISTOGRAMS[index];
        let Some(series) = self.requests.get(self.at) else { return false };
        if self.at == 0 {
            head(out, name, help, "histogram");
        }
        let RequestCounters { duration, request_bytes, response_bytes } = &series.sum();
        // Durations are summed in microseconds and shown in milliseconds.
        let all = [(duration, 1_000.0), (request_bytes, 1.0), (response_bytes, 1.0)];
        let (histogram, divisor) = all[index];
        buckets(out, name, &request_labels(series).0, histogram, divisor);
        true
    }

    /// Writes one of the counters of opaque connections; after the last one comes everything else.
    fn tcp(&mut self, index: usize, out: &mut String) -> bool {
        let Some((name, help)) = TCP_COUNTERS.get(index) else { return self.singles(out) };
        let Some(series) = self.connections.get(self.at) else { return false };
        if self.at == 0 {
            head(out, name, help, "counter");
        }
        let value = series.sum().all()[index].load(Ordering::Relaxed);
        line(out, format_args!("{name}{{{}}} {value}", tcp_labels(series).0));
        true
    }

    /// Writes the metrics without labels, of which there are few.
    fn singles(&mut self, out: &mut String) -> bool {
        for (single, value) in self.singles.drain(..) {
            let kind = if single.gauge { "gauge" } else { "counter" };
            head(out, single.name, single.help, kind);
            line(out, format_args!("{} {}", single.name, value.load(Ordering::Relaxed)));
        }
        false
    }

    fn is_whole(&self) -> bool {
        self.family > REQUEST_HISTOGRAMS.len() + 1 + TCP_COUNTERS.len()
    }
}

impl Iterator for Page {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::new();
        while out.len() < PIECE_BYTES && !self.is_whole() {
            self.step(&mut out);
        }
        (!out.is_empty()).then_some(out)
    }
}

fn buckets(out: &mut String, name: &str, set: &str, histogram: &Histogram, divisor: f64) {
    let mut count = 0;
    for (at, counted) in histogram.counts().enumerate() {
        count += counted;
        match BOUNDS.get(at) {
            Some(bound) => line(out, format_args!("{name}_bucket{{{set},le=\"{bound}\"}} {count}")),
            None => line(out, format_args!("{name}_bucket{{{set},le=\"+Inf\"}} {count}")),
        }
    }
    line(out, format_args!("{name}_sum{{{set}}} {}", histogram.sum() as f64 / divisor));
    line(out, format_args!("{name}_count{{{set}}} {count}"));
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn request_labels(series: &RequestSeries) -> LabelSet {
    let key = &series.key;
    let protocol = match key.protocol {
        RequestProtocol::Http => "http",
        RequestProtocol::Grpc => "grpc",
    };
    let mut set = common_labels(key.reporter, series.labels.as_ref());
    set.add("request_protocol", &protocol);
    if series.labels.is_none() {
        set.add_other(&["response_code", "response_flags", "connection_security_policy", "reason"]);
        return set;
    }
    set.add("response_code", &key.response_code);
    if let Some(status) = key.grpc_status {
        set.add("grpc_response_status", &status);
    }
    set.add("response_flags", &key.reason.flag());
    set.add("connection_security_policy", &security(key.reporter, key.security));
    set.add("reason", &key.reason);
    set
}

fn tcp_labels(series: &TcpSeries) -> LabelSet {
    let key = &series.key;
    let mut set = common_labels(key.reporter, series.labels.as_ref());
    set.add("request_protocol", &"tcp");
    if series.labels.is_none() {
        set.add_other(&["response_flags", "connection_security_policy"]);
        return set;
    }
    set.add("response_flags", &key.reason.flag());
    set.add("connection_security_policy", &security(key.reporter, key.security));
    set
}

/// The labels that both kinds have. Without `labels` it is an overflow series.
fn common_labels(reporter: Reporter, labels: Option<&Labels>) -> LabelSet {
    let reporter = match reporter {
        Reporter::Source => "source",
        Reporter::Destination => "destination",
    };
    let mut set = LabelSet::default();
    set.add("reporter", &reporter);
    set.add_party("source", labels.map(|labels| &*labels.source));
    set.add_party("destination", labels.map(|labels| &*labels.destination));
    let service = labels.map(|labels| &*labels.service);
    set.add_known("destination_service", service.map(|s| shown(&s.host)));
    set.add_known("destination_service_name", service.map(|s| shown(&s.name)));
    set.add_known("destination_service_namespace", service.map(|s| shown(&s.namespace)));
    set
}

fn shown(value: &Option<impl Display>) -> Option<&dyn Display> {
    value.as_ref().map(|value| value as &dyn Display)
}

/// As in Istio, known only where the destination reports.
fn security(reporter: Reporter, security: Security) -> &'static str {
    match (reporter, security) {
        (Reporter::Source, _) => "unknown",
        (Reporter::Destination, Security::MutualTls) => "mutual_tls",
        (Reporter::Destination, Security::None) => "none",
    }
}

/// A list `name="value",...`.
#[derive(Default)]
struct LabelSet(String);

impl LabelSet {
    fn add_party(&mut self, end: &str, party: Option<&Party>) {
        let mut add = |name: &str, value: Option<Option<&dyn Display>>| {
            self.add_known(&format!("{end}_{name}"), value);
        };
        add("workload", party.map(|p| shown(&p.workload)));
        add("workload_namespace", party.map(|p| shown(&p.namespace)));
        add("principal", party.map(|p| shown(&p.principal)));
        add("app", party.map(|p| shown(&p.app)));
        add("version", party.map(|p| shown(&p.version)));
        add("cluster", party.map(|p| shown(&p.cluster)));
        add("canonical_service", party.map(|p| shown(&p.canonical_service)));
        add("canonical_revision", party.map(|p| shown(&p.canonical_revision)));
    }

    /// Adds a value, or the word for an unknown one or for an overflow series.
    fn add_known(&mut self, name: &str, value: Option<Option<&dyn Display>>) {
        match value {
            Some(Some(value)) => self.add(name, value),
            Some(None) => self.add(name, &"unknown"),
            None => self.add(name, &OTHER_WORD),
        }
    }

    fn add_other(&mut self, names: &[&str]) {
        for name in names {
            self.add(name, &OTHER_WORD);
        }
    }

    fn add(&mut self, name: &str, value: &dyn Display) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        // Writing to a String cannot fail.
        let _ = write!(Escaped(&mut self.0), "{value}");
        self.0.push('"');
    }
}

/// Escapes what Prometheus requires to be escaped in a label value.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Names and help texts of the histograms, in the order of the fields.
const REQUEST_HISTOGRAMS: [(&str, &str); 3] = [
    (
        "istio_request_duration_milliseconds",
        "Time from the end of the request head to the end of the response.",
    ),
    ("istio_request_bytes", "Bytes of a request's body."),
    ("istio_response_bytes", "Bytes of a response's body."),
];

/// Names and help texts of the counters of opaque connections, in the order of the fields.
const TCP_COUNTERS: [(&str, &str); 4] = [
    ("istio_tcp_connections_opened_total", "Opaque connections that were opened."),
    ("istio_tcp_connections_closed_total", "Opaque connections that were closed."),
    ("istio_tcp_sent_bytes_total", "Bytes from servers to clients on opaque connections."),
    ("istio_tcp_received_bytes_total", "Bytes from clients to servers on opaque connections."),
];

/// A piece is complete once it is this long.
const PIECE_BYTES: usize = 16 << 10;
