//! Parts that are made with what other objects say: the pods that a Service selects, the conditions
//! that an HTTPRouteGroup names.

use std::collections::{BTreeMap, BTreeSet};

use ironmesh_model::policy::{InboundPart, InboundPolicy};
use ironmesh_model::route::Match;
use ironmesh_model::snapshot::{Edit, InboundPolicySource, RouteSource};
use ironmesh_model::{Finding, FindingCode, Labels, Name, ObjectId};

use crate::kubernetes::{SelectedPods, SelectedPort};
use crate::path::{field, item};

/// Namespace and name of an object.
pub(crate) type Place = (Name, Name);

/// A part that waits for others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Late {
    /// A rule for the calls of the pods that a Service selects.
    ForCaller(Place, RouteSource),
    /// A rule under the conditions of these groups.
    ByGroups(Vec<Place>, RouteSource),
    /// A policy of the pods that these Services select, or of their ports.
    ToTargets(Vec<TargetPods>, InboundPolicySource),
}

/// What a policy is for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetPods {
    /// The Service whose pods.
    pub(crate) service: Place,
    /// Those of them that have these labels, too.
    pub(crate) labels: Labels,
    /// Ports of the Service; none: all of the pods.
    pub(crate) ports: Vec<PortOf>,
}

/// A port of a Service, as it is named.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PortOf {
    Number(u16),
    Name(Name),
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
    /// The pods of a Service.
    Pods(SelectedPods),
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
    pub(super) fn put_pods(
        &mut self,
        key: &K,
        service: Place,
        pods: Option<SelectedPods>,
    ) -> Vec<Edit> {
        self.say(key, Asked::Pods(service), pods.map(Said::Pods))
    }

    /// Whether somebody asks where the pods of a Service have its ports.
    pub(super) fn asks_for_ports_of(&self, service: &Place) -> bool {
        let waiting = self.waiting.get(&Asked::Pods(service.clone())).into_iter().flatten();
        let mut parts = waiting.filter_map(|key| self.parts.get(key));
        parts.any(|part| part.asks_for_ports().any(|asked| asked == service))
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
            Self::ToTargets(targets, _) => {
                targets.iter().map(|target| Asked::Pods(target.service.clone())).collect()
            }
        }
    }

    /// The Services of which it asks where their pods have the ports.
    pub(super) fn asks_for_ports(&self) -> impl Iterator<Item = &Place> {
        let targets: &[TargetPods] = match self {
            Self::ToTargets(targets, _) => targets,
            Self::ForCaller(..) | Self::ByGroups(..) => &[],
        };
        targets.iter().filter(|target| !target.ports.is_empty()).map(|target| &target.service)
    }

    /// The part as it is with these answers.
    fn made<'a>(&self, answer: impl Fn(&Asked) -> Option<&'a Said>) -> Edit {
        match self {
            Self::ForCaller((namespace, name), source) => {
                let mut source = source.clone();
                match answer(&Asked::Pods((namespace.clone(), name.clone()))) {
                    Some(Said::Pods(pods)) => only_for(&pods.labels, &mut source),
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
                let pods = |target: &TargetPods| match answer(&Asked::Pods(target.service.clone()))?
                {
                    Said::Pods(pods) => Some(pods),
                    Said::Conditions(_) => None,
                };
                let source = for_targets(targets, pods, source.clone());
                Edit::InboundPolicy(source.policy.id.clone(), Some(source.into()))
            }
        }
    }
}

/// Restricts a policy to its targets.
fn for_targets<'a>(
    targets: &[TargetPods],
    pods: impl Fn(&TargetPods) -> Option<&'a SelectedPods>,
    mut source: InboundPolicySource,
) -> InboundPolicySource {
    let mtls = source.policy.mtls.unwrap_or_default();
    let mut selectors = Vec::new();
    let mut parts = Vec::new();
    let mut report = |path: &str, code, message: String| {
        source.found.push(Finding::new(&source.policy.id, path, code, message));
    };
    for (at, target) in targets.iter().enumerate() {
        let path = item("spec.targets", at);
        let (namespace, name) = &target.service;
        let Some(pods) = pods(target) else {
            let message = format!("no service {namespace}/{name} selects pods");
            report(&field(&path, "name"), FindingCode::NothingSelected, message);
            continue;
        };
        let Some(workloads) = both(&pods.labels, &target.labels) else {
            let message = format!("{namespace}/{name} selects pods with {}, only", pods.labels);
            report(&field(&path, "labels"), FindingCode::NothingSelected, message);
            continue;
        };
        let part = |port| InboundPart { workloads: workloads.clone(), port, mtls };
        if target.ports.is_empty() {
            parts.push(part(None));
        }
        for (at, asked) in target.ports.iter().enumerate() {
            match pods.ports.iter().find(|port| asked.is(port)) {
                Some(port) => parts.extend(port.at.iter().map(|port| part(Some(*port)))),
                None => {
                    let path = item(&field(&path, "ports"), at);
                    let lacks = asked.lacked(&pods.ports);
                    let message = format!("service {namespace}/{name} has no port {lacks}");
                    report(&path, FindingCode::NoEffect, message);
                }
            }
        }
        selectors.push(workloads);
    }
    if parts.len() > InboundPolicy::PARTS_MAX {
        let most = InboundPolicy::PARTS_MAX;
        let message = format!("a policy is for at most {most} ports; those behind are left out");
        report("spec.targets", FindingCode::NoEffect, message);
        parts.truncate(most);
    }
    source.selectors = Some(selectors);
    if targets.iter().any(|target| !target.ports.is_empty()) {
        source.policy.mtls = None;
        source.policy.parts = parts;
    }
    source
}

impl PortOf {
    fn is(&self, port: &SelectedPort) -> bool {
        match self {
            Self::Number(number) => port.number == *number,
            Self::Name(name) => port.name == *name,
        }
    }

    /// What is said of it where there are these instead.
    fn lacked(&self, ports: &[SelectedPort]) -> String {
        let (asked, others): (String, Vec<String>) = match self {
            Self::Number(number) => {
                (number.to_string(), ports.iter().map(|port| port.number.to_string()).collect())
            }
            Self::Name(name) => (
                format!("named {name:?}"),
                ports.iter().map(|port| port.name.to_string()).collect(),
            ),
        };
        format!("{asked}, only {}", others.join(", "))
    }
}

/// What has the labels of both; `None`: nothing can.
fn both(one: &Labels, other: &Labels) -> Option<Labels> {
    let mut all = one.clone();
    for (name, value) in &other.0 {
        if all.0.insert(name.clone(), value.clone()).is_some_and(|was| was != *value) {
            return None;
        }
    }
    Some(all)
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
