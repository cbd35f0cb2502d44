//! What a port declares, in every way to declare it, holds for every caller and whatever it speaks:
//! what the application sees, what the client gets, and as what it is counted.

use std::io::Write;
use std::net::TcpStream;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use ironmesh_dialects::{Object, translate};
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::service::Protocol;
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::Objects;
use serde_json::json;

use super::gateway::gateway_to;
use super::http2::{block_on, call, connect, grpc, runtime};
use super::mesh::Mesh;
use super::world::*;
use crate::client_hello::tests::{hello, record};

/// `appProtocol`, the name of the port, and what they declare.
const WAYS: &[(Option<&str>, &str, Means)] = &[
    (None, "http", Means::Http),
    (None, "http-web", Means::Http),
    (None, "HTTP", Means::Http),
    (None, "grpc-web", Means::Http),
    (Some("http"), "tcp", Means::Http),
    (Some("kubernetes.io/ws"), "", Means::Http),
    (None, "http2-api", Means::Http2),
    (None, "grpc", Means::Http2),
    (Some("kubernetes.io/h2c"), "http", Means::Http2),
    (Some("grpc"), "", Means::Http2),
    (None, "tcp-db", Means::Bytes),
    (None, "https", Means::Bytes),
    (None, "tls", Means::Bytes),
    (None, "mongo", Means::Bytes),
    (None, "redis-cache", Means::Bytes),
    (None, "mysql", Means::Bytes),
    (Some("mysql"), "http", Means::Bytes),
    (Some("kubernetes.io/wss"), "http", Means::Bytes),
    (None, "", Means::Nothing),
    (None, "web", Means::Nothing),
    (Some("example.com/own"), "http", Means::Nothing),
];

/// What a declaration means for the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// HTTP, to the application as HTTP/1.1 unless it is gRPC.
    Http,
    /// HTTP, to the application as HTTP/2.
    Http2,
    /// Bytes that nobody reads.
    Bytes,
    /// The first bytes tell.
    Nothing,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// A workload with a sidecar.
    Meshed,
    /// One without.
    Plain,
    /// A gateway, to which a client speaks.
    Gateway,
}

/// What the caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Http1,
    Http2,
    Grpc,
    /// Bytes that are no HTTP.
    Bytes,
    /// Nothing, before the server has said something.
    Listens,
    /// TLS of its own.
    Tls,
}

const CLIENTS: [Client; 6] =
    [Client::Http1, Client::Http2, Client::Grpc, Client::Bytes, Client::Listens, Client::Tls];

/// What the application is to see, or the status that the proxy is to answer with; and as what the
/// caller's proxy counts it, and the application's.
fn expected(means: Means, caller: Caller, client: Client) -> (&'static str, Counted) {
    let by_type = match client {
        Client::Grpc => Counted::Grpc,
        _ => Counted::Http,
    };
    let (seen, counted) = match (means, client) {
        // A gateway reads HTTP, whatever the Service says, and passes it on as that.
        (Means::Bytes, Client::Grpc) if caller == Caller::Gateway => ("HTTP/2", by_type),
        (Means::Bytes, _) if caller == Caller::Gateway => ("HTTP/1.1", by_type),
        (Means::Bytes, Client::Http1) => ("HTTP/1.1", Counted::Tcp),
        (Means::Bytes, Client::Http2 | Client::Grpc) => ("HTTP/2", Counted::Tcp),
        (Means::Http, Client::Grpc) => ("HTTP/2", by_type),
        // Without a proxy at the caller it comes as the client speaks.
        (Means::Http, Client::Http2) if caller == Caller::Plain => ("HTTP/2", by_type),
        (Means::Http, Client::Http1 | Client::Http2) => ("HTTP/1.1", by_type),
        (Means::Http2, Client::Http1 | Client::Http2 | Client::Grpc) => ("HTTP/2", by_type),
        (Means::Nothing, Client::Http1) => ("HTTP/1.1", by_type),
        (Means::Nothing, Client::Http2 | Client::Grpc) => ("HTTP/2", by_type),
        // TLS of an application is its own affair where it arrives.
        (_, Client::Tls) if caller == Caller::Plain => ("TLS", Counted::Tcp),
        (Means::Http | Means::Http2, _) => ("400", Counted::Refused),
        (_, Client::Tls) => ("TLS", Counted::Tcp),
        (_, Client::Bytes) => ("bytes", Counted::Tcp),
        (_, Client::Listens) => ("greeting", Counted::Tcp),
    };
    (seen, counted)
}

