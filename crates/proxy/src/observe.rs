//! One outcome, written to metrics and to the access log.

use std::cell::RefCell;

use ironmesh_identity::{Clock, SystemClock};
use ironmesh_model::log_format::LogFormat;
use ironmesh_model::settings::AccessLogEncoding;
use ironmesh_model::{Draw, ListenerKind, Reason};
use ironmesh_telemetry::metrics::{Reporter, RequestProtocol, Security};
use ironmesh_telemetry::{
    AccessLog, AccessRecord, PartyId, Registry, RequestKey, RequestMeasures, ServiceLabelsId,
    TcpKey, TcpMeasures, WorkerLog, WorkerMetrics,
};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::http::exchange::Exchange;
use crate::http::told::cluster;
use crate::message::ResponseHead;
use crate::outcome::Outcome;
use crate::parties::Parties;
use crate::worker::Worker;

mod details;
mod logged;

use logged::Logged;

/// What one worker measures and logs.
#[derive(Debug)]
pub(crate) struct Observer {
    metrics: RefCell<WorkerMetrics>,
    log: RefCell<WorkerLog>,
    parties: Parties,
}

impl Observer {
    /// Keeps the labels of at most `known_parties_max` workloads and services.
    pub(crate) fn new(
        registry: &std::sync::Arc<Registry>,
        log: &AccessLog,
        known_parties_max: usize,
    ) -> Self {
        Self {
            metrics: RefCell::new(registry.worker()),
            log: RefCell::new(log.worker()),
            parties: Parties::new(registry.clone(), known_parties_max),
        }
    }

    /// Ends the series in which nothing was counted since this was called last.
    pub(crate) fn end_idle_series(&self) {
        self.parties.forget();
        self.metrics.borrow_mut().end_idle();
    }
}

/// Counts and logs a request.
pub(crate) fn request(exchange: &Exchange<'_>, response: &ResponseHead) {
    let Exchange { worker, connection, outcome, head, .. } = exchange;
    let ends = Ends::of(worker, connection, outcome);
    let duration = Instant::now().duration_since(outcome.started);
    let key = RequestKey {
        reporter: ends.reporter,
        source: ends.source,
        destination: ends.destination,
        service: ends.service,
        protocol: if exchange.grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
        response_code: outcome.status,
        // Anyone may send the field; only gRPC means it.
        grpc_status: outcome.grpc_status.filter(|_| exchange.grpc),
        reason: outcome.reason,
        security: ends.security,
    };
    let measures = RequestMeasures {
        duration,
        request_bytes: outcome.request_bytes,
        response_bytes: outcome.response_bytes,
    };
    worker.observer.metrics.borrow_mut().request(&key, measures);
    let Some(style) = style(connection) else { return };
    let sent = exchange.sent.as_deref();
    let text = |name: &str| std::str::from_utf8(head.fields.first(name)?).ok();
    let service_time = outcome.first_byte.map(|at| at.duration_since(outcome.started));
    let record = AccessRecord {
        method: Some(head.method()).filter(|method| !method.is_empty()),
        path: sent
            .and_then(|sent| sent.target.as_deref())
            .or(Some(head.target()))
            .filter(|p| !p.is_empty()),
        protocol: Some(head.version.word()),
        response_code: outcome.status,
        upstream_service_time: service_time,
        x_forwarded_for: text("x-forwarded-for"),
        user_agent: text("user-agent"),
        request_id: text("x-request-id"),
        authority: sent
            .and_then(|sent| sent.authority.as_deref())
            .or(Some(head.authority()))
            .filter(|authority| !authority.is_empty()),
        response_code_details: Some(details::of_request(
            outcome.reason,
            outcome.first_byte.is_some(),
        )),
        draw: Some(exchange.draw).filter(|draw| *draw != Draw(0)),
        downstream_remote_address: Some(exchange.client()),
        ..record(connection, outcome, duration)
    };
    log(worker, &style, record, connection, outcome, Some((exchange, response)));
}

