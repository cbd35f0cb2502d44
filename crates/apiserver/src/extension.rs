//! The part of the API that is not Kubernetes': paths below `/ironmesh`, answered by whoever runs the
//! API server, as an aggregated API server would.

use std::fmt;
use std::pin::Pin;

use http::Method;
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

/// An answer on its way: JSON, or a refusal.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send + 'a>>;

/// What is found, on its way.
pub type Findings<'a> = Pin<Box<dyn Future<Output = Vec<String>> + Send + 'a>>;

/// Answers requests for paths below `/ironmesh`.
pub trait Extension: fmt::Debug + Send + Sync + 'static {
    /// Answers one request.
    fn answer<'a>(&'a self, request: &'a Request<'a>) -> Answering<'a>;

    /// What is found about an object that was written just now, or, if it is only tried, would be: a
    /// sentence each, for who has written it.
    fn findings<'a>(&'a self, object: &'a Value, is_tried: bool) -> Findings<'a>;
}

/// A request for a path below `/ironmesh`.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The segments of the path behind `ironmesh`.
    pub path: &'a [&'a str],
    pub(crate) query: &'a [(String, String)],
    pub(crate) body: &'a [u8],
}

impl Request<'_> {
    /// The value of a query parameter; none if it is not there, or empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// 400 if it is none.
    pub fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(self.body).map_err(|error| {
            Failure::bad_request(format!("the body of the request is not JSON: {error}"))
        })
    }
}

/// An answer of JSON.
///
/// # Errors
///
/// 500 if the value cannot be written.
pub fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::internal(error.to_string()))
}
