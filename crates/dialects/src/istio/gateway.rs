//! `Gateway`.

use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::snapshot::{GatewayServer, GatewaySource};
use ironmesh_model::{Finding, FindingCode, Name};

use super::labels;
use crate::Object;
use crate::path::{field, item};
use crate::schema::read;
use crate::translate::Part;

mod fields;
mod tls;

pub use fields::*;

/// Translates a Gateway. A server that cannot be served is a finding, and left out.
pub(crate) fn gateway(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Gateway { spec, .. } = read(object, findings)?;
    let mut translator = Translator { object, findings };
    let servers = spec.servers.iter().enumerate();
    let servers = servers.filter_map(|(at, given)| translator.server(given, at)).collect();
    Some(Part::Gateway(Box::new(GatewaySource {
        id: object.id().clone(),
        selector: labels(&spec.selector),
        servers,
        created: object.created(),
    })))
}

/// One Gateway on its way to the model.
struct Translator<'a> {
    object: &'a Object,
    findings: &'a mut Vec<Finding>,
}

impl Translator<'_> {
    fn report(&mut self, path: impl Into<String>, code: FindingCode, message: impl Into<String>) {
        self.findings.push(Finding::new(self.object.id(), path, code, message));
    }

    fn server(&mut self, given: &Server, at: usize) -> Option<GatewayServer> {
        let path = item("spec.servers", at);
        let of_tls = field(&path, "tls");
        let with_tls = matches!(given.port.protocol, ServerProtocol::Https | ServerProtocol::Tls);
        let (protocol, tls) = match given.port.protocol {
            ServerProtocol::Https | ServerProtocol::Tls => {
                let Some(tls) = &given.tls else {
                    let message = "a server of HTTPS or TLS says how TLS is spoken";
                    self.report(of_tls, FindingCode::Missing, message);
                    return None;
                };
                let http = given.port.protocol == ServerProtocol::Https;
                (GatewayProtocol::Tls, Some(Box::new(self.tls(tls, http, &of_tls)?)))
            }
            ServerProtocol::Tcp | ServerProtocol::Mongo => (GatewayProtocol::Tcp, None),
            ServerProtocol::Http
            | ServerProtocol::Http2
            | ServerProtocol::Grpc
            | ServerProtocol::GrpcWeb => (GatewayProtocol::Http, None),
        };
        match &given.tls {
            Some(tls) if !with_tls => self.plaintext(tls, &of_tls),
            Some(tls) if tls.https_redirect == Some(true) => {
                let message =
                    "clients that speak TLS are sent nowhere else; it is for a server of HTTP";
                self.report(field(&of_tls, "httpsRedirect"), FindingCode::NoEffect, message);
            }
            _ => {}
        }
        Some(GatewayServer {
            port: given.port.number,
            name: given.port.name.as_str().into(),
            protocol,
            hosts: given.hosts.iter().map(|given| host(self.object, given)).collect(),
            tls,
            redirects: protocol == GatewayProtocol::Http
                && given.tls.as_ref().is_some_and(|tls| tls.https_redirect == Some(true)),
        })
    }

    /// What has no effect where no TLS is spoken.
    fn plaintext(&mut self, given: &ServerTls, path: &str) {
        let says_more = given.mode.is_some()
            || !given.credential_name.is_empty()
            || !given.server_certificate.is_empty();
        if says_more {
            let message = "the port's protocol has no TLS; its protocol is to be HTTPS or TLS";
            self.report(path, FindingCode::NoEffect, message);
        }
    }
}

/// `HOST`, or `NAMESPACE/HOST` with `.` for the Gateway's own namespace and `*` for any.
fn host(object: &Object, given: &str) -> (Option<Name>, Name) {
    let (namespace, host) = match given.split_once('/') {
        None | Some(("*", _)) => (None, given.rsplit_once('/').map_or(given, |(_, host)| host)),
        Some((".", host)) => (Some(object.namespace().clone()), host),
        Some((namespace, host)) => (Some(namespace.into()), host),
    };
    (namespace, host.to_ascii_lowercase().into())
}
