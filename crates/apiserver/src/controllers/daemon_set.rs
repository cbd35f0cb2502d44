//! DaemonSets: a pod on each node, of which there is one.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{DaemonSet, Pod, UpdateType};
use ironmesh_dialects::schema::{Fields, IntegerOrText};
use serde_json::{Value, json};

use super::{Controller, none, nothing, pods, revisions};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{Part, Registry};
use crate::store::Collection;

pub(super) const CONTROLLER: Controller = Controller {
    of: ("apps", "daemonsets"),
    owner: Some("DaemonSet"),
    watches: nothing,
    patience: none,
    // Pods may not be made before there is their service account.
    lacks: &[("", "serviceaccounts")],
    reconcile,
};

/// Reconciles one DaemonSet. Returns after how long it is to be looked at again if nothing happens.
fn reconcile(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> Result<Option<Duration>, Failure> {
    let key = Collection::new("apps", "daemonsets").key(namespace, name);
    let Some(set) = registry.store().object(&key).filter(|set| !object::is_terminating(set)) else {
        return Ok(None);
    };
    let spec = DaemonSet::of(&set).spec();
    let revision = revisions::of_template(registry, &set, spec.template().json())?;
    let revision = object::name(&revision);
    let all = pods::owned(registry, &set, spec.selector(), |_| true)?;
    let outcome = advance(registry, &set, revision, &all);
    let kept = usize::try_from(spec.revision_history_limit().get()).unwrap_or(usize::MAX);
    revisions::prune(registry, &set, kept, &all, &[revision])?;
    let all = pods::owned(registry, &set, spec.selector(), |_| true)?;
    let status = status(DaemonSet::of(&set), revision, &all);
    registry.update(&Resource::of("apps/v1", "DaemonSet"), &key, Part::Status, |old| {
        let mut new = old.clone();
        new["status"] = status.clone();
        Ok(new)
    })?;
    outcome
}

/// Does what is next for the pod of the node. Returns after how long there is more to do.
fn advance(
    registry: &Registry,
    set: &Object,
    revision: &str,
    all: &[Arc<Object>],
) -> Result<Option<Duration>, Failure> {
    let spec = DaemonSet::of(set).spec();
    let create = || {
        let mut pod = pods::from_template(set, spec.template());
        revisions::label(&mut pod, revision);
        pods::create(registry, set, pod).map(drop)
    };
    if all.is_empty() {
        return create().map(|()| None);
    }
    let lives = |pod: &&Arc<Object>| !object::is_terminating(pod);
    let (ended, living): (Vec<_>, Vec<_>) =
        all.iter().filter(lives).partition(|pod| Pod::of(pod).is_finished());
    if let Some(ended) = ended.first() {
        return pods::replace(registry, set, ended);
    }
    let (new, old): (Vec<_>, Vec<_>) =
        living.into_iter().partition(|pod| revisions::of_pod(pod) == revision);
    // One of each is enough; the youngest go.
    for surplus in new.iter().skip(1).chain(old.iter().skip(1)) {
        pods::delete(registry, set, surplus)?;
    }
    let strategy = spec.update_strategy();
    let surges = !is_zero(&strategy.rolling_update().max_surge());
    match (new.first(), old.first(), strategy.of()) {
        (_, None, _) | (None, _, UpdateType::OnDelete) => Ok(None),
        (None, Some(_), _) if surges => create().map(|()| None),
        // The new one is to take its place first.
        (Some(new), Some(_), _) if surges && !Pod::of(new).is_ready() => Ok(None),
        (_, Some(old), _) => pods::delete(registry, set, old).map(|()| None),
    }
}

fn is_zero(bound: &IntegerOrText) -> bool {
    match bound {
        IntegerOrText::Integer(number) => *number == 0,
        IntegerOrText::Text(text) => matches!(text.as_str(), "0" | "0%"),
    }
}

fn status(set: Fields<'_, DaemonSet>, revision: &str, all: &[Arc<Object>]) -> Value {
    let living: Vec<_> = all.iter().filter(|pod| !object::is_terminating(pod)).collect();
    let any = |is: &dyn Fn(&Object) -> bool| i64::from(living.iter().any(|pod| is(pod)));
    let ready = any(&|pod| Pod::of(pod).is_ready());
    json!({
        "currentNumberScheduled": any(&|_| true),
        "desiredNumberScheduled": 1,
        "numberMisscheduled": 0,
        "numberReady": ready,
        "numberAvailable": ready,
        "numberUnavailable": 1 - ready,
        "updatedNumberScheduled": any(&|pod| revisions::of_pod(pod) == revision),
        "observedGeneration": set.metadata().generation().max(1),
    })
}
