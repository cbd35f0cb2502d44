//! Trying rules one after the other, and saying in words why one lost.

use super::{RuleAt, RuleList};
use crate::host::covers;
use crate::name::Name;
use crate::recorder::{Event, Recorder};
use crate::request::query_value;
use crate::resource::ListenerKind;
use crate::route::ConnectionMatch;
use crate::text_match::Matcher;
use crate::traffic::{Connection, Request, Seen};
use crate::view::{CallerMatch, CompiledMatch, LinkedApplies, Turn};

/// What came of trying all rules.
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

pub(super) fn first_match<R: Recorder>(
    applies: &LinkedApplies,
    connection: &Connection<'_>,
    request: &Request<'_>,
    recorder: &mut R,
) -> Found {
    let mut any_applies = connection.listener == ListenerKind::Gateway;
    for Turn { route, rule, alternatives } in &applies.order {
        let (route, rule) = (*route, *rule);
        let linked = &applies.routes[route as usize];
        let compiled = &linked.route.rules[rule as usize];
        let name = || linked.name_of(RuleList::Requests, rule);
        let at = |alternative| RuleAt { route, list: RuleList::Requests, rule, alternative };
        if compiled.matches.is_empty() {
            recorder.record(|| Event::Won { route: name(), by: "it matches everything".into() });
            return Found::Matched(at(None));
        }
        let mut best = Mismatch::default();
        for index in alternatives.clone() {
            match mismatch(&compiled.matches[index as usize], applies, connection, request) {
                None => {
                    recorder.record(|| Event::Won { route: name(), by: format!("match[{index}]") });
                    return Found::Matched(at(Some(index)));
                }
                Some(missed) => {
                    any_applies |= missed.applies_to_caller;
                    if missed.conditions_met >= best.conditions_met {
                        best = missed;
                    }
                }
            }
        }
        recorder.record(|| Event::Lost { route: name(), why: best.why(connection, request) });
    }
    if any_applies { Found::NoneMatched } else { Found::NoneApplies }
}

/// The first rule for connections that matches. An alternative that asks for a server name which was
/// not read yet stops the search, since it would come before those behind it.
pub(super) fn first_connection_match<R: Recorder>(
    applies: &LinkedApplies,
    connection: &Connection<'_>,
    recorder: &mut R,
) -> Found {
    for (route, linked) in (0u32..).zip(&applies.routes) {
        for (rule, given) in (0u32..).zip(&linked.route.connection_rules) {
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
                recorder.record(|| Event::Lost { route: name(), why: why.in_words(connection) });
            }
        }
    }
    Found::NoneApplies
}

/// Whether an alternative matches depends on something that was not read yet.
struct NotRead;

/// The first condition of an alternative that fails; `None` if it matches.
fn connection_mismatch<'a>(
    m: &'a ConnectionMatch,
    applies: &LinkedApplies,
    connection: &Connection<'_>,
) -> Result<Option<ConnectionCondition<'a>>, NotRead> {
    let caller = CallerMatch {
        source_labels: &m.source_labels,
        source_namespace: m.source_namespace.as_ref(),
        gateways: &m.gateways,
        port: m.port,
    };
    if let Some(failed) = failed_on_caller(caller, applies, connection) {
        return Ok(Some(failed));
    }
    if m.server_names.is_empty() {
        return Ok(None);
    }
    let named = match connection.server_name {
        Seen::NotRead => return Err(NotRead),
        Seen::Absent => false,
        Seen::Is(name) => {
            let name = name.to_ascii_lowercase();
            m.server_names.iter().any(|pattern| covers(pattern, &name))
        }
    };
    Ok((!named).then_some(ConnectionCondition::ServerName(&m.server_names)))
}

/// How far an alternative came before a condition failed.
#[derive(Default)]
struct Mismatch<'a> {
    /// Whether the conditions on the caller held, which do not depend on the request.
    applies_to_caller: bool,
    conditions_met: u32,
    failed: Option<Condition<'a>>,
}

/// A condition on a connection that failed.
enum ConnectionCondition<'a> {
    Gateways(&'a [Name]),
    SourceLabels,
    SourceNamespace(&'a str),
    Port(u16),
    ServerName(&'a [Name]),
}

/// A condition on a request that failed.
enum Condition<'a> {
    OfConnection(ConnectionCondition<'a>),
    Dead(&'a str),
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
    connection: &Connection<'_>,
    request: &Request<'_>,
) -> Option<Mismatch<'a>> {
    if let Some(failed) = failed_on_caller(m.caller(), applies, connection) {
        let failed = Some(Condition::OfConnection(failed));
        return Some(Mismatch { failed, ..Mismatch::default() });
    }
    let mut met = 1;
    let failed = failed_on_request(m, request, &mut met)?;
    Some(Mismatch { applies_to_caller: true, conditions_met: met, failed: Some(failed) })
}

fn failed_on_caller<'a>(
    m: CallerMatch<'a>,
    applies: &LinkedApplies,
    connection: &Connection<'_>,
) -> Option<ConnectionCondition<'a>> {
    if !m.gateways.is_empty() && !m.gateways.iter().any(|g| applies.attached_to.contains(g)) {
        return Some(ConnectionCondition::Gateways(m.gateways));
    }
    if m.port.is_some_and(|port| port != connection.destination.port()) {
        return m.port.map(ConnectionCondition::Port);
    }
    // At a gateway the caller is the gateway, as in Istio.
    if !m.source_labels.selects(&connection.local.labels) {
        return Some(ConnectionCondition::SourceLabels);
    }
    if let Some(namespace) = m.source_namespace
        && *namespace != connection.local.namespace
    {
        return Some(ConnectionCondition::SourceNamespace(namespace));
    }
    None
}

fn failed_on_request<'a>(
    m: &'a CompiledMatch,
    request: &Request<'_>,
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
    fn why(&self, connection: &Connection<'_>, request: &Request<'_>) -> String {
        let header = |name: &str| request.headers.value(name);
        match &self.failed {
            None => String::new(),
            Some(Condition::Dead(why)) => format!("it can never match: {why}"),
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
            Some(Condition::OfConnection(failed)) => failed.in_words(connection),
        }
    }
}

impl ConnectionCondition<'_> {
    /// With what the connection had instead.
    fn in_words(&self, connection: &Connection<'_>) -> String {
        match self {
            Self::Gateways(names) => format!("it holds only at {}", names.join(", ")),
            Self::SourceLabels => "the caller lacks its sourceLabels".to_owned(),
            Self::SourceNamespace(namespace) => {
                format!("it is for callers in {namespace}, not {}", connection.local.namespace)
            }
            Self::Port(port) => {
                format!("it is for port {port}, not {}", connection.destination.port())
            }
            Self::ServerName(names) => match connection.server_name.is() {
                Some(name) => format!("server name {name:?} is not {}", names.join(", ")),
                None => format!("no TLS names {}", names.join(", ")),
            },
        }
    }
}
