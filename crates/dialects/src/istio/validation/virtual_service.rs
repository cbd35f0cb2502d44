//! `VirtualService`.

use ironmesh_model::host::intersection;
use ironmesh_model::settings::parse_duration;
use serde_json::Value;

use super::{Check, at, is_domain, is_given, is_label, items, text, texts};
use crate::path::{field, item};

impl Check<'_> {
    pub(super) fn virtual_service(&mut self, spec: &Value) {
        let hosts = texts(at(spec, "hosts"));
        let gateways = texts(at(spec, "gateways"));
        let at_gateways = gateways.iter().any(|gateway| *gateway != "mesh");
        let names_servers =
            |(rule, path): &(&Value, String)| !items(rule, "match", path).is_empty();
        let by_server_name = items(spec, "tls", "spec").iter().any(names_servers);
        for (at, host) in hosts.iter().enumerate() {
            let path = item("spec.hosts", at);
            if let Some(other) =
                hosts[..at].iter().find(|other| intersection(other, host).is_some())
            {
                let message = match other == host {
                    true => format!("{host} is listed twice"),
                    false => format!("{other} is listed, too, and has hosts in common with it"),
                };
                self.refuse(&path, message);
            }
            if !(at_gateways && by_server_name && is_of_network_gateway(host)) {
                self.host(host, &path);
            }
        }
        for (at, gateway) in gateways.iter().enumerate() {
            self.gateway_name(gateway, &item("spec.gateways", at));
        }
        self.export_to(at(spec, "exportTo"));
        for (rule, path) in items(spec, "http", "spec") {
            self.rule(rule, &path, at_gateways);
        }
        for (rule, path) in items(spec, "tls", "spec") {
            for (alternative, path) in items(rule, "match", &path) {
                self.caller(alternative, &path);
                self.server_names(alternative, &hosts, &path);
            }
            self.routes(rule, &path);
        }
        for (rule, path) in items(spec, "tcp", "spec") {
            for (alternative, path) in items(rule, "match", &path) {
                self.caller(alternative, &path);
            }
            self.routes(rule, &path);
        }
    }

    fn rule(&mut self, rule: &Value, path: &str, at_gateways: bool) {
        for (alternative, path) in items(rule, "match", path) {
            self.alternative(alternative, &path, at_gateways);
        }
        self.routes(rule, path);
        for name in ["mirror", "mirrors"] {
            if name == "mirror" && is_given(rule, name) {
                self.destination(at(rule, name), &field(path, name));
            }
            for (mirror, path) in items(rule, name, path) {
                self.destination(at(mirror, "destination"), &field(&path, "destination"));
            }
        }
        self.mirror_share(rule, path);
        self.redirect(rule, path);
        self.authority(rule, path);
        self.duration(rule, "timeout", path);
        self.retries(at(rule, "retries"), &field(path, "retries"));
        let delay = at(at(rule, "fault"), "delay");
        self.duration(delay, "fixedDelay", &format!("{path}.fault.delay"));
        if is_given(at(at(rule, "fault"), "abort"), "http2Error") {
            let message = "no stream is reset on purpose; use httpStatus or grpcStatus";
            self.refuse(&format!("{path}.fault.abort.http2Error"), message);
        }
        self.cors(at(rule, "corsPolicy"), &field(path, "corsPolicy"));
        self.headers(rule, path);
    }

    /// How many requests are copied, which is looked at without a mirror, too.
    fn mirror_share(&mut self, rule: &Value, path: &str) {
        let share = at(at(rule, "mirrorPercentage"), "value").as_f64();
        let old = at(rule, "mirrorPercent").as_f64();
        if [share, old].into_iter().flatten().any(|share| !(0.0..=100.0).contains(&share)) {
            let path = field(path, "mirrorPercentage");
            self.refuse(&path, "a share is from 0 to 100 percent");
        }
    }

    /// A prefix is replaced where one has matched only.
    fn redirect(&mut self, rule: &Value, path: &str) {
        if text(at(rule, "redirect"), "prefixRewrite").is_empty() {
            return;
        }
        let conditions = items(rule, "match", path);
        let paths = conditions.iter().map(|(condition, _)| at(condition, "uri"));
        if paths.into_iter().any(|uri| !uri.is_null() && uri["prefix"].is_null()) {
            let message = "each condition on uri is a prefix where a prefix is replaced";
            self.refuse(&format!("{path}.redirect.prefixRewrite"), message);
        }
    }

    /// The authority of a request is replaced in one place.
    fn authority(&mut self, rule: &Value, path: &str) {
        let is_set = |(name, _): &(&String, &Value)| {
            *name == ":authority" || name.eq_ignore_ascii_case("host")
        };
        let request = at(at(rule, "headers"), "request");
        let maps = ["set", "add"].map(|map| at(request, map).as_object());
        let by_header = maps.into_iter().flatten().flatten().filter(is_set).count();
        let by_rewrite = usize::from(!text(at(rule, "rewrite"), "authority").is_empty());
        if by_header + by_rewrite > 1 {
            let message = "the authority is replaced in one place: by rewrite or by one header";
            self.refuse(&format!("{path}.headers.request"), message);
        }
    }

    fn alternative(&mut self, given: &Value, path: &str, at_gateways: bool) {
        self.caller(given, path);
        self.regex(at(given, "uri"), &field(path, "uri"));
        for name in ["scheme", "method", "authority"] {
            self.text_match(at(given, name), &field(path, name));
        }
        for map in ["headers", "withoutHeaders", "queryParams"] {
            let path = field(path, map);
            for (name, text) in at(given, map).as_object().into_iter().flatten() {
                let here = field(&path, name);
                // An expression that is none, but Istio's word for a header that is there.
                if map != "withoutHeaders" || text["regex"] != "*" {
                    self.text_match(text, &here);
                }
                if map == "queryParams" {
                    continue;
                }
                if name.starts_with("@request.auth.claims") {
                    if !at_gateways {
                        self.refuse(&here, "claims of users are known at gateways only");
                    }
                } else if !is_header(name) {
                    self.refuse(&here, format!("{name:?} is no name of a header"));
                }
            }
        }
    }

    /// Conditions on who calls.
    fn caller(&mut self, given: &Value, path: &str) {
        self.labels(at(given, "sourceLabels"), &field(path, "sourceLabels"));
        for (gateway, path) in items(given, "gateways", path) {
            self.gateway_name(gateway.as_str().unwrap_or_default(), &path);
        }
        // Of connections Istio takes any text.
        let is_request = path.starts_with("spec.http");
        let namespace = at(given, "sourceNamespace").as_str().unwrap_or_default();
        if is_request && !namespace.is_empty() && !is_label(namespace) {
            self.refuse(&field(path, "sourceNamespace"), format!("{namespace:?} is no namespace"));
        }
        for (network, path) in items(given, "destinationSubnets", path) {
            let text = network.as_str().unwrap_or_default();
            if !is_network(text) {
                self.refuse(&path, format!("{text:?} is no network, such as 10.0.0.0/8"));
            }
        }
    }

    fn server_names(&mut self, given: &Value, hosts: &[&str], path: &str) {
        let names = items(given, "sniHosts", path);
        if names.is_empty() {
            self.refuse(&field(path, "sniHosts"), "a match of TLS names a host");
        }
        for (name, path) in names {
            let name = name.as_str().unwrap_or_default();
            // Of which the translation says that no client names it.
            if name.parse::<std::net::IpAddr>().is_ok() {
                continue;
            }
            let is_within = |host: &&str| match host.strip_prefix('*') {
                Some(suffix) => name.ends_with(suffix),
                None => name == *host,
            };
            if !hosts.iter().any(is_within) {
                self.refuse(&path, format!("{name:?} is within none of spec.hosts"));
            }
        }
    }

    /// Destinations and their weights.
    fn routes(&mut self, rule: &Value, path: &str) {
        let routes = items(rule, "route", path);
        for (route, path) in &routes {
            if is_given(route, "destination") {
                self.destination(at(route, "destination"), &field(path, "destination"));
            }
            self.headers(route, path);
        }
        let weights =
            routes.iter().map(|(route, _)| at(route, "weight").as_i64().unwrap_or_default());
        if routes.len() > 1 && weights.sum::<i64>() == 0 {
            self.refuse(&field(path, "route"), "of several destinations one has a weight above 0");
        }
    }

    pub(super) fn destination(&mut self, given: &Value, path: &str) {
        let host = at(given, "host").as_str().unwrap_or_default();
        if host == "*" || !host.is_empty() && !is_domain(host) {
            self.refuse(&field(path, "host"), format!("{host:?} is no host of a destination"));
        }
        let subset = at(given, "subset").as_str().unwrap_or_default();
        if !subset.is_empty() && !is_label(subset) {
            let message = format!("{subset:?} is no name of a subset: letters, digits and -");
            self.refuse(&field(path, "subset"), message);
        }
        let port = at(given, "port");
        if !port.is_null() && at(port, "number").as_i64().unwrap_or_default() == 0 {
            self.refuse(&format!("{path}.port.number"), "a port is from 1 to 65535");
        }
    }

    fn retries(&mut self, given: &Value, path: &str) {
        let attempts = at(given, "attempts").as_i64().unwrap_or_default();
        let more = ["perTryTimeout", "retryOn", "retryRemoteLocalities"];
        let says_more = more.iter().any(|name| is_given(given, name));
        if !given.is_null() && attempts == 0 && says_more {
            self.refuse(path, "with 0 attempts nothing else may be given");
        }
        self.duration(given, "perTryTimeout", path);
        self.duration(given, "backoff", path);
    }

    fn cors(&mut self, given: &Value, path: &str) {
        for (origin, path) in items(given, "allowOrigins", path) {
            self.regex(origin, &path);
            let texts = ["exact", "prefix"].map(|name| at(origin, name).as_str());
            if !is_given(origin, "regex") && texts.iter().flatten().all(|text| text.is_empty()) {
                self.refuse(&path, "an origin is exact, prefix or regex");
            }
        }
        for (method, path) in items(given, "allowMethods", path) {
            let method = method.as_str().unwrap_or_default();
            if !METHODS.contains(&method) {
                self.refuse(&path, format!("{method:?} is no method: {}", METHODS.join(", ")));
            }
        }
        self.duration(given, "maxAge", path);
        let age = at(given, "maxAge").as_str().and_then(parse_duration);
        if age.is_some_and(|age| age.subsec_nanos() > 0) {
            self.refuse(&field(path, "maxAge"), "browsers take whole seconds");
        }
    }

    /// Operations on headers.
    fn headers(&mut self, of: &Value, path: &str) {
        for side in ["request", "response"] {
            let given = at(at(of, "headers"), side);
            let path = format!("{path}.headers.{side}");
            for map in ["set", "add"] {
                let path = field(&path, map);
                for (name, value) in at(given, map).as_object().into_iter().flatten() {
                    let is_pseudo = name.starts_with(':') && name != ":authority";
                    if name.is_empty() || is_pseudo {
                        self.refuse(&field(&path, name), format!("{name:?} is no header"));
                    }
                    if has_single_percent(value.as_str().unwrap_or_default()) {
                        let message = "a percent sign that begins no operator is written %%";
                        self.refuse(&field(&path, name), message);
                    }
                }
            }
            for (name, path) in items(given, "remove", &path) {
                let name = name.as_str().unwrap_or_default();
                if name.is_empty() || name.starts_with(':') {
                    self.refuse(&path, format!("{name:?} is no header"));
                }
            }
        }
    }
}

