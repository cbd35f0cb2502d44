//! Bookinfo's `ratings`: stars that two reviewers gave a book. Version 2 has them from a database.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::answer;
use crate::mongo::Mongo;
use crate::mysql::MySql;
use crate::server::App;

/// The application. `GET /ratings/{id}`, `POST /ratings/{id}` with `{"Reviewer1":5,...}`,
/// `GET /health`.
#[derive(Debug)]
pub(crate) struct Ratings {
    store: Store,
}

/// Where the stars are.
#[derive(Debug)]
enum Store {
    /// Here: ratings that were posted; lost when the process ends.
    Own(Mutex<BTreeMap<u64, Value>>),
    /// In the collection `ratings` of the database `test`: a document for each reviewer.
    Mongo(Mongo),
    /// In the table `ratings` of the database `test`: a row for each reviewer.
    MySql(MySql),
}

impl Default for Ratings {
    fn default() -> Self {
        Self { store: Store::Own(Mutex::default()) }
    }
}

impl Ratings {
    /// As the environment says: `SERVICE_VERSION` v2 asks MySQL where `DB_TYPE` is mysql
    /// (`MYSQL_DB_HOST`, `_PORT`, `_USER`, `_PASSWORD`), else MongoDB (`MONGO_DB_URL`).
    pub(crate) fn from_env() -> Self {
        Self::new(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let or = |name: &str, default: &str| variable(name).unwrap_or_else(|| default.to_owned());
        if or("SERVICE_VERSION", "v1") != "v2" {
            return Self::default();
        }
        let store = if or("DB_TYPE", "mongodb") == "mysql" {
            Store::MySql(MySql {
                server: format!(
                    "{}:{}",
                    or("MYSQL_DB_HOST", "mysqldb"),
                    or("MYSQL_DB_PORT", "3306")
                ),
                user: or("MYSQL_DB_USER", "root"),
                password: or("MYSQL_DB_PASSWORD", ""),
                database: "test".to_owned(),
                connection: tokio::sync::Mutex::default(),
            })
        } else {
            Store::Mongo(Mongo::new(&or("MONGO_DB_URL", "mongodb://mongodb:27017/test"), "test"))
        };
        Self { store }
    }

    /// The ratings of a book; those in a database are the same for each.
    async fn ratings(&self, id: u64) -> io::Result<Value> {
        let stars = match &self.store {
            Store::Own(posted) => {
                let posted = posted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                return Ok(posted.get(&id).cloned().unwrap_or_else(built_in));
            }
            Store::Mongo(mongo) => {
                let mut documents = mongo.find("ratings").await?;
                // The image of Bookinfo's database has them; what stands for it begins empty.
                if documents.is_empty() {
                    mongo.command(first_stars()).await?;
                    documents = mongo.find("ratings").await?;
                }
                documents.iter().map(|document| document["rating"].clone()).collect::<Vec<_>>()
            }
            Store::MySql(mysql) => {
                let rows = mysql.query("SELECT Rating FROM ratings").await?;
                let stars = |row: &Vec<Option<String>>| {
                    row.first()?.as_deref()?.parse::<i64>().ok().map(Value::from)
                };
                rows.iter().map(|row| stars(row).unwrap_or_default()).collect()
            }
        };
        let of = |reviewer: usize| stars.get(reviewer).cloned().unwrap_or_else(|| json!(0));
        Ok(json!({ "Reviewer1": of(0), "Reviewer2": of(1) }))
    }

    fn post(&self, id: u64, body: &[u8]) -> Response<Bytes> {
        let Store::Own(posted) = &self.store else {
            let why = "Post not implemented for database backed ratings";
            return answer::json_error(StatusCode::NOT_IMPLEMENTED, why);
        };
        let Ok(ratings) = serde_json::from_slice::<Value>(body) else {
            let why = "please provide valid ratings JSON";
            return answer::json_error(StatusCode::BAD_REQUEST, why);
        };
        let mut posted = posted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if posted.len() < POSTED_MAX || posted.contains_key(&id) {
            posted.insert(id, ratings.clone());
        }
        shown(id, &ratings)
    }
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
        match *request.method() {
            Method::GET => match self.ratings(id).await {
                Ok(ratings) => shown(id, &ratings),
                Err(_) => {
                    let why = "could not connect to ratings database";
                    answer::json_error(StatusCode::INTERNAL_SERVER_ERROR, why)
                }
            },
            Method::POST => self.post(id, request.body()),
            _ => answer::method_not_allowed(),
        }
    }
}

/// The command that makes the documents, once whoever else does it, too.
fn first_stars() -> Value {
    let star = |(id, rating): (&str, u8)| json!({ "q": { "_id": id }, "u": { "$setOnInsert": { "rating": rating } }, "upsert": true });
    let updates = [("1", 5), ("2", 4)].map(star);
    json!({ "update": "ratings", "updates": updates })
}

fn shown(id: u64, ratings: &Value) -> Response<Bytes> {
    answer::json(StatusCode::OK, &json!({ "id": id, "ratings": ratings }))
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

    /// Of version 2, with a database at an address.
    fn of_database(variable: &'static str, address: String) -> Ratings {
        Ratings::new(move |name| match name {
            "SERVICE_VERSION" => Some("v2".to_owned()),
            name if name == variable => Some(address.clone()),
            _ => None,
        })
    }

    #[tokio::test]
    async fn version_2_has_them_from_its_database() {
        let server = crate::mongo::tests::server(|command| {
            assert_eq!(command["find"], "ratings");
            let documents =
                [json!({ "_id": "1", "rating": 3 }), json!({ "_id": "2", "rating": 2 })];
            json!({ "ok": 1.0, "cursor": { "firstBatch": documents } })
        })
        .await;
        let app = of_database("MONGO_DB_URL", server);
        let answer = app.answer(get("/ratings/7")).await;
        assert_eq!(body(&answer), r#"{"id":7,"ratings":{"Reviewer1":3,"Reviewer2":2}}"#);
        let posted = app.answer(request("POST", "/ratings/7", r#"{"Reviewer1":1}"#)).await;
        assert_eq!(posted.status(), 501);
    }

    #[tokio::test]
    async fn what_stands_for_the_database_of_bookinfo_gets_the_stars_of_its_image() {
        let asked = |command: &Value| match command["updates"].as_array() {
            Some(updates) => {
                let keeps = |update: &Value| update["u"]["$setOnInsert"]["rating"].is_number();
                json!({ "ok": f64::from(u8::from(updates.len() == 2 && updates.iter().all(keeps))) })
            }
            None => json!({ "ok": 1.0, "cursor": { "firstBatch": [] } }),
        };
        let app = of_database("MONGO_DB_URL", crate::mongo::tests::server(asked).await);
        let answer = app.answer(get("/ratings/0")).await;
        assert_eq!(body(&answer), r#"{"id":0,"ratings":{"Reviewer1":0,"Reviewer2":0}}"#);
    }

    #[tokio::test]
    async fn without_its_database_version_2_says_so() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let app = of_database("MONGO_DB_URL", format!("mongodb://{nobody}/test"));
        let answer = app.answer(get("/ratings/0")).await;
        let said = r#"{"error":"could not connect to ratings database"}"#;
        assert_eq!((answer.status().as_u16(), body(&answer)), (500, said));
        assert_eq!(app.answer(get("/health")).await.status(), 200);
    }
}
