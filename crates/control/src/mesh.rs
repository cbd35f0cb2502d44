//! The mesh as the proxies know it: a snapshot that follows a source, and the server that pushes
//! it.
//!
//! Each object is translated when it changes, and only then; what follows from it for the model are
//! edits of the last snapshot. What these touch is pushed at once; only where hundreds of changes come
//! each second, those of a few milliseconds go out together (`Pace`). The first snapshot is made from
//! the whole source, so that no proxy is told less than it holds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ironmesh_dialects::{Join, Object, StatusChange, translate_one};
use ironmesh_identity::edge;
use ironmesh_model::credential::{Certificate, CredentialSource};
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::{Edit, Touched};
use ironmesh_model::{Finding, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::mesh::pace::Pace;
use crate::plane::{Plane, Refused};
use crate::source::{Change, Expired, ObjectKey, Source};

mod bare;
mod found;
mod members;
mod pace;
mod pods;
mod push;
mod statuses;

use found::Found;
pub(crate) use members::{Members, Trust, TrustError, subscriber};
use pods::Platform;
pub(crate) use push::serve;
pub(crate) use statuses::write;

/// The mesh at one version of its source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// What the proxies are told from.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Version of the source up to which this is current; 0: nothing was built yet.
    pub(crate) revision: u64,
}

/// Before anything of the source is known: the settings alone.
pub(crate) fn published(settings: &Settings) -> watch::Sender<Published> {
    let (snapshot, _) = Snapshot::default().edited(vec![Edit::Settings(settings.clone().into())]);
    watch::Sender::new(Published { snapshot: snapshot.into(), revision: 0 })
}

/// The present state of the mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    published: watch::Sender<Published>,
    /// As far as someone asked.
    found: Mutex<Found>,
    /// Serves the proxies.
    pub(crate) server: Arc<ironmesh_wire::Server<Members>>,
}

impl Mesh {
    /// A mesh that knows nothing yet; proxies wait for its first snapshot.
    pub(crate) fn new(
        server: Arc<ironmesh_wire::Server<Members>>,
        published: watch::Sender<Published>,
    ) -> Self {
        Self { published, found: Mutex::default(), server }
    }

    /// The mesh once it has caught up with a version of the source.
    ///
    /// # Errors
    ///
    /// If it has not within `longest` (`snapshot_wait`).
    pub(crate) async fn at(&self, revision: u64, longest: Duration) -> Result<Published, Refused> {
        let mut published = self.published.subscribe();
        let caught_up = published.wait_for(|published| published.revision >= revision);
        match timeout(longest, caught_up).await {
            // The sender lives as long as `self`, so waiting never fails.
            Ok(caught_up) => Ok(caught_up.map(|published| published.clone()).unwrap_or_default()),
            Err(_) => Err(Refused::Late(format!(
                "the mesh has not caught up with the latest change within {longest:?} \
                 (limits.control.snapshot_wait); ask again"
            ))),
        }
    }

    /// The findings about all objects, in order.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut found = self.found();
        let snapshot = self.published.borrow().snapshot.clone();
        found.all(&snapshot)
    }

    /// The findings about one object, in order.
    pub(crate) fn findings_about(&self, key: &ObjectKey) -> Vec<Finding> {
        let mut found = self.found();
        let snapshot = self.published.borrow().snapshot.clone();
        found.about(&snapshot, key)
    }

    /// What is to change in the statuses of objects (see [`Found::status_changes`]).
    fn status_changes(
        &self,
        looks_max: usize,
        bytes_max: usize,
    ) -> (Vec<(ObjectKey, StatusChange)>, bool) {
        let mut found = self.found();
        let snapshot = self.published.borrow().snapshot.clone();
        found.status_changes(&snapshot, looks_max, bytes_max)
    }

    /// Makes the status of an object again.
    fn look_again(&self, key: &ObjectKey) {
        self.found().look_again(key);
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a snapshot the present one. What it touches goes to the proxies; if that is nothing, it
    /// is the one before at a later version of the source.
    fn publish(&self, snapshot: Arc<Snapshot>, touched: &Touched, revision: u64) {
        let mut found = self.found();
        found.note(touched);
        self.server.publish(snapshot.clone(), touched);
        self.published.send_replace(Published { snapshot, revision });
    }
}

