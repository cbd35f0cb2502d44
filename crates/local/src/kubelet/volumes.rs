//! The volumes of a pod: folders in the mesh's private memory, empty or filled from Secrets,
//! ConfigMaps and the downward API. Filled ones are read-only to containers, and follow their
//! objects.

mod files;

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use ironmesh_dialects::kubernetes::kinds::{Container, Volume, VolumeMount};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown};

use self::files::{VolumeFile, files};
use super::launch::Variables;
use super::pod::PodState;
use super::tokens;
use crate::environment::{self, BadConfig};
use crate::events::EventKind;
use crate::path_name::{BadPath, PathName, RelativePath};
use crate::sandbox::container::{Volume as Mount, VolumeSource};
use crate::sandbox::mesh::RUN_DIRECTORY;
use crate::sandbox::user_ranges::UserRange;
use crate::sandbox::{beneath, mounts};

/// Why the volumes of a pod cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    #[error("volume \"{volume}\": {source}")]
    Io { volume: String, source: io::Error },
    #[error("volume \"{volume}\": {source}")]
    Config { volume: String, source: BadConfig },
    #[error("volume \"{volume}\": {source}")]
    Path { volume: String, source: BadPath },
    #[error(
        "volume \"{volume}\": subPath {path:?} leads over a symbolic link, which is not followed"
    )]
    Symlink { volume: String, path: String },
    #[error("volume \"{volume}\": sizeLimit {size:?} is no amount of bytes, such as 64Mi")]
    Size { volume: String, size: String },
    #[error("volumeMount \"{0}\" names no volume of the pod")]
    NoVolume(String),
}

/// First of the users of the mesh's root that stand for those of a pod; none where there is only
/// one user.
pub(super) fn uid_base(state: &PodState) -> Option<u32> {
    state.users.as_ref().map(UserRange::base)
}

/// Makes all volumes of a pod.
pub(super) fn make(state: &PodState) -> Result<(), VolumeError> {
    let shared = shared_memory(state);
    if !shared.exists() {
        make_empty(state, &shared, SHARED_MEMORY_BYTES)
            .map_err(|error| io_error(SHARED_MEMORY, error))?;
    }
    refresh_api(state)?;
    let volumes = state.pod.borrow().spec.volumes.clone();
    volumes.iter().try_for_each(|volume| make_one(state, volume))
}

/// Makes the files by which containers come to the API what they are to be.
fn refresh_api(state: &PodState) -> Result<(), VolumeError> {
    let namespace = state.pod.borrow().metadata.namespace.clone();
    let Some(files) = state.tokens.of_api(&namespace) else { return Ok(()) };
    let file = |(name, content): (&str, String)| {
        let path = RelativePath::new(name)
            .map_err(|source| VolumeError::Path { volume: API.to_owned(), source })?;
        Ok(VolumeFile { path, content: content.into_bytes(), mode: 0o644 })
    };
    let files = files.into_iter().map(file).collect::<Result<Vec<_>, _>>()?;
    let folder = own_folder(state, API);
    own(uid_base(state), &folder, true).map_err(|error| io_error(API, error))?;
    fill(state, API, &folder, &files)
}

/// Brings the files of a pod's volumes to what the objects are now. What is missing meanwhile
/// stays as it was.
pub(super) fn refresh(state: &PodState) {
    if own_folder(state, API).exists()
        && let Err(error) = refresh_api(state)
    {
        tracing::warn!(%error, pod = state.pod.borrow().metadata.name, "a token is not current");
    }
    let volumes = state.pod.borrow().spec.volumes.clone();
    for volume in &volumes {
        let Ok(folder) = folder(state, &volume.name) else { continue };
        let Ok(Some(files)) = files(state, volume) else { continue };
        if !folder.exists() {
            continue;
        }
        if let Err(error) = fill(state, &volume.name, &folder, &files) {
            tracing::warn!(%error, pod = state.pod.borrow().metadata.name, "a volume is not current");
        }
    }
}

