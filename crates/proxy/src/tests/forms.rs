//! Forms of a request's target, and what of HTTP/2 cannot be said by HTTP/1.

use std::net::SocketAddr;

use bytes::Bytes;
use ironmesh_model::route::{Action, Match};
use ironmesh_model::service::Protocol;
use ironmesh_model::text_match::TextMatch;

use super::http2::{Http2App, block_on, call, connect};
use super::world::*;

#[test]
fn a_target_in_absolute_form_is_served_by_its_authority() {
    let app = App::http(|request| ok(&request.head));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    for (line, begins, host) in [
        ("GET http://reviews:9080/a?b", "GET /a?b HTTP/1.1", "reviews:9080"),
        ("GET http://reviews:9080", "GET / HTTP/1.1", "reviews:9080"),
        ("GET HTTP://reviews:9080?q=/x", "GET /?q=/x HTTP/1.1", "reviews:9080"),
        ("OPTIONS http://reviews:9080", "OPTIONS * HTTP/1.1", "reviews:9080"),
    ] {
        client.send(&format!("{line} HTTP/1.1\r\nhost: evil.example\r\n\r\n"));
        let seen = client.read_response(false).body;
        assert!(seen.starts_with(begins), "{line}: {seen}");
        assert!(seen.contains(&format!("host: {host}\r\n")), "{line}: {seen}");
        assert!(!seen.contains("evil"), "{line}: {seen}");
    }
}

#[test]
fn rules_see_the_scheme_that_a_target_writes_out() {
    let app = App::http(|request| ok(&request.head));
    let mut secure = rule(&[], None);
    secure.matches =
        vec![Match { scheme: Some(TextMatch::Exact("https".into())), ..Match::default() }];
    secure.action = Action::Forward(Vec::new());
    let mut objects = objects(Protocol::Http, &[&app]);
    objects.routes = vec![route(vec![secure, rule(&[("", 1)], None)])];
    let proxy = Proxy::start(ironmesh_model::ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    let status = |client: &mut Wire, scheme: &str| {
        client.send(&format!("GET {scheme}://reviews:9080/ HTTP/1.1\r\nhost: a\r\n\r\n"));
        client.read_response(false).status
    };
    assert_eq!(status(&mut client, "http"), 200);
    assert_ne!(status(&mut client, "https"), 200, "the rule for https has no backend");
}

/// A request over HTTP/2 whose frames are written by hand, since no client makes such; gives the
/// status of the answer.
fn by_hand(address: SocketAddr, method: u8, path: &str) -> u16 {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // HPACK (RFC 7541): indexed method and scheme, literal path and authority.
    let mut block = vec![0x80 | method, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x01, 7]);
    block.extend_from_slice(b"reviews");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    stream.write_all(&bytes).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            // HEADERS: the status stands first, indexed or literal.
            1 => {
                return match payload[0] {
                    0x88 => 200,
                    0x8c => 400,
                    0x8d => 404,
                    other => panic!("a status, not {other:#x}"),
                };
            }
            // RST_STREAM: refused by the codec itself.
            3 => return 0,
            _ => {}
        }
    }
}

#[test]
fn a_path_of_http2_is_one_that_http1_can_say() {
    let app = App::http(|request| ok(&request.head));
    let proxy = outbound(Protocol::Http, &[&app]);
    const GET: u8 = 2;
    assert_eq!(by_hand(proxy.address, GET, "/fine"), 200);
    for path in ["a", "*", "@evil", "http://evil/", "?a"] {
        let status = by_hand(proxy.address, GET, path);
        assert!(matches!(status, 0 | 400), "{path}: {status}");
    }
    assert_eq!(app.connections(), 1, "only the good one was sent");
}

#[test]
fn more_fields_than_the_limit_are_refused_in_http2_too() {
    let app = Http2App::echo();
    let proxy = app.outbound(Protocol::Http2);
    let request = |count: usize| {
        let builder = http::Request::post("http://reviews:9080/");
        (0..count)
            .fold(builder, |builder, n| builder.header(format!("x-{n}"), "v"))
            .body(())
            .unwrap()
    };
    block_on(async {
        let client = connect(&proxy).await;
        assert_eq!(call(client.clone(), request(90), Vec::new()).await.0, 200);
        assert_eq!(call(client, request(101), Vec::new()).await.0, 431);
    });
}

#[test]
fn trailers_and_answers_of_http2_have_as_many_fields_as_others() {
    let app = Http2App::start(100, |request, mut respond| async move {
        let mut response = http::Response::new(());
        let of_head = request.uri().path() == "/head";
        let mut fields = http::HeaderMap::new();
        for n in 0..101 {
            fields.insert(
                http::HeaderName::from_bytes(format!("x-{n}").as_bytes()).unwrap(),
                "v".parse().unwrap(),
            );
        }
        if of_head {
            *response.headers_mut() = fields;
            respond.send_response(response, true).unwrap();
        } else {
            let mut send = respond.send_response(response, false).unwrap();
            send.send_data(Bytes::from_static(b"x"), false).unwrap();
            send.send_trailers(fields).unwrap();
        }
    });
    let proxy = app.outbound(Protocol::Http2);
    block_on(async {
        let client = connect(&proxy).await;
        let get =
            |path: &str| http::Request::get(format!("http://reviews:9080{path}")).body(()).unwrap();
        assert_eq!(call(client.clone(), get("/head"), Vec::new()).await.0, 502);
        let mut client = client.ready().await.unwrap();
        let (response, _) = client.send_request(get("/trailers"), true).unwrap();
        // The head may have been on its way already.
        if let Ok(response) = response.await {
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.data().await {}
            assert!(body.trailers().await.is_err(), "the answer was broken off");
        }
    });
}

#[test]
fn informational_heads_without_end_are_given_up() {
    let app = App::start(|mut stream| {
        use std::io::Write;
        Wire::new(stream.try_clone().unwrap()).read_request();
        while stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").is_ok() {}
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    let mut heads = 0;
    let last = loop {
        let response = client.read_response(false);
        if response.status != 102 {
            break response;
        }
        heads += 1;
    };
    assert_eq!((last.status, last.header("x-ironmesh-reason")), (502, Some("upstream_protocol")));
    assert_eq!(heads, 16);
    app.finish();
}
