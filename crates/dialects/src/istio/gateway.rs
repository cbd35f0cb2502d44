//! `Gateway`.

use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::snapshot::{GatewayServer, GatewaySource};
use ironmesh_model::{Finding, Name};
use serde::Deserialize;
use serde_json::Value;

use super::{API_VERSION, KIND, METADATA, STATUS};
use crate::Object;
use crate::object::labels;
use crate::schema::{Message, PORT, TEXT_MAP, TEXTS, Type, check, honoured, later, required};
use crate::translate::Part;

/// Translates a Gateway. A server of a protocol that is not served yet is a finding, and left out.
pub(crate) fn gateway(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let spec: Spec = serde_json::from_value(check(object, &GATEWAY, findings)?).ok()?;
    let servers = spec.servers.into_iter().filter_map(|given| server(object, given)).collect();
    Some(Part::Gateway(Box::new(GatewaySource {
        id: object.id().clone(),
        selector: labels(&spec.selector),
        servers,
        created: object.created(),
    })))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    servers: Vec<Server>,
    selector: Value,
}

#[derive(Deserialize)]
struct Server {
    port: Port,
    #[serde(default)]
    hosts: Vec<String>,
}

#[derive(Deserialize)]
struct Port {
    number: u16,
    #[serde(default)]
    name: String,
    protocol: String,
}

fn server(object: &Object, server: Server) -> Option<GatewayServer> {
    let Port { number: port, name, protocol } = server.port;
    if !matches!(protocol.as_str(), "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB") {
        return None;
    }
    Some(GatewayServer {
        port,
        name: name.into(),
        protocol: GatewayProtocol::Http,
        hosts: server.hosts.iter().map(|given| host(object, given)).collect(),
    })
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

static GATEWAY: Message = Message {
    name: "Gateway",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[API_VERSION, KIND, METADATA, required("spec", Type::Object(&SPEC)), STATUS],
};

static SPEC: Message = Message {
    name: "Gateway.spec",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[
        required("servers", Type::List(&Type::Object(&SERVER))),
        honoured("selector", TEXT_MAP),
    ],
};

static SERVER: Message = Message {
    name: "a server",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[
        required("port", Type::Object(&SERVER_PORT)),
        later("bind", Type::Text),
        required("hosts", TEXTS),
        // A label of the server for its readers, in Istio as here.
        honoured("name", Type::Text),
        honoured("tls", Type::Object(&TLS)),
        later("defaultEndpoint", Type::Text),
    ],
};

static SERVER_PORT: Message = Message {
    name: "the port of a server",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[
        required("number", PORT),
        required(
            "protocol",
            Type::Listed {
                all: &["HTTPS", "TLS", "TCP", "MONGO"],
                honoured: &["HTTP", "HTTP2", "GRPC", "GRPC-WEB"],
            },
        ),
        honoured("name", Type::Text),
        later("targetPort", Type::Integer(0, 65_535)),
    ],
};

static TLS: Message = Message {
    name: "tls",
    open: false,
    doc: "",
    protobuf: true,
    fields: &[
        later("httpsRedirect", Type::Bool),
        later(
            "mode",
            Type::Listed {
                all: &[
                    "PASSTHROUGH",
                    "SIMPLE",
                    "MUTUAL",
                    "AUTO_PASSTHROUGH",
                    "ISTIO_MUTUAL",
                    "OPTIONAL_MUTUAL",
                ],
                honoured: &[],
            },
        ),
        later("serverCertificate", Type::Text),
        later("privateKey", Type::Text),
        later("caCertificates", Type::Text),
        later("credentialName", Type::Text),
        later("credentialNames", TEXTS),
        later("caCertCredentialName", Type::Text),
        later("tlsCertificates", Type::List(&Type::Any)),
        later("subjectAltNames", TEXTS),
        later("verifyCertificateSpki", TEXTS),
        later("verifyCertificateHash", TEXTS),
        later("minProtocolVersion", Type::Text),
        later("maxProtocolVersion", Type::Text),
        later("cipherSuites", TEXTS),
        later("caCrl", Type::Text),
        later("insecureSkipVerify", Type::Bool),
    ],
};
