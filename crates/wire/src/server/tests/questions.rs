//! Questions to proxies: one that answers, and those that do not, or answer anything.

use std::time::Duration;

use ironmesh_model::group::{EndpointLoad, GroupKey, GroupReport, MemberReport};
use tokio::sync::mpsc;

use super::*;
use crate::client::{Client, Question};
use crate::codec::report_bytes;
use crate::messages::{Ask, Told};
use crate::testing::service_id;

/// A group of so many endpoints.
fn group(name: &str, members: usize) -> GroupReport {
    let member = |at: usize| MemberReport {
        address: (std::net::Ipv4Addr::from(0x0a4d_0000 + at as u32), 9080).into(),
        namespace: "default".into(),
        workload: format!("{name}-{at}").into(),
        ready: true,
        ejected_for: Duration::from_secs(at as u64),
        failures_in_a_row: 1,
        failures: 2,
        load: Some(EndpointLoad { connections: 3, requests: 4 }),
    };
    let key = GroupKey { service: service_id(name), port: 80, subset: None };
    GroupReport { key, usage: None, members: (0..members).map(member).collect() }
}

/// The uid of the only proxy, once it is connected.
async fn uid(server: &Server<Control>) -> String {
    until("the proxy", || !server.proxies().is_empty()).await;
    server.proxies()[0].peer.workload.uid.to_string()
}

/// A proxy that holds these groups.
async fn telling(place: &Place, groups: Vec<GroupReport>, limits: WireLimits) -> Client {
    let (to, mut questions) = mpsc::channel::<Question>(4);
    tokio::spawn(async move {
        while let Some(Question { hosts, answer }) = questions.recv().await {
            let asked = groups.iter().filter(|group| {
                hosts.is_empty() || hosts.iter().any(|host| **host == *group.key.service.hostname)
            });
            let _ = answer.send(asked.cloned().collect());
        }
    });
    let place = place.clone();
    let connect = move || std::future::ready(place.connect());
    let apply = |_| Vec::new();
    let (client, driver) =
        Client::new(limits, ProxyKind::Sidecar, "good".to_owned(), connect, apply);
    tokio::spawn(driver.with_questions(to).run());
    client.subscribe([host("reviews")]);
    client
}

