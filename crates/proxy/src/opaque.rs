//! Connections whose bytes nobody looks at: decide once, dial, relay.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ironmesh_model::group::{Ask, Noted, UnderWay};
use ironmesh_model::policy::Tunnel;
use ironmesh_model::{Decision, ListenerKind, Member, Plan, Reason, Tried};
use tokio::time::{sleep, timeout};

use crate::buffer::{Buffer, Buffers};
use crate::connection::Connection;
use crate::failure::{Blame, Failure, Stage};
use crate::http::dial;
use crate::http::exchange::Picked;
use crate::l4;
use crate::observe;
use crate::outcome::Outcome;
use crate::park;
use crate::pool::{Counted, OpaquePlace};
use crate::stream::{Io, Stream};
use crate::tls::Inside;
use crate::tunnel;
use crate::worker::Worker;

/// An opaque connection.
pub(crate) struct Opaque {
    pub(crate) stream: Stream,
    /// What was read of it.
    pub(crate) first: BytesMut,
    pub(crate) decision: Decision,
    /// The other side, if it was dialled already.
    pub(crate) dialled: Option<OpaqueUpstream>,
}

/// The other side of an opaque connection.
pub(crate) struct OpaqueUpstream {
    io: Io,
    /// What it has said.
    input: Buffer,
    address: SocketAddr,
    member: Option<Arc<Member>>,
    tls: bool,
    attempts: u32,
    /// Counts it as one of its endpoint's.
    _place: OpaquePlace,
    /// Counts it for the choice of others.
    _under_way: Option<UnderWay>,
    /// If limits count it.
    _counted: Option<Counted>,
}

impl OpaqueUpstream {
    /// Waits until it has something to say, which is kept, or ends: `false`. Cancel safe.
    pub(crate) async fn spoke(&mut self, spare: &Buffers) -> bool {
        matches!(self.io.fill(&mut self.input, spare).await, Ok(1..))
    }
}

/// Serves an opaque connection to its end.
pub(crate) async fn serve_connection(worker: &Rc<Worker>, connection: &Connection, opaque: Opaque) {
    let Opaque { stream, first, decision, dialled } = opaque;
    let mut outcome = Outcome::begin();
    let dialled = match dialled {
        Some(dialled) => Ok(dialled),
        None => Box::pin(dial(worker, connection, &decision)).await,
    };
    outcome.decided(decision);
    let mut dialled = match dialled {
        Ok(dialled) => dialled,
        Err(failure) => {
            outcome.reason = failure.reason;
            observe::closed(worker, connection, &outcome, None, (0, 0));
            return;
        }
    };
    outcome.upstream = Some(dialled.address);
    outcome.upstream_local = dialled.io.with(Stream::local_addr);
    outcome.member.clone_from(&dialled.member);
    outcome.upstream_tls = dialled.tls;
    outcome.attempts = dialled.attempts;
    let counted = observe::opened(worker, connection, &outcome);
    let io = Io::new(stream);
    let mut from_client = Buffer::with(first);
    let already = from_client.unread().len() as u64;
    let server = &dialled.io;
    let mut told = (0, 0);
    let mut moved = || {
        let now = (already + io.received(), server.received());
        let before = std::mem::replace(&mut told, now);
        (now, (now.0 - before.0, now.1 - before.1))
    };
    {
        let pool = outcome.decision.as_ref().and_then(|d| d.group()?.pool()).unwrap_or_default();
        let idle_timeout = match pool.tcp_idle_timeout {
            None => worker.process.limits.opaque_idle_timeout,
            Some(Duration::ZERO) => FOR_EVER,
            Some(timeout) => timeout.min(FOR_EVER),
        };
        let age_max = pool.connection_age_max.unwrap_or(FOR_EVER).min(FOR_EVER);
        let (client, server) = ((&io, &mut from_client), (server, &mut dialled.input));
        let mut relay = pin!(l4::relay(client, server, &worker.buffers, idle_timeout));
        // Boxed: otherwise it would make every such connection's future larger.
        let mut cut_off = Box::pin(async {
            tokio::select! {
                reason = worker.refuses(connection) => reason,
                () = connection.expired() => Reason::ConnectionAge,
                () = sleep(age_max) => Reason::ConnectionAge,
            }
        });
        loop {
            let ended = tokio::select! {
                ended = timeout(TELL_INTERVAL, relay.as_mut()) => ended.map(|_| None),
                reason = &mut cut_off => Ok(Some(reason)),
            };
            match ended {
                Ok(Some(reason)) => {
                    outcome.reason = reason;
                    // An end would say that all bytes have come.
                    l4::reset_on_close(&io);
                    l4::reset_on_close(&dialled.io);
                    break;
                }
                Ok(None) => break,
                Err(_) => observe::moved(worker, &counted, moved().1),
            }
        }
    }
    let (all, untold) = moved();
    (outcome.request_bytes, outcome.response_bytes) = all;
    observe::closed(worker, connection, &outcome, Some(&counted), untold);
}

