//! `/ironmesh/...`: what the mesh knows beside objects.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::answer::{self, Answer};
use super::request::ApiRequest;
use crate::api::ExplainRequest;
use crate::context::Context;
use crate::failure::Failure;

/// Answers a request for a path under `/ironmesh`.
pub(super) async fn handle(
    context: &Arc<Context>,
    request: &ApiRequest,
    path: &[&str],
) -> Result<Answer, Failure> {
    match (path, &request.method) {
        (["findings"], &Method::GET) => {
            let asked = |name| Some(request.query(name)).filter(|value| !value.is_empty());
            let (namespace, kind, name) = (asked("namespace"), asked("kind"), asked("name"));
            let findings = context.plane.findings(namespace, kind, name).await?;
            Ok(answer::json(StatusCode::OK, &findings))
        }
        (["proxies"], &Method::GET) => Ok(answer::json(StatusCode::OK, &context.plane.proxies())),
        (["proxies", namespace, pod, "endpoints"], &Method::GET) => {
            let endpoints = context.plane.endpoints(namespace, pod).await?;
            Ok(answer::json(StatusCode::OK, &endpoints))
        }
        (["settings"], &Method::GET) => {
            let mut rows = context.plane.settings.rows();
            rows.extend(context.plane.limits.rows());
            Ok(answer::json(StatusCode::OK, &rows))
        }
        (["notices"], &Method::GET) => {
            Ok(answer::json(StatusCode::OK, &context.registry.store().losses()))
        }
        (["explain"], &Method::POST) => {
            let asked: ExplainRequest = serde_json::from_value(request.json()?)
                .map_err(|error| Failure::bad_request(error.to_string()))?;
            Ok(answer::json(StatusCode::OK, &context.plane.explain(&asked).await?))
        }
        (
            ["findings" | "proxies" | "settings" | "explain" | "notices"]
            | ["proxies", _, _, "endpoints"],
            _,
        ) => Err(Failure::method_not_allowed()),
        _ => Err(Failure::no_such_path()),
    }
}
