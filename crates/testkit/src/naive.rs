//! A deliberately naive matcher of Istio's routes. For every request it walks the users' objects as
//! they were written, without indexes, compilation or views. Where it disagrees with `model`, one of
//! them has a bug.
//!
//! It supports what the generator in [`crate::random`] produces, not all of Istio.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::Value;

pub mod connections;
mod gateway;
mod own_answer;

use own_answer::own_answer;

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whether it enters at a gateway; otherwise it leaves a workload.
    pub at_gateway: bool,
    /// Namespace of the proxy's workload.
    pub namespace: String,
    /// Labels of the proxy's workload.
    pub labels: Vec<(String, String)>,
    /// Port of the original destination, or of the gateway's server.
    pub port: u64,
    /// Method.
    pub method: String,
    /// Scheme.
    pub scheme: String,
    /// Authority as sent.
    pub authority: String,
    /// Path and query as sent.
    pub target: String,
    /// Headers as sent.
    pub headers: Vec<(String, String)>,
}

/// The expected outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This rule wins.
    Rule {
        /// `NAMESPACE/NAME` of the VirtualService.
        route: String,
        /// Index in `spec.http`.
        rule: usize,
        /// Its backends.
        backends: Vec<Backend>,
    },
    /// This rule wins, and answers by itself.
    Own {
        /// As above.
        route: String,
        /// As above.
        rule: usize,
        /// Status of the answer.
        status: u64,
        /// The reason's code.
        reason: &'static str,
        /// Where the client is sent to, if elsewhere.
        location: Option<String>,
    },
    /// The service itself, without a route.
    Default,
    /// The address that was dialled.
    Passthrough,
    /// 404.
    NoRoute,
}

/// A backend of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its subset, if it names one.
    pub subset: Option<String>,
    /// Its weight.
    pub weight: u64,
    /// The reason's code if it is chosen.
    pub reason: &'static str,
}

/// All objects of a mesh.
#[derive(Clone, Copy, Debug)]
pub struct Mesh<'a> {
    /// The objects.
    pub objects: &'a [Value],
    /// The patterns in them.
    pub patterns: &'a Patterns,
}

/// All regexes in use, compiled; `None` for an invalid one.
#[derive(Debug, Default)]
pub struct Patterns(RefCell<HashMap<String, Option<Regex>>>);

impl Patterns {
    fn whole(&self, pattern: &str) -> Option<Regex> {
        let mut known = self.0.borrow_mut();
        let compile = || {
            Regex::new(pattern).ok()?;
            Regex::new(&format!(r"\A(?:{pattern})\z")).ok()
        };
        known.entry(pattern.to_owned()).or_insert_with(compile).clone()
    }

    /// Whether any regex in a value is invalid.
    fn any_bad(&self, value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.iter().any(|(name, value)| match value.as_str() {
                Some(pattern) if name == "regex" => self.whole(pattern).is_none(),
                None if name == "withoutHeaders" => {
                    let texts = value.as_object().into_iter().flatten().map(|(_, text)| text);
                    texts.into_iter().any(|text| !is_any(text) && self.any_bad(text))
                }
                _ => self.any_bad(value),
            }),
            _ => false,
        }
    }

    fn matches(&self, given: &Value, text: &str) -> bool {
        let given = given.as_object().unwrap();
        let Some((kind, pattern)) = given.iter().next() else { return true };
        let pattern = pattern.as_str().unwrap();
        match kind.as_str() {
            "exact" => text == pattern,
            "prefix" => text.starts_with(pattern),
            _ => self.whole(pattern).unwrap().is_match(text),
        }
    }

    fn matches_any_case(&self, given: &Value, text: &str) -> bool {
        let lower = |value: &str| value.to_ascii_lowercase();
        match (given["exact"].as_str(), given["prefix"].as_str()) {
            (Some(exact), _) => lower(exact) == lower(text),
            (_, Some(prefix)) => lower(text).starts_with(&lower(prefix)),
            _ => self.matches(given, text),
        }
    }
}

/// A star alone, which is no expression: what `withoutHeaders` takes for a header of any value.
fn is_any(text: &Value) -> bool {
    text["regex"] == "*"
}

/// Whether a pattern is an exact name, and its length.
type Specificity = (bool, usize);

/// Time of creation and `NAME.NAMESPACE`.
type Age = (String, String);

/// A rule, or one alternative of it, that is tried.
struct Try<'a> {
    service: &'a Value,
    rule: usize,
    alternative: Option<usize>,
}

