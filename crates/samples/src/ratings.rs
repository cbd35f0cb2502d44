//! Bookinfo's `ratings`: stars that two reviewers gave a book.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::answer;
use crate::server::App;

/// The application. `GET /ratings/{id}`, `POST /ratings/{id}` with `{"Reviewer1":5,...}`,
/// `GET /health`.
#[derive(Debug, Default)]
pub(crate) struct Ratings {
    /// Ratings that were posted; lost when the process ends.
    posted: Mutex<BTreeMap<u64, Value>>,
}

impl App for Ratings {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        if path == "/health" {
            return answer::json(StatusCode::OK, &json!({ "status": "Ratings is healthy" }));
        }
        let Some(id) = path.strip_prefix("/ratings/") else { return answer::not_found() };
        let Ok(id) = id.parse::<u64>() else {
            return answer::json_error(
                StatusCode::BAD_REQUEST,
                "please provide numeric product ID",
            );
        };
        let mut posted = self.posted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let ratings = match *request.method() {
            Method::GET => posted.get(&id).cloned().unwrap_or_else(built_in),
            Method::POST => {
                let Ok(ratings) = serde_json::from_slice::<Value>(request.body()) else {
                    return answer::json_error(
                        StatusCode::BAD_REQUEST,
                        "please provide valid ratings JSON",
                    );
                };
                if posted.len() < POSTED_MAX || posted.contains_key(&id) {
                    posted.insert(id, ratings.clone());
                }
                ratings
            }
            _ => return answer::method_not_allowed(),
        };
        answer::json(StatusCode::OK, &json!({ "id": id, "ratings": ratings }))
    }
}

/// What every book has until something else is posted.
fn built_in() -> Value {
    json!({ "Reviewer1": 5, "Reviewer2": 4 })
}

/// Books for which posted ratings are kept.
const POSTED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get, request};

    #[tokio::test]
    async fn ratings_are_built_in_until_posted() {
        let app = Ratings::default();
        let first = app.answer(get("/ratings/0")).await;
        assert_eq!(body(&first), r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#);
        app.answer(request("POST", "/ratings/0", r#"{"Reviewer1":1}"#)).await;
        let second = app.answer(get("/ratings/0")).await;
        assert_eq!(body(&second), r#"{"id":0,"ratings":{"Reviewer1":1}}"#);
    }

    #[tokio::test]
    async fn health_and_errors() {
        let app = Ratings::default();
        for (request, status, text) in [
            (get("/health"), 200, r#"{"status":"Ratings is healthy"}"#),
            (get("/ratings/x"), 400, r#"{"error":"please provide numeric product ID"}"#),
            (
                request("POST", "/ratings/1", "{"),
                400,
                r#"{"error":"please provide valid ratings JSON"}"#,
            ),
            (request("PUT", "/ratings/1", ""), 405, "method not allowed\n"),
            (get("/"), 404, "not found\n"),
        ] {
            let answer = app.answer(request).await;
            assert_eq!((answer.status().as_u16(), body(&answer)), (status, text));
        }
    }
}
