//! The volumes of a pod: folders in the mesh's private memory, filled from Secrets, ConfigMaps and
//! the downward API.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use super::launch::Variables;
use super::pod::PodState;
use crate::local::environment::{self, BadConfig, Objects};
use crate::local::events::EventKind;
use crate::local::object::{
    Container, DownwardVolume, KeyToPath, KeyValues, ObjectVolume, Volume, VolumeMount,
};
use crate::local::pod_status::HOST_IP;
use crate::sandbox::container::{Volume as Mount, VolumeSource};
use crate::sandbox::mesh::RUN_DIRECTORY;

/// Why the volumes of a pod cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    #[error("volume \"{volume}\": {source}")]
    Io { volume: String, source: io::Error },
    #[error("volume \"{volume}\": {source}")]
    Config { volume: String, source: BadConfig },
    #[error("volume \"{volume}\": path {path:?} must be relative and may not hold \"..\"")]
    Path { volume: String, path: String },
    #[error("volumeMount \"{0}\" names no volume of the pod")]
    NoVolume(String),
}

/// A file of a volume.
struct VolumeFile {
    path: String,
    content: Vec<u8>,
    mode: u32,
}

/// First of the users of the mesh's root that stand for those of a pod; none where there is only
/// one user.
pub(super) fn uid_base(state: &PodState) -> Option<u32> {
    let ip = state.ip().filter(|_| state.node.root)?;
    let index = u32::from(ip) & 0x7fff;
    Some(FIRST_UID_BASE + (index << 16))
}

/// Makes all volumes of a pod.
pub(super) fn make(state: &PodState) -> Result<(), VolumeError> {
    let volumes = state.pod.borrow().spec.volumes.clone();
    for volume in &volumes {
        let folder = folder(state, &volume.name);
        make_one(state, volume, &folder)?;
    }
    Ok(())
}

/// Removes all volumes of a pod.
pub(super) fn remove(state: &PodState) {
    // What cannot be removed is gone with the mesh's memory.
    let _ = fs::remove_dir_all(pod_folder(state));
}

/// What is mounted in a container.
pub(super) fn mounts(
    state: &PodState,
    container: &Container,
    variables: &Variables,
) -> Result<Vec<Mount>, VolumeError> {
    let pod = state.pod.borrow();
    let mount = |mount: &VolumeMount| {
        if !pod.spec.volumes.iter().any(|volume| volume.name == mount.name) {
            return Err(VolumeError::NoVolume(mount.name.clone()));
        }
        let mut source = folder(state, &mount.name);
        let sub_path = match mount.sub_path_expr.as_str() {
            "" => mount.sub_path.clone(),
            expression => environment::expand(expression, variables),
        };
        if !sub_path.is_empty() {
            let sub_path = inside(&mount.name, &sub_path)?;
            let is_there = source.join(&sub_path).exists();
            for part in &sub_path {
                source.push(part);
                if !is_there {
                    own(state, &source, true).map_err(|e| io_error(&mount.name, e))?;
                }
            }
        }
        Ok(Mount {
            source: VolumeSource::Path(source),
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only,
        })
    };
    container.volume_mounts.iter().map(mount).collect()
}

fn make_one(state: &PodState, volume: &Volume, folder: &Path) -> Result<(), VolumeError> {
    let name = &volume.name;
    own(state, folder, true).map_err(|error| io_error(name, error))?;
    let files = files(state, volume)
        .map_err(|source| VolumeError::Config { volume: name.clone(), source })?;
    let Some(files) = files else {
        let kind = if volume.host_path.is_some() { "hostPath" } else { "its kind" };
        if volume.empty_dir.is_none() {
            let message = format!(
                "volume \"{name}\": {kind} is not supported here; an empty folder stands for it"
            );
            state.event(None, EventKind::Warning, "VolumeNotSupported", message);
        }
        return Ok(());
    };
    for file in files {
        let path = folder.join(inside(name, &file.path)?);
        write(state, folder, &path, &file).map_err(|error| io_error(name, error))?;
    }
    Ok(())
}

