//! `/ironmesh/...`: what the mesh knows beside objects.

use std::sync::Arc;

use http::Method;
use ironmesh_apiserver::extension::{self, Answering, Extension, Request, json};
use ironmesh_apiserver::failure::Failure;
use ironmesh_control::api::ExplainRequest;
use ironmesh_control::plane::{Plane, Refused};
use ironmesh_control::source::ObjectKey;
use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::{Object, translate_one};
use ironmesh_model::Finding;
use serde_json::Value;

use crate::verb::apply::report::{concerns_pods, is_worth_saying};
use crate::verb::apply::statement;

/// Answers from the control plane.
#[derive(Debug)]
pub(super) struct MeshApi(pub(super) Arc<Plane>);

impl Extension for MeshApi {
    fn answer<'a>(&'a self, request: &'a Request<'a>) -> Answering<'a> {
        Box::pin(answer(&self.0, request))
    }

    fn findings<'a>(&'a self, object: &'a Value, is_tried: bool) -> extension::Findings<'a> {
        Box::pin(findings(&self.0, object, is_tried))
    }
}

/// What `ironmesh apply` would show of an object. One that is only tried says what it says by itself, as
/// the mesh does not have it.
async fn findings(plane: &Plane, object: &Value, is_tried: bool) -> Vec<String> {
    let Ok(object) = Object::new(object.clone()) else { return Vec::new() };
    let found: Vec<Finding> = match is_tried {
        true => translate_one(&object).findings,
        false => {
            // Programs write them all the time.
            if matches!(object.kind(), "Event" | "ServiceAccount") {
                return Vec::new();
            }
            // Where the mesh does not say in time, it says later: `ironmesh findings`.
            plane.findings_about(&ObjectKey::of(&object)).await.unwrap_or_default()
        }
    };
    let pods_change = concerns_pods(object.kind());
    let worth = found.iter().filter(|finding| is_worth_saying(finding.code, pods_change));
    worth.map(statement).collect()
}

async fn answer(plane: &Plane, request: &Request<'_>) -> Result<Vec<u8>, Failure> {
    match (request.path, request.method) {
        (["findings"], &Method::GET) => {
            let (namespace, kind) = (request.query("namespace"), request.query("kind"));
            let findings = plane.findings(namespace, kind, request.query("name")).await;
            json(&findings.map_err(failure)?)
        }
        (["proxies"], &Method::GET) => json(&plane.proxies()),
        (["proxies", namespace, pod, "endpoints"], &Method::GET) => {
            json(&plane.endpoints(namespace, pod).await.map_err(failure)?)
        }
        (["settings"], &Method::GET) => json(&plane.settings().await.map_err(failure)?),
        (["explain"], &Method::POST) => {
            let asked: ExplainRequest = serde_json::from_value(request.json()?)
                .map_err(|error| Failure::bad_request(error.to_string()))?;
            json(&plane.explain(&asked).await.map_err(failure)?)
        }
        (
            ["findings" | "proxies" | "settings" | "explain" | "notices"]
            | ["proxies", _, _, "endpoints"],
            _,
        ) => Err(Failure::method_not_allowed()),
        _ => Err(Failure::no_such_path()),
    }
}

fn failure(refused: Refused) -> Failure {
    match refused {
        Refused::NoPod(name) => Failure::not_found(&Resource::of("v1", "Pod"), &name),
        Refused::BadRequest(why) => Failure::bad_request(why),
        other => Failure::internal(other.to_string()),
    }
}
