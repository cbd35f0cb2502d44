//! `retry-backend`: a server that fails as often as it is asked to, by hanging and then crashing.
//! Other calls are served while one hangs, until the crash ends them all.

use std::io;
use std::process;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use crate::server::{self, App};
use crate::{answer, form, random};

/// The application. `GET /?failRate=PERCENT`, by default 50: it fails with one percent less than
/// that. How it fails says the rest of the query:
///
/// - nothing: it hangs for 5 s, and the process ends with code 69;
/// - `hardCrash`: the same after 20 s;
/// - `mode=crash`: the same after 2 s;
/// - any other `mode`: 503 at once.
#[derive(Debug)]
struct RetryBackend;

/// Serves it on port 80.
pub(crate) async fn run() -> io::Result<()> {
    server::run(80, RetryBackend).await
}

impl App for RetryBackend {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => {}
            (&Method::GET, _) => return answer::not_found(),
            _ => return answer::method_not_allowed(),
        }
        match outcome(request.uri().query().unwrap_or_default(), random::draw()) {
            Outcome::Fine => answer::text(StatusCode::OK, "OK"),
            Outcome::Overloaded => answer::text(StatusCode::SERVICE_UNAVAILABLE, "Overloaded"),
            Outcome::Crash { after } => {
                // A caller that waits no longer ends the call, but not the crash.
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    process::exit(CRASHED)
                });
                std::future::pending().await
            }
        }
    }
}

/// What a call comes to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Fine,
    Overloaded,
    Crash { after: Duration },
}

/// `draw` is in [0, 1).
fn outcome(query: &str, draw: f64) -> Outcome {
    let rate = form::field(query, "failRate").and_then(|rate| rate.parse().ok());
    if draw * 100.0 >= rate.unwrap_or(FAIL_RATE) - 1.0 {
        return Outcome::Fine;
    }
    let crash = |seconds| Outcome::Crash { after: Duration::from_secs(seconds) };
    let hard = form::field(query, "hardCrash").filter(|value| !matches!(&**value, "false" | "0"));
    match (hard, form::field(query, "mode").as_deref()) {
        (Some(_), _) => crash(20),
        (None, None) => crash(5),
        (None, Some("crash")) => crash(2),
        (None, Some(_)) => Outcome::Overloaded,
    }
}

/// Percentage without `failRate`.
const FAIL_RATE: f64 = 50.0;
/// Exit code of a crash.
const CRASHED: i32 = 69;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get};

    #[test]
    fn it_fails_as_often_and_as_it_is_asked_to() {
        let crash = |seconds| Outcome::Crash { after: Duration::from_secs(seconds) };
        for (query, draw, expected) in [
            ("", 0.48, crash(5)),
            ("", 0.49, Outcome::Fine),
            ("failRate=99", 0.97, crash(5)),
            ("failRate=1", 0.0, Outcome::Fine),
            ("failRate=0", 0.0, Outcome::Fine),
            ("failRate=101&mode=crash", 0.999, crash(2)),
            ("failRate=101&mode=busy", 0.999, Outcome::Overloaded),
            ("failRate=101&hardCrash=true", 0.0, crash(20)),
            ("failRate=101&hardCrash=false", 0.0, crash(5)),
            ("failRate=x", 0.48, crash(5)),
            ("failRate=NaN", 0.0, crash(5)),
        ] {
            assert_eq!(outcome(query, draw), expected, "{query} {draw}");
        }
    }

    #[tokio::test]
    async fn a_call_that_does_not_fail_is_ok() {
        assert_eq!(body(&RetryBackend.answer(get("/?failRate=1")).await), "OK");
    }

    #[tokio::test]
    async fn other_calls_are_served_while_one_hangs() {
        let hangs = RetryBackend.answer(get("/?failRate=101"));
        tokio::select! {
            biased;
            _ = hangs => unreachable!("it crashes"),
            answer = RetryBackend.answer(get("/?failRate=1")) => assert_eq!(answer.status(), 200),
        }
    }
}
