//! The part of httpbin that workshops use: requests echoed as JSON, chosen statuses, delays.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::random::{draw, uuid};
use crate::server::{App, Peer};
use crate::{answer, form};

/// The application. `/get`, `/post` (also `put`, `patch`, `delete`), `/anything`, `/headers`,
/// `/ip`, `/user-agent`, `/status/{n}`, `/delay/{n}`, `/uuid`.
#[derive(Debug)]
pub(crate) struct Httpbin;

/// The port to serve: from `-b ADDRESS:PORT`, as the original's server takes it, from `PORT`, or 80.
/// Other arguments of that server are ignored.
pub(crate) fn port(arguments: &[String]) -> u16 {
    let bind = arguments
        .iter()
        .skip_while(|argument| !matches!(argument.as_str(), "-b" | "--bind"))
        .nth(1)
        .cloned()
        .or_else(|| arguments.iter().find_map(|a| Some(a.strip_prefix("--bind=")?.to_owned())));
    bind.as_deref()
        .and_then(|bind| bind.rsplit(':').next()?.parse().ok())
        .or_else(|| env::var("PORT").ok()?.parse().ok())
        .unwrap_or(80)
}

impl App for Httpbin {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (first, rest) = (parts.next().unwrap_or_default(), parts.next());
        match (first, rest) {
            ("", None) => answer::html(INDEX),
            ("get", None) if request.method() == Method::GET => json_document(&echo(&request)),
            ("post" | "put" | "patch" | "delete", None) => {
                if request.method().as_str().eq_ignore_ascii_case(first) {
                    json_document(&echo_with_body(&request))
                } else {
                    answer::method_not_allowed()
                }
            }
            ("anything", _) => {
                let mut value = echo_with_body(&request);
                value["method"] = json!(request.method().as_str());
                json_document(&value)
            }
            ("headers", None) => json_document(&json!({ "headers": headers(request.headers()) })),
            ("ip", None) => json_document(&json!({ "origin": origin(&request) })),
            ("user-agent", None) => {
                json_document(&json!({ "user-agent": text(request.headers(), "user-agent") }))
            }
            ("uuid", None) => json_document(&json!({ "uuid": uuid() })),
            ("status", Some(codes)) => status(codes, draw()),
            ("delay", Some(seconds)) => match delay(seconds) {
                Some(delay) => {
                    tokio::time::sleep(delay).await;
                    json_document(&echo_with_body(&request))
                }
                None => answer::not_found(),
            },
            ("get", None) => answer::method_not_allowed(),
            _ => answer::not_found(),
        }
    }
}

/// A JSON document in the original's layout: indented by two spaces, with a final newline.
fn json_document(value: &Value) -> Response<Bytes> {
    answer::with_type(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn echo(request: &Request<Bytes>) -> Value {
    json!({
        "args": form_document(request.uri().query().unwrap_or_default()),
        "headers": headers(request.headers()),
        "origin": origin(request),
        "url": url(request),
    })
}

fn echo_with_body(request: &Request<Bytes>) -> Value {
    let body = String::from_utf8_lossy(request.body());
    let content_type = text(request.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
    let is_form = content_type.starts_with("application/x-www-form-urlencoded");
    json!({
        "args": form_document(request.uri().query().unwrap_or_default()),
        "data": if is_form { "" } else { &body },
        "files": {},
        "form": if is_form { form_document(&body) } else { json!({}) },
        "headers": headers(request.headers()),
        "json": serde_json::from_slice::<Value>(request.body()).unwrap_or_default(),
        "origin": origin(request),
        "url": url(request),
    })
}

/// The header fields, sorted and capitalized as in the original.
fn headers(headers: &HeaderMap) -> Value {
    let mut sorted: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let name: Vec<String> = name.as_str().split('-').map(capitalized).collect();
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = sorted.entry(name.join("-")).or_default();
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(&value);
    }
    json!(sorted)
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    let first = characters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// Fields of a query or form; one that occurs more than once is a list.
fn form_document(text: &str) -> Value {
    let mut fields = Map::new();
    for (name, value) in form::fields(text) {
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, json!(value));
            }
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(one) => *one = json!([one.take(), value]),
        }
    }
    Value::Object(fields)
}

/// The client: the value of `x-forwarded-for`, or the peer's address.
fn origin(request: &Request<Bytes>) -> String {
    text(request.headers(), "x-forwarded-for").unwrap_or_else(|| {
        request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_string()).unwrap_or_default()
    })
}

