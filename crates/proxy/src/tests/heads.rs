//! What becomes of heads on their way: what is for one connection only, lengths of answers without a
//! body, other versions of HTTP, and words of which only the mesh's own are believed.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use ironmesh_model::ListenerKind;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::route::{Action, DirectResponse, HeaderOp, HeaderOps, Match, Rule};
use ironmesh_model::service::Protocol;
use ironmesh_model::text_match::TextMatch;

use super::http2::{Http2App, block_on, call, connect};
use super::mesh::Mesh;
use super::world::*;

/// A proxy of a caller of this application, by these rules.
fn by_rules(app: &App, rules: Vec<Rule>) -> Proxy {
    let mut objects = objects(Protocol::Http, &[app]);
    objects.routes = vec![route(rules)];
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

fn answering(status: u16, body: &'static [u8], path: &str) -> Rule {
    let action = Action::Answer(DirectResponse { status, body: body.into() });
    Rule { action, ..rule(&[], Some(path)) }
}

#[test]
fn answers_without_a_body_say_no_length_that_the_application_did_not() {
    let app = App::http(|request| match request.head.split(' ').next().unwrap() {
        "HEAD" => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "PUT" => "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "OPTIONS" => "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n".to_owned(),
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    for (method, length) in [("HEAD", None), ("PUT", None), ("OPTIONS", None), ("GET", Some("7"))] {
        client.send(&format!("{method} / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n"));
        let response = client.read_response(true);
        assert_eq!(response.header("content-length"), length, "{method}");
        assert_eq!(response.header("transfer-encoding"), None, "{method}");
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn an_http1_client_is_told_the_length_of_an_empty_answer_of_http2_once() {
    let app = Http2App::start(100, |request, mut respond| async move {
        let mut response = Response::new(());
        if request.uri().path() == "/said" {
            response.headers_mut().insert("content-length", "0".parse().unwrap());
        }
        respond.send_response(response, true).unwrap();
    });
    let proxy = app.outbound(Protocol::Http2);
    let mut client = Wire::connect(&proxy);
    for path in ["/", "/said", "/"] {
        let response = client.get(path);
        assert_eq!(response.head.matches("content-length: 0").count(), 1, "{}", response.head);
    }
    client.send("HEAD / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert_eq!(client.read_response(true).header("content-length"), None, "nothing was said of it");
}

#[test]
fn what_the_mesh_answers_itself_says_what_it_is() {
    let app = App::named("a");
    let rules = vec![
        answering(204, b"", "/204"),
        answering(304, b"", "/304"),
        answering(200, b"", "/empty"),
        answering(200, b"text", "/text"),
    ];
    let proxy = by_rules(&app, rules);
    let mut client = Wire::connect(&proxy);
    for (path, length, kind) in [
        ("/204", None, None),
        ("/304", None, None),
        ("/empty", Some("0"), None),
        ("/text", Some("4"), Some("text/plain")),
        ("/none", Some("52"), Some("text/plain")),
    ] {
        let response = client.get(path);
        assert_eq!(response.header("content-type"), kind, "{path}");
        assert_eq!(response.header("content-length").is_some(), length.is_some(), "{path}");
        assert!(response.header("date").is_some(), "{path}");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn rules_change_the_head_of_an_answer_whoever_gives_it() {
    let app = App::http(|_| {
        "HTTP/1.1 200 OK\r\nx-gone: 1\r\nx-set: old\r\nx-set: older\r\nx-add: 1\r\ncontent-length: 0\r\n\r\n"
            .to_owned()
    });
    let op = HeaderOp {
        remove: vec!["x-gone".into()],
        set: vec![("x-set".into(), "new".into())],
        add: vec![("x-add".into(), "2".into())],
    };
    let headers = HeaderOps { response: op, ..HeaderOps::default() };
    let forwarding = Rule { headers: headers.clone(), ..rule(&[("", 1)], Some("/app")) };
    let direct = Rule { headers, ..answering(200, b"", "/direct") };
    let proxy = by_rules(&app, vec![forwarding, direct]);
    let mut client = Wire::connect(&proxy);
    let head = client.get("/app").head;
    assert!(head.contains("x-set: new\r\n") && !head.contains("old"), "{head}");
    assert!(head.contains("x-add: 1\r\n") && head.contains("x-add: 2\r\n"), "{head}");
    assert!(!head.contains("x-gone"), "{head}");
    let head = client.get("/direct").head;
    assert!(head.contains("x-set: new\r\n") && head.contains("x-add: 2\r\n"), "{head}");
}

/// What an application, or an endpoint outside the mesh, says in the mesh's name.
#[test]
fn words_of_the_mesh_are_not_taken_from_others() {
    let app = App::http(|_| {
        concat!(
            "HTTP/1.1 200 OK\r\nx-ironmesh-not-delivered: 1\r\nx-ironmesh-reason: forged\r\n",
            "x-ironmesh-other: 1\r\ncontent-length: 2\r\n\r\nhi"
        )
        .to_owned()
    });
    let mesh = Mesh::new();
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    for proxy in [outbound(Protocol::Http, &[&app]), mesh.outbound(Protocol::Http, &[&inbound])] {
        let response = Wire::connect(&proxy).get("/");
        assert_eq!((response.status, &*response.body), (200, "hi"));
        assert!(!response.head.contains("x-ironmesh"), "{}", response.head);
    }
    assert_eq!(app.connections(), 2);
}

/// A member's proxy tells its caller's why it answered itself, and no stranger that it may go
/// elsewhere.
#[test]
fn only_members_are_told_that_a_request_was_not_delivered() {
    let mesh = Mesh::new();
    let nowhere = Nowhere::new();
    let inbound = mesh.inbound(Protocol::Http, nowhere.address, MtlsMode::Permissive, "reviews");
    let response = Wire::connect(&inbound).get("/");
    assert_eq!((response.status, response.header("x-ironmesh-not-delivered")), (503, None));
    assert_eq!(response.header("x-ironmesh-reason"), Some("connect_failed"));
    // Nor is it said of one that the application has seen.
    let app = App::start(|stream| drop(Wire::new(stream).read_request()));
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound, &inbound]);
    let mut client = Wire::connect(&outbound);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nhi");
    let response = client.read_response(false);
    assert_eq!(response.status, 503);
    assert_eq!(response.header("x-ironmesh-reason"), Some("upstream_reset"));
    assert_eq!(app.connections(), 1, "it was sent once");
}

#[test]
fn old_clients_keep_their_connection_if_they_ask_for_it_and_get_no_word_before_the_answer() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.read_request() {
            assert!(!request.head.contains("keep-alive"), "{}", request.head);
            wire.send("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
            match request.head.starts_with("GET /chunked ") {
                true => wire.send(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                ),
                false => wire.send(&ok("hi")),
            }
        }
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    let ask = |client: &mut Wire, path: &str| {
        client.send(&format!(
            "GET {path} HTTP/1.0\r\nhost: reviews:9080\r\nconnection: keep-alive\r\n\r\n"
        ));
        client.read_response(false)
    };
    for _ in 0..2 {
        let response = ask(&mut client, "/");
        assert_eq!((response.status, &*response.body), (200, "hi"));
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    // Of one whose length is not known the end tells.
    let response = ask(&mut client, "/chunked");
    assert_eq!((&*response.body, response.header("connection")), ("hi", None));
    assert!(client.is_ended());
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert_eq!(client.read_response(false).status, 103);
    assert_eq!(client.read_response(false).body, "hi");
}

#[test]
fn a_client_that_closes_is_told_that_it_was_heard() {
    let app = App::named("a");
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\nconnection: close\r\n\r\n");
    assert_eq!(client.read_response(false).header("connection"), Some("close"));
    assert!(client.is_ended());
    assert_eq!(Wire::connect(&proxy).get("/").header("connection"), None);
}

#[test]
fn a_scheme_that_one_request_writes_out_is_not_that_of_the_next() {
    let app = App::named("a");
    let mut secure = answering(418, b"", "/");
    secure.matches =
        vec![Match { scheme: Some(TextMatch::Exact("https".into())), ..Match::default() }];
    let proxy = by_rules(&app, vec![secure, rule(&[("", 1)], None)]);
    let mut client = Wire::connect(&proxy);
    client.send("GET https://reviews:9080/ HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.read_response(false).status, 418);
    assert_eq!(client.get("/").status, 200);
    client.send("GET https://reviews:9080/ HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.read_response(false).status, 418);
    block_on(async {
        let request = Request::get("http://reviews:9080/").body(()).unwrap();
        assert_eq!(call(connect(&proxy).await, request, Vec::new()).await.0, 200);
    });
}

#[test]
fn a_kept_connection_that_said_something_unasked_carries_no_other_request() {
    let app = App::http(|_| format!("{}{}", ok("own"), ok("smuggled")));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    for _ in 0..4 {
        assert_eq!(client.get("/").body, "own");
    }
    assert_eq!(app.connections(), 4);
    // One that says that it closes, and would answer all the same.
    let closing = App::http(|_| {
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi".to_owned()
    });
    let proxy = outbound(Protocol::Http, &[&closing]);
    let mut client = Wire::connect(&proxy);
    for _ in 0..3 {
        assert_eq!(client.get("/").body, "hi");
    }
    assert_eq!(closing.connections(), 3);
}

/// The application answers before it has the body, which stays unsent.
#[test]
fn a_connection_on_which_a_request_was_not_sent_whole_carries_no_other() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        let head = wire.read_until("\r\n\r\n").unwrap();
        wire.send(&ok("early"));
        if head.starts_with("POST") {
            let rest = wire.read_to_end();
            assert!(!rest.contains("GET"), "{rest}");
        }
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    block_on(async {
        // One connection, so that all is done by one worker.
        let client = connect(&proxy).await;
        let post = Request::post("http://reviews:9080/").body(()).unwrap();
        let mut ready = client.clone().ready().await.unwrap();
        let (response, mut unfinished) = ready.send_request(post, false).unwrap();
        unfinished.send_data(Bytes::from_static(b"part"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "early");
        let get = Request::get("http://reviews:9080/").body(()).unwrap();
        assert_eq!(call(client, get, Vec::new()).await.2, b"early");
        drop(unfinished);
    });
    assert_eq!(app.connections(), 2);
}

/// Cookies of HTTP/2 may come one by one, the authority as `host`, and a length again.
#[test]
fn heads_of_http2_become_heads_of_http1() {
    let app = App::http(|request| ok(&request.head));
    let proxy = outbound(Protocol::Http, &[&app]);
    let seen = block_on(async {
        let request = Request::post("http://reviews:9080/a?b")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("host", "other.example")
            .header("te", "trailers")
            .header("content-length", "2")
            .body(())
            .unwrap();
        let (status, _, body, _) = call(connect(&proxy).await, request, b"hi".to_vec()).await;
        assert_eq!(status, 200);
        String::from_utf8(body).unwrap()
    });
    assert!(seen.starts_with("POST /a?b HTTP/1.1\r\nhost: reviews:9080\r\n"), "{seen}");
    assert_eq!(seen.matches("host:").count(), 1, "{seen}");
    assert!(seen.contains("cookie: a=1; b=2\r\n"), "{seen}");
    assert!(seen.contains("te: trailers\r\n") && seen.contains("connection: te\r\n"), "{seen}");
    assert!(seen.contains("content-length: 2\r\n") && !seen.contains("chunked"), "{seen}");
}

#[test]
fn connect_of_http2_is_refused_and_nobody_is_dialled() {
    let app = App::named("a");
    let proxy = outbound(Protocol::Http, &[&app]);
    block_on(async {
        let request = Request::connect("reviews:9080").body(()).unwrap();
        let (status, headers, ..) = call(connect(&proxy).await, request, Vec::new()).await;
        assert_eq!(
            (status, headers["x-ironmesh-reason"].to_str().unwrap()),
            (400, "unsupported_form")
        );
    });
    let mut client = Wire::connect(&proxy);
    client.send("CONNECT reviews:9080 HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    let response = client.read_response(false);
    assert_eq!(
        (response.status, response.header("x-ironmesh-reason")),
        (400, Some("unsupported_form"))
    );
    assert!(client.is_ended(), "what follows might be for the tunnel");
    assert_eq!(app.connections(), 0);
}

#[test]
fn informational_answers_and_trailers_pass_through_http2() {
    let app = Http2App::start(100, |_, mut respond| async move {
        let mut early = Response::new(());
        *early.status_mut() = http::StatusCode::EARLY_HINTS;
        respond.send_informational(early).unwrap();
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from_static(b"hi"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        send.send_trailers(trailers).unwrap();
    });
    let proxy = app.outbound(Protocol::Http2);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\nte: trailers\r\n\r\n");
    assert_eq!(client.read_response(false).status, 103);
    let response = client.read_response(false);
    assert_eq!((&*response.body, &*response.trailers), ("hi", "x-sum: 1\r\n"));
    block_on(async {
        let mut client = connect(&proxy).await.ready().await.unwrap();
        let request = Request::get("http://reviews:9080/").body(()).unwrap();
        let (mut response, _) = client.send_request(request, true).unwrap();
        let early = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(early.unwrap().unwrap().status(), 103);
        let mut body = response.await.unwrap().into_body();
        while body.data().await.is_some() {}
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "1");
    });
}

/// A client and an endpoint, each with its own version, and what is of a connection of HTTP/1 only.
#[test]
fn what_is_for_one_connection_stays_there() {
    let app = App::http(|request| {
        let head = request.head.replace("\r\n", "|");
        format!(
            "HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\nproxy-connection: x\r\nconnection: x-own\r\n\
             x-own: 1\r\nx-kept: 1\r\ncontent-length: {}\r\n\r\n{head}",
            head.len()
        )
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send(concat!(
        "GET / HTTP/1.1\r\nhost: reviews:9080\r\nkeep-alive: 5\r\nproxy-connection: keep-alive\r\n",
        "te: gzip\r\nhttp2-settings: x\r\nconnection: x-own, authorization\r\nx-own: 1\r\n",
        "authorization: mine\r\n\r\n"
    ));
    let response = client.read_response(false);
    for gone in ["keep-alive", "proxy-connection", "x-own"] {
        assert!(!response.head.contains(gone), "{gone}: {}", response.head);
        assert!(!response.body.contains(gone), "{gone}: {}", response.body);
    }
    assert!(response.head.contains("x-kept: 1"), "{}", response.head);
    for gone in ["|te:", "http2-settings"] {
        assert!(!response.body.contains(gone), "{gone}: {}", response.body);
    }
    assert!(response.body.contains("|authorization: mine|"), "{}", response.body);
    block_on(async {
        let request = Request::get("http://reviews:9080/").body(()).unwrap();
        let (_, headers, ..) = call(connect(&proxy).await, request, Vec::new()).await;
        assert_eq!(headers["x-kept"], "1");
        for gone in ["keep-alive", "proxy-connection", "connection", "x-own"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    });
}

/// What follows an answer that came before the request was read is no request.
#[test]
fn a_connection_whose_request_was_not_read_whole_is_closed() {
    let app = App::named("a");
    let proxy = by_rules(&app, vec![answering(404, b"no", "/")]);
    let mut client = Wire::connect(&proxy);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 100\r\n\r\npart");
    let response = client.read_response(false);
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
    client.send("GET /smuggled HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert!(client.is_ended());
    eventually("a log line", || proxy.lines.text().contains("POST / "));
    assert!(!proxy.lines.text().contains("smuggled"));
}

#[test]
fn an_answer_of_an_old_server_is_one_of_http_1_1() {
    let app = App::http(|_| "HTTP/1.0 200 Fine\r\ncontent-length: 2\r\n\r\nhi".to_owned());
    let response = Wire::connect(&outbound(Protocol::Http, &[&app])).get("/");
    assert!(response.head.starts_with("HTTP/1.1 200 Fine\r\n"), "{}", response.head);
    assert_eq!(response.header("connection"), None, "that was between the proxy and the server");
}

#[test]
fn a_request_that_names_no_host_gets_the_address_that_was_dialled() {
    let app = App::http(|request| ok(&request.head));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.0\r\n\r\n");
    let seen = client.read_response(false).body;
    assert!(seen.contains(&format!("host: {}\r\n", service_address())), "{seen}");
}

#[test]
fn an_upgrade_goes_by_http1_whatever_the_port_declares() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_until("\r\n\r\n").unwrap();
        wire.send("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let word = wire.read_exact(4).unwrap();
        wire.send(&word);
    });
    let proxy = outbound(Protocol::Http2, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send(concat!(
        "GET / HTTP/1.1\r\nhost: reviews:9080\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "ping"
    ));
    let response = client.read_response(false);
    assert_eq!((response.status, response.header("connection")), (101, Some("upgrade")));
    assert_eq!(client.read_to_end(), "ping");
    drop(client);
    eventually("the log", || proxy.lines.text().contains(" 101 "));
    Wire::connect(&proxy).send("GET /bad\r\n\r\n");
    eventually("the log", || proxy.lines.text().contains(" 400 "));
    assert_eq!(proxy.lines.text().matches(" 101 ").count(), 1, "{}", proxy.lines.text());
}

#[test]
fn an_authority_of_http2_is_one_that_http1_can_say() {
    let app = App::named("a");
    let proxy = outbound(Protocol::Http, &[&app]);
    block_on(async {
        let request = Request::get("http://user@reviews:9080/").body(()).unwrap();
        assert_eq!(call(connect(&proxy).await, request, Vec::new()).await.0, 400);
    });
    assert_eq!(app.connections(), 0);
}

#[test]
fn an_http2_client_is_told_the_limits_and_held_to_them() {
    let app = Http2App::echo();
    let services = vec![reviews(Protocol::Http2, vec![endpoint("v1", app.address, false)])];
    let objects = ironmesh_model::snapshot::Objects { services, ..Default::default() };
    let mut setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    setup.limits.h2_streams_max = 7;
    setup.limits.head_bytes_max = 2_000;
    let proxy = Proxy::begin(setup);
    block_on(async {
        let client = connect(&proxy).await;
        let small = Request::post("http://reviews:9080/").body(()).unwrap();
        assert_eq!(call(client.clone(), small, Vec::new()).await.0, 200);
        let client = client.ready().await.unwrap();
        assert_eq!(client.current_max_send_streams(), 7);
        let large = Request::post("http://reviews:9080/").header("x", "y".repeat(3_000));
        assert_eq!(call(client, large.body(()).unwrap(), Vec::new()).await.0, 431);
    });
}

/// Whoever takes nothing of an answer of the mesh's own is given up as of any other.
#[test]
fn a_client_that_takes_nothing_of_the_mesh_s_own_answer_is_given_up() {
    static LARGE: [u8; 16 << 20] = [b'x'; 16 << 20];
    let app = App::named("a");
    let mut objects = objects(Protocol::Http, &[&app]);
    objects.routes = vec![route(vec![answering(200, &LARGE, "/")])];
    let mut setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    setup.limits.stream_idle_timeout = std::time::Duration::from_millis(200);
    let proxy = Proxy::begin(setup);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("its end", || {
        proxy.lines.text().contains("GET / ") && proxy.process.connections() == 0
    });
}
