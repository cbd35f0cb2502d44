//! Delegation: a rule of a route for which those of another route stand, joined as Istio joins them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::RouteEntry;
use super::reader::Reader;
use crate::name::{Name, ObjectId};
use crate::route::{Match, Route, Rule};
use crate::text_match::TextMatch;

/// What a route says, the rules of those that it delegates to in the places of its own.
pub(super) fn joined(reader: &Reader<'_>, entry: &RouteEntry) -> Arc<Route> {
    if entry.delegations.is_empty() {
        return entry.route.clone();
    }
    let mut rules = Vec::new();
    for (at, rule) in entry.route.rules.iter().enumerate() {
        let Some((_, to)) = entry.delegations.iter().find(|(own, _)| *own as usize == at) else {
            rules.push(Rule { place: at.to_string(), ..rule.clone() });
            continue;
        };
        let Ok(delegate) = find(reader, entry, to) else { continue };
        for (number, leaf) in rules_of(delegate) {
            let place = format!("{at}:{}/{}#{number}", to.namespace, to.name);
            rules.extend(join(rule, leaf).map(|joined| Rule { place, ..joined }));
        }
    }
    Arc::new(Route { rules, ..(*entry.route).clone() })
}

/// Why the rules of another route cannot stand in a rule's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoDelegate {
    /// There is none of that name without hosts.
    Unknown,
    /// It is not exported to the namespace of the route.
    NotExported,
}

/// The route that stands for a rule of another. Only one without hosts does, as in Istio.
pub(super) fn find<'a>(
    reader: &Reader<'a>,
    root: &RouteEntry,
    to: &ObjectId,
) -> Result<&'a RouteEntry, NoDelegate> {
    let attachment = reader.attachment(to).filter(|entry| entry.attachment.hosts.is_empty());
    let attachment = attachment.ok_or(NoDelegate::Unknown)?;
    if !attachment.visible_from(&root.route.id.namespace) {
        return Err(NoDelegate::NotExported);
    }
    reader.route(to).ok_or(NoDelegate::Unknown)
}

/// The rules of a delegate, with their numbers; those that delegate again do not count, as in Istio.
pub(super) fn rules_of(delegate: &RouteEntry) -> impl Iterator<Item = (usize, &Rule)> {
    let delegates_again =
        |at: usize| delegate.delegations.iter().any(|(own, _)| *own as usize == at);
    delegate.route.rules.iter().enumerate().filter(move |(at, _)| !delegates_again(*at))
}

/// A rule of a delegate in the place of a rule: what it leaves open the rule says. `None`: what it asks
/// for is not within what the rule lets through.
pub(super) fn join(root: &Rule, leaf: &Rule) -> Option<Rule> {
    let or = |leaf: &str, root: &str| match (leaf, root) {
        (leaf, "") => leaf.to_owned(),
        ("", root) => root.to_owned(),
        (leaf, root) => format!("{root}-{leaf}"),
    };
    let headers = if leaf.headers.is_empty() { &root.headers } else { &leaf.headers };
    let mirrors = if leaf.mirrors.is_empty() { &root.mirrors } else { &leaf.mirrors };
    Some(Rule {
        name: or(&leaf.name, &root.name),
        matches: join_matches(&root.matches, &leaf.matches)?,
        // One of 0 says that there is none.
        timeout: leaf.timeout.or(root.timeout).filter(|timeout| !timeout.is_zero()),
        retry: leaf.retry.clone().or_else(|| root.retry.clone()),
        rewrite: leaf.rewrite.clone().or_else(|| root.rewrite.clone()),
        headers: headers.clone(),
        faults: leaf.faults.clone().or_else(|| root.faults.clone()),
        cors: leaf.cors.clone().or_else(|| root.cors.clone()),
        mirrors: mirrors.clone(),
        ..leaf.clone()
    })
}

/// Every alternative of the delegate must be within one of the rule's.
fn join_matches(root: &[Match], leaf: &[Match]) -> Option<Vec<Match>> {
    if root.is_empty() || leaf.is_empty() {
        return Some([root, leaf].concat());
    }
    let mut joined = Vec::new();
    for leaf in leaf {
        let before = joined.len();
        joined.extend(
            root.iter().filter(|root| agree(root, leaf)).map(|root| join_match(root, leaf)),
        );
        if joined.len() == before {
            return None;
        }
    }
    Some(joined)
}

fn join_match(root: &Match, leaf: &Match) -> Match {
    let or =
        |leaf: &Option<TextMatch>, root: &Option<TextMatch>| leaf.clone().or_else(|| root.clone());
    let name = match (&*leaf.name, &*root.name) {
        ("", root) => root.to_owned(),
        (leaf, "") => leaf.to_owned(),
        (leaf, root) => format!("{root}-{leaf}"),
    };
    let mut source_labels = root.source_labels.clone();
    source_labels.0.extend(leaf.source_labels.0.clone());
    let gateways = if leaf.gateways.is_empty() { &root.gateways } else { &leaf.gateways };
    Match {
        name,
        path: or(&leaf.path, &root.path),
        ignore_path_case: leaf.ignore_path_case,
        scheme: or(&leaf.scheme, &root.scheme),
        method: or(&leaf.method, &root.method),
        authority: or(&leaf.authority, &root.authority),
        headers: both(&root.headers, &leaf.headers),
        without_headers: both(&root.without_headers, &leaf.without_headers),
        query: both(&root.query, &leaf.query),
        source_labels,
        source_namespace: leaf.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        gateways: gateways.clone(),
        port: leaf.port.or(root.port),
    }
}

