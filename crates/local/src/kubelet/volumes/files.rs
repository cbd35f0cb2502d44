//! The files of volumes that are made from Secrets, ConfigMaps and the downward API.

use ironmesh_dialects::kubernetes::kinds::{
    ConfigMapVolume, Container, DownwardItem, KeyToPath, ProjectedObject, SecretVolume, Volume,
};
use ironmesh_dialects::schema::Bounded;

use crate::addresses::HOST_IP;
use crate::environment::{self, BadConfig, Holder, Objects};
use crate::kubelet::pod::PodState;
use crate::path_name::RelativePath;

/// A file of a volume.
#[derive(Debug)]
pub(super) struct VolumeFile {
    pub(super) path: RelativePath,
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
}

/// An object whose values become files.
struct Source<'a> {
    kind: Holder,
    name: &'a str,
    items: &'a [KeyToPath],
    optional: bool,
    mode: u32,
}

/// The files of a volume; none if it is an empty folder.
pub(super) fn files(
    state: &PodState,
    volume: &Volume,
) -> Result<Option<Vec<VolumeFile>>, BadConfig> {
    let files = if let Some(SecretVolume { secret_name, items, default_mode, optional }) =
        &volume.secret
    {
        let (kind, mode) = (Holder::Secret, default_mode.get());
        object_files(state, Source { kind, name: secret_name, items, optional: *optional, mode })?
    } else if let Some(ConfigMapVolume { name, items, default_mode, optional }) = &volume.config_map
    {
        let (kind, mode) = (Holder::ConfigMap, default_mode.get());
        object_files(state, Source { kind, name, items, optional: *optional, mode })?
    } else if let Some(downward) = &volume.downward_api {
        downward_files(state, &downward.items, downward.default_mode.get())?
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.get();
        let mut files = Vec::new();
        for source in &projected.sources {
            for (kind, object) in
                [(Holder::Secret, &source.secret), (Holder::ConfigMap, &source.config_map)]
            {
                if let Some(ProjectedObject { name, items, optional }) = object {
                    let source = Source { kind, name, items, optional: *optional, mode };
                    files.extend(object_files(state, source)?);
                }
            }
            if let Some(asked) = &source.service_account_token
                && let Some(token) = state.tokens.projected(asked)
            {
                let path = RelativePath::new(&asked.path)?;
                files.push(VolumeFile { path, content: token.into_bytes(), mode });
            }
            if let Some(downward) = &source.downward_api {
                files.extend(downward_files(state, &downward.items, mode)?);
            }
        }
        files
    } else {
        return Ok(None);
    };
    Ok(Some(files))
}

fn object_files(state: &PodState, source: Source<'_>) -> Result<Vec<VolumeFile>, BadConfig> {
    let Source { kind, name, items, optional, mode } = source;
    let namespace = state.pod.borrow().metadata.namespace.clone();
    let mut values = match state.node.values(kind, &namespace, name)? {
        Some(values) => values,
        None if optional => return Ok(Vec::new()),
        None => return Err(BadConfig::NoObject { kind, name: name.to_owned() }),
    };
    if items.is_empty() {
        let file = |(key, content): (String, _)| {
            Ok(VolumeFile { path: RelativePath::new(&key)?, content, mode })
        };
        return values.into_iter().map(file).collect();
    }
    let mut files = Vec::new();
    for KeyToPath { key, path, mode: own_mode } in items {
        match values.remove(key) {
            Some(content) => files.push(VolumeFile {
                path: RelativePath::new(path)?,
                content,
                mode: own_mode.map_or(mode, Bounded::get),
            }),
            None if optional => {}
            None => {
                let (name, key) = (name.to_owned(), key.clone());
                return Err(BadConfig::NoKey { kind, namespace, name, key });
            }
        }
    }
    Ok(files)
}

fn downward_files(
    state: &PodState,
    items: &[DownwardItem],
    mode: u32,
) -> Result<Vec<VolumeFile>, BadConfig> {
    let pod = state.pod.borrow();
    let ip = state.ip().map(|ip| ip.to_string()).unwrap_or_default();
    let mut files = Vec::new();
    for item in items {
        let content = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => environment::field(&field.field_path, &pod, &ip, HOST_IP)?,
            (None, Some(resource)) => environment::resource(resource, &pod, &Container::default())?,
            (None, None) => continue,
        };
        files.push(VolumeFile {
            path: RelativePath::new(&item.path)?,
            content: content.into_bytes(),
            mode: item.mode.map_or(mode, Bounded::get),
        });
    }
    Ok(files)
}
