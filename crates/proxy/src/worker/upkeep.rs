//! What a worker does beside serving connections.

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::Worker;
use crate::idle::Watches;
use crate::memory::{self, Ebb};
use crate::workload::LocalWorkload;

/// Looks at the clock, and at the exchanges that are silent.
pub(super) async fn look(worker: Rc<Worker>) {
    let longest = worker.process.limits.exchange_idle_timeout;
    let mut tick = interval(Watches::interval(longest));
    // Late ones are not made up for.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        worker.watches.look(worker.process.now(), Watches::looks_max(longest));
    }
}

/// Closes connections to endpoints that have been idle for too long.
pub(super) async fn reap(worker: Rc<Worker>) {
    let mut tick = interval(REAP_INTERVAL);
    let mut ebb = Ebb::default();
    loop {
        tick.tick().await;
        worker.pool.reap(&worker.process.limits, &worker.buffers);
        worker.shrink();
        if ebb.came(worker.connections()) {
            memory::give_back();
        }
    }
}

/// Closes connections to endpoints that take no more requests as soon as the view of their workload
/// says so: before they close them themselves.
pub(super) async fn follow_endpoints(worker: Rc<Worker>, workload: Arc<LocalWorkload>) {
    let mut changes = workload.views.changes();
    let mut seen = 0;
    // Those that are in use at a change are given back after it.
    let mut look_again = None;
    loop {
        tokio::select! {
            () = until(look_again) => look_again = None,
            change = changes.changed() => {
                let now = workload.views.load().endpoint_changes();
                if change.is_err() {
                    return;
                }
                if std::mem::replace(&mut seen, now) == now {
                    continue;
                }
                look_again = Some(Instant::now() + LOOK_AGAIN_AFTER);
            }
        }
        worker.pool.keep_ready(&workload);
        // Changes come in bursts: the next look is at all that come meanwhile.
        sleep(KEEP_READY_PAUSE).await;
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Has connections looked at again whenever the policies that those of a workload are under have
/// changed.
pub(super) async fn follow_policies(worker: Rc<Worker>, workload: Arc<LocalWorkload>) {
    let mut changes = workload.views.policy_changes();
    while changes.changed().await.is_ok() {
        worker.disturbed.notify_waiters();
    }
}

/// Ends the series of metrics in which nothing is counted any more.
pub(super) async fn end_idle_series(worker: Rc<Worker>) {
    loop {
        sleep(worker.process.limits.metric_series_idle).await;
        worker.observer.end_idle_series();
    }
}

/// How often the pool is looked through.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// Time after a change of endpoints at which the pool is looked through once more.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Pause between two looks at the whole view for endpoints that are not ready any more.
const KEEP_READY_PAUSE: Duration = Duration::from_millis(100);
