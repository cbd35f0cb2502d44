//! Bookinfo's `productpage`, which joins what `details` and `reviews` return.

mod books;
mod page;
mod session;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, REFERER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::client::Client;
use crate::reviews::server_of;
use crate::server::App;
use crate::{answer, headers};

/// The application. `/productpage`, `/` and `/index.html`, `/login`, `/logout`, `/health`,
/// `/static/*` and `/api/v1/products...`.
#[derive(Debug)]
pub(crate) struct ProductPage {
    details: String,
    reviews: String,
    ratings: String,
    /// Additional calls to `reviews` per page, to generate load.
    flood_factor: u32,
    client: Arc<Client>,
}

/// What a service returned, or the status and message with which it failed.
type Fetched = (StatusCode, Value);

impl ProductPage {
    /// From `SERVICES_DOMAIN`, `{DETAILS,REVIEWS,RATINGS}_HOSTNAME`, `..._SERVICE_PORT` and
    /// `FLOOD_FACTOR`.
    pub(crate) fn from_env() -> Self {
        Self {
            details: server_of("DETAILS", "details"),
            reviews: server_of("REVIEWS", "reviews"),
            ratings: server_of("RATINGS", "ratings"),
            flood_factor: env::var("FLOOD_FACTOR")
                .ok()
                .and_then(|factor| factor.parse().ok())
                .unwrap_or(0),
            client: Arc::default(),
        }
    }

    async fn page(&self, headers: &HeaderMap, user: Option<&str>) -> Response<Bytes> {
        let details = self.details(books::FIRST, headers).await;
        self.flood(headers);
        let reviews = self.reviews(books::FIRST, headers).await;
        answer::html(page::product(user, &details, &reviews))
    }

    async fn details(&self, id: u64, headers: &HeaderMap) -> Fetched {
        self.ask(&self.details, &format!("/details/{id}"), headers, "details").await
    }

    /// Retries once. Since `reviews` waits 10 s for `ratings`, a workshop's delay of 7 s there takes
    /// 6 s here and then shows as an error.
    async fn reviews(&self, id: u64, headers: &HeaderMap) -> Fetched {
        let path = format!("/reviews/{id}");
        let first = self.ask(&self.reviews, &path, headers, "reviews").await;
        if first.0 == StatusCode::OK {
            return first;
        }
        self.ask(&self.reviews, &path, headers, "reviews").await
    }

    async fn ratings(&self, id: u64, headers: &HeaderMap) -> Fetched {
        self.ask(&self.ratings, &format!("/ratings/{id}"), headers, "ratings").await
    }

    async fn ask(&self, server: &str, path: &str, headers: &HeaderMap, what: &str) -> Fetched {
        let status = match self.client.get(server, path, headers, CALL_TIMEOUT).await {
            Ok(answer) if answer.status == StatusCode::OK => {
                match serde_json::from_slice(&answer.body) {
                    Ok(value) => return (StatusCode::OK, value),
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
                }
            }
            Ok(answer) => answer.status,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let error = format!("Sorry, product {what} are currently unavailable for this book.");
        (status, json!({ "error": error }))
    }

    /// Sends `FLOOD_FACTOR` calls to `reviews` without waiting for them.
    fn flood(&self, headers: &HeaderMap) {
        for _ in 0..self.flood_factor {
            let (client, server) = (Arc::clone(&self.client), self.reviews.clone());
            let headers = headers.clone();
            tokio::spawn(async move {
                let path = format!("/reviews/{}", books::FIRST);
                // Only the load matters.
                let _ = client.get(&server, &path, &headers, CALL_TIMEOUT).await;
            });
        }
    }

    async fn api(&self, path: &str, headers: &HeaderMap) -> Response<Bytes> {
        if path.is_empty() {
            return answer::json(StatusCode::OK, &books::all());
        }
        let mut parts = path.trim_start_matches('/').split('/');
        let Some(id) = parts.next().and_then(|id| id.parse().ok()) else {
            return answer::not_found();
        };
        let (status, value) = match (parts.next(), parts.next()) {
            (None, _) => self.details(id, headers).await,
            (Some("reviews"), None) => self.reviews(id, headers).await,
            (Some("ratings"), None) => self.ratings(id, headers).await,
            _ => return answer::not_found(),
        };
        answer::json(status, &value)
    }
}

impl App for ProductPage {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let user = request.headers().get(COOKIE).and_then(session::user);
        let headers = outward(request.headers(), user.as_deref());
        let path = request.uri().path();
        match (request.method(), path) {
            (&Method::GET, "/" | "/index.html") => answer::html(page::INDEX),
            (&Method::GET, "/productpage") => self.page(&headers, user.as_deref()).await,
            (&Method::GET, "/health") => answer::text(StatusCode::OK, "Product page is healthy"),
            (&Method::POST, "/login") => {
                let back = back_to(request.headers());
                signed(back, session::login(request.body()))
            }
            (&Method::GET, "/logout") => signed(back_to(request.headers()), session::logout()),
            (_, "/productpage" | "/login" | "/logout") => answer::method_not_allowed(),
            (&Method::GET, _) => match path.strip_prefix("/api/v1/products") {
                Some(rest) => self.api(rest, &headers).await,
                None => page::static_file(path).unwrap_or_else(answer::not_found),
            },
            _ => answer::not_found(),
        }
    }
}

/// The headers of every call made for a request: those of its trace, and the user of its session. A
/// client's own `end-user` is not trusted.
fn outward(request: &HeaderMap, user: Option<&str>) -> HeaderMap {
    let mut passed = headers::propagated(request);
    passed.remove(headers::END_USER);
    if let Some(user) = user.and_then(|user| HeaderValue::from_str(user).ok()) {
        passed.insert(headers::END_USER, user);
    }
    passed
}

/// The page that a form was sent from.
fn back_to(headers: &HeaderMap) -> HeaderValue {
    headers.get(REFERER).cloned().unwrap_or(HeaderValue::from_static("/productpage"))
}

fn signed(back: HeaderValue, cookie: HeaderValue) -> Response<Bytes> {
    let mut answer = answer::redirect(back);
    answer.headers_mut().insert(SET_COOKIE, cookie);
    answer
}

/// How long one call to another service may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
