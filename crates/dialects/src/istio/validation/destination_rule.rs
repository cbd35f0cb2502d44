//! `DestinationRule`.

use std::collections::BTreeSet;

use ironmesh_model::{Finding, FindingCode};
use serde_json::Value;

use super::{Check, at, is_domain, is_full_name, is_given, is_label, items, text, texts};
use crate::path::field;

impl Check<'_> {
    pub(super) fn destination_rule(&mut self, spec: &Value) {
        let host = at(spec, "host").as_str().unwrap_or_default();
        if !host.is_empty() && !is_domain(host) {
            self.refuse("spec.host", format!("{host:?} is no host"));
        }
        self.export_to(at(spec, "exportTo"));
        let own = self.object.namespace().clone();
        let is_own = |namespace: &&str| *namespace == "." || **namespace == *own;
        if is_given(spec, "workloadSelector") && !texts(at(spec, "exportTo")).iter().all(is_own) {
            let message = "a rule with a workloadSelector is for its own namespace only";
            self.refuse("spec.exportTo", message);
        }
        self.selector(at(spec, "workloadSelector"), "matchLabels", "spec.workloadSelector");
        self.policy(at(spec, "trafficPolicy"), "spec.trafficPolicy");
        let mut names = BTreeSet::new();
        for (subset, path) in items(spec, "subsets", "spec") {
            let name = at(subset, "name").as_str().unwrap_or_default();
            let name_at = field(&path, "name");
            if !name.is_empty() && !is_label(name) {
                self.refuse(
                    &name_at,
                    format!("{name:?} is no name of a subset: letters, digits and -"),
                );
            } else if !name.is_empty() && !names.insert(name) {
                self.refuse(&name_at, format!("two subsets are called {name:?}"));
            }
            self.labels(at(subset, "labels"), &field(&path, "labels"));
            self.policy(at(subset, "trafficPolicy"), &field(&path, "trafficPolicy"));
        }
    }

    fn policy(&mut self, given: &Value, path: &str) {
        if given.is_null() {
            return;
        }
        if !SECTIONS.iter().any(|name| is_given(given, name)) {
            self.refuse(path, "a policy says something");
        }
        if is_given(given, "tunnel") && is_given(given, "proxyProtocol") {
            self.refuse(
                &field(path, "proxyProtocol"),
                "tunnel and proxyProtocol exclude each other",
            );
        }
        self.tunnel(at(given, "tunnel"), &field(path, "tunnel"));
        let share = at(at(given, "retryBudget"), "percent").as_f64();
        if share.is_some_and(|share| !(0.0..=100.0).contains(&share)) {
            let path = format!("{path}.retryBudget.percent");
            self.refuse(&path, "this takes a share from 0 to 100 percent");
        }
        self.sections(given, path);
        for (port, path) in items(given, "portLevelSettings", path) {
            if !is_given(port, "port") {
                self.refuse(&field(&path, "port"), "the policy of a port names it by number");
            } else if at(at(port, "port"), "number").as_i64().unwrap_or_default() == 0 {
                let message = "without a number it is the policy of no port";
                self.found.push(Finding::new(
                    self.object.id(),
                    field(&path, "port"),
                    FindingCode::NoEffect,
                    message,
                ));
            }
            if !SECTIONS_OF_PORTS.iter().any(|name| is_given(port, name)) {
                self.refuse(&path, "the policy of a port says something beside the port");
            }
            self.sections(port, &path);
        }
    }

    fn sections(&mut self, given: &Value, path: &str) {
        self.pool(at(given, "connectionPool"), &field(path, "connectionPool"));
        self.outlier(at(given, "outlierDetection"), &field(path, "outlierDetection"));
        self.client_tls(at(given, "tls"), &field(path, "tls"));
        self.balancer(at(given, "loadBalancer"), &field(path, "loadBalancer"));
    }

    fn tunnel(&mut self, given: &Value, path: &str) {
        if given.is_null() {
            return;
        }
        if !matches!(text(given, "protocol"), "" | "CONNECT" | "POST") {
            self.refuse(&field(path, "protocol"), "a tunnel is made by CONNECT or POST");
        }
        let host = text(given, "targetHost");
        if !is_full_name(host) && host.parse::<std::net::IpAddr>().is_err() {
            self.refuse(&field(path, "targetHost"), format!("{host:?} is no host"));
        }
        self.port(given, "targetPort", path);
    }

    pub(super) fn pool(&mut self, given: &Value, path: &str) {
        if given.is_null() {
            return;
        }
        if !is_given(given, "tcp") && !is_given(given, "http") {
            self.refuse(path, "a pool has tcp or http");
        }
        let (tcp, path_of_tcp) = (at(given, "tcp"), field(path, "tcp"));
        self.not_negative(tcp, "maxConnections", &path_of_tcp);
        self.duration(tcp, "connectTimeout", &path_of_tcp);
        self.duration(tcp, "maxConnectionDuration", &path_of_tcp);
        let (keepalive, path_of_it) =
            (at(tcp, "tcpKeepalive"), field(&path_of_tcp, "tcpKeepalive"));
        self.duration(keepalive, "time", &path_of_it);
        self.duration(keepalive, "interval", &path_of_it);
        let (http, path) = (at(given, "http"), field(path, "http"));
        for name in [
            "http1MaxPendingRequests",
            "http2MaxRequests",
            "maxRequestsPerConnection",
            "maxRetries",
            "maxConcurrentStreams",
        ] {
            self.not_negative(http, name, &path);
        }
        self.duration(http, "idleTimeout", &path);
        if is_given(http, "http2KeepAlive") {
            let (given, path) = (at(http, "http2KeepAlive"), field(&path, "http2KeepAlive"));
            for name in ["interval", "timeout"] {
                if !is_given(given, name) {
                    self.refuse(&field(&path, name), "interval and timeout are both given");
                }
                self.duration(given, name, &path);
            }
        }
        let upgrades = at(http, "h2UpgradePolicy") == "UPGRADE";
        if upgrades && at(http, "useClientProtocol").as_bool() == Some(true) {
            let message = "with h2UpgradePolicy UPGRADE the client's protocol is not kept";
            self.refuse(&field(&path, "useClientProtocol"), message);
        }
    }

    fn outlier(&mut self, given: &Value, path: &str) {
        self.duration(given, "interval", path);
        self.duration(given, "baseEjectionTime", path);
        self.percent(given, "maxEjectionPercent", path);
        self.percent(given, "minHealthPercent", path);
        let local = at(given, "consecutiveLocalOriginFailures").as_i64().unwrap_or_default();
        if local > 0 && at(given, "splitExternalLocalOriginErrors").as_bool() != Some(true) {
            let message = "it counts only beside splitExternalLocalOriginErrors: true";
            self.refuse(&field(path, "consecutiveLocalOriginFailures"), message);
        }
    }

    fn client_tls(&mut self, given: &Value, path: &str) {
        let says = |name: &str| !text(given, name).is_empty();
        let mode = text(given, "mode");
        let names_nobody = !is_given(given, "subjectAltNames");
        if at(given, "insecureSkipVerify").as_bool() == Some(true) {
            let by_secret = mode == "SIMPLE" && says("credentialName");
            if matches!(mode, "SIMPLE" | "MUTUAL")
                && (says("caCertificates") || by_secret || !names_nobody)
            {
                let message = "who verifies nothing has neither authorities nor names";
                self.refuse(&field(path, "insecureSkipVerify"), message);
            }
        }
        let files = ["clientCertificate", "privateKey", "caCertificates", "caCrl"];
        if says("credentialName") && matches!(mode, "SIMPLE" | "MUTUAL") {
            for name in files.into_iter().filter(|name| says(name)) {
                self.refuse(&field(path, name), "the Secret of credentialName has it");
            }
        } else if mode == "MUTUAL" {
            for name in ["clientCertificate", "privateKey"] {
                if !says(name) {
                    let message = format!("MUTUAL takes credentialName, or files with a {name}");
                    self.refuse(&field(path, name), message);
                }
            }
        }
    }

    fn balancer(&mut self, given: &Value, path: &str) {
        let (hash, path_of_hash) = (at(given, "consistentHash"), field(path, "consistentHash"));
        let cookie = at(hash, "httpCookie");
        let path_of_cookie = field(&path_of_hash, "httpCookie");
        if is_given(hash, "httpCookie") && text(cookie, "name").is_empty() {
            self.refuse(&field(&path_of_cookie, "name"), "a cookie has a name");
        }
        let mut names = BTreeSet::new();
        for (attribute, path) in items(cookie, "attributes", &path_of_cookie) {
            let name = text(attribute, "name");
            if name.is_empty() || !names.insert(name) {
                self.refuse(&field(&path, "name"), "an attribute has a name of its own");
            }
        }
        let maglev = at(hash, "maglev");
        if at(hash, "minimumRingSize").as_i64().is_some_and(|size| size != 0)
            && (is_given(hash, "maglev") || is_given(hash, "ringHash"))
        {
            let message = "it is now ringHash.minimumRingSize, and stands beside nothing else";
            self.refuse(&field(&path_of_hash, "minimumRingSize"), message);
        }
        let size = at(maglev, "tableSize").as_i64().unwrap_or_default();
        if is_given(hash, "maglev") && !(1 < size && size < TABLE_MAX && is_prime(size)) {
            let message = format!("this takes a prime number below {TABLE_MAX}");
            self.refuse(&format!("{path_of_hash}.maglev.tableSize"), message);
        }
        if is_given(given, "localityLbSetting") && is_given(given, "zoneAwareLbSetting") {
            let message = "localityLbSetting and zoneAwareLbSetting exclude each other";
            self.refuse(&field(path, "zoneAwareLbSetting"), message);
        }
        for name in ["localityLbSetting", "zoneAwareLbSetting"] {
            self.locality(at(given, name), &field(path, name), name == "zoneAwareLbSetting");
        }
        self.warmup(at(given, "warmup"), &field(path, "warmup"));
    }

    fn warmup(&mut self, given: &Value, path: &str) {
        if given.is_null() {
            return;
        }
        if !is_given(given, "duration") {
            self.refuse(&field(path, "duration"), "this takes how long an endpoint warms up");
        }
        self.duration(given, "duration", path);
        if at(given, "minimumPercent").as_f64().is_some_and(|share| !(0.0..=100.0).contains(&share))
        {
            self.refuse(&field(path, "minimumPercent"), "this takes a share from 0 to 100 percent");
        }
        if at(given, "aggression").as_f64().is_some_and(|given| given <= 0.0) {
            self.refuse(&field(path, "aggression"), "this takes a number above 0");
        }
    }

    fn locality(&mut self, given: &Value, path: &str, by_zone: bool) {
        let (distribute, failover) =
            (items(given, "distribute", path), items(given, "failover", path));
        if !distribute.is_empty() && !failover.is_empty() {
            return self.refuse(path, "it has distribute or failover, not both");
        }
        for (label, path) in items(given, "failoverPriority", path) {
            let is_topology = label.as_str().is_some_and(|label| TOPOLOGY.contains(&label));
            if is_topology && (by_zone || !failover.is_empty()) {
                let message = "labels of regions and zones stand neither beside failover nor in a \
                               zoneAwareLbSetting";
                self.refuse(&path, message);
            }
        }
        for (one, path) in failover {
            let (from, to) = (text(one, "from"), text(one, "to"));
            if from == to {
                self.refuse(&field(&path, "to"), "another region stands in");
            }
            for (name, region) in [("from", from), ("to", to)] {
                if region.contains(['/', '*']) {
                    self.refuse(&field(&path, name), "this takes the name of a region");
                }
            }
        }
        let from: Vec<&str> = distribute.iter().map(|(one, _)| text(one, "from")).collect();
        self.localities(&from, &field(path, "distribute"));
        for (one, path) in distribute {
            let path = field(&path, "to");
            let shares = at(one, "to").as_object();
            let names: Vec<&str> =
                shares.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            self.localities(&names, &path);
            let shares = || shares.into_iter().flatten().filter_map(|(_, share)| share.as_i64());
            let sum: i64 = shares().sum();
            if sum != 100 || shares().any(|share| share < 1) {
                let message = format!("shares are 1 and more and sum up to 100, not to {sum}");
                self.refuse(&path, message);
            }
        }
    }

    /// Localities, of which none is within another: REGION/ZONE/SUBZONE, or with `*` at the end.
    fn localities(&mut self, given: &[&str], path: &str) {
        for (at, one) in given.iter().enumerate() {
            let stars = one.matches('*').count();
            if stars > 1 || stars == 1 && !one.ends_with('*') || one.split('/').any(str::is_empty) {
                self.refuse(path, format!("{one:?} is no locality: REGION/ZONE/SUBZONE, or /*"));
            } else if given.iter().enumerate().any(|(other, of)| other != at && is_part(one, of)) {
                self.refuse(path, format!("{one:?} is a part of another one"));
            }
        }
    }
}

/// Whether a locality is within another one, or the same.
fn is_part(one: &str, of: &str) -> bool {
    let of = of.strip_suffix('*').map_or(of, |of| of.trim_end_matches('/'));
    let one = one.strip_suffix('*').map_or(one, |one| one.trim_end_matches('/'));
    of.is_empty() || one == of || one.strip_prefix(of).is_some_and(|rest| rest.starts_with('/'))
}

fn is_prime(number: i64) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 1 && divisors.all(|divisor| number % divisor != 0)
}

/// One of these is in each policy.
const SECTIONS: [&str; 8] = [
    "outlierDetection",
    "connectionPool",
    "loadBalancer",
    "tls",
    "portLevelSettings",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];

/// One of these is in each policy of a port.
const SECTIONS_OF_PORTS: [&str; 4] = ["outlierDetection", "connectionPool", "loadBalancer", "tls"];

/// Labels from which localities come.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// Tables of maglev are smaller, as in Envoy.
const TABLE_MAX: i64 = 5_000_011;
