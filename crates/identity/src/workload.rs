//! The certificate of one workload, and the TLS that its proxy uses with other members.
//!
//! Each certificate has its own [`Credentials`], with its own ticket key and session cache, so that
//! after a rotation no ticket or session of the old certificate can be resumed. Tickets are valid no
//! longer than the certificate, and the peer's certificate is checked again whenever a connection is
//! resumed. Rotation closes no open connections.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ironmesh_model::Identity;
use ironmesh_model::limits::ProxyLimits;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::clock::{Clock, Timestamp, TlsClock};
use crate::peer::{self, BadAnchors, MemberClient, MemberServer, PeerError, peer_identity};
use crate::provider::{VERSIONS, provider};

/// ALPN protocols to offer or accept, preferred first.
pub type Alpn = &'static [&'static [u8]];

/// A private key (ECDSA P-256), generated here and never written anywhere.
pub struct KeyPair(rcgen::KeyPair);

impl KeyPair {
    /// Generates a key pair.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes.
    pub fn generate() -> Result<Self, CredentialsError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        Ok(Self(key.map_err(|_| CredentialsError::Key)?))
    }

    /// A certificate signing request (PKCS #10 in DER) without a name: the control plane knows the
    /// caller by its token.
    ///
    /// # Errors
    ///
    /// If signing fails.
    pub fn csr(&self) -> Result<Vec<u8>, CredentialsError> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let csr = params.serialize_request(&self.0).map_err(|_| CredentialsError::Key)?;
        Ok(csr.der().to_vec())
    }

    /// The key as the authority signs it for the mesh's own servers.
    pub(crate) fn inner(&self) -> &rcgen::KeyPair {
        &self.0
    }

    /// The key with its chain, in the form that the TLS library takes.
    pub(crate) fn certified(&self, chain: &[Vec<u8>]) -> Result<CertifiedKey, CredentialsError> {
        let key = PrivateKeyDer::Pkcs8(self.0.serialize_der().into());
        let key =
            provider().key_provider.load_private_key(key).map_err(|_| CredentialsError::Key)?;
        let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| CredentialsError::NotItsKey)?;
        Ok(certified)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

/// Whether a server requires a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// A client may present a certificate.
    Optional,
    /// A client must present one.
    Required,
}

/// A certificate with its key and anchors, and the TLS configurations made from them. Immutable: a
/// rotation creates new credentials.
pub struct Credentials {
    identity: Identity,
    not_before: Timestamp,
    not_after: Timestamp,
    serial: String,
    chain_der: Vec<Vec<u8>>,
    anchors_der: Vec<Vec<u8>>,
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    clock: Arc<dyn Clock>,
    tickets: Arc<dyn ProducesTickets>,
    /// Limits of what is kept for peers.
    peers_max: usize,
    sessions_per_peer_max: usize,
    servers: Mutex<HashMap<(Alpn, ClientAuth), Arc<ServerConfig>>>,
    clients: Mutex<HashMap<(Alpn, Identity), Arc<ClientConfig>>>,
}

