//! What must hold of a request's path after it has been normalised, whatever was sent.

use ironmesh_model::path::{normalize_target, split_target};

/// A normalised target is in no need of normalising, has no segment that leads elsewhere, however
/// escaped, and keeps its query.
pub fn normalised(bytes: &[u8]) {
    let Ok(target) = std::str::from_utf8(bytes) else { return };
    let Ok(normal) = normalize_target(target) else { return };
    assert_eq!(normalize_target(&normal).as_deref(), Ok(&*normal), "of {target:?}");
    assert_eq!(split_target(&normal).1, split_target(target).1, "the query");
    assert_eq!(normal.starts_with('/'), target.starts_with('/'), "of {target:?}: {normal:?}");
    let path = split_target(&normal).0;
    if path.starts_with('/') {
        let elsewhere = |segment: &str| {
            let plain = segment.replace("%2e", ".").replace("%2E", ".");
            matches!(plain.as_str(), "." | "..")
        };
        assert!(!path.contains('\\') && !path.split('/').any(elsewhere), "of {target:?}: {path:?}");
    }
}
