//! `voting-analytics`: what the votes come to.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::store::Store;
use crate::answer;
use crate::server::App;

/// The application. `GET /analytics`.
#[derive(Debug)]
pub(super) struct Analytics {
    pub(super) store: Store,
    pub(super) choices: [String; 2],
    /// Whether it tells totals and percentages, as from 1.1 on.
    pub(super) has_percentages: bool,
}

impl App for Analytics {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/analytics") => {}
            (&Method::GET, "/health") => return answer::text(StatusCode::OK, "OK\n"),
            (&Method::GET, _) => return answer::not_found(),
            _ => return answer::method_not_allowed(),
        }
        let [one, two] = &self.choices;
        let counts = match (self.store.count(one).await, self.store.count(two).await) {
            (Ok(one), Ok(two)) => [one, two],
            (Err(error), _) | (_, Err(error)) => {
                let error = format!("{} does not answer: {error}", self.store.name());
                return answer::json_error(StatusCode::INTERNAL_SERVER_ERROR, &error);
            }
        };
        let text = text(&self.choices, counts, self.has_percentages);
        let category =
            |index: usize| json!({ "name": self.choices[index], "count": counts[index] });
        let all = json!({ "category1": category(0), "category2": category(1), "text": text });
        answer::json(StatusCode::OK, &all)
    }
}

/// The counts as the page shows them.
pub(super) fn text(choices: &[String; 2], counts: [u64; 2], has_percentages: bool) -> String {
    let total: u64 = counts.iter().sum();
    let one = |index: usize| {
        let (name, count) = (&choices[index], counts[index]);
        if !has_percentages {
            return format!("{name}: {count}");
        }
        // Halves are rounded up, as `toFixed` does.
        let percentage = (count as f64 * 100.0 / total.max(1) as f64 + 0.5).floor();
        format!("{name}: {count}/{total} ({percentage}%)")
    };
    format!("{} | {}", one(0), one(1))
}
