//! `VirtualService`.

use std::net::IpAddr;

use ironmesh_model::route::{Action, Backend, Match, Rewrite, Route, Rule};
use ironmesh_model::snapshot::{RouteFields, RouteSource};
use ironmesh_model::{Finding, FindingCode, Name};

use super::{PortSelector, export_to, fully_qualified, gateway_name};
use crate::Object;
use crate::path::{field, item};
use crate::schema::{Count, read};
use crate::translate::Part;

mod answer;
mod connections;
mod fields;
mod headers;
mod matches;
mod retries;

pub use fields::*;

/// Translates a VirtualService.
pub(crate) fn virtual_service(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let VirtualService { spec, .. } = read(object, findings)?;
    let mut translator = Translator { object, findings };
    if spec.hosts.is_empty() {
        translator.delegate(&spec);
        return None;
    }
    let attached = |name: &String| gateway_name(name, object);
    let gateways = match &spec.gateways[..] {
        [] => vec![MESH.into()],
        gateways => gateways.iter().map(attached).collect(),
    };
    translator.hosts(&spec.hosts, &gateways);
    if spec.http.is_empty() && spec.tcp.is_empty() && spec.tls.is_empty() {
        translator.report("spec.http", FindingCode::Missing, "it needs http, tls or tcp routes");
    }
    let rules: Vec<Rule> = spec
        .http
        .iter()
        .enumerate()
        .map(|(at, route)| translator.rule(route, &item("spec.http", at)))
        .collect();
    translator.unreachable(&rules);
    let connection_rules = translator.connection_rules(&spec);
    Some(Part::Route(Box::new(RouteSource {
        route: Route { id: object.id().clone(), rules, connection_rules },
        hosts: spec.hosts.iter().map(|host| fully_qualified(host, object)).collect(),
        gateways,
        export_to: export_to(&spec.export_to, object),
        created: object.created(),
        fields: RouteFields::VIRTUAL_SERVICE,
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

    /// A VirtualService without hosts is one to which others delegate.
    fn delegate(&mut self, spec: &Spec) {
        if spec.gateways.is_empty() {
            let message = "without hosts it is for delegation, which is not honoured yet";
            self.report("spec", FindingCode::NotHonoured, message);
        } else {
            let message = "it needs hosts, since it names gateways";
            self.report("spec.hosts", FindingCode::Missing, message);
        }
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
        if given.route.is_empty() {
            self.without_route(given, path);
        }
        let mut backends = Vec::with_capacity(given.route.len());
        for (at, destination) in given.route.iter().enumerate() {
            backends.push(self.backend(destination, &item(&field(path, "route"), at)));
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
            name: given.name.clone(),
            matches: self.matches(&given.matches, path),
            action: match &given.direct_response {
                Some(answer) if given.route.is_empty() => self.answer(answer, path),
                _ => Action::Forward(backends),
            },
            // As in Istio, a timeout of 0 turns it off.
            timeout: given.timeout.filter(|timeout| !timeout.is_zero()),
            retry: given.retries.as_ref().map(|retries| self.retry(retries, path)),
            rewrite: given.rewrite.as_ref().and_then(rewrite),
            headers: self.headers(&given.headers, &given.into(), path),
        }
    }

    /// A rule that forwards nowhere: what it does instead is not honoured yet, or it does nothing.
    fn without_route(&mut self, given: &HttpRoute, path: &str) {
        if given.redirect.is_none() && given.direct_response.is_none() && given.delegate.is_none() {
            let message = "a rule needs route, redirect, directResponse or delegate";
            self.report(path, FindingCode::Missing, message);
        }
    }

    fn backend(&mut self, given: &HttpRouteDestination, path: &str) -> Backend {
        if given.destination.host.contains('*') {
            let message = "a destination is one service, never a wildcard";
            let path = field(&field(path, "destination"), "host");
            self.report(path, FindingCode::Invalid, message);
        }
        let Destination { host, subset, port: PortSelector { number, .. } } = &given.destination;
        Backend {
            host: fully_qualified(host, self.object),
            port: *number,
            subset: (!subset.is_empty()).then(|| subset.as_str().into()),
            weight: given.weight.map_or(0, weight),
            headers: self.headers(&given.headers, &given.into(), path),
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

/// A weight, of which the table has the bounds.
fn weight(given: Count) -> u32 {
    u32::try_from(given.0).unwrap_or_default()
}

/// A rewrite; empty texts are as good as none, as protobuf has it.
fn rewrite(given: &HttpRewrite) -> Option<Rewrite> {
    let text = |text: &String| (!text.is_empty()).then(|| Name::from(text.as_str()));
    let rewrite = Rewrite { path: text(&given.uri), authority: text(&given.authority) };
    (rewrite != Rewrite::default()).then_some(rewrite)
}

/// What routes inside the mesh are attached to.
const MESH: &str = "mesh";
