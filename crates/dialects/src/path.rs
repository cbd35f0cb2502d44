//! Field paths, as findings and line tables write them: `spec.http[0].match`,
//! `metadata.labels["istio-injection"]` only where a name is not a plain word.

use std::fmt::Write;

/// The path of a field of the object at `path`.
pub(crate) fn field(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match (path.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{name:?}]"),
    }
}

/// The path of an item of the list at `path`.
pub(crate) fn item(path: &str, index: usize) -> String {
    let mut out = String::with_capacity(path.len() + 4);
    out.push_str(path);
    let _ = write!(out, "[{index}]");
    out
}

/// The path of what holds the field or item at `path`; `None` at the top.
pub(crate) fn parent(path: &str) -> Option<&str> {
    if let Some(quoted) = path.strip_suffix("\"]") {
        return quoted.rfind("[\"").map(|at| &path[..at]);
    }
    path.rfind(['.', '[']).map(|at| &path[..at]).or((!path.is_empty()).then_some(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_undo_fields_and_items() {
        let labels = field("metadata", "labels");
        for (path, of) in [
            (field(&labels, "app"), labels.as_str()),
            (field(&labels, "a.b/c"), labels.as_str()),
            (item(&labels, 3), labels.as_str()),
            (field("", "spec"), ""),
        ] {
            assert_eq!(parent(&path), Some(of), "{path}");
        }
        assert_eq!(parent(""), None);
        assert_eq!(field(&labels, "a.b/c"), "metadata.labels[\"a.b/c\"]");
    }
}
