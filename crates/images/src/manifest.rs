//! The documents of an image: index, manifest, configuration.
//!
//! As in the OCI image specification 1.1, and in Docker's schema 2, whose documents have the same
//! fields. What is not used is not read.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;

/// Where some content is, by its digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
}

/// What an image is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
}

/// A manifest, or an index of manifests: which of both is seen from the fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    #[serde(default)]
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

impl Document {
    /// An index of these manifests.
    pub(crate) fn index(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, config: None, layers: Vec::new(), manifests }
    }

    /// Reads one.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let document: Self = serde_json::from_slice(bytes).map_err(|error| {
            ImageError::Invalid(format!("the manifest cannot be read: {error}"))
        })?;
        if document.schema_version != 2 {
            let version = document.schema_version;
            let text = format!("a manifest of schema version {version}: only 2 is known");
            return Err(ImageError::Invalid(text));
        }
        Ok(document)
    }

    /// Of an index, the manifest for this machine; none if this is a manifest itself.
    pub(crate) fn for_this_machine(&self) -> Result<Option<&Descriptor>, ImageError> {
        if self.config.is_some() {
            return Ok(None);
        }
        let mut images = self.manifests.iter().filter(|manifest| !manifest.is_attestation());
        let fits = |descriptor: &&Descriptor| {
            descriptor.platform.as_ref().is_some_and(Platform::is_this_machine)
        };
        // One without a platform says in its configuration what it is for.
        let found = images.clone().find(fits).or_else(|| images.find(|m| m.platform.is_none()));
        found.map(Some).ok_or_else(|| {
            let known: Vec<String> = self
                .manifests
                .iter()
                .filter(|manifest| !manifest.is_attestation())
                .filter_map(|manifest| manifest.platform.as_ref().map(Platform::text))
                .collect();
            ImageError::Platform { known: known.join(", ") }
        })
    }
}

impl Descriptor {
    /// Whether it only says where an image comes from, as build tools add it.
    fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
    }
}

impl Platform {
    fn is_this_machine(&self) -> bool {
        self.os == OS && self.architecture == ARCHITECTURE
    }

    fn text(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }
}

/// The configuration of an image.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(flatten)]
    pub(crate) platform: Platform,
    #[serde(default)]
    pub(crate) config: Option<ImageConfig>,
    pub(crate) rootfs: RootFs,
}

/// The layers of an image.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RootFs {
    /// Digests of their tars, not compressed; the lowest layer first.
    #[serde(default)]
    pub(crate) diff_ids: Vec<Digest>,
}

/// What a container of an image runs, if nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `ENTRYPOINT`.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// `CMD`.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// `ENV`, each `NAME=VALUE`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// `USER`: a name or number, with `:` a group of its own; empty is root.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// `WORKDIR`; empty is `/`.
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
}

impl ImageConfig {
    /// The variables of `ENV`.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().filter_map(|pair| pair.split_once('='))
    }
}

/// `null` is the default, as Go writes what is empty.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ConfigFile {
    /// Reads one, of an image with so many layers.
    pub(crate) fn parse(bytes: &[u8], layers: usize) -> Result<Self, ImageError> {
        let config: Self = serde_json::from_slice(bytes).map_err(|error| {
            ImageError::Invalid(format!("the configuration cannot be read: {error}"))
        })?;
        let named = config.rootfs.diff_ids.len();
        if named != layers {
            let text = format!("it has {layers} layers, and its configuration names {named}");
            return Err(ImageError::Invalid(text));
        }
        let platform = &config.platform;
        if !platform.architecture.is_empty() && !platform.is_this_machine() {
            return Err(ImageError::Platform { known: platform.text() });
        }
        Ok(config)
    }
}

/// What images for this machine are made for.
pub(crate) const OS: &str = "linux";
/// The architecture in Go's words.
pub(crate) const ARCHITECTURE: &str = match () {
    () if cfg!(target_arch = "x86_64") => "amd64",
    () if cfg!(target_arch = "aarch64") => "arm64",
    () => std::env::consts::ARCH,
};

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn index(platforms: &[(&str, &str)]) -> Document {
        let manifests: Vec<_> = platforms
            .iter()
            .map(|(os, architecture)| {
                let platform = serde_json::json!({ "os": os, "architecture": architecture });
                serde_json::json!({ "digest": SHA, "size": 1, "platform": platform })
            })
            .collect();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        Document::parse(index.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn of_an_index_the_manifest_for_this_machine_is_taken() {
        let all = index(&[("unknown", "unknown"), ("linux", "s390x"), ("linux", ARCHITECTURE)]);
        let found = all.for_this_machine().unwrap().unwrap();
        assert_eq!(found.platform.as_ref().unwrap().architecture, ARCHITECTURE);
        let others = index(&[("linux", "s390x"), ("windows", "amd64")]);
        let error = others.for_this_machine().unwrap_err().to_string();
        assert!(error.contains("linux/s390x, windows/amd64"), "{error}");
        assert!(index(&[]).for_this_machine().is_err());
    }

    #[test]
    fn what_go_leaves_empty_is_empty() {
        let text = r#"{"architecture":"","config":{"Entrypoint":null,"Cmd":["a"],"Env":["A=b=c","D"]},
                      "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = ConfigFile::parse(text.as_bytes(), 0).unwrap().config.unwrap();
        assert_eq!((config.entrypoint.len(), config.cmd.len()), (0, 1));
        assert_eq!(config.variables().collect::<Vec<_>>(), [("A", "b=c")]);
    }

    #[test]
    fn documents_that_do_not_fit_are_refused() {
        assert!(Document::parse(br#"{"schemaVersion":1}"#).is_err());
        assert!(Document::parse(b"[]").is_err());
        let bad = r#"{"schemaVersion":2,"config":{"digest":"sha256:../x","size":1},"layers":[]}"#;
        assert!(Document::parse(bad.as_bytes()).is_err());
        assert!(ConfigFile::parse(br#"{"rootfs":{"diff_ids":[]}}"#, 1).is_err());
        let other = br#"{"os":"linux","architecture":"s390x","rootfs":{"diff_ids":[]}}"#;
        assert!(matches!(ConfigFile::parse(other, 0), Err(ImageError::Platform { .. })));
    }
}
