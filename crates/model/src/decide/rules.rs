//! Finding the first rule that matches, and writing down what became of those before it.

use super::conditions::{
    Mismatch, NotRead, connection_mismatch, holds_for_caller, holds_for_request,
};
use super::{RuleAt, RuleList};
use crate::recorder::{Event, Recorder};
use crate::resource::Join;
use crate::route::ConnectionRule;
use crate::service::Protocol;
use crate::traffic::{Connection, Request};
use crate::view::{CompiledMatch, LinkedApplies, RuleIndex};

/// What came of trying all rules.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This rule matched.
    Matched(RuleAt),
    /// Rules apply to this caller, and none matched the request.
    NoneMatched,
    /// No rule applies to this caller at all; Istio then uses the service as if it had no routes.
    NoneApplies,
    /// A rule depends on something that was not read yet.
    NotRead,
}

/// The first rule for requests that matches. A recorder is told of every rule before it.
pub(super) fn first_match<R: Recorder>(
    applies: &LinkedApplies,
    connection: &Connection<'_>,
    request: &Request<'_>,
    recorder: &mut R,
) -> Found {
    let found = match &applies.index {
        None => one_by_one(applies, connection, request),
        Some(index) => by_index(index, applies, connection, request),
    };
    recorder.record_all(|| all_tried(&found, applies, connection, request));
    found
}

pub(super) fn one_by_one(
    applies: &LinkedApplies,
    connection: &Connection<'_>,
    request: &Request<'_>,
) -> Found {
    let mut any_applies = false;
    for turn in &applies.order {
        if turn.alternatives.is_empty() {
            return Found::Matched(turn.at(None));
        }
        let route = &applies.routes[turn.route as usize].route;
        let alternatives = &route.rules[turn.rule as usize].matches;
        for index in turn.alternatives.clone() {
            let alternative = &alternatives[index as usize];
            if holds_for_caller(alternative, applies, connection) {
                any_applies = true;
                if holds_for_request(alternative, request) {
                    return Found::Matched(turn.at(Some(index)));
                }
            }
        }
    }
    if any_applies { Found::NoneMatched } else { Found::NoneApplies }
}

fn by_index(
    index: &RuleIndex,
    applies: &LinkedApplies,
    connection: &Connection<'_>,
    request: &Request<'_>,
) -> Found {
    let is_for_caller = |alternative| holds_for_caller(alternative, applies, connection);
    let found = index.candidates(request.path).find(|at| {
        let alternative = alternative(applies, *at);
        alternative.is_none_or(|m| is_for_caller(m) && holds_for_request(m, request))
    });
    if let Some(at) = found {
        return Found::Matched(at);
    }
    let mut callers = index.callers().iter().filter_map(|at| alternative(applies, *at));
    if callers.any(is_for_caller) { Found::NoneMatched } else { Found::NoneApplies }
}

/// An alternative of a rule; `None` if the rule has none, and so matches everything.
fn alternative(applies: &LinkedApplies, at: RuleAt) -> Option<&CompiledMatch> {
    let rule = &applies.routes[at.route as usize].route.rules[at.rule as usize];
    rule.matches.get(at.alternative? as usize)
}

/// What became of each rule until one matched.
fn all_tried(
    found: &Found,
    applies: &LinkedApplies,
    connection: &Connection<'_>,
    request: &Request<'_>,
) -> Vec<Event> {
    let mut events = Vec::new();
    for turn in &applies.order {
        let linked = &applies.routes[turn.route as usize];
        let route = linked.name_of(RuleList::Requests, turn.rule);
        if let Found::Matched(at) = found
            && turn.has(*at)
        {
            events.push(Event::Won { route, by: by(at.alternative) });
            break;
        }
        let mut best = Mismatch::default();
        let mut whys = Vec::new();
        for (at, alternative) in
            turn.places().filter_map(|at| Some((at.alternative?, alternative(applies, at)?)))
        {
            let missed = Mismatch::of(alternative, applies, connection, request);
            whys.push((at, missed.why(connection, request)));
            if missed.conditions_met >= best.conditions_met {
                best = missed;
            }
        }
        let why = best.why(connection, request);
        events.push(Event::Lost { route, why, alternatives: several(whys) });
    }
    events
}

