//! `ServiceEntry`, where its translation does not say it itself.

use serde_json::Value;

use super::{
    Check, UNIX, at, is_domain, is_full_name, is_given, is_http, is_label, is_one_of, is_tls,
    items, text, texts,
};
use crate::path::{field, item};

impl Check<'_> {
    pub(super) fn service_entry(&mut self, spec: &Value) {
        let selector = at(spec, "workloadSelector");
        self.selector(selector, "labels", "spec.workloadSelector");
        self.export_to(at(spec, "exportTo"));
        let hosts = texts(at(spec, "hosts"));
        for (at, host) in hosts.iter().enumerate() {
            if *host == "*" || !is_domain(host) {
                self.refuse(&item("spec.hosts", at), format!("{host:?} is no host of an entry"));
            }
        }
        let ports = items(spec, "ports", "spec");
        for (port, path) in &ports {
            self.port_name(text(port, "name"), &field(path, "name"));
            self.protocol(port, path);
            self.port(port, "number", path);
        }
        let resolution = text(spec, "resolution");
        for (endpoint, path) in items(spec, "endpoints", "spec") {
            self.endpoint(endpoint, resolution, &path);
            let names = at(endpoint, "ports").as_object().into_iter().flatten();
            for (name, _) in names {
                self.port_name(name, &field(&field(&path, "ports"), name));
            }
            if text(endpoint, "address").starts_with(UNIX) && ports.len() != 1 {
                let message = "an endpoint at a unix socket is for an entry with one port";
                self.refuse(&field(&path, "address"), message);
            }
        }
        if resolution == "DYNAMIC_DNS" {
            self.dynamic(spec, &hosts, &ports);
        }
        // Of connections that say no name nobody knows which host they are for.
        let is_plain = |(port, _): &&(&Value, String)| !is_http(port) && !is_tls(port);
        if !matches!(resolution, "" | "NONE")
            && hosts.len() > 1
            && let Some((_, path)) = ports.iter().find(is_plain)
        {
            let message = "on a port that is neither HTTP nor TLS several hosts are not told apart";
            self.refuse(&field(path, "protocol"), message);
        }
    }

    /// Hosts that are resolved when they are called.
    fn dynamic(&mut self, spec: &Value, hosts: &[&str], ports: &[(&Value, String)]) {
        for (at, host) in hosts.iter().enumerate().filter(|(_, host)| !host.starts_with('*')) {
            let message = format!("{host:?} has no *; with DYNAMIC_DNS each host has");
            self.refuse(&item("spec.hosts", at), message);
        }
        if is_given(spec, "addresses") && !texts(at(spec, "addresses")).is_empty() {
            self.refuse("spec.addresses", "with DYNAMIC_DNS there are no addresses");
        }
        for (port, path) in ports {
            if !is_one_of(&["HTTP", "HTTP2", "GRPC", "TLS"], port, "protocol") {
                let message = "with DYNAMIC_DNS this takes HTTP, HTTP2, GRPC or TLS";
                self.refuse(&field(path, "protocol"), message);
            }
        }
    }

    /// An endpoint of an entry.
    fn endpoint(&mut self, given: &Value, resolution: &str, path: &str) {
        let address = text(given, "address");
        let by_name = matches!(resolution, "DNS" | "DNS_ROUND_ROBIN");
        let is_address = address.parse::<std::net::IpAddr>().is_ok();
        if by_name && !is_address && !is_full_name(address) {
            let message = format!("{address:?} is no IP address and no name");
            self.refuse(&field(path, "address"), message);
        } else if resolution == "STATIC" {
            self.workload(given, path);
        }
        self.labels(at(given, "labels"), &field(path, "labels"));
    }

    pub(super) fn port_name(&mut self, given: &str, path: &str) {
        if !is_label(given) {
            self.refuse(path, format!("{given:?} is no name of a port: letters, digits and -"));
        }
    }
}
