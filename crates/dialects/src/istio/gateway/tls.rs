//! `tls` of a server.

use ironmesh_model::listeners::{ClientCertificate, TlsVersion};
use ironmesh_model::snapshot::{GatewayTls, GatewayTlsMode};
use ironmesh_model::{FindingCode, Name};

use super::{ServerTls, ServerTlsMode, Translator};
use crate::path::{field, item};

impl Translator<'_> {
    /// How TLS is spoken; `None` if the server has to stay closed, which is reported.
    pub(super) fn tls(&mut self, given: &ServerTls, http: bool, path: &str) -> Option<GatewayTls> {
        // As in Istio, whose first mode that is.
        let mode = match given.mode.unwrap_or(ServerTlsMode::Passthrough) {
            ServerTlsMode::Simple => GatewayTlsMode::Terminate(ClientCertificate::None),
            ServerTlsMode::Mutual => GatewayTlsMode::Terminate(ClientCertificate::Required),
            ServerTlsMode::OptionalMutual => GatewayTlsMode::Terminate(ClientCertificate::Optional),
            ServerTlsMode::IstioMutual => GatewayTlsMode::Mesh,
            ServerTlsMode::Passthrough => GatewayTlsMode::Passthrough,
            ServerTlsMode::AutoPassthrough => GatewayTlsMode::AutoPassthrough,
        };
        let GatewayTlsMode::Terminate(client) = mode else {
            self.without_certificate(given, path);
            return Some(GatewayTls {
                mode,
                http: http && mode == GatewayTlsMode::Mesh,
                certificates: Vec::new(),
                also_in: None,
                trusted: None,
                names: Vec::new(),
                key_hashes: Vec::new(),
                certificate_hashes: Vec::new(),
                versions: (TlsVersion::V12, TlsVersion::V13),
            });
        };
        let certificates = self.certificates(given, path)?;
        let trusted = match client {
            ClientCertificate::None => None,
            _ => self.trusted(given, path),
        };
        if client == ClientCertificate::Required
            && trusted.is_none()
            && given.credential_name.is_empty()
            && given.credential_names.is_empty()
        {
            let message = "MUTUAL needs the authorities that clients' certificates are from";
            self.report(field(path, "caCertificates"), FindingCode::Missing, message);
        }
        self.suites(given, path);
        Some(GatewayTls {
            mode,
            http,
            certificates,
            also_in: None,
            trusted,
            names: names(&given.subject_alt_names),
            key_hashes: names(&given.verify_certificate_spki),
            certificate_hashes: names(&given.verify_certificate_hash),
            versions: self.versions(given, path)?,
        })
    }

    fn without_certificate(&mut self, given: &ServerTls, path: &str) {
        let named = [
            ("credentialName", &given.credential_name),
            ("serverCertificate", &given.server_certificate),
            ("privateKey", &given.private_key),
            ("caCertificates", &given.ca_certificates),
        ];
        for (name, _) in named.into_iter().filter(|(_, text)| !text.is_empty()) {
            let message = "in this mode the gateway has no certificate of its own there";
            self.report(field(path, name), FindingCode::NoEffect, message);
        }
    }

    /// The Secrets with the certificates.
    fn certificates(&mut self, given: &ServerTls, path: &str) -> Option<Vec<(String, Name)>> {
        let secret = |at: String, name: &str| (at, secret_name(name));
        if !given.credential_names.is_empty() {
            let at = |at| item(&field(path, "credentialNames"), at);
            let all = given.credential_names.iter().enumerate();
            return Some(all.map(|(n, name)| secret(at(n), name)).collect());
        }
        if !given.credential_name.is_empty() {
            return Some(vec![secret(field(path, "credentialName"), &given.credential_name)]);
        }
        let mut found = Vec::new();
        let pairs = given.tls_certificates.iter().enumerate().map(|(at, given)| {
            (
                item(&field(path, "tlsCertificates"), at),
                &given.server_certificate,
                &given.private_key,
            )
        });
        let own = (path.to_owned(), &given.server_certificate, &given.private_key);
        let own = (!own.1.is_empty()).then_some(own);
        for (path, certificate, key) in own.into_iter().chain(pairs) {
            let at = field(&path, "serverCertificate");
            let secret = self.mounted(certificate, &at)?;
            if self.mounted(key, &field(&path, "privateKey"))? != secret {
                let message = "the key is to be in the Secret of the certificate";
                self.report(field(&path, "privateKey"), FindingCode::NoEffect, message);
                return None;
            }
            found.push((at, secret));
        }
        if found.is_empty() {
            let message = "the mode needs a certificate: name its Secret";
            self.report(field(path, "credentialName"), FindingCode::Missing, message);
            return None;
        }
        Some(found)
    }

    /// The Secret with the authorities that are trusted, if one is named.
    fn trusted(&mut self, given: &ServerTls, path: &str) -> Option<(String, Name)> {
        if !given.ca_cert_credential_name.is_empty() {
            let name = secret_name(&given.ca_cert_credential_name);
            return Some((field(path, "caCertCredentialName"), name));
        }
        let of_pair = given.tls_certificates.first().map(|pair| &pair.ca_certificates);
        let file = [Some(&given.ca_certificates), of_pair].into_iter().flatten();
        let file = file.into_iter().find(|file| !file.is_empty())?;
        if !given.credential_name.is_empty() || !given.credential_names.is_empty() {
            return None;
        }
        let at = field(path, "caCertificates");
        Some((at.clone(), self.mounted(file, &at)?))
    }

    /// The Secret that Istio's charts mount where a file is: `/etc/istio/NAME/FILE` is of `istio-NAME`.
    fn mounted(&mut self, file: &str, path: &str) -> Option<Name> {
        let within = file.strip_prefix(MOUNTS).and_then(|rest| rest.split_once('/'));
        if let Some((name, _)) = within.filter(|(name, _)| name.ends_with("-certs")) {
            return Some(format!("istio-{name}").into());
        }
        let message = format!(
            "no Secret is mounted at {file:?}: of files only those in {MOUNTS}NAME-certs/ are there, \
             which are of the Secret istio-NAME-certs; name a Secret by credentialName"
        );
        self.report(path, FindingCode::NoEffect, message);
        None
    }

    /// The lowest version and the highest; older ones than 1.2 are not spoken.
    fn versions(&mut self, given: &ServerTls, path: &str) -> Option<(TlsVersion, TlsVersion)> {
        let lowest = field(path, "minProtocolVersion");
        let lowest = self.version(&given.min_protocol_version, TlsVersion::V12, lowest);
        let at = field(path, "maxProtocolVersion");
        let highest = self.version(&given.max_protocol_version, TlsVersion::V13, at.clone());
        match (lowest, highest) {
            (Some(lowest), Some(highest)) if lowest <= highest => Some((lowest, highest)),
            (_, None) => None,
            (_, Some(_)) => {
                let message = "it is lower than minProtocolVersion, so no version is left";
                self.report(at, FindingCode::Invalid, message);
                None
            }
        }
    }

    /// A version; `None`: one that is spoken no more, where it is the highest. As the lowest it is
    /// taken as 1.2.
    fn version(&mut self, given: &str, default: TlsVersion, path: String) -> Option<TlsVersion> {
        match given {
            "" | "TLS_AUTO" => Some(default),
            "TLSV1_2" => Some(TlsVersion::V12),
            "TLSV1_3" => Some(TlsVersion::V13),
            "TLSV1_0" | "TLSV1_1" => {
                let message =
                    format!("{given} is not spoken any more; 1.2 is the oldest (RFC 8996)");
                self.report(path, FindingCode::NoEffect, message);
                (default == TlsVersion::V12).then_some(TlsVersion::V12)
            }
            other => {
                let message = format!("{other:?} is none of TLS_AUTO, TLSV1_0 to TLSV1_3");
                self.report(path, FindingCode::Invalid, message);
                None
            }
        }
    }

    /// Suites that are not spoken. The others are all offered: a choice among them makes nothing safer.
    fn suites(&mut self, given: &ServerTls, path: &str) {
        for (at, suite) in given.cipher_suites.iter().enumerate() {
            let path = item(&field(path, "cipherSuites"), at);
            let (code, message) = if SUITES.contains(&suite.as_str()) {
                continue;
            } else if WEAK_SUITES.contains(&suite.as_str()) {
                let message = "the suite is not spoken: it has no forward secrecy, or is CBC";
                (FindingCode::NoEffect, message.to_owned())
            } else {
                (FindingCode::NoEffect, format!("{suite:?} is no cipher suite that is known"))
            };
            self.report(path, code, message);
        }
    }
}

/// The name of a Secret, which may be written as where it is: `kubernetes://NAME`.
fn secret_name(given: &str) -> Name {
    given.strip_prefix("kubernetes://").unwrap_or(given).into()
}

fn names(given: &[String]) -> Vec<Name> {
    given.iter().map(|name| name.as_str().into()).collect()
}

/// Where Istio's charts mount Secrets in their gateways.
const MOUNTS: &str = "/etc/istio/";

/// Suites of TLS 1.2 that are spoken, as BoringSSL names them.
const SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// Suites that Envoy takes and that are not spoken.
const WEAK_SUITES: [&str; 9] = [
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "DES-CBC3-SHA",
];
