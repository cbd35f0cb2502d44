//! Trying rules one after the other, and saying in words why one lost.

use super::RuleAt;
use crate::name::Name;
use crate::recorder::{Event, Recorder};
use crate::request::{RequestMeta, query_value};
use crate::resource::ListenerKind;
use crate::text_match::Matcher;
use crate::view::{CompiledMatch, LinkedApplies, Turn};

/// What came of trying all rules.
pub(super) enum Tried {
    /// This rule matched.
    Matched(RuleAt),
    /// Rules apply to this caller, and none matched the request.
    NoneMatched,
    /// No rule applies to this caller at all; Istio then uses the service as if it had no routes.
    NoneApplies,
}

pub(super) fn first_match<R: Recorder>(
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
