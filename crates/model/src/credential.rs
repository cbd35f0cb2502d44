//! Certificates and keys that users give to the mesh, as opposed to those that it makes itself.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::{Name, ObjectId};

/// A text that nobody is to see, such as a private key. It shows as `[secret]` wherever it is printed or
/// written as JSON; only the wire protocol has it as it is.
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// What a `Secret` of Kubernetes has for TLS. All texts are PEM (RFC 7468).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSource {
    /// The object.
    pub id: ObjectId,
    /// The certificate with its chain, leaf first.
    pub certificate: Option<Name>,
    /// Its private key.
    pub key: Option<Secret>,
    /// Certificates of the authorities that are trusted.
    pub trusted: Option<Name>,
    /// Lists of certificates that were revoked.
    pub revoked: Option<Name>,
    /// Why it cannot be used, if somebody has looked and it cannot.
    pub flaw: Option<String>,
}

/// What a Secret has for TLS towards a destination, as far as the asker may have it. All texts are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientCredential {
    /// Name of the Secret, in the namespace of the asker.
    pub name: Name,
    /// The certificate that is shown, with its key.
    pub certificate: Option<Certificate>,
    /// Certificates of the authorities that are trusted.
    pub trusted: Option<Name>,
    /// Lists of certificates that were revoked.
    pub revoked: Option<Name>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Certificate {
    /// The certificate with its chain, leaf first, in PEM.
    pub chain: Name,
    /// Its private key, in PEM.
    pub key: Secret,
}

const HIDDEN: &str = "[secret]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let certificate = Certificate { chain: "chain".into(), key: "hush".into() };
        let shown = format!("{certificate:?}");
        assert!(shown.contains(HIDDEN) && !shown.contains("hush"), "{shown}");
        assert_eq!(certificate.key.reveal(), "hush");
    }
}
