//! The path of a request: what reaches the application, and what is refused.

use ironmesh_model::ListenerKind;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;

use super::http2::{block_on, call, connect, grpc};
use super::mesh::Mesh;
use super::world::*;

/// What the application got as the target of a request.
fn target_of(request: &Request) -> String {
    ok(request.head.split(' ').nth(1).unwrap_or_default())
}

#[test]
fn paths_reach_the_application_as_they_were_sent() {
    let mesh = Mesh::new();
    let app = App::http(target_of);
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let mut client = Wire::connect(&outbound);
    for target in [
        "/sign/a%2fb%C3%bc?X-Signature=%2f%2F",
        "/a//b%5c%0A;c=d/|e",
        "/q%20r+s/%c3%bc/%5B1%5D?x=%2F+%20",
        "/%zz%",
    ] {
        assert_eq!(client.get(target).body, target);
    }
    for (sent, seen) in [("/a/%2e%2e\\b/%41", "/b/A"), ("/%2%65%2%65/x", "/%252e%252e/x")] {
        assert_eq!(client.get(sent).body, seen, "{sent}");
    }
}

#[test]
fn a_rule_matches_the_escapes_that_it_was_written_with() {
    let app = App::http(target_of);
    let routes = vec![route(vec![rule(&[("", 1)], Some("/low%c3%a9"))])];
    let objects = Objects { routes, ..objects(Protocol::Http, &[&app]) };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/low%c3%a9/x").body, "/low%c3%a9/x");
    assert_eq!(client.get("/low%C3%A9/x").status, 404);
}

#[test]
fn an_escaped_nul_is_refused_before_anything_is_decided() {
    let mesh = Mesh::new();
    let app = App::http(target_of);
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Permissive, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    for proxy in [&outbound, &inbound] {
        let mut client = Wire::connect(proxy);
        for target in ["/a%00b", "/%00", "/a/..%00/../b", "/%61%00?q=1"] {
            let response = client.get(target);
            assert_eq!(response.status, 400, "{target}");
            assert_eq!(response.header("x-ironmesh-reason"), Some("bad_request"));
        }
        assert_eq!(client.get("/?nul=%00").body, "/?nul=%00", "a query may hold anything");
    }
    assert_eq!(app.connections(), 2, "one for each proxy that was asked");
    let status =
        |request| block_on(async { call(connect(&outbound).await, request, vec![]).await });
    let get = http::Request::get("http://reviews:9080/a%00").body(()).unwrap();
    assert_eq!(status(get).0, 400);
    let (of_http, head, ..) = status(grpc("/shop.Cart%00/Add"));
    assert_eq!((of_http, head.get("grpc-status").unwrap().as_bytes()), (200, &b"13"[..]));
}
