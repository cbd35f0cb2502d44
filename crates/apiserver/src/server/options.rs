//! Checks of what a request says beside its object: query parameters and content types. What cannot
//! be read or honoured is refused, never ignored.

use serde_json::{Value, json};

use super::protobuf::PROTOBUF;
use super::request::ApiRequest;
use crate::failure::Failure;
use crate::object;
use crate::registry::DeleteOptions;
use crate::store::Gone;

/// Checks the options of a list that shows the objects at `current`.
///
/// # Errors
///
/// If one cannot be read, or asks for another version than there is.
pub(super) fn check_list(request: &ApiRequest, current: u64) -> Result<(), Failure> {
    number::<u64>(request, "limit")?;
    number::<u64>(request, "timeoutSeconds")?;
    if !request.query("continue").is_empty() {
        // Lists are answered as a whole, whatever their limit: nobody was given a token.
        return Err(Failure::bad_request(
            "continue key is not valid: no list of this server has one",
        ));
    }
    let asked = number::<u64>(request, "resourceVersion")?;
    let rule = request.query("resourceVersionMatch");
    match (rule, asked) {
        ("", _) | ("NotOlderThan" | "Exact", Some(_)) => {}
        ("NotOlderThan" | "Exact", None) => {
            return Err(Failure::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        (other, _) => {
            return Err(Failure::bad_request(format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
            )));
        }
    }
    match asked {
        Some(asked) if asked > current => Err(Failure::too_new(asked, current)),
        Some(asked) if rule == "Exact" && asked != current => {
            Err(Failure::gone(&Gone { asked, kept: current }))
        }
        _ => Ok(()),
    }
}

/// A query parameter that is a whole number; none if it is not there or empty.
///
/// # Errors
///
/// If it is anything else.
pub(super) fn number<T: std::str::FromStr>(
    request: &ApiRequest,
    name: &str,
) -> Result<Option<T>, Failure> {
    let text = request.query(name);
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |_| {
        Failure::bad_request(format!(
            "{name}: Invalid value: {text:?}: must be a whole number, not negative"
        ))
    };
    text.parse().map(Some).map_err(invalid)
}

/// Checks that a body is announced as JSON or protobuf; without a word it is taken for that, as Kubernetes does.
///
/// # Errors
///
/// If it is something else.
pub(super) fn check_json(request: &ApiRequest) -> Result<(), Failure> {
    let media_type = request.content_type.split(';').next().unwrap_or_default().trim();
    match media_type.to_ascii_lowercase().as_str() {
        "" | "application/json" | PROTOBUF => Ok(()),
        _ => Err(Failure::unsupported_type(media_type, &["application/json", PROTOBUF])),
    }
}

/// How to delete: from the body (`kind: DeleteOptions`, may be missing) and from query parameters,
/// which win.
///
/// # Errors
///
/// If an option cannot be read.
pub(super) fn of_deletion(request: &ApiRequest) -> Result<DeleteOptions, Failure> {
    let body = if request.body.is_empty() { json!({}) } else { request.json()? };
    of_options(request, &body)
}

/// As [`of_deletion`], from options that stand elsewhere.
///
/// # Errors
///
/// If an option cannot be read.
pub(super) fn of_options(request: &ApiRequest, body: &Value) -> Result<DeleteOptions, Failure> {
    if !body.is_object() {
        return Err(Failure::bad_request("the body is no JSON object"));
    }
    number::<u32>(request, "gracePeriodSeconds")?;
    let grace = body.get("gracePeriodSeconds").filter(|grace| !grace.is_null());
    if let Some(grace) = grace.filter(|grace| grace.as_u64().is_none()) {
        return Err(Failure::bad_request(format!(
            "gracePeriodSeconds: Invalid value: {grace}: must be a whole number, not negative"
        )));
    }
    for policy in [request.query("propagationPolicy"), object::text(body, "/propagationPolicy")] {
        if !matches!(policy, "" | "Orphan" | "Background" | "Foreground") {
            return Err(Failure::bad_request(format!(
                "propagationPolicy: Unsupported value: {policy:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
            )));
        }
    }
    let query = |name: &str| Some(request.query(name).to_owned()).filter(|text| !text.is_empty());
    let dry_run = request.is_dry_run()? | DeleteOptions::asks_for_dry_run(body)?;
    Ok(DeleteOptions { dry_run, ..DeleteOptions::read(body, query) })
}