/// As what a proxy counts something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Http,
    Grpc,
    Tcp,
    /// Refused by the first proxy, so that a second one sees nothing.
    Refused,
}

#[test]
fn what_a_port_declares_holds_for_every_caller() {
    for (app_protocol, name, means) in WAYS {
        let protocol = declared(*app_protocol, name);
        for caller in [Caller::Meshed, Caller::Plain, Caller::Gateway] {
            let clients = if caller == Caller::Gateway { &CLIENTS[..3] } else { &CLIENTS };
            for client in clients {
                let what = format!("{app_protocol:?} {name:?} {caller:?} {client:?}");
                let case = Case::new(protocol, caller, *client);
                let (seen, counted) = expected(*means, caller, *client);
                assert_eq!(ask(case.first(), *client, seen), seen, "{what}");
                case.is_counted(counted, &what);
            }
        }
    }
}

/// What Kubernetes calls UDP is not carried by the mesh, even if it has the number of a TCP port.
#[test]
fn udp_ports_declare_nothing() {
    let udp = json!({"name": "http-dns", "port": 9080, "protocol": "UDP"});
    let tcp = json!({"name": "tcp-dns", "port": 9080});
    assert_eq!(protocols(json!([udp, tcp])), [Protocol::Tcp]);
    assert_eq!(protocols(json!([udp])), []);
}

/// Of a port that one Service calls HTTP and another one TCP, callers with a sidecar get what they
/// asked for; of others the first bytes tell.
#[test]
fn a_port_that_is_declared_twice_is_what_its_caller_asked_for() {
    let both = [Protocol::Http, Protocol::Tcp];
    for (old, young) in [(0, 1), (1, 0)] {
        for (asked, client, seen, counted) in [
            (Some(Protocol::Http), Client::Http1, "HTTP/1.1", Counted::Http),
            (Some(Protocol::Http), Client::Bytes, "400", Counted::Refused),
            (Some(Protocol::Tcp), Client::Bytes, "bytes", Counted::Tcp),
            (Some(Protocol::Tcp), Client::Listens, "greeting", Counted::Tcp),
            (Some(Protocol::Tcp), Client::Http1, "HTTP/1.1", Counted::Tcp),
            (Some(Protocol::Tcp), Client::Http2, "HTTP/2", Counted::Tcp),
            (None, Client::Http1, "HTTP/1.1", Counted::Http),
            (None, Client::Http2, "HTTP/2", Counted::Http),
            (None, Client::Bytes, "bytes", Counted::Tcp),
            (None, Client::Listens, "greeting", Counted::Tcp),
        ] {
            let what = format!("{:?} is older, {asked:?} {client:?}", both[old]);
            let caller = asked.map_or(Caller::Plain, |_| Caller::Meshed);
            let case = Case::new(asked.unwrap_or_default(), caller, client);
            let mut services = both.map(|protocol| reviews(protocol, vec![case.endpoint()]));
            services[1].service.id.hostname = "raw.default.svc.cluster.local".into();
            services[old].reach.created = 1;
            services[young].reach.created = 2;
            case.inbound.change(Objects { services: services.into(), ..Objects::default() });
            assert_eq!(ask(case.first(), client, seen), seen, "{what}");
            case.is_counted(counted, &what);
        }
    }
}

/// An application, its proxy, and the caller's proxy if it has one.
struct Case {
    app: App,
    inbound: Proxy,
    caller: Option<Proxy>,
}

impl Case {
    fn new(protocol: Protocol, caller: Caller, client: Client) -> Self {
        let mesh = Mesh::new();
        let app = if client == Client::Listens { greeting_app() } else { telling_app() };
        let inbound = mesh.inbound(protocol, app.address, MtlsMode::Permissive, "reviews");
        let meshed = || vec![endpoint("v0", inbound.address, true)];
        let caller = match caller {
            Caller::Plain => None,
            Caller::Meshed => Some(mesh.outbound(protocol, &[&inbound])),
            Caller::Gateway => {
                let proxy = gateway_to(reviews(protocol, meshed()));
                mesh.certify(&proxy, "client");
                Some(proxy)
            }
        };
        Self { app, inbound, caller }
    }

    /// The proxy that a client meets first.
    fn first(&self) -> &Proxy {
        self.caller.as_ref().unwrap_or(&self.inbound)
    }

    /// The application as an endpoint of a service.
    fn endpoint(&self) -> ironmesh_model::service::Endpoint {
        endpoint("v1", self.app.address, false)
    }

