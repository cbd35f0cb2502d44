//! Controllers: each makes what is match what is asked for, whenever either changes.
//!
//! One task reads the store's changes and marks the objects that they concern; marked objects are
//! reconciled until none is left. Reconciling reads the store as it is now, so that an event that
//! was missed costs nothing, and after a start everything is marked once.
//!
//! A controller declares what it is for, owns and watches ([`Controller`]); one more is a file of its
//! own and a line in [`CONTROLLERS`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::AnyObject;
use ironmesh_model::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::Registry;
use crate::store::{Collection, Event, EventKind, Key};

mod claim;
mod custom;
mod daemon_set;
mod deployment;
mod endpoint_slices;
mod endpoints;
mod events;
mod job;
mod namespace;
mod owned;
mod pods;
mod progress;
mod queue;
mod replica_set;
mod revisions;
pub(crate) mod rollout;
mod stateful_set;
mod template;

use queue::Queue;

/// What a controller is for, and when it is to look again.
struct Controller {
    /// Group and plural of the objects that it reconciles. When one changes, it is reconciled.
    of: (&'static str, &'static str),
    /// Their kind: when an object changes that one of them owns, the owner is reconciled.
    owner: Option<&'static str>,
    /// Which of them another object concerns that changed.
    watches: fn(&Registry, &Event) -> Vec<ObjectName>,
    /// For how long changes of what is watched may be collected for an object.
    patience: fn(&Registry, &ObjectName) -> Duration,
    /// Collections whose new objects may be what a failed attempt in their namespace lacked: it is
    /// made again at once.
    lacks: &'static [(&'static str, &'static str)],
    /// Makes what is match what is asked for, for the object of this namespace and name, which may
    /// be gone. Returns after how long it is to look again if nothing happens.
    reconcile: fn(&Registry, &str, &str) -> Result<Option<Duration>, Failure>,
}

/// Namespace and name of an object.
type ObjectName = (Name, Name);

/// The controllers; what waits for several of them is done in this order.
const CONTROLLERS: &[Controller] = &[
    namespace::CONTROLLER,
    custom::CONTROLLER,
    deployment::CONTROLLER,
    replica_set::CONTROLLER,
    replica_set::REPLICATION_CONTROLLER,
    daemon_set::CONTROLLER,
    // Claims go before the pods that would use them again are made.
    claim::CONTROLLER,
    stateful_set::CONTROLLER,
    job::CONTROLLER,
    endpoints::CONTROLLER,
    endpoint_slices::CONTROLLER,
];

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// To reconcile an object: place of the controller in [`CONTROLLERS`], namespace and name.
    Reconcile(usize, ObjectName),
    /// To delete what the object of this uid owned, now that it is gone.
    Orphans(String),
    /// To let an object go that waits for what it owns.
    Foreground(Key),
    /// To look at all that names an owner.
    AllOwned,
    /// To look at the number and age of Events.
    Events,
}

/// Runs the controllers until the process ends.
pub(crate) async fn run(context: Arc<Context>) {
    let store = context.registry.store();
    let mut changes = store.subscribe();
    let mut clock = tokio::time::interval(EVENT_SWEEP_INTERVAL);
    let mut revision = store.revision();
    let mut queue = Queue::new(context.registry.limits());
    everything(&context.registry, &mut queue);
    loop {
        changes.mark_unchanged();
        match store.events_after(revision, usize::MAX) {
            Ok(events) => {
                for event in events {
                    revision = event.revision;
                    concerns(&context.registry, &event, &mut queue);
                }
            }
            Err(_) => {
                revision = store.revision();
                everything(&context.registry, &mut queue);
            }
        }
        if let Some(next) = queue.next() {
            match reconcile(&context.registry, &next) {
                Ok(again) => queue.done(next, again),
                Err(failure) => {
                    let retry = queue.failed(next.clone());
                    tracing::warn!(work = ?next, %failure, ?retry, "not reconciled");
                }
            }
            // Requests are answered between two pieces of work.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = clock.tick() => queue.add(Work::Events),
            () = tokio::time::sleep_until(queue.due()) => {}
        }
    }
}

