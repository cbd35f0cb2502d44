//! `myweb`: a page that tells its version and which server it is.

use std::{env, io};

use bytes::Bytes;
use http::{Method, Request, Response};

use crate::server::{self, App};
use crate::{answer, random};

/// The application. `GET /`.
#[derive(Debug)]
struct MyWeb {
    page: String,
}

/// Serves it on `PORT`, by default 80. The version is the original's tag, by default 1.
pub(crate) async fn run(arguments: &[String]) -> io::Result<()> {
    let version = match arguments.first().map(String::as_str) {
        None | Some("latest") => "1",
        Some(version) => version,
    };
    let port = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(80);
    server::run(port, MyWeb::new(version, &random::uuid())).await
}

impl MyWeb {
    fn new(version: &str, server: &str) -> Self {
        let page =
            format!("<h1>Welcome to Version {version}<br><br>This is server {server}\n</h1>");
        Self { page }
    }
}

impl App for MyWeb {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => answer::html(self.page.clone()),
            (&Method::GET, _) => answer::not_found(),
            _ => answer::method_not_allowed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get};

    #[tokio::test]
    async fn the_page_is_the_same_at_each_call() {
        let app = MyWeb::new("2", "0-1");
        for _ in 0..2 {
            let page = app.answer(get("/")).await;
            let expected = "<h1>Welcome to Version 2<br><br>This is server 0-1\n</h1>";
            assert_eq!(body(&page), expected);
        }
        assert_eq!(app.answer(get("/x")).await.status(), 404);
    }
}
