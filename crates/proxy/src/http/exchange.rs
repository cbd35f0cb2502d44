//! One request while it is served: the context that the steps of the path share.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::entry::SECURE_SCHEME;
use ironmesh_model::group::{Ask, Group, GroupPolicy, Member, Requesting, Retrying, Tried};
use ironmesh_model::path::{EscapedNul, normalize_target, split_target};
use ironmesh_model::policy::ConnectionPool;
use ironmesh_model::recorder::Silent;
use ironmesh_model::request::split_authority;
use ironmesh_model::retry::{ATTEMPT_COUNT, Asked, grpc_timeout, grpc_timeout_text};
use ironmesh_model::service::{Discovery, Protocol, UpstreamTls};
use ironmesh_model::{
    Decision, Draw, Hashed, HeaderLookup, ListenerKind, Plan, Reason, Request, Traffic, View,
    decide,
};

use crate::connection::Connection;
use crate::failure::{Failure, Stage};
use crate::http::deadlines::Deadlines;
use crate::http::told::Told;
use crate::http::upstream::Upstream;
use crate::http::{dial, edit};
use crate::idle::Watch;
use crate::message::{RequestHead, ResponseHead, Version};
use crate::names;
use crate::outcome::Outcome;
use crate::park;
use crate::pool::{Kept, Target};
use crate::proxy_protocol::Origin;
use crate::worker::Worker;

/// One request and all that is known about it.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) connection: &'a Connection,
    pub(crate) head: &'a mut RequestHead,
    /// Whether it is gRPC.
    pub(crate) grpc: bool,
    /// All chance in its handling.
    pub(crate) draw: Draw,
    /// What the client sent, where it matters later; most requests need none.
    pub(crate) sent: Option<Box<Sent>>,
    /// Counts the request with the group that it is sent to, where that is limited.
    counted: Option<Requesting>,
    pub(crate) outcome: Outcome,
    /// Watches that it is not silent for too long.
    pub(crate) watch: &'a Watch,
    /// Whether it goes by none of the kept connections, since one of them ended without an answer:
    /// others have most likely ended with it.
    pub(crate) fresh: bool,
    /// Whether the caller's proxy made HTTP/2 of it.
    was_http1: bool,
    /// Whether its headers may ask for something.
    asks: bool,
    /// Why it is refused, if its head is whole but not to be served.
    refused: Option<Reason>,
}

/// What the client sent, and the endpoint does not get.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The target, if it is another than the endpoint gets.
    pub(crate) target: Option<String>,
    /// The authority, likewise.
    pub(crate) authority: Option<String>,
    /// The client that a trusted proxy names in place of who connects.
    pub(crate) client: Option<SocketAddr>,
    /// The origin of a page, if the winning rule has something to say about those.
    pub(crate) origin: Option<String>,
    /// What it is known by, if a hash of that chooses its endpoint.
    pub(crate) hashed: Option<Hashed>,
    /// Counts its attempt as a retry, where those are limited.
    retrying: Option<Retrying>,
}

impl<'a> Exchange<'a> {
    /// A request whose head is complete.
    pub(crate) fn begin(
        worker: &'a Rc<Worker>,
        connection: &'a Connection,
        head: &'a mut RequestHead,
        watch: &'a Watch,
        refused: Option<Reason>,
    ) -> Self {
        Self {
            worker,
            connection,
            grpc: head.is_grpc(),
            head,
            draw: Draw(0),
            sent: None,
            counted: None,
            outcome: Outcome::begin(),
            watch,
            fresh: false,
            was_http1: false,
            asks: false,
            refused,
        }
    }

