//! `fieldValidation`: what becomes of fields that a kind does not have.

use ironmesh_dialects::object::normalize;
use ironmesh_model::FindingCode;

use super::answer::Answer;
use super::request::ApiRequest;
use crate::failure::Failure;
use crate::object::Object;

/// Checks the fields of an object that is to be stored as a request asks for it: `Strict` refuses
/// unknown ones, but for those that it had before (`old`). Returns those for which `Warn` wants a
/// warning.
///
/// # Errors
///
/// If there are unknown fields and none may be, or the word is none of Kubernetes'.
pub(super) fn check(
    request: &ApiRequest,
    object: &Object,
    old: Option<&Object>,
) -> Result<Vec<String>, Failure> {
    let mode = request.query("fieldValidation");
    match mode {
        "" | "Ignore" => return Ok(Vec::new()),
        "Strict" | "Warn" => {}
        other => {
            return Err(Failure::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            )));
        }
    }
    let before = old.map(unknown_fields).unwrap_or_default();
    let mut unknown = unknown_fields(object);
    unknown.retain(|field| !before.contains(field));
    if mode == "Strict" && !unknown.is_empty() {
        let all = unknown.join(", ");
        return Err(Failure::bad_request(format!("strict decoding error: {all}")));
    }
    Ok(unknown)
}

fn unknown_fields(object: &Object) -> Vec<String> {
    let mut object = object.clone();
    drop(normalize(&mut object));
    // What is no object at all is refused later, and says why.
    let Ok(object) = ironmesh_dialects::Object::new(object) else { return Vec::new() };
    ironmesh_dialects::validate(&object)
        .into_iter()
        .filter(|finding| finding.code == FindingCode::UnknownField)
        .map(|finding| format!("unknown field {:?}", finding.path))
        .collect()
}

/// Adds warnings to an answer, as HTTP has them (RFC 7234, section 5.5).
pub(super) fn warn(mut answer: Answer, warnings: &[String]) -> Answer {
    for warning in warnings {
        // What manifests say may have signs that no header has.
        let text = warning.replace(|sign: char| sign.is_control(), " ");
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let value = format!("299 - \"{quoted}\"");
        if let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes()) {
            answer.headers_mut().append(http::header::WARNING, value);
        }
    }
    answer
}
