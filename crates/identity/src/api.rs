//! The API for those who do not come by a unix socket: the TLS that it is served over, and the tokens
//! that say who calls.
//!
//! There are two kinds of tokens: that of the administrator, which `ironmesh kubeconfig` prints, and
//! those of service accounts: JSON web tokens (RFC 7519) with the claims of Kubernetes' bound tokens,
//! signed with HMAC-SHA256, as only the API server itself checks them.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server};

use crate::ca::{Authority, CaError, write_private};
use crate::channel::{ChannelError, LIFETIME, OwnCertificate};
use crate::clock::{Clock, Timestamp, TlsClock};
use crate::provider::{VERSIONS, provider};
use crate::random::{self, NoRandomness};
use crate::workload::KeyPair;

/// The issuer of the tokens, and the audience of those that are for the API.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// The API server's end of TLS. Renews its certificate after half of its lifetime.
#[derive(Clone, Debug)]
pub struct ApiTls {
    config: Arc<ServerConfig>,
    anchors_pem: Arc<str>,
}

impl ApiTls {
    /// A server that is known by these names and addresses. Its authority is kept in the directory, apart
    /// from the mesh's: who trusts the API need not trust workloads.
    ///
    /// # Errors
    ///
    /// If the authority cannot be opened, or no certificate can be made.
    pub fn open(
        directory: &Path,
        dns_names: Vec<String>,
        addresses: Vec<IpAddr>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ChannelError> {
        let authority = Authority::open(directory, clock.now())?;
        let anchors_pem = authority.anchors_pem().into();
        let make = move |now: Timestamp| {
            let key = KeyPair::generate()?;
            let issued =
                authority.sign_names(key.inner(), &dns_names, &addresses, LIFETIME, now)?;
            Ok((Arc::new(key.certified(&issued.chain)?), now.plus(LIFETIME / 2)))
        };
        let certificate = OwnCertificate::new(Box::new(make), clock.clone())?;
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(TlsClock(clock)))
            .with_protocol_versions(VERSIONS)
            .expect("the provider has suites of TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificate));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), anchors_pem })
    }

    /// The trust anchors of the API, in PEM.
    pub fn anchors_pem(&self) -> &str {
        &self.anchors_pem
    }

    /// Performs the server side of a handshake.
    ///
    /// # Errors
    ///
    /// If the handshake fails.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
    ) -> io::Result<server::TlsStream<IO>> {
        TlsAcceptor::from(self.config.clone()).accept(io).await
    }
}

/// What a service account's token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountToken {
    /// For whom it is.
    #[serde(rename = "aud")]
    pub audiences: Vec<String>,
    /// When it expires, in seconds since the Unix epoch.
    #[serde(rename = "exp")]
    pub expires: u64,
    /// When it was issued.
    #[serde(rename = "iat")]
    pub issued: u64,
    /// Who issued it.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// From when on it is valid.
    #[serde(rename = "nbf")]
    pub not_before: u64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    #[serde(rename = "sub")]
    pub subject: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
}

/// What a token is bound to: it is worth nothing once one of these is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Namespace of all.
    pub namespace: String,
    /// The service account.
    pub serviceaccount: NameAndUid,
    /// The pod that it was made for, if it was made for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<NameAndUid>,
    /// The Secret that it was made for, if it was made for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<NameAndUid>,
}

/// An object that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameAndUid {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl AccountToken {
    /// A token of an account, for these audiences, from `now` on.
    #[must_use]
    pub fn new(bound: Bound, audiences: Vec<String>, now: Timestamp, lifetime: Duration) -> Self {
        let issued = now.unix_seconds();
        let Bound { namespace, serviceaccount, .. } = &bound;
        Self {
            audiences,
            expires: now.plus(lifetime).unix_seconds(),
            issued,
            issuer: API_AUDIENCE.to_owned(),
            not_before: issued,
            subject: format!("system:serviceaccount:{namespace}:{}", serviceaccount.name),
            bound,
        }
    }
}

/// The key of all tokens. Its `Debug` form hides it.
#[derive(Clone)]
pub struct ApiKey(hmac::Key);

impl ApiKey {
    /// The key that is kept in a directory, in a file of mode 0600; made there if there is none.
    ///
    /// # Errors
    ///
    /// If the file can neither be read nor written, or is no key.
    pub fn open(directory: &Path) -> Result<Self, KeyError> {
        let path = directory.join(FILE);
        let failed = |source| KeyError::File { path: path.clone(), source };
        let bytes = match fs::read_to_string(&path) {
            Ok(text) => HEXLOWER.decode(text.trim().as_bytes()).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes: [u8; KEY_BYTES] = random::bytes()?;
                write_private(&path, HEXLOWER.encode(&bytes).as_bytes()).map_err(failed)?;
                Some(bytes.to_vec())
            }
            Err(error) => return Err(failed(error)),
        };
        let bytes = bytes.filter(|bytes| bytes.len() == KEY_BYTES);
        let bytes = bytes.ok_or_else(|| KeyError::Malformed { path: path.clone() })?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The token of the administrator. Secret. It is the same as long as the key is.
    #[must_use]
    pub fn administrator(&self) -> String {
        HEXLOWER.encode(hmac::sign(&self.0, ADMINISTRATOR).as_ref())
    }

