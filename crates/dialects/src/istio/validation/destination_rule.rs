//! `DestinationRule`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Check, at, is_domain, is_given, is_subset, items};
use crate::path::field;

impl Check<'_> {
    pub(super) fn destination_rule(&mut self, spec: &Value) {
        let host = at(spec, "host").as_str().unwrap_or_default();
        if !host.is_empty() && !is_domain(host) && host.parse::<std::net::IpAddr>().is_err() {
            self.refuse("spec.host", format!("{host:?} is no host"));
        }
        self.export_to(at(spec, "exportTo"));
        self.selector(at(spec, "workloadSelector"), "spec.workloadSelector");
        self.policy(at(spec, "trafficPolicy"), "spec.trafficPolicy");
        let mut names = BTreeSet::new();
        for (subset, path) in items(spec, "subsets", "spec") {
            let name = at(subset, "name").as_str().unwrap_or_default();
            let name_at = field(&path, "name");
            if !name.is_empty() && !is_subset(name) {
                self.refuse(&name_at, format!("{name:?} is no name of a subset: a-z, 0-9 and -"));
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
        let sections =
            |of: &Value| of.as_object().is_some_and(|of| of.values().any(|v| !v.is_null()));
        if !sections(given) {
            self.refuse(path, "a policy says something");
        }
        self.sections(given, path);
        for (port, path) in items(given, "portLevelSettings", path) {
            let number = at(at(port, "port"), "number").as_i64().unwrap_or_default();
            if number == 0 {
                self.refuse(&field(&path, "port"), "the policy of a port names it by number");
            }
            if port.as_object().is_some_and(|of| of.iter().all(|(k, v)| k == "port" || v.is_null()))
            {
                self.refuse(&path, "the policy of a port says something beside the port");
            }
            self.sections(port, &path);
        }
    }

    fn sections(&mut self, given: &Value, path: &str) {
        self.pool(at(given, "connectionPool"), &field(path, "connectionPool"));
        self.outlier(at(given, "outlierDetection"), &field(path, "outlierDetection"));
        self.client_tls(at(given, "tls"), &field(path, "tls"));
        let balancer = field(path, "loadBalancer");
        let given = at(given, "loadBalancer");
        self.locality(at(given, "localityLbSetting"), &field(&balancer, "localityLbSetting"));
    }

    fn pool(&mut self, given: &Value, path: &str) {
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
        let text = |name: &str| !at(given, name).as_str().unwrap_or_default().is_empty();
        let files = ["clientCertificate", "privateKey", "caCertificates", "caCrl"];
        if text("credentialName") {
            for name in files.into_iter().filter(|name| text(name)) {
                self.refuse(&field(path, name), "the Secret of credentialName has it");
            }
        } else if at(given, "mode") == "MUTUAL" {
            for name in ["clientCertificate", "privateKey"] {
                if !text(name) {
                    let message = format!("MUTUAL takes credentialName, or files with a {name}");
                    self.refuse(&field(path, name), message);
                }
            }
        }
    }

    fn locality(&mut self, given: &Value, path: &str) {
        let (distribute, failover) =
            (items(given, "distribute", path), items(given, "failover", path));
        if !distribute.is_empty() && !failover.is_empty() {
            self.refuse(path, "it has distribute or failover, not both");
        }
        for (one, path) in failover {
            if at(one, "from") == at(one, "to") {
                self.refuse(&field(&path, "to"), "another region stands in");
            }
        }
        for (one, path) in distribute {
            let shares = at(one, "to").as_object().into_iter().flatten();
            let sum: i64 = shares.filter_map(|(_, share)| share.as_i64()).sum();
            if sum != 100 {
                self.refuse(&field(&path, "to"), format!("the shares sum up to 100, not to {sum}"));
            }
        }
    }
}