/// Those that Istio takes in `allowMethods`.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

/// A name of a header, or one of HTTP/2's pseudo-headers.
fn is_header(name: &str) -> bool {
    let name = name.strip_prefix(':').unwrap_or(name);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Whether it is a name by which proxies of another network name a service to a gateway in front of it:
/// `outbound_.PORT_.SUBSET_.HOST` (`AUTO_PASSTHROUGH`).
fn is_of_network_gateway(host: &str) -> bool {
    let parts: Vec<&str> = host.split('_').collect();
    let ["outbound", port, subset, name] = parts[..] else { return false };
    let is_port = port.strip_prefix('.').is_some_and(|port| port.parse::<u16>().is_ok());
    is_port && subset.starts_with('.') && name.strip_prefix('.').is_some_and(is_domain)
}

/// An address, with or without the length of a prefix.
fn is_network(text: &str) -> bool {
    let (address, length) = text.split_once('/').unwrap_or((text, "0"));
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let max = if address.is_ipv4() { 32 } else { 128 };
    length.parse::<u8>().is_ok_and(|length| length <= max)
}

/// Whether a percent sign begins no operator that ends: `%NAME%` or `%NAME(ARGUMENT)%`, in whose argument
/// percent signs may stand.
fn has_single_percent(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        rest = &rest[at + 1..];
        let open = rest.find('(').zip(rest.find('%')).filter(|(open, end)| open < end);
        let argument = match open {
            Some((open, _)) => match rest[open..].find(')') {
                Some(closed) => open + closed,
                None => return true,
            },
            None => 0,
        };
        match rest[argument..].find('%') {
            Some(end) => rest = &rest[argument + end + 1..],
            None => return true,
        }
    }
    false
}
