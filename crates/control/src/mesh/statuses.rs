//! The one writer of statuses: what the mesh says about objects goes back to the source that they came
//! from.
//!
//! It follows what is published, some time behind ([`ControlLimits::status_pause`]), so that no push
//! waits for it. A status that says all already is not written; one that cannot be written is tried
//! again with growing pauses, made anew. Writing one changes no generation, and so nothing that proxies
//! are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::limits::ControlLimits;
use tokio::time::{Instant, sleep, sleep_until};

use super::Mesh;
use crate::plane::Plane;
use crate::source::{ObjectKey, StatusError};

/// Writes statuses until the process ends.
pub(crate) async fn write(plane: Arc<Plane>) {
    let limits = &plane.limits.control;
    let mut published = plane.mesh.published.subscribe();
    let mut failed = Failed::default();
    // Before the first snapshot nothing is known about several objects together.
    if published.wait_for(|published| published.revision > 0).await.is_err() {
        return;
    }
    loop {
        sleep(limits.status_pause).await;
        published.mark_unchanged();
        write_all(&plane, &mut failed).await;
        tokio::select! {
            changed = published.changed() => if changed.is_err() {
                return;
            },
            () = failed.until_next() => {}
        }
        failed.due(&plane.mesh);
    }
}

async fn write_all(plane: &Plane, failed: &mut Failed) {
    let limits = &plane.limits.control;
    loop {
        let (changes, is_all) = plane.mesh.status_changes(LOOKS_AT_ONCE, limits.status_bytes_max);
        for (key, change) in changes {
            if failed.waits(&key) {
                continue;
            }
            match plane.source.write_status(&key, &change).await {
                // What it is now is, or will be, among the changes of the source.
                Ok(()) | Err(StatusError::Outdated) => failed.forget(&key),
                Err(StatusError::Refused(why)) => {
                    let pause = failed.note(&key, limits);
                    tracing::warn!(%key, why, ?pause, "status not written; trying again");
                }
            }
        }
        if is_all {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// The objects whose status could not be written.
#[derive(Debug, Default)]
struct Failed(BTreeMap<ObjectKey, Retry>);

#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
    /// Whether its time has come.
    is_due: bool,
}

impl Failed {
    /// Notes that one could not be written. Returns how long it waits.
    fn note(&mut self, key: &ObjectKey, limits: &ControlLimits) -> Duration {
        let longest = limits.reconcile_pause_max;
        let pause = self.0.get(key).map_or(limits.reconcile_pause_min, |last| last.pause * 2);
        let pause = pause.min(longest);
        let retry = Retry { at: Instant::now() + pause, pause, is_due: false };
        self.0.insert(key.clone(), retry);
        pause
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }

    /// Whether the time of one that could not be written has not come.
    fn waits(&self, key: &ObjectKey) -> bool {
        self.0.get(key).is_some_and(|retry| !retry.is_due)
    }

    /// Waits until the next one is to be tried again; for ever if there is none.
    async fn until_next(&self) {
        match self.0.values().filter(|retry| !retry.is_due).map(|retry| retry.at).min() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Has those made again whose time has come.
    fn due(&mut self, mesh: &Mesh) {
        let now = Instant::now();
        // Those that were due and not tried had nothing to be written any more.
        self.0.retain(|_, retry| !retry.is_due);
        for (key, retry) in self.0.iter_mut().filter(|(_, retry)| retry.at <= now) {
            retry.is_due = true;
            mesh.look_again(key);
        }
    }
}

/// Objects that are looked at in one go; then others of the process have their turn.
const LOOKS_AT_ONCE: usize = 100;