impl<'a> Mesh<'a> {
    /// The expected outcome of a request.
    pub fn answer(self, request: &Request) -> Answer {
        let host = host_of(&request.authority);
        if request.at_gateway {
            self.at_gateway(request, &host)
        } else {
            self.outbound(request, &host)
        }
    }

    fn kind(self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    fn outbound(self, request: &Request, host: &str) -> Answer {
        for name in full_names(host, &request.namespace) {
            let service = self.service(&name);
            if let Some(service) = service
                && !has_port(service, request.port)
            {
                return Answer::Passthrough;
            }
            // A completed name that is not a service is known only as it was written.
            let any_pattern = service.is_some() || name == host;
            let route = self.mesh_route(&name, any_pattern, &request.namespace);
            let attached = ["mesh".to_owned()];
            match (service, route) {
                (None, None) => {}
                (Some(_), None) => return Answer::Default,
                (service, Some(route)) => {
                    let tries = tries_of(route);
                    return self.first(request, &attached, &tries, service.is_some());
                }
            }
        }
        Answer::Passthrough
    }

    /// The VirtualService that holds for a host in the mesh.
    fn mesh_route(self, name: &str, any_pattern: bool, namespace: &str) -> Option<&'a Value> {
        let mut best: Option<(Specificity, Age, &Value)> = None;
        for route in self.kind("VirtualService") {
            let in_mesh = match route["spec"]["gateways"].as_array() {
                None => true,
                Some(gateways) => gateways.iter().any(|g| g == "mesh"),
            };
            if !in_mesh || !visible(route, namespace) {
                continue;
            }
            for pattern in hosts_of(route) {
                if !covers(&pattern, name) || !(any_pattern || pattern == name) {
                    continue;
                }
                let specific = (!pattern.starts_with('*'), pattern.len());
                let better = match &best {
                    None => true,
                    Some((other, age, _)) => {
                        specific > *other || (specific == *other && age_of(route) < *age)
                    }
                };
                if better {
                    best = Some((specific, age_of(route), route));
                }
            }
        }
        best.map(|(_, _, route)| route)
    }

