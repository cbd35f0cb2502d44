//! What all threads of a proxy share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    /// The same, to be looked at by every request.
    is_draining: AtomicBool,
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
        let (draining, is_draining) = (watch::Sender::new(false), AtomicBool::new(false));
        Self { limits, views, dialler, workload, loads, draining, is_draining }
    }

    /// Whether the proxy is going away.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Begins the drain: connections are closed after their request, and idle ones a little later.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
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
