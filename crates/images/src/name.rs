//! Names of images, in full.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The name of an image in full, by the rules of Docker: without a registry it is one of docker.io,
/// there without a folder one of `library`, and without tag and digest it is `latest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no name of an image: {why}")]
pub struct BadImageName {
    name: String,
    why: &'static str,
}

impl FromStr for ImageName {
    type Err = BadImageName;

    fn from_str(text: &str) -> Result<Self, BadImageName> {
        let bad = |why| BadImageName { name: text.to_owned(), why };
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let digest = digest.parse().map_err(|_| bad("its digest is no sha256"))?;
                (name, Some(digest))
            }
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if !tag.is_none_or(is_tag) {
            return Err(bad("its tag has other characters than letters, digits, '_', '.' and '-'"));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest)
            }
            _ => (DOCKER_HUB, name),
        };
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        if !is_registry(registry) {
            return Err(bad("its registry is no host"));
        }
        let repository = match path.contains('/') || registry != DOCKER_HUB {
            true => path.to_owned(),
            false => format!("library/{path}"),
        };
        if repository.len() > REPOSITORY_BYTES_MAX || !repository.split('/').all(is_part) {
            return Err(bad(
                "its parts are small letters and digits with single '.', '_' or '-' between them",
            ));
        }
        let tag = tag.or(digest.is_none().then_some("latest")).map(str::to_owned);
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl TryFrom<String> for ImageName {
    type Error = BadImageName;

    fn try_from(text: String) -> Result<Self, BadImageName> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.to_string()
    }
}

/// With its digest, if it has one, else with its tag.
impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

impl ImageName {
    /// The host of its registry, with its port if one is given.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Its tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// What it is to be, if the name says it.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository with a digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), tag: None, ..self.clone() }
    }

    /// Whether its registry is on this machine's loopback; it is asked by plain HTTP.
    #[must_use]
    pub fn is_on_loopback(&self) -> bool {
        is_loopback(&self.registry)
    }
}

/// Whether a host, with or without a port, is this machine's loopback.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']);
    let is_ip = name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    is_ip || name == "localhost" || name.ends_with(".localhost")
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_registry(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if let Some((ip, port)) = address {
        return ip.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
    }
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(is_part)
    };
    name.len() <= 253 && name.split('.').all(is_label) && (port.is_empty() || is_port(port))
}

/// Whether it is a colon and the number of a port.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Whether it is words of small letters and digits, with `.`, `_`, `__` or any number of `-` between.
fn is_part(part: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(is_word) && bytes.last().is_some_and(is_word);
    let between = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && between.into_iter().all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    })
}

const DOCKER_HUB: &str = "docker.io";
const REPOSITORY_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let digest = Digest::of(b"");
        for (text, full) in [
            ("redis", "docker.io/library/redis:latest"),
            ("index.docker.io/redis:7", "docker.io/library/redis:7"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("localhost/web", "localhost/web:latest"),
            ("localhost:5000/a/b:1.0_x", "localhost:5000/a/b:1.0_x"),
            ("[::1]:5000/a__b/c--d", "[::1]:5000/a__b/c--d:latest"),
            ("ghcr.io/a/b.c:v1", "ghcr.io/a/b.c:v1"),
        ] {
            assert_eq!(text.parse::<ImageName>().unwrap().to_string(), full, "{text}");
        }
        let both = format!("a/b:1@{digest}").parse::<ImageName>().unwrap();
        assert_eq!(both.to_string(), format!("docker.io/a/b@{digest}"));
        assert_eq!(both.tag(), Some("1"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(256);
        let bad = [
            "",
            ":1",
            "a:",
            "A",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a/../b",
            "a b",
            "a:b c",
            "a@sha256:0",
            "a@md5:00",
            "a_.b",
            "-a",
            "a-",
            "a___b",
            "host.io/",
            "ho st.io/a",
            "a.io:0/b",
            "a.io:x/b",
            "a\n",
            &long,
        ];
        for text in bad {
            assert!(text.parse::<ImageName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "a.localhost:1",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "localhost.evil.io", "127.0.0.1.evil.io", "10.0.0.1:5000", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
