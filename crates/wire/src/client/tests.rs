use std::time::Duration;

use ironmesh_model::limits::WireLimits;
use ironmesh_model::{Resource, View};
use tokio::io::duplex;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::codec::key_bytes;
use crate::frame::{Connection, Happened};
use crate::messages::{Changed, ClientSays, Empty, ServerSays, State, ToClient, ToServer, Update};
use crate::server::ProxyError;
use crate::testing::{Place, Proxy, World, all_of, host, until};
use ironmesh_model::snapshot::Touched;

fn sorted(keys: impl IntoIterator<Item = ResourceKey>) -> Vec<ResourceKey> {
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort();
    keys
}

#[tokio::test(start_paused = true)]
async fn an_edit_moves_one_resource_to_who_uses_it_and_nothing_to_others() {
    let place = Place::default();
    let mut world = World::of(&["reviews", "ratings"]);
    let server = place.start(&world);
    let proxy = Proxy::start(&place);
    proxy.client.subscribe([host("reviews")]);
    proxy.until("reviews is held", |seen| seen.view.held().count() == 4).await;

    world.edit_route("ratings", "edited");
    server.publish(Arc::new(world.clone()), &Touched::everything());
    world.edit_route("reviews", "edited");
    server.publish(Arc::new(world.clone()), &Touched::everything());
    proxy.until("the edit is here", |seen| seen.batches.len() == 2).await;
    assert_eq!(
        proxy.seen(|seen| seen.batches[1].clone()),
        [ResourceKey::Route(crate::testing::route_id("reviews"))]
    );
    assert_eq!(proxy.rule("reviews").as_deref(), Some("edited"));
    until("all is acknowledged", || server.proxies()[0].synced).await;
    let status = server.proxies().remove(0);
    assert_eq!((status.resources, status.acknowledged), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn what_nothing_refers_to_any_more_is_forgotten() {
    let place = Place::default();
    let mut world = World::of(&["reviews", "ratings"]);
    let server = place.start(&world);
    let proxy = Proxy::start(&place);
    proxy.client.subscribe([host("reviews"), host("ratings")]);
    proxy.until("both are held", |seen| seen.view.held().count() == 8).await;

    proxy.client.unsubscribe([host("ratings")]);
    proxy.until("ratings is forgotten", |seen| seen.view.held().count() == 4).await;
    assert_eq!(proxy.held(), sorted(all_of("reviews")));

    // A service that is gone leaves the answer that there is none.
    world.remove("reviews");
    server.publish(Arc::new(world), &Touched::everything());
    proxy.until("reviews is absent", |seen| seen.view.held().count() == 1).await;
    assert_eq!(proxy.held(), [host("reviews")]);

    // And comes back by itself.
    server.publish(Arc::new(World::of(&["reviews"])), &Touched::everything());
    proxy.until("reviews is back", |seen| seen.view.held().count() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_control_plane_sends_an_unchanged_proxy_nothing() {
    let place = Place::default();
    let world = World::of(&["reviews", "ratings"]);
    place.start(&world);
    let proxy = Proxy::start(&place);
    proxy.client.subscribe([ResourceKey::Settings, host("reviews"), host("nowhere")]);
    proxy.until("all is held", |seen| seen.view.held().count() == 6).await;

    place.kill();
    until("the proxy notices", || !proxy.client.connection().connected).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(proxy.held().len(), 6, "what is held stays while nobody is there");

    let server = place.start(&world);
    until("all is in sync", || server.proxies().first().is_some_and(|p| p.synced)).await;
    let status = server.proxies().remove(0);
    assert_eq!((status.pushed_bytes, status.resources, status.acknowledged), (0, 6, 6));
    assert_eq!(proxy.seen(|seen| seen.batches.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn what_changed_while_nobody_was_there_is_caught_up() {
    let place = Place::default();
    let mut world = World::of(&["reviews", "ratings", "details"]);
    place.start(&world);
    let proxy = Proxy::start(&place);
    proxy.client.subscribe([host("reviews"), host("ratings")]);
    proxy.until("both are held", |seen| seen.view.held().count() == 8).await;
    place.kill();
    until("the proxy notices", || !proxy.client.connection().connected).await;

    // Wanted and no longer wanted meanwhile, edited meanwhile, gone meanwhile.
    proxy.client.subscribe([host("details")]);
    proxy.client.unsubscribe([host("ratings")]);
    world.edit_route("reviews", "edited");
    place.start(&world);
    proxy
        .until("it is caught up", |seen| {
            seen.view.get(&host("details")).is_some() && seen.view.get(&host("ratings")).is_none()
        })
        .await;
    let expected = sorted(all_of("reviews").into_iter().chain(all_of("details")));
    assert_eq!(proxy.held(), expected);
    assert_eq!(proxy.rule("reviews").as_deref(), Some("edited"));
}

#[tokio::test(start_paused = true)]
async fn connections_may_end_at_any_point() {
    let place = Place::default();
    place.narrow(7);
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::of(&names);
    let server = place.start(&world);
    let proxy = Proxy::start(&place);
    for round in 0..200_u32 {
        let name = names[round as usize % names.len()];
        match round % 3 {
            0 => drop(proxy.client.subscribe([host(name)])),
            1 => world.edit_route(name, &format!("round {round}")),
            _ => proxy.client.unsubscribe([host(names[(round as usize * 7) % names.len()])]),
        }
        server.publish(Arc::new(world.clone()), &Touched::everything());
        for _ in 0..round % 50 {
            tokio::task::yield_now().await;
        }
        if round % 5 == 0 {
            place.cut();
            sleep(Duration::from_millis(u64::from(round))).await;
        }
    }
    proxy.client.subscribe(names.iter().map(|name| host(name)));
    let expected = sorted(names.iter().flat_map(|name| all_of(name)));
    until("all is in sync", || {
        proxy.held() == expected && server.proxies().first().is_some_and(|p| p.synced)
    })
    .await;
    for name in names {
        let key = ResourceKey::Route(crate::testing::route_id(name));
        let Some(Resource::Route(route)) = world.0.get(&key) else { panic!() };
        assert_eq!(proxy.rule(name).as_ref(), Some(&route.rules[0].name), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_wanted_again_while_it_is_being_forgotten_is_not_lost() {
    let place = Place::default();
    place.narrow(5);
    let server = place.start(&World::of(&["reviews"]));
    let proxy = Proxy::start(&place);
    for yields in 0..300 {
        proxy.client.subscribe([host("reviews")]);
        until("it is held", || {
            proxy.held().len() == 4 && server.proxies().first().is_some_and(|p| p.synced)
        })
        .await;
        proxy.client.unsubscribe([host("reviews")]);
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_grow_up_to_a_limit() {
    let place = Place::default();
    let proxy = Proxy::start_with(&place, "good", WireLimits::default());
    sleep(Duration::from_secs(2)).await;
    let early = place.attempts();
    assert!((4..=8).contains(&early), "{early} attempts in 2 s");
    sleep(Duration::from_secs(600)).await;
    let later = place.attempts() - early;
    assert!((110..=260).contains(&later), "{later} attempts in 10 min: every 2.5 s to 5 s");
    assert!(proxy.client.connection().last_error.unwrap().contains("no connection"));

    // A control plane that welcomes and ends at once is no better than none.
    let deaf = WireLimits { frame_bytes_max: 40, ..WireLimits::default() };
    place.start_with(None, deaf);
    proxy.client.subscribe((0..10).map(|n| host(&format!("service-{n}"))));
    let before = place.attempts();
    sleep(Duration::from_secs(600)).await;
    let welcomed = place.attempts() - before;
    assert!((110..=260).contains(&welcomed), "{welcomed} attempts in 10 min");

    // It is there within a longest pause.
    let server = place.start(&World::of(&[]));
    let since = Instant::now();
    until("the proxy is back", || !server.proxies().is_empty()).await;
    assert!(since.elapsed() <= Duration::from_millis(5_010), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_cannot_use_shows_at_the_control_plane() {
    let place = Place::default();
    let mut world = World::of(&["reviews"]);
    let server = place.start(&world);
    let proxy = Proxy::start(&place);
    let route = ResourceKey::Route(crate::testing::route_id("reviews"));
    proxy.seen(|seen| seen.unusable = Some(route.clone()));
    proxy.client.subscribe([host("reviews")]);
    until("the error is known", || server.proxies().first().is_some_and(|p| !p.errors.is_empty()))
        .await;
    let (what, why) = (route.to_string(), "not to my taste".to_owned());
    let error = ProxyError { what, why, is_refused_here: false };
    assert_eq!(server.proxies()[0].errors, [error]);
    let holding = server.holding("uid", &route).unwrap();
    assert_eq!(holding.sent, holding.acknowledged, "a part is dead, the rest is in use");

    proxy.seen(|seen| seen.unusable = None);
    world.edit_route("reviews", "better");
    server.publish(Arc::new(world), &Touched::everything());
    until("the error is gone", || server.proxies()[0].errors.is_empty()).await;
}

/// A resource of a later version, say: requests must not wait for what will not come.
#[tokio::test(start_paused = true)]
async fn what_a_proxy_cannot_read_and_does_not_hold_is_known_not_to_be_there() {
    let (near, far) = duplex(64 << 10);
    let mut near = Some(near);
    let connect = move || std::future::ready(near.take().ok_or(io::ErrorKind::NotFound.into()));
    let view = Arc::<Mutex<View>>::default();
    let of_apply = view.clone();
    let apply = move |changes: Vec<Change>| {
        let mut view = of_apply.lock().unwrap();
        let (next, errors) = view.apply(changes);
        *view = next;
        errors
    };
    let (client, driver) =
        Client::new(WireLimits::default(), ProxyKind::Sidecar, "good".to_owned(), connect, apply);
    let driver = tokio::spawn(driver.run());
    client.subscribe([ResourceKey::Settings]);
    let mut server = Connection::<_, ToServer, ToClient>::new(far, 4 << 20);
    server.send(&ToClient { says: Some(ServerSays::Welcome(Empty {})) }).unwrap();
    let readable = crate::codec::encode(&Resource::Settings(Arc::default()));
    let mut update = async |nonce, bytes| {
        let key = key_bytes(&ResourceKey::Settings);
        let changed = Changed { key, version: nonce, state: Some(State::Is(bytes)) };
        let update = Update { nonce, changes: vec![changed], more: false };
        server.send(&ToClient { says: Some(ServerSays::Update(update)) }).unwrap();
        loop {
            let happened = server.next().await.unwrap();
            if let Happened::Received(ToServer { says: Some(ClientSays::Ack(ack)) }) = happened {
                return ack.errors;
            }
        }
    };
    let held = || view.lock().unwrap().get(&ResourceKey::Settings).map(|h| h.resource.is_some());
    let errors = update(1, b"nonsense".as_slice().into()).await;
    assert!(errors[0].refused && errors[0].why.contains("malformed"), "{errors:?}");
    assert_eq!(held(), Some(false));
    assert_eq!(update(2, readable).await, []);
    assert_eq!(held(), Some(true));
    assert!(update(3, b"nonsense".as_slice().into()).await[0].refused);
    assert_eq!(held(), Some(true), "what is held stays");
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn certificates_are_signed_refused_and_awaited_over_lost_connections() {
    let place = Place::default();
    place.start(&World::of(&[]));
    let proxy = Proxy::start(&place);
    let signed = proxy.client.sign(b"csr".to_vec()).await.unwrap();
    assert_eq!(signed.chain[1], b"csr");
    assert_eq!((signed.anchors_pem.as_str(), signed.not_after), ("anchors", 7));
    let refused = proxy.client.sign(Vec::new()).await.unwrap_err();
    assert_eq!(refused, SignError::Refused("there is nothing to sign".to_owned()));

    place.kill();
    let client = proxy.client.clone();
    let waiting = tokio::spawn(async move { client.sign(b"later".to_vec()).await });
    sleep(Duration::from_secs(60)).await;
    assert!(!waiting.is_finished());
    place.start(&World::of(&[]));
    assert_eq!(waiting.await.unwrap().unwrap().chain[1], b"later");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_certificates_wait_and_who_gives_up_makes_room() {
    let place = Place::default();
    let proxy = Proxy::start(&place);
    let sign = || timeout(Duration::from_secs(1), proxy.client.sign(b"csr".to_vec()));
    let mut waiting = Vec::new();
    for _ in 0..WireLimits::default().sign_requests_max {
        let client = proxy.client.clone();
        waiting.push(tokio::spawn(async move { client.sign(b"csr".to_vec()).await }));
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(sign().await.unwrap(), Err(SignError::TooMany));
    waiting.pop().unwrap().abort();
    sleep(Duration::from_millis(1)).await;
    assert!(sign().await.is_err(), "it waits now");
}

#[tokio::test(start_paused = true)]
async fn a_refused_proxy_says_why_and_tries_again() {
    let place = Place::default();
    place.start(&World::of(&[]));
    let proxy = Proxy::start_with(&place, "bad", WireLimits::default());
    until("it is refused", || proxy.client.connection().last_error.is_some()).await;
    let why = proxy.client.connection().last_error.unwrap();
    assert!(why.contains("the token proves nothing"), "{why}");
    let before = place.attempts();
    sleep(Duration::from_secs(30)).await;
    assert!(place.attempts() > before);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_stays() {
    let place = Place::default();
    let server = place.start(&World::of(&["reviews"]));
    let proxy = Proxy::start(&place);
    proxy.client.subscribe([host("reviews")]);
    proxy.until("reviews is held", |seen| seen.view.held().count() == 4).await;
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(place.attempts(), 1);
    assert!(server.proxies()[0].synced);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_wants_no_more_than_its_limit() {
    let place = Place::default();
    let limits = WireLimits { sidecar_subscriptions_max: 2, ..WireLimits::default() };
    let proxy = Proxy::start_with(&place, "good", limits);
    assert!(proxy.client.subscribe([host("a"), host("b"), host("a")]));
    assert!(!proxy.client.subscribe([host("c")]));
    proxy.client.unsubscribe([host("a")]);
    assert!(proxy.client.subscribe([host("c")]));
}
