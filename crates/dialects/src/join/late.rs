//! Parts that are made with what other objects say: the pods that a Service selects, the conditions
//! that an HTTPRouteGroup names.

use std::collections::{BTreeMap, BTreeSet};

use ironmesh_model::route::Match;
use ironmesh_model::snapshot::{Edit, InboundPolicySource, RouteSource};
use ironmesh_model::{Finding, FindingCode, Labels, Name, ObjectId};

/// Namespace and name of an object.
pub(crate) type Place = (Name, Name);

/// A part that waits for others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Late {
    /// A rule for the calls of the pods that a Service selects.
    ForCaller(Place, RouteSource),
    /// A rule under the conditions of these groups.
    ByGroups(Vec<Place>, RouteSource),
    /// A policy of the pods that these Services select.
    ToTargets(Vec<Place>, InboundPolicySource),
}

/// What is asked of another object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Pods(Place),
    Conditions(Place),
}

/// What an object says to those who ask.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    /// The labels of the pods of a Service.
    Pods(Labels),
    /// The conditions of a group.
    Conditions(Vec<Match>),
}

/// The late parts of a mesh, and what they are made with, by the names of their objects.
#[derive(Debug)]
pub(super) struct LateParts<K> {
    parts: BTreeMap<K, Late>,
    waiting: BTreeMap<Asked, BTreeSet<K>>,
    /// Of several objects of one name the first counts.
    said: BTreeMap<Asked, BTreeMap<K, Said>>,
    /// What an object says, by its name.
    saying: BTreeMap<K, Asked>,
}

impl<K: Ord + Clone> LateParts<K> {
    pub(super) fn new() -> Self {
        Self {
            parts: BTreeMap::new(),
            waiting: BTreeMap::new(),
            said: BTreeMap::new(),
            saying: BTreeMap::new(),
        }
    }

    /// A late part came or changed.
    pub(super) fn put(&mut self, key: K, part: Late) -> Edit {
        self.take(&key);
        for asked in part.asks() {
            self.waiting.entry(asked).or_default().insert(key.clone());
        }
        let edit = part.made(|asked| self.answer(asked));
        self.parts.insert(key, part);
        edit
    }

    /// It is gone; the edit that says so follows from its id.
    pub(super) fn take(&mut self, key: &K) {
        for asked in self.parts.remove(key).iter().flat_map(Late::asks) {
            if let Some(waiting) = self.waiting.get_mut(&asked) {
                waiting.remove(key);
                if waiting.is_empty() {
                    self.waiting.remove(&asked);
                }
            }
        }
    }

    /// A Service selects these pods; `None`: none, or it is gone.
    pub(super) fn put_pods(&mut self, key: &K, service: Place, pods: Option<Labels>) -> Vec<Edit> {
        self.say(key, Asked::Pods(service), pods.map(Said::Pods))
    }

    /// A group has these conditions.
    pub(super) fn put_conditions(&mut self, key: &K, group: Place, of: Vec<Match>) -> Vec<Edit> {
        self.say(key, Asked::Conditions(group), Some(Said::Conditions(of)))
    }

    /// An object says nothing any more.
    pub(super) fn hush(&mut self, key: &K) -> Vec<Edit> {
        match self.saying.get(key).cloned() {
            Some(asked) => self.say(key, asked, None),
            None => Vec::new(),
        }
    }

    fn say(&mut self, key: &K, asked: Asked, said: Option<Said>) -> Vec<Edit> {
        let all = self.said.entry(asked.clone()).or_default();
        let before = match said.clone() {
            Some(said) => {
                self.saying.insert(key.clone(), asked.clone());
                all.insert(key.clone(), said)
            }
            None => {
                self.saying.remove(key);
                all.remove(key)
            }
        };
        if all.is_empty() {
            self.said.remove(&asked);
        }
        if before == said {
            return Vec::new();
        }
        let waiting = self.waiting.get(&asked).into_iter().flatten();
        let parts = waiting.filter_map(|key| self.parts.get(key));
        parts.map(|part| part.made(|asked| self.answer(asked))).collect()
    }

    fn answer(&self, asked: &Asked) -> Option<&Said> {
        self.said.get(asked)?.values().next()
    }
}

impl Late {
    /// The object that it is made from.
    pub(super) fn id(&self) -> &ObjectId {
        match self {
            Self::ForCaller(_, source) | Self::ByGroups(_, source) => &source.route.id,
            Self::ToTargets(_, source) => &source.policy.id,
        }
    }

    fn asks(&self) -> Vec<Asked> {
        match self {
            Self::ForCaller(caller, _) => vec![Asked::Pods(caller.clone())],
            Self::ByGroups(groups, _) => groups.iter().cloned().map(Asked::Conditions).collect(),
            Self::ToTargets(targets, _) => targets.iter().cloned().map(Asked::Pods).collect(),
        }
    }

    /// The part as it is with these answers.
    fn made<'a>(&self, answer: impl Fn(&Asked) -> Option<&'a Said>) -> Edit {
        match self {
            Self::ForCaller((namespace, name), source) => {
                let mut source = source.clone();
                match answer(&Asked::Pods((namespace.clone(), name.clone()))) {
                    Some(Said::Pods(pods)) => only_for(pods, &mut source),
                    _ => {
                        let message = format!("no service {namespace}/{name} selects pods");
                        dead(&mut source, "spec.match.source", message);
                    }
                }
                Edit::Route(source.route.id.clone(), Some(source.into()))
            }
            Self::ByGroups(groups, source) => {
                let mut source = source.clone();
                let mut all = Vec::new();
                for (namespace, name) in groups {
                    match answer(&Asked::Conditions((namespace.clone(), name.clone()))) {
                        Some(Said::Conditions(own)) => all.extend(own.iter().cloned()),
                        _ => {
                            let message = format!("there is no HTTPRouteGroup {namespace}/{name}");
                            source.found.push(found(&source, "spec.matches", message));
                        }
                    }
                }
                match all.is_empty() {
                    true => dead(&mut source, "spec.matches", "no request can meet it".into()),
                    false => source.route.rules.iter_mut().for_each(|r| r.matches.clone_from(&all)),
                }
                Edit::Route(source.route.id.clone(), Some(source.into()))
            }
            Self::ToTargets(targets, source) => {
                let pods = targets.iter().filter_map(|target| {
                    match answer(&Asked::Pods(target.clone()))? {
                        Said::Pods(pods) => Some(pods.clone()),
                        Said::Conditions(_) => None,
                    }
                });
                let source =
                    InboundPolicySource { selectors: Some(pods.collect()), ..source.clone() };
                Edit::InboundPolicy(source.policy.id.clone(), Some(source.into()))
            }
        }
    }
}

/// Restricts a rule to callers with these labels.
fn only_for(pods: &Labels, source: &mut RouteSource) {
    let alternatives = source.route.rules.iter_mut().flat_map(|rule| &mut rule.matches);
    for alternative in alternatives {
        let own = std::mem::take(&mut alternative.source_labels);
        alternative.source_labels =
            pods.0.iter().chain(&own.0).map(|(k, v)| (&**k, &**v)).collect();
    }
}

/// Takes the rules away, and says why.
fn dead(source: &mut RouteSource, path: &str, message: String) {
    source.route.rules.clear();
    source.found.push(found(source, path, message));
}

fn found(source: &RouteSource, path: &str, message: String) -> Finding {
    Finding::new(&source.route.id, path, FindingCode::NothingSelected, message)
}
