//! What all threads of a proxy share.

use std::sync::atomic::{AtomicUsize, Ordering};

use ironmesh_model::Tick;
use ironmesh_model::limits::ProxyLimits;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connect::Connector;
use crate::given_tls::GivenTlsCache;
use crate::http::mirror::MirrorCounts;
use crate::http::window::Windows;

/// What all threads of a proxy share, whichever workloads they serve: what belongs to one workload
/// is in its [`LocalWorkload`](crate::workload::LocalWorkload). Nothing in it is locked on the way
/// of a request.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) limits: ProxyLimits,
    pub(crate) connector: Connector,
    /// What HTTP/2 peers were allowed to send.
    pub(crate) windows: Windows,
    /// What became of copies of requests.
    pub(crate) mirrors: MirrorCounts,
    /// TLS towards endpoints as policies say it.
    pub(crate) given_tls: GivenTlsCache,
    /// Open connections by worker.
    pub(crate) loads: Box<[AtomicUsize]>,
    started: Instant,
    drains: watch::Sender<bool>,
}

impl Process {
    pub(crate) fn new(limits: ProxyLimits, connector: Connector, workers: usize) -> Self {
        let loads = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        let (started, drains) = (Instant::now(), watch::Sender::new(false));
        let (windows, mirrors) = (Windows::default(), MirrorCounts::default());
        let given_tls = GivenTlsCache::default();
        Self { limits, connector, windows, mirrors, given_tls, loads, started, drains }
    }

    /// Now, as ejections count time.
    pub(crate) fn now(&self) -> Tick {
        let since = Instant::now().duration_since(self.started);
        // Never 0, which says that an endpoint was never ejected.
        Tick(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// Lets the workers end as soon as nothing is open any more. Workloads are told themselves.
    pub(crate) fn drain(&self) {
        self.drains.send_replace(true);
    }

    /// Waits until that has begun.
    pub(crate) async fn drains(&self) {
        let mut drains = self.drains.subscribe();
        // The sender is ours, so waiting cannot fail.
        let _ = drains.wait_for(|drains| *drains).await;
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }
}
