//! What the mesh does with a connection or a request: the only place where rules are matched.
//!
//! The answer is a [`Plan`], which is data, and the [`Reason`] for it. The proxy executes plans and
//! adds no meaning of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::draw::{Draw, Purpose};
use crate::group::{Group, Tick};
use crate::policy::MtlsMode;
use crate::reason::Reason;
use crate::recorder::{Choice, Event, Recorder};
use crate::request::split_authority;
use crate::resource::{Join, ListenerKind, ResolutionKey, ResourceKey, Target};
use crate::retry::Retry;
use crate::service::{Protocol, UpstreamTls, Workload};
use crate::settings::OutboundPolicy;
use crate::traffic::{Connection, Request, Seen, Traffic};
use crate::view::{CompiledMatch, CompiledRule, Linked, LinkedApplies, LinkedBackend, View};

mod answer;
mod conditions;
mod drawn;
mod edge;
mod edit;
mod hash;
mod inbound;
mod rules;

pub use edge::{https_location, passes_bytes_on};
pub use hash::Hashed;

use rules::{Found, Wanted, first_connection_match, first_match};

/// What the mesh does with a connection or a request. Holds indices into what applied and keeps that
/// alive, so that a change of the configuration never breaks a request in flight.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What to do.
    pub plan: Plan,
    /// Why.
    pub reason: Reason,
    /// What applied; `None` before it is known.
    pub linked: Option<Arc<Linked>>,
    /// The winning rule, if one won.
    pub rule: Option<RuleAt>,
    /// The chosen backend, whether or not it can be used.
    chosen: Option<Chosen>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Send it to an endpoint of [`Decision::backend`]'s group.
    Forward,
    /// Hand it to the workload of this inbound proxy, which takes connections in this mode.
    ToWorkload(MtlsMode),
    /// Send it to the address that the caller dialled, as [`Decision::upstream_tls`] says.
    Passthrough,
    /// Answer it with this status; what a rule says of the answer beside that is read from the
    /// decision ([`Decision::direct_response`] and the like). A connection is closed.
    Answer(u16),
    /// Read the beginning of the connection and ask again: a rule here depends on the server name
    /// of its TLS.
    ReadHello,
    /// Nothing can be said before this resource is held.
    Needs(ResourceKey),
}

/// A rule of the routes that applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleAt {
    /// Index into [`LinkedApplies::routes`].
    pub route: u32,
    /// Which of the route's lists.
    pub list: RuleList,
    /// Index into that list.
    pub rule: u32,
    /// Which alternative of its matches; `None` if it has none.
    pub alternative: Option<u32>,
}

impl RuleAt {
    /// Number of the rule, for its draws; those for connections come behind those for requests.
    fn number(self) -> u64 {
        let list = u64::from(self.list == RuleList::Connections) << 31;
        (u64::from(self.route) << 32) | list | u64::from(self.rule)
    }
}

/// The lists of rules that a route has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleList {
    /// Rules for requests.
    Requests,
    /// Rules for connections.
    Connections,
}

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chosen {
    /// The service's own.
    Default,
    /// This one of those that are chosen by server name.
    Named(u32),
    /// This one of the winning rule's.
    OfRule(u32),
}

impl Decision {
    /// The chosen backend. Its group is there if the plan is to forward.
    pub fn backend(&self) -> Option<&LinkedBackend> {
        match self.chosen? {
            Chosen::Default => self.applies()?.default_backend.as_ref(),
            Chosen::Named(at) => self.applies()?.by_server_name.get(at as usize),
            Chosen::OfRule(backend) => self.backends()?.get(backend as usize),
        }
    }

    /// The group of the chosen backend, if the plan is to forward. What enters a workload has one if
    /// there are limits, which has no endpoints.
    pub fn group(&self) -> Option<&Arc<Group>> {
        match self.plan {
            Plan::ToWorkload(_) => self.applies()?.inbound_group.as_ref(),
            _ => self.backend()?.group.as_ref().ok(),
        }
    }

    /// Where a connection to the workload goes that was going to `dialled`.
    pub fn at_workload(&self, dialled: SocketAddr) -> SocketAddr {
        match self.applies().and_then(|applies| applies.to) {
            Some(to) if to.ip().is_unspecified() => SocketAddr::new(dialled.ip(), to.port()),
            Some(to) => to,
            None => dialled,
        }
    }

