use std::time::Duration;

use super::*;
use crate::codec::{key_bytes, read_key};
use crate::frame::{Connection, FrameError, Happened};
use crate::messages::{
    Ack, ClientSays, Empty, Hello, PROTOCOL_VERSION, ServerSays, State, Subscribe, ToClient,
    ToServer, Update, Wanted,
};
use crate::testing::{Control, Place, Proxy as FakeProxy, World, all_of, host, until};

mod questions;
mod work;

type Raw = Connection<tokio::io::DuplexStream, ToClient, ToServer>;

/// A proxy of which the test says every word.
async fn raw(place: &Place, token: &str, version: u32) -> Raw {
    let mut raw = Raw::new(place.connect().unwrap(), 4 << 20);
    let hello = Hello { protocol_version: version, token: token.to_owned() };
    raw.send(&ToServer { says: Some(ClientSays::Hello(hello)) }).unwrap();
    raw
}

async fn heard(raw: &mut Raw) -> Result<ServerSays, FrameError> {
    loop {
        if let Happened::Received(ToClient { says: Some(says) }) = raw.next().await? {
            return Ok(says);
        }
    }
}

async fn update(raw: &mut Raw) -> Update {
    loop {
        match heard(raw).await.unwrap() {
            ServerSays::Update(update) => return update,
            ServerSays::Ping(_) | ServerSays::Welcome(_) | ServerSays::Ask(_) => {}
            other => panic!("expected an update, not {other:?}"),
        }
    }
}

fn subscribe(raw: &mut Raw, keys: &[ResourceKey], more: bool) {
    let wanted = keys
        .iter()
        .map(|key| Wanted { key: key_bytes(key), held: None, only_held: false })
        .collect();
    let subscribe = Subscribe { wanted, more };
    raw.send(&ToServer { says: Some(ClientSays::Subscribe(subscribe)) }).unwrap();
}

fn keys_of(update: Update) -> Vec<ResourceKey> {
    let mut keys: Vec<_> = update.changes.into_iter().map(|c| read_key(&c.key).unwrap()).collect();
    keys.sort();
    keys
}

fn sorted(keys: impl IntoIterator<Item = ResourceKey>) -> Vec<ResourceKey> {
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort();
    keys
}

