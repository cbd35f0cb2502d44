//! Which endpoint a request gets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ironmesh_model::ListenerKind;
use ironmesh_model::policy::{
    Balance, Balancer, HashBalance, HashCookie, HashKey, HashTable, TrafficPolicy,
};
use ironmesh_model::route::HeaderOp;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;

use super::world::*;

/// A proxy that chooses among these applications by a rule.
fn choosing(apps: &[&App], protocol: Protocol, by: Balancer) -> Proxy {
    let mut policy = subsets(&[]);
    policy.policy.traffic =
        Some(TrafficPolicy { balance: Some(Balance::by(by)), ..TrafficPolicy::default() });
    let objects = Objects { destination_policies: vec![policy], ..objects(protocol, apps) };
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

fn hash(key: HashKey) -> Balancer {
    let table = HashTable::Ring { points_min: HashTable::RING_POINTS };
    Balancer::Hash(Box::new(HashBalance { key, table }))
}

fn cookie(ttl: Option<Duration>) -> HashKey {
    let attributes = vec![("SameSite".into(), "Lax".into())];
    HashKey::Cookie(HashCookie { name: "sess".into(), path: "/".into(), ttl, attributes })
}

fn with(client: &mut Wire, header: &str) -> Response {
    client.send(&format!("GET / HTTP/1.1\r\nhost: reviews:9080\r\n{header}\r\n\r\n"));
    client.read_response(false)
}

/// The names of those that answer to so many requests with a header.
fn answering(client: &mut Wire, times: u32, header: impl Fn(u32) -> String) -> BTreeSet<String> {
    (0..times).map(|time| with(client, &header(time)).body).collect()
}

/// An application that says who it is, but on one path nothing at all: that request stays under way.
fn holding(name: &'static str, holds: &Arc<Mutex<Vec<&'static str>>>) -> App {
    let holds = holds.clone();
    App::http(move |request| match request.head.starts_with("GET /hold ") {
        true => {
            holds.lock().unwrap().push(name);
            String::new()
        }
        false => ok(name),
    })
}

/// Also of those that another worker has sent there: each connection may be served by another.
#[test]
fn without_a_policy_who_has_fewer_requests_under_way_is_asked() {
    let holds = Arc::<Mutex<Vec<&'static str>>>::default();
    let (a, b) = (holding("a", &holds), holding("b", &holds));
    let objects = objects(Protocol::Http, &[&a, &b]);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut held = Wire::connect(&proxy);
    held.send("GET /hold HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("the request", || !holds.lock().unwrap().is_empty());
    let busy = holds.lock().unwrap()[0];
    let group = proxy.workload.views.load().groups().next().unwrap();
    let under_way =
        || group.members().all.iter().map(|member| member.state().under_way()).sum::<u32>();
    for _ in 0..4 {
        // A client has its answer a moment before its request is under way no longer.
        eventually("only the held one to be under way", || under_way() == 1);
        let mut client = Wire::connect(&proxy);
        let others: Vec<String> = (0..5).map(|_| client.get("/").body).collect();
        assert!(others.iter().all(|other| other != busy), "{busy} is busy: {others:?}");
    }
    drop(held);
    let mut client = Wire::connect(&proxy);
    eventually("the busy one to be free", || client.get("/").body == busy);
}

/// Nobody looks into them, but they are work for their endpoint all the same.
#[test]
fn without_a_policy_opaque_connections_go_where_fewer_are_open() {
    let said = |name: &'static str| {
        App::start(move |stream| {
            let mut wire = Wire::new(stream);
            wire.send(name);
            wire.read_to_end();
        })
    };
    let (a, b) = (said("a"), said("b"));
    let objects = objects(Protocol::Tcp, &[&a, &b]);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut open: Vec<Wire> = Vec::new();
    for _ in 0..10 {
        let pair: BTreeSet<String> = (0..2)
            .map(|_| {
                open.push(Wire::connect(&proxy));
                open.last_mut().unwrap().read_exact(1).unwrap()
            })
            .collect();
        assert_eq!(pair.len(), 2, "the second goes to the other");
    }
}

#[test]
fn at_random_there_is_no_cycle() {
    let (a, b, c) = (App::named("a"), App::named("b"), App::named("c"));
    let proxy = choosing(&[&a, &b, &c], Protocol::Http, Balancer::Random);
    let mut client = Wire::connect(&proxy);
    let drawn: Vec<String> = (0..60).map(|_| client.get("/").body).collect();
    assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(drawn.windows(4).any(|four| four[0] != four[3]), "{drawn:?}");
}

#[test]
fn a_header_leads_to_one_endpoint_and_none_to_all() {
    let (a, b, c) = (App::named("a"), App::named("b"), App::named("c"));
    let proxy = choosing(&[&a, &b, &c], Protocol::Http, hash(HashKey::Header("user".into())));
    let mut client = Wire::connect(&proxy);
    assert_eq!(answering(&mut client, 20, |_| "User: tomas".to_owned()).len(), 1);
    assert_eq!(answering(&mut client, 60, |n| format!("user: u{n}")).len(), 3);
    assert_eq!(answering(&mut client, 60, |_| "x-other: tomas".to_owned()).len(), 3);
    let key = with(&mut client, "user: tomas").body;
    let elsewhere = Wire::connect(&proxy);
    assert_eq!(with(&mut { elsewhere }, "user: tomas").body, key, "whatever the connection");
}

#[test]
fn a_cookie_is_given_once_and_kept() {
    let (a, b, c) = (App::named("a"), App::named("b"), App::named("c"));
    let apps = [&a, &b, &c];
    let proxy = choosing(&apps, Protocol::Http, hash(cookie(Some(Duration::from_secs(60)))));
    let mut client = Wire::connect(&proxy);
    let first = client.get("/");
    let made = first.header("set-cookie").unwrap().to_owned();
    let (pair, rest) = made.split_once(';').unwrap();
    assert!(pair.starts_with("sess=\"") && pair.len() == 5 + 18, "{made}");
    assert_eq!(rest, " Max-Age=60; Path=/; SameSite=Lax; HttpOnly");
    for _ in 0..20 {
        let again = with(&mut client, &format!("cookie: a=b; {pair}"));
        assert_eq!((again.body.as_str(), again.header("set-cookie")), (&*first.body, None));
    }
    let own = with(&mut client, "cookie: sess=mine");
    assert_eq!(own.header("set-cookie"), None, "it has one of its own");
    let other = Wire::connect(&proxy).get("/");
    assert_ne!(other.header("set-cookie"), Some(&*made), "each connection gets another");

    let passive = choosing(&apps, Protocol::Http, hash(cookie(None)));
    let mut client = Wire::connect(&passive);
    assert_eq!(client.get("/").header("set-cookie"), None, "nobody asked for one");
    assert_eq!(answering(&mut client, 20, |_| "cookie: sess=x".to_owned()).len(), 1);
    assert_eq!(answering(&mut client, 60, |_| "x: y".to_owned()).len(), 3);
}

/// What the winning rule makes of a request is not what it is known by.
#[test]
fn the_hash_is_of_what_the_client_sent() {
    let (a, b, c) = (App::named("a"), App::named("b"), App::named("c"));
    let mut policy = subsets(&[]);
    let by = hash(HashKey::Header("user".into()));
    policy.policy.traffic =
        Some(TrafficPolicy { balance: Some(Balance::by(by)), ..TrafficPolicy::default() });
    let mut same = rule(&[("", 1)], None);
    same.headers.request =
        HeaderOp { set: vec![("user".into(), "same".into())], ..HeaderOp::default() };
    let objects = Objects {
        routes: vec![route(vec![same])],
        destination_policies: vec![policy],
        ..objects(Protocol::Http, &[&a, &b, &c])
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    assert_eq!(answering(&mut client, 60, |n| format!("user: u{n}")).len(), 3);
}

#[test]
fn a_key_whose_endpoint_has_failed_is_answered_by_another() {
    let (a, b) = (App::named("a"), App::named("b"));
    let mut gone = App::named("gone");
    gone.address = {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        closed.local_addr().unwrap()
    };
    let proxy = choosing(&[&a, &b, &gone], Protocol::Http, hash(HashKey::Header("user".into())));
    let mut client = Wire::connect(&proxy);
    for n in 0..30 {
        let answer = with(&mut client, &format!("user: u{n}"));
        assert_eq!(answer.status, 200, "u{n}");
    }
}

#[test]
fn opaque_connections_of_one_client_go_to_one_endpoint() {
    let said = |name: &'static str| {
        App::start(move |stream| {
            let mut wire = Wire::new(stream);
            wire.send(name);
        })
    };
    let (a, b, c) = (said("a"), said("b"), said("c"));
    let proxy = choosing(&[&a, &b, &c], Protocol::Tcp, hash(HashKey::SourceIp));
    let heard = |proxy: &Proxy| Wire::connect(proxy).read_to_end();
    let first = heard(&proxy);
    assert!(!first.is_empty() && (0..10).all(|_| heard(&proxy) == first));
    let proxy = choosing(&[&a, &b, &c], Protocol::Tcp, hash(HashKey::Header("user".into())));
    let all: BTreeSet<String> = (0..60).map(|_| heard(&proxy)).collect();
    assert_eq!(all.len(), 3, "a connection has no headers");
}

#[test]
fn an_endpoint_that_fails_at_once_is_not_preferred_for_being_fast() {
    let failing = App::http(|_| "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n".to_owned());
    let good = App::named("good");
    let proxy = choosing(&[&failing, &good], Protocol::Http, Balancer::PeakEwma);
    let mut client = Wire::connect(&proxy);
    let answers: Vec<u16> = (0..40).map(|_| client.get("/").status).collect();
    let failed = answers.iter().filter(|status| **status == 500).count();
    assert!(failed <= 2, "{answers:?}");
}

#[test]
fn a_slow_endpoint_is_left_alone_where_latency_decides() {
    let asked = Arc::<AtomicUsize>::default();
    let counted = asked.clone();
    let slow = App::http(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        // As slow as it is, not as long as a test waits.
        std::thread::sleep(Duration::from_millis(300));
        ok("slow")
    });
    let fast = App::named("fast");
    let proxy = choosing(&[&slow, &fast], Protocol::Http, Balancer::PeakEwma);
    let mut client = Wire::connect(&proxy);
    let answers: Vec<String> = (0..40).map(|_| client.get("/").body).collect();
    let fast = answers.iter().filter(|answer| *answer == "fast").count();
    assert!(fast >= 36, "{answers:?}");
    assert!(asked.load(Ordering::SeqCst) <= 4);
}
