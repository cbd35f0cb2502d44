//! `ratings-web`: a page about items and their ratings, which asks the API through this server.

use std::env;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};

use crate::client::Client;
use crate::server::{self, App};
use crate::{answer, form};

/// The application. `/`, `/static/*`, `/healthz`; what begins with `/api` goes to the API as it
/// came, with the browser's `Host`.
#[derive(Debug)]
struct RatingsWeb {
    page: String,
    /// `HOST[:PORT]` of the API.
    api: String,
    client: Client,
}

/// Serves it on `PORT`, by default 8080. `API` is the URL of the API, `SITE_CODE` the site that the
/// page is for, by default `FR`.
pub(crate) async fn run() -> io::Result<()> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let api = variable("API").unwrap_or_else(|| "http://localhost:3000".to_owned());
    let port = variable("PORT").and_then(|port| port.parse().ok()).unwrap_or(8080);
    let site = variable("SITE_CODE").unwrap_or_else(|| "FR".to_owned());
    server::run(port, RatingsWeb::new(&api, &site)).await
}

impl RatingsWeb {
    fn new(api: &str, site: &str) -> Self {
        let server = api.strip_prefix("http://").unwrap_or(api);
        let server = server.split('/').next().unwrap_or(server);
        let page = PAGE.replace("{{SITE_CODE}}", &form::html(site));
        Self { page, api: server.to_owned(), client: Client::default() }
    }

    async fn pass_on(&self, mut request: Request<Bytes>) -> Response<Bytes> {
        // They are those of one connection; the body has come whole.
        for name in [CONNECTION, TRANSFER_ENCODING] {
            request.headers_mut().remove(name);
        }
        let path = request.uri().path().to_owned();
        match self.client.send(&self.api, request, API_TIMEOUT).await {
            Ok(got) => {
                let mut answer = Response::new(got.body);
                *answer.status_mut() = got.status;
                if let Some(kind) = got.headers.get(CONTENT_TYPE) {
                    answer.headers_mut().insert(CONTENT_TYPE, kind.clone());
                }
                answer
            }
            Err(error) => {
                let message = format!("{path} could not be fetched from {}: {error}\n", self.api);
                answer::text(StatusCode::GATEWAY_TIMEOUT, message)
            }
        }
    }
}

impl App for RatingsWeb {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        if path == "/api" || path.starts_with("/api/") {
            return self.pass_on(request).await;
        }
        if request.method() != Method::GET {
            return answer::method_not_allowed();
        }
        match path {
            "/" | "/index.html" => answer::html(self.page.clone()),
            "/healthz" => answer::text(StatusCode::OK, "OK\n"),
            "/static/ratings.css" => {
                answer::with_type(StatusCode::OK, "text/css; charset=utf-8", STYLE)
            }
            "/static/ratings.js" => {
                answer::with_type(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT)
            }
            "/static/img/favicon.ico" | "/favicon.ico" => {
                answer::with_type(StatusCode::OK, "image/svg+xml", ICON)
            }
            _ => answer::not_found(),
        }
    }
}

const PAGE: &str = include_str!("../assets/ratings.html");
const STYLE: &str = include_str!("../assets/static/ratings.css");
const SCRIPT: &str = include_str!("../assets/static/ratings.js");
const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 8 8\">\
    <path d=\"M4 0l1 3h3L5.5 5l1 3L4 6 1.5 8l1-3L0 3h3z\" fill=\"#c33\"/></svg>";
/// How long the API may take.
const API_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get, request, start};

    /// Tells what came.
    struct Api;

    impl App for Api {
        async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let sent = String::from_utf8_lossy(request.body()).into_owned();
            let text = format!("{} {} {host} {sent}", request.method(), request.uri());
            answer::with_type(StatusCode::CREATED, "application/json", text)
        }
    }

    #[tokio::test]
    async fn calls_of_the_api_keep_the_browsers_host() {
        let api = format!("http://{}/", start(Api).await);
        let app = RatingsWeb::new(&api, "FR");
        let mut sent = request("POST", "/api/rate?a=1", "{}");
        sent.headers_mut().insert("host", "gateway.example".parse().unwrap());
        let answer = app.answer(sent).await;
        assert_eq!(body(&answer), "POST /api/rate?a=1 gateway.example {}");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (201, &"application/json".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn the_page_its_files_and_an_api_that_is_away() {
        let app = RatingsWeb::new("http://127.0.0.1:1", "<FR>");
        let page = app.answer(get("/")).await;
        assert!(body(&page).contains("<title>Ratings</title>"));
        assert!(body(&page).contains("data-site=\"&lt;FR&gt;\""));
        for (path, status) in [
            ("/static/img/favicon.ico", 200),
            ("/static/ratings.js", 200),
            ("/static/none", 404),
            ("/apis", 404),
            ("/api/items", 504),
        ] {
            assert_eq!(app.answer(get(path)).await.status(), status, "{path}");
        }
    }
}
