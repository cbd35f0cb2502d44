//! Which endpoints get requests for being near, over real sockets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ironmesh_model::ListenerKind;
use ironmesh_model::policy::{Distribution, OutlierDetection, TrafficPolicy};
use ironmesh_model::retry::{Retry, RetryCondition, RetryOn};
use ironmesh_model::route::Rule;
use ironmesh_model::service::{Protocol, UpstreamTls, Workload};
use ironmesh_model::snapshot::Objects;

use super::world::*;

/// These applications in their places, called from `eu/a`.
fn placed(apps: &[(&App, &str)], traffic: TrafficPolicy, protocol: Protocol) -> Objects {
    let own = workload("client");
    let caller = Workload {
        id: own.id.clone(),
        owner: own.owner.clone(),
        identity: identity("client"),
        labels: own.local.load().labels.clone(),
        meshed: true,
        tls: UpstreamTls::None,
        tls_at: Vec::new(),
        locality: "eu/a".into(),
        network: "".into(),
        node: "".into(),
    };
    let all: Vec<&App> = apps.iter().map(|(app, _)| *app).collect();
    let mut objects = objects(protocol, &all);
    for (endpoint, (_, place)) in objects.services[0].endpoints.iter_mut().zip(apps) {
        endpoint.locality = (*place).into();
    }
    let mut policy = subsets(&[]);
    policy.policy.traffic = Some(taking_turns(traffic));
    objects.destination_policies = vec![policy];
    objects.workloads = vec![(Ipv4Addr::LOCALHOST.into(), caller)];
    objects
}

fn detecting() -> TrafficPolicy {
    let outlier = OutlierDetection {
        consecutive_5xx: 1,
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    };
    TrafficPolicy { outlier: Some(outlier), ..TrafficPolicy::default() }
}

fn failing() -> App {
    App::http(|_| "HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n".to_owned())
}

fn start(objects: Objects) -> Proxy {
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

#[test]
fn another_locality_takes_over_when_the_own_one_fails() {
    let (far, near, next) = (App::named("far"), failing(), App::named("next"));
    let apps = [(&far, "us"), (&near, "eu/a"), (&next, "eu/b")];
    let proxy = start(placed(&apps, detecting(), Protocol::Http));
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").status, 500);
    for _ in 0..9 {
        assert_eq!(client.get("/").body, "next");
    }
    assert_eq!(far.connections(), 0);
}

/// Nobody would notice that an endpoint fails, and come back: as in Istio, all are asked then.
#[test]
fn without_detection_near_and_far_are_alike() {
    let (far, near) = (App::named("far"), App::named("near"));
    let apps = [(&far, "us"), (&near, "eu/a")];
    let proxy = start(placed(&apps, TrafficPolicy::default(), Protocol::Http));
    let mut client = Wire::connect(&proxy);
    let seen: BTreeSet<String> = (0..4).map(|_| client.get("/").body).collect();
    assert_eq!(seen.len(), 2);
}

#[test]
fn opaque_connections_stay_near_too() {
    let far = App::start(|stream| Wire::new(stream).send("far"));
    let near = App::start(|stream| Wire::new(stream).send("near"));
    let apps = [(&far, "us"), (&near, "eu/a")];
    let mut objects = placed(&apps, TrafficPolicy::default(), Protocol::Tcp);
    objects.services[0].service.distribution = Distribution::SameZone;
    let proxy = start(objects);
    for _ in 0..6 {
        assert_eq!(Wire::connect(&proxy).read_to_end(), "near");
    }
}

/// Of three near ones two are tried; the third attempt goes far away, if that is asked for.
#[test]
fn a_third_attempt_leaves_the_locality() {
    let answering = |leaves_localities: bool| {
        let (far, near) = (App::named("far"), [failing(), failing(), App::named("near")]);
        let mut traffic = detecting();
        traffic.outlier.as_mut().unwrap().consecutive_5xx = 100;
        let apps = [(&near[0], "eu/a"), (&near[1], "eu/a"), (&near[2], "eu/a"), (&far, "us")];
        let mut objects = placed(&apps, traffic, Protocol::Http);
        let on = vec![RetryOn::Condition(RetryCondition::ServerError)];
        let retry = Some(Retry { attempts: 3, on, leaves_localities, ..Retry::default() });
        objects.routes = vec![route(vec![Rule { retry, ..rule(&[("", 1)], None) }])];
        let proxy = start(objects);
        Wire::connect(&proxy).get("/").body
    };
    assert_eq!(answering(true), "far");
    assert_eq!(answering(false), "near");
}