    /// All backends of the winning rule.
    pub fn backends(&self) -> Option<&[LinkedBackend]> {
        let at = self.rule?;
        Some(self.applies()?.routes.get(at.route as usize)?.backends(at.list, at.rule))
    }

    /// Index of the chosen backend among the winning rule's.
    pub fn backend_index(&self) -> Option<u32> {
        match self.chosen? {
            Chosen::Default | Chosen::Named(_) => None,
            Chosen::OfRule(index) => Some(index),
        }
    }

    /// The winning rule for requests, for its rewrite and header operations.
    pub fn winning_rule(&self) -> Option<&CompiledRule> {
        let at = self.rule.filter(|at| at.list == RuleList::Requests)?;
        self.applies()?.routes.get(at.route as usize)?.route.rules.get(at.rule as usize)
    }

    /// The alternative of the winning rule that matched, for a rewrite of its prefix.
    pub fn winning_match(&self) -> Option<&CompiledMatch> {
        self.winning_rule()?.matches.get(self.rule?.alternative? as usize)
    }

    /// Longest time from the request's last byte to the answer's end; `None`: no limit.
    pub fn timeout(&self) -> Option<Duration> {
        self.winning_rule()?.rule.timeout
    }

    /// When an attempt is followed by another; `None`: nobody has configured it.
    pub fn retry(&self) -> Option<&Retry> {
        self.winning_rule()?.rule.retry.as_ref()
    }

    /// The member of the mesh whose address the caller dialled, if the plan is to pass through to it.
    pub fn dialled_member(&self) -> Option<&Arc<Workload>> {
        match self.plan {
            Plan::Passthrough => self.applies()?.member.as_ref(),
            _ => None,
        }
    }

    /// How to speak to the address that the caller dialled, if the plan is to pass through to it.
    pub fn upstream_tls(&self) -> &UpstreamTls {
        match (&self.linked, self.dialled_member()) {
            (Some(linked), Some(member)) => member.tls_at(linked.key.target.port()),
            _ => &UpstreamTls::None,
        }
    }

    /// Whether what is forwarded is the mesh's own TLS already, at a gateway between meshes.
    pub fn passes_mesh_tls_on(&self) -> bool {
        let at_gateway = |linked: &Arc<Linked>| linked.key.listener == ListenerKind::Gateway;
        self.protocol() == Protocol::Tls && self.linked.as_ref().is_some_and(at_gateway)
    }

    /// Protocol that the port declares; undeclared before that is known.
    pub fn protocol(&self) -> Protocol {
        self.applies().map_or(Protocol::Undeclared, |applies| applies.protocol)
    }

    /// The winning rule as the access log writes it: `NAMESPACE/NAME#RULE`.
    pub fn route_name(&self) -> Option<String> {
        let at = self.rule?;
        Some(self.applies()?.routes.get(at.route as usize)?.name_of(at.list, at.rule))
    }

    /// Version of the winning route.
    pub fn route_version(&self) -> Option<crate::Version> {
        Some(self.applies()?.routes.get(self.rule?.route as usize)?.version)
    }

    /// Notes that what applied was used.
    pub fn note_use(&self, now: Tick) {
        if let Some(linked) = &self.linked {
            linked.last_use.note(now);
        }
    }

    /// What applied, if it is known and something did.
    pub fn applies(&self) -> Option<&LinkedApplies> {
        self.linked.as_ref()?.applies.as_ref()
    }

    fn of(plan: Plan, reason: Reason, linked: &Arc<Linked>) -> Self {
        Self { plan, reason, linked: Some(linked.clone()), rule: None, chosen: None }
    }

    fn answer(reason: Reason, linked: &Arc<Linked>) -> Self {
        Self::of(Plan::Answer(reason.status()), reason, linked)
    }

    /// An answer before anything was looked up.
    pub fn without_lookup(reason: Reason) -> Self {
        let plan = Plan::Answer(reason.status());
        Self { plan, reason, linked: None, rule: None, chosen: None }
    }

    fn needs(key: ResourceKey) -> Self {
        Self { plan: Plan::Needs(key), ..Self::without_lookup(Reason::NotConfigured) }
    }
}