fn url(request: &Request<Bytes>) -> String {
    let scheme = text(request.headers(), "x-forwarded-proto").unwrap_or("http".to_owned());
    let host = text(request.headers(), HOST.as_str()).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    format!("{scheme}://{host}{path}")
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// An empty response with a status. From a list such as `200,503` or `200:0.9,503:0.1` one is drawn
/// by weight, which defaults to 1. `draw` is in [0, 1).
fn status(codes: &str, draw: f64) -> Response<Bytes> {
    let weighted = |choice: &str| {
        let (code, weight) = choice.split_once(':').unwrap_or((choice, "1"));
        let code = StatusCode::from_u16(code.trim().parse().ok()?).ok()?;
        let weight: f64 = weight.trim().parse().ok()?;
        (code.as_u16() >= 200 && weight.is_finite() && weight >= 0.0).then_some((code, weight))
    };
    let choices: Option<Vec<_>> = codes.split(',').map(weighted).collect();
    let choices = choices.unwrap_or_default();
    let mut left = draw * choices.iter().map(|(_, weight)| weight).sum::<f64>();
    let drawn = choices.iter().find(|(_, weight)| {
        left -= weight;
        left < 0.0
    });
    match drawn {
        Some((code, _)) => answer::with_type(*code, "text/html; charset=utf-8", ""),
        None => answer::text(StatusCode::BAD_REQUEST, "Invalid status code"),
    }
}

/// How long `/delay/{seconds}` waits.
fn delay(seconds: &str) -> Option<Duration> {
    let seconds: f64 = seconds.parse().ok()?;
    Duration::try_from_secs_f64(seconds.clamp(0.0, DELAY_SECONDS_MAX)).ok()
}

const INDEX: &str = "<!DOCTYPE html>\n<title>httpbin</title>\n<p>/get /post /anything /headers /ip \
    /user-agent /status/{n} /delay/{n} /uuid</p>\n";
/// The original's longest delay.
const DELAY_SECONDS_MAX: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get, request};

    #[tokio::test]
    async fn a_request_is_echoed() {
        let mut sent = get("/get?a=1&a=2&b");
        sent.headers_mut().insert("host", "httpbin:8000".parse().unwrap());
        sent.headers_mut().insert("x-request-id", "7".parse().unwrap());
        let expected = r#"{
  "args": {
    "a": [
      "1",
      "2"
    ],
    "b": ""
  },
  "headers": {
    "Host": "httpbin:8000",
    "X-Request-Id": "7"
  },
  "origin": "10.77.0.9",
  "url": "http://httpbin:8000/get?a=1&a=2&b"
}
"#;
        assert_eq!(body(&Httpbin.answer(sent).await), expected);
    }

    #[tokio::test]
    async fn ip_headers_and_statuses() {
        let ip = Httpbin.answer(get("/ip")).await;
        assert_eq!(body(&ip), "{\n  \"origin\": \"10.77.0.9\"\n}\n");
        let headers = Httpbin.answer(get("/headers")).await;
        assert_eq!(body(&headers), "{\n  \"headers\": {}\n}\n");
        for (path, status) in [
            ("/status/418", 418),
            ("/status/x", 400),
            ("/status/100", 400),
            ("/delay/0", 200),
            ("/delay/x", 404),
            ("/post", 405),
            ("/anything/else", 200),
            ("/uuid", 200),
            ("/none", 404),
        ] {
            assert_eq!(Httpbin.answer(get(path)).await.status(), status, "{path}");
        }
    }

    #[test]
    fn of_several_statuses_one_is_drawn_by_weight() {
        for (codes, draw, expected) in [
            ("200,503", 0.49, 200),
            ("200,503", 0.5, 503),
            ("200:0.9,503:0.1", 0.89, 200),
            ("200:0.9,503:0.1", 0.91, 503),
            ("200:0,503", 0.0, 503),
            ("418", 0.999, 418),
            ("200,x", 0.0, 400),
            ("200:-1", 0.0, 400),
            ("", 0.0, 400),
        ] {
            assert_eq!(status(codes, draw).status(), expected, "{codes} {draw}");
        }
        assert!((0..100).map(|_| draw()).all(|draw| (0.0..1.0).contains(&draw)));
    }

    #[test]
    fn forms_are_decoded() {
        let expected = json!({"a b": "c&d", "e": ["100%", "ü"], "%zz": ""});
        assert_eq!(form_document("a+b=c%26d&e=100%25&e=%c3%bc&%zz"), expected);
    }

    #[tokio::test]
    async fn a_body_is_echoed() {
        let answer = Httpbin.answer(request("POST", "/post", r#"{"a":1}"#)).await;
        let value: Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!((&value["data"], &value["json"]["a"]), (&json!(r#"{"a":1}"#), &json!(1)));
    }

    #[test]
    fn a_delay_is_at_most_ten_seconds() {
        for (text, expected) in
            [("1.5", Some(1.5)), ("3600", Some(10.0)), ("-1", Some(0.0)), ("x", None)]
        {
            assert_eq!(delay(text).map(|delay| delay.as_secs_f64()), expected, "{text}");
        }
    }

    #[test]
    fn the_port_is_where_its_server_would_take_it_from() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(port(&words("gunicorn -b 0.0.0.0:8000 httpbin:app -k gevent")), 8000);
        assert_eq!(port(&words("--bind=[::]:81")), 81);
        assert_eq!(port(&[]), 80);
    }
}