/// Keeps the mesh current until the process ends.
pub(crate) async fn follow(plane: Arc<Plane>) {
    let (source, mesh) = (&*plane.source, &plane.mesh);
    let mut changes = source.subscribe();
    let (mut follower, mut edits) = Follower::new(
        plane.settings.clone(),
        Platform { user_ids: plane.user_ids, keeps_claims: plane.keeps_claims },
    );
    let mut snapshot = Arc::<Snapshot>::default();
    let limits = &plane.limits.control;
    let mut pace = Pace::new(limits.publish_interval, limits.publish_burst, Instant::now());
    let mut revision = follower.read_all(source, mesh, &mut edits);
    loop {
        changes.mark_unchanged();
        let (next, touched) = snapshot.edited(std::mem::take(&mut edits));
        if !touched.is_nothing() {
            snapshot = Arc::new(next);
            pace.happens(Instant::now());
        }
        mesh.publish(snapshot.clone(), &touched, revision);
        if source.version() == revision && changes.changed().await.is_err() {
            return;
        }
        if pace.next() > Instant::now() {
            sleep_until(pace.next()).await;
        }
        match source.changes_after(revision) {
            Ok((changes, version)) => {
                revision = version;
                for Change { key, object } in changes {
                    edits.extend(match object {
                        None => follower.take(&key, mesh),
                        Some(object) => follower.put(&key, &object, mesh),
                    });
                }
            }
            Err(Expired) => revision = follower.read_all(source, mesh, &mut edits),
        }
    }
}

/// Why a certificate of a user cannot be used, if it cannot.
fn flaw(given: &CredentialSource) -> Option<String> {
    let own = match (&given.certificate, &given.key) {
        (Some(chain), Some(key)) => {
            edge::check(&Certificate { chain: chain.clone(), key: key.clone() })
        }
        (Some(_), None) => return Some("it has a certificate, but no key".to_owned()),
        (None, Some(_)) => return Some("it has a key, but no certificate".to_owned()),
        (None, None) => Ok(()),
    };
    let trusted = || edge::check_authorities(given.trusted.as_deref(), given.revoked.as_deref());
    own.and_then(|()| trusted()).err().map(|error| error.to_string())
}

/// Makes edits of what happens at the source.
#[derive(Debug)]
struct Follower {
    join: Join<ObjectKey>,
    platform: Platform,
}

impl Follower {
    fn new(settings: Settings, platform: Platform) -> (Self, Vec<Edit>) {
        let (join, edits) = Join::new(settings);
        (Self { join, platform }, edits)
    }

    /// Begins anew from all objects. Returns the version at which they were read.
    fn read_all(&mut self, source: &dyn Source, mesh: &Mesh, edits: &mut Vec<Edit>) -> u64 {
        let mut gone: BTreeSet<ObjectKey> = self.join.keys().cloned().collect();
        gone.extend(mesh.found().keys().cloned());
        let (objects, version) = source.list();
        for object in objects {
            let key = ObjectKey::of(&object);
            gone.remove(&key);
            edits.extend(self.put(&key, &object, mesh));
        }
        edits.extend(gone.iter().flat_map(|key| self.take(key, mesh)));
        version
    }

    /// An object came or changed.
    fn put(&mut self, key: &ObjectKey, object: &Object, mesh: &Mesh) -> Vec<Edit> {
        let mut translated = translate_one(object);
        if let Some(credential) = translated.credential_mut() {
            credential.flaw = flaw(credential);
        }
        let mut findings = std::mem::take(&mut translated.findings);
        findings.extend(pods::findings(object, self.platform));
        mesh.found().put(object, key, findings, translated.status.take());
        self.join.put(key.clone(), translated)
    }

    /// An object is gone.
    fn take(&mut self, key: &ObjectKey, mesh: &Mesh) -> Vec<Edit> {
        mesh.found().take(key);
        self.join.take(key)
    }
}