/// Decides what happens to a connection or to a request. No IO, no clock, no randomness of its own.
///
/// Choosing the endpoint within [`Decision::backend`]'s group is not part of it: that depends on
/// what other requests do.
pub fn decide<R: Recorder>(
    view: &View,
    traffic: &Traffic<'_>,
    draw: Draw,
    recorder: &mut R,
) -> Decision {
    let connection = traffic.connection();
    match traffic {
        _ if connection.listener == ListenerKind::Inbound => {
            inbound::entering(view, connection, recorder)
        }
        Traffic::Connection(connection) if connection.listener == ListenerKind::Gateway => {
            edge::connected(view, connection, draw, recorder)
        }
        Traffic::Connection(connection) => outbound(view, connection, draw, recorder),
        Traffic::Request(connection, request) => {
            requested(view, connection, request, draw, recorder)
        }
    }
}

/// A connection that leaves a workload: the rules for connections, else the service as it is.
fn outbound<R: Recorder>(
    view: &View,
    connection: &Connection<'_>,
    draw: Draw,
    recorder: &mut R,
) -> Decision {
    let linked = match at_address(view, connection, recorder) {
        Ok(found) => found,
        Err(undecided) => return undecided,
    };
    let Some(applies) = linked.applies.as_ref().filter(|applies| !applies.is_only_member()) else {
        return to_unknown(view, connection, linked);
    };
    match first_connection_match(applies, connection, Wanted::at(applies), recorder) {
        Found::Matched(at) => by_rule(linked, applies, at, None, draw, recorder),
        Found::NotRead => Decision::of(Plan::ReadHello, Reason::NotConfigured, linked),
        Found::NoneMatched | Found::NoneApplies if applies.by_server_name.is_empty() => {
            by_default(linked, applies)
        }
        Found::NoneMatched | Found::NoneApplies => {
            by_server_name(view, connection, linked, applies, draw, recorder)
        }
    }
}

/// A connection to an address of nobody, on a port of services that are reached at whatever address.
fn by_server_name<R: Recorder>(
    view: &View,
    connection: &Connection<'_>,
    linked: &Arc<Linked>,
    applies: &LinkedApplies,
    draw: Draw,
    recorder: &mut R,
) -> Decision {
    let name = match connection.server_name {
        Seen::NotRead => return Decision::of(Plan::ReadHello, Reason::NotConfigured, linked),
        Seen::Is(name) => Some(name),
        Seen::Absent => None,
    };
    let mut hosts = (0u32..).zip(&applies.by_server_name);
    let found =
        name.and_then(|name| hosts.find(|(_, to)| crate::host::covers_any_case(&to.host, name)));
    if let Some((at, backend)) = found {
        recorder.record(|| Event::Resolved {
            key: format!("server name {}", name.unwrap_or_default()),
            outcome: format!("service {}", backend.host),
        });
        return by_backend(linked, backend, Chosen::Named(at));
    }
    if applies.default_backend.is_none() {
        return to_unknown(view, connection, linked);
    }
    match first_connection_match(applies, connection, Wanted::Tcp, recorder) {
        Found::Matched(at) => by_rule(linked, applies, at, None, draw, recorder),
        _ => by_default(linked, applies),
    }
}

/// A request that leaves a workload or comes in at a gateway: the rules for its host.
fn requested<R: Recorder>(
    view: &View,
    connection: &Connection<'_>,
    request: &Request<'_>,
    draw: Draw,
    recorder: &mut R,
) -> Decision {
    let linked = match at_host(view, connection, request, recorder) {
        Ok(found) => found,
        Err(undecided) => return undecided,
    };
    let Some(applies) = &linked.applies else {
        if connection.listener == ListenerKind::Gateway {
            return Decision::answer(Reason::NoRoute, linked);
        }
        return unknown_host(view, connection, recorder);
    };
    match first_match(applies, connection, request, recorder) {
        Found::Matched(at) => by_rule(linked, applies, at, Some(request), draw, recorder),
        Found::NoneMatched if applies.join == Join::OrDefault => by_default(linked, applies),
        Found::NoneMatched | Found::NotRead => Decision::answer(Reason::NoRoute, linked),
        Found::NoneApplies => by_default(linked, applies),
    }
}

