//! `VirtualService`.

use std::net::IpAddr;

use ironmesh_model::path_rewrite::PathPattern;
use ironmesh_model::route::{Action, Backend, HeaderOps, PathRewrite, Rewrite, Route, Rule};
use ironmesh_model::snapshot::{RouteFields, RouteSource};
use ironmesh_model::{Finding, FindingCode, Name, ObjectId};

use super::{PortSelector, export_to, fully_qualified, gateway_name};
use crate::Object;
use crate::path::{field, item};
use crate::schema::{Count, read};
use crate::translate::Part;

mod answer;
mod beside;
mod connections;
mod fields;
mod headers;
mod matches;
mod redirect;
mod retries;
mod shadow;

pub use fields::*;

/// Translates a VirtualService.
pub(crate) fn virtual_service(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let VirtualService { spec, .. } = read(object, findings)?;
    let is_delegate = spec.hosts.is_empty();
    let mut translator = Translator { object, findings, is_delegate };
    let attached = |name: &String| gateway_name(name, object);
    let gateways = match &spec.gateways[..] {
        _ if is_delegate => Vec::new(),
        [] => vec![MESH.into()],
        gateways => gateways.iter().map(attached).collect(),
    };
    if is_delegate {
        translator.delegate(&spec);
    } else {
        translator.hosts(&spec.hosts, &gateways);
    }
    if spec.http.is_empty() && spec.tcp.is_empty() && spec.tls.is_empty() {
        translator.report("spec.http", FindingCode::Missing, "it needs http, tls or tcp routes");
    }
    let rules: Vec<Rule> = spec
        .http
        .iter()
        .enumerate()
        .map(|(at, route)| translator.rule(route, &item("spec.http", at)))
        .collect();
    translator.unreachable(&spec, &rules);
    let connection_rules = translator.connection_rules(&spec);
    translator.unreachable_connections(&connection_rules);
    Some(Part::Route(Box::new(RouteSource {
        route: Route { id: object.id().clone(), rules, connection_rules },
        hosts: spec.hosts.iter().map(|host| fully_qualified(host, object)).collect(),
        gateways,
        export_to: export_to(&spec.export_to, object),
        delegations: translator.delegations(&spec),
        created: object.created(),
        found: Vec::new(),
        precedence: None,
        fields: match &spec.gateways[..] {
            [] => RouteFields { gateways: "", ..RouteFields::VIRTUAL_SERVICE },
            _ => RouteFields::VIRTUAL_SERVICE,
        },
    })))
}

/// A rule as a VirtualService has it, of an object that is none: the rule of `path`.
pub(super) fn rule(
    object: &Object,
    findings: &mut Vec<Finding>,
    given: &HttpRoute,
    path: &str,
) -> Rule {
    Translator { object, findings, is_delegate: false }.rule(given, path)
}

/// One VirtualService on its way to a route.
struct Translator<'a> {
    object: &'a Object,
    findings: &'a mut Vec<Finding>,
    /// Whether it is one to which others delegate.
    is_delegate: bool,
}

