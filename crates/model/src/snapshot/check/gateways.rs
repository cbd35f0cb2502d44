//! Findings about a Gateway's servers: certificates that are not there, and ports that others have.

use crate::finding::{Finding, FindingCode};
use crate::listeners::{ClientCertificate, GatewayProtocol};
use crate::name::{Labels, Name};
use crate::snapshot::gateway::{authorities, certificate_of};
use crate::snapshot::reader::Reader;
use crate::snapshot::{GatewayServer, GatewaySource, GatewayTls, GatewayTlsMode};

/// The findings about each server of a gateway.
pub(super) fn servers(reader: &Reader<'_>, gateway: &GatewaySource, out: &mut Vec<Finding>) {
    let namespaces: Vec<&Name> = reader.namespaces_selected(&gateway.selector).collect();
    let mut found = |path: &str, code, message: String| {
        out.push(Finding::new(&gateway.id, path, code, message));
    };
    for server in &gateway.servers {
        for namespace in &namespaces {
            let tls = server.tls.as_deref();
            for (path, message) in tls.into_iter().flat_map(|tls| missing(reader, namespace, tls)) {
                found(&path, FindingCode::BadCredential, message);
            }
        }
    }
    for (path, message) in taken(reader, gateway) {
        found(&path, FindingCode::PortTaken, message);
    }
}

/// What is wrong with the Secrets that a server names, in a namespace of gateway pods.
fn missing(reader: &Reader<'_>, namespace: &Name, tls: &GatewayTls) -> Vec<(String, String)> {
    let GatewayTlsMode::Terminate(client) = tls.mode else { return Vec::new() };
    let mut found = Vec::new();
    for (path, secret) in &tls.certificates {
        let why = match certificate_of(reader, namespace, tls, secret) {
            None => "is not there, or has no certificate".to_owned(),
            Some(source) => match (&source.flaw, &source.certificate) {
                (Some(flaw), _) => format!("cannot be used: {flaw}"),
                (None, None) => "has no certificate".to_owned(),
                (None, Some(_)) => continue,
            },
        };
        found.push((path.clone(), format!("Secret {namespace}/{secret} {why}")));
    }
    if client == ClientCertificate::None {
        return found;
    }
    let why = match authorities(reader, namespace, tls) {
        None => "no Secret has the authorities that clients' certificates are from",
        Some(source) if source.trusted.is_none() => "it has no authorities to trust",
        Some(source) if source.flaw.is_some() && tls.trusted.is_some() => "it cannot be used",
        Some(_) => return found,
    };
    if let Some((path, secret)) = tls.trusted.as_ref().or(tls.certificates.first()) {
        found.push((path.clone(), format!("Secret {namespace}/{secret}: {why}")));
    }
    found
}

/// Servers whose port an older Gateway of the same pods, or an earlier server, has for something else,
/// and hosts of TLS that one has already.
fn taken(reader: &Reader<'_>, gateway: &GatewaySource) -> Vec<(String, String)> {
    // Selectors that are alike meet, whoever is there.
    let pods: Vec<&Labels> = reader.labels_selected(&gateway.selector).collect();
    let meets = |other: &&GatewaySource| {
        other.selector == gateway.selector || pods.iter().any(|pod| other.selector.selects(pod))
    };
    let older: Vec<&GatewaySource> = reader
        .gateways()
        .into_iter()
        .take_while(|other| other.id != gateway.id)
        .filter(meets)
        .collect();
    let mut found = Vec::new();
    for (at, server) in gateway.servers.iter().enumerate() {
        let before = older.iter().flat_map(|other| other.servers.iter().map(|s| (&other.id, s)));
        let own = gateway.servers[..at].iter().map(|server| (&gateway.id, server));
        let mut before = before.chain(own).filter(|(_, other)| other.port == server.port);
        // The first one says what is spoken on the port.
        let Some((first, spoken)) = before.next() else { continue };
        let port = server.port;
        if spoken.protocol != server.protocol {
            let (spoken, own) = (word(spoken), word(server));
            let message = format!("{first} has port {port} for {spoken}, not {own}");
            found.push((format!("spec.servers[{at}].port"), message));
            continue;
        }
        match server.protocol {
            GatewayProtocol::Http => continue,
            GatewayProtocol::Tcp => {
                let message = format!("{first} has port {port}, and TCP names no host to go by");
                found.push((format!("spec.servers[{at}].port"), message));
                continue;
            }
            GatewayProtocol::Tls => {}
        }
        let same = before.filter(|(_, other)| other.protocol == server.protocol);
        for (id, other) in [(first, spoken)].into_iter().chain(same) {
            for (h, (_, host)) in server.hosts.iter().enumerate() {
                if other.hosts.iter().any(|(_, taken)| taken == host) {
                    let message = format!("{id} serves {host} on port {port} already");
                    found.push((format!("spec.servers[{at}].hosts[{h}]"), message));
                }
            }
        }
    }
    found
}

fn word(server: &GatewayServer) -> &'static str {
    match server.protocol {
        GatewayProtocol::Http => "HTTP in plaintext",
        GatewayProtocol::Tls => "TLS",
        GatewayProtocol::Tcp => "TCP",
    }
}