    /// Makes the request the mesh's own: what the client may not say is removed, what is missing
    /// is added, and the path is normalised, once for all who look at it.
    pub(crate) fn take_over(&mut self) -> Result<(), Failure> {
        if self.head.authority().is_empty() {
            self.head.set_authority(&self.connection.destination.to_string());
        }
        let inbound = self.connection.kind == ListenerKind::Inbound;
        if inbound && self.head.version == Version::Http2 {
            let from_member = self.connection.peer_identity.is_some();
            self.was_http1 = from_member && self.head.fields.contains(WAS_HTTP1);
        }
        let entered = edit::at_entry(self.head, self.connection, &self.worker.random);
        self.asks = entered.asks;
        if let Some(client) = entered.client {
            self.sent.get_or_insert_default().client = Some(SocketAddr::new(client, 0));
        }
        if entered.https {
            self.head.set_https(true);
        }
        let id = self.head.fields.first("x-request-id").unwrap_or_default();
        let hop = self.worker.hop(self.connection);
        self.draw = Draw::of(id, hop, self.worker.next_sequence());
        if let Some(refused) = self.refused {
            return Err(Failure::mesh(refused));
        }
        match normalize_target(self.head.target()) {
            Ok(Cow::Borrowed(_)) => Ok(()),
            Ok(Cow::Owned(normal)) => {
                self.head.set_target(&normal);
                Ok(())
            }
            Err(EscapedNul) => Err(Failure::downstream(Reason::BadRequest)),
        }
    }

    /// Notes the origin of a page, before the winning rule changes headers.
    pub(crate) fn note_origin(&mut self, decision: &Decision) {
        if decision.has_cors() {
            let origin = HeaderLookup::value(&self.head.fields, "origin").map(Cow::into_owned);
            self.sent.get_or_insert_default().origin = origin;
        }
    }

    /// Notes what the request is known by, before the winning rule changes it, if a hash of that
    /// chooses its endpoint.
    pub(crate) fn note_hashed(&mut self, decision: &Decision) {
        if decision.hash_key().is_some() {
            let (client, dialled) = (self.client(), self.connection.destination);
            let hashed = decision.hashed(&self.request(), client, dialled);
            self.sent.get_or_insert_default().hashed = hashed;
        }
    }

    /// The client: who connects, or whom a trusted proxy names in its place.
    pub(crate) fn client(&self) -> SocketAddr {
        let named = self.sent.as_ref().and_then(|sent| sent.client);
        named.unwrap_or(self.connection.peer)
    }

    /// The cookies that the client is given, since it has none yet by which it is known.
    pub(crate) fn new_cookies(&self) -> &[String] {
        let hashed = self.sent.as_ref().and_then(|sent| sent.hashed.as_ref());
        hashed.map_or(&[], |hashed| &hashed.set_cookies)
    }

    /// The origin that the client named, if the winning rule has something to say about those.
    pub(crate) fn origin(&self) -> Option<&str> {
        self.sent.as_ref()?.origin.as_deref()
    }

    /// Decides; `None`: the view lacks something for that.
    pub(crate) fn decide(&self) -> Option<Decision> {
        let decision = self.decide_by(&self.connection.workload.views.load());
        if matches!(decision.plan, Plan::Needs(_)) {
            return None;
        }
        decision.note_use(self.worker.watches.now());
        Some(decision)
    }

    /// Decides, once there is what the view lacks.
    pub(crate) async fn decide_later(&self) -> Result<Decision, Failure> {
        let look = |view: &View| {
            let decision = self.decide_by(view);
            match decision.plan {
                Plan::Needs(key) => Err(Some(key)),
                _ => Ok(decision),
            }
        };
        park::until_found(self.worker, &self.connection.workload, look).await
    }

    fn decide_by(&self, view: &View) -> Decision {
        let local = self.connection.workload.local.load();
        let traffic = Traffic::Request(self.connection.seen(&local), self.request());
        decide(view, &traffic, self.draw, &mut Silent)
    }