impl Translator<'_> {
    fn report(&mut self, path: impl Into<String>, code: FindingCode, message: impl Into<String>) {
        self.findings.push(Finding::new(self.object.id(), path, code, message));
    }

    /// A VirtualService without hosts is one to which others delegate. Who delegates says where it is
    /// attached; connections are not delegated.
    fn delegate(&mut self, spec: &Spec) {
        if !spec.gateways.is_empty() {
            let message = "it needs hosts, since it names gateways";
            self.report("spec.hosts", FindingCode::Missing, message);
        }
        for (name, is_there) in [("tls", !spec.tls.is_empty()), ("tcp", !spec.tcp.is_empty())] {
            if is_there {
                let message = "without hosts it is for delegation, which is of http only";
                self.report(field("spec", name), FindingCode::Invalid, message);
            }
        }
        for (at, route) in spec.http.iter().enumerate() {
            if route.delegate.is_some() {
                let message = "without hosts it is for delegation, and does not delegate again";
                let path = field(&item("spec.http", at), "delegate");
                self.report(path, FindingCode::Invalid, message);
            }
        }
    }

    /// The rules that delegate, and to what.
    fn delegations(&self, spec: &Spec) -> Vec<(u32, ObjectId)> {
        let numbered = (0u32..).zip(&spec.http);
        let delegations = numbered.filter_map(|(at, route)| {
            let Delegate { name, namespace } = route.delegate.as_ref()?;
            let own = self.object.id();
            let namespace = if namespace.is_empty() { &*own.namespace } else { namespace };
            Some((at, ObjectId::new(&*own.kind, namespace, name.as_str())))
        });
        delegations.collect()
    }

    fn hosts(&mut self, hosts: &[String], gateways: &[Name]) {
        let in_mesh = gateways.iter().any(|gateway| **gateway == *MESH);
        for (at, host) in hosts.iter().enumerate() {
            let path = item("spec.hosts", at);
            if host == "*" && in_mesh {
                let message = "inside the mesh a route cannot be for every host; \
                               name its hosts, or give `gateways` without mesh";
                self.report(path, FindingCode::Invalid, message);
            } else if host.contains(':') && host.parse::<IpAddr>().is_err() {
                let message = format!("{host:?} is no host; a port is matched by match[].port");
                self.report(path, FindingCode::Invalid, message);
            }
        }
    }

    fn rule(&mut self, given: &HttpRoute, path: &str) -> Rule {
        self.conflicts(given, path);
        self.set_twice(given, path);
        let mut backends = Vec::with_capacity(given.route.len());
        for (at, destination) in given.route.iter().enumerate() {
            backends.push(self.backend(destination, &item(&field(path, "route"), at)));
        }
        let mut headers = self.headers(&given.headers, &given.into(), path);
        if let [only] = &mut backends[..] {
            join_headers(&mut headers, std::mem::take(&mut only.headers));
        }
        if given.route.iter().all(|destination| destination.weight.is_none()) {
            // Left out everywhere, as shares of one.
            backends.iter_mut().for_each(|backend| backend.weight = 1);
        }
        if backends.len() > 1 && backends.iter().all(|backend| backend.weight == 0) {
            let message = "no destination has a weight above 0";
            self.report(field(path, "route"), FindingCode::NoWeight, message);
        }
        Rule {
            place: String::new(),
            name: given.name.clone(),
            matches: self.matches(&given.matches, path),
            action: match (&given.direct_response, &given.redirect) {
                _ if !given.route.is_empty() => Action::Forward(backends),
                (Some(answer), _) => self.answer(answer, path),
                (None, Some(redirect)) => self.redirect(redirect, path),
                (None, None) => Action::Forward(backends),
            },
            // As in Istio, a timeout of 0 turns it off, that of the rule that delegates, too.
            timeout: given.timeout.filter(|timeout| self.is_delegate || !timeout.is_zero()),
            retry: given.retries.as_ref().map(|retries| self.retry(retries, path)),
            rewrite: given.rewrite.as_ref().and_then(|rewrite| self.rewrite(rewrite, path)),
            headers,
            faults: given.fault.as_ref().and_then(|fault| self.faults(fault, path)),
            cors: given.cors_policy.as_ref().map(|cors| self.cors(cors, path)),
            mirrors: self.mirrors(given, path),
        }
    }

    /// A rule does one thing: it forwards, redirects, answers or delegates. As Istio's validation, which
    /// also refuses failures and rewrites of what is not forwarded.
    fn conflicts(&mut self, given: &HttpRoute, path: &str) {
        let actions = [
            ("route", !given.route.is_empty()),
            ("redirect", given.redirect.is_some()),
            ("directResponse", given.direct_response.is_some()),
            ("delegate", given.delegate.is_some()),
        ];
        let mut named = actions.into_iter().filter(|(_, is_there)| *is_there);
        let Some((first, _)) = named.next() else {
            let message = "a rule needs route, redirect, directResponse or delegate";
            return self.report(path, FindingCode::Missing, message);
        };
        for (other, _) in named {
            let message = format!("a rule has {first} or {other}, not both");
            self.report(field(path, other), FindingCode::Invalid, message);
        }
        if given.redirect.is_some() || given.direct_response.is_some() {
            let others = [("fault", given.fault.is_some()), ("rewrite", given.rewrite.is_some())];
            for (other, _) in others.into_iter().filter(|(_, is_there)| *is_there) {
                let message = format!("a rule with {first} has no {other}");
                self.report(field(path, other), FindingCode::Invalid, message);
            }
        }
    }

    /// A rewrite; empty texts are as good as none, as protobuf has it.
    fn rewrite(&mut self, given: &HttpRewrite, path: &str) -> Option<Rewrite> {
        let at = field(path, "rewrite");
        let whole = self.of_target(&given.uri, &field(&at, "uri")).map(PathRewrite::Matched);
        let by_regex = given.uri_regex_rewrite.as_ref();
        if whole.is_some() && by_regex.is_some() {
            let message = "a rewrite has uri or uriRegexRewrite, not both";
            self.report(field(&at, "uriRegexRewrite"), FindingCode::Invalid, message);
        }
        let by_regex = by_regex.and_then(|regex| self.regex_rewrite(regex, &at));
        let authority = self.of_target(&given.authority, &field(&at, "authority"));
        let rewrite = Rewrite { path: whole.or(by_regex), authority };
        let says_nothing = given.uri.is_empty() && given.authority.is_empty();
        if says_nothing && given.uri_regex_rewrite.is_none() {
            let message = "a rewrite needs uri, authority or uriRegexRewrite";
            self.report(at, FindingCode::Missing, message);
        }
        (rewrite != Rewrite::default()).then_some(rewrite)
    }

    /// A text that becomes a part of a path or an authority; `None` if it is empty, or has bytes that may
    /// not stand there (RFC 3986, section 2), which is reported.
    fn of_target(&mut self, text: &str, path: &str) -> Option<Name> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message =
                "it has blanks, control characters or letters outside ASCII; escape them: %20";
            self.report(path, FindingCode::Invalid, message);
            return None;
        }
        (!text.is_empty()).then(|| text.into())
    }

    fn regex_rewrite(&mut self, given: &RegexRewrite, path: &str) -> Option<PathRewrite> {
        let (pattern, by) = (given.matches.as_str().into(), given.rewrite.as_str().into());
        if given.matches.is_empty() || given.rewrite.is_empty() {
            let message = "it needs both match and rewrite";
            self.report(field(path, "uriRegexRewrite"), FindingCode::Missing, message);
            return None;
        }
        self.of_target(&given.rewrite, &format!("{path}.uriRegexRewrite.rewrite"))?;
        if let Err(bad) = PathPattern::new(&pattern, &by) {
            let at = format!("{path}.uriRegexRewrite.match");
            self.report(at, FindingCode::Invalid, bad.to_string());
            return None;
        }
        Some(PathRewrite::Regex { pattern, by })
    }

    fn backend(&mut self, given: &HttpRouteDestination, path: &str) -> Backend {
        let headers = self.headers(&given.headers, &given.into(), path);
        let weight = given.weight.map_or(0, weight);
        self.backend_of(&given.destination, weight, headers)
    }

    /// A destination as a backend.
    fn backend_of(&self, given: &Destination, weight: u32, headers: HeaderOps) -> Backend {
        let Destination { host, subset, port: PortSelector { number, .. } } = given;
        Backend {
            host: fully_qualified(host, self.object),
            port: *number,
            port_name: None,
            subset: (!subset.is_empty()).then(|| subset.as_str().into()),
            weight,
            headers,
        }
    }
}

/// The operations of a rule's one destination count as the rule's own, after them: so Istio has Envoy do
/// it, which removes, then sets, then adds.
fn join_headers(to: &mut HeaderOps, own: HeaderOps) {
    for (to, own) in [(&mut to.request, own.request), (&mut to.response, own.response)] {
        to.set.extend(own.set);
        to.add.extend(own.add);
        to.remove.extend(own.remove);
    }
}

/// A weight, of which the table has the bounds.
fn weight(given: Count) -> u32 {
    u32::try_from(given.0).unwrap_or_default()
}

/// What routes inside the mesh are attached to.
const MESH: &str = "mesh";
