//! `Ingress`, of both generations, as Istio serves it: plaintext on port 80, HTTPS on port 443 for what
//! `tls` names.

use ironmesh_model::listeners::{ClientCertificate, GatewayProtocol, TlsVersion};
use ironmesh_model::route::{Action, Backend, Match, Route, Rule};
use ironmesh_model::snapshot::{
    GatewayServer, GatewaySource, GatewayTls, GatewayTlsMode, RouteFields, RouteSource,
    ingress_gateway_name,
};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::{Finding, FindingCode, Labels, Name, Severity};

use super::read_workload;
use crate::Object;
use crate::path::{field, item};
use crate::translate::Part;

mod class;
pub(super) mod fields;
mod old;

pub(crate) use class::{ClassOfIngress, ingress_class};
pub use class::{IngressClasses, set_default_class};

use fields::{Ingress, IngressBackend, IngressPath, IngressRule, PathType};
pub(crate) use old::{as_old_ingress, old_ingress};

/// What an Ingress is in the model, if it is of a class that the mesh serves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IngressPart {
    pub(crate) class: ClassOfIngress,
    /// What is wrong with it where it is served.
    pub(crate) found: Vec<Finding>,
    /// Without its selector, which MeshConfig says.
    pub(crate) gateway: GatewaySource,
    pub(crate) route: RouteSource,
}

/// Translates an Ingress, whosever it is.
pub(crate) fn ingress(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Ingress { spec, .. } = read_workload(object, findings)?;
    let mut found = Vec::new();
    let mut translator = Translator { object, findings: &mut found };
    let rules = translator.rules(&spec);
    let mut hosts: Vec<Name> = rules.iter().map(|(host, _)| host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    let only = hosts.len() < 2;
    let rules =
        rules.into_iter().map(|(host, rule)| if only { rule } else { for_host(&host, rule) });
    let route =
        Route { id: object.id().clone(), rules: rules.collect(), connection_rules: Vec::new() };
    let mut servers = vec![server(HTTP_PORT, "http", GatewayProtocol::Http, all_hosts(), None)];
    for (at, tls) in spec.tls.iter().enumerate() {
        let path = item("spec.tls", at);
        if tls.secret_name.is_empty() {
            let message = "without a Secret with a certificate there is no HTTPS for these hosts";
            translator.report(field(&path, "secretName"), FindingCode::NoEffect, message);
            continue;
        }
        let hosts = match &tls.hosts[..] {
            [] => all_hosts(),
            hosts => hosts.iter().map(|host| (None, host.to_ascii_lowercase().into())).collect(),
        };
        let certificate = (field(&path, "secretName"), tls.secret_name.as_str().into());
        let tls = GatewayTls {
            mode: GatewayTlsMode::Terminate(ClientCertificate::None),
            http: true,
            certificates: vec![certificate],
            also_in: Some(object.namespace().clone()),
            trusted: None,
            names: Vec::new(),
            key_hashes: Vec::new(),
            certificate_hashes: Vec::new(),
            versions: (TlsVersion::V12, TlsVersion::V13),
        };
        servers.push(server(HTTPS_PORT, "https", GatewayProtocol::Tls, hosts, Some(tls)));
    }
    // What no Ingress may be is refused, whosever it is; the rest concerns those that are served.
    let is_error = |finding: &Finding| finding.code.severity() == Severity::Error;
    let (errors, found): (Vec<Finding>, Vec<Finding>) = found.into_iter().partition(is_error);
    findings.extend(errors);
    Some(Part::Ingress(Box::new(IngressPart {
        class: ClassOfIngress::of(object.value()),
        found,
        gateway: GatewaySource {
            id: object.id().clone(),
            selector: Labels::default(),
            servers,
            created: object.created(),
        },
        route: RouteSource {
            route,
            hosts,
            gateways: vec![ingress_gateway_name(object.id()).into()],
            export_to: Vec::new(),
            delegations: Vec::new(),
            found: Vec::new(),
            precedence: None,
            created: object.created(),
            fields: FIELDS,
        },
    })))
}

fn all_hosts() -> Vec<(Option<Name>, Name)> {
    vec![(None, "*".into())]
}

fn server(
    port: u16,
    name: &str,
    protocol: GatewayProtocol,
    hosts: Vec<(Option<Name>, Name)>,
    tls: Option<GatewayTls>,
) -> GatewayServer {
    let (name, tls) = (name.into(), tls.map(Box::new));
    GatewayServer { port, name, protocol, hosts, tls, redirects: false }
}

/// One Ingress on its way to a route.
struct Translator<'a> {
    object: &'a Object,
    findings: &'a mut Vec<Finding>,
}