/// Why alternatives lost, each with its place in the rule, where there are several.
fn several(whys: Vec<(u32, String)>) -> Vec<String> {
    if whys.len() < 2 {
        return Vec::new();
    }
    whys.into_iter().map(|(at, why)| format!("match[{at}]: {why}")).collect()
}

/// What of a rule matched, in words.
fn by(alternative: Option<u32>) -> String {
    match alternative {
        None => "it matches everything".to_owned(),
        Some(index) => format!("match[{index}]"),
    }
}

/// Which rules for connections are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of them.
    All,
    /// Those by the server name of TLS that is passed on.
    Tls,
    /// The others.
    Tcp,
}

impl Wanted {
    /// Those that count where a workload calls. As in Istio a port for TLS has the rules of `tls`, and
    /// another one those of `tcp`: a rule for names is no reason to wait for the first bytes of what is
    /// no TLS. Who knows one kind of rules alone (SMI, RouteRules) means it for both.
    pub(super) fn at(applies: &LinkedApplies) -> Self {
        match applies.protocol {
            _ if applies.join == Join::OrDefault => Self::All,
            _ if !applies.by_server_name.is_empty() => Self::Tls,
            Protocol::Tls => Self::Tls,
            // The first bytes are looked at in any case.
            Protocol::Undeclared => Self::All,
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tcp => Self::Tcp,
        }
    }

    fn takes(self, rule: &ConnectionRule) -> bool {
        let by_name = rule.matches.iter().any(|m| !m.server_names.is_empty());
        match self {
            Self::All => true,
            Self::Tls => by_name,
            Self::Tcp => !by_name,
        }
    }
}

/// The first rule for connections that matches. An alternative that asks for a server name which was
/// not read yet stops the search, since it would come before those behind it.
pub(super) fn first_connection_match<R: Recorder>(
    applies: &LinkedApplies,
    connection: &Connection<'_>,
    wanted: Wanted,
    recorder: &mut R,
) -> Found {
    for (route, linked) in (0u32..).zip(&applies.routes) {
        for (rule, given) in (0u32..).zip(&linked.route.connection_rules) {
            if !wanted.takes(given) {
                continue;
            }
            let name = || linked.name_of(RuleList::Connections, rule);
            let at = |alternative| {
                Found::Matched(RuleAt { route, list: RuleList::Connections, rule, alternative })
            };
            if given.matches.is_empty() {
                recorder
                    .record(|| Event::Won { route: name(), by: "it matches everything".into() });
                return at(None);
            }
            let mut why = None;
            for (index, alternative) in (0u32..).zip(&given.matches) {
                match connection_mismatch(alternative, applies, connection) {
                    Ok(None) => {
                        recorder
                            .record(|| Event::Won { route: name(), by: format!("match[{index}]") });
                        return at(Some(index));
                    }
                    Ok(Some(failed)) => why = Some(failed),
                    Err(NotRead) => return Found::NotRead,
                }
            }
            if let Some(why) = why {
                recorder.record(|| {
                    let mismatch = |m| connection_mismatch(m, applies, connection).ok().flatten();
                    let failed = (0u32..).zip(&given.matches);
                    let failed = failed.filter_map(|(at, m)| Some((at, mismatch(m)?)));
                    let whys = failed.map(|(at, failed)| (at, failed.in_words(connection)));
                    let whys = whys.collect();
                    let why = why.in_words(connection);
                    Event::Lost { route: name(), why, alternatives: several(whys) }
                });
            }
        }
    }
    Found::NoneApplies
}
