//! Bookinfo's `details`: facts about a book.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::json;

use crate::answer;
use crate::server::App;

/// The application. `GET /details/{id}`, `GET /health`.
#[derive(Debug)]
pub(crate) struct Details;

impl App for Details {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        if request.method() != Method::GET {
            return answer::method_not_allowed();
        }
        if path == "/health" {
            return answer::json(StatusCode::OK, &json!({ "status": "Details is healthy" }));
        }
        let Some(id) = path.strip_prefix("/details/") else { return answer::not_found() };
        let Ok(id) = id.parse::<u64>() else {
            return answer::json_error(
                StatusCode::BAD_REQUEST,
                "please provide numeric product id",
            );
        };
        answer::json(
            StatusCode::OK,
            &json!({
                "id": id,
                "author": "William Shakespeare",
                "year": 1595,
                "type": "paperback",
                "pages": 200,
                "publisher": "PublisherA",
                "language": "English",
                "ISBN-10": "1234567890",
                "ISBN-13": "123-1234567890",
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get};

    #[tokio::test]
    async fn details_of_a_book() {
        let answer = Details.answer(get("/details/0")).await;
        assert_eq!(
            body(&answer),
            r#"{"id":0,"author":"William Shakespeare","year":1595,"type":"paperback","pages":200,"publisher":"PublisherA","language":"English","ISBN-10":"1234567890","ISBN-13":"123-1234567890"}"#
        );
    }

    #[tokio::test]
    async fn health_and_errors() {
        for (path, status, text) in [
            ("/health", 200, r#"{"status":"Details is healthy"}"#),
            ("/details/x", 400, r#"{"error":"please provide numeric product id"}"#),
            ("/", 404, "not found\n"),
        ] {
            let answer = Details.answer(get(path)).await;
            assert_eq!((answer.status().as_u16(), body(&answer)), (status, text), "{path}");
        }
    }
}
