//! What a rule answers by itself, naively.

use serde_json::Value;

use super::{Request, header, list, normalise};

/// Status, reason and place, if a rule answers a request by itself.
pub(super) fn own_answer(
    rule: &Value,
    request: &Request,
) -> Option<(u64, &'static str, Option<String>)> {
    let abort = &rule["fault"]["abort"];
    if abort["percentage"]["value"] == 100 {
        return Some((abort["httpStatus"].as_u64().unwrap(), "fault_abort", None));
    }
    let origin = header(request, "origin").unwrap_or_default();
    let asks = header(request, "access-control-request-method").unwrap_or_default();
    let cors = &rule["corsPolicy"];
    let allowed = list(&cors["allowOrigins"]).iter().any(|allowed| {
        allowed["exact"] == *origin || allowed["exact"] == "*" || {
            let prefix = allowed["prefix"].as_str();
            prefix.is_some_and(|prefix| origin.starts_with(prefix))
        }
    });
    let counts = allowed || cors["unmatchedPreflights"] == "IGNORE";
    if request.method == "OPTIONS" && !origin.is_empty() && !asks.is_empty() && counts {
        return Some((200, "preflight", None));
    }
    if let Some(status) = rule["directResponse"]["status"].as_u64() {
        return Some((status, "direct_response", None));
    }
    let redirect = rule.get("redirect")?;
    let status = redirect["redirectCode"].as_u64().unwrap_or(301);
    Some((status, "redirect", Some(location(redirect, request))))
}

/// What the generator makes of redirects: one of `uri`, `authority`, `scheme` or `port` each.
fn location(redirect: &Value, request: &Request) -> String {
    let scheme = redirect["scheme"].as_str().unwrap_or(&request.scheme);
    let (own_host, own_port) = match request.authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (request.authority.as_str(), None),
    };
    let default = |scheme: &str| if scheme == "https" { "443" } else { "80" };
    let dialled = request.port.to_string();
    let given = match (redirect["port"].as_u64(), redirect["derivePort"].as_str()) {
        (Some(port), _) => Some(port.to_string()),
        (None, Some("FROM_REQUEST_PORT")) => Some(dialled),
        (None, _) => None,
    };
    let given = given.filter(|port| port != default(scheme));
    let is_implied = scheme != request.scheme && own_port == Some(default(&request.scheme));
    let host = match (redirect["authority"].as_str(), own_port) {
        (Some(authority), _) => authority.to_owned(),
        (None, Some(port)) if given.is_none() && !is_implied => format!("{own_host}:{port}"),
        (None, _) => own_host.to_owned(),
    };
    let port = given.map(|port| format!(":{port}")).unwrap_or_default();
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (request.target.as_str(), String::new()),
    };
    let path = match redirect["uri"].as_str() {
        Some(uri) if uri.contains('?') => return format!("{scheme}://{host}{port}{uri}"),
        Some(uri) => uri.to_owned(),
        None => normalise(path),
    };
    format!("{scheme}://{host}{port}{path}{query}")
}
