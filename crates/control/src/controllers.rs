//! Controllers: each makes what is match what is asked for, whenever either changes.
//!
//! One task reads the store's changes and marks the objects that they concern; marked objects are
//! reconciled until none is left. Reconciling reads the store as it is now, so that an event that
//! was missed costs nothing, and after a start everything is marked once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::object;
use crate::store::{Event, EventKind};

mod deployment;
mod events;
mod namespace;
mod owned;
mod replica_set;
pub(crate) mod rollout;

/// Something to reconcile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// A namespace: its default service account, or its end.
    Namespace(Name),
    /// A Deployment, by namespace and name.
    Deployment(Name, Name),
    /// A ReplicaSet, by namespace and name.
    ReplicaSet(Name, Name),
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
    let mut work = everything(&context);
    loop {
        changes.mark_unchanged();
        match store.events_after(revision, usize::MAX) {
            Ok(events) => {
                for event in events {
                    revision = event.revision;
                    concerns(&event, &mut work);
                }
            }
            Err(_) => {
                revision = store.revision();
                work.extend(everything(&context));
            }
        }
        if let Some(next) = work.pop_first() {
            if let Err(failure) = reconcile(&context, &next) {
                tracing::warn!(work = ?next, %failure, "not reconciled");
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
            _ = clock.tick() => {
                work.insert(Work::Events);
            }
        }
    }
}

fn reconcile(context: &Context, work: &Work) -> Result<(), Failure> {
    let registry = &context.registry;
    match work {
        Work::Namespace(name) => namespace::reconcile(registry, name),
        Work::Deployment(namespace, name) => deployment::reconcile(registry, namespace, name),
        Work::ReplicaSet(namespace, name) => replica_set::reconcile(registry, namespace, name),
        Work::Orphans(uid) => owned::collect(registry, uid),
        Work::AllOwned => owned::collect_all(registry),
        Work::Events => events::sweep(registry),
    }
}

/// Everything there is to reconcile.
fn everything(context: &Context) -> BTreeSet<Work> {
    let store = context.registry.store();
    let mut work = BTreeSet::from([Work::AllOwned, Work::Events]);
    for collection in store.collections() {
        for object in store.list(&collection, None).0 {
            let (namespace, name) =
                (object::namespace(&object).into(), object::name(&object).into());
            match (&*collection.group, &*collection.plural) {
                ("", "namespaces") => work.insert(Work::Namespace(name)),
                ("apps", "deployments") => work.insert(Work::Deployment(namespace, name)),
                ("apps", "replicasets") => work.insert(Work::ReplicaSet(namespace, name)),
                _ => false,
            };
        }
    }
    work
}

/// Marks what a change concerns: the object itself, its owner, its namespace.
fn concerns(event: &Event, work: &mut BTreeSet<Work>) {
    let key = &event.key;
    let deleted = event.kind == EventKind::Deleted;
    match (&*key.collection.group, &*key.collection.plural) {
        ("", "namespaces") => {
            work.insert(Work::Namespace(key.name.clone()));
        }
        ("apps", "deployments") => {
            work.insert(Work::Deployment(key.namespace.clone(), key.name.clone()));
        }
        ("apps", "replicasets") => {
            work.insert(Work::ReplicaSet(key.namespace.clone(), key.name.clone()));
        }
        ("", "serviceaccounts") if deleted => {
            work.insert(Work::Namespace(key.namespace.clone()));
        }
        ("", "events") if event.kind == EventKind::Added => {
            work.insert(Work::Events);
        }
        _ => {}
    }
    for object in [Some(&event.object), event.old.as_ref()].into_iter().flatten() {
        let Some(owner) = object::controller(object) else { continue };
        let owner_name = Name::from(object::text(owner, "/name"));
        match object::text(owner, "/kind") {
            "Deployment" => work.insert(Work::Deployment(key.namespace.clone(), owner_name)),
            "ReplicaSet" => work.insert(Work::ReplicaSet(key.namespace.clone(), owner_name)),
            _ => false,
        };
    }
    if deleted {
        work.insert(Work::Orphans(object::uid(&event.object).to_owned()));
        if !key.namespace.is_empty() {
            work.insert(Work::Namespace(key.namespace.clone()));
        }
    }
}

/// How often the age of Events is looked at.
const EVENT_SWEEP_INTERVAL: Duration = Duration::from_secs(60);
