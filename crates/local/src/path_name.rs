//! Texts of manifests that become parts of paths: only checked ones do.

use std::fmt;
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};

/// A name that is one part of a path and no more: a DNS label or subdomain (RFC 1123), so never
/// empty, `.`, `..`, hidden, or with a slash.
///
/// The API refuses other names, too; but the agent acts on the host, and trusts nobody's check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PathName(String);

/// Why a text is no part of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPath {
    #[error("{0:?} is no RFC 1123 label: small letters, digits and '-', at most 63")]
    Label(String),
    #[error("{0:?} is no RFC 1123 subdomain: labels with '.' between, at most 253")]
    Subdomain(String),
    #[error("path {0:?} must be relative, and may neither hold \"..\" nor begin with it")]
    Relative(String),
}

impl PathName {
    /// A name that is a DNS label.
    pub(crate) fn label(text: &str) -> Result<Self, BadPath> {
        match is_label(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(BadPath::Label(text.to_owned())),
        }
    }

    /// A name that is a DNS subdomain, as names of pods are.
    pub(crate) fn subdomain(text: &str) -> Result<Self, BadPath> {
        match text.len() <= SUBDOMAIN_BYTES_MAX && text.split('.').all(is_label) {
            true => Ok(Self(text.to_owned())),
            false => Err(BadPath::Subdomain(text.to_owned())),
        }
    }
}

impl Deref for PathName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for PathName {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for PathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A path of a file in a volume: relative, without `..`, and not one of the names that are ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RelativePath(PathBuf);

impl RelativePath {
    /// Checks a path.
    pub(crate) fn new(text: &str) -> Result<Self, BadPath> {
        let path = Path::new(text);
        let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        // As in Kubernetes: names that begin with two dots are those of the volume's maker.
        let is_fine = !text.is_empty()
            && !text.starts_with("..")
            && !text.contains('\0')
            && path.components().all(stays);
        is_fine.then(|| Self(path.to_owned())).ok_or_else(|| BadPath::Relative(text.to_owned()))
    }
}

impl AsRef<Path> for RelativePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    bytes.len() <= LABEL_BYTES_MAX
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(is_inner)
}

/// Bytes of a DNS label (RFC 1123).
const LABEL_BYTES_MAX: usize = 63;
/// Bytes of a DNS subdomain, as Kubernetes counts.
const SUBDOMAIN_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for bad in [
            "", ".", "..", "../..", "../../..", "a/b", "/etc", "a\0", "a\n", "A", "-a", "a-",
            "..shm",
        ] {
            assert!(PathName::label(bad).is_err(), "{bad:?}");
            assert!(PathName::subdomain(bad).is_err(), "{bad:?}");
        }
        for bad in ["a..b", ".a", "a.", "a./b"] {
            assert!(PathName::subdomain(bad).is_err(), "{bad:?}");
        }
        assert!(PathName::label("a.b").is_err());
        assert!(PathName::label(&"a".repeat(64)).is_err());
        assert!(PathName::subdomain(&"a.".repeat(127)).is_err());
        assert_eq!(&*PathName::label("data-1").unwrap(), "data-1");
        assert_eq!(&*PathName::subdomain("web-0.example").unwrap(), "web-0.example");
    }

    #[test]
    fn what_leads_out_of_a_volume_is_no_path_in_it() {
        for bad in ["", "..", "../a", "/a", "a/../../b", "a/..", "..data", "..new", "a\0b"] {
            assert!(RelativePath::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", "a..b", "./a", "a/..b"] {
            assert_eq!(RelativePath::new(good).unwrap().as_ref(), Path::new(good));
        }
    }
}
