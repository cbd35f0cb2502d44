//! A node that is cordoned: pods that come wait until it takes them again.

use std::cell::Cell;
use std::rc::Rc;

use ironmesh_dialects::kubernetes::kinds::Node as NodeObject;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use super::pod::PodState;
use crate::events::EventKind;
use crate::node::Node;
use crate::reflector::{Change, follow};

/// Whether the node takes pods.
#[derive(Default)]
pub(crate) struct Cordon {
    is_up: Cell<bool>,
    /// Rung when it is taken away.
    lifted: Notify,
}

/// Waits until the node takes the pod. Until then it is Pending, with a reason. Pods of DaemonSets, and
/// those that have run here before, wait for nothing.
pub(super) async fn wait(state: &PodState) {
    let has_run = state.object.borrow().pointer("/status/startTime").is_some();
    if has_run || is_of_daemon_set(state) {
        return;
    }
    while state.node.cordon.is_up.get() {
        let lifted = state.node.cordon.lifted.notified();
        if state.record.borrow().unscheduled.is_none() {
            state.record.borrow_mut().unscheduled = Some(CORDONED.to_owned());
            state.note_change();
            state.event(None, EventKind::Warning, "FailedScheduling", CORDONED);
        }
        lifted.await;
    }
    if state.record.borrow_mut().unscheduled.take().is_some() {
        state.note_change();
    }
}

fn is_of_daemon_set(state: &PodState) -> bool {
    let pod = state.pod.borrow();
    pod.metadata.owner_references.iter().any(|owner| owner.kind == "DaemonSet")
}

/// Begins to follow the node of the API; returns when it is known.
pub(crate) async fn follow_node(node: &Rc<Node>) {
    let (sender, mut changes) = mpsc::channel(node.limits.platform.changes_waiting_max);
    spawn_local(follow(node.api.clone(), "/api/v1/nodes", sender));
    let synced = Rc::new(Notify::new());
    let (tell, node) = (Rc::clone(&synced), Rc::clone(node));
    spawn_local(async move {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Is(object) => {
                    let is_up = NodeObject::of(&object).spec().unschedulable();
                    if node.cordon.is_up.replace(is_up) && !is_up {
                        node.cordon.lifted.notify_waiters();
                    }
                }
                Change::Gone(_) => {}
                Change::Synced => tell.notify_one(),
            }
        }
    });
    synced.notified().await;
}

/// What a pod waits for, as Kubernetes' scheduler says it.
const CORDONED: &str = "0/1 nodes are available: 1 node(s) were unschedulable.";
