//! Clients that send too little, read nothing, or ask for what makes no sense.

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::world::{Api, DEADLINE, World, eventually};

async fn connected(world: &World, head: &str) -> UnixStream {
    let mut stream = UnixStream::connect(world.socket()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// What can be read until a text comes; the whole if it does not.
async fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut part = vec![0; 4096];
    while !String::from_utf8_lossy(&all).contains(text) {
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut part)).await.expect("an answer");
        match read {
            Ok(0) | Err(_) => break,
            Ok(count) => all.extend_from_slice(&part[..count]),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn half_sent_heads_keep_nobody_out_and_busy_connections_are_told_of() {
    let world = World::start();
    let api = world.api();
    api.get("/version").await;
    let mut half = Vec::new();
    for _ in 0..300 {
        half.push(connected(&world, "GET /api/v1/pods HTTP/1.1\r\nHos").await);
    }
    api.get("/version").await;
    // Those that came first made room.
    assert_eq!(read_until(&mut half[0], "x").await, "");

    // Watches are requests that go on: then there is no room, and that is said.
    let mut watches = Vec::new();
    for _ in 0..256 {
        let watch = "GET /api/v1/configmaps?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n";
        watches.push(connected(&world, watch).await);
    }
    for watch in &mut watches {
        assert!(read_until(watch, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }
    let (status, refused) = api.request(Method::GET, "/version", &[], None).await;
    assert_eq!((status.as_u16(), &refused["reason"]), (429, &json!("TooManyRequests")));
    assert!(refused["message"].as_str().unwrap().contains("api_connections_max = 256"));
    watches.pop();
    eventually(|| async { api.try_get("/version").await }).await;
}

#[tokio::test]
async fn bodies_that_do_not_come_keep_nobody_waiting_for_ever() {
    let world = World::start();
    let api = world.api();
    api.get("/version").await;
    let mut half = Vec::new();
    // Together they announce more than there is room for.
    for _ in 0..40 {
        let head = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n{";
        half.push(connected(&world, head).await);
    }
    api.get("/version").await;
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})).await;
    let said = read_until(&mut half[0], "did not come within").await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    let head = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n";
    let said = read_until(&mut connected(&world, head).await, "object_bytes_max").await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn clients_that_do_not_read_share_what_waits_for_them() {
    let world = World::start();
    let api = world.api();
    for number in 0..4 {
        api.create(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("large-{number}")},
            "data": {"a": "x".repeat(500_000)},
        }))
        .await;
    }
    let before = resident_bytes();
    let mut clients = Vec::new();
    for query in ["?watch=1", "", "?watch=1&allowWatchBookmarks=1&sendInitialEvents=1"] {
        for _ in 0..20 {
            let head = format!("GET /api/v1/configmaps{query} HTTP/1.1\r\nHost: x\r\n\r\n");
            clients.push(connected(&world, &head).await);
        }
    }
    for client in &mut clients {
        assert!(read_until(client, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 60 << 20, "{grown} bytes for 60 clients of a list of 2 MB");
    // Who reads gets all of it.
    let mut list = String::new();
    let mut last = connected(
        &world,
        "GET /api/v1/configmaps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    last.read_to_string(&mut list).await.unwrap();
    assert!(list.len() > 2_000_000 && list.contains("large-3"), "{}", list.len());
}

/// Requests that Kubernetes' API server refuses, and with what.
const REFUSED: &[(&str, u16, &str)] = &[
    ("/api/v1/pods?labelSelector=a%20b", 400, "unable to parse requirement"),
    ("/api/v1/pods?labelSelector=a%3D%3D%3Db", 400, "unable to parse requirement"),
    ("/api/v1/pods?labelSelector=%2Fx", 400, "unable to parse requirement"),
    ("/api/v1/pods?labelSelector=a%20in%20(b", 400, "expected a comma or ')'"),
    ("/api/v1/pods?fieldSelector=spec.color%3Dred", 400, "field label not supported: spec.color"),
    ("/api/v1/pods?fieldSelector=x", 400, "invalid field selector"),
    ("/api/v1/pods?watch=1&labelSelector=a%20b", 400, "unable to parse requirement"),
    ("/api/v1/pods?continue=abc", 400, "continue key is not valid"),
    ("/api/v1/pods?limit=-1", 400, "limit: Invalid value"),
    ("/api/v1/pods?limit=many", 400, "limit: Invalid value"),
    ("/api/v1/pods?resourceVersion=new", 400, "resourceVersion: Invalid value"),
    ("/api/v1/pods?resourceVersion=99999", 504, "Too large resource version"),
    ("/api/v1/pods?resourceVersionMatch=Exact", 400, "forbidden unless resourceVersion"),
    ("/api/v1/pods?resourceVersion=1&resourceVersionMatch=Near", 400, "Unsupported value"),
    ("/api/v1/pods?resourceVersion=1&resourceVersionMatch=Exact", 410, "too old resource version"),
    ("/api/v1/pods?watch=1&resourceVersion=new", 400, "resourceVersion: Invalid value"),
    ("/api/v1/pods?watch=1&timeoutSeconds=soon", 400, "timeoutSeconds: Invalid value"),
    ("/api/v1/pods?labelSelector=%ff", 400, "is not UTF-8"),
    ("/api/v1/namespaces/%ff/pods", 400, "is not UTF-8"),
    ("/api/v1/namespaces/default/pods/%zz", 400, "has an escape"),
    ("/api/v1/namespaces/default/pods/a%20b", 404, "pods \"a b\" not found"),
];

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_kubernetes_does() {
    let world = World::start();
    let api = world.api();
    for (path, code, said) in REFUSED {
        let (status, answer) = api.request(Method::GET, path, &[], None).await;
        assert_eq!(status, *code, "{path}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(said), "{path}: {message}");
    }
    // What is like them and in order is answered.
    for path in [
        "/api/v1/pods?limit=500&labelSelector=a%20in%20(b,c),!d,e!%3Df",
        "/api/v1/events?fieldSelector=involvedObject.name%3Da,type!%3DNormal",
        "/api/v1/pods?resourceVersion=0&resourceVersionMatch=NotOlderThan",
    ] {
        api.get(path).await;
    }
}

async fn code_of(api: &Api, method: Method, path: &str, kind: &str, body: &Value) -> (u16, String) {
    let (status, answer) = api.request(method, path, &[("content-type", kind)], Some(body)).await;
    (status.as_u16(), answer["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn bodies_and_deletions_that_make_no_sense_change_nothing() {
    let world = World::start();
    let api = world.api();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    api.create(map.clone()).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let one = &format!("{maps}/a");
    let (code, said) = code_of(&api, Method::POST, maps, "application/yaml", &map).await;
    assert_eq!(code, 415, "{said}");
    for (path, body) in [
        (format!("{one}?gracePeriodSeconds=soon"), json!({})),
        (format!("{one}?gracePeriodSeconds=-1"), json!({})),
        (format!("{one}?propagationPolicy=Sideways"), json!({})),
        (one.clone(), json!({"gracePeriodSeconds": "5"})),
        (one.clone(), json!({"propagationPolicy": "Sideways"})),
        (one.clone(), json!([])),
    ] {
        let (code, said) = code_of(&api, Method::DELETE, &path, "application/json", &body).await;
        assert_eq!(code, 400, "{path} {body}: {said}");
    }
    // A patch that doubles what is there again and again, and one that makes it larger bit by bit.
    let copy = |n| json!({"op": "copy", "from": "/data", "path": format!("/data/x{n}")});
    let copies: Value = (0..40).map(copy).collect();
    let (code, said) =
        code_of(&api, Method::PATCH, one, "application/json-patch+json", &copies).await;
    assert_eq!(code, 413, "{said}");
    let mut last = 200;
    for number in 0..40 {
        let patch = json!({"data": {format!("k{number}"): "x".repeat(100_000)}});
        last = code_of(&api, Method::PATCH, one, "application/merge-patch+json", &patch).await.0;
        if last != 200 {
            break;
        }
    }
    assert_eq!(last, 413);
    assert_eq!(api.get(one).await["data"]["k"], "v");
}