impl Translator<'_> {
    fn report(&mut self, path: impl Into<String>, code: FindingCode, message: impl Into<String>) {
        self.findings.push(Finding::new(self.object.id(), path, code, message));
    }

    /// The rules, each with its host, in the order in which they are tried: exact paths first, then
    /// longer prefixes before shorter ones, then the default.
    fn rules(&mut self, spec: &fields::IngressSpec) -> Vec<(Name, Rule)> {
        let mut rules = Vec::new();
        for (at, given) in spec.rules.iter().enumerate() {
            let path = item("spec.rules", at);
            if given.http.paths.is_empty() && spec.default_backend.is_none() {
                let message = "it has no paths, and no defaultBackend takes its requests";
                self.report(field(&path, "http"), FindingCode::NoEffect, message);
            }
            for (p, given_path) in given.http.paths.iter().enumerate() {
                let at = item(&format!("{path}.http.paths"), p);
                let Some(to) = self.backend(given_path.backend.as_ref(), &field(&at, "backend"))
                else {
                    continue;
                };
                let (order, matches) = self.matches(given_path, &at);
                rules.push((order, (host(given), rule(matches, to))));
            }
        }
        rules.sort_by_key(|(order, _)| *order);
        let mut rules: Vec<(Name, Rule)> = rules.into_iter().map(|(_, rule)| rule).collect();
        if let Some(default) = &spec.default_backend
            && let Some(to) = self.backend(Some(default), "spec.defaultBackend")
        {
            rules.push(("*".into(), rule(Vec::new(), to)));
        } else if spec.rules.is_empty() && spec.default_backend.is_none() {
            let message = "it has neither rules nor a defaultBackend";
            self.report("spec", FindingCode::Missing, message);
        }
        rules
    }

    fn backend(&mut self, given: Option<&IngressBackend>, path: &str) -> Option<Backend> {
        if given.is_some_and(|given| given.service.is_none() && !given.resource.is_null()) {
            // The table says that it leads nowhere.
            return None;
        }
        let Some(service) = given.and_then(|given| given.service.as_ref()) else {
            let message = "a backend is a Service here";
            self.report(field(path, "service"), FindingCode::Missing, message);
            return None;
        };
        let port_name = Some(service.port.name.as_str()).filter(|name| !name.is_empty());
        if service.port.number.is_none() && port_name.is_none() {
            let message = "it needs the number or the name of a port";
            self.report(field(path, "service.port"), FindingCode::Missing, message);
            return None;
        }
        let namespace = self.object.namespace();
        let host = format!("{}.{namespace}.svc.cluster.local", service.name);
        let port_name = port_name.map(Into::into);
        Some(Backend { port_name, ..Backend::to(host, service.port.number) })
    }

    /// What a path matches, and its place in the order.
    fn matches(&mut self, given: &IngressPath, path: &str) -> ((u8, isize), Vec<Match>) {
        let text = given.path.as_str();
        let prefixes = (1, -isize::try_from(text.len()).unwrap_or(isize::MAX));
        let of = |text_match| Match { path: Some(text_match), ..Match::default() };
        match given.path_type {
            PathType::Exact => ((0, 0), vec![of(TextMatch::Exact(text.into()))]),
            PathType::Prefix => {
                let whole = text.trim_end_matches('/');
                let below = of(TextMatch::Prefix(format!("{whole}/").into()));
                let matches = match whole {
                    "" => vec![of(TextMatch::Prefix("/".into()))],
                    // By elements: `/a` is over `/a/b`, not over `/ab`.
                    whole => vec![of(TextMatch::Exact(whole.into())), below],
                };
                (prefixes, matches)
            }
            PathType::ImplementationSpecific => {
                if matches!(text, "" | "*" | "/*" | ".*") {
                    return ((2, 0), Vec::new());
                }
                let prefix = [".*", "/*"].iter().find_map(|end| text.strip_suffix(end));
                if text[..prefix.map_or(text.len(), str::len)].contains(['*', '(', '[', '+', '?']) {
                    let message = "as in Istio only a final .* or /* has a meaning in a path";
                    self.report(field(path, "path"), FindingCode::NoEffect, message);
                }
                match prefix {
                    Some(prefix) => (prefixes, vec![of(TextMatch::Prefix(prefix.into()))]),
                    None => ((0, 0), vec![of(TextMatch::Exact(text.into()))]),
                }
            }
        }
    }
}

/// The host of a rule: a name, `*.suffix`, or `*` if it has none.
fn host(given: &IngressRule) -> Name {
    match given.host.to_ascii_lowercase() {
        host if host.is_empty() => "*".into(),
        host => host.into(),
    }
}

fn rule(matches: Vec<Match>, to: Backend) -> Rule {
    Rule { matches, action: Action::Forward(vec![to]), ..Rule::default() }
}

/// A rule that holds for a host only, since other rules of the object have others.
fn for_host(host: &str, rule: Rule) -> Rule {
    if host == "*" {
        return rule;
    }
    let (wildcard, rest) = host.strip_prefix('*').map_or(("", host), |rest| (".+", rest));
    let escaped = rest.replace('.', r"\.");
    let authority = Some(TextMatch::Regex(format!("(?i){wildcard}{escaped}(:[0-9]+)?").into()));
    let mut matches = rule.matches;
    if matches.is_empty() {
        matches.push(Match::default());
    }
    matches.iter_mut().for_each(|m| m.authority.clone_from(&authority));
    Rule { matches, ..rule }
}

/// Where the parts of a route stand in an Ingress, as near as findings come: its rules are sorted.
const FIELDS: RouteFields = RouteFields {
    hosts: "spec.rules",
    rules: "spec.rules",
    backends: "backend",
    destination: "service",
    host: "name",
    port: "port",
    ..RouteFields::VIRTUAL_SERVICE
};

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests;
