//! What metrics say of callers and of what they called, when that changes.

use std::net::SocketAddr;
use std::time::Duration;

use ironmesh_model::ListenerKind;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::service::{Protocol, UpstreamTls, Workload};
use ironmesh_model::snapshot::Objects;

use super::http2::{Http2App, block_on, call, connect, grpc};
use super::mesh::Mesh;
use super::world::*;

/// Whether a counter of requests has all of this in its labels.
fn is_counted(proxy: &Proxy, labels: &[&str]) -> bool {
    let rendered = proxy.registry.render();
    let mut counters = rendered.lines().filter(|line| line.starts_with("istio_requests_total"));
    counters.any(|line| labels.iter().all(|label| line.contains(label)))
}

#[test]
fn an_endpoint_that_is_relabelled_is_counted_by_its_new_labels() {
    let app = App::named("a");
    let mut objects = objects(Protocol::Http, &[&app]);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects.clone());
    let mut client = Wire::connect(&proxy);
    client.get("/");
    eventually("the count", || is_counted(&proxy, &["destination_version=\"v0\""]));
    objects.services[0].endpoints[0].labels =
        [("app", "reviews"), ("version", "v9")].into_iter().collect();
    proxy.change(objects);
    client.get("/");
    eventually("the new label", || is_counted(&proxy, &["destination_version=\"v9\""]));
}

#[test]
fn a_service_that_is_found_later_is_counted_with_its_namespace() {
    let app = App::named("a");
    let mut objects = objects(Protocol::Http, &[&app]);
    objects.routes = vec![route(vec![rule(&[("v0", 1)], None)])];
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects.clone());
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").header("x-ironmesh-reason"), Some("undefined_subset"));
    objects.destination_policies = vec![subsets(&["v0"])];
    proxy.change(objects);
    assert_eq!(client.get("/").body, "a");
    let labels = ["response_code=\"200\"", "destination_service_namespace=\"default\""];
    eventually("the count", || is_counted(&proxy, &labels));
}

/// Whether a counter has all of this in its labels and this value.
fn has_value(proxy: &Proxy, name: &str, labels: &[&str], value: u64) -> bool {
    let (rendered, value) = (proxy.registry.render(), format!(" {value}"));
    let mut lines = rendered.lines().filter(|line| line.starts_with(name));
    lines.any(|line| line.ends_with(&value) && labels.iter().all(|label| line.contains(label)))
}

#[test]
fn both_proxies_name_both_ends_and_measure_what_went_between() {
    let mesh = Mesh::new();
    let app = App::named("abc");
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Permissive, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let mut client = Wire::connect(&outbound);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.read_response(false).body, "abc");
    let of_source = [
        "reporter=\"source\"",
        "source_workload=\"client\"",
        "source_app=\"client\"",
        "source_principal=\"spiffe://cluster.local/ns/default/sa/client\"",
        "destination_workload=\"reviews-v0\"",
        "destination_app=\"reviews\"",
        "destination_version=\"v0\"",
        "destination_principal=\"spiffe://cluster.local/ns/default/sa/reviews\"",
        "destination_service=\"reviews.default.svc.cluster.local\"",
        "destination_service_name=\"reviews\"",
    ];
    // The test's proxy of the application has its caller's name.
    let of_destination = [
        "reporter=\"destination\"",
        "source_principal=\"spiffe://cluster.local/ns/default/sa/client\"",
        "source_workload_namespace=\"default\"",
        "destination_principal=\"spiffe://cluster.local/ns/default/sa/reviews\"",
        "connection_security_policy=\"mutual_tls\"",
    ];
    for (proxy, labels) in [(&outbound, &of_source[..]), (&inbound, &of_destination[..])] {
        for (name, value) in [
            ("istio_requests_total", 1),
            ("istio_request_bytes_sum", 5),
            ("istio_response_bytes_sum", 3),
        ] {
            eventually(name, || has_value(proxy, name, labels, value));
        }
    }
    // In plaintext nobody has proved who they are.
    outbound.change(Objects {
        services: vec![reviews(Protocol::Http, vec![endpoint("v0", inbound.address, false)])],
        ..Objects::default()
    });
    assert_eq!(client.get("/").body, "abc");
    let of_source = ["source_principal=\"unknown\"", "destination_principal=\"unknown\""];
    let of_destination = [
        "source_principal=\"unknown\"",
        "destination_principal=\"unknown\"",
        "connection_security_policy=\"none\"",
    ];
    for (proxy, labels) in [(&outbound, &of_source[..]), (&inbound, &of_destination[..])] {
        eventually("the other series", || has_value(proxy, "istio_requests_total", labels, 1));
    }
}

