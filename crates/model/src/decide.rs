//! What the mesh does with one request: the only place where routes are matched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::draw::{Draw, Purpose};
use crate::name::Name;
use crate::policy::MtlsMode;
use crate::reason::Reason;
use crate::recorder::{Choice, Event, Recorder};
use crate::request::{RequestMeta, split_authority};
use crate::resource::{ListenerKind, ResolutionKey, ResourceKey, Target};
use crate::service::Protocol;
use crate::settings::OutboundPolicy;
use crate::view::{CompiledMatch, CompiledRule, Linked, LinkedApplies, LinkedBackend, View};

mod edit;
mod rules;

use rules::{Tried, first_match};

/// What the mesh does with a request. Holds indices into what applied and keeps that alive, so that
/// a change of the configuration never breaks a request in flight.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What applied; `None` before it is known.
    pub linked: Option<Arc<Linked>>,
    /// The winning rule, if one won.
    pub rule: Option<RuleAt>,
    /// The chosen backend, whether or not it can be used.
    chosen: Option<Chosen>,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it to an endpoint of [`Decision::backend`]'s group.
    Forward(Forward),
    /// Hand it to the workload of this inbound proxy.
    ToWorkload,
    /// Send it to the address that the caller dialled.
    Passthrough,
    /// Answer it with this status; [`Decision::reason`] says why.
    Answer(u16),
    /// Nothing can be said before this resource is held.
    Needs(ResourceKey),
}

/// How to forward a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Longest time from the request's last byte to the answer's end; `None`: no limit.
    pub timeout: Option<Duration>,
}

/// A rule of the routes that applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleAt {
    /// Index into [`LinkedApplies::routes`].
    pub route: u32,
    /// Index into the route's rules.
    pub rule: u32,
    /// Which alternative of its matches; `None` if it has none.
    pub alternative: Option<u32>,
}

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chosen {
    /// The service's own.
    Default,
    /// This one of the winning rule's.
    OfRule(u32),
}

impl Decision {
    /// The chosen backend. Its group is there if the verdict is to forward.
    pub fn backend(&self) -> Option<&LinkedBackend> {
        let applies = self.applies()?;
        match (self.chosen?, self.rule) {
            (Chosen::Default, _) => applies.default_backend.as_ref(),
            (Chosen::OfRule(backend), Some(at)) => applies
                .routes
                .get(at.route as usize)?
                .backends
                .get(at.rule as usize)?
                .get(backend as usize),
            (Chosen::OfRule(_), None) => None,
        }
    }

    /// Index of the chosen backend among the winning rule's.
    pub fn backend_index(&self) -> Option<u32> {
        match self.chosen? {
            Chosen::Default => None,
            Chosen::OfRule(index) => Some(index),
        }
    }

    /// The winning rule, for its rewrite and header operations.
    pub fn winning_rule(&self) -> Option<&CompiledRule> {
        let at = self.rule?;
        self.applies()?.routes.get(at.route as usize)?.route.rules.get(at.rule as usize)
    }

    /// The alternative of the winning rule that matched, for a rewrite of its prefix.
    pub fn winning_match(&self) -> Option<&CompiledMatch> {
        self.winning_rule()?.matches.get(self.rule?.alternative? as usize)
    }

    /// The winning rule as the access log writes it: `NAMESPACE/NAME#RULE`.
    pub fn route_name(&self) -> Option<String> {
        let at = self.rule?;
        Some(format!("{}#{}", self.applies()?.routes.get(at.route as usize)?.name, at.rule))
    }

    /// Version of the winning route.
    pub fn route_version(&self) -> Option<crate::Version> {
        Some(self.applies()?.routes.get(self.rule?.route as usize)?.version)
    }

    /// What applied, if it is known and something did.
    pub fn applies(&self) -> Option<&LinkedApplies> {
        self.linked.as_ref()?.applies.as_ref()
    }

    fn answer(reason: Reason, linked: &Arc<Linked>) -> Self {
        let verdict = Verdict::Answer(reason.status());
        Self { verdict, reason, linked: Some(linked.clone()), rule: None, chosen: None }
    }

    /// An answer before anything was looked up.
    pub fn without_lookup(reason: Reason) -> Self {
        let verdict = Verdict::Answer(reason.status());
        Self { verdict, reason, linked: None, rule: None, chosen: None }
    }

