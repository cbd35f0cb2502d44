//! What all threads of a proxy share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ironmesh_model::limits::ProxyLimits;
use tokio::sync::watch;

use crate::connect::Dialler;
use crate::views::Views;
use crate::workload::LocalWorkload;

/// What all threads of a proxy share. Nothing in it is locked on the way of a request.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) limits: ProxyLimits,
    pub(crate) views: Views,
    pub(crate) dialler: Dialler,
    /// The workload that the process was started for. Connections name theirs themselves.
    pub(crate) workload: Arc<LocalWorkload>,
    /// Open connections by worker.
    pub(crate) loads: Box<[AtomicUsize]>,
    draining: watch::Sender<bool>,
}

impl Process {
    pub(crate) fn new(
        limits: ProxyLimits,
        views: Views,
        dialler: Dialler,
        workload: Arc<LocalWorkload>,
        workers: usize,
    ) -> Self {
        let loads = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        Self { limits, views, dialler, workload, loads, draining: watch::Sender::new(false) }
    }

    /// Whether the proxy is going away.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Begins the drain: workers stop to accept, open connections are closed after their request.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits until the drain begins.
    pub(crate) async fn drained(&self) {
        let mut draining = self.draining.subscribe();
        // The sender is ours, so waiting cannot fail.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }
}