impl Credentials {
    /// Credentials from a key, the chain (DER, leaf first) that was signed for it, and the trust
    /// anchors (PEM) that verify peers.
    ///
    /// # Errors
    ///
    /// If the chain is empty, cannot be parsed, names no workload, is not valid now or not for this
    /// key, or the anchors cannot be used.
    pub fn new(
        key: &KeyPair,
        chain: &[Vec<u8>],
        anchors_pem: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, CredentialsError> {
        Self::with_limits(key, chain, anchors_pem, clock, &ProxyLimits::default())
    }

    /// As [`Credentials::new`], with limits other than the defaults.
    ///
    /// # Errors
    ///
    /// As [`Credentials::new`].
    pub fn with_limits(
        key: &KeyPair,
        chain: &[Vec<u8>],
        anchors_pem: &str,
        clock: Arc<dyn Clock>,
        limits: &ProxyLimits,
    ) -> Result<Arc<Self>, CredentialsError> {
        let certified = Arc::new(key.certified(chain)?);
        let identity = peer_identity(&certified.cert, clock.now())?;
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0])
            .map_err(|_| CredentialsError::Certificate(PeerError::Malformed))?;
        let (not_before, not_after) = peer::validity(&leaf);
        let tickets: Arc<dyn ProducesTickets> = Arc::new(Tickets {
            inner: rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|_| CredentialsError::Key)?,
            not_after,
            clock: clock.clone(),
        });
        Ok(Arc::new(Self {
            identity,
            not_before,
            not_after,
            serial: leaf.raw_serial_as_string().replace(':', ""),
            chain_der: chain.to_vec(),
            anchors_der: peer::anchors(anchors_pem)?,
            certified,
            roots: peer::roots(anchors_pem)?,
            clock,
            tickets,
            peers_max: limits.tls_peers_max,
            sessions_per_peer_max: limits.tls_sessions_per_peer_max,
            servers: Mutex::default(),
            clients: Mutex::default(),
        }))
    }

    /// The identity in the certificate.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Start of its validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// End of its validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Its serial number, in hex.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The chain in DER, leaf first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain_der
    }

    /// The certificates by which it verifies others, in DER.
    pub fn anchors(&self) -> &[Vec<u8>] {
        &self.anchors_der
    }

    /// TLS for inbound connections. There is one configuration per pair of arguments, created on first
    /// use.
    pub fn server_config(&self, alpn: Alpn, auth: ClientAuth) -> Arc<ServerConfig> {
        let mut made = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry((alpn, auth)).or_insert_with(|| Arc::new(self.make_server(alpn, auth))).clone()
    }

    /// TLS for connections to the member `expected`. There is one configuration, with its own sessions,
    /// per pair of arguments, so a session with one member is never resumed where another is
    /// expected.
    pub fn client_config(&self, alpn: Alpn, expected: &Identity) -> Arc<ClientConfig> {
        let mut made = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (alpn, expected.clone());
        if made.len() >= self.peers_max && !made.contains_key(&key) {
            // Each is created again when needed; only its sessions are lost.
            made.clear();
        }
        made.entry(key).or_insert_with(|| Arc::new(self.make_client(alpn, expected))).clone()
    }

    /// Performs the server side of a handshake. Returns the stream and the caller's identity, `None` if
    /// the client presented no certificate.
    ///
    /// # Errors
    ///
    /// If the handshake fails or the caller is not trusted; [`peer::untrusted`] tells which.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        alpn: Alpn,
        auth: ClientAuth,
    ) -> io::Result<(server::TlsStream<IO>, Option<Identity>)> {
        let stream = TlsAcceptor::from(self.server_config(alpn, auth)).accept(io).await?;
        let peer = match stream.get_ref().1.peer_certificates() {
            Some(chain) => Some(self.checked(chain)?),
            None => None,
        };
        Ok((stream, peer))
    }

    /// Performs the client side of a handshake with the member `expected`. `name` is sent as SNI if it
    /// is a DNS name. Sessions are kept by it, so it should differ between endpoints.
    ///
    /// # Errors
    ///
    /// If the handshake fails or the server is someone else; [`peer::untrusted`] tells which.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        alpn: Alpn,
        expected: &Identity,
        name: &str,
    ) -> io::Result<client::TlsStream<IO>> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let config = self.client_config(alpn, expected);
        let stream = TlsConnector::from(config).connect(name, io).await?;
        let connection = stream.get_ref().1;
        // In a full handshake the verifier has just done it.
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.checked(connection.peer_certificates().unwrap_or_default())?;
        }
        Ok(stream)
    }

    /// Looks at a peer's certificate once more, for resumed connections.
    fn checked(&self, chain: &[CertificateDer<'_>]) -> io::Result<Identity> {
        peer_identity(chain, self.clock.now())
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, peer::refuse(why)))
    }

    fn make_server(&self, alpn: Alpn, auth: ClientAuth) -> ServerConfig {
        let verifier = MemberClient::new(self.roots.clone(), auth == ClientAuth::Required)
            .expect("there are roots: they were counted when they were parsed");
        let time = Arc::new(TlsClock(self.clock.clone()));
        let mut config = ServerConfig::builder_with_details(provider(), time)
            .with_protocol_versions(VERSIONS)
            .expect("the provider has suites of TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.alpn_protocols = owned(alpn);
        config.ticketer = self.tickets.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config
    }

    fn make_client(&self, alpn: Alpn, expected: &Identity) -> ClientConfig {
        let verifier = MemberServer { roots: self.roots.clone(), expected: expected.clone() };
        let time = Arc::new(TlsClock(self.clock.clone()));
        let mut config = ClientConfig::builder_with_details(provider(), time)
            .with_protocol_versions(VERSIONS)
            .expect("the provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.alpn_protocols = owned(alpn);
        config.resumption = Resumption::in_memory_sessions(self.sessions_per_peer_max);
        config
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// When to ask for the next certificate: between 50 and 80 % of the span from `now` to
/// `not_after`. `seed` spreads the workloads of a mesh (a hash of the workload's uid); equal
/// arguments give equal times.
pub fn renew_at(now: Timestamp, not_after: Timestamp, seed: u64) -> Timestamp {
    // The upper bits of a multiplicative hash are spread evenly even if seeds count upwards.
    let spread = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    let percent = 50 + u32::try_from((u64::from(spread) * 31) >> 32).unwrap_or(0);
    now.plus(not_after.since(now) / 100 * percent)
}

/// Credentials that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// No key could be made or used.
    #[error("no private key could be made: the machine gives no random bytes")]
    Key,
    /// The certificate is for another key.
    #[error("the certificate was not signed for this key")]
    NotItsKey,
    /// The certificate cannot be used.
    #[error("certificate: {0}")]
    Certificate(#[from] PeerError),
    /// The anchors cannot be used.
    #[error(transparent)]
    Anchors(#[from] BadAnchors),
}

/// Tickets that live no longer than the certificate.
#[derive(Debug)]
struct Tickets {
    inner: Arc<dyn ProducesTickets>,
    not_after: Timestamp,
    clock: Arc<dyn Clock>,
}

impl Tickets {
    fn seconds_left(&self) -> u64 {
        self.not_after.since(self.clock.now()).as_secs()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime().min(u32::try_from(self.seconds_left()).unwrap_or(u32::MAX))
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        (self.seconds_left() > 0).then(|| self.inner.encrypt(plain)).flatten()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        (self.seconds_left() > 0).then(|| self.inner.decrypt(cipher)).flatten()
    }
}

fn owned(alpn: Alpn) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

#[cfg(test)]
mod tests;
