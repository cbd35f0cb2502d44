//! Requests that enter the mesh at a gateway.

use std::net::SocketAddr;

use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::{GatewayServer, GatewaySource, Objects, ServiceSource};
use ironmesh_model::{ListenerKind, ObjectId};

use super::world::*;

fn gateway(app: &App) -> Proxy {
    gateway_to(reviews(Protocol::Http, vec![endpoint("v1", app.address, false)]))
}

/// A gateway that sends what is under `/reviews` to a service.
pub(super) fn gateway_to(service: ServiceSource) -> Proxy {
    let mut attached = route(vec![rule(&[("", 1)], Some("/reviews"))]);
    attached.hosts = vec!["*".into()];
    attached.gateways = vec!["default/edge".into()];
    let objects = Objects {
        services: vec![service],
        gateways: vec![GatewaySource {
            id: ObjectId::new("Gateway", "default", "edge"),
            selector: [("app", "client")].into_iter().collect(),
            servers: vec![GatewayServer {
                port: 80,
                name: "http".into(),
                protocol: GatewayProtocol::Http,
                hosts: vec![(None, "*".into())],
                tls: None,
                redirects: false,
            }],
            created: 0,
        }],
        routes: vec![attached],
        ..Objects::default()
    };
    let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
    Proxy::start(ListenerKind::Gateway, server, objects)
}

#[test]
fn a_gateway_routes_by_path_and_answers_404_itself() {
    let app = App::http(|request| ok(&request.head));
    let proxy = gateway(&app);
    let mut client = Wire::connect(&proxy);
    client.send(concat!(
        "GET /reviews/1 HTTP/1.1\r\nhost: shop.example\r\nx-request-id: forged\r\n",
        "x-forwarded-for: 203.0.113.9\r\nx-envoy-x: 1\r\nx-ironmesh-x: 1\r\n",
        "x-forwarded-client-cert: By=me\r\n\r\n"
    ));
    let seen = client.read_response(false).body;
    assert!(seen.contains("host: shop.example\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-for: 203.0.113.9,127.0.0.1\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: http\r\n"), "{seen}");
    for gone in ["forged", "x-envoy-x", "x-ironmesh", "x-forwarded-client-cert"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    let response = client.get("/other");
    assert_eq!(response.status, 404);
    assert_eq!(response.header("x-ironmesh-reason"), Some("no_route"));
    assert_eq!(client.get("/reviews/2").status, 200);
    eventually("the metrics", || {
        proxy.registry.render().lines().any(|line| {
            line.contains("response_code=\"404\"")
                && line.contains("destination_service_name=\"unknown\"")
        })
    });
}