    fn needs(key: ResourceKey) -> Self {
        Self {
            verdict: Verdict::Needs(key),
            reason: Reason::NotConfigured,
            linked: None,
            rule: None,
            chosen: None,
        }
    }
}

/// Decides what happens to one request. No IO, no clock, no randomness of its own.
///
/// Choosing the endpoint within [`Decision::backend`]'s group is not part of it: that depends on
/// what other requests do.
pub fn decide<R: Recorder>(
    view: &View,
    request: &RequestMeta<'_>,
    draw: Draw,
    recorder: &mut R,
) -> Decision {
    let linked = match look_up(view, request, recorder) {
        Ok(linked) => linked,
        Err(decision) => return decision,
    };
    let Some(applies) = &linked.applies else {
        recorder.record(|| resolved(&linked.key, "nothing of the mesh is there"));
        return absent(view, request, linked);
    };
    if let Some(missing) = &applies.missing {
        recorder.record(|| resolved(&linked.key, "a part of the answer has not arrived"));
        return Decision::needs(missing.clone());
    }
    if let Some(unusable) = &applies.unusable {
        recorder.record(|| resolved(&linked.key, &cannot_use(unusable)));
        return Decision::answer(Reason::NotConfigured, linked);
    }
    recorder.record(|| resolved(&linked.key, &describe(applies)));
    if request.listener == ListenerKind::Inbound {
        return Decision {
            verdict: Verdict::ToWorkload,
            reason: Reason::Inbound,
            linked: Some(linked.clone()),
            rule: None,
            chosen: None,
        };
    }
    match first_match(applies, request, recorder) {
        Tried::Matched(at) => by_rule(linked, applies, at, draw, recorder),
        Tried::NoneMatched => Decision::answer(Reason::NoRoute, linked),
        Tried::NoneApplies => by_default(linked, applies),
    }
}

/// What a connection is before its first byte, and what becomes of its bytes if they stay opaque.
#[derive(Clone, Debug)]
pub struct ConnectionDecision {
    /// Protocol that its port declares.
    pub protocol: Protocol,
    /// What to do with it if it is opaque. [`Verdict::Forward`]'s group is [`Decision::backend`]'s.
    pub decision: Decision,
    /// Which connections an inbound listener takes there.
    pub mtls: MtlsMode,
}

/// Decides what happens to one connection, by its original destination.
pub fn decide_connection<R: Recorder>(
    view: &View,
    listener: ListenerKind,
    destination: SocketAddr,
    namespace: &Name,
    recorder: &mut R,
) -> ConnectionDecision {
    let undeclared = |decision| ConnectionDecision {
        protocol: Protocol::Undeclared,
        decision,
        mtls: view.settings().mtls_mode,
    };
    let Some(linked) = view.at_address(listener, destination, namespace) else {
        let key = ResolutionKey::of_address(listener, destination, namespace);
        recorder.record(|| resolved(&key, "not held: the proxy subscribes"));
        return undeclared(Decision::needs(ResourceKey::Resolution(key)));
    };
    let Some(applies) = &linked.applies else {
        recorder.record(|| resolved(&linked.key, "nothing of the mesh is there"));
        return undeclared(unknown_destination(view, linked));
    };
    if let Some(missing) = &applies.missing {
        return undeclared(Decision::needs(missing.clone()));
    }
    if let Some(unusable) = &applies.unusable {
        recorder.record(|| resolved(&linked.key, &cannot_use(unusable)));
        return undeclared(Decision::answer(Reason::NotConfigured, linked));
    }
    recorder.record(|| resolved(&linked.key, &describe(applies)));
    let decision = match listener {
        ListenerKind::Inbound => Decision {
            verdict: Verdict::ToWorkload,
            reason: Reason::Inbound,
            linked: Some(linked.clone()),
            rule: None,
            chosen: None,
        },
        ListenerKind::Outbound | ListenerKind::Gateway => by_default(linked, applies),
    };
    ConnectionDecision { protocol: applies.protocol, decision, mtls: applies.mtls }
}

