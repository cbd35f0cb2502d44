//! `VirtualService`.

use ironmesh_model::route::{Action, Backend, HeaderOp, HeaderOps, Match, Rewrite, Route, Rule};
use ironmesh_model::settings::parse_duration;
use ironmesh_model::snapshot::{RouteFields, RouteSource};
use ironmesh_model::{Finding, FindingCode, Name};

use super::{export_to, fully_qualified, gateway_name};
use crate::Object;
use crate::path::{field, item};
use crate::schema::check;
use crate::translate::Part;

mod given;
mod matches;
mod schema;

use given::{Headers, HttpRoute, Operations, RouteDestination, Spec};

/// Translates a VirtualService; `tcp` and `tls` are findings for now.
pub(crate) fn virtual_service(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let spec = check(object, &schema::VIRTUAL_SERVICE, findings)?;
    let spec: Spec = serde_json::from_value(spec).ok()?;
    let mut translator = Translator { object, findings };
    if spec.http.is_empty() && spec.tcp.is_none() && spec.tls.is_none() {
        translator.report("spec.http", FindingCode::Missing, "it needs http, tls or tcp routes");
    }
    let rules: Vec<Rule> = spec
        .http
        .iter()
        .enumerate()
        .map(|(at, route)| translator.rule(route, &item("spec.http", at)))
        .collect();
    translator.unreachable(&rules);
    let attached = |name: &String| gateway_name(name, object);
    Some(Part::Route(Box::new(RouteSource {
        route: Route { id: object.id().clone(), rules },
        hosts: spec.hosts.iter().map(|host| fully_qualified(host, object)).collect(),
        gateways: match &spec.gateways[..] {
            [] => vec!["mesh".into()],
            gateways => gateways.iter().map(attached).collect(),
        },
        export_to: export_to(&spec.export_to, object),
        created: object.created(),
        fields: FIELDS,
    })))
}

/// One VirtualService on its way to a route.
struct Translator<'a> {
    object: &'a Object,
    findings: &'a mut Vec<Finding>,
}

impl Translator<'_> {
    fn report(&mut self, path: impl Into<String>, code: FindingCode, message: impl Into<String>) {
        self.findings.push(Finding::new(self.object.id(), path, code, message));
    }

    fn rule(&mut self, given: &HttpRoute, path: &str) -> Rule {
        if given.route.is_empty() {
            self.without_route(given, path);
        }
        let mut backends = Vec::with_capacity(given.route.len());
        for (at, destination) in given.route.iter().enumerate() {
            backends.push(self.backend(destination, &item(&field(path, "route"), at)));
        }
        if backends.len() > 1 && backends.iter().all(|backend| backend.weight == 0) {
            let message = "no destination has a weight above 0";
            self.report(field(path, "route"), FindingCode::NoWeight, message);
        }
        let timeout = given.timeout.as_deref().and_then(parse_duration);
        let mut headers = given.headers.as_ref().map(header_ops).unwrap_or_default();
        given.old_headers.add_to(&mut headers);
        Rule {
            name: given.name.clone(),
            matches: self.matches(&given.matches, path),
            action: Action::Forward(backends),
            // As in Istio, a timeout of 0 turns it off.
            timeout: timeout.filter(|timeout| !timeout.is_zero()),
            rewrite: given.rewrite.as_ref().map(|rewrite| Rewrite {
                path: rewrite.uri.as_deref().map(Name::from),
                authority: rewrite.authority.as_deref().map(Name::from),
            }),
            headers,
        }
    }

    /// A rule that forwards nowhere: what it does instead is not honoured yet, or it does nothing.
    fn without_route(&mut self, given: &HttpRoute, path: &str) {
        if given.redirect.is_none() && given.direct_response.is_none() && given.delegate.is_none() {
            let message = "a rule needs route, redirect, directResponse or delegate";
            self.report(path, FindingCode::Missing, message);
        }
    }

    fn backend(&mut self, given: &RouteDestination, path: &str) -> Backend {
        if given.destination.host.contains('*') {
            let message = "a destination is one service, never a wildcard";
            let path = field(&field(path, "destination"), "host");
            self.report(path, FindingCode::Invalid, message);
        }
        let mut headers = given.headers.as_ref().map(header_ops).unwrap_or_default();
        given.old_headers.add_to(&mut headers);
        Backend {
            host: fully_qualified(&given.destination.host, self.object),
            port: given.destination.port.as_ref().and_then(|port| port.number),
            subset: given.destination.subset.as_deref().filter(|s| !s.is_empty()).map(Name::from),
            weight: given.weight,
            headers,
        }
    }

    /// Rules behind one that takes every request, wherever the object is attached.
    fn unreachable(&mut self, rules: &[Rule]) {
        let everywhere = |m: &Match| m.is_catch_all() && m.gateways.is_empty() && m.port.is_none();
        let takes_all =
            |rule: &Rule| rule.matches.is_empty() || rule.matches.iter().any(everywhere);
        let Some(last) = rules.iter().position(takes_all) else { return };
        for at in last + 1..rules.len() {
            let message = format!("spec.http[{last}] takes every request");
            self.report(item("spec.http", at), FindingCode::Unreachable, message);
        }
    }
}

fn header_ops(given: &Headers) -> HeaderOps {
    HeaderOps { request: header_op(&given.request), response: header_op(&given.response) }
}

fn header_op(given: &Operations) -> HeaderOp {
    HeaderOp {
        set: given.set.iter().map(lower_case).collect(),
        add: given.add.iter().map(lower_case).collect(),
        remove: given.remove.iter().map(|name| name.to_ascii_lowercase().into()).collect(),
    }
}

fn lower_case((name, value): (&String, &String)) -> (Name, Name) {
    (name.to_ascii_lowercase().into(), value.as_str().into())
}

const FIELDS: RouteFields = RouteFields {
    hosts: "spec.hosts",
    gateways: "spec.gateways",
    rules: "spec.http",
    backends: "route",
    host: "destination.host",
    port: "destination.port.number",
    subset: "destination.subset",
};
