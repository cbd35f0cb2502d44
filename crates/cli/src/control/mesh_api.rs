//! `/ironmesh/...`: what the mesh knows beside objects.

use std::sync::Arc;

use http::Method;
use ironmesh_apiserver::extension::{Answering, Extension, Request, json};
use ironmesh_apiserver::failure::Failure;
use ironmesh_control::api::ExplainRequest;
use ironmesh_control::plane::{Plane, Refused};
use ironmesh_dialects::kinds::Resource;

/// Answers from the control plane.
#[derive(Debug)]
pub(super) struct MeshApi(pub(super) Arc<Plane>);

impl Extension for MeshApi {
    fn answer<'a>(&'a self, request: &'a Request<'a>) -> Answering<'a> {
        Box::pin(answer(&self.0, request))
    }
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