    /// The request as decisions see it.
    pub(crate) fn request(&self) -> Request<'_> {
        let (path, query) = split_target(self.head.target());
        Request {
            method: self.head.method(),
            scheme: if self.connection.https { SECURE_SCHEME } else { self.head.scheme() },
            authority: self.head.authority(),
            path,
            query,
            headers: &self.head.fields,
        }
    }

    /// Changes the request as the winning rule says.
    pub(crate) fn edit_request(&mut self, decision: &Decision) {
        if let Some(target) = decision.rewritten_target(self.head.target()) {
            let sent = self.sent.get_or_insert_default();
            sent.target = Some(self.head.target().to_owned());
            self.head.set_target(&target);
        }
        if let Some(authority) = decision.rewritten_authority() {
            let sent = self.sent.get_or_insert_default();
            sent.authority = Some(self.head.authority().to_owned());
            self.head.set_authority(authority);
        }
        let told = Told {
            connection: self.connection,
            client: self.client(),
            decision: Some(decision),
            upstream: None,
            started: self.outcome.started,
        };
        edit::request_fields(self.head, decision, &told);
    }

    /// What header operations may say of it.
    pub(crate) fn told<'b>(&'b self, decision: &'b Decision) -> Told<'b> {
        let Outcome { upstream, started, .. } = self.outcome;
        let (connection, client) = (self.connection, self.client());
        Told { connection, client, decision: Some(decision), upstream, started }
    }

    /// Counts its next attempt as a retry, if it is one and those are limited, and no longer the one
    /// before.
    pub(crate) fn hold_retry(&mut self, retrying: Option<Retrying>) {
        if let Some(sent) = &mut self.sent {
            sent.retrying = retrying;
        } else if retrying.is_some() {
            self.sent.get_or_insert_default().retrying = retrying;
        }
    }

    /// Takes off what only proxies are told, and gives what it asks of this one, if something.
    pub(crate) fn take_asked(&mut self, decision: &Decision) -> Option<Box<Asked>> {
        if !self.asks {
            return None;
        }
        let is_inbound = self.connection.kind == ListenerKind::Inbound;
        let asked = (!is_inbound).then(|| Asked::of(&self.head.fields, decision.retry()));
        self.head.fields.retain(|name, _| !Asked::takes(name));
        asked.filter(|asked| *asked != Asked::default()).map(Box::new)
    }

    /// How long the caller of gRPC waits, if it says so.
    pub(crate) fn grpc_timeout(&self) -> Option<Duration> {
        self.grpc.then(|| grpc_timeout(self.head.fields.first("grpc-timeout")?)).flatten()
    }

    /// Tells the endpoint which attempt it gets, and how long it has for its answer.
    ///
    /// An application of gRPC ends a call itself when the caller's deadline has passed. So it is told
    /// the deadline of the whole call, never that of one attempt (Envoy does): its own
    /// `DEADLINE_EXCEEDED` would come about when the attempt's time is over, and often before, and
    /// then the call would not be tried again. That an attempt is over it learns by a reset.
    pub(crate) fn state_attempt(&mut self, made: u32, deadlines: &Deadlines<'_>) {
        let Self { head, connection, grpc, .. } = self;
        if connection.kind != ListenerKind::Inbound {
            if made > 1 {
                head.fields.remove(ATTEMPT_COUNT);
            }
            let mut digits = itoa::Buffer::new();
            head.fields.push(ATTEMPT_COUNT.as_bytes(), digits.format(made).as_bytes());
        }
        // As Envoy: 0 would be no limit.
        let at_least = |time: Duration| time.max(Duration::from_millis(1));
        let whole = deadlines.left().map(at_least);
        let expected = match (deadlines.of_attempt().map(at_least), whole) {
            (Some(attempt), Some(whole)) => Some(attempt.min(whole)),
            (attempt, whole) => attempt.or(whole),
        };
        if let Some(expected) = expected {
            let expected = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
            head.fields.set(EXPECTED_TIMEOUT, itoa::Buffer::new().format(expected).as_bytes());
        }
        if let (true, Some(whole)) = (*grpc, whole) {
            head.fields.set("grpc-timeout", grpc_timeout_text(whole).as_bytes());
        }
    }

    /// The host that it names on its way out.
    fn named_host(&self) -> Option<Cow<'_, str>> {
        let rewritten = self.sent.as_ref().and_then(|sent| sent.authority.as_deref());
        Some(split_authority(rewritten.unwrap_or(self.head.authority())).0)
    }

    /// Chooses where to send it.
    pub(crate) fn pick(
        &mut self,
        decision: &Decision,
        tried: &Tried,
        upgrade: bool,
    ) -> Result<Picked, Failure> {
        let connection = self.connection;
        let by_client = self.head.version == Version::Http2 && !self.was_http1;
        let (picked, http2) = match (&decision.plan, decision.group()) {
            (Plan::Forward, Some(group)) => {
                let http2 = speaks_http2(&group.policy(), by_client, self.grpc);
                let hashed = self.sent.as_ref().and_then(|sent| sent.hashed.as_ref());
                let hash = hashed.map(|hashed| hashed.hash);
                let dialled = connection.destination;
                let ask = Ask { dialled, tried, draw: self.draw, hash };
                let host = || self.named_host();
                (Picked::of(self.worker, connection, group, &ask, host)?, http2)
            }
            (Plan::Forward, None) => return Err(Failure::mesh(Reason::UnknownDestination)),
            _ => {
                let inbound = connection.kind == ListenerKind::Inbound;
                let http2 = matches!(decision.protocol(), Protocol::Http2 | Protocol::Grpc);
                (Picked::as_planned(connection, decision), by_client || (http2 && inbound))
            }
        };
        let picked = Picked { http2: http2 && !upgrade, ..picked };
        self.outcome.member.clone_from(&picked.member);
        self.outcome.upstream = Some(picked.address);
        self.outcome.upstream_tls = picked.tls(decision).expected().is_some();
        self.note_upgrade(&picked, decision);
        Ok(picked)
    }

    /// Tells the endpoint's proxy of a request of HTTP/1 that goes by HTTP/2 since a policy says so: its
    /// application may know nothing of that.
    fn note_upgrade(&mut self, picked: &Picked, decision: &Decision) {
        let Some(group) = decision.group().filter(|_| self.head.version != Version::Http2) else {
            return;
        };
        let policy = group.policy();
        let upgrades = |pool: &ConnectionPool| pool.upgrade == Some(true);
        if !policy.traffic.pool.as_ref().is_some_and(upgrades) {
            return;
        }
        self.head.fields.remove(WAS_HTTP1);
        let is_declared = matches!(policy.protocol, Protocol::Http2 | Protocol::Grpc);
        if picked.http2 && !is_declared && picked.tls(decision).expected().is_some() {
            self.head.fields.push(WAS_HTTP1.as_bytes(), b"1");
        }
    }

    /// Counts it with its group, where that limits how many are under way.
    pub(crate) fn count(&mut self, decision: &Decision) -> Result<(), Failure> {
        // That of an attempt before must not stand in its way.
        self.counted = None;
        if let Some(group) = decision.group() {
            self.counted = group.request().map_err(Failure::mesh)?;
        }
        Ok(())
    }

    /// Waits until it is known for what the names of endpoints stand; `false` if it was known.
    pub(crate) async fn resolved_now(&self, decision: &Decision) -> bool {
        let workload = &self.connection.workload;
        let host = || self.named_host();
        park::resolved_now(self.worker, workload, decision.group(), host).await
    }

    /// A connection to there, from the pool or a new one.
    pub(crate) async fn connect(&mut self, to: Target<'_>) -> Result<Upstream, Failure> {
        let kept = match () {
            () if self.fresh => Kept::None,
            () if self.head.is_idempotent() => Kept::Any,
            () => Kept::Lasting,
        };
        let upstream = dial::connect(self.worker, to, kept).await?;
        if let Upstream::Http1(connection) = &upstream {
            self.outcome.upstream_local = connection.local;
        }
        Ok(upstream)
    }

    /// Gives a connection back to the pool.
    pub(crate) fn give_back(&self, upstream: Upstream, reusable: bool) {
        if reusable {
            dial::give_back(self.worker, upstream);
        }
    }

    /// Counts and logs what became of it. `response`: the head of the answer that was made last.
    pub(crate) fn observe(&self, response: &ResponseHead) {
        crate::observe::request(self, response);
    }
}

