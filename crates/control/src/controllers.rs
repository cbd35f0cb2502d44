//! Controllers: each makes what is match what is asked for, whenever either changes.
//!
//! One task reads the store's changes and marks the objects that they concern; marked objects are
//! reconciled until none is left. Reconciling reads the store as it is now, so that an event that
//! was missed costs nothing, and after a start everything is marked once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::Registry;
use crate::store::{Event, EventKind};

mod deployment;
mod endpoints;
mod events;
mod namespace;
mod owned;
mod progress;
mod queue;
mod replica_set;
pub(crate) mod rollout;

use queue::Queue;

/// Something to reconcile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// A namespace: its default service account, or its end.
    Namespace(Name),
    /// A Deployment, by namespace and name.
    Deployment(Name, Name),
    /// A ReplicaSet, by namespace and name.
    ReplicaSet(Name, Name),
    /// The Endpoints of a Service, by namespace and name.
    Endpoints(Name, Name),
    /// What the object of this uid owned, now that it is gone.
    Orphans(String),
    /// All that names an owner.
    AllOwned,
    /// The number and age of Events.
    Events,
}

/// Runs the controllers until the process ends.
pub(crate) async fn run(context: Arc<Context>) {
    let store = context.registry.store();
    let mut changes = store.subscribe();
    let mut clock = tokio::time::interval(EVENT_SWEEP_INTERVAL);
    let mut revision = store.revision();
    let mut queue = Queue::new(context.registry.limits());
    everything(&context, &mut queue);
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
                everything(&context, &mut queue);
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
        Work::Deployment(namespace, name) => deployment::reconcile(registry, namespace, name),
        Work::Namespace(name) => namespace::reconcile(registry, name).map(|()| None),
        Work::ReplicaSet(namespace, name) => {
            replica_set::reconcile(registry, namespace, name).map(|()| None)
        }
        Work::Endpoints(namespace, name) => {
            endpoints::reconcile(registry, namespace, name).map(|()| None)
        }
        Work::Orphans(uid) => owned::collect(registry, uid).map(|()| None),
        Work::AllOwned => owned::collect_all(registry).map(|()| None),
        Work::Events => events::sweep(registry).map(|()| None),
    }));
    reconciled.unwrap_or_else(|_| Err(Failure::internal("panicked; standard error says where")))
}

/// Everything there is to reconcile.
fn everything(context: &Context, queue: &mut Queue) {
    let store = context.registry.store();
    queue.add(Work::AllOwned);
    queue.add(Work::Events);
    for collection in store.collections() {
        for object in store.list(&collection, None).0 {
            let (namespace, name) =
                (object::namespace(&object).into(), object::name(&object).into());
            match (&*collection.group, &*collection.plural) {
                ("", "namespaces") => queue.add(Work::Namespace(name)),
                ("", "services") => queue.add(Work::Endpoints(namespace, name)),
                ("apps", "deployments") => queue.add(Work::Deployment(namespace, name)),
                ("apps", "replicasets") => queue.add(Work::ReplicaSet(namespace, name)),
                _ => {}
            }
        }
    }
}

/// Marks what a change concerns: the object itself, its owner, its namespace, its Services.
fn concerns(registry: &Registry, event: &Event, queue: &mut Queue) {
    let (namespace, name) = (event.key.namespace.clone(), event.key.name.clone());
    let deleted = event.kind == EventKind::Deleted;
    match (&*event.key.collection.group, &*event.key.collection.plural) {
        ("", "namespaces") => queue.add(Work::Namespace(name)),
        ("", "services") => queue.add(Work::Endpoints(namespace, name)),
        ("", "endpoints") if deleted => queue.add(Work::Endpoints(namespace, name)),
        ("", "pods") => services_of_pod(registry, event, queue),
        ("", "serviceaccounts") if deleted => queue.add(Work::Namespace(namespace)),
        // Pods may have waited for it.
        ("", "serviceaccounts") => {
            queue.hurry(|work| matches!(work, Work::ReplicaSet(of, _) if *of == namespace));
        }
        ("", "events") if events::are_too_many(registry) => queue.add(Work::Events),
        ("apps", "deployments") => queue.add(Work::Deployment(namespace, name)),
        ("apps", "replicasets") => queue.add(Work::ReplicaSet(namespace, name)),
        _ => {}
    }
    let namespace = &event.key.namespace;
    for object in [Some(&event.object), event.old.as_ref()].into_iter().flatten() {
        let Some(owner) = object::controller(object) else { continue };
        let owner_name = Name::from(object::text(owner, "/name"));
        match object::text(owner, "/kind") {
            "Deployment" => queue.add(Work::Deployment(namespace.clone(), owner_name)),
            "ReplicaSet" => queue.add(Work::ReplicaSet(namespace.clone(), owner_name)),
            _ => {}
        }
    }
    if deleted {
        queue.add(Work::Orphans(object::uid(&event.object).to_owned()));
        if !namespace.is_empty() {
            queue.add(Work::Namespace(namespace.clone()));
        }
    }
}

/// Marks the Services whose Endpoints show a pod that changed.
fn services_of_pod(registry: &Registry, event: &Event, queue: &mut Queue) {
    let (object, old) = (&*event.object, event.old.as_deref());
    let changed = event.kind == EventKind::Deleted
        || old.is_none_or(|old| endpoints::shown(old) != endpoints::shown(object));
    if !changed {
        return;
    }
    let pods: Vec<&Object> = std::iter::once(object).chain(old).collect();
    for service in endpoints::services_of(registry, &pods) {
        queue.add(Work::Endpoints(event.key.namespace.clone(), service.into()));
    }
}

/// How often the age of Events is looked at.
const EVENT_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