/// A request from a workload whose host is nothing that the mesh knows: it goes to where the caller
/// dialled. If that is an address of a service it goes to the endpoints of that, by no rule, so that
/// no member is spoken to in plaintext.
fn unknown_host<R: Recorder>(
    view: &View,
    connection: &Connection<'_>,
    recorder: &mut R,
) -> Decision {
    let dialled = match at_address(view, connection, recorder) {
        Ok(found) => found,
        Err(undecided) => return undecided,
    };
    match &dialled.applies {
        Some(applies)
            if applies.default_backend.is_some()
                && view.settings().outbound_policy == OutboundPolicy::AllowAny =>
        {
            by_default(dialled, applies)
        }
        _ => to_unknown(view, connection, dialled),
    }
}

/// What applies at the original destination of a connection, or what to do without knowing it.
fn at_address<'v, R: Recorder>(
    view: &'v View,
    connection: &Connection<'_>,
    recorder: &mut R,
) -> Result<&'v Arc<Linked>, Decision> {
    let Connection { listener, destination, local, .. } = *connection;
    let Some(linked) = view.at_address(listener, destination, &local.namespace) else {
        let key = ResolutionKey::of_address(listener, destination, &local.namespace);
        return Err(not_held(key, recorder));
    };
    usable(linked, recorder)
}

/// What applies at the host that a request names, or what to do without knowing it.
fn at_host<'v, R: Recorder>(
    view: &'v View,
    connection: &Connection<'_>,
    request: &Request<'_>,
    recorder: &mut R,
) -> Result<&'v Arc<Linked>, Decision> {
    let Connection { listener, destination, local, .. } = *connection;
    let port = destination.port();
    let host = split_authority(request.authority).0;
    if host.len() > HOST_BYTES_MAX {
        return Err(Decision::without_lookup(Reason::BadRequest));
    }
    let key = |host: &str| ResolutionKey {
        listener,
        target: Target::Host(host.into(), port),
        namespace: local.namespace.clone(),
    };
    let asked = if listener == ListenerKind::Gateway {
        if view.get(&ResourceKey::Listeners).is_none() {
            return Err(Decision::needs(ResourceKey::Listeners));
        }
        if let Some(answer) = edge::before_rules(view, connection, request, &host, recorder) {
            return Err(answer);
        }
        let Some(domain) = view.domain(&host, port) else {
            recorder.record(|| resolved(&key(&host), "no route of the gateway is for this host"));
            return Err(Decision::without_lookup(Reason::NoRoute));
        };
        &**domain
    } else {
        &*host
    };
    match view.at_host(listener, asked, port, &local.namespace) {
        Some(linked) => usable(linked, recorder),
        None => Err(not_held(key(asked), recorder)),
    }
}

fn not_held<R: Recorder>(key: ResolutionKey, recorder: &mut R) -> Decision {
    recorder.record(|| resolved(&key, "not held: the proxy subscribes, and the traffic waits"));
    Decision::needs(ResourceKey::Resolution(key))
}

/// Whether all that an answer of the control plane names is there and can be used.
fn usable<'v, R: Recorder>(
    linked: &'v Arc<Linked>,
    recorder: &mut R,
) -> Result<&'v Arc<Linked>, Decision> {
    let Some(applies) = &linked.applies else {
        recorder.record(|| resolved(&linked.key, "nothing of the mesh is there"));
        return Ok(linked);
    };
    if let Some(missing) = &applies.missing {
        recorder.record(|| resolved(&linked.key, "a part of the answer has not arrived"));
        return Err(Decision::needs(missing.clone()));
    }
    if let Some(unusable) = &applies.unusable {
        recorder.record(|| resolved(&linked.key, &cannot_use(unusable)));
        return Err(Decision::answer(Reason::NotConfigured, linked));
    }
    recorder.record(|| resolved(&linked.key, &describe(applies)));
    Ok(linked)
}

/// A destination that is no service, of which `linked` tells whether a member lives there.
fn to_unknown(view: &View, connection: &Connection<'_>, linked: &Arc<Linked>) -> Decision {
    match (connection.listener, view.settings().outbound_policy) {
        (ListenerKind::Outbound, OutboundPolicy::AllowAny) => {
            Decision::of(Plan::Passthrough, Reason::Passthrough, linked)
        }
        (ListenerKind::Outbound, OutboundPolicy::RegistryOnly) => {
            Decision::answer(Reason::Blocked, linked)
        }
        // A gateway dials by rule only.
        (ListenerKind::Gateway | ListenerKind::Inbound, _) => {
            Decision::answer(Reason::NoRoute, linked)
        }
    }
}

