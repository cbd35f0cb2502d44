//! Bookinfo's `reviews`: what two reviewers wrote, with stars in the versions that call `ratings`.

use std::env;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::client::Client;
use crate::server::App;
use crate::{answer, headers};

/// The application. `GET /reviews/{id}`, `GET /health`.
#[derive(Debug)]
pub(crate) struct Reviews {
    /// Colour of the stars; `None`: it does not call `ratings`.
    color: Option<String>,
    /// `HOST:PORT` of `ratings`.
    ratings: String,
    client: Client,
}

/// One of the three versions that the workshops use, each of which has its own image there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Variant {
    /// Does not call `ratings`.
    V1,
    /// Black stars.
    V2,
    /// Red stars.
    V3,
}

impl Reviews {
    /// From `ENABLE_RATINGS`, `STAR_COLOR`, `RATINGS_HOSTNAME`, `RATINGS_SERVICE_PORT` and
    /// `SERVICES_DOMAIN`. A variant sets the first two where the environment does not.
    pub(crate) fn from_env(variant: Option<Variant>) -> Self {
        let (asks, color) = match variant {
            None | Some(Variant::V1) => (false, "black"),
            Some(Variant::V2) => (true, "black"),
            Some(Variant::V3) => (true, "red"),
        };
        let asks = env::var("ENABLE_RATINGS").map_or(asks, |value| value == "true");
        let color = env::var("STAR_COLOR").unwrap_or_else(|_| color.to_owned());
        Self {
            color: asks.then_some(color),
            ratings: server_of("RATINGS", "ratings"),
            client: Client::default(),
        }
    }

    /// The stars that both reviewers gave; `None` if they cannot be fetched.
    async fn stars(&self, id: u32, headers: &HeaderMap) -> Option<[Option<i64>; 2]> {
        let path = format!("/ratings/{id}");
        let timeout = match self.color.as_deref() {
            Some("black") => PATIENT,
            _ => IMPATIENT,
        };
        let answer = self.client.get(&self.ratings, &path, headers, timeout).await.ok()?;
        if answer.status != StatusCode::OK {
            return None;
        }
        let ratings: Value = serde_json::from_slice(&answer.body).ok()?;
        let of = |reviewer: &str| ratings["ratings"][reviewer].as_i64();
        Some([of("Reviewer1"), of("Reviewer2")])
    }

    async fn reviews(&self, id: u32, headers: &HeaderMap) -> Value {
        let stars = match &self.color {
            Some(color) => Some((color, self.stars(id, headers).await)),
            None => None,
        };
        let review = |index: usize| {
            let (reviewer, text) = REVIEWS[index];
            let mut review = json!({ "reviewer": reviewer, "text": text });
            if let Some((color, stars)) = &stars {
                review["rating"] = match stars.as_ref().and_then(|stars| stars[index]) {
                    Some(stars) => json!({ "stars": stars, "color": color }),
                    None => json!({ "error": "Ratings service is currently unavailable" }),
                };
            }
            review
        };
        json!({ "id": id.to_string(), "reviews": [review(0), review(1)] })
    }
}

impl App for Reviews {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        if request.method() != Method::GET {
            return answer::method_not_allowed();
        }
        if path == "/health" {
            return answer::json(StatusCode::OK, &json!({ "status": "Reviews is healthy" }));
        }
        match path.strip_prefix("/reviews/").map(str::parse) {
            Some(Ok(id)) => {
                let headers = headers::propagated(request.headers());
                answer::json(StatusCode::OK, &self.reviews(id, &headers).await)
            }
            _ => answer::not_found(),
        }
    }
}

/// The address of a Bookinfo service, from `{NAME}_HOSTNAME`, `SERVICES_DOMAIN` and
/// `{NAME}_SERVICE_PORT`; by default its usual name and port 9080.
pub(crate) fn server_of(variable: &str, name: &str) -> String {
    let or = |variable: String, default: &str| {
        env::var(variable).ok().filter(|v| !v.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let host = or(format!("{variable}_HOSTNAME"), name);
    let domain = or("SERVICES_DOMAIN".to_owned(), "");
    let dot = if domain.is_empty() { "" } else { "." };
    // Kubernetes sets this variable for every Service, to the same port.
    let port = or(format!("{variable}_SERVICE_PORT"), "9080");
    format!("{host}{dot}{domain}:{port}")
}

/// How long the version with black stars waits for `ratings`. It is more than the 7 s of the
/// workshops' delay fault, which therefore only shows through the caller's timeout of 3 s.
const PATIENT: Duration = Duration::from_secs(10);
/// How long the others wait.
const IMPATIENT: Duration = Duration::from_millis(2500);

const REVIEWS: [(&str, &str); 2] = [
    (
        "Reviewer1",
        "Two pairs of twins, one long day and no end of mistaken doors. I have not laughed so \
         much at a play this year!",
    ),
    (
        "Reviewer2",
        "Great fun from start to finish, though next to the later comedies its people stay a \
         little flat.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ratings::Ratings;
    use crate::server::tests::{body, get, start};

    fn reviews(color: Option<&str>, ratings: String) -> Reviews {
        Reviews { color: color.map(str::to_owned), ratings, client: Client::default() }
    }

    async fn ratings_of(app: &Reviews) -> Vec<String> {
        let answer = app.answer(get("/reviews/0")).await;
        let value: Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!(value["id"], "0");
        let reviews = value["reviews"].as_array().unwrap();
        assert_eq!(reviews[0]["reviewer"], "Reviewer1");
        assert_eq!(reviews[1]["reviewer"], "Reviewer2");
        reviews.iter().map(|review| review["rating"].to_string()).collect()
    }

    #[tokio::test]
    async fn v1_has_no_ratings_at_all() {
        let app = reviews(None, "127.0.0.1:1".to_owned());
        let answer = app.answer(get("/reviews/0")).await;
        assert!(!body(&answer).contains("rating"), "{}", body(&answer));
        assert!(
            body(&answer).starts_with(r#"{"id":"0","reviews":[{"reviewer":"Reviewer1","text":"#)
        );
    }

    #[tokio::test]
    async fn v3_has_red_stars() {
        let ratings = start(Ratings::default()).await;
        let app = reviews(Some("red"), ratings.to_string());
        assert_eq!(
            ratings_of(&app).await,
            [r#"{"stars":5,"color":"red"}"#, r#"{"stars":4,"color":"red"}"#]
        );
    }

    #[tokio::test]
    async fn without_ratings_it_says_so() {
        let app = reviews(Some("black"), "127.0.0.1:1".to_owned());
        let error = r#"{"error":"Ratings service is currently unavailable"}"#;
        assert_eq!(ratings_of(&app).await, [error, error]);
    }

    #[tokio::test]
    async fn health_and_errors() {
        let app = reviews(None, String::new());
        for (path, status, text) in [
            ("/health", 200, r#"{"status":"Reviews is healthy"}"#),
            ("/reviews/x", 404, "not found\n"),
        ] {
            let answer = app.answer(get(path)).await;
            assert_eq!((answer.status().as_u16(), body(&answer)), (status, text), "{path}");
        }
    }
}