/// Notes a connection that was refused before anything was known about it.
pub(crate) fn refused(worker: &Rc<Worker>, connection: &Connection, failure: Failure) {
    let mut outcome = Outcome::begin();
    outcome.reason = failure.reason;
    tracing::debug!(peer = %connection.peer, reason = %failure.reason, "connection refused");
    observe::closed(worker, connection, &outcome, None, (0, 0));
}

/// Dials the other side; another endpoint if one does not answer.
pub(crate) async fn dial(
    worker: &Rc<Worker>,
    connection: &Connection,
    decision: &Decision,
) -> Result<OpaqueUpstream, Failure> {
    let mut tried = Tried::default();
    let (mut attempts, mut last) = (0, None);
    loop {
        attempts += 1;
        let picked = pick(worker, connection, decision, &tried);
        let picked = match picked {
            Ok(picked) => picked,
            Err(none) => {
                let group = decision.group();
                let host = || connection.named_host().map(Cow::Borrowed);
                if park::resolved_now(worker, &connection.workload, group, host).await {
                    continue;
                }
                return Err(last.unwrap_or(none));
            }
        };
        let to = picked.destination(connection, decision);
        let counted = match to.limited.map(|group| worker.pool.count(to, group, false)) {
            // As in Envoy, connections that nobody looks into do not wait.
            Some(None) => return Err(Failure::mesh(Reason::UpstreamOverflow)),
            counted => counted.flatten(),
        };
        let mut dialled = dial::stream(worker, to, Inside::Opaque).await;
        if let Some(tunnel) = tunnel(decision)
            && let Ok(stream) = dialled
        {
            let opening = tunnel::open(worker, &connection.workload, stream, &tunnel);
            dialled = Box::pin(opening).await;
        }
        if let (Some(member), Some(group)) = (&picked.member, decision.group()) {
            // A certificate that is not there yet, say, is no failure of the endpoint.
            let noted = match &dialled {
                Ok(_) => Some(Noted::Success),
                Err(failure) => (failure.blame == Blame::Upstream).then_some(Noted::NoAnswer),
            };
            if let Some(noted) = noted {
                group.note(member, noted, || worker.process.now());
            }
        }
        match dialled {
            Ok(stream) => {
                let place = worker.pool.place_opaque(to);
                let under_way = picked.member.as_ref().map(|member| member.begin());
                return Ok(OpaqueUpstream {
                    io: Io::new(stream),
                    input: Buffer::default(),
                    address: picked.address,
                    tls: to.tls.expected().is_some(),
                    member: picked.member,
                    attempts,
                    _place: place,
                    _under_way: under_way,
                    _counted: counted,
                });
            }
            Err(failure) => {
                let others = picked.member.is_some() && failure.blame == Blame::Upstream;
                if !others || attempts >= worker.process.limits.connect_attempts_max {
                    return Err(failure);
                }
                debug_assert_eq!(failure.stage, Stage::NotSent, "nothing was sent yet");
                picked.member.into_iter().for_each(|member| tried.push(member, None));
                last = Some(failure);
            }
        }
    }
}

/// The tunnel through which connections go to the other side.
fn tunnel(decision: &Decision) -> Option<Tunnel> {
    decision.group()?.policy().traffic.tunnel.clone()
}

fn pick(
    worker: &Worker,
    connection: &Connection,
    decision: &Decision,
    tried: &Tried,
) -> Result<Picked, Failure> {
    match &decision.plan {
        Plan::Forward => {
            let group = decision.group().ok_or(Failure::mesh(Reason::UnknownDestination))?;
            let hash = decision.hashed_connection(connection.peer);
            let ask = Ask { dialled: connection.destination, tried, draw: connection.draw, hash };
            Picked::of(worker, connection, group, &ask, || {
                connection.named_host().map(Cow::Borrowed)
            })
        }
        Plan::ToWorkload(_) | Plan::Passthrough => {
            debug_assert!(connection.kind != ListenerKind::Gateway, "a gateway dials by rule only");
            Ok(Picked::as_planned(connection, decision))
        }
        Plan::Answer(_) | Plan::ReadHello | Plan::Needs(_) => Err(Failure::mesh(decision.reason)),
    }
}

/// Longer than any connection lasts, and short enough to be added to a time.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// How often the bytes of an open connection are counted, as Istio does.
const TELL_INTERVAL: Duration = Duration::from_secs(15);
