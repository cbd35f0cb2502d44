//! Lines of the access log in a format of the user's own.

use ironmesh_model::ListenerKind;
use ironmesh_model::route::{HeaderOp, HeaderOps, PathRewrite, Rewrite, Rule};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;
use serde_json::{Value, json};

use super::http2::{Http2App, block_on, call, connect, grpc};
use super::mesh::Mesh;
use super::world::*;

/// These objects in a mesh whose log has this format.
fn with_format(mut objects: Objects, encoding: &str, format: &str) -> Objects {
    objects.settings.set("accessLogEncoding", encoding).unwrap();
    objects.settings.set("accessLogFormat", format).unwrap();
    objects
}

/// The lines of a log, once there are so many.
fn lines(proxy: &Proxy, count: usize) -> Vec<String> {
    eventually("the log lines", || proxy.lines.text().lines().count() >= count);
    let lines: Vec<String> = proxy.lines.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

/// A service whose requests are rewritten, and whose answers get a header.
fn rewriting(app: &App) -> Objects {
    let rewrite = Rewrite {
        path: Some(PathRewrite::Matched("/new".into())),
        authority: Some("other.example".into()),
    };
    let own = HeaderOp { set: vec![("x-own".into(), "by rule".into())], ..HeaderOp::default() };
    let mut objects = objects(Protocol::Http, &[app]);
    objects.routes = vec![route(vec![Rule {
        rewrite: Some(rewrite),
        headers: HeaderOps { response: own, ..HeaderOps::default() },
        ..rule(&[("v0", 1)], Some("/old"))
    }])];
    objects.destination_policies = vec![subsets(&["v0"])];
    objects
}

fn made() -> App {
    let answer = "HTTP/1.1 201 Made\r\nx-kind: a\t\"b\r\ncontent-length: 4\r\n\r\nmade";
    App::http(move |_| answer.to_owned())
}

const REQUEST: &str = concat!(
    "POST /old/1?a=b HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n",
    "user-agent: %DURATION% \"test\"\r\nx-request-id: mine\r\n",
    "x-envoy-original-path: /forged\r\n\r\nhello"
);

#[test]
fn a_line_of_text_says_what_its_format_says() {
    let app = made();
    let format = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:path)% \
         %REQ_WITHOUT_QUERY(:PATH)% %REQ(:AUTHORITY)% %PROTOCOL% [%REQ(User-Agent):12%] %STREAM_ID% \
         [%REQ(x-none?x-none-either)%] %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS% \
         %RESP(x-kind)% %RESP(X-OWN)% %RESP(x-none)% %BYTES_RECEIVED%/%BYTES_SENT% \
         %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_REQUEST_ATTEMPT_COUNT% \
         %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %HOSTNAME% \
         %ROUTE_NAME% %REQUESTED_SERVER_NAME% %DOWNSTREAM_PEER_URI_SAN% %GRPC_STATUS% \
         %CONNECTION_TERMINATION_DETAILS% %ACCESS_LOG_TYPE% %IRONMESH_REASON% 100%% %TRAILER(x)%";
    let objects = with_format(rewriting(&app), "TEXT", format);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    client.send(REQUEST);
    assert_eq!(client.read_response(false).status, 201);
    let own = client.stream.local_addr().unwrap();
    assert_eq!(
        lines(&proxy, 1)[0],
        format!(
            "POST /old/1?a=b /new/1?a=b /new/1 reviews:9080 HTTP/1.1 [%DURATION% \"] mine [-] 201 \
             via_upstream - a\\x09\"b by rule - 5/4 {} \
             outbound|9080|v0|reviews.default.svc.cluster.local 1 {} {own} {} {} default/reviews#0 - - \
             - - DownstreamEnd route 100% -",
            app.address,
            service_address(),
            service_address().port(),
            proxy.workload.id.name,
        )
    );
}

