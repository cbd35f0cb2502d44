//! `WorkloadEntry`, `WorkloadGroup` and `ProxyConfig`.

use serde_json::Value;

use super::{Check, UNIX, at, is_full_name, is_given, items, text};
use crate::path::field;

impl Check<'_> {
    pub(super) fn workload_entry(&mut self, spec: &Value) {
        self.workload(spec, "spec");
        let address = text(spec, "address");
        if !address.is_empty()
            && !address.starts_with(UNIX)
            && address.parse::<std::net::IpAddr>().is_err()
            && !is_full_name(address)
        {
            self.refuse("spec.address", format!("{address:?} is no IP address and no name"));
        }
    }

    /// What holds wherever a workload is described.
    pub(super) fn workload(&mut self, given: &Value, path: &str) {
        let address = text(given, "address");
        let ports = at(given, "ports").as_object();
        if address.is_empty() && text(given, "network").is_empty() {
            self.refuse(&field(path, "address"), "a workload has an address, or a network");
        } else if address.starts_with(UNIX) {
            self.unix_socket(address, &field(path, "address"));
            if ports.is_some_and(|ports| !ports.is_empty()) {
                self.refuse(&field(path, "ports"), "a unix socket has no ports");
            }
        }
        let path_of_ports = field(path, "ports");
        for (name, _) in ports.into_iter().flatten() {
            self.port_name(name, &field(&path_of_ports, name));
            self.port(&given["ports"], name, &path_of_ports);
        }
        self.labels(at(given, "labels"), &field(path, "labels"));
        self.service_account(given, path);
    }

    fn service_account(&mut self, given: &Value, path: &str) {
        if text(given, "serviceAccount").len() > 253 {
            let message = "the name of a service account has at most 253 letters";
            self.refuse(&field(path, "serviceAccount"), message);
        }
    }

    pub(super) fn workload_group(&mut self, spec: &Value) {
        if !is_given(spec, "template") {
            self.refuse("spec.template", "a group has a template, which may be {}");
        }
        self.service_account(at(spec, "template"), "spec.template");
        self.labels(at(at(spec, "metadata"), "labels"), "spec.metadata.labels");
        if is_given(spec, "probe") {
            self.probe(at(spec, "probe"), "spec.probe");
        }
    }

    fn probe(&mut self, given: &Value, path: &str) {
        for name in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            self.not_negative(given, name, path);
        }
        let methods = ["httpGet", "tcpSocket", "exec", "grpc"];
        let Some(method) = methods.into_iter().find(|name| is_given(given, name)) else {
            return self.refuse(path, "a probe has httpGet, tcpSocket, or exec");
        };
        let (of, path) = (at(given, method), field(path, method));
        match method {
            "exec" if items(of, "command", &path).is_empty() => {
                self.refuse(&field(&path, "command"), "this takes a command");
            }
            "exec" => {
                for (word, path) in items(of, "command", &path) {
                    if word.as_str() == Some("") {
                        self.refuse(&path, "this takes a word");
                    }
                }
            }
            "grpc" => self.refuse(&path, "there is httpGet, tcpSocket, and exec"),
            _ => self.port(of, "port", &path),
        }
        let scheme = text(of, "scheme");
        if !matches!(scheme, "" | "HTTP" | "HTTPS") {
            self.refuse(&field(&path, "scheme"), "this takes HTTP or HTTPS");
        }
        for (header, path) in items(of, "httpHeaders", &path) {
            let name = text(header, "name");
            if !super::is_token(name) {
                self.refuse(&field(&path, "name"), format!("{name:?} is no name of a header"));
            }
        }
    }

    pub(super) fn proxy_config(&mut self, spec: &Value) {
        self.selector(at(spec, "selector"), "matchLabels", "spec.selector");
        self.not_negative(spec, "concurrency", "spec");
    }
}
