//! `ratings-api`: items, sites and ratings, kept in MongoDB.

use std::env;
use std::io;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::mongo::Mongo;
use crate::server::{self, App};
use crate::{answer, form, random};

/// The application. `GET /healthz`, `/api`, `/api/items`, `/api/items/rated`, `/api/sites/{code}`,
/// `/api/loadtest`; `POST /api/item` with `{"id", "name"}`, `POST /api/rate` with
/// `{"ratings": [{"id", "rating"}]}`. Answers are `{"message", "status", "payload"}`.
#[derive(Debug)]
struct RatingsApi {
    mongo: Mongo,
    /// Whether what everything begins with is in the database.
    loaded: OnceCell<()>,
}

/// Serves it on `PORT`, by default 3000. `MONGODB_URI` says where the database is.
pub(crate) async fn run() -> io::Result<()> {
    let uri = env::var("MONGODB_URI").unwrap_or_else(|_| "mongodb://localhost/ratings".to_owned());
    let port = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(3000);
    server::run(port, RatingsApi::new(&uri)).await
}

impl RatingsApi {
    fn new(uri: &str) -> Self {
        Self { mongo: Mongo::new(uri, "ratings"), loaded: OnceCell::new() }
    }

    /// Puts the first items and sites into a database that has none.
    async fn load(&self) -> io::Result<()> {
        let load = async || {
            for (collection, documents) in [("items", items()), ("sites", sites())] {
                // All pods that start do this: by their ids the documents are there once.
                for document in documents {
                    let change = json!({ "$setOnInsert": document });
                    self.change(collection, &document["_id"], change, true).await?;
                }
            }
            Ok(())
        };
        self.loaded.get_or_try_init(load).await.map(drop)
    }

    async fn change(
        &self,
        collection: &str,
        id: &Value,
        mut change: Value,
        upsert: bool,
    ) -> io::Result<bool> {
        if let Some(inserted) = change.get_mut("$setOnInsert").and_then(Value::as_object_mut) {
            inserted.remove("_id");
        }
        let update = json!({ "q": { "_id": id }, "u": change, "upsert": upsert });
        let answer =
            self.mongo.command(json!({ "update": collection, "updates": [update] })).await?;
        Ok(answer["n"].as_i64().is_some_and(|n| n > 0))
    }

    async fn healthz(&self) -> Response<Bytes> {
        let pinged = async {
            self.mongo.command(json!({ "ping": 1 })).await?;
            self.load().await
        };
        match pinged.await {
            Ok(()) => answer::text(StatusCode::OK, "API health check - OK"),
            Err(error) => {
                let text = format!("API health check - MongoDB is not connected: {error}");
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }

    /// Items with the average of their ratings.
    async fn rated(&self) -> io::Result<Value> {
        let ratings = self.mongo.find("ratings").await?;
        let mut items = self.mongo.find("items").await?;
        for item in &mut items {
            let own: Vec<f64> = ratings
                .iter()
                .filter(|rating| rating["item"] == item["_id"])
                .filter_map(|rating| rating["rating"].as_f64())
                .collect();
            item["ratings"] = json!(own.len());
            // The sum of nothing is -0.
            let sum = own.iter().copied().reduce(|one, other| one + other).unwrap_or_default();
            item["rating"] = json!(sum / own.len().max(1) as f64);
        }
        Ok(Value::Array(items))
    }

    async fn site(&self, code: &str) -> io::Result<Option<Value>> {
        let code = form::decoded(code).to_uppercase();
        let sites = self.mongo.find("sites").await?;
        Ok(sites.into_iter().find(|site| site["_id"].as_str() == Some(&code)))
    }

    async fn add_item(&self, sent: &Value) -> io::Result<Option<Value>> {
        let (Some(id), Some(name)) = (sent["id"].as_str(), sent["name"].as_str()) else {
            return Ok(None);
        };
        let item = json!({ "_id": id, "name": name });
        self.change("items", &item["_id"], json!({ "$set": { "name": name } }), true).await?;
        Ok(Some(item))
    }

    async fn rate(&self, sent: &Value) -> io::Result<Option<Value>> {
        let Some(ratings) = sent["ratings"].as_array().filter(|all| all.len() <= RATINGS_MAX)
        else {
            return Ok(None);
        };
        let mut documents = Vec::new();
        for rating in ratings {
            let (Some(id), Some(stars)) = (rating["id"].as_str(), rating["rating"].as_f64()) else {
                return Ok(None);
            };
            documents.push(json!({ "_id": random::uuid(), "item": id, "rating": stars }));
        }
        let count = documents.len();
        if count > 0 {
            let insert = json!({ "insert": "ratings", "documents": documents });
            self.mongo.command(insert).await?;
        }
        Ok(Some(json!({ "saved": count })))
    }
}

impl App for RatingsApi {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path();
        if path == "/healthz" {
            return self.healthz().await;
        }
        if path == "/api" {
            return message(StatusCode::OK, "Welcome to the ratings API", Value::Null);
        }
        if !path.starts_with("/api/") {
            return answer::not_found();
        }
        if let Err(error) = self.load().await {
            return failed(&error);
        }
        let sent: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let site = path.strip_prefix("/api/sites/");
        let found = match (request.method(), path, site) {
            (&Method::GET, "/api/items", _) => {
                self.mongo.find("items").await.map(|i| Some(i.into()))
            }
            (&Method::GET, "/api/items/rated", _) => self.rated().await.map(Some),
            (&Method::GET, "/api/loadtest", _) => self.rated().await.map(Some),
            (&Method::GET, _, Some(code)) => match self.site(code).await {
                Ok(None) => return message(StatusCode::NOT_FOUND, "no such site", Value::Null),
                found => found,
            },
            (&Method::POST, "/api/item", _) => self.add_item(&sent).await,
            (&Method::POST, "/api/rate", _) => self.rate(&sent).await,
            _ => return message(StatusCode::NOT_FOUND, "not found", Value::Null),
        };
        match found {
            Ok(Some(payload)) => message(StatusCode::OK, "success", payload),
            Ok(None) => {
                message(StatusCode::BAD_REQUEST, "the body is not as it must be", Value::Null)
            }
            Err(error) => failed(&error),
        }
    }
}

fn message(status: StatusCode, text: &str, payload: Value) -> Response<Bytes> {
    let code = status.as_u16();
    answer::json(status, &json!({ "message": text, "status": code, "payload": payload }))
}

fn failed(error: &io::Error) -> Response<Bytes> {
    let text = format!("MongoDB does not answer: {error}");
    message(StatusCode::INTERNAL_SERVER_ERROR, &text, Value::Null)
}

fn items() -> Vec<Value> {
    ["Apples", "Bread", "Cheese", "Dates"]
        .map(|name| json!({ "_id": name.to_lowercase(), "name": name }))
        .to_vec()
}

fn sites() -> Vec<Value> {
    [("FR", "Fruit and more"), ("DE", "The delicatessen")]
        .map(|(code, name)| json!({ "_id": code, "siteCode": code, "longName": name }))
        .to_vec()
}

/// Ratings of one call.
const RATINGS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongo::tests::server as mongo;
    use crate::server::tests::{body, get, request};

