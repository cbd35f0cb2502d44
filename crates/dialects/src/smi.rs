//! SMI's kinds: `TrafficSplit` and `HTTPRouteGroup`, in all their versions.

use ironmesh_model::route::{Action, Backend, ConnectionRule, Match, Route, Rule};
use ironmesh_model::snapshot::{RouteFields, RouteSource};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::{Finding, FindingCode, Name};
use serde_json::Value;

use crate::Object;
use crate::istio::fully_qualified;
use crate::join::Late;
use crate::path::{field, item};
use crate::schema::read;
use crate::translate::Part;

mod fields;

pub use fields::*;

/// Translates a TrafficSplit: connections and requests to a service go to others, by weight.
pub(crate) fn traffic_split(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let TrafficSplit { spec, .. } = read(object, findings)?;
    let mut report = |path: &str, code, message: &str| {
        findings.push(Finding::new(object.id(), path, code, message));
    };
    if spec.backends.is_empty() {
        report("spec.backends", FindingCode::Missing, "it needs a backend");
    }
    let mut weights = Vec::with_capacity(spec.backends.len());
    for (at, backend) in spec.backends.iter().enumerate() {
        // `900m` is 900 thousandths.
        let weight = backend.weight.thousandths();
        if weight.is_none() {
            let path = format!("spec.backends[{at}].weight");
            report(&path, FindingCode::Invalid, "a weight is 0 or more");
        }
        weights.push(weight.unwrap_or_default());
    }
    if weights.iter().all(|weight| *weight == 0) {
        report("spec.backends", FindingCode::NoWeight, "no backend has a weight above 0");
    }
    let backends: Vec<Backend> = (spec.backends.iter().zip(shares(&weights)))
        .map(|(given, weight)| Backend {
            weight,
            ..Backend::to(fully_qualified(&given.service, object), None)
        })
        .collect();
    let mut groups = Vec::new();
    for (at, given) in spec.matches.iter().enumerate() {
        let path = item("spec.matches", at);
        match &*given.kind {
            "HTTPRouteGroup" => {
                groups.push((object.namespace().clone(), given.name.as_str().into()));
            }
            _ => {
                let message = "only an HTTPRouteGroup has conditions of requests";
                report(&field(&path, "kind"), FindingCode::NoEffect, message);
            }
        }
    }
    let takes_all = spec.matches.is_empty();
    let connections = ConnectionRule {
        place: "backends".into(),
        matches: Vec::new(),
        backends: backends.clone(),
    };
    let rule = Rule { action: Action::Forward(backends), ..Rule::default() };
    let source = RouteSource {
        route: Route {
            id: object.id().clone(),
            rules: vec![rule],
            connection_rules: if takes_all { vec![connections] } else { Vec::new() },
        },
        hosts: vec![fully_qualified(&spec.service, object)],
        gateways: vec!["mesh".into()],
        export_to: Vec::new(),
        delegations: Vec::new(),
        created: object.created(),
        precedence: Some(0),
        found: Vec::new(),
        fields: RouteFields::TRAFFIC_SPLIT,
    };
    Some(match takes_all {
        true => Part::Route(Box::new(source)),
        false => Part::Late(Box::new(Late::ByGroups(groups, source))),
    })
}

/// The same shares as numbers that the model takes.
fn shares(weights: &[u128]) -> impl Iterator<Item = u32> {
    const MAX: u128 = 1_000_000;
    let largest = weights.iter().copied().max().unwrap_or_default();
    let unit = largest.div_ceil(MAX).max(1);
    // Whoever has a share keeps one.
    let share = move |weight: &u128| weight.div_ceil(unit);
    weights.iter().map(move |weight| u32::try_from(share(weight)).unwrap_or(u32::MAX))
}

/// Translates an HTTPRouteGroup: conditions to which others refer.
pub(crate) fn http_route_group(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let HttpRouteGroup { spec, matches, .. } = read(object, findings)?;
    let mut reading = Reading { object, findings };
    let old = matches.iter().enumerate().map(|(at, given)| (item("matches", at), given));
    let new = spec.matches.iter().enumerate().map(|(at, given)| (item("spec.matches", at), given));
    let conditions = old.chain(new).map(|(path, given)| reading.conditions(given, &path)).collect();
    let place = (object.namespace().clone(), object.name().clone());
    Some(Part::Conditions(place, conditions))
}

struct Reading<'a> {
    object: &'a Object,
    findings: &'a mut Vec<Finding>,
}

impl Reading<'_> {
    fn conditions(&mut self, given: &HttpMatch, path: &str) -> Match {
        let any = |methods: &[String]| methods.iter().any(|method| method == "*");
        let method = match &given.methods[..] {
            [] => None,
            methods if any(methods) => None,
            [one] => Some(TextMatch::Exact(one.to_ascii_uppercase().into())),
            several => Some(self.regex(&several.join("|").to_ascii_uppercase(), path, "methods")),
        };
        let regex = given.path_regex.as_str();
        let regex = Some(regex).filter(|regex| !regex.is_empty());
        Match {
            name: given.name.clone(),
            path: regex.map(|regex| self.regex(regex, path, "pathRegex")),
            method,
            headers: self.headers(&given.headers, path),
            ..Match::default()
        }
    }

    /// Headers by name, in one object or, before v1alpha4, one in each of a list.
    fn headers(&mut self, given: &Value, path: &str) -> Vec<(Name, TextMatch)> {
        let path = field(path, "headers");
        let objects: Vec<&Value> = match given {
            Value::Null => Vec::new(),
            Value::Array(list) => list.iter().collect(),
            one => vec![one],
        };
        let mut headers = Vec::new();
        for object in objects {
            let Some(pairs) = object.as_object() else {
                let message = "headers are an object of names and expressions";
                self.report(&path, FindingCode::Invalid, message);
                continue;
            };
            for (name, value) in pairs {
                match value.as_str() {
                    Some(text) => {
                        let regex = self.regex(text, &path, name);
                        headers.push((name.to_ascii_lowercase().into(), regex));
                    }
                    None => {
                        let message = "an expression is a text; put it in quotes";
                        self.report(&field(&path, name), FindingCode::Invalid, message);
                    }
                }
            }
        }
        headers
    }

    fn regex(&mut self, text: &str, path: &str, name: &str) -> TextMatch {
        let regex = TextMatch::Regex(text.into());
        if let Err(bad) = regex.compile() {
            self.report(&field(path, name), FindingCode::BadRegex, &bad.to_string());
        }
        regex
    }

    fn report(&mut self, path: &str, code: FindingCode, message: &str) {
        self.findings.push(Finding::new(self.object.id(), path, code, message));
    }
}
