//! The status of Istio's kinds (`istio.meta.v1alpha1.IstioStatus`), as far as the mesh writes it: what
//! Istio's analysis in the cluster would (`istiod` with `enableAnalysis`).

use ironmesh_model::{Finding, Severity};
use serde_json::{Map, Value, json};

/// The fields that the mesh writes. Conditions are others'.
pub(crate) const FIELDS: &[&str] = &["observedGeneration", "validationMessages"];

/// The values of these for an object with these findings; none if there are no findings.
///
/// Each message is an `istio.analysis.v1alpha1.AnalysisMessageBase`, and has its text as well, which
/// Istio's clients skip.
pub(crate) fn make(generation: i64, findings: &[&Finding], bytes_max: usize) -> Map<String, Value> {
    if findings.is_empty() {
        return Map::new();
    }
    let mut sorted = findings.to_vec();
    // The worst first; those that are alike stay in their order.
    sorted.sort_by_key(|finding| finding.code.severity());
    let mut messages = Vec::new();
    let mut bytes = 0;
    for (at, finding) in sorted.iter().enumerate() {
        let said = text(finding);
        bytes += said.len();
        if bytes > bytes_max {
            let left_out = sorted.len() - at;
            let said =
                format!("{left_out} more findings are left out; `ironmesh findings` shows them");
            messages.push(message(finding, said));
            break;
        }
        messages.push(message(finding, said));
    }
    Map::from_iter([
        ("observedGeneration".to_owned(), generation.into()),
        ("validationMessages".to_owned(), messages.into()),
    ])
}

fn text(finding: &Finding) -> String {
    match finding.path.as_str() {
        "" => finding.message.clone(),
        path => format!("{path}: {}", finding.message),
    }
}

fn message(finding: &Finding, said: String) -> Value {
    let code = finding.code;
    let level = match code.severity() {
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
        Severity::Info => "INFO",
    };
    json!({"level": level, "message": said, "type": {"code": code.code(), "name": format!("{code:?}")}})
}
