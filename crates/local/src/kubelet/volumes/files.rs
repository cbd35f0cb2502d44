//! The files of volumes that are made from Secrets, ConfigMaps and the downward API.

use crate::addresses::HOST_IP;
use crate::environment::{self, BadConfig, Objects};
use crate::kubelet::pod::PodState;
use crate::object::{Container, DownwardVolume, KeyToPath, KeyValues, ObjectVolume, Volume};
use crate::path_name::RelativePath;

/// A file of a volume.
#[derive(Debug)]
pub(super) struct VolumeFile {
    pub(super) path: RelativePath,
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
}

/// The files of a volume; none if it is an empty folder.
pub(super) fn files(
    state: &PodState,
    volume: &Volume,
) -> Result<Option<Vec<VolumeFile>>, BadConfig> {
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
        let file = |(key, content): (String, _)| {
            Ok(VolumeFile { path: RelativePath::new(&key)?, content, mode })
        };
        return values.into_iter().map(file).collect();
    }
    let mut files = Vec::new();
    for KeyToPath { key, path, mode: own_mode } in &volume.items {
        match values.remove(key) {
            Some(content) => files.push(VolumeFile {
                path: RelativePath::new(path)?,
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
            path: RelativePath::new(&item.path)?,
            content: content.into_bytes(),
            mode: item.mode.unwrap_or(mode),
        });
    }
    Ok(files)
}

/// Mode of files whose volume names none.
const DEFAULT_MODE: u32 = 0o644;
