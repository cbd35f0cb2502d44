//! What the mesh does with one request: the only place where routes are matched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::draw::{Draw, Purpose};
use crate::name::Name;
use crate::policy::MtlsMode;
use crate::reason::Reason;
use crate::recorder::{Choice, Event, Recorder};
use crate::request::{RequestMeta, query_value, split_authority};
use crate::resource::{ListenerKind, ResolutionKey, ResourceKey, Target};
use crate::service::Protocol;
use crate::settings::OutboundPolicy;
use crate::text_match::Matcher;
use crate::view::{CompiledMatch, CompiledRule, Linked, LinkedApplies, LinkedBackend, Turn, View};

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
    let (linked, key) = look_up(view, request);
    let Some(linked) = linked else {
        let key = key();
        recorder.record(|| resolved(&key, "not held: the proxy subscribes and the request waits"));
        return Decision::needs(ResourceKey::Resolution(key));
    };
    let Some(applies) = &linked.applies else {
        recorder.record(|| resolved(&linked.key, "nothing of the mesh is there"));
        return absent(view, request, linked);
    };
    if let Some(missing) = &applies.missing {
        recorder.record(|| resolved(&linked.key, "a part of the answer has not arrived"));
        return Decision::needs(missing.clone());
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
    namespace: &str,
    recorder: &mut R,
) -> ConnectionDecision {
    let undeclared = |decision| ConnectionDecision {
        protocol: Protocol::Undeclared,
        decision,
        mtls: view.settings().mtls_mode,
    };
    let Some(linked) = view.at_address(listener, destination, namespace) else {
        let target = Target::Address(destination.ip(), destination.port());
        let key = ResolutionKey { listener, target, namespace: namespace.into() };
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

/// What the view holds for a request, and the key under which to ask if it holds nothing.
fn look_up<'v>(
    view: &'v View,
    request: &RequestMeta<'_>,
) -> (Option<&'v Arc<Linked>>, impl FnOnce() -> ResolutionKey) {
    let RequestMeta { listener, destination, source, .. } = *request;
    let host = split_authority(request.authority).0;
    let found = match listener {
        ListenerKind::Inbound => view.at_address(listener, destination, &source.namespace),
        ListenerKind::Outbound | ListenerKind::Gateway => {
            view.at_host(listener, &host, destination.port(), &source.namespace)
        }
    };
    let key = move || ResolutionKey {
        listener,
        target: match listener {
            ListenerKind::Inbound => Target::Address(destination.ip(), destination.port()),
            _ => Target::Host((*host).into(), destination.port()),
        },
        namespace: source.namespace.clone(),
    };
    (found, key)
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

/// What came of trying all rules.
enum Tried {
    /// This rule matched.
    Matched(RuleAt),
    /// Rules apply to this caller, and none matched the request.
    NoneMatched,
    /// No rule applies to this caller at all; Istio then uses the service as if it had no routes.
    NoneApplies,
}

fn first_match<R: Recorder>(
    applies: &LinkedApplies,
    request: &RequestMeta<'_>,
    recorder: &mut R,
) -> Tried {
    let mut any_applies = request.listener == ListenerKind::Gateway;
    for Turn { route, rule, alternatives } in &applies.order {
        let (route, rule) = (*route, *rule);
        let linked = &applies.routes[route as usize];
        let compiled = &linked.route.rules[rule as usize];
        let name = || format!("{}#{rule}", linked.name);
        if compiled.matches.is_empty() {
            recorder.record(|| Event::Won { route: name(), by: "it matches everything".into() });
            return Tried::Matched(RuleAt { route, rule, alternative: None });
        }
        let mut best = Mismatch::default();
        for index in alternatives.clone() {
            match mismatch(&compiled.matches[index as usize], applies, request) {
                None => {
                    recorder.record(|| Event::Won { route: name(), by: format!("match[{index}]") });
                    return Tried::Matched(RuleAt { route, rule, alternative: Some(index) });
                }
                Some(missed) => {
                    any_applies |= missed.applies_to_caller;
                    if missed.conditions_met >= best.conditions_met {
                        best = missed;
                    }
                }
            }
        }
        recorder.record(|| Event::Lost { route: name(), why: best.why(request) });
    }
    if any_applies { Tried::NoneMatched } else { Tried::NoneApplies }
}

/// How far an alternative came before a condition failed.
#[derive(Default)]
struct Mismatch<'a> {
    /// Whether the conditions on the caller held, which do not depend on the request.
    applies_to_caller: bool,
    conditions_met: u32,
    failed: Option<Condition<'a>>,
}

/// A condition that failed.
enum Condition<'a> {
    Dead(&'a str),
    Gateways(&'a [Name]),
    SourceLabels,
    SourceNamespace(&'a str),
    Port(u16),
    Path(&'a Matcher),
    Scheme(&'a Matcher),
    Method(&'a Matcher),
    Authority(&'a Matcher),
    Header(&'a str, &'a Matcher),
    WithoutHeader(&'a str),
    Query(&'a str, &'a Matcher),
}

/// The first condition of an alternative that fails; `None` if it matches. Conditions on the caller
/// come first, then the cheap ones.
fn mismatch<'a>(
    m: &'a CompiledMatch,
    applies: &LinkedApplies,
    request: &RequestMeta<'_>,
) -> Option<Mismatch<'a>> {
    if let Some(failed) = failed_on_caller(m, applies, request) {
        return Some(Mismatch { failed: Some(failed), ..Mismatch::default() });
    }
    let mut met = 1;
    let failed = failed_on_request(m, request, &mut met)?;
    Some(Mismatch { applies_to_caller: true, conditions_met: met, failed: Some(failed) })
}

fn failed_on_caller<'a>(
    m: &'a CompiledMatch,
    applies: &LinkedApplies,
    request: &RequestMeta<'_>,
) -> Option<Condition<'a>> {
    if !m.gateways.is_empty() && !m.gateways.iter().any(|g| applies.attached_to.contains(g)) {
        return Some(Condition::Gateways(&m.gateways));
    }
    if m.port.is_some_and(|port| port != request.destination.port()) {
        return m.port.map(Condition::Port);
    }
    // At a gateway the caller is the gateway, as in Istio.
    if !m.source_labels.selects(&request.source.labels) {
        return Some(Condition::SourceLabels);
    }
    if let Some(namespace) = &m.source_namespace
        && *namespace != request.source.namespace
    {
        return Some(Condition::SourceNamespace(namespace));
    }
    None
}

fn failed_on_request<'a>(
    m: &'a CompiledMatch,
    request: &RequestMeta<'_>,
    met: &mut u32,
) -> Option<Condition<'a>> {
    if let Some(why) = &m.dead {
        return Some(Condition::Dead(why));
    }
    if let Some(path) = &m.path {
        let matched = if m.ignore_path_case {
            path.matches_ignoring_case(request.path)
        } else {
            path.matches(request.path)
        };
        if !matched {
            return Some(Condition::Path(path));
        }
        *met += 1;
    }
    let parts = [
        (&m.method, request.method, Condition::Method as fn(&'a Matcher) -> Condition<'a>),
        (&m.scheme, request.scheme, Condition::Scheme),
        (&m.authority, request.authority, Condition::Authority),
    ];
    for (matcher, text, condition) in parts {
        if let Some(matcher) = matcher {
            if !matcher.matches(text) {
                return Some(condition(matcher));
            }
            *met += 1;
        }
    }
    for (name, matcher) in &m.headers {
        if !request.headers.value(name).is_some_and(|value| matcher.matches(&value)) {
            return Some(Condition::Header(name, matcher));
        }
        *met += 1;
    }
    for (name, matcher) in &m.without_headers {
        if request.headers.value(name).is_some_and(|value| matcher.matches(&value)) {
            return Some(Condition::WithoutHeader(name));
        }
        *met += 1;
    }
    for (name, matcher) in &m.query {
        let value = request.query.and_then(|query| query_value(query, name));
        if !value.is_some_and(|value| matcher.matches(&value)) {
            return Some(Condition::Query(name, matcher));
        }
        *met += 1;
    }
    None
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

fn resolved(key: &ResolutionKey, outcome: &str) -> Event {
    Event::Resolved { key: key.to_string(), outcome: outcome.to_owned() }
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

impl Mismatch<'_> {
    /// In words, with what the request had instead.
    fn why(&self, request: &RequestMeta<'_>) -> String {
        let header = |name: &str| request.headers.value(name);
        match &self.failed {
            None => String::new(),
            Some(Condition::Dead(why)) => format!("it can never match: {why}"),
            Some(Condition::Gateways(names)) => {
                format!("it holds only at {}", names.join(", "))
            }
            Some(Condition::SourceLabels) => "the caller lacks its sourceLabels".to_owned(),
            Some(Condition::SourceNamespace(namespace)) => {
                format!("it is for callers in {namespace}, not {}", request.source.namespace)
            }
            Some(Condition::Port(port)) => {
                format!("it is for port {port}, not {}", request.destination.port())
            }
            Some(Condition::Path(m)) => format!("path {:?} is not {m}", request.path),
            Some(Condition::Method(m)) => format!("method {:?} is not {m}", request.method),
            Some(Condition::Scheme(m)) => format!("scheme {:?} is not {m}", request.scheme),
            Some(Condition::Authority(m)) => {
                format!("authority {:?} is not {m}", request.authority)
            }
            Some(Condition::Header(name, m)) => match header(name) {
                Some(value) => format!("header {name}: {value:?} is not {m}"),
                None => format!("header {name} is not there; it would have to be {m}"),
            },
            Some(Condition::WithoutHeader(name)) => {
                format!("header {name}: {:?} is one that must not be there", header(name))
            }
            Some(Condition::Query(name, m)) => {
                match request.query.and_then(|query| query_value(query, name)) {
                    Some(value) => format!("query parameter {name}={value:?} is not {m}"),
                    None => format!("query parameter {name} is not there; it would have to be {m}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