/// Counts an opaque connection that begins. All that is counted of it later goes to the same series,
/// whatever its ends are called by then.
pub(crate) fn opened(worker: &Worker, connection: &Connection, outcome: &Outcome) -> TcpKey {
    let key = tcp_key(worker, connection, outcome, Reason::Passthrough);
    let measures = TcpMeasures { opened: 1, ..TcpMeasures::default() };
    worker.observer.metrics.borrow_mut().connection(&key, measures);
    key
}

/// Counts so many more bytes from the client and to it, of an opaque connection that goes on.
pub(crate) fn moved(worker: &Worker, opened: &TcpKey, (received_bytes, sent_bytes): (u64, u64)) {
    let measures = TcpMeasures { sent_bytes, received_bytes, ..TcpMeasures::default() };
    worker.observer.metrics.borrow_mut().connection(opened, measures);
}

/// Counts and logs an opaque connection that ended: one that was opened, or could not be. The bytes
/// are those that were not counted yet.
pub(crate) fn closed(
    worker: &Worker,
    connection: &Connection,
    outcome: &Outcome,
    opened: Option<&TcpKey>,
    (received_bytes, sent_bytes): (u64, u64),
) {
    let key = match opened {
        Some(opened) => *opened,
        None => tcp_key(worker, connection, outcome, outcome.reason),
    };
    let opened = u64::from(opened.is_none());
    let measures = TcpMeasures { opened, closed: 1, sent_bytes, received_bytes };
    worker.observer.metrics.borrow_mut().connection(&key, measures);
    let Some(style) = style(connection) else { return };
    let duration = Instant::now().duration_since(outcome.started);
    let record = AccessRecord {
        response_code_details: details::of_connection(outcome.reason),
        ..record(connection, outcome, duration)
    };
    log(worker, &style, record, connection, outcome, None);
}

/// The labels of an opaque connection. Those that went well share one series whatever the reason,
/// so that what was opened and what was closed can be compared.
fn tcp_key(worker: &Worker, connection: &Connection, outcome: &Outcome, reason: Reason) -> TcpKey {
    let ends = Ends::of(worker, connection, outcome);
    TcpKey {
        reporter: ends.reporter,
        source: ends.source,
        destination: ends.destination,
        service: ends.service,
        reason,
        security: ends.security,
    }
}

/// Both ends of a request or a connection, as labels.
struct Ends {
    reporter: Reporter,
    source: PartyId,
    destination: PartyId,
    service: ServiceLabelsId,
    security: Security,
}

impl Ends {
    fn of(worker: &Worker, connection: &Connection, outcome: &Outcome) -> Self {
        if connection.kind == ListenerKind::Inbound {
            Self::inbound(worker, connection, outcome)
        } else {
            Self::outbound(worker, connection, outcome)
        }
    }

    fn inbound(worker: &Worker, connection: &Connection, outcome: &Outcome) -> Self {
        let parties = &worker.observer.parties;
        let proved = connection.peer_identity.is_some();
        let service = outcome
            .decision
            .as_ref()
            .and_then(|decision| decision.applies())
            .and_then(|applies| applies.service.as_deref());
        Self {
            reporter: Reporter::Destination,
            source: caller(worker, connection),
            destination: parties.local(&connection.workload, proved),
            service: parties.inbound(&connection.workload, service),
            security: if proved { Security::MutualTls } else { Security::None },
        }
    }

    fn outbound(worker: &Worker, connection: &Connection, outcome: &Outcome) -> Self {
        let parties = &worker.observer.parties;
        let proved = outcome.upstream_tls;
        let member = outcome.decision.as_ref().and_then(|decision| decision.dialled_member());
        let destination = match (outcome.endpoint(), member) {
            (Some(endpoint), _) => parties.endpoint(endpoint, proved),
            (None, Some(workload)) => parties.known(workload, proved),
            (None, None) => PartyId::UNKNOWN,
        };
        let service = match outcome.backend() {
            Some(backend) => parties.backend(backend),
            None if outcome.is_passthrough() => parties.no_service("PassthroughCluster"),
            None if outcome.reason == Reason::Blocked => parties.no_service("BlackHoleCluster"),
            None => ServiceLabelsId::UNKNOWN,
        };
        Self {
            reporter: Reporter::Source,
            source: parties.local(&connection.workload, proved),
            destination,
            service,
            security: if proved { Security::MutualTls } else { Security::None },
        }
    }
}