/// What the view holds for a request, or what to do with the request without it.
fn look_up<'v, R: Recorder>(
    view: &'v View,
    request: &RequestMeta<'_>,
    recorder: &mut R,
) -> Result<&'v Arc<Linked>, Decision> {
    let RequestMeta { listener, destination, source, .. } = *request;
    if listener == ListenerKind::Inbound {
        let found = view.at_address(listener, destination, &source.namespace);
        let key = || ResolutionKey::of_address(listener, destination, &source.namespace);
        return found.ok_or_else(|| not_held(key(), recorder));
    }
    let port = destination.port();
    let host = split_authority(request.authority).0;
    if host.len() > HOST_BYTES_MAX {
        return Err(Decision::without_lookup(Reason::BadRequest));
    }
    let key = |host: &str| ResolutionKey {
        listener,
        target: Target::Host(host.into(), port),
        namespace: source.namespace.clone(),
    };
    let asked = if listener == ListenerKind::Gateway {
        if view.get(&ResourceKey::Listeners).is_none() {
            return Err(Decision::needs(ResourceKey::Listeners));
        }
        let Some(domain) = view.domain(&host, port) else {
            recorder.record(|| resolved(&key(&host), "no route of the gateway is for this host"));
            return Err(Decision::without_lookup(Reason::NoRoute));
        };
        &**domain
    } else {
        &*host
    };
    let found = view.at_host(listener, asked, port, &source.namespace);
    found.ok_or_else(|| not_held(key(asked), recorder))
}

fn not_held<R: Recorder>(key: ResolutionKey, recorder: &mut R) -> Decision {
    recorder.record(|| resolved(&key, "not held: the proxy subscribes and the request waits"));
    Decision::needs(ResourceKey::Resolution(key))
}

fn absent(view: &View, request: &RequestMeta<'_>, linked: &Arc<Linked>) -> Decision {
    match request.listener {
        ListenerKind::Gateway => Decision::answer(Reason::NoRoute, linked),
        ListenerKind::Outbound | ListenerKind::Inbound => unknown_destination(view, linked),
    }
}

fn unknown_destination(view: &View, linked: &Arc<Linked>) -> Decision {
    match (linked.key.listener, view.settings().outbound_policy) {
        (ListenerKind::Outbound, OutboundPolicy::RegistryOnly) => {
            Decision::answer(Reason::Blocked, linked)
        }
        (ListenerKind::Inbound, _) => Decision {
            verdict: Verdict::ToWorkload,
            reason: Reason::Inbound,
            linked: Some(linked.clone()),
            rule: None,
            chosen: None,
        },
        _ => Decision {
            verdict: Verdict::Passthrough,
            reason: Reason::Passthrough,
            linked: Some(linked.clone()),
            rule: None,
            chosen: None,
        },
    }
}

fn by_rule<R: Recorder>(
    linked: &Arc<Linked>,
    applies: &LinkedApplies,
    at: RuleAt,
    draw: Draw,
    recorder: &mut R,
) -> Decision {
    let route = &applies.routes[at.route as usize];
    let backends = &route.backends[at.rule as usize];
    let mut decision = Decision::answer(Reason::DeadRule, linked);
    decision.rule = Some(at);
    let Some(index) = choose(backends, at, draw, recorder) else { return decision };
    decision.chosen = Some(Chosen::OfRule(index));
    match &backends[index as usize].group {
        Err(reason) => {
            decision.reason = *reason;
            decision.verdict = Verdict::Answer(reason.status());
        }
        Ok(_) => {
            let timeout = route.route.rules[at.rule as usize].rule.timeout;
            decision.reason = Reason::Route;
            decision.verdict = Verdict::Forward(Forward { timeout });
        }
    }
    decision
}

/// Chooses a backend by weight. A single one needs no weight; of several, those with weight 0 get
/// nothing.
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
    if total == 0 {
        return None;
    }
    let rule = (u64::from(at.route) << 32) | u64::from(at.rule);
    let drawn = draw.choose(Purpose::Backend, rule, total);
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
    let (verdict, reason) = match &backend.group {
        Ok(_) => (Verdict::Forward(Forward { timeout: None }), Reason::DefaultRoute),
        Err(reason) => (Verdict::Answer(reason.status()), *reason),
    };
    Decision {
        verdict,
        reason,
        linked: Some(linked.clone()),
        rule: None,
        chosen: Some(Chosen::Default),
    }
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
    let service = match &applies.service {
        Some(service) => format!("service {}", service.id),
        None => "no service by that name".to_owned(),
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