    /// A database in which all was rated once.
    async fn database() -> String {
        mongo(|command| {
            let batch = match command["find"].as_str() {
                Some("items") => Value::from(items()),
                Some("sites") => Value::from(sites()),
                Some(_) => {
                    json!([{ "item": "dates", "rating": 4 }, { "item": "dates", "rating": 5 }])
                }
                None => Value::Null,
            };
            json!({ "ok": 1.0, "n": 1, "cursor": { "firstBatch": batch } })
        })
        .await
    }

    #[tokio::test]
    async fn items_sites_and_ratings() {
        let app = RatingsApi::new(&database().await);
        let payload = async |path: &str| -> Value {
            let answer = app.answer(get(path)).await;
            let value: Value = serde_json::from_str(body(&answer)).unwrap();
            assert_eq!((&value["status"], &value["message"]), (&json!(200), &json!("success")));
            value["payload"].clone()
        };
        assert_eq!(payload("/api/items").await[3]["name"], "Dates");
        let rated = payload("/api/items/rated").await;
        assert_eq!((&rated[3]["rating"], &rated[3]["ratings"]), (&json!(4.5), &json!(2)));
        assert_eq!(rated[0]["rating"].to_string(), "0.0");
        assert_eq!(payload("/api/sites/fr").await["longName"], "Fruit and more");
        assert_eq!(body(&app.answer(get("/healthz")).await), "API health check - OK");
    }

    #[tokio::test]
    async fn what_is_sent_is_checked() {
        let app = RatingsApi::new(&database().await);
        for (path, text, status) in [
            ("/api/rate", r#"{"ratings":[{"id":"dates","rating":5}]}"#, 200),
            ("/api/rate", r#"{"ratings":[{"id":"dates"}]}"#, 400),
            ("/api/rate", "{", 400),
            ("/api/item", r#"{"id":"eggs","name":"Eggs"}"#, 200),
            ("/api/item", r#"{"id":{"$gt":""},"name":"Eggs"}"#, 400),
            ("/api/none", "", 404),
        ] {
            let answer = app.answer(request("POST", path, text)).await;
            assert_eq!(answer.status(), status, "{path} {text}");
        }
        assert_eq!(app.answer(get("/api/sites/XX")).await.status(), 404);
    }

    #[tokio::test]
    async fn without_its_database_it_is_not_well() {
        let app = RatingsApi::new("mongodb://127.0.0.1:1/x");
        assert_eq!(app.answer(get("/healthz")).await.status(), 500);
        assert_eq!(app.answer(get("/api/items")).await.status(), 500);
        assert_eq!(app.answer(get("/api")).await.status(), 200);
    }
}
