//! Waiting for what the view does not hold yet.

use ironmesh_model::{Reason, ResourceKey, View};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::worker::Worker;

/// Calls `look` with the view until it finds what it looks for. What it names as missing is asked
/// for; `None` waits for something that needs no asking, such as a certificate.
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
    mut look: impl FnMut(&View) -> Result<T, Option<ResourceKey>>,
) -> Result<T, Failure> {
    let views = &worker.process.views;
    let limits = &worker.process.limits;
    let deadline = Instant::now() + limits.parked_wait;
    let _place = Place::take(worker, limits.parked_requests_max)?;
    // Before the first look, so that no change can slip through between the two.
    let mut changes = views.changes();
    let mut asked = None;
    loop {
        match look(&views.load()) {
            Ok(found) => return Ok(found),
            Err(missing) => {
                if missing != asked {
                    missing.clone().into_iter().for_each(|key| views.want(key));
                    asked = missing;
                }
            }
        }
        match timeout_at(deadline, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Failure::mesh(Reason::NotConfigured)),
        }
    }
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
