use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ironmesh_model::log_format::LogFormat;
use ironmesh_model::operator::{Command, Value};
use ironmesh_model::settings::AccessLogEncoding;
use ironmesh_model::{Draw, Identity, ListenerKind, Reason, Version};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn peer() -> Identity {
    Identity {
        trust_domain: "cluster.local".into(),
        namespace: "default".into(),
        service_account: "productpage".into(),
    }
}

fn full(peer: &Identity) -> AccessRecord<'_> {
    AccessRecord {
        start: Duration::from_millis(1_795_251_845_678),
        method: Some("GET"),
        path: Some("/reviews/0?a=b"),
        protocol: Some("HTTP/1.1"),
        response_code: 200,
        reason: Reason::Route,
        delayed: false,
        exhausted: false,
        overflowed: false,
        response_code_details: Some("via_upstream"),
        connection_termination_details: None,
        upstream_transport_failure_reason: None,
        bytes_received: 0,
        bytes_sent: 375,
        duration: Duration::from_micros(12_999),
        upstream_service_time: Some(Duration::from_millis(11)),
        x_forwarded_for: None,
        user_agent: Some("curl/8"),
        request_id: Some("4a3e-id"),
        authority: Some("reviews:9080"),
        upstream_host: Some("10.77.0.9:9080".parse().unwrap()),
        upstream_cluster: Some(Cluster::Outbound {
            port: 9080,
            subset: Some("v1"),
            host: "reviews.default.svc.cluster.local",
        }),
        upstream_local_address: Some("10.77.0.7:40000".parse().unwrap()),
        downstream_local_address: Some("10.96.0.5:9080".parse().unwrap()),
        downstream_remote_address: Some("10.77.0.7:50000".parse().unwrap()),
        requested_server_name: None,
        route: Some("default/reviews#0"),
        version: Some(Version(0xabc)),
        subset: Some("v1"),
        draw: Some(Draw(0x1234)),
        listener: ListenerKind::Outbound,
        peer: Some(peer),
    }
}

/// An opaque connection of which little is known.
fn sparse() -> AccessRecord<'static> {
    AccessRecord {
        start: Duration::ZERO,
        method: None,
        path: None,
        protocol: None,
        response_code: 0,
        reason: Reason::Passthrough,
        delayed: false,
        exhausted: false,
        overflowed: false,
        response_code_details: None,
        connection_termination_details: None,
        upstream_transport_failure_reason: None,
        bytes_received: 5,
        bytes_sent: 6,
        duration: Duration::ZERO,
        upstream_service_time: None,
        x_forwarded_for: None,
        user_agent: None,
        request_id: None,
        authority: None,
        upstream_host: None,
        upstream_cluster: Some(Cluster::Passthrough),
        upstream_local_address: None,
        downstream_local_address: None,
        downstream_remote_address: None,
        requested_server_name: None,
        route: None,
        version: None,
        subset: None,
        draw: None,
        listener: ListenerKind::Outbound,
        peer: None,
    }
}