/// Removes all volumes of a pod.
pub(super) fn remove(state: &PodState) {
    let volumes = fs::read_dir(pod_folder(state));
    for volume in volumes.into_iter().flatten().flatten() {
        // First what is in it: its memory is free then, whoever still sees the mount. Most of them
        // are no mount points.
        let _ = fs::remove_dir_all(volume.path());
        let _ = umount2(&volume.path(), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    // What cannot be removed is gone with the mesh's memory.
    let _ = fs::remove_dir_all(pod_folder(state));
}

/// What is mounted in a container, and the descriptors that it refers to.
pub(super) fn mounts(
    state: &PodState,
    container: &Container,
    variables: &Variables,
) -> Result<(Vec<Mount>, Vec<OwnedFd>), VolumeError> {
    let pod = state.pod.borrow();
    let mut descriptors = Vec::new();
    let mut mount = |mount: &VolumeMount| {
        let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| VolumeError::NoVolume(mount.name.clone()))?;
        let sub_path = match mount.sub_path_expr.as_str() {
            "" => mount.sub_path.clone(),
            expression => environment::expand(expression, variables),
        };
        let claim = volume.persistent_volume_claim.as_ref();
        let source = if sub_path.is_empty() {
            VolumeSource::Path(source(state, volume)?)
        } else {
            descriptors.push(open_sub_path(state, volume, &sub_path)?);
            VolumeSource::Descriptor(descriptors.len() - 1)
        };
        Ok(Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only
                || is_of_files(volume)
                || claim.is_some_and(|claim| claim.read_only),
            mapped: claim.is_some(),
        })
    };
    // A volume of the manifest at the same path comes over it.
    let shared = Ok(Mount {
        source: VolumeSource::Path(shared_memory(state)),
        target: PathBuf::from("/dev/shm"),
        read_only: false,
        mapped: false,
    });
    let message = super::termination::file(state, container)
        .map_err(|error| io_error("terminationMessagePath", error));
    let api = own_folder(state, API);
    let api = (api.exists() && !tokens::are_hidden(container)).then(|| {
        Ok(Mount {
            source: VolumeSource::Path(api),
            target: PathBuf::from(tokens::FOLDER),
            read_only: true,
            mapped: false,
        })
    });
    let given = container.volume_mounts.iter().map(&mut mount);
    let mounts = [shared, message].into_iter().chain(api).chain(given).collect::<Result<_, _>>()?;
    Ok((mounts, descriptors))
}

/// The mount of a part of a volume, which is made as a folder if it is missing. No symlink is
/// followed: those in the volume are its containers'.
fn open_sub_path(
    state: &PodState,
    volume: &Volume,
    sub_path: &str,
) -> Result<OwnedFd, VolumeError> {
    let folder = source(state, volume)?;
    // What outlives the pod has no users of its own.
    let base = uid_base(state).filter(|_| volume.persistent_volume_claim.is_none());
    let volume = volume.name.as_str();
    let relative = RelativePath::new(sub_path)
        .map_err(|source| VolumeError::Path { volume: volume.to_owned(), source })?;
    let relative = relative.as_ref();
    let found = File::open(folder).map_err(|e| io_error(volume, e)).map(|root| {
        beneath::find(&root, relative).or_else(|errno| match errno {
            Errno::ENOENT => {
                let mode = Mode::from_bits_truncate(0o777);
                beneath::make_directories(&root, relative, mode, |made| {
                    fchown(made, base.map(Uid::from_raw), base.map(Gid::from_raw))
                })
            }
            errno => Err(errno),
        })
    })?;
    found.and_then(|found| mounts::clone_opened(&found)).map_err(|errno| match errno {
        Errno::ELOOP => {
            VolumeError::Symlink { volume: volume.to_owned(), path: sub_path.to_owned() }
        }
        errno => io_error(volume, errno.into()),
    })
}

fn make_one(state: &PodState, volume: &Volume) -> Result<(), VolumeError> {
    let name = &volume.name;
    let folder = folder(state, name)?;
    let files = files(state, volume)
        .map_err(|source| VolumeError::Config { volume: name.clone(), source })?;
    if let Some(files) = files {
        own(uid_base(state), &folder, true).map_err(|error| io_error(name, error))?;
        return fill(state, name, &folder, &files);
    }
    if volume.persistent_volume_claim.is_some() {
        return source(state, volume).map(drop);
    }
    if folder.exists() {
        return Ok(());
    }
    if volume.empty_dir.is_none() {
        let kind = if !volume.host_path.is_null() { "hostPath" } else { "its kind" };
        let message = format!(
            "volume \"{name}\": {kind} is not supported here; an empty folder stands for it"
        );
        state.event(None, EventKind::Warning, "VolumeNotSupported", message);
    }
    let limit = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref());
    let bytes = match limit {
        None => state.node.limits.platform.empty_dir_bytes_max,
        Some(limit) => limit
            .thousandths()
            .and_then(|amount| u64::try_from(amount.div_ceil(1000)).ok())
            .ok_or_else(|| VolumeError::Size { volume: name.clone(), size: limit.to_string() })?,
    };
    make_empty(state, &folder, bytes).map_err(|error| io_error(name, error))
}

