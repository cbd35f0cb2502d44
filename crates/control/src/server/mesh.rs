//! `/ironmesh/...`: what the mesh knows beside objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_wire::server::{ProxyError, ProxyStatus};

use super::answer::{self, Answer};
use super::request::ApiRequest;
use crate::api::ExplainRequest;
use crate::api::mesh::{FindingItem, ProxyItem, ResourceError};
use crate::context::Context;
use crate::explain;
use crate::failure::Failure;
use crate::object;
use crate::registry::inject;
use crate::store::Collection;

/// Answers a request for a path under `/ironmesh`.
pub(super) async fn handle(
    context: &Arc<Context>,
    request: &ApiRequest,
    path: &[&str],
) -> Result<Answer, Failure> {
    match (path, &request.method) {
        (["findings"], &Method::GET) => {
            Ok(answer::json(StatusCode::OK, &findings(context, request).await?))
        }
        (["proxies"], &Method::GET) => Ok(answer::json(StatusCode::OK, &proxies(context))),
        (["settings"], &Method::GET) => {
            let mut rows = context.settings.rows();
            rows.extend(context.limits.rows());
            Ok(answer::json(StatusCode::OK, &rows))
        }
        (["notices"], &Method::GET) => {
            Ok(answer::json(StatusCode::OK, &context.registry.store().losses()))
        }
        (["explain"], &Method::POST) => {
            let asked: ExplainRequest = serde_json::from_value(request.json()?)
                .map_err(|error| Failure::bad_request(error.to_string()))?;
            Ok(answer::json(StatusCode::OK, &explain::explain(context, &asked).await?))
        }
        (["findings" | "proxies" | "settings" | "explain" | "notices"], _) => {
            Err(Failure::method_not_allowed())
        }
        _ => Err(Failure::no_such_path()),
    }
}

/// Findings about all that was stored before the request came.
async fn findings(context: &Context, request: &ApiRequest) -> Result<Vec<FindingItem>, Failure> {
    let longest = context.limits.control.snapshot_wait;
    context.mesh.at(context.registry.store().revision(), longest).await?;
    let asked = |name: &str, value: &str| {
        let wanted = request.query(name);
        wanted.is_empty() || wanted == value
    };
    let findings = context
        .mesh
        .findings()
        .into_iter()
        .filter(|finding| {
            asked("namespace", &finding.object.namespace)
                && asked("kind", &finding.object.kind)
                && asked("name", &finding.object.name)
        })
        .map(|finding| FindingItem { severity: finding.code.severity(), finding });
    Ok(findings.collect())
}

/// The proxies of all pods that have one, in order of namespace and name.
fn proxies(context: &Context) -> Vec<ProxyItem> {
    let connected: BTreeMap<_, _> = context
        .mesh
        .server
        .proxies()
        .into_iter()
        .map(|status| (status.peer.workload.uid.clone(), status))
        .collect();
    let (pods, _) = context.registry.store().list(&Collection::core("pods"), None);
    let with_proxy = pods.iter().filter(|pod| inject::has_sidecar(pod));
    with_proxy
        .filter(|pod| !object::is_finished_pod(pod))
        .map(|pod| {
            let kind = if inject::is_router(pod) { ProxyKind::Gateway } else { ProxyKind::Sidecar };
            let mut item = ProxyItem {
                name: object::name(pod).into(),
                namespace: object::namespace(pod).into(),
                kind,
                connected: false,
                resources: 0,
                acknowledged: 0,
                resources_pushed: 0,
                bytes_pushed: 0,
                synced: false,
                identity: None,
                errors: Vec::new(),
            };
            if let Some(status) = connected.get(object::uid(pod)) {
                note(&mut item, status);
            }
            item
        })
        .collect()
}

fn note(item: &mut ProxyItem, status: &ProxyStatus) {
    item.connected = true;
    item.resources = status.resources;
    item.acknowledged = status.acknowledged;
    item.resources_pushed = status.pushed_resources;
    item.bytes_pushed = status.pushed_bytes;
    item.synced = status.synced;
    item.identity = Some(status.peer.identity.to_string());
    let error = |error: &ProxyError| ResourceError {
        resource: error.what.clone(),
        message: error.why.clone(),
        by_control_plane: error.is_refused_here,
    };
    item.errors = status.errors.iter().map(error).collect();
}
