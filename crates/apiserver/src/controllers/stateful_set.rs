//! StatefulSets: pods with names and claims of their own, which come, go and change in order.
//!
//! In each step at most one thing is done, unless the set manages its pods in parallel; what follows it
//! comes with the next change of a pod. A step that waits for a pod that is not ready waits for ever, as
//! in Kubernetes: whoever has mended the template deletes that pod.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{
    Pod, PodManagement, PodTemplate, StatefulSet, StatefulSetSpec, UpdateType,
};
use ironmesh_dialects::schema::Fields;
use serde_json::Value;

use super::{Controller, ObjectName, none, pods, revisions};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::Registry;
use crate::store::{Collection, Event, EventKind};

mod identity;
mod status;

pub(super) const CONTROLLER: Controller = Controller {
    of: ("apps", "statefulsets"),
    owner: Some("StatefulSet"),
    watches,
    patience: none,
    // Pods may not be made before there is their service account.
    lacks: &[("", "serviceaccounts")],
    reconcile,
};

/// Sets of a namespace in which a claim has gone: a pod may have waited for that.
fn watches(registry: &Registry, event: &Event) -> Vec<ObjectName> {
    let is_claim = event.key.collection.is("", "persistentvolumeclaims");
    if !is_claim || event.kind != EventKind::Deleted {
        return Vec::new();
    }
    let namespace = &event.key.namespace;
    let (sets, _) = registry.store().list(&collection(), Some(namespace));
    sets.iter().map(|set| (namespace.clone(), object::name(set).into())).collect()
}

/// Reconciles one StatefulSet. Returns after how long it is to be looked at again if nothing happens.
fn reconcile(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> Result<Option<Duration>, Failure> {
    let key = collection().key(namespace, name);
    let set = registry.store().object(&key).filter(|set| !object::is_terminating(set));
    let Some(set) = set else { return Ok(None) };
    let spec = StatefulSet::of(&set).spec();
    let update = revisions::of_template(registry, &set, spec.template().json())?;
    let update = object::name(&update).to_owned();
    let before = StatefulSet::of(&set).status().current_revision();
    let state = State {
        set: &set,
        spec,
        current: if before.is_empty() { update.clone() } else { before.to_owned() },
        update,
    };
    let outcome = state.advance(registry, &state.pods(registry)?);
    let pods = state.pods(registry)?;
    status::write(registry, &key, &state, &pods)?;
    let kept = usize::try_from(spec.revision_history_limit().get()).unwrap_or(usize::MAX);
    let all: Vec<_> = pods.into_values().collect();
    revisions::prune(registry, &set, kept, &all, &[&state.current, &state.update])?;
    outcome
}

/// A set, and the revisions between which it may be.
struct State<'a> {
    set: &'a Object,
    spec: Fields<'a, StatefulSetSpec>,
    /// Name of the revision before.
    current: String,
    /// Name of the present one.
    update: String,
}

impl State<'_> {
    /// Its pods, by number.
    fn pods(&self, registry: &Registry) -> Result<BTreeMap<u32, Arc<Object>>, Failure> {
        let number = |pod: &Object| identity::number(object::name(self.set), object::name(pod));
        let own =
            pods::owned(registry, self.set, self.spec.selector(), |pod| number(pod).is_some())?;
        Ok(own.into_iter().filter_map(|pod| Some((number(&pod)?, pod))).collect())
    }

    /// The numbers that pods are to have.
    fn numbers(&self) -> std::ops::Range<u32> {
        let start = self.spec.ordinals().start().get();
        start..start.saturating_add(self.spec.replicas().get())
    }

    /// The first number whose pod is to be of the present revision: the partition is counted from the
    /// first pod, whatever its number.
    fn first_of_update(&self) -> u32 {
        let partition = self.spec.update_strategy().rolling_update().partition().get();
        self.numbers().start.saturating_add(partition)
    }

    /// Does what is next. Returns after how long there is more to do if nothing happens.
    fn advance(
        &self,
        registry: &Registry,
        pods: &BTreeMap<u32, Arc<Object>>,
    ) -> Result<Option<Duration>, Failure> {
        let in_order = self.spec.pod_management_policy() == PodManagement::OrderedReady;
        let mut again = None;
        for number in self.numbers() {
            match pods.get(&number) {
                None => self.create(registry, number)?,
                Some(pod) if !object::is_terminating(pod) && Pod::of(pod).is_finished() => {
                    again = pods::replace(registry, self.set, pod)?;
                }
                Some(pod) if is_healthy(pod) => continue,
                Some(_) => {}
            }
            if in_order {
                return Ok(again);
            }
        }
        // From the top, each once the one above it is gone and those that stay are well.
        for (_, pod) in pods.iter().rev().filter(|(number, _)| !self.numbers().contains(number)) {
            if !object::is_terminating(pod) {
                pods::delete(registry, self.set, pod)?;
            }
            if in_order {
                return Ok(again);
            }
        }
        self.roll(registry, pods)?;
        Ok(again)
    }

    /// Replaces pods of another revision, from the top, one after the other.
    fn roll(&self, registry: &Registry, pods: &BTreeMap<u32, Arc<Object>>) -> Result<(), Failure> {
        if self.spec.update_strategy().of() == UpdateType::OnDelete {
            return Ok(());
        }
        let first = self.first_of_update();
        for number in self.numbers().rev().filter(|number| *number >= first) {
            let Some(pod) = pods.get(&number) else { return Ok(()) };
            if revisions::of_pod(pod) != self.update && !object::is_terminating(pod) {
                return pods::delete(registry, self.set, pod);
            }
            if !is_healthy(pod) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes the pod of a number, of the revision that it is to have, and the claims that it lacks.
    fn create(&self, registry: &Registry, number: u32) -> Result<(), Failure> {
        let strategy = self.spec.update_strategy().of();
        let is_of_before = strategy == UpdateType::RollingUpdate && number < self.first_of_update();
        let revision = if is_of_before { &self.current } else { &self.update };
        let template = revisions::template_named(registry, self.set, revision);
        let template = template.unwrap_or_else(|| self.spec.template().json().clone());
        self.make(registry, number, &template, revision)
    }

    fn make(
        &self,
        registry: &Registry,
        number: u32,
        template: &Value,
        revision: &str,
    ) -> Result<(), Failure> {
        let mut pod = pods::from_template(self.set, PodTemplate::of(template));
        identity::give(self.set, self.spec, number, &mut pod);
        revisions::label(&mut pod, revision);
        if !identity::make_claims(registry, self.set, self.spec, &pod)? {
            return Ok(());
        }
        pods::create(registry, self.set, pod).map(drop)
    }
}

/// Whether a pod runs, is ready, and stays.
fn is_healthy(pod: &Object) -> bool {
    Pod::of(pod).status().phase() == "Running" && Pod::of(pod).is_ready()
}

fn collection() -> Collection {
    Collection::new("apps", "statefulsets")
}

fn resource() -> Resource {
    Resource::of("apps/v1", "StatefulSet")
}
