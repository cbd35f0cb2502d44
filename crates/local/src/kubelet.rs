//! Runs the pods of the API: starts what is there, ends what is gone, tells how it is.
//!
//! Each pod is one task ([`pod`]), each of its containers another ([`container`]). That the API is
//! away changes nothing for pods that run.

pub(crate) mod claims;
pub(crate) mod container;
pub(crate) mod cordon;
pub(crate) mod edge;
pub(crate) mod handler;
pub(crate) mod host_ports;
pub(crate) mod image;
pub(crate) mod launch;
pub(crate) mod pod;
mod probe;
mod proxy;
mod publish;
mod termination;
mod tokens;
mod unreadable;
mod volumes;

use std::rc::Rc;

use ironmesh_dialects::kubernetes::kinds::Pod;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use self::pod::PodState;
use super::node::Node;
use super::object::read_pod;
use super::path_name::PathName;
use super::reflector::{Change, Key, key_of};

/// Follows the Pods of the API, for ever; must run on a `LocalSet`.
pub(crate) async fn run(node: Rc<Node>, mut changes: mpsc::Receiver<Change>) {
    while let Some(change) = changes.recv().await {
        match change {
            Change::Is(object) => take(&node, object),
            Change::Gone(key) => {
                if let Some(pod) = node.pods.borrow().get(&key) {
                    pod.stop(0);
                    // One that was to follow has gone, too: it came before this change.
                    pod.take_follower();
                }
            }
            Change::Synced => {}
        }
    }
}

/// Keeps the files of volumes as the objects are that they come from, for ever.
pub(crate) async fn refresh_volumes(node: Rc<Node>) {
    loop {
        tokio::select! {
            () = node.configuration.notified() => {}
            () = tokio::time::sleep(tokens::pause(&node)) => {
                tokens::renew_due(&node).await;
                continue;
            }
        }
        let pods: Vec<_> = node.pods.borrow().values().cloned().collect();
        for pod in pods {
            volumes::refresh(&pod);
        }
    }
}

/// Starts a pod, or notes what changed of one that is here.
fn take(node: &Rc<Node>, object: Value) {
    if node.is_ending.get() {
        return;
    }
    let key = key_of(&object);
    let (pod, uid) = match read_pod(&object) {
        Ok(checked) => checked,
        Err(error) => {
            let here = node.pods.borrow().get(&key).cloned();
            match here.filter(|state| object["metadata"]["uid"] == *state.uid) {
                Some(state) => unreadable::keep(&state, &object, &error),
                None => _ = spawn_local(unreadable::refuse(Rc::clone(node), object, error)),
            }
            return;
        }
    };
    let here = node.pods.borrow().get(&key).cloned();
    match here {
        Some(state) if state.uid == uid => {
            if pod.metadata.deletion_timestamp.is_some() {
                let given = pod.metadata.deletion_grace_period_seconds;
                let own = || pod.spec.termination_grace_period_seconds.get().into();
                // A negative grace is none.
                state.stop(given.map_or_else(own, |seconds| u64::try_from(seconds).unwrap_or(0)));
            }
            state.update(pod, object);
        }
        // Another pod of the same name: it begins when the one before has ended.
        Some(state) => {
            state.stop(0);
            state.follow_with(object);
        }
        None if pod.metadata.deletion_timestamp.is_some() => forget(node, &key, pod, uid),
        None if pod.is_finished() => {}
        None => start(node, key, (pod, uid), object),
    }
}

/// Lets the object of a pod go that was told to end and of which nothing is here. One that was let go
/// already waits for others, which hold it by finalizers.
fn forget(node: &Rc<Node>, (namespace, name): &Key, pod: Pod, uid: PathName) {
    if pod.metadata.deletion_grace_period_seconds.is_some_and(|grace| grace <= 0) {
        return;
    }
    let (node, path) = (Rc::clone(node), format!("/api/v1/namespaces/{namespace}/pods/{name}"));
    spawn_local(async move { publish::delete_object(&node, &path, &uid).await });
}

fn start(node: &Rc<Node>, key: Key, (pod, uid): (Pod, PathName), object: Value) {
    let state = Rc::new(PodState::new(Rc::clone(node), pod, uid, object));
    node.pods.borrow_mut().insert(key.clone(), Rc::clone(&state));
    let node = Rc::clone(node);
    spawn_local(async move {
        pod::run(Rc::clone(&state)).await;
        node.pods.borrow_mut().remove(&key);
        node.note_topology();
        if let Some(next) = state.take_follower() {
            take(&node, next);
        }
    });
}
