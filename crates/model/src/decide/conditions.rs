//! The conditions of an alternative: whether all hold, and in words which does not.

use crate::host::covers_any_case;
use crate::name::Name;
use crate::network::Network;
use crate::request::query_value;
use crate::resource::ListenerKind;
use crate::route::ConnectionMatch;
use crate::text_match::Matcher;
use crate::traffic::{Connection, Request, Seen};
use crate::view::{CallerMatch, CompiledMatch, LinkedApplies};

/// Whether an alternative matches depends on something that was not read yet.
pub(super) struct NotRead;

/// The first condition of an alternative that fails; `None` if it matches.
pub(super) fn connection_mismatch<'a>(
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
    let dialled = connection.destination.ip();
    if !m.destinations.is_empty()
        && connection.listener != ListenerKind::Gateway
        && !m.destinations.iter().any(|network| network.contains(dialled))
    {
        return Ok(Some(ConnectionCondition::Destination(&m.destinations)));
    }
    if m.server_names.is_empty() {
        return Ok(None);
    }
    let named = match connection.server_name {
        Seen::NotRead => return Err(NotRead),
        Seen::Absent => false,
        Seen::Is(name) => m.server_names.iter().any(|pattern| covers_any_case(pattern, name)),
    };
    Ok((!named).then_some(ConnectionCondition::ServerName(&m.server_names)))
}

/// How far an alternative came before a condition failed.
#[derive(Default)]
pub(super) struct Mismatch<'a> {
    /// Conditions that held, those on the caller as one.
    pub(super) conditions_met: u32,
    failed: Option<Condition<'a>>,
}

/// A condition on a connection that failed.
pub(super) enum ConnectionCondition<'a> {
    Gateways(&'a [Name]),
    SourceLabels,
    SourceNamespace(&'a str),
    Port(u16),
    Destination(&'a [Network]),
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

/// Whether the conditions on the caller hold, which do not depend on the request.
#[inline]
pub(super) fn holds_for_caller(
    m: &CompiledMatch,
    applies: &LinkedApplies,
    connection: &Connection<'_>,
) -> bool {
    m.is_for_everyone || failed_on_caller(m.caller(), applies, connection).is_none()
}

/// Whether the conditions on the request hold.
#[inline]
pub(super) fn holds_for_request(m: &CompiledMatch, request: &Request<'_>) -> bool {
    if m.is_about_path {
        return m.path.as_ref().is_none_or(|path| path_matches(m, path, request));
    }
    failed_on_request(m, request, &mut 0).is_none()
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

fn path_matches(m: &CompiledMatch, path: &Matcher, request: &Request<'_>) -> bool {
    match m.ignore_path_case {
        true => path.matches_ignoring_case(request.path),
        false => path.matches(request.path),
    }
}

/// The condition, if there is one and it fails.
fn failed<'a>(matcher: Option<&'a Matcher>, text: &str, met: &mut u32) -> Option<&'a Matcher> {
    let matcher = matcher?;
    let matched = matcher.matches(text);
    *met += u32::from(matched);
    (!matched).then_some(matcher)
}

/// The first condition that fails, the cheap ones tried first.
fn failed_on_request<'a>(
    m: &'a CompiledMatch,
    request: &Request<'_>,
    met: &mut u32,
) -> Option<Condition<'a>> {
    if let Some(why) = &m.dead {
        return Some(Condition::Dead(why));
    }
    if let Some(path) = &m.path {
        if !path_matches(m, path, request) {
            return Some(Condition::Path(path));
        }
        *met += 1;
    }
    if let Some(failed) = failed(m.method.as_ref(), request.method, met) {
        return Some(Condition::Method(failed));
    }
    if let Some(failed) = failed(m.scheme.as_ref(), request.scheme, met) {
        return Some(Condition::Scheme(failed));
    }
    if let Some(failed) = failed(m.authority.as_ref(), request.authority, met) {
        return Some(Condition::Authority(failed));
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
        if !value.is_some_and(|value| matcher.matches(value)) {
            return Some(Condition::Query(name, matcher));
        }
        *met += 1;
    }
    None
}

impl<'a> Mismatch<'a> {
    /// Of an alternative that does not match. Conditions on the caller come first.
    pub(super) fn of(
        m: &'a CompiledMatch,
        applies: &LinkedApplies,
        connection: &Connection<'_>,
        request: &Request<'_>,
    ) -> Self {
        if let Some(failed) = failed_on_caller(m.caller(), applies, connection) {
            return Self { conditions_met: 0, failed: Some(Condition::OfConnection(failed)) };
        }
        let mut conditions_met = 1;
        let failed = failed_on_request(m, request, &mut conditions_met);
        Self { conditions_met, failed }
    }

    /// In words, with what the request had instead.
    pub(super) fn why(&self, connection: &Connection<'_>, request: &Request<'_>) -> String {
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
                let value = header(name).unwrap_or_default();
                format!("header {name}: {value:?} is one that must not be there")
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
    pub(super) fn in_words(&self, connection: &Connection<'_>) -> String {
        match self {
            Self::Gateways(names) => format!("it holds only at {}", names.join(", ")),
            Self::SourceLabels => "the caller lacks its sourceLabels".to_owned(),
            Self::SourceNamespace(namespace) => {
                format!("it is for callers in {namespace}, not {}", connection.local.namespace)
            }
            Self::Port(port) => {
                format!("it is for port {port}, not {}", connection.destination.port())
            }
            Self::Destination(networks) => {
                let networks: Vec<_> = networks.iter().map(Network::to_string).collect();
                let dialled = connection.destination.ip();
                format!("it is for destinations in {}, not {dialled}", networks.join(", "))
            }
            Self::ServerName(names) => match connection.server_name.is() {
                Some(name) => format!("server name {name:?} is not {}", names.join(", ")),
                None => format!("no TLS names {}", names.join(", ")),
            },
        }
    }
}
