//! The metrics in Prometheus' text exposition format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::histogram::{BOUNDS, Merged};
use super::{
    Registry, Reporter, RequestKey, RequestProtocol, RequestSeries, Security, TcpKey, TcpSeries,
};
use crate::labels::{Party, PartyId, ServiceLabels, ServiceLabelsId};

/// All metrics of a registry. Series of equal labels, of whatever worker, are one line.
pub(super) fn render(registry: &Registry) -> String {
    let labels =
        Labels { parties: registry.parties.values(), services: registry.services.values() };
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let mut requests: BTreeMap<String, [Merged; 3]> = BTreeMap::new();
    let mut connections: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for worker in registry.workers() {
        for series in &*worker.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let set = labels.request(&series.key);
            let merged = requests.entry(set.clone()).or_default();
            let before: u64 = merged[0].counts.iter().sum();
            merge_request(series, merged);
            let counted = merged[0].counts.iter().sum::<u64>() - before;
            *totals.entry(format!("{set},reason=\"{}\"", series.key.reason.code())).or_default() +=
                counted;
        }
        for series in &*worker.connections.lock().unwrap_or_else(PoisonError::into_inner) {
            merge_tcp(series, connections.entry(labels.tcp(&series.key)).or_default());
        }
    }
    let mut out = String::new();
    counter(&mut out, "istio_requests_total", "Requests that have ended.", &totals);
    for (index, (name, help)) in REQUEST_HISTOGRAMS.into_iter().enumerate() {
        // Durations are summed in microseconds and shown in milliseconds.
        let divisor = if index == 0 { 1_000.0 } else { 1.0 };
        let series = requests.iter().map(|(set, merged)| (set.as_str(), &merged[index]));
        histogram(&mut out, name, help, series, divisor);
    }
    for (index, (name, help)) in TCP_COUNTERS.into_iter().enumerate() {
        let family = connections.iter().map(|(set, merged)| (set.clone(), merged[index]));
        counter(&mut out, name, help, &family.collect());
    }
    for (single, value) in &*registry.singles.lock().unwrap_or_else(PoisonError::into_inner) {
        let kind = if single.gauge { "gauge" } else { "counter" };
        head(&mut out, single.name, single.help, kind);
        line(&mut out, format_args!("{} {}", single.name, value.load(Ordering::Relaxed)));
    }
    out
}

fn merge_request(series: &RequestSeries, merged: &mut [Merged; 3]) {
    series.duration.merge_into(&mut merged[0]);
    series.request_bytes.merge_into(&mut merged[1]);
    series.response_bytes.merge_into(&mut merged[2]);
}

fn merge_tcp(series: &TcpSeries, merged: &mut [u64; 4]) {
    let counters = [&series.opened, &series.closed, &series.sent_bytes, &series.received_bytes];
    for (counter, into) in counters.into_iter().zip(merged) {
        *into += counter.load(Ordering::Relaxed);
    }
}

fn counter(out: &mut String, name: &str, help: &str, series: &BTreeMap<String, u64>) {
    if series.is_empty() {
        return;
    }
    head(out, name, help, "counter");
    for (set, value) in series {
        line(out, format_args!("{name}{{{set}}} {value}"));
    }
}

