//! The view of one workload: read by each request once, replaced as a whole by the control thread.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use ironmesh_model::{ResourceKey, View};
use tokio::sync::{mpsc, watch};

/// The current view, and the way to ask for what it lacks.
#[derive(Debug)]
pub(crate) struct Views {
    current: ArcSwap<View>,
    changed: watch::Sender<()>,
    policies_changed: watch::Sender<()>,
    interests: mpsc::UnboundedSender<ResourceKey>,
    wanted: Mutex<Option<mpsc::UnboundedReceiver<ResourceKey>>>,
}

impl Views {
    /// Holds `view`.
    pub(crate) fn new(view: View) -> Self {
        let (interests, wanted) = mpsc::unbounded_channel();
        let current = ArcSwap::from_pointee(view);
        let (changed, policies_changed) = (watch::Sender::new(()), watch::Sender::new(()));
        let wanted = Mutex::new(Some(wanted));
        Self { current, changed, policies_changed, interests, wanted }
    }

    /// The keys that are asked for, given once, to whoever subscribes to them. How many wait there
    /// is bounded by `parked_requests_max` and the connections that are open.
    pub(crate) fn take_wanted(&self) -> Option<mpsc::UnboundedReceiver<ResourceKey>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The view of this moment. Cheap; not to be held over an await.
    pub(crate) fn load(&self) -> Guard<Arc<View>> {
        self.current.load()
    }

    /// The same, to be kept.
    pub(crate) fn load_full(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// Replaces the view and wakes whoever waits for a change.
    pub(crate) fn replace(&self, view: View) {
        let policies = view.policies();
        let before = self.current.swap(Arc::new(view));
        self.changed.send_replace(());
        if before.policies() != policies {
            self.policies_changed.send_replace(());
        }
    }

    /// Wakes whoever waits for a change, since something beside the view has changed.
    pub(crate) fn touch(&self) {
        self.changed.send_replace(());
    }

    /// Tells of every change after this call.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Tells of every change after this call of the policies that open connections are under.
    pub(crate) fn policy_changes(&self) -> watch::Receiver<()> {
        self.policies_changed.subscribe()
    }

    /// Asks for a resource.
    pub(crate) fn want(&self, key: ResourceKey) {
        // Without a control plane (in tests, or while the proxy ends) nobody listens.
        let _ = self.interests.send(key);
    }
}
