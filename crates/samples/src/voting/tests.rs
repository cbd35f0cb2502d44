use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex};

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::analytics::{Analytics, text};
use super::app::VotingApp;
use super::store::Store;
use crate::client::Client;
use crate::redis::Redis;
use crate::server::App;
use crate::server::tests::{body, get, request, start};

type Numbers = Arc<StdMutex<HashMap<String, u64>>>;

/// As much of Redis as the applications use.
async fn redis() -> Store {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let numbers = Numbers::default();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, Arc::clone(&numbers)));
        }
    });
    Store::Redis(Redis::new(server))
}

async fn serve(stream: TcpStream, numbers: Numbers) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(head) = lines.next_line().await.unwrap() {
        let count: usize = head[1..].parse().unwrap();
        let mut words = Vec::new();
        for _ in 0..count {
            lines.next_line().await.unwrap();
            words.push(lines.next_line().await.unwrap().unwrap());
        }
        let answer = {
            let mut numbers = numbers.lock().unwrap();
            let number = numbers.entry(words[1].clone()).or_default();
            match &*words[0] {
                "INCR" => {
                    *number += 1;
                    format!(":{number}\r\n")
                }
                "SET" => {
                    *number = words[2].parse().unwrap();
                    "+OK\r\n".to_owned()
                }
                _ => format!("$1\r\n{number}\r\n"),
            }
        };
        lines.get_mut().write_all(answer.as_bytes()).await.unwrap();
    }
}

fn choices() -> [String; 2] {
    ["Cats".to_owned(), "Dogs".to_owned()]
}

/// The page before analytics of a version and its Redis.
async fn app(has_percentages: bool) -> VotingApp {
    let store = redis().await;
    let Store::Redis(server) = &store else { unreachable!() };
    let same = Store::Redis(Redis::new(server.server().to_owned()));
    let analytics = start(Analytics { store: same, choices: choices(), has_percentages }).await;
    VotingApp {
        title: "Voting App".to_owned(),
        choices: choices(),
        shows_details: true,
        has_feature_flag: true,
        host: "voting-app-1-0-x".to_owned(),
        store,
        analytics: analytics.to_string(),
        client: Client::default(),
    }
}

async fn vote(app: &VotingApp, vote: &str) -> Response<Bytes> {
    app.answer(request("POST", "/", &format!("vote={vote}"))).await
}

#[tokio::test]
async fn votes_are_counted_and_can_be_forgotten() {
    let app = app(true).await;
    for choice in ["Cats", "Dogs", "Dogs"] {
        let answer = vote(&app, choice).await;
        assert_eq!(answer.status(), 302);
        assert_eq!(answer.headers()["location"], "/");
    }
    let line = "\n      <div id=\"results\"> Cats: 1/3 (33%) | Dogs: 2/3 (67%) </div>\n";
    let page = app.answer(get("/")).await;
    assert!(body(&page).contains(line), "{}", body(&page));
    for line in ["host: voting-app-1-0-x<br/>", "store: redis<br/>", "/featureflag/clear"] {
        assert!(body(&page).contains(line), "{}", body(&page));
    }
    vote(&app, "reset").await;
    let page = app.answer(get("/")).await;
    assert!(body(&page).contains(" Cats: 0/0 (0%) | Dogs: 0/0 (0%) "), "{}", body(&page));
    assert_eq!(vote(&app, "Birds").await.status(), 400);
}

#[tokio::test]
async fn the_first_version_counts_only() {
    let app = app(false).await;
    vote(&app, "Cats").await;
    let page = app.answer(get("/")).await;
    assert!(body(&page).contains("<div id=\"results\"> Cats: 1 | Dogs: 0 </div>"));
}

#[tokio::test]
async fn the_flag_is_a_cookie_and_cleared_it_is_empty() {
    let app = app(true).await;
    for (path, cookie) in
        [("set", "featureflag=on; Path=/; Expires="), ("clear", "featureflag=; Path=/; Expires=")]
    {
        let answer = app.answer(request("POST", &format!("/featureflag/{path}"), "")).await;
        let set = answer.headers()["set-cookie"].to_str().unwrap();
        assert!(set.starts_with(cookie) && set.ends_with(" GMT"), "{set}");
        assert_eq!(answer.status(), 302);
    }
}

#[tokio::test]
async fn what_is_away_is_said() {
    let away = "127.0.0.1:1".to_owned();
    let store = Store::Redis(Redis::new(away.clone()));
    let app = VotingApp { store, analytics: away, ..app(true).await };
    let page = app.answer(get("/")).await;
    assert_eq!(page.status(), 500);
    assert!(body(&page).contains("do not answer"), "{}", body(&page));
    assert_eq!(vote(&app, "Cats").await.status(), 500);
}

#[test]
fn halves_are_rounded_up() {
    assert_eq!(text(&choices(), [1, 7], true), "Cats: 1/8 (13%) | Dogs: 7/8 (88%)");
    assert_eq!(text(&choices(), [2, 4], false), "Cats: 2 | Dogs: 4");
}