    /// Whether a token is the administrator's; in constant time.
    #[must_use]
    pub fn is_administrator(&self, token: &str) -> bool {
        constant_time::verify_slices_are_equal(token.as_bytes(), self.administrator().as_bytes())
            .is_ok()
    }

    /// Signs what a token says.
    #[must_use]
    pub fn sign(&self, token: &AccountToken) -> String {
        let claims = serde_json::to_vec(token).expect("claims are text and numbers");
        let signed = format!("{HEADER}.{}", BASE64URL_NOPAD.encode(&claims));
        let tag = hmac::sign(&self.0, signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
    }

    /// What a token says, if it was signed with this key and is valid `now`.
    ///
    /// # Errors
    ///
    /// If it was not, has expired, or is no token at all.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<AccountToken, Invalid> {
        let (signed, tag) = token.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let tag = BASE64URL_NOPAD.decode(tag.as_bytes()).map_err(|_| Invalid::Malformed)?;
        // Only what was signed here is looked at any closer.
        hmac::verify(&self.0, signed.as_bytes(), &tag).map_err(|_| Invalid::WrongSignature)?;
        let claims = signed.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('.'));
        let claims = claims.ok_or(Invalid::Malformed)?;
        let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).map_err(|_| Invalid::Malformed)?;
        let token: AccountToken =
            serde_json::from_slice(&claims).map_err(|_| Invalid::Malformed)?;
        match now.unix_seconds() {
            now if now >= token.expires => Err(Invalid::Expired),
            now if now < token.not_before.saturating_sub(SKEW_SECONDS) => Err(Invalid::Expired),
            _ => Ok(token),
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Why a token proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// It does not have the form of a token.
    #[error("invalid bearer token")]
    Malformed,
    /// It was signed with another key, or modified.
    #[error("invalid bearer token, it was not issued by this mesh")]
    WrongSignature,
    /// Its time is over, or has not come.
    #[error("invalid bearer token, service account token has expired")]
    Expired,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file can neither be read nor written.
    #[error("key of the API {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no key.
    #[error("key of the API {path}: it is not 64 hex digits; move it away to begin with a new one", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random bytes.
    #[error("key of the API: {0}")]
    NoRandomness(#[from] NoRandomness),
}

/// Why the API cannot be served over TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// There is no certificate.
    #[error("TLS of the API: {0}")]
    Tls(#[from] ChannelError),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no authority.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// File of the key.
const FILE: &str = "tokens.key";
const KEY_BYTES: usize = 32;
/// What is signed for the administrator: no token of an account can be that.
const ADMINISTRATOR: &[u8] = b"administrator";
/// `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
/// How far the clocks of two processes of one machine may seem apart.
const SKEW_SECONDS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn token(now: u64) -> AccountToken {
        let named = |name: &str| NameAndUid { name: name.to_owned(), uid: format!("{name}-uid") };
        let bound = Bound {
            namespace: "shop".to_owned(),
            serviceaccount: named("default"),
            pod: Some(named("cart")),
            secret: None,
        };
        let now = Timestamp(Duration::from_secs(now));
        AccountToken::new(bound, vec![API_AUDIENCE.to_owned()], now, Duration::from_secs(600))
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    #[test]
    fn a_token_is_worth_something_in_its_time_and_to_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let key = ApiKey::open(directory.path()).unwrap();
        let text = key.sign(&token(1_000));
        let again = ApiKey::open(directory.path()).unwrap();
        assert_eq!(again.verify(&text, at(1_599)), Ok(token(1_000)));
        assert_eq!(again.verify(&text, at(1_600)), Err(Invalid::Expired));
        assert_eq!(again.verify(&text, at(900)), Err(Invalid::Expired));
        assert_eq!(again.administrator(), key.administrator());
        let header = BASE64URL_NOPAD.decode(HEADER.as_bytes()).unwrap();
        assert_eq!(header, br#"{"alg":"HS256","typ":"JWT"}"#);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(directory.path().join(FILE)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn changed_and_foreign_tokens_are_worth_nothing() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [key, other] = [0, 1].map(|n: usize| ApiKey::open(directories[n].path()).unwrap());
        let text = key.sign(&token(1_000));
        assert_eq!(other.verify(&text, at(1_000)), Err(Invalid::WrongSignature));
        assert!(!other.is_administrator(&key.administrator()));
        assert!(key.is_administrator(&key.administrator()));
        for at_byte in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at_byte] = if changed[at_byte] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(key.verify(&changed, at(1_000)).is_err(), "byte {at_byte}");
        }
        // No algorithm, as some readers of such tokens once took it.
        let claims = text.split('.').nth(1).unwrap();
        let none = BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#);
        for bad in ["", ".", "..", "a.b.c", &format!("{none}.{claims}."), &key.administrator()] {
            assert!(key.verify(bad, at(1_000)).is_err(), "{bad}");
        }
        for bad in ["", &text] {
            assert!(!key.is_administrator(bad), "{bad}");
        }
        assert!(!format!("{key:?}").contains(&key.administrator()));
        fs::write(directories[0].path().join(FILE), "short").unwrap();
        assert!(matches!(ApiKey::open(directories[0].path()), Err(KeyError::Malformed { .. })));
    }
}