/// Reconciles; returns after how long again, if time matters.
fn reconcile(registry: &Registry, work: &Work) -> Result<Option<Duration>, Failure> {
    // A panic is the failure of this piece of work, not of all. The store stays whole: it is changed
    // in single steps.
    let reconciled = std::panic::catch_unwind(AssertUnwindSafe(|| match work {
        Work::Reconcile(controller, (namespace, name)) => {
            (CONTROLLERS[*controller].reconcile)(registry, namespace, name)
        }
        Work::Orphans(uid) => owned::collect(registry, uid).map(|()| None),
        Work::Foreground(key) => owned::foreground(registry, key).map(|()| None),
        Work::AllOwned => owned::collect_all(registry).map(|()| None),
        Work::Events => events::sweep(registry).map(|()| None),
    }));
    reconciled.unwrap_or_else(|_| Err(Failure::internal("panicked; standard error says where")))
}

/// Everything there is to reconcile.
fn everything(registry: &Registry, queue: &mut Queue) {
    let store = registry.store();
    queue.add(Work::AllOwned);
    queue.add(Work::Events);
    for (place, controller) in CONTROLLERS.iter().enumerate() {
        let (group, plural) = controller.of;
        for object in store.list(&Collection::new(group, plural), None).0 {
            let name = (object::namespace(&object).into(), object::name(&object).into());
            queue.add(Work::Reconcile(place, name));
        }
    }
}

/// Marks what a change concerns.
fn concerns(registry: &Registry, event: &Event, queue: &mut Queue) {
    let collection = &event.key.collection;
    let namespace = &event.key.namespace;
    let (object, old) = (event.object(), event.old());
    for (place, controller) in CONTROLLERS.iter().enumerate() {
        let mut add = |name: ObjectName| queue.add(Work::Reconcile(place, name));
        if collection.is(controller.of.0, controller.of.1) {
            add((namespace.clone(), event.key.name.clone()));
        }
        for object in std::iter::once(&object).chain(&old) {
            if let Some(owner) = object::controller(object)
                && Some(owner.kind()) == controller.owner
            {
                add((namespace.clone(), owner.name().into()));
            }
        }
        for name in (controller.watches)(registry, event) {
            let patience = (controller.patience)(registry, &name);
            queue.add_after(Work::Reconcile(place, name), patience);
        }
        if controller.lacks.iter().any(|(group, plural)| collection.is(group, plural)) {
            queue.hurry(|work| {
                matches!(work, Work::Reconcile(of, (ns, _)) if *of == place && ns == namespace)
            });
        }
    }
    owners(registry, event, &object, queue);
    if collection.is("", "events") && events::are_too_many(registry) {
        queue.add(Work::Events);
    }
}

/// Marks what a change concerns among what is owned, and among owners.
fn owners(registry: &Registry, event: &Event, object: &Object, queue: &mut Queue) {
    if object::is_terminating(object) && owned::is_foreground(object) {
        queue.add(Work::Foreground(event.key.clone()));
    }
    if event.kind == EventKind::Deleted {
        queue.add(Work::Orphans(object::uid(object).to_owned()));
    }
    for owner in AnyObject::of(object).metadata().owner_references() {
        if !registry.store().has_uid(owner.uid()) {
            queue.add(Work::Orphans(owner.uid().to_owned()));
        } else if event.kind == EventKind::Deleted {
            // It may be the last that its owner waits for.
            let resource = Resource::of(owner.api_version(), owner.kind());
            let namespace = if resource.namespaced { &*event.key.namespace } else { "" };
            let key = Collection::from(&resource).key(namespace, owner.name());
            queue.add(Work::Foreground(key));
        }
    }
}

/// Watches nothing beside what it reconciles and what that owns.
fn nothing(_: &Registry, _: &Event) -> Vec<ObjectName> {
    Vec::new()
}

/// What is watched is looked at at once.
fn none(_: &Registry, _: &ObjectName) -> Duration {
    Duration::ZERO
}

/// How often the age of Events is looked at.
const EVENT_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
