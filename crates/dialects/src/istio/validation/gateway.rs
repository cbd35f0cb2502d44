//! `Gateway`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Check, at, is_domain, is_given, is_label, items};
use crate::path::field;

impl Check<'_> {
    pub(super) fn gateway(&mut self, spec: &Value) {
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
        let is_full = host == "*" || host.contains('.');
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
        let text = |name: &str| !at(tls, name).as_str().unwrap_or_default().is_empty();
        let redirects = at(tls, "httpsRedirect").as_bool() == Some(true);
        let mode = at(tls, "mode").as_str().unwrap_or_default();
        if !is_tls && !redirects {
            let message = "a server of plaintext has no tls but httpsRedirect";
            return self.refuse(&path, message);
        }
        if !is_tls || text("credentialName") || is_given(tls, "credentialNames") {
            return;
        }
        if matches!(mode, "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL")
            && !is_given(tls, "tlsCertificates")
        {
            for name in ["serverCertificate", "privateKey"] {
                if !text(name) {
                    let message = format!("{mode} takes credentialName, or files with a {name}");
                    self.refuse(&field(&path, name), message);
                }
            }
        }
        if matches!(mode, "MUTUAL" | "OPTIONAL_MUTUAL")
            && !text("caCertificates")
            && !text("caCertCredentialName")
        {
            let message = "it takes the certificates by which clients are known";
            self.refuse(&field(&path, "caCertificates"), message);
        }
    }
}