#[tokio::test(start_paused = true)]
async fn a_foreign_token_and_another_protocol_are_refused_with_the_reason() {
    let place = Place::default();
    place.start(&World::of(&[]));
    for (token, version, expected) in
        [("bad", PROTOCOL_VERSION, "the token proves nothing"), ("good", 99, "version 99")]
    {
        let mut raw = raw(&place, token, version).await;
        let ServerSays::Failed(failed) = heard(&mut raw).await.unwrap() else {
            panic!("{token} was welcome");
        };
        assert!(failed.why.contains(expected), "{}", failed.why);
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    let place = Place::default();
    let server = place.start(&World::of(&[]));
    let silent = place.connect().unwrap();
    assert!(matches!(place.last_session_error().await, SessionError::NoHello));
    drop(silent);

    let mut raw = raw(&place, "good", PROTOCOL_VERSION).await;
    assert!(matches!(heard(&mut raw).await, Ok(ServerSays::Welcome(_))));
    // It is asked whether it lives, does not answer, and is gone.
    assert!(matches!(heard(&mut raw).await, Ok(ServerSays::Ping(_))));
    assert!(heard(&mut raw).await.is_err());
    until("the proxy is forgotten", || server.proxies().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_brings_what_it_refers_to_in_one_update() {
    let place = Place::default();
    place.start(&World::of(&["reviews", "ratings"]));
    let mut raw = raw(&place, "good", PROTOCOL_VERSION).await;
    subscribe(&mut raw, &[host("reviews")], false);
    assert_eq!(keys_of(update(&mut raw).await), sorted(all_of("reviews")));
    subscribe(&mut raw, &[host("nowhere"), ResourceKey::Listeners], false);
    let answer = update(&mut raw).await;
    assert!(
        answer.changes.iter().any(|c| matches!(c.state, Some(State::Nothing(_)))),
        "that there is nothing is an answer, too"
    );
    assert_eq!(keys_of(answer), [ResourceKey::Listeners, host("nowhere")]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_before_the_first_snapshot() {
    let place = Place::default();
    let server = place.start_with(None, WireLimits::default());
    let mut raw = raw(&place, "good", PROTOCOL_VERSION).await;
    subscribe(&mut raw, &[host("reviews")], false);
    assert!(matches!(heard(&mut raw).await, Ok(ServerSays::Welcome(_))));
    // The next thing that it hears, after 10 s of silence, is not an answer.
    assert!(matches!(heard(&mut raw).await, Ok(ServerSays::Ping(_))));
    assert!(!server.proxies()[0].synced);
    server.publish(Arc::new(World::of(&["reviews"])), &Touched::everything());
    assert_eq!(keys_of(update(&mut raw).await), sorted(all_of("reviews")));
}

#[tokio::test(start_paused = true)]
async fn while_acknowledgements_are_missing_changes_are_joined() {
    let place = Place::default();
    let mut world = World::of(&["a"]);
    let limits = WireLimits { updates_in_flight_max: 2, ..WireLimits::default() };
    let server = place.start_with(Some(&world), limits);
    let mut raw = raw(&place, "good", PROTOCOL_VERSION).await;
    subscribe(&mut raw, &[host("a")], false);
    let first = update(&mut raw).await;
    for edit in 0..10 {
        world.edit_route("a", &format!("edit {edit}"));
        server.publish(Arc::new(world.clone()), &Touched::everything());
        if edit == 0 {
            assert_eq!(update(&mut raw).await.changes.len(), 1);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let ack = Ack { nonce: first.nonce, errors: Vec::new() };
    raw.send(&ToServer { says: Some(ClientSays::Ack(ack)) }).unwrap();
    let joined = update(&mut raw).await;
    let Some(State::Is(bytes)) = &joined.changes[0].state else { panic!("it changed") };
    let Ok(ironmesh_model::Resource::Route(route)) = crate::codec::decode(bytes) else {
        panic!("a route")
    };
    assert_eq!(route.rules[0].name, "edit 9", "nine edits in one update, the last one in it");
}

#[tokio::test(start_paused = true)]
async fn an_update_larger_than_a_frame_comes_in_several() {
    let place = Place::default();
    let names: Vec<String> = (0..100).map(|n| format!("service-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let limits = WireLimits { frame_bytes_max: 2_048, ..WireLimits::default() };
    place.start_with(Some(&World::of(&names)), limits.clone());
    place.narrow(100);
    let proxy = FakeProxy::start(&place);
    proxy.client.subscribe(names.iter().map(|name| host(name)).take(10));
    proxy.until("ten services are held", |seen| seen.view.held().count() == 40).await;
    assert_eq!(proxy.seen(|seen| seen.batches.len()), 1, "it is applied as one");
}

#[tokio::test(start_paused = true)]
async fn a_resource_larger_than_a_frame_is_reported_and_the_rest_arrives() {
    let place = Place::default();
    let mut world = World::of(&["a", "b"]);
    world.edit_route("a", &"x".repeat(3_000));
    let limits = WireLimits { frame_bytes_max: 2_048, ..WireLimits::default() };
    let server = place.start_with(Some(&world), limits);
    let proxy = FakeProxy::start(&place);
    proxy.client.subscribe([host("a"), host("b")]);
    proxy.until("all is answered", |seen| seen.view.held().count() == 8).await;
    assert_eq!(proxy.rule("a"), None);
    assert_eq!(proxy.rule("b").as_deref(), Some("first"));
    until("it is reported", || !server.proxies()[0].errors.is_empty()).await;
    let status = server.proxies().remove(0);
    assert!(status.errors[0].why.contains("frame_bytes_max"), "{:?}", status.errors);
    assert!(!status.synced);
    // Where an older version is held that stays.
    world.edit_route("a", "small");
    server.publish(Arc::new(world.clone()), &Touched::everything());
    proxy.until("it fits", |seen| crate::testing::rule_in(&seen.view, "a").is_some()).await;
    until("it is in sync", || server.proxies()[0].synced).await;
    world.edit_route("a", &"x".repeat(3_000));
    server.publish(Arc::new(world), &Touched::everything());
    until("it is reported again", || !server.proxies()[0].errors.is_empty()).await;
    assert_eq!(proxy.rule("a").as_deref(), Some("small"));
}

#[tokio::test(start_paused = true)]
async fn who_has_not_said_hello_gets_little_memory_and_a_message_few_keys() {
    let place = Place::default();
    place.start(&World::of(&[]));
    let long = "x".repeat(100 << 10);
    let mut raw = raw(&place, &long, PROTOCOL_VERSION).await;
    let _ = raw.flush().await;
    assert!(matches!(place.last_session_error().await, SessionError::NoHello));

    let mut raw = self::raw(&place, "good", PROTOCOL_VERSION).await;
    let keys: Vec<_> = (0..1_001).map(|n| host(&format!("h{n}"))).collect();
    subscribe(&mut raw, &keys, false);
    raw.flush().await.unwrap();
    assert!(matches!(place.last_session_error().await, SessionError::TooManyKeys(1_001)));
}

#[tokio::test(start_paused = true)]
async fn too_many_subscriptions_end_the_connection() {
    let place = Place::default();
    let limits = WireLimits { sidecar_subscriptions_max: 3, ..WireLimits::default() };
    place.start_with(Some(&World::of(&[])), limits);
    let mut raw = raw(&place, "good", PROTOCOL_VERSION).await;
    let keys: Vec<_> = (0..4).map(|n| host(&format!("h{n}"))).collect();
    subscribe(&mut raw, &keys, false);
    raw.flush().await.unwrap();
    let error = place.last_session_error().await;
    assert!(matches!(error, SessionError::TooManySubscriptions { max: 3, .. }));
    assert!(error.to_string().contains("sidecar_subscriptions_max"), "{error}");
}

#[test]
fn a_sidecar_may_subscribe_to_less_than_a_gateway() {
    let limits = WireLimits::default();
    let [sidecar, gateway] =
        [ProxyKind::Sidecar, ProxyKind::Gateway].map(|kind| limits.subscriptions_max(kind));
    // What clients make a proxy ask about must find room.
    let asked = ironmesh_model::limits::ProxyLimits::default().resolutions_max;
    assert!(asked < sidecar && sidecar < gateway);
}

#[tokio::test(start_paused = true)]
async fn what_is_referred_to_counts_for_no_limit() {
    let place = Place::default();
    let limits = WireLimits { sidecar_subscriptions_max: 2, ..WireLimits::default() };
    let server = place.start_with(Some(&World::of(&["a", "b"])), limits.clone());
    let proxy = FakeProxy::start(&place);
    proxy.client.subscribe([host("a"), host("b")]);
    proxy.until("all is held", |seen| seen.view.held().count() == 8).await;
    until("it is acknowledged", || server.proxies()[0].synced).await;
    // It says again all that it holds, and is taken again.
    place.kill();
    let server = place.start_with(Some(&World::of(&["a", "b"])), limits);
    until("it is back", || server.proxies().first().is_some_and(|p| p.synced)).await;
    assert_eq!(server.proxies()[0].pushed_resources, 0);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_pings_and_never_reads_fills_no_memory() {
    let place = Place::default();
    place.start(&World::of(&[]));
    place.narrow(16);
    let mut raw = raw(&place, "good", PROTOCOL_VERSION).await;
    for _ in 0..10_000 {
        raw.send(&ToServer { says: Some(ClientSays::Ping(Empty {})) }).unwrap();
    }
    let mut pongs = 0;
    while !raw.is_flushed() {
        if let Happened::Received(ToClient { says: Some(ServerSays::Pong(_)) }) =
            raw.next().await.unwrap()
        {
            pongs += 1;
        }
    }
    assert!(pongs < 10_000, "a pong for every ping would have been queued");
}

#[tokio::test]
async fn a_view_for_explanations_is_what_a_proxy_would_hold() {
    let world = World::of(&["reviews", "ratings"]);
    let peer = Control.authenticate("good", crate::testing::FROM).await.unwrap();
    let changes = expand(&world, &world.scope(&peer).0, [host("reviews")]);
    let keys = sorted(changes.iter().map(|change| change.key.clone()));
    assert_eq!(keys, sorted(all_of("reviews")));
    let (view, errors) = ironmesh_model::View::default().apply(changes);
    assert!(errors.is_empty());
    assert_eq!(crate::testing::rule_in(&view, "reviews").as_deref(), Some("first"));
}

#[tokio::test]
async fn a_connection_costs_little_memory() {
    let place = Place::default();
    let server = place.start(&World::of(&[]));
    let (_near, far) = tokio::io::duplex(64);
    let bytes = size_of_val(&server.serve(far, crate::testing::FROM));
    assert!(bytes < 4_096, "the future of one connection has {bytes} bytes");
}
