//! Attestation: how the control plane knows which workload a proxy serves.
//!
//! On the local platform the agent starts the proxies and signs a token for each, with a key that it
//! shares with the control plane, which therefore keeps no state about them.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::{Identity, Name};
use serde::{Deserialize, Serialize};

use crate::random;
use crate::random::NoRandomness;

/// What a token says about its workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Namespace of the workload.
    pub namespace: Name,
    /// Its service account.
    pub service_account: Name,
    /// Name of the pod.
    pub pod: Name,
    /// Uid of the pod.
    pub uid: Name,
    /// Its address.
    pub ip: IpAddr,
    /// What the proxy is.
    pub kind: ProxyKind,
}

impl Claims {
    /// The identity of these claims in a trust domain. It depends on nothing else.
    pub fn identity(&self, trust_domain: impl Into<Name>) -> Identity {
        Identity {
            trust_domain: trust_domain.into(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
        }
    }
}

/// The key that signs and verifies tokens (HMAC-SHA256). Its `Debug` form hides it.
#[derive(Clone)]
pub struct TokenKey([u8; KEY_BYTES]);

impl TokenKey {
    /// A new random key.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes.
    pub fn generate() -> Result<Self, TokenError> {
        Ok(Self(random::bytes()?))
    }

    /// The key that [`TokenKey::to_hex`] returned.
    ///
    /// # Errors
    ///
    /// If `text` is not 64 hex digits.
    pub fn from_hex(text: &str) -> Result<Self, TokenError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| TokenError::BadKey)?;
        Ok(Self(bytes.try_into().map_err(|_| TokenError::BadKey)?))
    }

    /// The key in hex. Secret.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// A token that proves `claims` to anyone who has the key.
    pub fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_string(claims).expect("claims are plain text and numbers");
        let claims = HEXLOWER.encode(claims.as_bytes());
        let tag = hmac::sign(&self.hmac(), claims.as_bytes());
        format!("{claims}.{}", HEXLOWER.encode(tag.as_ref()))
    }

    /// The claims of a token, if it was signed with this key.
    ///
    /// # Errors
    ///
    /// If it was not, or is not a token at all.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let (claims, tag) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let tag = HEXLOWER.decode(tag.as_bytes()).map_err(|_| TokenError::Malformed)?;
        // Compares in constant time.
        hmac::verify(&self.hmac(), claims.as_bytes(), &tag)
            .map_err(|_| TokenError::WrongSignature)?;
        let claims = HEXLOWER.decode(claims.as_bytes()).map_err(|_| TokenError::Malformed)?;
        serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed)
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// A token or key that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It does not have the form of a token.
    #[error("the token is malformed; start the proxy again to give it a new one")]
    Malformed,
    /// It was signed with another key, or modified.
    #[error(
        "the token was not signed by this mesh's agent; start the proxy again to give it a new one"
    )]
    WrongSignature,
    /// The key is not 32 bytes in hex.
    #[error("the token key is not 64 hex digits")]
    BadKey,
    /// The system has no random bytes.
    #[error("token key: {0}")]
    NoRandomness(#[from] NoRandomness),
}

/// Finds out which workload holds a token.
pub trait Attest: Send + Sync {
    /// What the token proves.
    ///
    /// # Errors
    ///
    /// If it proves nothing.
    fn attest(&self, token: &str) -> impl Future<Output = Result<Claims, TokenError>> + Send;
}

/// Attestation by tokens signed by the local agent.
#[derive(Clone, Debug)]
pub struct LocalAttestation {
    /// The agent's key.
    pub key: TokenKey,
    /// Longest token that is accepted, in bytes
    /// ([`ControlLimits::token_bytes_max`](ironmesh_model::limits::ControlLimits)).
    pub token_bytes_max: usize,
}

impl Attest for LocalAttestation {
    async fn attest(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > self.token_bytes_max {
            return Err(TokenError::Malformed);
        }
        self.key.verify(token)
    }
}

const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            namespace: "default".into(),
            service_account: "bookinfo-reviews".into(),
            pod: "reviews-v1-6b5f".into(),
            uid: "3e1d".into(),
            ip: "10.77.0.7".parse().unwrap(),
            kind: ProxyKind::Sidecar,
        }
    }

    #[test]
    fn a_token_proves_its_claims_to_who_has_the_key_in_hex() {
        let key = TokenKey::generate().unwrap();
        let token = key.sign(&claims());
        let other_side = TokenKey::from_hex(&key.to_hex()).unwrap();
        assert_eq!(other_side.verify(&token), Ok(claims()));
        assert_eq!(
            claims().identity("cluster.local").to_string(),
            "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
        );
    }

    #[test]
    fn changed_and_foreign_tokens_prove_nothing() {
        let key = TokenKey::generate().unwrap();
        let token = key.sign(&claims());
        let foreign = TokenKey::generate().unwrap();
        assert_eq!(foreign.verify(&token), Err(TokenError::WrongSignature));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(key.verify(&changed).is_err(), "byte {at} changed, and the token was taken");
        }
        for none in ["", ".", "ab.cd", "zz.zz", &"a".repeat(100_000)] {
            assert!(key.verify(none).is_err(), "{none} was taken");
        }
    }

    #[test]
    fn keys_of_another_length_are_refused_and_none_is_printed() {
        assert!(TokenKey::from_hex("abcd").is_err());
        assert!(TokenKey::from_hex(&"0".repeat(63)).is_err());
        let key = TokenKey::generate().unwrap();
        assert!(!format!("{key:?}").contains(&key.to_hex()));
    }
}
