//! What a rule answers by itself: failures on purpose, preflights, fixed answers, redirects.

use super::{Decision, RuleAt, RuleList, drawn};
use crate::draw::{Draw, Purpose};
use crate::path::split_target;
use crate::path_rewrite::{replace_path, with_query};
use crate::reason::Reason;
use crate::recorder::Recorder;
use crate::route::{Abort, Action, Cors, DirectResponse, Redirect, RedirectPath, RedirectPort};
use crate::traffic::Request;
use crate::view::{CompiledRule, LinkedRoute};

/// Status and reason, if a rule answers a request without an endpoint.
#[inline]
pub(super) fn of_rule<R: Recorder>(
    route: &LinkedRoute,
    at: RuleAt,
    request: &Request<'_>,
    draw: Draw,
    recorder: &mut R,
) -> Option<(u16, Reason)> {
    debug_assert_eq!(at.list, RuleList::Requests, "rules for connections answer nothing");
    let compiled = &route.route.rules[at.rule as usize];
    if compiled.may_answer { may_answer(compiled, at, request, draw, recorder) } else { None }
}

/// In Envoy's order: failures on purpose, preflights, then what the rule does.
#[cold]
fn may_answer<R: Recorder>(
    compiled: &CompiledRule,
    at: RuleAt,
    request: &Request<'_>,
    draw: Draw,
    recorder: &mut R,
) -> Option<(u16, Reason)> {
    let rule = &compiled.rule;
    if let Some(faults) = rule.faults.as_deref() {
        recorder.record_all(|| drawn::faults(faults, at, draw));
        let abort =
            faults.abort.filter(|abort| draw.is_in(abort.share, Purpose::Abort, at.number()));
        if let Some(abort) = abort {
            return Some((abort.with.http(), Reason::FaultAbort));
        }
    }
    if let Some(cors) = rule.cors.as_deref()
        && answers_preflight(cors, compiled, request)
    {
        return Some((200, Reason::Preflight));
    }
    match &rule.action {
        Action::Forward(_) => None,
        Action::Answer(answer) => Some((answer.status, Reason::DirectResponse)),
        Action::Redirect(redirect) => Some((redirect.status, Reason::Redirect)),
    }
}

fn exposed(cors: &Cors) -> Option<(&'static str, String)> {
    let text = cors.expose_headers.as_ref()?;
    Some(("access-control-expose-headers", text.to_string()))
}

/// Whether a request is a preflight that the rule answers (Fetch standard, "CORS-preflight fetch").
fn answers_preflight(cors: &Cors, compiled: &CompiledRule, request: &Request<'_>) -> bool {
    let asks = |name| request.headers.value(name).filter(|value| !value.is_empty());
    request.method == "OPTIONS"
        && asks("access-control-request-method").is_some()
        && asks("origin")
            .is_some_and(|origin| cors.answers_unmatched || compiled.allows_origin(&origin))
}

impl CompiledRule {
    /// Whether its `cors` allows an origin.
    fn allows_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed.matches("*") || allowed.matches(origin))
    }
}

impl Decision {
    /// The answer that the winning rule gives by itself, if the plan is that.
    pub fn direct_response(&self) -> Option<&DirectResponse> {
        match &self.winning_rule()?.rule.action {
            Action::Answer(answer) if self.reason == Reason::DirectResponse => Some(answer),
            _ => None,
        }
    }

    /// The abort that the winning rule makes on purpose, if the plan is that.
    pub fn abort(&self) -> Option<&Abort> {
        let faults = self.winning_rule()?.rule.faults.as_deref();
        faults?.abort.as_ref().filter(|_| self.reason == Reason::FaultAbort)
    }

    /// Where the client is sent to (RFC 9110, section 10.2.2), if the plan is that. `dialled`: the port
    /// that it dialled.
    pub fn location(&self, request: &Request<'_>, dialled: u16) -> Option<String> {
        match &self.winning_rule()?.rule.action {
            Action::Redirect(redirect) if self.reason == Reason::Redirect => {
                Some(location(redirect, request, dialled, self.matched_prefix()))
            }
            _ => None,
        }
    }

