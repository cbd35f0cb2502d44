//! What all threads of a proxy share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::{ListenerKind, Tick};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connect::Dialler;
use crate::http::window::Windows;
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
    /// What HTTP/2 peers were allowed to send.
    pub(crate) windows: Windows,
    /// Open connections by worker.
    pub(crate) loads: Box<[AtomicUsize]>,
    started: Instant,
    phase: watch::Sender<Phase>,
    /// The same, to be looked at by every request.
    phase_now: AtomicU8,
}

/// How far the proxy is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It serves.
    Serves,
    /// Its workload is told to end: callers are sent elsewhere, one answer after the other, while
    /// what they still send is served, and the workload's own calls go on as before.
    SendsAway,
    /// It ends itself as soon as nothing is open any more.
    Drains,
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
        let phase = watch::Sender::new(Phase::Serves);
        let phase_now = AtomicU8::new(Phase::Serves as u8);
        let started = Instant::now();
        let windows = Windows::default();
        Self { limits, views, dialler, workload, windows, loads, started, phase, phase_now }
    }

    /// Now, as ejections count time.
    pub(crate) fn now(&self) -> Tick {
        let since = Instant::now().duration_since(self.started);
        // Never 0, which says that an endpoint was never ejected.
        Tick(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// Whether clients of a listener are to be sent elsewhere.
    pub(crate) fn sends_away(&self, listener: ListenerKind) -> bool {
        let from = match listener {
            ListenerKind::Outbound => Phase::Drains,
            ListenerKind::Inbound | ListenerKind::Gateway => Phase::SendsAway,
        };
        self.phase_now.load(Ordering::Relaxed) >= from as u8
    }

    /// Whether the proxy or its workload is going away.
    pub(crate) fn is_leaving(&self) -> bool {
        self.phase_now.load(Ordering::Relaxed) > Phase::Serves as u8
    }

    /// Begins to send callers elsewhere, as the workload is told to end.
    pub(crate) fn send_away(&self) {
        self.enter(Phase::SendsAway);
    }

    /// Begins the drain: connections are closed after their request, and idle ones a little later.
    pub(crate) fn drain(&self) {
        self.enter(Phase::Drains);
    }

    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_news = *phase < next;
            *phase = next.max(*phase);
            self.phase_now.store(*phase as u8, Ordering::Relaxed);
            is_news
        });
    }

    /// Waits until a phase has begun.
    pub(crate) async fn begins(&self, phase: Phase) {
        let mut current = self.phase.subscribe();
        // The sender is ours, so waiting cannot fail.
        let _ = current.wait_for(|current| *current >= phase).await;
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }
}