#[tokio::test(start_paused = true)]
async fn a_proxy_tells_of_the_groups_that_it_is_asked_about() {
    let place = Place::default();
    let server = place.start(&World::of(&["reviews"]));
    let groups = vec![group("reviews", 3), group("ratings", 700), group("empty", 0)];
    let _client = telling(&place, groups.clone(), WireLimits::default()).await;
    let uid = uid(&server).await;
    let all = server.ask(&uid, Vec::new()).await.unwrap();
    assert_eq!(all, GroupsTold { groups: groups.clone(), left_out: 0 }, "in several pieces");
    let hostname = service_id("reviews").hostname.to_string();
    let some = server.ask(&uid, vec![hostname]).await.unwrap();
    assert_eq!(some.groups, groups[..1]);
    assert_eq!(server.ask("nobody", Vec::new()).await, Err(AskError::NotConnected));
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_in_an_answer_is_left_out_and_counted() {
    let place = Place::default();
    let server = place.start(&World::of(&["reviews"]));
    let groups = vec![group("reviews", 10), group("ratings", 50_000)];
    let _client = telling(&place, groups, WireLimits::default()).await;
    let told = server.ask(&uid(&server).await, Vec::new()).await.unwrap();
    let members: usize = told.groups.iter().map(|group| group.members.len()).sum();
    assert_eq!(members as u64 + told.left_out, 50_010);
    assert!(members > 5_000 && told.left_out > 5_000, "{members}");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_of_which_nobody_answers_says_so() {
    let place = Place::default();
    let server = place.start(&World::of(&["reviews"]));
    let proxy = FakeProxy::start(&place);
    proxy.client.subscribe([host("reviews")]);
    let refused = server.ask(&uid(&server).await, Vec::new()).await;
    assert_eq!(refused, Err(AskError::Refused("nobody answers for the proxy".to_owned())));
}

/// The next question that a proxy is asked.
async fn asked(raw: &mut Raw) -> Ask {
    loop {
        match heard(raw).await.unwrap() {
            ServerSays::Ask(ask) => return ask,
            ServerSays::Failed(failed) => panic!("{}", failed.why),
            _ => {}
        }
    }
}

fn tell(raw: &mut Raw, told: Told) {
    raw.send(&ToServer { says: Some(ClientSays::Told(told)) }).unwrap();
}

/// Whether the session still brings what is subscribed to.
async fn assert_goes_on(raw: &mut Raw, server: &Arc<Server<Control>>, rule: &str) {
    let mut world = World::of(&["reviews"]);
    world.edit_route("reviews", rule);
    server.publish(Arc::new(world), &Touched::everything());
    let update = update(raw).await;
    assert!(!update.changes.is_empty());
    let ack = Ack { nonce: update.nonce, errors: Vec::new() };
    raw.send(&ToServer { says: Some(ClientSays::Ack(ack)) }).unwrap();
}

#[tokio::test(start_paused = true)]
async fn whatever_a_proxy_answers_its_session_goes_on() {
    let place = Place::default();
    let limits = WireLimits { answer_bytes_max: 1 << 20, ..WireLimits::default() };
    let server = place.start_with(Some(&World::of(&["reviews"])), limits);
    let mut raw = raw(&place, "good", PROTOCOL_VERSION).await;
    subscribe(&mut raw, &[host("reviews")], false);
    let first = update(&mut raw).await;
    let ack = Ack { nonce: first.nonce, errors: Vec::new() };
    raw.send(&ToServer { says: Some(ClientSays::Ack(ack)) }).unwrap();
    let uid = uid(&server).await;

    let garbage =
        |id| Told { id, groups: vec![(&b"\xff\x00garbage"[..]).into()], ..Told::default() };
    let long = |id| Told { id, groups: vec![vec![0; 64 << 10].into()], ..Told::default() };
    let piece = report_bytes(&group("reviews", 30));
    let much = |id| Told { id, groups: vec![piece.clone(); 1_000], more: true, ..Told::default() };
    let word = |id| Told { id, refused: "no\u{1b}[2J".repeat(1_000), ..Told::default() };
    type IsExpected = fn(&AskError) -> bool;
    let answers: [(&dyn Fn(u64) -> Told, IsExpected); 4] = [
        (&garbage, |error| matches!(error, AskError::Unreadable(_))),
        (&long, |error| matches!(error, AskError::TooLarge(_))),
        (&much, |error| matches!(error, AskError::TooLarge(_))),
        (
            &word,
            |error| matches!(error, AskError::Refused(why) if why.len() == 256 && !why.contains('\u{1b}')),
        ),
    ];
    for (at, (answer, expected)) in answers.into_iter().enumerate() {
        let (error, ()) = tokio::join!(server.ask(&uid, Vec::new()), async {
            let ask = asked(&mut raw).await;
            // Nobody asked that.
            tell(&mut raw, answer(ask.id + 77));
            tell(&mut raw, answer(ask.id));
            // And more of it, when nobody wants it any more.
            tell(&mut raw, answer(ask.id));
            raw.flush().await.unwrap();
        });
        assert!(expected(error.as_ref().unwrap_err()), "{error:?}");
        assert_goes_on(&mut raw, &server, &format!("rule-{at}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_never_answers_is_not_waited_for_and_still_served() {
    let place = Place::default();
    let server = place.start(&World::of(&["reviews"]));
    let mut raw = raw(&place, "good", PROTOCOL_VERSION).await;
    subscribe(&mut raw, &[host("reviews")], false);
    let first = update(&mut raw).await;
    let ack = Ack { nonce: first.nonce, errors: Vec::new() };
    raw.send(&ToServer { says: Some(ClientSays::Ack(ack)) }).unwrap();
    let uid = uid(&server).await;
    let limits = WireLimits::default();
    let questions: Vec<_> = (0..=limits.questions_max)
        .map(|_| {
            let (server, uid) = (server.clone(), uid.clone());
            tokio::spawn(async move { server.ask(&uid, Vec::new()).await })
        })
        .collect();
    let ask = asked(&mut raw).await;
    assert_goes_on(&mut raw, &server, "meanwhile").await;
    // A part of an answer is none.
    let groups = vec![report_bytes(&group("reviews", 1))];
    tell(&mut raw, Told { id: ask.id, groups, more: true, ..Told::default() });
    raw.flush().await.unwrap();
    let mut refused = Vec::new();
    for question in questions {
        refused.push(question.await.unwrap().unwrap_err());
    }
    let too_many = AskError::TooMany(limits.questions_max);
    assert_eq!(refused.iter().filter(|error| **error == too_many).count(), 1);
    let silent = AskError::Silent(limits.question_wait);
    assert_eq!(refused.iter().filter(|error| **error == silent).count(), limits.questions_max);

    // Those that were given up have left their places, and one who leaves is not waited for.
    let (answer, ()) = tokio::join!(server.ask(&uid, Vec::new()), async {
        asked(&mut raw).await;
        drop(raw);
    });
    assert_eq!(answer, Err(AskError::NotConnected));
}
