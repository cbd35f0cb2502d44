//! Requests that are sent again, since a kept connection ended without an answer.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use ironmesh_model::service::Protocol;

use super::world::*;

#[test]
fn a_kept_connection_that_died_is_replaced() {
    // Each connection takes one request and is then closed, without having said so.
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        if wire.read_request().is_some() {
            wire.send(&ok("once"));
        }
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    for _ in 0..20 {
        assert_eq!(client.get("/").body, "once");
    }
    eventually("the log lines", || proxy.lines.text().lines().count() == 20);
    let lines = proxy.lines.text();
    assert!(lines.lines().all(|line| line.contains(" 200 - ")), "{lines}");
}

#[test]
fn kept_connections_that_died_together_cost_one_replay() {
    const KEPT: usize = 3;
    let app = dying(KEPT);
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut clients: Vec<Wire> = (0..KEPT).map(|_| Wire::connect(&proxy)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.read_response(false).body, "before");
    }
    assert_eq!(clients[0].get("/").body, "after");

    // At two endpoints: the replay goes to the other one.
    let apps = [dying(1), dying(1)];
    let proxy = outbound(Protocol::Http, &apps.each_ref());
    let mut client = Wire::connect(&proxy);
    let answers = [(); 3].map(|()| client.get("/").body);
    assert_eq!(answers, ["before", "before", "after"]);
}

/// An application whose first connections, so many, take a request each at the same time, and end
/// at their second: as of an endpoint that is killed. Later ones are of what took its place.
fn dying(first: usize) -> App {
    let (taken, all) = (AtomicUsize::new(0), Barrier::new(first));
    App::start(move |stream| {
        let mut wire = Wire::new(stream);
        let dies = taken.fetch_add(1, Ordering::SeqCst) < first;
        while wire.read_request().is_some() {
            if dies {
                all.wait();
            }
            wire.send(&ok(if dies { "before" } else { "after" }));
            if dies {
                wire.read_request();
                return;
            }
        }
    })
}

#[test]
fn a_body_of_many_pieces_is_replayed_whole() {
    // The first connection ends at its second request, of which it has read all.
    let taken = AtomicUsize::new(0);
    let app = App::start(move |stream| {
        let mut wire = Wire::new(stream);
        let mut left = if taken.fetch_add(1, Ordering::SeqCst) == 0 { 1 } else { usize::MAX };
        while let Some(request) = wire.read_request().filter(|_| left > 0) {
            left -= 1;
            wire.send(&ok(&request.body));
        }
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").status, 200);
    let body: String = (0..2000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let chunks: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    client.send(&format!(
        "PUT / HTTP/1.1\r\nhost: reviews:9080\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    ));
    let response = client.read_response(false);
    assert_eq!(response.status, 200, "{}", response.body);
    assert!(response.body == body);
    assert_eq!(app.connections(), 2);
}