    /// The first of these that matches.
    fn first(
        self,
        request: &Request,
        attached: &[String],
        tries: &[Try<'_>],
        has_default: bool,
    ) -> Answer {
        let mut any_for_caller = request.at_gateway || !has_default;
        for Try { service, rule, alternative } in tries {
            let given = &service["spec"]["http"][*rule];
            let matched = match alternative {
                None => true,
                Some(at) => {
                    let condition = &given["match"][*at];
                    let for_caller = is_for_caller(condition, request, attached, service);
                    any_for_caller |= for_caller;
                    for_caller && self.matches_request(condition, request)
                }
            };
            if matched {
                if let Some((status, reason, location)) = own_answer(given, request) {
                    let (route, rule) = (id_of(service), *rule);
                    return Answer::Own { route, rule, status, reason, location };
                }
                let backends = list(&given["route"]);
                let equal = backends.iter().all(|backend| backend.get("weight").is_none());
                let backends = backends.iter().map(|b| {
                    let backend = self.backend(b, service, &request.namespace, request.port);
                    if equal { Backend { weight: 1, ..backend } } else { backend }
                });
                let backends = backends.collect();
                return Answer::Rule { route: id_of(service), rule: *rule, backends };
            }
        }
        if any_for_caller { Answer::NoRoute } else { Answer::Default }
    }

    fn backend(self, given: &Value, route: &Value, namespace: &str, dialled: u64) -> Backend {
        let destination = &given["destination"];
        let subset = destination["subset"].as_str().map(str::to_owned);
        let host = full_host(destination["host"].as_str().unwrap(), route);
        let reason = match self.service(&host) {
            None => "unknown_destination",
            Some(service) => {
                let ports = list(&service["spec"]["ports"]);
                let port = destination["port"]["number"].as_u64().unwrap_or_else(|| match ports {
                    [only] => only["port"].as_u64().unwrap(),
                    _ => dialled,
                });
                let owner = service["metadata"]["namespace"].as_str().unwrap();
                match &subset {
                    _ if !has_port(service, port) => "unknown_destination",
                    Some(name) if !self.defines(&host, name, namespace, owner) => {
                        "undefined_subset"
                    }
                    _ => "route",
                }
            }
        };
        Backend { subset, weight: given["weight"].as_u64().unwrap_or(0), reason }
    }

    fn matches_request(self, condition: &Value, request: &Request) -> bool {
        if self.patterns.any_bad(condition) {
            return false;
        }
        let (path, query) = match request.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.target.as_str(), None),
        };
        let path = normalise(path);
        for (field, value) in condition.as_object().unwrap() {
            let holds = match field.as_str() {
                "uri" if condition["ignoreUriCase"] == true => {
                    self.patterns.matches_any_case(value, &path)
                }
                "uri" => self.patterns.matches(value, &path),
                "method" => self.patterns.matches(value, &request.method),
                "scheme" => self.patterns.matches(value, &request.scheme),
                "authority" => self.patterns.matches(value, &request.authority),
                "headers" => value.as_object().unwrap().iter().all(|(name, text)| {
                    header(request, name).is_some_and(|value| self.patterns.matches(text, &value))
                }),
                "withoutHeaders" => !value.as_object().unwrap().iter().any(|(name, text)| {
                    header(request, name)
                        .is_some_and(|value| is_any(text) || self.patterns.matches(text, &value))
                }),
                "queryParams" => value.as_object().unwrap().iter().all(|(name, text)| {
                    parameter(query, name).is_some_and(|value| self.patterns.matches(text, &value))
                }),
                _ => true,
            };
            if !holds {
                return false;
            }
        }
        true
    }

    fn service(self, full: &str) -> Option<&'a Value> {
        self.kind("Service").find(|service| {
            let metadata = &service["metadata"];
            let (name, namespace) = (metadata["name"].as_str(), metadata["namespace"].as_str());
            format!("{}.{}.svc.cluster.local", name.unwrap(), namespace.unwrap()) == full
        })
    }

    /// Whether the DestinationRules that hold for a caller define a subset.
    fn defines(self, host: &str, subset: &str, caller: &str, owner: &str) -> bool {
        let root = "istio-system";
        for (step, namespace) in [caller, owner, root].into_iter().enumerate() {
            // In the root namespace only private rules count as the caller's own.
            let counts = |rule: &&Value| match step {
                0 if caller == root => {
                    let to = list(&rule["spec"]["exportTo"]);
                    to.len() == 1 && (to[0] == "." || to[0] == root)
                }
                0 => true,
                _ => visible(rule, caller),
            };
            let mut rules: Vec<&Value> = self
                .kind("DestinationRule")
                .filter(|rule| rule["metadata"]["namespace"] == namespace)
                .filter(|rule| {
                    covers(&full_host(rule["spec"]["host"].as_str().unwrap(), rule), host)
                })
                .filter(counts)
                .collect();
            let specificity = |rule: &Value| {
                let host = full_host(rule["spec"]["host"].as_str().unwrap(), rule);
                (!host.starts_with('*'), host.len())
            };
            let best = rules.iter().map(|rule| specificity(rule)).max();
            rules.retain(|rule| Some(specificity(rule)) == best);
            rules.sort_by_key(|rule| age_of(rule));
            // Of those exported in unlike ways the way that came last holds, joined by wider ones.
            let ways: Vec<Vec<String>> = rules.iter().map(|rule| export_of(rule)).collect();
            let base = (0..ways.len()).rev().find(|at| !ways[..*at].contains(&ways[*at]));
            let Some(base) = base else { continue };
            let way = &ways[base];
            let joins = |at: &usize| {
                let wide = &ways[*at];
                wide == way || (!way.is_empty() && way.iter().all(|to| wide.contains(to)))
            };
            return (base..rules.len())
                .filter(joins)
                .any(|at| list(&rules[at]["spec"]["subsets"]).iter().any(|s| s["name"] == subset));
        }
        false
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn id_of(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{}/{}", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap())
}

/// Objects are compared by creation time as text, which is always in the same format, then by
/// NAME.NAMESPACE.
fn age_of(object: &Value) -> Age {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap();
    let namespace = metadata["namespace"].as_str().unwrap();
    (metadata["creationTimestamp"].as_str().unwrap().to_owned(), format!("{name}.{namespace}"))
}

fn visible(object: &Value, from: &str) -> bool {
    let given = list(&object["spec"]["exportTo"]);
    given.is_empty()
        || given.iter().any(|to| match to.as_str().unwrap() {
            "*" => true,
            "." => object["metadata"]["namespace"] == from,
            namespace => namespace == from,
        })
}

/// The namespaces to which an object is exported; empty: all.
fn export_of(object: &Value) -> Vec<String> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap();
    let given = list(&object["spec"]["exportTo"]).iter().map(|to| to.as_str().unwrap());
    let mut given: Vec<String> =
        given.map(|to| if to == "." { namespace } else { to }.to_owned()).collect();
    given.sort();
    given.retain(|to| to != "*");
    given
}

fn full_host(given: &str, object: &Value) -> String {
    let lower = given.to_lowercase();
    if lower.contains('.') || lower.contains('*') {
        return lower;
    }
    format!("{lower}.{}.svc.cluster.local", object["metadata"]["namespace"].as_str().unwrap())
}

