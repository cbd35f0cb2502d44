//! HTTP/1 through an outbound proxy.

use ironmesh_model::ListenerKind;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;

use super::world::*;

fn outbound(protocol: Protocol, apps: &[&App]) -> Proxy {
    let endpoints = apps
        .iter()
        .enumerate()
        .map(|(index, app)| endpoint(&format!("v{index}"), app.address, false))
        .collect();
    let objects = Objects { services: vec![reviews(protocol, endpoints)], ..Objects::default() };
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

#[test]
fn requests_go_round_robin_over_kept_connections() {
    let apps = [App::named("a"), App::named("b"), App::named("c")];
    let proxy = outbound(Protocol::Http, &apps.each_ref());
    let mut client = Wire::connect(&proxy);
    let answers: String = (0..9).map(|_| client.get("/").body).collect();
    assert_eq!(answers, "abcabcabc");
    for app in &apps {
        assert_eq!(app.connections(), 1);
    }
}