/// Who called an inbound proxy, by address, or at least by identity.
fn caller(worker: &Worker, connection: &Connection) -> PartyId {
    let parties = &worker.observer.parties;
    let (ip, identity) = (connection.peer.ip(), &connection.peer_identity);
    let is_own = |identity| {
        connection
            .workload
            .credentials
            .load()
            .as_ref()
            .is_some_and(|own| own.identity() == identity)
    };
    if ip == connection.destination.ip() && identity.as_ref().is_none_or(is_own) {
        // A workload that calls its own Service; what is proved outweighs the address.
        return parties.local(&connection.workload, identity.is_some());
    }
    match connection.workload.views.load().use_workload(ip, worker.watches.now()) {
        Some(Some(workload)) => parties.known(workload, identity.is_some()),
        _ => identity.as_ref().map_or(PartyId::UNKNOWN, |identity| parties.stranger(identity)),
    }
}

/// How a line is written.
struct Style {
    encoding: AccessLogEncoding,
    format: LogFormat,
}

/// How to log, if at all.
fn style(connection: &Connection) -> Option<Style> {
    let view = connection.workload.views.load();
    let settings = view.settings();
    settings.access_log.then(|| Style {
        encoding: settings.access_log_encoding,
        format: settings.access_log_format.clone(),
    })
}

/// What requests and opaque connections have in common.
fn record<'a>(
    connection: &'a Connection,
    outcome: &'a Outcome,
    duration: std::time::Duration,
) -> AccessRecord<'a> {
    AccessRecord {
        start: SystemClock.now().0.saturating_sub(duration),
        method: None,
        path: None,
        protocol: None,
        response_code: 0,
        reason: outcome.reason,
        delayed: outcome.delayed,
        exhausted: outcome.exhausted,
        overflowed: outcome.overflowed,
        response_code_details: None,
        connection_termination_details: None,
        upstream_transport_failure_reason: (outcome.reason == Reason::PeerUntrusted)
            .then(|| outcome.reason.text()),
        bytes_received: outcome.request_bytes,
        bytes_sent: outcome.response_bytes,
        duration,
        upstream_service_time: None,
        x_forwarded_for: None,
        user_agent: None,
        request_id: None,
        authority: None,
        upstream_host: outcome.upstream,
        upstream_cluster: outcome.decision.as_ref().and_then(|d| cluster(connection, d)),
        upstream_local_address: outcome.upstream_local,
        downstream_local_address: Some(connection.destination),
        downstream_remote_address: Some(connection.peer),
        requested_server_name: connection.named_host(),
        route: None,
        version: outcome.decision.as_ref().and_then(|decision| decision.route_version()),
        subset: outcome.backend().and_then(|backend| backend.subset.as_deref()),
        draw: Some(connection.draw),
        listener: connection.kind,
        peer: connection.peer_identity.as_ref(),
    }
}

/// Writes a line. `exchange`: the request, and the head of the answer that was made last.
fn log(
    worker: &Worker,
    style: &Style,
    record: AccessRecord<'_>,
    connection: &Connection,
    outcome: &Outcome,
    exchange: Option<(&Exchange<'_>, &ResponseHead)>,
) {
    let route = outcome.decision.as_ref().and_then(|decision| decision.route_name());
    let record = AccessRecord { route: route.as_deref(), ..record };
    let mut log = worker.observer.log.borrow_mut();
    match style.format.pieces(style.encoding) {
        None => log.write(&record, style.encoding),
        Some(pieces) => {
            let logged = Logged { record: &record, connection, outcome, exchange };
            log.write_own(pieces, |command, argument| logged.of(command, argument));
        }
    }
}
