//! `RouteRule`: one rule of Istio up to 0.8, as a rule of today.
//!
//! All rules for one service join, the highest precedence first, and what none of them takes goes to the
//! service as if there were no rule.

use std::collections::BTreeMap;

use ironmesh_model::route::{ConnectionRule, Route, Rule};
use ironmesh_model::snapshot::{RouteFields, RouteSource};
use ironmesh_model::{Finding, FindingCode};

use super::config::IstioService;
use super::virtual_service::{self as today, Destination, HttpMatch, HttpRoute, StringMatch};
use super::{PortSelector, labels};
use crate::Object;
use crate::join::Late;
use crate::path::item;
use crate::schema::{Bounded, read};
use crate::translate::Part;

mod fields;

pub use fields::*;

/// Translates a RouteRule.
pub(crate) fn route_rule(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let RouteRule { spec, .. } = read(object, findings)?;
    check(&spec, object, findings);
    let mut found = Vec::new();
    let rule = today::rule(object, &mut found, &as_today(&spec, object), "spec");
    findings.extend(found.into_iter().map(|finding| Finding {
        path: path(&finding),
        message: finding.message.replace("percentage.value", "percent"),
        ..finding
    }));
    let takes_connections = spec.matches.is_none() && spec.redirect.is_none();
    let connection_rules = if takes_connections { vec![connections(&rule)] } else { Vec::new() };
    // What no request can be is no rule; the table says why.
    let is_rule = spec.matches.as_ref().is_none_or(|m| m.tcp.is_none() && m.udp.is_none());
    let rules = if is_rule { vec![rule] } else { Vec::new() };
    let source = RouteSource {
        route: Route { id: object.id().clone(), rules, connection_rules },
        hosts: vec![spec.destination.host(object)],
        gateways: vec!["mesh".into()],
        export_to: Vec::new(),
        delegations: Vec::new(),
        created: object.created(),
        found: Vec::new(),
        precedence: Some(spec.precedence.unwrap_or_default()),
        fields: RouteFields::ROUTE_RULE,
    };
    let caller = spec.matches.and_then(|m| m.source).filter(IstioService::is_named);
    Some(match caller.map(|caller| caller.id(object)) {
        None => Part::Route(Box::new(source)),
        Some(Some(caller)) => Part::Late(Box::new(Late::ForCaller(caller, source))),
        Some(None) => {
            let message = "a caller is a service of the cluster";
            let path = "spec.match.source";
            findings.push(Finding::new(object.id(), path, FindingCode::Invalid, message));
            return None;
        }
    })
}

/// What Istio's validation refused, as far as no rule of today has it.
fn check(spec: &Spec, object: &Object, findings: &mut Vec<Finding>) {
    spec.destination.check(object, "spec.destination", findings);
    let destinations = spec.route.iter().enumerate().filter_map(|(at, weighted)| {
        let path = format!("{}.destination", item("spec.route", at));
        Some((weighted.destination.as_ref()?, path))
    });
    let mirror = spec.mirror.iter().map(|to| (to, "spec.mirror".to_owned()));
    for (to, path) in destinations.chain(mirror) {
        to.check(object, &path, findings);
    }
    let mut report = |path: &str, message: &str| {
        findings.push(Finding::new(object.id(), path, FindingCode::Invalid, message));
    };
    if !spec.destination.labels.is_empty() {
        report("spec.destination.labels", "labels of endpoints stand in route[].labels");
    }
    let total: i64 = spec.route.iter().filter_map(|weighted| Some(weighted.weight?.0)).sum();
    let is_whole = match &spec.route[..] {
        [] => true,
        [_] => matches!(total, 0 | 100),
        _ => total == 100,
    };
    if !is_whole {
        report(
            "spec.route",
            &format!("the weights are percents and sum up to 100, not to {total}"),
        );
    }
}