fn histogram<'a>(
    out: &mut String,
    name: &str,
    help: &str,
    series: impl ExactSizeIterator<Item = (&'a str, &'a Merged)>,
    divisor: f64,
) {
    if series.len() == 0 {
        return;
    }
    head(out, name, help, "histogram");
    for (set, merged) in series {
        let mut below = 0;
        for (count, bound) in merged.counts.iter().zip(BOUNDS) {
            below += count;
            line(out, format_args!("{name}_bucket{{{set},le=\"{bound}\"}} {below}"));
        }
        let count: u64 = merged.counts.iter().sum();
        line(out, format_args!("{name}_bucket{{{set},le=\"+Inf\"}} {count}"));
        line(out, format_args!("{name}_sum{{{set}}} {}", merged.sum as f64 / divisor));
        line(out, format_args!("{name}_count{{{set}}} {count}"));
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// The interned labels.
struct Labels {
    parties: Vec<Arc<Party>>,
    services: Vec<Arc<ServiceLabels>>,
}

impl Labels {
    fn request(&self, key: &RequestKey) -> String {
        let protocol = match key.protocol {
            RequestProtocol::Http => "http",
            RequestProtocol::Grpc => "grpc",
        };
        let mut set = self.common(key.reporter, key.source, key.destination, key.service);
        set.add("request_protocol", &protocol);
        set.add("response_code", &key.response_code);
        if let Some(status) = key.grpc_status {
            set.add("grpc_response_status", &status);
        }
        set.add("response_flags", &key.reason.flag());
        set.add("connection_security_policy", &security(key.reporter, key.security));
        set.0
    }

    fn tcp(&self, key: &TcpKey) -> String {
        let mut set = self.common(key.reporter, key.source, key.destination, key.service);
        set.add("request_protocol", &"tcp");
        set.add("response_flags", &key.reason.flag());
        set.add("connection_security_policy", &security(key.reporter, key.security));
        set.0
    }

    fn common(
        &self,
        reporter: Reporter,
        source: PartyId,
        destination: PartyId,
        service: ServiceLabelsId,
    ) -> LabelSet {
        let reporter = match reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        };
        let mut set = LabelSet::default();
        set.add("reporter", &reporter);
        if let Some(party) = self.parties.get(source.0 as usize) {
            set.add_party("source", party);
        }
        if let Some(party) = self.parties.get(destination.0 as usize) {
            set.add_party("destination", party);
        }
        if let Some(service) = self.services.get(service.0 as usize) {
            set.add_known("destination_service", service.host.as_ref());
            set.add_known("destination_service_name", service.name.as_ref());
            set.add_known("destination_service_namespace", service.namespace.as_ref());
        }
        set
    }
}

/// Istio knows it only where the destination reports.
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
    fn add_party(&mut self, end: &str, party: &Party) {
        let principal = party.principal.as_ref();
        self.add_known(&format!("{end}_workload"), party.workload.as_ref());
        self.add_known(&format!("{end}_workload_namespace"), party.namespace.as_ref());
        self.add_known(&format!("{end}_principal"), principal);
        self.add_known(&format!("{end}_app"), party.app.as_ref());
        self.add_known(&format!("{end}_version"), party.version.as_ref());
        self.add_known(&format!("{end}_cluster"), party.cluster.as_ref());
        self.add_known(&format!("{end}_canonical_service"), party.canonical_service.as_ref());
        self.add_known(&format!("{end}_canonical_revision"), party.canonical_revision.as_ref());
    }

    fn add_known(&mut self, name: &str, value: Option<&impl Display>) {
        match value {
            Some(value) => self.add(name, value),
            None => self.add(name, &"unknown"),
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

/// Escapes what Prometheus wants escaped in a label value.
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

/// Names and texts of the histograms, in the order of the fields.
const REQUEST_HISTOGRAMS: [(&str, &str); 3] = [
    (
        "istio_request_duration_milliseconds",
        "Time from the end of a request's head to the end of its answer.",
    ),
    ("istio_request_bytes", "Bytes of a request's body."),
    ("istio_response_bytes", "Bytes of an answer's body."),
];

/// Names and texts of the counters of opaque connections, in the order of the fields.
const TCP_COUNTERS: [(&str, &str); 4] = [
    ("istio_tcp_connections_opened_total", "Opaque connections that were opened."),
    ("istio_tcp_connections_closed_total", "Opaque connections that were closed."),
    ("istio_tcp_sent_bytes_total", "Bytes from servers to clients on opaque connections."),
    ("istio_tcp_received_bytes_total", "Bytes from clients to servers on opaque connections."),
];