/// The files of a volume; none if it is an empty folder.
fn files(state: &PodState, volume: &Volume) -> Result<Option<Vec<VolumeFile>>, BadConfig> {
    let mode = |mode: Option<u32>| mode.unwrap_or(DEFAULT_MODE);
    let mut files = Vec::new();
    if let Some(secret) = &volume.secret {
        files.extend(object_files(state, secret, true, mode(secret.default_mode))?);
    } else if let Some(map) = &volume.config_map {
        files.extend(object_files(state, map, false, mode(map.default_mode))?);
    } else if let Some(downward) = &volume.downward_api {
        files.extend(downward_files(state, downward, mode(downward.default_mode))?);
    } else if let Some(projected) = &volume.projected {
        let default = mode(projected.default_mode);
        for source in &projected.sources {
            if let Some(secret) = &source.secret {
                files.extend(object_files(state, secret, true, default)?);
            }
            if let Some(map) = &source.config_map {
                files.extend(object_files(state, map, false, default)?);
            }
            if let Some(downward) = &source.downward_api {
                files.extend(downward_files(state, downward, default)?);
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

fn object_files(
    state: &PodState,
    volume: &ObjectVolume,
    is_secret: bool,
    mode: u32,
) -> Result<Vec<VolumeFile>, BadConfig> {
    let namespace = state.pod.borrow().metadata.namespace.clone();
    let (kind, found) = if is_secret {
        ("secret", state.node.secret(&namespace, &volume.name))
    } else {
        ("configmap", state.node.config_map(&namespace, &volume.name))
    };
    let object: KeyValues = match found {
        Some(object) => object,
        None if volume.optional => return Ok(Vec::new()),
        None => return Err(BadConfig::NoObject { kind, name: volume.name.clone() }),
    };
    let mut values = environment::values(&object, is_secret)?;
    if volume.items.is_empty() {
        let file = |(path, content)| VolumeFile { path, content, mode };
        return Ok(values.into_iter().map(file).collect());
    }
    let mut files = Vec::new();
    for KeyToPath { key, path, mode: own_mode } in &volume.items {
        match values.remove(key) {
            Some(content) => files.push(VolumeFile {
                path: path.clone(),
                content,
                mode: own_mode.unwrap_or(mode),
            }),
            None if volume.optional => {}
            None => {
                let (name, key) = (volume.name.clone(), key.clone());
                return Err(BadConfig::NoKey { kind, namespace, name, key });
            }
        }
    }
    Ok(files)
}

fn downward_files(
    state: &PodState,
    volume: &DownwardVolume,
    mode: u32,
) -> Result<Vec<VolumeFile>, BadConfig> {
    let pod = state.pod.borrow();
    let ip = state.ip().map(|ip| ip.to_string()).unwrap_or_default();
    let mut files = Vec::new();
    for item in &volume.items {
        let content = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => environment::field(&field.field_path, &pod, &ip, HOST_IP)?,
            (None, Some(resource)) => environment::resource(resource, &pod, &Container::default())?,
            (None, None) => continue,
        };
        files.push(VolumeFile {
            path: item.path.clone(),
            content: content.into_bytes(),
            mode: item.mode.unwrap_or(mode),
        });
    }
    Ok(files)
}

fn write(state: &PodState, root: &Path, path: &Path, file: &VolumeFile) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| *parent != root) {
        own(state, parent, true)?;
    }
    fs::write(path, &file.content)?;
    fs::set_permissions(path, Permissions::from_mode(file.mode))?;
    own(state, path, false)
}

/// Makes a folder that every user of the pod may write to, or gives a file to the pod's root user.
fn own(state: &PodState, path: &Path, is_folder: bool) -> io::Result<()> {
    if is_folder {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o777))?;
    }
    match uid_base(state) {
        Some(base) => chown(path, Some(base), Some(base)),
        None => Ok(()),
    }
}

/// A path of a file inside a volume.
fn inside(volume: &str, path: &str) -> Result<PathBuf, VolumeError> {
    let relative = Path::new(path);
    if relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(relative.to_owned());
    }
    Err(VolumeError::Path { volume: volume.to_owned(), path: path.to_owned() })
}

fn io_error(volume: &str, source: io::Error) -> VolumeError {
    VolumeError::Io { volume: volume.to_owned(), source }
}

fn folder(state: &PodState, volume: &str) -> PathBuf {
    pod_folder(state).join(volume)
}

fn pod_folder(state: &PodState) -> PathBuf {
    Path::new(RUN_DIRECTORY).join("pods").join(&state.uid)
}

/// Mode of files whose volume names none.
const DEFAULT_MODE: u32 = 0o644;
/// First user of the first pod, well above the users of a machine.
const FIRST_UID_BASE: u32 = 0x4000_0000;