/// An empty folder in memory of its own, so that a pod that fills it takes nobody else's.
pub(super) fn make_empty(state: &PodState, folder: &Path, bytes: u64) -> io::Result<()> {
    own(uid_base(state), folder, true)?;
    // Of size 0 the file system would have no limit at all.
    let options = format!("mode=0777,size={}", bytes.max(1));
    let mounted = mounts::fresh("tmpfs", folder, mounts::SAFE, &options).map_err(io::Error::other);
    if let Err(error) = mounted.and_then(|()| own(uid_base(state), folder, true)) {
        // The next try begins anew.
        let _ = fs::remove_dir(folder);
        return Err(error);
    }
    Ok(())
}

/// Makes the files of a volume what they are to be. Each is replaced as a whole, so that a
/// container that reads finds the old or the new one.
fn fill(
    state: &PodState,
    name: &str,
    folder: &Path,
    files: &[VolumeFile],
) -> Result<(), VolumeError> {
    let mut wanted = BTreeSet::new();
    for file in files {
        let path = folder.join(&file.path);
        write(uid_base(state), folder, &path, file).map_err(|error| io_error(name, error))?;
        wanted.insert(path);
    }
    remove_others(folder, &wanted).map_err(|error| io_error(name, error))
}

fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn write(base: Option<u32>, root: &Path, path: &Path, file: &VolumeFile) -> io::Result<()> {
    if fs::read(path).is_ok_and(|content| content == file.content) {
        return Ok(());
    }
    let mut folders: Vec<_> = path.ancestors().skip(1).take_while(|above| *above != root).collect();
    folders.reverse();
    for folder in folders {
        own(base, folder, true)?;
    }
    let new = root.join(NEW_FILE);
    fs::write(&new, &file.content)?;
    fs::set_permissions(&new, Permissions::from_mode(file.mode))?;
    own(base, &new, false)?;
    fs::rename(new, path)
}

/// Makes a folder that every user of the pod may write to, or gives a file to the pod's root user;
/// see [`uid_base`].
pub(super) fn own(base: Option<u32>, path: &Path, is_folder: bool) -> io::Result<()> {
    if is_folder {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o777))?;
    }
    match base {
        Some(base) => chown(path, Some(base), Some(base)),
        None => Ok(()),
    }
}

fn io_error(volume: &str, source: io::Error) -> VolumeError {
    VolumeError::Io { volume: volume.to_owned(), source }
}

/// The folder of a volume: the pod's own, or that of a claim.
fn source(state: &PodState, volume: &Volume) -> Result<PathBuf, VolumeError> {
    let Some(claim) = &volume.persistent_volume_claim else { return folder(state, &volume.name) };
    let namespace = state.pod.borrow().metadata.namespace.clone();
    let folder = state.node.claims.folder(&namespace, &claim.claim_name);
    folder.map_err(|error| io_error(&volume.name, error))
}

fn folder(state: &PodState, volume: &str) -> Result<PathBuf, VolumeError> {
    let name = PathName::label(volume)
        .map_err(|source| VolumeError::Path { volume: volume.to_owned(), source })?;
    Ok(pod_folder(state).join(name))
}

/// Whether the files of a volume are made from objects, so that containers only read them.
fn is_of_files(volume: &Volume) -> bool {
    volume.secret.is_some()
        || volume.config_map.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

fn shared_memory(state: &PodState) -> PathBuf {
    own_folder(state, SHARED_MEMORY)
}

/// A folder that is none of the pod's volumes, but goes with them.
pub(super) fn own_folder(state: &PodState, name: &str) -> PathBuf {
    pod_folder(state).join(name)
}

fn pod_folder(state: &PodState) -> PathBuf {
    Path::new(RUN_DIRECTORY).join("pods").join(&state.uid)
}

/// Name, which no volume of a manifest can have, of the pod's `/dev/shm`: its containers share an
/// IPC namespace.
const SHARED_MEMORY: &str = "..shm";
/// Its size, as container runtimes have it.
const SHARED_MEMORY_BYTES: u64 = 64 << 20;
/// Name of the folder with what containers need for the API.
const API: &str = "..api";
/// Name of a file of a volume before it is in its place.
const NEW_FILE: &str = "..new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_above_a_file_is_open_to_the_users_of_the_pod() {
        let root = tempfile::tempdir().unwrap();
        let path = RelativePath::new("a/b/c").unwrap();
        let file = VolumeFile { path, content: b"x".to_vec(), mode: 0o640 };
        write(None, root.path(), &root.path().join(&file.path), &file).unwrap();
        let mode =
            |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(["a", "a/b", "a/b/c"].map(mode), [0o777, 0o777, 0o640]);
        assert_eq!(fs::read(root.path().join("a/b/c")).unwrap(), b"x");
    }
}
