//! An index of rules by path, so that finding the first one that matches costs no more with thousands
//! of rules than with a few.
//!
//! It only narrows the choice: whoever asks it tries the conditions of each candidate, in order. An
//! alternative of a rule stands in one list: that of its exact path, that of its prefix, or the rest.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{CompiledMatch, LinkedRoute, Turn};
use crate::decide::RuleAt;
use crate::name::Name;
use crate::text_match::Matcher;

/// See the module.
#[derive(Debug)]
pub struct RuleIndex {
    /// All alternatives that are tried, in order. The lists hold indices into it, ascending.
    order: Box<[RuleAt]>,
    exact: HashMap<Name, Places>,
    prefixes: Prefixes,
    /// Of alternatives that ignore the case of letters; in lower case. Exact paths are here, too.
    prefixes_of_any_case: Prefixes,
    /// Regexes, and what asks for no path.
    rest: Vec<u32>,
    /// One alternative for each set of conditions on the caller; only one if that is for all.
    callers: Vec<RuleAt>,
}

/// Mostly one.
type Places = SmallVec<[u32; 4]>;

impl RuleIndex {
    /// The index of what is tried in this order; `None` if it is so little that trying one after the
    /// other is quicker.
    pub(super) fn of(order: &[Turn], routes: &[Arc<LinkedRoute>]) -> Option<Arc<Self>> {
        let count: usize = order.iter().map(|turn| turn.places().count()).sum();
        if count < INDEXED_MIN {
            return None;
        }
        let new = || Arc::new(Self::new(order, routes));
        Some(match routes {
            // Whatever the host, a route that is alone and tried as a whole has one index.
            [only] if count == only.route.alternatives() => {
                only.route.index.get_or_init(new).clone()
            }
            _ => new(),
        })
    }

    fn new(order: &[Turn], routes: &[Arc<LinkedRoute>]) -> Self {
        let order: Box<[RuleAt]> = order.iter().flat_map(Turn::places).collect();
        let mut exact: HashMap<Name, Places> = HashMap::new();
        let (mut prefixes, mut of_any_case) = (HashMap::new(), HashMap::new());
        let mut rest = Vec::new();
        let (mut callers, mut for_everyone) = (HashMap::new(), None);
        for (place, at) in (0u32..).zip(&order) {
            let Some(m) = alternative(routes, *at) else {
                rest.push(place);
                continue;
            };
            callers.entry(m.caller()).or_insert(*at);
            for_everyone = for_everyone.or(m.is_for_everyone.then_some(*at));
            let list = match &m.path {
                _ if m.dead.is_some() => continue,
                Some(Matcher::Exact(path) | Matcher::Prefix(path)) if m.ignore_path_case => {
                    of_any_case.entry(path.to_ascii_lowercase().into()).or_default()
                }
                Some(Matcher::Exact(path)) => exact.entry(path.clone()).or_default(),
                Some(Matcher::Prefix(prefix)) => prefixes.entry(prefix.clone()).or_default(),
                Some(Matcher::Regex { .. } | Matcher::Present) | None => {
                    rest.push(place);
                    continue;
                }
            };
            list.push(place);
        }
        Self {
            prefixes: Prefixes::new(prefixes),
            prefixes_of_any_case: Prefixes::new(of_any_case),
            callers: for_everyone.map_or_else(|| callers.into_values().collect(), |at| vec![at]),
            order,
            exact,
            rest,
        }
    }

    /// The alternatives that a path may match, in the order in which they are tried.
    pub(crate) fn candidates(&self, path: &str) -> impl Iterator<Item = RuleAt> {
        let mut lists = Ascending::default();
        lists.add(&self.rest);
        if let Some(places) = self.exact.get(path) {
            lists.add(places);
        }
        self.prefixes.of(path.as_bytes()).for_each(|places| lists.add(places));
        if !self.prefixes_of_any_case.0.is_empty() {
            let lower: SmallVec<[u8; PATH_USUAL]> =
                path.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
            self.prefixes_of_any_case.of(&lower).for_each(|places| lists.add(places));
        }
        lists.map(|place| self.order[place as usize])
    }

    /// Alternatives of which one is for a caller if any of all is.
    pub(crate) fn callers(&self) -> &[RuleAt] {
        &self.callers
    }
}

/// An alternative of a rule; `None` if the rule has none.
fn alternative(routes: &[Arc<LinkedRoute>], at: RuleAt) -> Option<&CompiledMatch> {
    let rule = &routes[at.route as usize].route.rules[at.rule as usize];
    rule.matches.get(at.alternative? as usize)
}

/// Texts with the places of the alternatives that ask for a path which begins with one, sorted.
#[derive(Debug, Default)]
struct Prefixes(Box<[Prefix]>);

#[derive(Debug)]
struct Prefix {
    text: Name,
    places: Places,
    /// Index of the longest other one that this one begins with.
    within: Option<u32>,
}

impl Prefixes {
    fn new(places: HashMap<Name, Places>) -> Self {
        let prefix = |(text, places)| Prefix { text, places, within: None };
        let mut sorted: Box<[Prefix]> = places.into_iter().map(prefix).collect();
        sorted.sort_unstable_by(|a, b| a.text.cmp(&b.text));
        for at in 1..sorted.len() {
            let before = Some(at as u32 - 1);
            sorted[at].within = longest(&sorted, before, sorted[at].text.as_bytes());
        }
        Self(sorted)
    }

    /// The places of each text that a path begins with.
    fn of<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = &'a [u32]> {
        let sorted = &*self.0;
        // Whatever a path begins with is not behind it, and what is between begins with it, too.
        let not_behind = sorted.partition_point(|prefix| prefix.text.as_bytes() <= path);
        let last = not_behind.checked_sub(1).map(|at| at as u32);
        let all =
            std::iter::successors(longest(sorted, last, path), |at| sorted[*at as usize].within);
        all.map(|at| &*sorted[at as usize].places)
    }
}

/// The longest of the prefix at `from` and those that it lies within which `path` begins with.
fn longest(sorted: &[Prefix], from: Option<u32>, path: &[u8]) -> Option<u32> {
    let mut chain = std::iter::successors(from, |at| sorted[*at as usize].within);
    chain.find(|at| path.starts_with(sorted[*at as usize].text.as_bytes()))
}

/// Lists, each ascending, as one. Kept by their first elements, the least at the end.
#[derive(Default)]
struct Ascending<'a>(SmallVec<[&'a [u32]; 8]>);

impl<'a> Ascending<'a> {
    fn add(&mut self, list: &'a [u32]) {
        if !list.is_empty() {
            self.0.push(list);
            self.settle();
        }
    }

    /// Moves the list at the end to its place.
    fn settle(&mut self) {
        for at in (1..self.0.len()).rev() {
            if self.0[at - 1][0] > self.0[at][0] {
                break;
            }
            self.0.swap(at - 1, at);
        }
    }
}

impl Iterator for Ascending<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let list = self.0.last_mut()?;
        let (first, others) = list.split_first()?;
        *list = others;
        if others.is_empty() {
            self.0.pop();
        } else {
            self.settle();
        }
        Some(*first)
    }
}

/// Alternatives from which on an index is quicker than trying one after the other.
const INDEXED_MIN: usize = 16;
/// Bytes of a path that are looked at in lower case without an allocation.
const PATH_USUAL: usize = 256;
