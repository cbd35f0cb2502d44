//! `Sidecar`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Check, UNIX, at, is_domain, is_full_name, is_given, is_label, is_tls, items, text};
use crate::path::field;

impl Check<'_> {
    pub(super) fn sidecar(&mut self, spec: &Value) {
        self.selector(at(spec, "workloadSelector"), "labels", "spec.workloadSelector");
        let (ingress, egress) = (items(spec, "ingress", "spec"), items(spec, "egress", "spec"));
        let says = |name| is_given(spec, name);
        if ingress.is_empty()
            && egress.is_empty()
            && !says("outboundTrafficPolicy")
            && !says("inboundConnectionPool")
        {
            self.refuse("spec", "a Sidecar has egress, ingress, or a policy");
        }
        self.pool(at(spec, "inboundConnectionPool"), "spec.inboundConnectionPool");
        let mut numbers = BTreeSet::new();
        for (listener, path) in &ingress {
            self.ingress(listener, path);
            let number = at(at(listener, "port"), "number").as_i64();
            if number.is_some_and(|number| !numbers.insert(number)) {
                self.refuse(&field(path, "port"), "two listeners have this port");
            }
        }
        let last = egress.len().saturating_sub(1);
        let (mut numbers, mut sockets) = (BTreeSet::new(), BTreeSet::new());
        for (number, (listener, path)) in egress.iter().enumerate() {
            self.egress(listener, path);
            let port = at(listener, "port");
            let is_twice = if port.is_null() {
                if number < last {
                    let message = "a listener without a port is the one for all others: the last";
                    self.refuse(&field(path, "port"), message);
                }
                false
            } else {
                match at(port, "number").as_i64().unwrap_or_default() {
                    0 => !sockets.insert(text(listener, "bind")),
                    number => !numbers.insert(number),
                }
            };
            if is_twice {
                self.refuse(&field(path, "port"), "two listeners have this port");
            }
        }
        self.outbound(at(spec, "outboundTrafficPolicy"), "spec.outboundTrafficPolicy");
    }

    fn ingress(&mut self, given: &Value, path: &str) {
        if !is_given(given, "port") {
            return self.refuse(&field(path, "port"), "a listener of ingress has a port");
        }
        let port = at(given, "port");
        self.sidecar_port(port, &field(path, "port"));
        self.port(port, "number", &field(path, "port"));
        self.bind(given, path);
        self.pool(at(given, "connectionPool"), &field(path, "connectionPool"));
        let (endpoint, path_of_endpoint) =
            (text(given, "defaultEndpoint"), field(path, "defaultEndpoint"));
        if endpoint.starts_with(UNIX) {
            self.unix_socket(endpoint, &path_of_endpoint);
        } else if !endpoint.is_empty() && !is_own_address(endpoint) {
            let message = "this takes 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT, or \
                           unix:///PATH";
            self.refuse(&path_of_endpoint, message);
        }
        if is_given(given, "tls") {
            self.ingress_tls(at(given, "tls"), is_tls(port), &field(path, "tls"));
        }
    }

    fn ingress_tls(&mut self, given: &Value, is_tls: bool, path: &str) {
        for name in [
            "subjectAltNames",
            "httpsRedirect",
            "credentialName",
            "credentialNames",
            "tlsCertificates",
        ] {
            let value = at(given, name);
            let asks = match value {
                Value::Array(items) => !items.is_empty(),
                Value::String(text) => !text.is_empty(),
                Value::Bool(asks) => *asks,
                _ => false,
            };
            if asks {
                self.refuse(&field(path, name), "a Sidecar's listener has no such setting");
            }
        }
        if matches!(text(given, "mode"), "ISTIO_MUTUAL" | "AUTO_PASSTHROUGH") {
            self.refuse(&field(path, "mode"), "a Sidecar's listener has no such mode");
        }
        if !is_tls {
            self.refuse(path, "a port of plaintext has no tls");
        }
        self.tls_options(given, path);
    }

    fn egress(&mut self, given: &Value, path: &str) {
        let port = at(given, "port");
        if !port.is_null() {
            let path_of_port = field(path, "port");
            self.sidecar_port(port, &path_of_port);
            if at(port, "number").as_i64().unwrap_or_default() == 0 {
                let bind = text(given, "bind");
                if bind.starts_with(UNIX) {
                    self.unix_socket(bind, &field(path, "bind"));
                } else {
                    let message = "a port is from 1 to 65535, or bind is unix:///PATH";
                    self.refuse(&field(&path_of_port, "number"), message);
                }
                if text(given, "captureMode") == "IPTABLES" {
                    self.refuse(
                        &field(path, "captureMode"),
                        "nothing is captured for a unix socket",
                    );
                }
            } else {
                self.port(port, "number", &path_of_port);
                self.bind(given, path);
            }
        }
        let hosts = items(given, "hosts", path);
        if hosts.is_empty() {
            self.refuse(&field(path, "hosts"), "a listener of egress names a host");
        }
        for (host, path) in hosts {
            self.seen_host(host.as_str().unwrap_or_default(), &path);
        }
    }

    /// A host that is seen: `NAMESPACE/HOST`.
    fn seen_host(&mut self, given: &str, path: &str) {
        let Some((namespace, host)) = given.split_once('/') else {
            return self.refuse(path, format!("{given:?} is not NAMESPACE/HOST"));
        };
        let bare = namespace.strip_prefix('~').unwrap_or(namespace);
        let is_namespace = matches!(bare, "*" | ".") || is_label(bare);
        if namespace.is_empty() || !bare.is_empty() && !is_namespace {
            self.refuse(path, format!("{namespace:?} is no namespace"));
        }
        let is_partial = host.starts_with('*') && host != "*" && !host.starts_with("*.");
        let is_full = host == "*" || host.contains('.');
        if !is_full || is_partial || !is_domain(host) {
            self.refuse(path, format!("{host:?} is no host: a full name, *.SUFFIX, or *"));
        }
    }

    fn sidecar_port(&mut self, port: &Value, path: &str) {
        let name = text(port, "name");
        if !name.is_empty() {
            self.port_name(name, &field(path, "name"));
        }
        self.protocol(port, path);
        if at(port, "targetPort").as_i64().is_some_and(|port| port > 0) {
            self.refuse(&field(path, "targetPort"), "a Sidecar's port has no target");
        }
    }

    fn outbound(&mut self, given: &Value, path: &str) {
        let proxy = at(given, "egressProxy");
        if text(given, "mode") == "ALLOW_ANY_DYNAMIC_DNS" {
            self.refuse(&field(path, "mode"), "this mode is one of MeshConfig only");
        } else if !proxy.is_null() {
            let path_of_proxy = field(path, "egressProxy");
            if text(given, "mode") != "ALLOW_ANY" {
                return self.refuse(&path_of_proxy, "it goes with mode ALLOW_ANY only");
            }
            if !is_full_name(text(proxy, "host")) {
                self.refuse(&field(&path_of_proxy, "host"), "this takes a full name");
            }
            if !is_given(proxy, "port") {
                return self.refuse(&field(&path_of_proxy, "port"), "this takes a port");
            }
            self.destination(proxy, &path_of_proxy);
        }
    }
}

/// Whether a text is a port of the pod itself: one of its own addresses, or none.
fn is_own_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    matches!(host, "" | "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]")
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}
