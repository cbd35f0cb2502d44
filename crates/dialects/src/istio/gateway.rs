//! `Gateway`.

use std::collections::BTreeMap;

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
    let mut translator = Translator { object, selector: &spec.selector, findings };
    let servers = spec.servers.iter().enumerate();
    let servers = servers.filter_map(|(at, given)| translator.server(given, at)).collect();
    Some(Part::Gateway(Box::new(GatewaySource {
        id: object.id().clone(),
        selector: labels(&spec.selector),
        servers,
        created: object.created(),
    })))
}

/// The port that a number in a `Gateway` means, which selects its pods by these labels.
///
/// The pods of Istio's own gateways have the ports 80 and 443 of their Service at 8080 and 8443, and a
/// `Gateway` there may say either (`bookinfo-gateway.yaml` says 8080 since Istio 1.18). Both mean one
/// port, which is that of the Service here.
pub fn edge_port(selector: &BTreeMap<String, String>, number: u16) -> u16 {
    let twin = EDGE_PORTS.iter().find(|(_, of_pod)| *of_pod == number && is_istios(selector));
    twin.map_or(number, |(of_service, _)| *of_service)
}

/// Whether they are the labels of a gateway that Istio's installation makes.
fn is_istios(labels: &BTreeMap<String, String>) -> bool {
    let role = labels.get("istio").map(String::as_str);
    let app = labels.get("app").and_then(|app| app.strip_prefix("istio-"));
    [role, app].into_iter().flatten().any(|of| matches!(of, "ingressgateway" | "egressgateway"))
}

/// One Gateway on its way to the model.
struct Translator<'a> {
    object: &'a Object,
    selector: &'a BTreeMap<String, String>,
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
            port: edge_port(self.selector, given.port.number),
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

/// Ports of the Service of Istio's gateways, and where their pods have them (its profile `default`).
const EDGE_PORTS: [(u16, u16); 2] = [(80, 8080), (443, 8443)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_istios_gateways_have_two_numbers_each() {
        let labels = |all: &[(&str, &str)]| {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        for own in [
            labels(&[("istio", "ingressgateway")]),
            labels(&[("istio", "egressgateway"), ("app", "other")]),
            labels(&[("app", "istio-ingressgateway")]),
        ] {
            let ports = [80, 8080, 443, 8443, 9443].map(|number| edge_port(&own, number));
            assert_eq!(ports, [80, 80, 443, 443, 9443], "{own:?}");
        }
        for other in [
            labels(&[]),
            labels(&[("istio", "ingress")]),
            labels(&[("app", "ingressgateway")]),
            labels(&[("name", "istio-ingressgateway")]),
        ] {
            assert_eq!(
                [80, 8080, 8443].map(|number| edge_port(&other, number)),
                [80, 8080, 8443],
                "{other:?}"
            );
        }
    }
}