type Named = [(Name, TextMatch)];

/// The conditions of both; of two for one name the delegate's.
fn both(root: &Named, leaf: &Named) -> Vec<(Name, TextMatch)> {
    let all: BTreeMap<Name, TextMatch> = root.iter().chain(leaf).cloned().collect();
    all.into_iter().collect()
}

/// Whether an alternative of a delegate is within one of the rule's, as far as Istio looks.
fn agree(root: &Match, leaf: &Match) -> bool {
    let named = |root: &Named, leaf: &Named| {
        leaf.iter().all(|(name, leaf)| {
            let of_root = root.iter().find(|(own, _)| own == name).map(|(_, text)| text);
            is_within(of_root, Some(leaf))
        })
    };
    is_within(root.path.as_ref(), leaf.path.as_ref())
        && is_within(root.scheme.as_ref(), leaf.scheme.as_ref())
        && is_within(root.method.as_ref(), leaf.method.as_ref())
        && is_within(root.authority.as_ref(), leaf.authority.as_ref())
        && named(&root.headers, &leaf.headers)
        && named(&root.without_headers, &leaf.without_headers)
        && named(&root.query, &leaf.query)
        && root.ignore_path_case == leaf.ignore_path_case
        && (root.port.is_none() || leaf.port.is_none() || root.port == leaf.port)
        && (root.source_namespace.is_none() || root.source_namespace == leaf.source_namespace)
        && leaf
            .source_labels
            .0
            .iter()
            .all(|(label, value)| root.source_labels.0.get(label).is_none_or(|own| own == value))
        && (root.gateways.is_empty()
            || leaf.gateways.iter().all(|name| root.gateways.contains(name)))
}

/// Whether what a delegate asks for a text is within what the rule asks. Expressions are not compared.
fn is_within(root: Option<&TextMatch>, leaf: Option<&TextMatch>) -> bool {
    match (root, leaf) {
        (None, _) | (_, None) => true,
        (Some(TextMatch::Exact(root)), Some(TextMatch::Exact(leaf))) => root == leaf,
        (Some(TextMatch::Prefix(root)), Some(TextMatch::Exact(leaf) | TextMatch::Prefix(leaf))) => {
            leaf.starts_with(&**root)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Option<TextMatch> {
        Some(TextMatch::Exact(text.into()))
    }

    fn prefix(text: &str) -> Option<TextMatch> {
        Some(TextMatch::Prefix(text.into()))
    }

    fn regex(text: &str) -> Option<TextMatch> {
        Some(TextMatch::Regex(text.into()))
    }

    /// As Istio's `stringMatchConflict`.
    #[test]
    fn a_delegate_asks_for_no_more_than_the_rule_lets_through() {
        for (root, leaf, agrees) in [
            (None, exact("/a"), true),
            (prefix("/a"), None, true),
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a"), exact("/ab"), true),
            (prefix("/a/b"), prefix("/a"), false),
            (exact("/a"), exact("/a"), true),
            (exact("/a"), exact("/b"), false),
            (exact("/a"), prefix("/a"), false),
            (regex("/a"), regex("/a"), false),
            (prefix("/"), regex("/a"), false),
            (regex("/a"), None, true),
            (Some(TextMatch::Present), exact("x"), false),
        ] {
            assert_eq!(is_within(root.as_ref(), leaf.as_ref()), agrees, "{root:?} {leaf:?}");
        }
    }

    #[test]
    fn alternatives_are_joined_with_those_that_they_agree_with() {
        let path = |path: Option<TextMatch>| Match { path, ..Match::default() };
        let header = |value: &str| Match {
            headers: vec![("x".into(), TextMatch::Exact(value.into()))],
            ..Match::default()
        };
        let root = [path(prefix("/a")), path(prefix("/b"))];
        assert_eq!(join_matches(&root, &[]).unwrap(), root);
        assert_eq!(join_matches(&[], &root).unwrap(), root);
        assert_eq!(join_matches(&root, &[header("1")]).unwrap().len(), 2, "within both");
        let one = join_matches(&root, &[path(prefix("/b/c"))]).unwrap();
        assert_eq!(one, [path(prefix("/b/c"))]);
        // One that is within none takes the whole rule with it.
        assert_eq!(join_matches(&root, &[path(prefix("/b/c")), path(prefix("/c"))]), None);
        let joined = join_match(&header("1"), &path(exact("/a")));
        assert_eq!((joined.path, joined.headers.len()), (exact("/a"), 1));
    }

    #[test]
    fn what_a_delegate_leaves_open_the_rule_says() {
        use std::time::Duration;
        let (second, none) = (Some(Duration::from_secs(1)), Some(Duration::ZERO));
        let root = Rule { name: "root".to_owned(), timeout: second, ..Rule::default() };
        let leaf = Rule { name: "leaf".to_owned(), ..Rule::default() };
        let joined = join(&root, &leaf).unwrap();
        assert_eq!((joined.name.as_str(), joined.timeout), ("root-leaf", second));
        assert_eq!(join(&root, &Rule { timeout: none, ..leaf }).unwrap().timeout, None);
        let unnamed = join(&Rule::default(), &Rule::default()).unwrap();
        assert_eq!(unnamed, Rule::default());
    }
}
