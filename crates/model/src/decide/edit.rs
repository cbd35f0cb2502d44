//! What a decision changes in the request: target, authority, headers.

use super::Decision;
use crate::path_rewrite::replace_path;
use crate::reason::Reason;
use crate::route::{HeaderOps, PathRewrite};
use crate::text_match::Matcher;

impl Decision {
    /// The target (path and query) that the winning rule rewrites a target to; `None`: it stays.
    pub fn rewritten_target(&self, target: &str) -> Option<String> {
        let compiled = self.winning_rule()?;
        match compiled.rule.rewrite.as_ref()?.path.as_ref()? {
            PathRewrite::Matched(by) => Some(replace_path(target, self.matched_prefix(), by)),
            PathRewrite::Regex { .. } => Some(compiled.path_pattern.as_ref()?.replace(target)),
        }
    }

    /// The prefix by which the winning rule matched; `None`: it asks for another kind of path.
    pub(super) fn matched_prefix(&self) -> Option<&str> {
        match self.winning_match().and_then(|m| m.path.as_ref()) {
            Some(Matcher::Prefix(prefix)) => Some(prefix),
            Some(_) => None,
            // As in Istio, whoever does not ask for a path asks for the prefix `/`.
            None => Some("/"),
        }
    }

    /// The authority that the winning rule gives the request: its rewrite, else what its header
    /// operations set or add as `host`, else what those of the chosen backend do, as in Istio;
    /// `None`: it stays.
    pub fn rewritten_authority(&self) -> Option<&str> {
        let rule = &self.winning_rule()?.rule;
        let rewrite = rule.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_deref());
        rewrite.or_else(|| {
            let of_backend = self.backend_headers();
            [Some(&rule.headers), of_backend].into_iter().flatten().find_map(|ops| {
                let mut given = ops.request.add.iter().chain(&ops.request.set);
                let (_, value) = given.find(|(name, _)| is_authority(name))?;
                Some(&**value)
            })
        })
    }

    /// Header operations, in order: those of the chosen backend and then those of the winning rule,
    /// which so win. (Those of an only destination are its rule's own, as in Istio.)
    ///
    /// None for the answer to a preflight, which as in Envoy the route has no say in.
    pub fn header_ops(&self) -> impl Iterator<Item = &HeaderOps> {
        let rule = self.winning_rule().map(|compiled| &compiled.rule);
        let rule = rule.filter(|_| self.reason != Reason::Preflight);
        let in_turn = [self.backend_headers(), rule.map(|rule| &rule.headers)];
        in_turn.into_iter().flatten().filter(|ops| !ops.is_empty())
    }

    fn backend_headers(&self) -> Option<&HeaderOps> {
        let backends = self.winning_rule()?.rule.action.backends();
        Some(&backends.get(self.backend_index()? as usize)?.headers)
    }
}

/// Whether a header operation of this name is about the authority.
fn is_authority(name: &str) -> bool {
    matches!(name, "host" | ":authority")
}