/// Who calls is asked for as soon as a connection comes, so that its first request is counted for it.
#[test]
fn a_caller_in_plaintext_is_known_by_its_address_from_its_first_request_on() {
    let app = App::named("a");
    let caller = Workload {
        id: workload("caller").id.clone(),
        owner: "caller-owner".into(),
        identity: identity("caller"),
        labels: [("app", "calling")].into_iter().collect(),
        meshed: false,
        tls: UpstreamTls::None,
        tls_at: Vec::new(),
        locality: "".into(),
        network: "".into(),
        node: "".into(),
    };
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])];
    let address = "127.0.0.2".parse().unwrap();
    let workloads = vec![(address, caller)];
    let objects = Objects { services, workloads, ..Objects::default() };
    let inbound = Proxy::start(ListenerKind::Inbound, app.address, objects);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    socket.connect(&inbound.address.into()).unwrap();
    let mut client = Wire::new(socket.into());
    assert_eq!(client.get("/").body, "a");
    let labels = ["source_workload=\"caller-owner\"", "source_app=\"calling\""];
    eventually("the count", || has_value(&inbound, "istio_requests_total", &labels, 1));
}

#[test]
fn the_status_of_grpc_is_counted_wherever_it_stands() {
    let app = Http2App::start(100, |request, mut respond| async move {
        let status = request.uri().path()[1..].to_owned();
        let mut response = http::Response::new(());
        let fields = response.headers_mut();
        fields.insert("content-type", "application/grpc".parse().unwrap());
        if status == "7" {
            fields.insert("grpc-status", status.parse().unwrap());
            respond.send_response(response, true).unwrap();
            return;
        }
        let mut send = respond.send_response(response, false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        send.send_trailers(trailers).unwrap();
    });
    let proxy = app.outbound(Protocol::Grpc);
    let counted = |status: &str, count| {
        let label = format!("grpc_response_status=\"{status}\"");
        let labels = [&*label, "request_protocol=\"grpc\""];
        eventually(&label, || has_value(&proxy, "istio_requests_total", &labels, count));
    };
    block_on(async {
        let client = connect(&proxy).await;
        for status in ["0", "5", "7", "99"] {
            call(client.clone(), grpc(&format!("/{status}")), Vec::new()).await;
        }
    });
    counted("0", 1);
    counted("5", 1);
    counted("7", 1);
    counted("2", 1);
    proxy.change(Objects {
        services: vec![reviews(Protocol::Grpc, Vec::new())],
        ..Objects::default()
    });
    let (status, head, body, _) =
        block_on(async { call(connect(&proxy).await, grpc("/0"), Vec::new()).await });
    assert_eq!((status, body), (200, Vec::new()));
    assert_eq!(head["content-type"], "application/grpc");
    assert_eq!(head["grpc-message"], "no healthy upstream");
    counted("14", 1);
}

#[test]
fn a_server_that_is_no_grpc_has_no_grpc_status_whatever_it_says() {
    let app = App::http(|request| {
        let n: usize = request.head[5..].split(' ').next().unwrap().parse().unwrap();
        let more = format!("grpc-status: {n}\r\ncontent-length: 0\r\n\r\n");
        format!("HTTP/1.1 {} Odd\r\n{more}", 200 + n)
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    for n in 0..20 {
        client.get(&format!("/{n}"));
    }
    eventually("the count", || is_counted(&proxy, &["response_code=\"219\""]));
    assert!(!is_counted(&proxy, &["grpc_response_status"]));
}

#[test]
fn series_end_when_nothing_is_counted_in_them_any_more() {
    let app = App::named("a");
    let objects = objects(Protocol::Http, &[&app]);
    let mut setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    setup.limits.metric_series_idle = Duration::from_millis(1);
    let proxy = Proxy::begin(setup);
    for _ in 0..3 {
        assert_eq!(Wire::connect(&proxy).get("/").body, "a");
        eventually("their end", || proxy.registry.render().is_empty());
    }
}

/// Otherwise the one series would have a connection that never ends, and the other a negative
/// number of them.
#[test]
fn a_connection_ends_in_the_series_in_which_it_began() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        let all = wire.read_to_end();
        wire.send(&all);
    });
    let mut objects = objects(Protocol::Tcp, &[&app]);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects.clone());
    let of_version = |name: &str, version: &str| {
        let (text, label) = (proxy.registry.render(), format!("destination_version=\"{version}\""));
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(&label));
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    let (opened, closed) =
        ("istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total");
    let mut client = Wire::connect(&proxy);
    client.send("hello");
    eventually("the connection", || of_version(opened, "v0").as_deref() == Some("1"));
    objects.services[0].endpoints[0].labels =
        [("app", "reviews"), ("version", "v9")].into_iter().collect();
    proxy.change(objects);
    let mut later = Wire::connect(&proxy);
    later.send("hello");
    eventually("the other one", || of_version(opened, "v9").as_deref() == Some("1"));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(), "hello");
    eventually("its end", || of_version(closed, "v0").as_deref() == Some("1"));
    assert_eq!(of_version(closed, "v9").as_deref(), Some("0"));
}