    fn is_counted(&self, counted: Counted, what: &str) {
        let is_counted = |proxy: &Proxy, counted: Counted| {
            let text = proxy.registry.render();
            let (requests, connections) =
                ("istio_requests_total{", "istio_tcp_connections_opened_total{");
            let has = |family: &str, label: &str| {
                text.lines().any(|line| line.starts_with(family) && line.contains(label))
            };
            match counted {
                Counted::Http => {
                    has(requests, "request_protocol=\"http\"") && !has(connections, "")
                }
                Counted::Grpc => {
                    has(requests, "request_protocol=\"grpc\"") && !has(connections, "")
                }
                Counted::Tcp => has(connections, "request_protocol=\"tcp\"") && !has(requests, ""),
                Counted::Refused => has(requests, "response_code=\"400\""),
            }
        };
        eventually(&format!("the count at the first proxy: {what}"), || {
            is_counted(self.first(), counted)
        });
        if self.caller.is_some() && counted != Counted::Refused {
            let last = || is_counted(&self.inbound, counted);
            eventually(&format!("the count at the last proxy: {what}"), last);
        }
    }
}

/// The protocol of a port that is declared so.
fn declared(app_protocol: Option<&str>, name: &str) -> Protocol {
    protocols(json!([{"name": name, "port": 9080, "appProtocol": app_protocol}]))[0]
}

fn protocols(ports: serde_json::Value) -> Vec<Protocol> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "reviews"},
        "spec": {"clusterIP": "10.96.0.10", "ports": ports},
    });
    let translation = translate(&[Object::new(service).unwrap()], &Settings::default());
    let [source] = &translation.objects.services[..] else { panic!("{translation:?}") };
    source.service.ports.iter().map(|port| port.protocol).collect()
}

/// Sends what a client sends, and returns what the application says that it saw, or the status of
/// the proxy's own answer.
fn ask(proxy: &Proxy, client: Client, expected: &str) -> String {
    if matches!(client, Client::Http2 | Client::Grpc) {
        return ask_http2(proxy, client == Client::Grpc);
    }
    let mut wire = Wire::connect(proxy);
    match client {
        Client::Tls => {
            let hello = record(&hello(&[b"h2"], "reviews"));
            wire.stream.write_all(&hello).unwrap();
        }
        // Where the server is not heard, the client speaks in the end, and is told so.
        Client::Listens if expected == "400" => wire.send("QUIT\r\n\r\n"),
        Client::Listens => {}
        Client::Bytes => wire.send("RAW ping\r\n\r\n"),
        _ => {
            let response = wire.get("/reviews");
            return if response.status == 200 {
                response.body
            } else {
                response.status.to_string()
            };
        }
    }
    let line = wire.read_until("\r\n").unwrap_or_default();
    match line.strip_prefix("HTTP/1.1 ") {
        Some(answer) => answer.split(' ').next().unwrap_or_default().to_owned(),
        None => line.trim_end().to_owned(),
    }
}

fn ask_http2(proxy: &Proxy, is_grpc: bool) -> String {
    let request = match is_grpc {
        true => grpc("/reviews"),
        false => Request::post("http://reviews:9080/reviews").body(()).unwrap(),
    };
    let answer = block_on(async { call(connect(proxy).await, request, b"x".to_vec()).await });
    let (status, _, body, trailers) = answer;
    if status != 200 {
        return status.to_string();
    }
    if is_grpc {
        assert_eq!(trailers.unwrap().get("grpc-status").unwrap(), "0");
    }
    String::from_utf8(body).unwrap()
}

/// An application that says what it is spoken to.
pub(super) fn telling_app() -> App {
    App::start(|stream| {
        let mut first = [0; 3];
        while let Ok(1..3) = stream.peek(&mut first) {}
        match &first {
            b"PRI" => serve_http2(stream),
            b"GET" | b"POS" => {
                let mut wire = Wire::new(stream);
                while wire.read_request().is_some() {
                    wire.send(&ok("HTTP/1.1"));
                }
            }
            [0x16, ..] => Wire::new(stream).send("TLS\r\n"),
            _ => Wire::new(stream).send("bytes\r\n"),
        }
    })
}

/// An application that speaks first.
fn greeting_app() -> App {
    App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.send("greeting\r\n");
        wire.read_to_end();
    })
}

fn serve_http2(stream: TcpStream) {
    runtime().block_on(async {
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let mut response = Response::new(());
            if let Some(kind) = request.headers().get("content-type") {
                response.headers_mut().insert("content-type", kind.clone());
            }
            let mut send = respond.send_response(response, false).unwrap();
            send.send_data(Bytes::from_static(b"HTTP/2"), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            send.send_trailers(trailers).unwrap();
        }
    });
}