/// Milliseconds that the endpoint has for its answer, as Envoy tells it.
const EXPECTED_TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";

/// Tells an endpoint's proxy that a request came to the caller's by HTTP/1. Believed only over mutual
/// TLS.
const WAS_HTTP1: &str = "x-ironmesh-was-http1";

/// Whether HTTP/2 is spoken to the endpoints of a group. A port that declares `http` takes HTTP/1.1, as
/// in Istio, but for gRPC, which is none without HTTP/2.
pub(crate) fn speaks_http2(policy: &GroupPolicy, by_client: bool, grpc: bool) -> bool {
    match &policy.traffic.pool {
        Some(pool) if pool.client_protocol => return by_client,
        Some(pool) if pool.upgrade == Some(true) => return true,
        Some(_) | None => {}
    }
    match policy.protocol {
        Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Undeclared => by_client,
        _ => by_client && grpc,
    }
}

/// Where a request or a connection goes.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) address: SocketAddr,
    /// The endpoint; `None`: it goes to where the client dialled.
    pub(crate) member: Option<Arc<Member>>,
    /// Whether to speak HTTP/2.
    pub(crate) http2: bool,
}

impl Picked {
    /// The endpoint that a group gives a request to.
    pub(crate) fn of<'h>(
        worker: &Worker,
        connection: &Connection,
        group: &Group,
        ask: &Ask<'_>,
        host: impl FnOnce() -> Option<Cow<'h, str>>,
    ) -> Result<Self, Failure> {
        let member = match group.pick(ask, || worker.process.now()) {
            Ok(member) => member,
            Err(reason) => {
                let dialled = Self::dialled_in(connection, group);
                let elsewhere =
                    dialled.or_else(|| Self::named(connection, group, ask, host().as_deref()));
                return elsewhere.ok_or(Failure::mesh(reason));
            }
        };
        let address = member.address();
        let address = address.ok_or(Failure::upstream(Reason::ConnectFailed, Stage::NotSent))?;
        Ok(Self { address, member: Some(member), http2: false })
    }

    /// Where the client dialled.
    fn dialled(connection: &Connection) -> Self {
        let address = connection.destination;
        Self { address, member: None, http2: false }
    }

    /// Where the client dialled, or where the workload has its port.
    pub(crate) fn as_planned(connection: &Connection, decision: &Decision) -> Self {
        match decision.plan {
            Plan::ToWorkload(_) => {
                let address = decision.at_workload(connection.destination);
                Self { address, ..Self::dialled(connection) }
            }
            _ => Self::dialled(connection),
        }
    }

    /// Where the client of a workload dialled, if a group has its connections go there.
    fn dialled_in(connection: &Connection, group: &Group) -> Option<Self> {
        let goes_there = connection.kind == ListenerKind::Outbound
            && group.policy().service.discovery == Discovery::Dialled;
        goes_there.then(|| Self::dialled(connection))
    }

    /// An address of the host that the client names, if a group has its connections go there and it is
    /// known.
    fn named(
        connection: &Connection,
        group: &Group,
        ask: &Ask<'_>,
        host: Option<&str>,
    ) -> Option<Self> {
        let member = names::member(&connection.workload, group, host, ask)?;
        Some(Self { address: member.address()?, member: Some(member), http2: false })
    }

    /// How to speak to it.
    pub(crate) fn tls<'a>(&'a self, decision: &'a Decision) -> &'a UpstreamTls {
        match &self.member {
            Some(_) if decision.passes_mesh_tls_on() => &UpstreamTls::None,
            Some(member) => &member.tls,
            None => decision.upstream_tls(),
        }
    }

    /// How to get there, on behalf of a connection.
    pub(crate) fn destination<'a>(
        &'a self,
        connection: &'a Connection,
        decision: &'a Decision,
    ) -> Target<'a> {
        let group = decision.group().filter(|group| group.pool().is_some());
        Target {
            workload: &connection.workload,
            listener: connection.kind,
            address: &self.address,
            tls: self.tls(decision),
            http2: self.http2,
            limited: group.filter(|_| self.member.is_some() || connection.inbound().is_some()),
            origin: self.origin(connection, decision),
        }
    }

    /// What it is told of the client, if it wants to know.
    fn origin<'a>(&self, connection: &'a Connection, decision: &Decision) -> Option<Origin<'a>> {
        let version = match &self.member {
            Some(member) => member.proxy_protocol,
            None => decision.group()?.policy().traffic.proxy_protocol,
        };
        let ends = Some((&connection.peer, &connection.destination));
        Some(Origin { version: version?, ends })
    }
}