    /// What the answer tells pages of other origins, whoever gives it. `origin`: the one that the client
    /// named.
    pub fn origin_fields(&self, origin: &str) -> Vec<(&'static str, String)> {
        match self.reason {
            // As in Envoy an abort comes before the cross-origin policy is looked at.
            Reason::FaultAbort => Vec::new(),
            Reason::Preflight => self.preflight_fields(origin),
            _ => self.cors_fields(origin),
        }
    }

    /// What the answer to a preflight permits. As Envoy, another origin than those that are allowed is told
    /// the rest, if it is answered at all: it cannot do anything with that.
    pub(super) fn preflight_fields(&self, origin: &str) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        let Some(compiled) = self.winning_rule() else { return fields };
        let Some(cors) = compiled.rule.cors.as_deref() else { return fields };
        let allowed = compiled.allows_origin(origin).then_some(origin);
        permit(cors, allowed, &mut fields);
        let texts = [
            ("access-control-allow-methods", &cors.allow_methods),
            ("access-control-allow-headers", &cors.allow_headers),
        ];
        for (name, text) in texts {
            fields.extend(text.as_ref().map(|text| (name, text.to_string())));
        }
        fields.extend(cors.max_age.map(|age| ("access-control-max-age", age.to_string())));
        // Browsers do not look at it here; Envoy says it all the same.
        fields.extend(allowed.and_then(|_| exposed(cors)));
        fields
    }

    /// What an endpoint's answer permits beside what it says; nothing if the rule has no `cors` or
    /// the origin is not allowed.
    pub(super) fn cors_fields(&self, origin: &str) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        let Some(cors) = self.cors_for(origin) else { return fields };
        permit(cors, Some(origin), &mut fields);
        fields.extend(exposed(cors));
        fields
    }

    /// Whether the winning rule has something to say about pages of other origins.
    pub fn has_cors(&self) -> bool {
        self.winning_rule().is_some_and(|compiled| compiled.rule.cors.is_some())
    }

    fn cors_for(&self, origin: &str) -> Option<&Cors> {
        let compiled = self.winning_rule()?;
        compiled.rule.cors.as_deref().filter(|_| compiled.allows_origin(origin))
    }
}

/// The origin itself stands in the answer, never `*`, since credentials may be allowed.
fn permit(cors: &Cors, origin: Option<&str>, fields: &mut Vec<(&'static str, String)>) {
    fields.extend(origin.map(|origin| ("access-control-allow-origin", origin.to_owned())));
    if cors.allow_credentials {
        fields.push(("access-control-allow-credentials", "true".to_owned()));
    }
}

/// The address of a redirect, as Envoy makes it.
fn location(
    redirect: &Redirect,
    request: &Request<'_>,
    dialled: u16,
    prefix: Option<&str>,
) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let port = match redirect.port {
        None => None,
        Some(RedirectPort::Number(port)) => Some(port),
        Some(RedirectPort::Dialled) => Some(dialled),
    };
    // As Istio, a port that the scheme implies is as good as none.
    let port = port.filter(|port| default_port(scheme) != Some(*port));
    let host = redirect.authority.as_deref().unwrap_or_else(|| {
        let implied = default_port(request.scheme).filter(|_| scheme != request.scheme);
        without_port(request.authority, |own| port.is_some() || implied == Some(own))
    });
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = match &redirect.path {
        None => with_query(request.path.to_owned(), request.query),
        Some(RedirectPath::Full(path)) if path.contains('?') => path.to_string(),
        Some(RedirectPath::Full(path)) => with_query(path.to_string(), request.query),
        Some(RedirectPath::Prefix(by)) => {
            let path = replace_path(request.path, prefix, by);
            match split_target(&path).1 {
                Some(_) => path,
                None => with_query(path, request.query),
            }
        }
    };
    format!("{scheme}://{host}{port}{path}")
}

/// An authority without its port, if that is one to drop.
fn without_port(authority: &str, drops: impl Fn(u16) -> bool) -> &str {
    let Some((host, port)) = authority.rsplit_once(':') else { return authority };
    // The last colon of a bare IPv6 address is no port's.
    let is_whole = !host.contains(':') || host.ends_with(']');
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_whole && is_number);
    if port.is_some_and(drops) { host } else { authority }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