fn full_gateway(given: &str, route: &Value) -> String {
    if given == "mesh" || given.contains('/') {
        return given.to_owned();
    }
    format!("{}/{given}", route["metadata"]["namespace"].as_str().unwrap())
}

fn hosts_of(route: &Value) -> Vec<String> {
    list(&route["spec"]["hosts"]).iter().map(|h| full_host(h.as_str().unwrap(), route)).collect()
}

fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern == host,
        Some(suffix) => host.ends_with(suffix) && host != suffix,
    }
}

/// Of two patterns that cover a host, the more specific one.
fn narrower<'a>(a: &'a str, b: &'a str) -> &'a str {
    let key = |pattern: &str| (!pattern.starts_with('*'), pattern.len());
    if key(a) >= key(b) { a } else { b }
}

fn host_of(authority: &str) -> String {
    let lower = authority.to_lowercase();
    let host = match lower.split_once(':') {
        Some((host, _)) => host,
        None => &lower,
    };
    host.trim_end_matches('.').to_owned()
}

fn full_names(host: &str, namespace: &str) -> Vec<String> {
    let mut names = Vec::new();
    match host.matches('.').count() {
        0 => names.push(format!("{host}.{namespace}.svc.cluster.local")),
        1 => names.push(format!("{host}.svc.cluster.local")),
        2 if host.ends_with(".svc") => names.push(format!("{host}.cluster.local")),
        _ => {}
    }
    names.push(host.to_owned());
    names
}

fn has_port(service: &Value, port: u64) -> bool {
    list(&service["spec"]["ports"]).iter().any(|p| p["port"] == port)
}

fn tries_of(route: &Value) -> Vec<Try<'_>> {
    let mut tries = Vec::new();
    for (rule, given) in list(&route["spec"]["http"]).iter().enumerate() {
        let alternatives = list(&given["match"]).len();
        if alternatives == 0 {
            tries.push(Try { service: route, rule, alternative: None });
        }
        for alternative in 0..alternatives {
            tries.push(Try { service: route, rule, alternative: Some(alternative) });
        }
    }
    tries
}

/// Whether it takes every request at these gateways and this port.
fn is_catch_all(tried: &Try<'_>, gateways: &[String], port: u64) -> bool {
    let Some(at) = tried.alternative else { return true };
    let condition = &tried.service["spec"]["http"][tried.rule]["match"][at];
    condition.as_object().unwrap().iter().all(|(field, value)| match field.as_str() {
        "name" | "ignoreUriCase" => true,
        "uri" => value["prefix"] == "/",
        "port" => *value == port,
        "gateways" => is_attached(value, gateways, tried.service),
        _ => false,
    })
}

fn is_attached(named: &Value, attached: &[String], route: &Value) -> bool {
    list(named).iter().any(|g| attached.contains(&full_gateway(g.as_str().unwrap(), route)))
}

fn is_for_caller(condition: &Value, request: &Request, attached: &[String], route: &Value) -> bool {
    let gateways = condition.get("gateways").is_none_or(|g| is_attached(g, attached, route));
    let port = condition.get("port").is_none_or(|port| *port == request.port);
    let namespace = condition.get("sourceNamespace").is_none_or(|n| *n == *request.namespace);
    let labels = condition.get("sourceLabels").is_none_or(|labels| {
        labels
            .as_object()
            .unwrap()
            .iter()
            .all(|(name, value)| request.labels.iter().any(|(n, v)| n == name && value == v))
    });
    gateways && port && namespace && labels
}

fn header(request: &Request, name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let values: Vec<&str> = request
        .headers
        .iter()
        .filter(|(n, _)| n.to_lowercase() == name)
        .map(|(_, value)| value.as_str())
        .collect();
    let separator = if name == "cookie" { "; " } else { "," };
    (!values.is_empty()).then(|| values.join(separator))
}

fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    for pair in query?.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key == name {
            return Some(value.to_owned());
        }
    }
    None
}

/// Decodes `%61` to `%7a` in either case, and resolves dots.
fn normalise(path: &str) -> String {
    let mut decoded = path.to_owned();
    for letter in b'a'..=b'z' {
        for escape in [format!("%{letter:02x}"), format!("%{letter:02X}")] {
            decoded = decoded.replace(&escape, &char::from(letter).to_string());
        }
    }
    decoded = decoded.replace("%2e", ".").replace("%2E", ".");
    let mut out: Vec<&str> = Vec::new();
    let segments: Vec<&str> = decoded.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    out.pop();
                }
                if is_last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}