fn by_rule<R: Recorder>(
    linked: &Arc<Linked>,
    applies: &LinkedApplies,
    at: RuleAt,
    request: Option<&Request<'_>>,
    draw: Draw,
    recorder: &mut R,
) -> Decision {
    let route = &applies.routes[at.route as usize];
    let by = |plan, reason, chosen| {
        let linked = Some(linked.clone());
        Decision { plan, reason, linked, rule: Some(at), chosen }
    };
    let backends = route.backends(at.list, at.rule);
    if let Some(request) = request
        && let Some((status, reason)) = answer::of_rule(route, at, request, draw, recorder)
    {
        // As in Istio, the destination has a say in the head of an answer that was given in its stead.
        let instead_of = (reason == Reason::FaultAbort)
            .then(|| choose(backends, at, draw, recorder))
            .flatten()
            .map(Chosen::OfRule);
        return by(Plan::Answer(status), reason, instead_of);
    }
    let Some(index) = choose(backends, at, draw, recorder) else {
        return by(Plan::Answer(Reason::DeadRule.status()), Reason::DeadRule, None);
    };
    let (plan, reason) = match &backends[index as usize].group {
        Ok(_) => (Plan::Forward, Reason::Route),
        Err(reason) => (Plan::Answer(reason.status()), *reason),
    };
    by(plan, reason, Some(Chosen::OfRule(index)))
}

/// Chooses a backend by weight. A single one needs no weight; of several, those with weight 0 get
/// nothing, so there is none to choose if all have that.
fn choose<R: Recorder>(
    backends: &[LinkedBackend],
    at: RuleAt,
    draw: Draw,
    recorder: &mut R,
) -> Option<u32> {
    if backends.len() < 2 {
        return (!backends.is_empty()).then_some(0);
    }
    let total: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
    let drawn = draw.choose(Purpose::Backend, at.number(), total);
    let mut below = 0;
    let chosen = backends.iter().position(|backend| {
        below += u64::from(backend.weight);
        drawn < below
    })?;
    recorder.record(|| Event::Weighted {
        choices: backends
            .iter()
            .map(|b| Choice {
                host: b.host.to_string(),
                subset: b.subset.as_deref().map(str::to_owned),
                weight: b.weight,
            })
            .collect(),
        drawn,
        chosen,
    });
    u32::try_from(chosen).ok()
}

fn by_default(linked: &Arc<Linked>, applies: &LinkedApplies) -> Decision {
    let Some(backend) = &applies.default_backend else {
        return Decision::answer(Reason::NoRoute, linked);
    };
    by_backend(linked, backend, Chosen::Default)
}

fn by_backend(linked: &Arc<Linked>, backend: &LinkedBackend, chosen: Chosen) -> Decision {
    let (plan, reason) = match &backend.group {
        Ok(_) => (Plan::Forward, Reason::DefaultRoute),
        Err(reason) => (Plan::Answer(reason.status()), *reason),
    };
    Decision { chosen: Some(chosen), ..Decision::of(plan, reason, linked) }
}

/// Bytes of a host name; longer ones are no names (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 255;

fn resolved(key: &ResolutionKey, outcome: &str) -> Event {
    Event::Resolved { key: key.to_string(), outcome: outcome.to_owned() }
}

fn cannot_use(unusable: &ResourceKey) -> String {
    format!("the proxy cannot use {unusable}; see `ironmesh proxy-status`")
}

fn describe(applies: &LinkedApplies) -> String {
    let service = match (&applies.service, &applies.member) {
        (Some(service), _) => format!("service {}", service.id),
        (None, Some(member)) => {
            format!("no service, but workload {}.{}", member.id.name, member.id.namespace)
        }
        (None, None) => "no service by that name".to_owned(),
    };
    let routes: Vec<&str> = applies.routes.iter().map(|r| &*r.name).collect();
    if routes.is_empty() {
        format!("{service}, no routes")
    } else {
        format!("{service}, routes {}", routes.join(", "))
    }
}

#[cfg(test)]
mod tests;