#[test]
fn a_line_of_json_keeps_types() {
    let app = made();
    let format = r#"{
        "code": "%RESPONSE_CODE%", "took": "%DURATION%", "first": "%RESPONSE_DURATION%",
        "rest": "%RESPONSE_TX_DURATION%", "kind": "%RESP(X-KIND)%", "none": "%REQ(x-none)%",
        "some": "%REQ(:METHOD)% %REQ(x-none)%", "at": "%START_TIME(%Y)%", "port": "%UPSTREAM_REMOTE_PORT%",
        "flags": "%RESPONSE_FLAGS%", "service": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
        "trace": "%TRACE_ID%", "draw": "%IRONMESH_DRAW%", "in": [{"local": "%UPSTREAM_LOCAL_PORT%"}, 7]
    }"#;
    let objects = with_format(rewriting(&app), "JSON", format);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    client.send(REQUEST);
    assert_eq!(client.read_response(false).status, 201);
    let line: Value = serde_json::from_str(&lines(&proxy, 1)[0]).unwrap();
    for (name, expected) in [
        ("code", json!(201)),
        ("kind", json!("a\t\"b")),
        ("none", json!(null)),
        ("some", json!("POST -")),
        ("port", json!(app.address.port())),
        ("flags", json!("-")),
    ] {
        assert_eq!(line[name], expected, "{name} of {line:#}");
    }
    let (took, first) = (line["took"].as_u64().unwrap(), line["first"].as_u64().unwrap());
    assert!(first + line["rest"].as_u64().unwrap() <= took, "{line:#}");
    assert_eq!(line["service"], json!(first.to_string()), "a header, and so text");
    assert_eq!(line["at"].as_str().map(str::len), Some(4), "{line:#}");
    assert_eq!(line["trace"].as_str().map(str::len), Some(32), "{line:#}");
    assert_eq!(line["draw"].as_str().map(str::len), Some(16), "{line:#}");
    assert!(line["in"][0]["local"].is_u64() && line["in"][1] == 7, "{line:#}");
}

#[test]
fn of_an_opaque_connection_nothing_of_requests_is_said() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_exact(4).unwrap();
        wire.send("answer");
    });
    let format = "%REQ(:METHOD)%|%REQ(user-agent)%|%RESP(x)%|%PROTOCOL%|%RESPONSE_CODE%|\
         %GRPC_STATUS_NUMBER%|%TRACE_ID%|%STREAM_ID%|%RESPONSE_DURATION%|%ACCESS_LOG_TYPE%|\
         %BYTES_RECEIVED%|%BYTES_SENT%|%UPSTREAM_HOST%|%UPSTREAM_CLUSTER%|%DOWNSTREAM_LOCAL_ADDRESS%";
    let objects = with_format(objects(Protocol::Tcp, &[&app]), "TEXT", format);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    client.send("ask\n");
    assert_eq!(client.read_to_end(), "answer");
    drop(client);
    assert_eq!(
        lines(&proxy, 1)[0],
        format!(
            "-|-|-|-|0|-|-|-|-|TcpConnectionEnd|4|6|{}|\
             outbound|9080||reviews.default.svc.cluster.local|{}",
            app.address,
            service_address()
        )
    );
}

#[test]
fn an_answer_of_the_mesh_itself_has_its_headers_and_one_that_did_not_come_has_none() {
    let app = App::start(|stream| {
        Wire::new(stream).read_request();
    });
    let format = "%RESPONSE_CODE% %RESP(X-IRONMESH-REASON)% %RESPONSE_FLAGS_LONG%";
    let objects = with_format(rewriting(&app), "TEXT", format);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    client.get("/elsewhere");
    client.send("POST /old HTTP/1.1\r\nhost: reviews:9080\r\nconnection: close\r\n\r\n");
    client.read_to_end();
    let lines = lines(&proxy, 2);
    assert_eq!(lines[0], "404 no_route NoRouteFound");
    assert_eq!(lines[1], "503 upstream_reset UpstreamConnectionTermination");
}

#[test]
fn grpc_tells_its_status() {
    let app = Http2App::echo();
    let services = vec![reviews(Protocol::Grpc, vec![endpoint("v1", app.address, false)])];
    let format = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% \
         %GRPC_STATUS_NUMBER% %PROTOCOL%";
    let mut objects = with_format(Objects { services, ..Objects::default() }, "TEXT", format);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects.clone());
    block_on(async { call(connect(&proxy).await, grpc("/"), b"x".to_vec()).await });
    assert_eq!(lines(&proxy, 1)[0], "OK OK 0 0 HTTP/2");
    objects.services[0].endpoints.clear();
    proxy.change(objects);
    block_on(async { call(connect(&proxy).await, grpc("/"), b"x".to_vec()).await });
    assert_eq!(lines(&proxy, 2)[1], "Unavailable UNAVAILABLE 14 14 HTTP/2");
}

