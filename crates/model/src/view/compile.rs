//! Routes compiled for the request path.

use std::sync::{Arc, OnceLock};

use super::RuleIndex;
use crate::name::{Labels, Name, ObjectId};
use crate::path_rewrite::PathPattern;
use crate::route::{Action, ConnectionRule, Match, PathRewrite, Route, Rule};
use crate::text_match::{BadPattern, Matcher};

/// A compiled [`Route`].
#[derive(Debug)]
pub struct CompiledRoute {
    /// The object it was made from.
    pub id: ObjectId,
    /// Its rules for requests.
    pub rules: Vec<CompiledRule>,
    /// Its rules for connections.
    pub connection_rules: Vec<ConnectionRule>,
    /// Index of its rules for requests, once something needs it.
    pub(super) index: OnceLock<Arc<RuleIndex>>,
}

impl CompiledRoute {
    /// How many alternatives its rules for requests have; one that has none counts as one.
    pub(super) fn alternatives(&self) -> usize {
        self.rules.iter().map(|rule| rule.matches.len().max(1)).sum()
    }

    /// Whether its rules for requests ask for the same as another's, whatever they do.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        let same = |(a, b): (&CompiledRule, &CompiledRule)| a.rule.matches == b.rule.matches;
        std::ptr::eq(self, other)
            || (self.rules.len() == other.rules.len()
                && self.rules.iter().zip(&other.rules).all(same))
    }
}

/// A compiled [`Rule`].
#[derive(Debug)]
pub struct CompiledRule {
    /// The rule: action, timeout, rewrite, header operations.
    pub rule: Rule,
    /// Alternatives, of which one must match; none at all match every request.
    pub matches: Vec<CompiledMatch>,
    /// Whether it may answer requests without an endpoint, so that most rules are asked for one thing.
    pub may_answer: bool,
    /// Origins that its `cors` allows; one that cannot be used allows nothing.
    pub origins: Vec<Matcher>,
    /// Its rewrite by expression; one that cannot be used changes nothing.
    pub path_pattern: Option<PathPattern>,
}

/// A compiled [`Match`]; fields as there.
#[derive(Debug)]
#[allow(missing_docs, reason = "each field is that of `Match`")]
pub struct CompiledMatch {
    pub path: Option<Matcher>,
    pub ignore_path_case: bool,
    pub scheme: Option<Matcher>,
    pub method: Option<Matcher>,
    pub authority: Option<Matcher>,
    pub headers: Vec<(Name, Matcher)>,
    pub without_headers: Vec<(Name, Matcher)>,
    pub query: Vec<(Name, Matcher)>,
    pub source_labels: Labels,
    pub source_namespace: Option<Name>,
    pub gateways: Vec<Name>,
    pub port: Option<u16>,
    /// See [`Match::is_catch_all`]; one that is dead catches nothing.
    pub catch_all: bool,
    /// Whether it asks for nothing of the caller.
    pub is_for_everyone: bool,
    /// Whether it asks for nothing of the request but perhaps its path.
    pub is_about_path: bool,
    /// Why it can never match.
    pub dead: Option<String>,
}

/// Compiles a route. A pattern that cannot be used makes its alternative dead, nothing else. What was
/// compiled for it `before` gives its index, if its rules ask for the same.
pub(super) fn route(
    route: &Route,
    before: Option<&CompiledRoute>,
) -> (Arc<CompiledRoute>, Vec<String>) {
    let mut errors = Vec::new();
    let rules =
        (0..).zip(&route.rules).map(|(index, rule)| CompiledRule::new(index, rule, &mut errors));
    let rules = rules.collect();
    let mut compiled = CompiledRoute {
        id: route.id.clone(),
        rules,
        connection_rules: route.connection_rules.clone(),
        index: OnceLock::new(),
    };
    if let Some(before) = before.filter(|before| before.asks_as(&compiled)) {
        compiled.index = before.index.clone();
    }
    (Arc::new(compiled), errors)
}

/// The conditions of an alternative that do not depend on the request; fields as in [`Match`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each field is that of `Match`")]
pub struct CallerMatch<'a> {
    pub source_labels: &'a Labels,
    pub source_namespace: Option<&'a Name>,
    pub gateways: &'a [Name],
    pub port: Option<u16>,
}

impl CompiledRule {
    fn new(index: u32, rule: &Rule, errors: &mut Vec<String>) -> Self {
        let mut report = |bad: &BadPattern| errors.push(format!("rule {index}: {bad}"));
        let matches = rule.matches.iter().map(|m| {
            CompiledMatch::new(m).unwrap_or_else(|bad| {
                report(&bad);
                CompiledMatch::dead(m, bad.to_string())
            })
        });
        let matches = matches.collect();
        let origins = rule.cors.iter().flat_map(|cors| &cors.allow_origins);
        let origins = origins.filter_map(|m| m.compile().inspect_err(&mut report).ok()).collect();
        let path_pattern = match rule.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()) {
            Some(PathRewrite::Regex { pattern, by }) => {
                PathPattern::new(pattern, by).inspect_err(&mut report).ok()
            }
            Some(PathRewrite::Matched(_)) | None => None,
        };
        let forwards = matches!(rule.action, Action::Forward(_));
        let may_answer = !forwards || rule.faults.is_some() || rule.cors.is_some();
        Self { rule: rule.clone(), matches, may_answer, origins, path_pattern }
    }
}

impl CompiledMatch {
    fn new(m: &Match) -> Result<Self, BadPattern> {
        let one = |text: &Option<crate::text_match::TextMatch>| {
            text.as_ref().map(crate::text_match::TextMatch::compile).transpose()
        };
        let all = |pairs: &[(Name, crate::text_match::TextMatch)]| {
            pairs
                .iter()
                .map(|(name, text)| Ok((name.clone(), text.compile()?)))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            path: one(&m.path)?,
            ignore_path_case: m.ignore_path_case,
            scheme: one(&m.scheme)?,
            method: one(&m.method)?,
            authority: one(&m.authority)?,
            headers: all(&m.headers)?,
            without_headers: all(&m.without_headers)?,
            query: all(&m.query)?,
            source_labels: m.source_labels.clone(),
            source_namespace: m.source_namespace.clone(),
            gateways: m.gateways.clone(),
            port: m.port,
            catch_all: m.is_catch_all(),
            is_for_everyone: m.is_for_everyone(),
            is_about_path: m.is_about_path(),
            dead: None,
        })
    }

    /// Conditions on the caller stay, so that it remains clear whom the rule was for.
    fn dead(m: &Match, why: String) -> Self {
        Self {
            path: None,
            ignore_path_case: false,
            scheme: None,
            method: None,
            authority: None,
            headers: Vec::new(),
            without_headers: Vec::new(),
            query: Vec::new(),
            source_labels: m.source_labels.clone(),
            source_namespace: m.source_namespace.clone(),
            gateways: m.gateways.clone(),
            port: m.port,
            catch_all: false,
            is_for_everyone: m.is_for_everyone(),
            is_about_path: false,
            dead: Some(why),
        }
    }

    /// Its conditions on the caller.
    pub fn caller(&self) -> CallerMatch<'_> {
        CallerMatch {
            source_labels: &self.source_labels,
            source_namespace: self.source_namespace.as_ref(),
            gateways: &self.gateways,
            port: self.port,
        }
    }

    /// Whether its conditions on where the route is attached and on the port hold.
    pub(super) fn holds_at(&self, attached_to: &[Name], port: u16) -> bool {
        (self.gateways.is_empty() || self.gateways.iter().any(|g| attached_to.contains(g)))
            && self.port.is_none_or(|own| own == port)
    }
}
