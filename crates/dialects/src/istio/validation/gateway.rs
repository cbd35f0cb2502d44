//! `Gateway`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Check, UNIX, at, is_domain, is_given, is_http, is_label, items, text};
use crate::path::field;

impl Check<'_> {
    pub(super) fn gateway(&mut self, spec: &Value) {
        if !is_label(self.object.name()) {
            self.refuse("metadata.name", "a Gateway's name has no dots");
        }
        let mut names = BTreeSet::new();
        for (server, path) in items(spec, "servers", "spec") {
            let port = at(server, "port");
            let name = at(port, "name").as_str().unwrap_or_default();
            let name_at = format!("{path}.port.name");
            if name.is_empty() && is_given(server, "port") {
                self.refuse(&name_at, "a port has a name");
            } else if !name.is_empty() && !names.insert(name) {
                self.refuse(&name_at, format!("two ports are called {name:?}"));
            }
            let bind = text(server, "bind");
            if bind.starts_with(UNIX) {
                self.unix_socket(bind, &field(&path, "bind"));
                if at(port, "number").as_i64().is_some_and(|number| number != 0) {
                    self.refuse(&format!("{path}.port.number"), "a unix socket has no port");
                }
            } else {
                self.bind(server, &path);
                if is_given(server, "port") {
                    self.port(port, "number", &field(&path, "port"));
                }
            }
            self.protocol(port, &field(&path, "port"));
            if at(port, "targetPort").as_i64().is_some_and(|port| port > 0) {
                self.refuse(&format!("{path}.port.targetPort"), "a Gateway's port has no target");
            }
            for (host, path) in items(server, "hosts", &path) {
                self.served(host.as_str().unwrap_or_default(), &path);
            }
            self.server_tls(server, at(port, "protocol").as_str().unwrap_or_default(), &path);
        }
    }

    /// A host of a server: a full name or wildcard, with or without `NAMESPACE/`.
    fn served(&mut self, given: &str, path: &str) {
        let (namespace, host) = given.split_once('/').unwrap_or(("*", given));
        if !matches!(namespace, "*" | ".") && !is_label(namespace) {
            return self.refuse(path, format!("{namespace:?} is no namespace"));
        }
        let is_partial = host.starts_with('*') && host != "*" && !host.starts_with("*.");
        let is_full = host == "*" || host.contains('.') && !is_partial;
        if host.parse::<std::net::IpAddr>().is_err() && !(is_full && is_domain(host)) {
            self.refuse(path, format!("{host:?} is no host: a full name, *.SUFFIX, or *"));
        }
    }

    fn server_tls(&mut self, server: &Value, protocol: &str, path: &str) {
        let (tls, path) = (at(server, "tls"), field(path, "tls"));
        let is_tls = matches!(protocol.to_ascii_uppercase().as_str(), "HTTPS" | "TLS");
        if !is_given(server, "tls") {
            if is_tls {
                self.refuse(&path, format!("a server of {protocol} has tls"));
            }
            return;
        }
        // As in Istio: a mode that is left out is PASSTHROUGH, which ends no TLS.
        let passes = matches!(text(tls, "mode"), "" | "PASSTHROUGH" | "AUTO_PASSTHROUGH");
        let has_files = CERTIFICATES[..3].iter().any(|name| !text(tls, name).is_empty());
        let may_redirect = is_http(at(server, "port")) && passes && !has_files;
        if !is_tls && !may_redirect {
            let message = "a server of plaintext has no tls but httpsRedirect of an HTTP port";
            return self.refuse(&path, message);
        }
        self.tls_options(tls, &path);
    }

    /// How TLS is ended (`validateTLSOptions`).
    pub(super) fn tls_options(&mut self, tls: &Value, path: &str) {
        let says = |name: &str| match at(tls, name) {
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        for name in ["minProtocolVersion", "maxProtocolVersion"] {
            if at(tls, name).as_str() == Some("") {
                let message = "an empty text is no version; leave it out, or write TLS_AUTO";
                self.refuse(&field(path, name), message);
            }
        }
        for name in ["credentialNames", "tlsCertificates"] {
            if items(tls, name, path).len() > 2 {
                let message = "a server has two certificates at most, of two kinds of key";
                self.refuse(&field(path, name), message);
            }
        }
        let mode = text(tls, "mode");
        if mode == "ISTIO_MUTUAL" {
            for name in CERTIFICATES.into_iter().filter(|name| says(name)) {
                self.refuse(&field(path, name), "with ISTIO_MUTUAL the mesh has the certificates");
            }
            return;
        }
        let files = says("serverCertificate") && says("privateKey");
        let lists = ["credentialName", "credentialNames", "tlsCertificates"];
        let sources = lists.iter().filter(|name| says(name)).count() + usize::from(files);
        if sources > 1 {
            let message = "certificates come from one of credentialName, credentialNames, \
                           tlsCertificates, and serverCertificate with privateKey";
            self.refuse(path, message);
        }
        // Istio's word for a mode that is left out is PASSTHROUGH.
        if !matches!(mode, "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL") {
            return;
        }
        if says("credentialName") || says("credentialNames") {
            return;
        }
        if mode != "SIMPLE" && !says("caCertificates") {
            let message = "it takes the certificates by which clients are known";
            self.refuse(&field(path, "caCertificates"), message);
        }
        let pairs = items(tls, "tlsCertificates", path);
        let pairs = if pairs.is_empty() { vec![(tls, path.to_owned())] } else { pairs };
        for (pair, path) in pairs {
            for name in ["serverCertificate", "privateKey"] {
                if text(pair, name).is_empty() {
                    let message = format!("{mode} takes credentialName, or files with a {name}");
                    self.refuse(&field(&path, name), message);
                }
            }
        }
        if says("caCrl") && mode == "SIMPLE" {
            self.refuse(&field(path, "caCrl"), "with SIMPLE no client shows a certificate");
        }
    }
}

/// Where a server's certificates come from.
const CERTIFICATES: [&str; 6] = [
    "serverCertificate",
    "privateKey",
    "caCertificates",
    "tlsCertificates",
    "credentialName",
    "credentialNames",
];