#[test]
fn a_caller_of_the_mesh_is_named() {
    let mesh = Mesh::new();
    let app = App::named("abc");
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])];
    let format = "%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_TLS_VERSION% \
         %UPSTREAM_PEER_URI_SAN% %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%";
    let objects = with_format(Objects { services, ..Objects::default() }, "TEXT", format);
    let inbound = Proxy::start(ListenerKind::Inbound, app.address, objects);
    mesh.certify(&inbound, "reviews");
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", inbound.address, true)])];
    let format = "%UPSTREAM_PEER_URI_SAN% %UPSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_TLS_VERSION% \
         %DOWNSTREAM_PEER_URI_SAN%";
    let objects = with_format(Objects { services, ..Objects::default() }, "TEXT", format);
    let outbound = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    mesh.certify(&outbound, "client");
    assert_eq!(Wire::connect(&outbound).get("/").body, "abc");
    let [client, server] =
        ["client", "reviews"].map(|name| format!("spiffe://cluster.local/ns/default/sa/{name}"));
    assert_eq!(
        lines(&inbound, 1)[0],
        format!("{client} {server} TLSv1.3 - inbound|{}|| 127.0.0.1", app.address.port())
    );
    assert_eq!(lines(&outbound, 1)[0], format!("{server} {client} - -"));
}

/// Istio's own format says what lines say without one.
#[test]
fn istio_s_default_format_gives_the_lines_that_there_are_by_default() {
    let app = made();
    let objects = rewriting(&app);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects.clone());
    let mut client = Wire::connect(&proxy);
    let mut count = 0;
    // Without what differs from request to request: times.
    let mut line = |encoding: &str, format: &str| {
        proxy.change(with_format(objects.clone(), encoding, format));
        client.send(REQUEST);
        client.read_response(false);
        count += 1;
        lines(&proxy, count).pop().unwrap()
    };
    let words = |line: String| -> Vec<String> {
        let of_time = [0, 11, 12];
        let words = line.split(' ').map(str::to_owned).enumerate();
        words.filter(|(at, _)| !of_time.contains(at)).map(|(_, word)| word).collect()
    };
    let by_default = words(line("TEXT", ""));
    assert_eq!(words(line("TEXT", TEXT)), by_default);
    let object = |line: String| -> Value {
        let mut object: Value = serde_json::from_str(&line).unwrap();
        for of_time in ["start_time", "duration", "upstream_service_time"] {
            assert!(!object[of_time].is_null(), "{line}");
            object[of_time] = Value::Null;
        }
        object
    };
    let (by_default, own) = (object(line("JSON", "")), object(line("JSON", JSON)));
    for (name, value) in own.as_object().unwrap() {
        assert_eq!(by_default[name], *value, "{name}");
    }
    assert_eq!(own.as_object().unwrap().len(), 24);
}

/// Istio's formats (`EnvoyTextLogFormat`, `EnvoyJSONLogFormatIstio`).
const TEXT: &str = concat!(
    r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" "#,
    r#"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "#,
    r#""%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "#,
    r#"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "#,
    r#""%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% "#,
    r#"%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "#,
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);
const JSON: &str = r#"{
    "start_time": "%START_TIME%", "route_name": "%ROUTE_NAME%", "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%", "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%", "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%"
}"#;

#[test]
fn a_format_changes_while_the_proxy_runs_and_one_that_is_none_in_the_encoding_is_left_aside() {
    let app = App::named("a");
    let objects = objects(Protocol::Http, &[&app]);
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects.clone());
    let mut client = Wire::connect(&proxy);
    let mut count = 0;
    let mut line = |encoding: &str, format: &str| {
        proxy.change(with_format(objects.clone(), encoding, format));
        client.get("/");
        count += 1;
        lines(&proxy, count).pop().unwrap()
    };
    assert!(line("TEXT", "").starts_with('['));
    assert_eq!(line("TEXT", "got %RESPONSE_CODE%"), "got 200");
    let object = r#"{"got": "%RESPONSE_CODE%"}"#;
    assert_eq!(line("JSON", object), r#"{"got":200}"#);
    assert_eq!(line("TEXT", object), r#"{"got": "200"}"#);
    let by_default: Value = serde_json::from_str(&line("JSON", "got %RESPONSE_CODE%")).unwrap();
    assert_eq!(by_default["response_code"], 200);
    assert!(line("TEXT", "").starts_with('['));
}