/// The same as a rule of today.
fn as_today(spec: &Spec, object: &Object) -> HttpRoute {
    let to = |service: &IstioService, labels: &BTreeMap<String, String>| Destination {
        host: service.host(object).to_string(),
        subset: subset(labels),
        port: PortSelector::default(),
    };
    let weighted = |given: &DestinationWeight| today::HttpRouteDestination {
        destination: to(given.destination.as_ref().unwrap_or(&spec.destination), &given.labels),
        weight: given.weight,
        ..Default::default()
    };
    let route = match &spec.route[..] {
        _ if spec.redirect.is_some() => Vec::new(),
        [] => vec![today::HttpRouteDestination {
            destination: to(&spec.destination, &BTreeMap::new()),
            weight: Some(Bounded(100)),
            ..Default::default()
        }],
        route => route.iter().map(weighted).collect(),
    };
    HttpRoute {
        matches: spec.matches.iter().map(|given| conditions(given, object)).collect(),
        route,
        redirect: spec.redirect.as_ref().map(|given| today::Redirect {
            uri: given.uri.clone(),
            authority: given.authority.clone(),
            ..Default::default()
        }),
        rewrite: spec.rewrite.as_ref().map(|given| today::HttpRewrite {
            uri: given.uri.clone(),
            authority: given.authority.clone(),
            uri_regex_rewrite: None,
        }),
        timeout: spec.http_req_timeout.simple_timeout.timeout,
        retries: spec.http_req_retries.simple_retry.as_ref().map(|given| today::Retries {
            attempts: given.attempts,
            per_try_timeout: given.per_try_timeout,
            ..Default::default()
        }),
        fault: spec.http_fault.as_ref().map(fault),
        mirror: spec.mirror.as_ref().map(|mirror| to(mirror, &mirror.labels)),
        cors_policy: spec.cors_policy.as_ref().map(|given| today::CorsPolicy {
            allow_origin: given.allow_origin.clone(),
            allow_methods: given.allow_methods.clone(),
            allow_headers: given.allow_headers.clone(),
            expose_headers: given.expose_headers.clone(),
            max_age: given.max_age,
            allow_credentials: given.allow_credentials,
            ..Default::default()
        }),
        append_headers: spec.append_headers.clone(),
        ..Default::default()
    }
}

/// Labels of endpoints as a subset; none: all endpoints.
pub(super) fn subset(given: &BTreeMap<String, String>) -> String {
    labels(given).to_string()
}

fn conditions(given: &MatchCondition, object: &Object) -> HttpMatch {
    let mut of = HttpMatch::default();
    for (name, text) in &given.request.headers {
        let part: &mut Option<StringMatch> = match name.as_str() {
            "uri" => &mut of.uri,
            "scheme" => &mut of.scheme,
            "method" => &mut of.method,
            "authority" => &mut of.authority,
            _ => {
                of.headers.insert(name.clone(), text.clone());
                continue;
            }
        };
        *part = Some(text.clone());
    }
    if let Some(source) = &given.source {
        of.source_labels = source.labels.clone();
        let namespace = source.id(object).filter(|_| source.is_named());
        of.source_namespace = match namespace {
            Some((namespace, _)) => namespace.to_string(),
            None => source.namespace.clone(),
        };
    }
    of
}

fn fault(given: &HttpFault) -> today::Fault {
    today::Fault {
        delay: given.delay.as_ref().map(|delay| today::Delay {
            fixed_delay: delay.fixed_delay,
            percent: delay.percent,
            ..Default::default()
        }),
        abort: given.abort.as_ref().map(|abort| today::Abort {
            http_status: abort.http_status,
            grpc_status: abort.grpc_status.clone(),
            percent: abort.percent,
            ..Default::default()
        }),
    }
}

/// The rule for connections whose requests are not read: they go where requests would.
fn connections(rule: &Rule) -> ConnectionRule {
    ConnectionRule {
        place: "route".into(),
        matches: Vec::new(),
        backends: rule.action.backends().to_vec(),
    }
}

/// Where a finding about the rule of today stands in the object.
fn path(finding: &Finding) -> String {
    let mut path = finding.path.clone();
    for (today, then) in [
        ("spec.match[0].headers", "spec.match.request.headers"),
        ("spec.match[0].source", "spec.match.source"),
        ("spec.match[0]", "spec.match.request.headers"),
        ("spec.fault", "spec.httpFault"),
        ("spec.retries", "spec.httpReqRetries.simpleRetry"),
        ("spec.timeout", "spec.httpReqTimeout.simpleTimeout.timeout"),
    ] {
        if let Some(rest) = path.strip_prefix(today) {
            path = format!("{then}{rest}");
            break;
        }
    }
    match path.strip_suffix(".percentage") {
        Some(fault) => format!("{fault}.percent"),
        None => path,
    }
}