fn line(record: &AccessRecord<'_>, encoding: AccessLogEncoding) -> String {
    let mut out = Vec::new();
    match encoding {
        AccessLogEncoding::Text => text::write(&mut out, record),
        AccessLogEncoding::Json => json::write(&mut out, record),
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn text_is_istio_s_default_format() {
    assert_eq!(
        line(&full(&peer()), AccessLogEncoding::Text),
        "[2026-11-21T09:04:05.678Z] \"GET /reviews/0?a=b HTTP/1.1\" 200 - via_upstream - \"-\" \
         0 375 12 11 \"-\" \"curl/8\" \"4a3e-id\" \"reviews:9080\" \"10.77.0.9:9080\" \
         outbound|9080|v1|reviews.default.svc.cluster.local 10.77.0.7:40000 10.96.0.5:9080 \
         10.77.0.7:50000 - default/reviews#0\n"
    );
    assert_eq!(
        line(&sparse(), AccessLogEncoding::Text),
        "[1970-01-01T00:00:00.000Z] \"- - -\" 0 - - - \"-\" 5 6 0 - \"-\" \"-\" \"-\" \"-\" \
         \"-\" PassthroughCluster - - - - -\n"
    );
}

#[test]
fn json_has_istio_s_keys_and_ours() {
    let text = line(&full(&peer()), AccessLogEncoding::Json);
    assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        object,
        serde_json::json!({
            "start_time": "2026-11-21T09:04:05.678Z",
            "method": "GET",
            "path": "/reviews/0?a=b",
            "protocol": "HTTP/1.1",
            "response_code": 200,
            "response_flags": "-",
            "response_code_details": "via_upstream",
            "connection_termination_details": null,
            "upstream_transport_failure_reason": null,
            "bytes_received": 0,
            "bytes_sent": 375,
            "duration": 12,
            "upstream_service_time": "11",
            "x_forwarded_for": null,
            "user_agent": "curl/8",
            "request_id": "4a3e-id",
            "authority": "reviews:9080",
            "upstream_host": "10.77.0.9:9080",
            "upstream_cluster": "outbound|9080|v1|reviews.default.svc.cluster.local",
            "upstream_local_address": "10.77.0.7:40000",
            "downstream_local_address": "10.96.0.5:9080",
            "downstream_remote_address": "10.77.0.7:50000",
            "requested_server_name": null,
            "route_name": "default/reviews#0",
            "listener": "outbound",
            "route": "default/reviews#0",
            "version": "0000000000000abc",
            "subset": "v1",
            "endpoint": "10.77.0.9:9080",
            "reason": "route",
            "draw": "0000000000001234",
            "peer": "spiffe://cluster.local/ns/default/sa/productpage",
        })
    );
}

/// As Envoy joins them.
#[test]
fn what_was_done_beside_has_a_flag_of_its_own() {
    for (reason, delayed, exhausted, flags) in [
        (Reason::Route, false, false, "-"),
        (Reason::Route, true, false, "DI"),
        (Reason::FaultAbort, false, false, "FI"),
        (Reason::FaultAbort, true, false, "DI,FI"),
        (Reason::NoEndpoints, true, false, "UH,DI"),
        (Reason::DownstreamClosed, true, false, "DI,DC"),
        (Reason::Route, false, true, "URX"),
        (Reason::ConnectFailed, false, true, "UF,URX"),
        (Reason::PerTryTimeout, true, true, "UT,DI,URX"),
        (Reason::UpstreamProtocol, true, true, "DI,URX,UPE"),
    ] {
        let record = AccessRecord { reason, delayed, exhausted, ..sparse() };
        let json = line(&record, AccessLogEncoding::Json);
        let object: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(object["response_flags"], flags);
        let text = line(&record, AccessLogEncoding::Text);
        assert!(text.contains(&format!(" {flags} ")), "{text}");
    }
    let record = AccessRecord { overflowed: true, ..sparse() };
    assert!(line(&record, AccessLogEncoding::Text).contains(" UO "));
}

#[test]
fn a_client_cannot_write_lines_of_its_own() {
    let evil = "/x\"\n[2026] \"GET /forged\u{1b}[31m\t\\é";
    let record = AccessRecord { path: Some(evil), ..sparse() };
    let text = line(&record, AccessLogEncoding::Text);
    assert_eq!(text.matches('\n').count(), 1);
    assert!(!text.contains('\u{1b}') && text.contains("\\x0a"), "{text}");
    let json = line(&record, AccessLogEncoding::Json);
    assert_eq!(json.matches('\n').count(), 1);
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(object["path"], evil);
}

/// An output that shows what it was given, and takes nothing while it is held.
#[derive(Clone, Default)]
struct Output {
    written: Arc<Mutex<Vec<u8>>>,
    gate: Arc<Mutex<()>>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.lock().unwrap();
        self.written.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn lines(&self) -> usize {
        self.written.lock().unwrap().iter().filter(|byte| **byte == b'\n').count()
    }
}

#[test]
fn lines_of_all_workers_are_written_whole() {
    let output = Output::default();
    let log = AccessLog::start(output.clone(), 1 << 20).unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let mut worker = log.worker();
            std::thread::spawn(move || {
                for _ in 0..1_000 {
                    worker.write(&sparse(), AccessLogEncoding::Json);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(log.dropped().load(Ordering::Relaxed), 0);
    drop(log);
    let written = String::from_utf8(output.written.lock().unwrap().clone()).unwrap();
    assert_eq!(written.lines().count(), 4_000);
    let whole = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok();
    assert!(written.lines().all(whole));
}

#[test]
fn a_line_is_written_without_another_one_following() {
    let (seen, wait) = mpsc::channel();
    struct Tell(mpsc::Sender<()>);
    impl Write for Tell {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = AccessLog::start(Tell(seen), 1 << 20).unwrap();
    let mut worker = log.worker();
    for _ in 0..100 {
        worker.write(&sparse(), AccessLogEncoding::Text);
        wait.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}

#[test]
fn an_output_that_takes_nothing_costs_lines_not_time() {
    let output = Output::default();
    let log = AccessLog::start(output.clone(), 10_000).unwrap();
    let mut worker = log.worker();
    let closed = output.gate.lock().unwrap();
    // Would never end if it waited.
    for _ in 0..10_000 {
        worker.write(&sparse(), AccessLogEncoding::Text);
    }
    let dropped = log.dropped().load(Ordering::Relaxed);
    assert!(dropped > 9_000, "{dropped} lines were dropped");
    drop(closed);
    drop(log);
    assert_eq!(output.lines() as u64 + dropped, 10_000, "every line was written or counted");
}

/// A line in a format of the user's own, of a request of which these things are known.
fn own_line(
    source: &str,
    encoding: AccessLogEncoding,
    told: impl Fn(Command, &str) -> Option<Value<'static>>,
) -> String {
    let format = LogFormat::parse(source).unwrap();
    let mut out = Vec::new();
    own::write(&mut out, format.pieces(encoding).unwrap(), told);
    String::from_utf8(out).unwrap()
}

fn some(command: Command, argument: &str) -> Option<Value<'static>> {
    Some(match command {
        Command::Request if argument == "x-a" => "é\"b\\c\n\u{1b}".into(),
        Command::Request if argument == "x-empty" => "".into(),
        Command::Duration => Value::Number(12_345),
        Command::UpstreamAddress => Value::Address("10.0.0.1:80".parse().unwrap()),
        Command::DownstreamIp => Value::Ip("fd00::1".parse().unwrap()),
        _ => return None,
    })
}

#[test]
fn a_format_of_one_s_own_is_written_as_it_says() {
    let text = own_line(
        "a %REQ(X-A)% %REQ(X-EMPTY)% %REQ(X-B)% %DURATION% %DURATION():2% %REQ(x-a):2% \
         %UPSTREAM_HOST% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        AccessLogEncoding::Text,
        some,
    );
    assert_eq!(
        text, "a é\"b\\c\\x0a\\x1b - - 12345 12 é\" 10.0.0.1:80 fd00::1\n",
        "control characters are escaped, what is absent is -"
    );
    let json = own_line(
        r#"{"text": "%REQ(X-A)%", "empty": "%REQ(X-EMPTY)%", "none": "%REQ(X-B)%", "no": "(%REQ(X-B)%)",
            "number": "%DURATION%", "in": "a%DURATION%", "cut": "%DURATION():2%", "fixed": 1.5,
            "hosts": ["%UPSTREAM_HOST%", {"ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}]}"#,
        AccessLogEncoding::Json,
        some,
    );
    assert!(json.ends_with("}\n") && json.matches('\n').count() == 1, "{json}");
    assert!(json.starts_with("{\"text\":"), "fields are in their order: {json}");
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        object,
        serde_json::json!({
            "text": "é\"b\\c\n\u{1b}", "empty": "", "none": null, "no": "(-)", "number": 12345,
            "in": "a12345", "cut": "12", "fixed": 1.5, "hosts": ["10.0.0.1:80", {"ip": "fd00::1"}],
        })
    );
}

#[test]
fn what_a_client_sends_is_bounded_and_cannot_end_a_line_or_a_string() {
    let long = |_: Command, _: &str| Some(Value::from("é".repeat(VALUE_BYTES_MAX)));
    let text = own_line("%REQ(x-a)%%REQ(x-a)%", AccessLogEncoding::Text, long);
    assert_eq!(text.len(), 2 * VALUE_BYTES_MAX + 1);
    let evil = |_: Command, _: &str| Some(Value::from("\",\"forged\":1}\r\n{\u{0}"));
    for source in [r#"{"a": "%REQ(x)%"}"#, r#"{"a": "b %REQ(x)%"}"#] {
        let json = own_line(source, AccessLogEncoding::Json, evil);
        let object: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(object.as_object().unwrap().len(), 1, "{json}");
    }
    let text = own_line("%REQ(x)%", AccessLogEncoding::Text, evil);
    assert_eq!(text.matches(char::is_control).count(), 1, "{text:?}");
}

proptest! {
    /// Whatever the format is, and whatever stands for its operators.
    #[test]
    fn a_line_of_a_format_is_one_object_or_one_line(
        texts in vec("(%|%%|%REQ\\(.{0,3}\\)(:[0-9])?%|%DURATION%|%START_TIME\\(.{0,9}\\)%|.){0,9}", 1..4),
        told in "\\PC*|[\\x00-\\x20\"\\\\]*",
    ) {
        let value = |command: Command, argument: &str| match command {
            Command::Duration => Some(Value::Number(argument.len() as u64)),
            Command::StartTime => Some(time_text(argument, Duration::MAX).into()),
            _ if argument.is_empty() => None,
            _ => Some(told.clone().into()),
        };
        let object = serde_json::json!({"a": texts, "b": {"%": texts[0]}}).to_string();
        if let Ok(format) = LogFormat::parse(&object)
            && let Some(pieces) = format.pieces(AccessLogEncoding::Json)
        {
            let mut out = Vec::new();
            own::write(&mut out, pieces, value);
            let line = String::from_utf8(out).unwrap();
            prop_assert_eq!(line.lines().count(), 1, "{}", line);
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read.as_object().unwrap().len(), 2, "{}", line);
        }
        if let Ok(format) = LogFormat::parse(&texts[0])
            && let Some(pieces) = format.pieces(AccessLogEncoding::Text)
        {
            let mut out = Vec::new();
            own::write(&mut out, pieces, value);
            let line = String::from_utf8(out).unwrap();
            // Control characters of the format are the operator's own.
            let own = texts[0].matches(char::is_control).count();
            let ascii = |line: &str| line.chars().filter(char::is_ascii_control).count();
            prop_assert!(ascii(&line) <= own + 1, "{:?} of {:?}", line, texts[0]);
        }
    }
}

#[test]
fn flags_have_long_names() {
    let record = AccessRecord { reason: Reason::PerTryTimeout, delayed: true, ..sparse() };
    assert_eq!(record.flags_long(), "UpstreamRequestTimeout,DelayInjected");
    assert_eq!(sparse().flags_long(), "-");
}

/// A flag of a reason has its place among the others.
#[test]
fn every_flag_has_its_place() {
    for reason in Reason::ALL {
        let flag = reason.flag();
        assert!(flag == "-" || record::FLAGS.iter().any(|row| row.0 == flag), "{flag}");
    }
}
