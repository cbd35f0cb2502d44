//! Waiting for what the view does not hold yet.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::{Group, Reason, ResourceKey, View};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::names;
use crate::worker::Worker;
use crate::workload::LocalWorkload;

/// Calls `look` with the view of a workload until it finds what it looks for. What it names as missing is asked
/// for, and once more every second: an answer may have come and been given up again before it was
/// seen. `None` waits for something that needs no asking, such as a certificate.
///
/// # Errors
///
/// If it was not found within `parked_wait`, or too many wait already.
///
/// # Cancel safety
///
/// Nothing is lost but the place in the wait.
pub(crate) async fn until_found<T>(
    worker: &Worker,
    workload: &LocalWorkload,
    mut look: impl FnMut(&View) -> Result<T, Option<ResourceKey>>,
) -> Result<T, Failure> {
    let views = &workload.views;
    let limits = &worker.process.limits;
    let deadline = Instant::now() + limits.parked_wait;
    let _place = Place::take(worker, limits.parked_requests_max)?;
    // Before the first look, so that no change can slip through between the two.
    let mut changes = views.changes();
    let (mut asked, mut ask_again) = (None, Instant::now());
    loop {
        match look(&views.load()) {
            Ok(found) => return Ok(found),
            Err(missing) => {
                let now = Instant::now();
                if missing != asked || now >= ask_again {
                    missing.clone().into_iter().for_each(|key| views.want(key));
                    (asked, ask_again) = (missing, now + ASK_INTERVAL);
                }
            }
        }
        match timeout_at(deadline.min(ask_again), changes.changed()).await {
            Ok(Ok(())) => {}
            Err(_) if Instant::now() < deadline => {}
            Ok(Err(_)) | Err(_) => return Err(Failure::mesh(Reason::NotConfigured)),
        }
    }
}

/// Waits until it is known for what the names of a group's endpoints stand, or the host that a client
/// names; `false` if it was known, or
/// is not in time.
pub(crate) async fn resolved_now<'a>(
    worker: &Worker,
    workload: &LocalWorkload,
    group: Option<&Arc<Group>>,
    host: impl FnOnce() -> Option<Cow<'a, str>>,
) -> bool {
    let Some(group) = group else { return false };
    if let Some(name) = group.named(host().as_deref()) {
        return Box::pin(names::learn(worker, workload, &name)).await;
    }
    if !group.is_unresolved() {
        return false;
    }
    let look = |_: &View| if group.is_unresolved() { Err(None) } else { Ok(()) };
    // Boxed: rare, and otherwise it would make every request's future larger.
    Box::pin(until_found(worker, workload, look)).await.is_ok()
}

/// One of a bounded number of places to wait.
struct Place<'a>(&'a Worker);

impl<'a> Place<'a> {
    fn take(worker: &'a Worker, places: usize) -> Result<Self, Failure> {
        let parked = worker.parked.get();
        if parked >= places {
            return Err(Failure::mesh(Reason::Overloaded));
        }
        worker.parked.set(parked + 1);
        Ok(Self(worker))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.parked.set(self.0.parked.get() - 1);
    }
}

/// How often the same resource is asked for while it is waited for.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
