//! `voting-app`: the page.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::Value;

use super::store::Store;
use super::{choices, variable};
use crate::client::Client;
use crate::server::{self, App};
use crate::{answer, clock, form, headers};

/// The application. `GET /`; `POST /` with `vote=` a choice or `reset`; `POST /featureflag/set` and
/// `/clear`; its style sheet.
#[derive(Debug)]
pub(super) struct VotingApp {
    pub(super) title: String,
    pub(super) choices: [String; 2],
    pub(super) shows_details: bool,
    pub(super) has_feature_flag: bool,
    pub(super) host: String,
    pub(super) store: Store,
    /// `HOST:PORT` of the analytics.
    pub(super) analytics: String,
    pub(super) client: Client,
}

impl VotingApp {
    /// From `TITLE`, `VOTE1VALUE`, `VOTE2VALUE`, `SHOWDETAILS`, `FEATUREFLAG`, `ANALYTICS_HOST` and
    /// `ANALYTICS_PORT`.
    pub(super) fn from_env(store: Store) -> io::Result<Self> {
        let is_on = |name| variable(name).is_some_and(|value| value == "true");
        let host = variable("ANALYTICS_HOST").unwrap_or_else(|| "localhost".to_owned());
        let port = variable("ANALYTICS_PORT").and_then(|port| port.parse::<u16>().ok());
        Ok(Self {
            title: variable("TITLE").unwrap_or_else(|| "Voting App".to_owned()),
            choices: choices(),
            shows_details: is_on("SHOWDETAILS"),
            has_feature_flag: is_on("FEATUREFLAG"),
            host: server::hostname()?,
            store,
            analytics: format!("{host}:{}", port.unwrap_or(8080)),
            client: Client::default(),
        })
    }

    async fn page(&self, headers: &HeaderMap) -> Response<Bytes> {
        let headers = headers::propagated(headers);
        let got = self.client.get(&self.analytics, "/analytics", &headers, ANALYTICS_TIMEOUT).await;
        let results = match got {
            Ok(got) if got.status == StatusCode::OK => serde_json::from_slice::<Value>(&got.body)
                .ok()
                .and_then(|value| Some(value["text"].as_str()?.to_owned()))
                .ok_or("it says something else".to_owned()),
            Ok(got) => Err(format!("status {}", got.status.as_u16())),
            Err(error) => Err(error.to_string()),
        };
        match results {
            Ok(text) => answer::html(self.html(&text)),
            Err(why) => {
                let text = format!("The analytics at {} do not answer: {why}", self.analytics);
                let mut answer = answer::html(self.html(&text));
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                answer
            }
        }
    }

    fn html(&self, results: &str) -> String {
        let title = form::html(&self.title);
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n  <meta charset=\"utf-8\">\n  \
             <title>{title}</title>\n  <link rel=\"stylesheet\" href=\"/css/voting.css\">\n\
             </head>\n<body>\n  <div id=\"container\">\n    <h1>{title}</h1>\n    \
             <form method=\"post\" action=\"/\">\n"
        );
        // Writing to a String cannot fail; the same below.
        for choice in self.choices.iter().map(|choice| form::html(choice)) {
            let _ =
                writeln!(page, "      <button name=\"vote\" value=\"{choice}\">{choice}</button>");
        }
        let results = form::html(results);
        let _ = write!(
            page,
            "      <button name=\"vote\" value=\"reset\">Reset</button>\n      \
             <div id=\"results\"> {results} </div>\n    </form>\n"
        );
        if self.shows_details {
            let end = if self.store.name() == "mysql" { "</br>" } else { "<br/>" };
            let (host, store) = (form::html(&self.host), self.store.name());
            let _ = write!(
                page,
                "    <footer>\n      host: {host}<br/>\n      store: {store}{end}\n    </footer>\n"
            );
        }
        if self.has_feature_flag {
            page.push_str(
                "    <div id=\"featureflag\">\n      Feature flag:\n      <form method=\"post\" \
                 action=\"/featureflag/set\"><button>set</button></form>\n      <form \
                 method=\"post\" action=\"/featureflag/clear\"><button>clear</button></form>\n    \
                 </div>\n",
            );
        }
        page.push_str("  </div>\n</body>\n</html>\n");
        page
    }

    async fn vote(&self, body: &[u8]) -> Response<Bytes> {
        let vote = form::field(&String::from_utf8_lossy(body), "vote").unwrap_or_default();
        let stored = match &*vote {
            "reset" => self.store.reset(&self.choices).await,
            vote if self.choices.iter().any(|choice| choice == vote) => self.store.vote(vote).await,
            _ => return answer::text(StatusCode::BAD_REQUEST, "nobody can vote for that\n"),
        };
        match stored {
            Ok(()) => home(),
            Err(error) => {
                let message = format!("{} does not answer: {error}\n", self.store.name());
                answer::text(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        }
    }
}

impl App for VotingApp {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => self.page(request.headers()).await,
            (&Method::POST, "/") => self.vote(request.body()).await,
            (&Method::POST, "/featureflag/set") => flagged("on"),
            // The original's clear leaves a cookie without a value.
            (&Method::POST, "/featureflag/clear") => flagged(""),
            (&Method::GET, "/css/voting.css") => {
                answer::with_type(StatusCode::OK, "text/css; charset=utf-8", STYLE)
            }
            (&Method::GET, "/favicon.ico") => {
                answer::with_type(StatusCode::OK, "image/svg+xml", ICON)
            }
            (&Method::GET, _) => answer::not_found(),
            _ => answer::method_not_allowed(),
        }
    }
}

fn home() -> Response<Bytes> {
    answer::redirect(HeaderValue::from_static("/"))
}

/// The way home, with the cookie of the feature flag for a quarter of an hour.
fn flagged(value: &str) -> Response<Bytes> {
    let expires = clock::http_date_in(FLAG_AGE);
    let cookie = format!("featureflag={value}; Path=/; Expires={expires}");
    let mut answer = home();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

const STYLE: &str = include_str!("../../assets/static/voting.css");
const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 8 8\">\
    <path d=\"M1 4l2 2 4-4\" fill=\"none\" stroke=\"#06c\" stroke-width=\"1.5\"/></svg>";
/// How long the analytics may take.
const ANALYTICS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the cookie of the feature flag is kept.
const FLAG_AGE: Duration = Duration::from_secs(15 * 60);
