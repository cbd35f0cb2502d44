//! What metrics say of callers and of what they called, when that changes.

use std::time::Duration;

use ironmesh_model::ListenerKind;
use ironmesh_model::service::Protocol;

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
