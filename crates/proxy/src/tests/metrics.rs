//! What metrics say of callers and of what they called, when that changes.

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
