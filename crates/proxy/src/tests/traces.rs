//! Request ids and the headers of traces.

use ironmesh_model::service::Protocol;

use super::world::*;

#[test]
fn ids_are_made_once_and_passed_on() {
    let app = App::http(|request| ok(&request.head));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    let seen = client.get("/").body;
    for name in ["x-request-id", "traceparent", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"] {
        assert!(seen.contains(&format!("\r\n{name}: ")), "{name}: {seen}");
    }
    client.send(concat!(
        "GET / HTTP/1.1\r\nhost: reviews:9080\r\nx-request-id: mine\r\nb3: 0\r\n",
        "x-ironmesh-not-delivered: 1\r\nx-drop: 1\r\nconnection: x-drop\r\n\r\n"
    ));
    let seen = client.read_response(false).body;
    assert!(seen.contains("\r\nx-request-id: mine\r\n"), "{seen}");
    assert!(!seen.contains("traceparent"), "{seen}");
    assert!(!seen.contains("x-ironmesh"), "{seen}");
    assert!(!seen.contains("x-drop"), "{seen}");
}

#[test]
fn a_client_says_whether_its_trace_is_sampled() {
    let app = App::http(|request| ok(&request.head));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    for (field, sampled) in
        [("x-b3-sampled: 1", "1"), ("x-b3-sampled: 0", "0"), ("x-b3-flags: 1", "1")]
    {
        client.send(&format!("GET / HTTP/1.1\r\nhost: reviews:9080\r\n{field}\r\n\r\n"));
        let seen = client.read_response(false);
        let seen = Response { head: seen.body.clone(), ..seen };
        assert!(seen.header("traceparent").unwrap().ends_with(&format!("-0{sampled}")));
        assert_eq!(seen.head.matches("x-b3-sampled").count(), 1, "{}", seen.head);
        assert_eq!(seen.header("x-b3-sampled"), Some(sampled));
    }
}

#[test]
fn both_forms_of_a_trace_say_the_same_and_few_are_sampled() {
    let app = App::http(|request| ok(&request.head));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    let mut sampled = 0;
    for _ in 0..200 {
        let seen = client.get("/").body;
        let field = |name: &str| {
            let mut lines = seen.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(found, _)| *found == name).unwrap().1.to_owned()
        };
        let w3c = field("traceparent");
        let parts: Vec<&str> = w3c.split('-').collect();
        let b3 = ["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"].map(field);
        assert_eq!(parts, ["00", &b3[0], &b3[1], if b3[2] == "1" { "01" } else { "00" }]);
        sampled += usize::from(b3[2] == "1");
    }
    // One of a hundred: the chance of more than 30 is below 1e-24.
    assert!(sampled <= 30, "{sampled}");
}
