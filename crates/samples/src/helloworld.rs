//! Istio's `helloworld`: says its version and where it runs.

use std::{env, hint, io};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use crate::answer;
use crate::server::{self, App};

/// The application. `GET /hello`, `GET /health`.
#[derive(Debug)]
struct HelloWorld {
    version: String,
    instance: String,
}

/// Serves it on port 5000; `SERVICE_VERSION` and `HOSTNAME` say what it answers.
pub(crate) async fn run(default_version: &str) -> io::Result<()> {
    let version = env::var("SERVICE_VERSION").unwrap_or_else(|_| default_version.to_owned());
    server::run(5000, HelloWorld { version, instance: server::hostname()? }).await
}

impl App for HelloWorld {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/hello") => {
                work();
                let Self { version, instance } = self;
                answer::text(
                    StatusCode::OK,
                    format!("Hello version: {version}, instance: {instance}\n"),
                )
            }
            (&Method::GET, "/health") => answer::text(StatusCode::OK, "Helloworld is healthy"),
            (&Method::GET, _) => answer::not_found(),
            _ => answer::method_not_allowed(),
        }
    }
}

/// Something for a CPU to do, so that an autoscaler has something to measure.
fn work() {
    let mut x = 0.0001_f64;
    for _ in 0..1_000_000 {
        x += hint::black_box(x).sqrt();
    }
    hint::black_box(x);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get};

    #[tokio::test]
    async fn it_says_its_version_and_instance() {
        let app = HelloWorld { version: "v2".to_owned(), instance: "helloworld-v2-x".to_owned() };
        let answer = app.answer(get("/hello?x=1")).await;
        assert_eq!(body(&answer), "Hello version: v2, instance: helloworld-v2-x\n");
        assert_eq!(body(&app.answer(get("/health")).await), "Helloworld is healthy");
        assert_eq!(app.answer(get("/hello/")).await.status(), 404);
    }
}
