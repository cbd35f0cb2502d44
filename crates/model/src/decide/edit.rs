//! What a decision changes in the request: target, authority, headers.

use super::Decision;
use crate::path::split_target;
use crate::route::HeaderOps;
use crate::text_match::Matcher;

impl Decision {
    /// The target (path and query) that the winning rule rewrites a target to; `None`: it stays.
    pub fn rewritten_target(&self, target: &str) -> Option<String> {
        let by = self.winning_rule()?.rule.rewrite.as_ref()?.path.as_deref()?;
        let prefix = match self.winning_match().and_then(|m| m.path.as_ref()) {
            Some(Matcher::Prefix(prefix)) => Some(&**prefix),
            Some(_) => None,
            // As in Istio, whoever does not ask for a path asks for the prefix `/`.
            None => Some("/"),
        };
        Some(replace_path(target, prefix, by))
    }

    /// The authority that the winning rule gives the request: its rewrite, else what its header
    /// operations set or add as `host`, else what those of the chosen backend do, as in Istio;
    /// `None`: it stays.
    pub fn rewritten_authority(&self) -> Option<&str> {
        let rewrite = self.winning_rule()?.rule.rewrite.as_ref();
        rewrite.and_then(|rewrite| rewrite.authority.as_deref()).or_else(|| {
            self.header_ops().find_map(|HeaderOps { request, .. }| {
                let mut given = request.add.iter().chain(&request.set);
                let (_, value) = given.find(|(name, _)| is_authority(name))?;
                Some(&**value)
            })
        })
    }

    /// Header operations, in order: those of the winning rule, then those of the chosen backend.
    pub fn header_ops(&self) -> impl Iterator<Item = &HeaderOps> {
        let rule = self.winning_rule().map(|compiled| &compiled.rule);
        let backend = rule
            .zip(self.backend_index())
            .and_then(|(rule, index)| rule.action.backends().get(index as usize));
        rule.map(|rule| &rule.headers)
            .into_iter()
            .chain(backend.map(|backend| &backend.headers))
            .filter(|ops| !ops.is_empty())
    }
}

/// Whether a header operation of this name is about the authority.
fn is_authority(name: &str) -> bool {
    matches!(name, "host" | ":authority")
}

/// Replaces the matched prefix, or the whole path if it was not matched by prefix. The query stays.
///
/// Between the two parts stands one slash where both bring one: `/ratings` to `/` makes `/1` of
/// `/ratings/1`, where Istio makes `//1`, which nobody means.
fn replace_path(target: &str, prefix: Option<&str>, by: &str) -> String {
    let (path, query) = split_target(target);
    let rest = prefix.and_then(|prefix| path.get(prefix.len()..)).unwrap_or_default();
    let rest = if by.ends_with('/') { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let slash = if by.starts_with('/') { "" } else { "/" };
    format!("{slash}{by}{rest}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_whole_paths_are_replaced() {
        for (target, prefix, by, expected) in [
            ("/ratings/1?a=b", Some("/ratings"), "/", "/1?a=b"),
            ("/ratings", Some("/ratings"), "/", "/"),
            ("/product", None, "/productpage", "/productpage"),
            ("/product/x?q", None, "/productpage", "/productpage?q"),
            ("/a/b", Some("/a"), "/c", "/c/b"),
            ("/a/b", Some("/a/"), "c/", "/c/b"),
            ("/v1/a?x=/", Some("/v1"), "/v2", "/v2/a?x=/"),
            ("/v1a", Some("/v1"), "/v2", "/v2a"),
            ("/a", Some("/"), "/b/", "/b/a"),
        ] {
            assert_eq!(replace_path(target, prefix, by), expected, "{target} {prefix:?} {by}");
        }
    }
}
