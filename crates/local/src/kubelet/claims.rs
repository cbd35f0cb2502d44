//! Claims of volumes: folders that outlive pods and whatever made them, under `--state`; without it
//! they are in the mesh's memory, and gone with it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ironmesh_dialects::kubernetes::kinds::PersistentVolumeClaim;
use ironmesh_dialects::schema::parse;
use ironmesh_model::limits::PlatformLimits;
use nix::mount::{MntFlags, umount2};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use super::pod::PodState;
use crate::node::Node;
use crate::path_name::PathName;
use crate::reflector::{Change, Reflector, follow, key_of};
use crate::sandbox::mounts;

/// The claims, and where their folders are.
pub(crate) struct Claims {
    objects: Reflector<PersistentVolumeClaim>,
    folder: PathBuf,
    /// Whether the folders are on a disk: else each is memory of its own.
    on_disk: bool,
    /// Of one in memory that does not say how much it holds.
    bytes_max: u64,
}

impl Claims {
    /// Those of a mesh whose control plane has its state in `control`: their folders are beside it.
    pub(crate) fn new(control: &Path, on_disk: bool, limits: &PlatformLimits) -> Self {
        let folder = control.with_file_name("volumes");
        let bytes_max = limits.empty_dir_bytes_max;
        Self { objects: Reflector::default(), folder, on_disk, bytes_max }
    }

    /// Whether a mesh that is started again from the same `--state` has them, too.
    pub(crate) fn are_kept(&self) -> bool {
        self.on_disk
    }

    /// The folder of a claim, which is made if it is not there.
    pub(super) fn folder(&self, namespace: &str, name: &str) -> io::Result<PathBuf> {
        let missing = || io::Error::other(format!("persistentvolumeclaim {name:?} not found"));
        let claim = self.objects.object(namespace, name).ok_or_else(missing)?;
        let folder = self.path(&claim.metadata.uid)?;
        if !folder.exists() {
            fs::create_dir_all(&self.folder)?;
            fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
            self.make(&claim, &folder)?;
        }
        Ok(folder)
    }

    fn path(&self, uid: &str) -> io::Result<PathBuf> {
        Ok(self.folder.join(PathName::label(uid).map_err(io::Error::other)?))
    }

    fn make(&self, claim: &PersistentVolumeClaim, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)?;
        let made = if self.on_disk {
            // All users of its pods write to it, as to an emptyDir.
            fs::set_permissions(folder, Permissions::from_mode(0o777))
        } else {
            let size = claim.spec.resources.requests.get("storage");
            let bytes =
                size.and_then(|size| u64::try_from(size.thousandths()?.div_ceil(1000)).ok());
            // Of size 0 the file system would have no limit at all.
            let options = format!("mode=0777,size={}", bytes.unwrap_or(self.bytes_max).max(1));
            mounts::fresh("tmpfs", folder, mounts::SAFE, &options).map_err(io::Error::other)
        };
        if made.is_err() {
            // The next try begins anew.
            let _ = fs::remove_dir(folder);
        }
        made
    }

    /// Removes the folder of a claim that is gone.
    fn remove(&self, uid: &str) {
        let Ok(folder) = self.path(uid) else { return };
        if !folder.exists() {
            return;
        }
        let emptied = fs::remove_dir_all(&folder);
        if !self.on_disk {
            // What was in it is gone by now, or goes with the last who sees the mount.
            let _ = umount2(&folder, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            let _ = fs::remove_dir(&folder);
        } else if let Err(error) = emptied {
            tracing::warn!(%error, folder = %folder.display(), "files of a claim are left");
        }
    }
}

/// A claim of a pod that is not there.
pub(super) fn missing(state: &PodState) -> Option<String> {
    let pod = state.pod.borrow();
    let claims = pod.spec.volumes.iter().filter_map(|v| v.persistent_volume_claim.as_ref());
    let mut names = claims.map(|claim| &claim.claim_name);
    let is_missing =
        |name: &&String| state.node.claims.objects.object(&pod.metadata.namespace, name).is_none();
    names.find(is_missing).cloned()
}

/// Begins to follow the claims of the API; returns when all that are there now are known.
pub(crate) async fn follow_all(node: &Rc<Node>) {
    let (sender, mut changes) = mpsc::channel(node.limits.platform.changes_waiting_max);
    spawn_local(follow(node.api.clone(), "/api/v1/persistentvolumeclaims", sender));
    let synced = Rc::new(Notify::new());
    let (tell, node) = (Rc::clone(&synced), Rc::clone(node));
    spawn_local(async move {
        while let Some(change) = changes.recv().await {
            let claims = &node.claims;
            match change {
                Change::Is(object) => match parse(&object) {
                    Ok(claim) => claims.objects.insert(key_of(&object), claim),
                    Err(error) => tracing::warn!(%error, "a claim cannot be read"),
                },
                Change::Gone(key) => {
                    let gone = claims.objects.object(&key.0, &key.1);
                    claims.objects.remove(&key);
                    if let Some(gone) = gone {
                        claims.remove(&gone.metadata.uid);
                    }
                }
                Change::Synced => tell.notify_one(),
            }
        }
    });
    synced.notified().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(uid: &str) -> PersistentVolumeClaim {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.uid = uid.to_owned();
        claim
    }

    #[test]
    fn a_claim_keeps_its_folder_and_another_of_its_name_has_another() {
        let root = tempfile::tempdir().unwrap();
        let claims = Claims::new(&root.path().join("control"), true, &PlatformLimits::default());
        let key = || ("shop".to_owned(), "data".to_owned());
        claims.folder("shop", "data").unwrap_err();
        claims.objects.insert(key(), claim("1"));
        let folder = claims.folder("shop", "data").unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o777);
        let outer = fs::metadata(folder.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(outer & 0o777, 0o700);
        fs::write(folder.join("file"), "x").unwrap();
        assert_eq!(claims.folder("shop", "data").unwrap(), folder);
        claims.objects.insert(key(), claim("2"));
        assert_ne!(claims.folder("shop", "data").unwrap(), folder);
        claims.remove("1");
        assert!(!folder.exists());
        // What is no name of a folder is none of ours.
        for bad in ["..", "../volumes", "", "/"] {
            claims.objects.insert(key(), claim(bad));
            claims.folder("shop", "data").unwrap_err();
            claims.remove(bad);
        }
        assert!(claims.folder.join("2").exists());
    }
}
