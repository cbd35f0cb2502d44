//! TLS between proxies and the control plane. The server presents a certificate of the mesh's own
//! authority. The client authenticates with its token inside the connection, so that a proxy whose
//! certificate has expired can still get a new one.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ironmesh_model::Identity;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::ca::{Authority, CaError};
use crate::clock::{Clock, Timestamp, TlsClock};
use crate::peer::{BadAnchors, roots};
use crate::provider::{VERSIONS, provider};
use crate::workload::{CredentialsError, KeyPair};

/// The name by which proxies know the control plane, as in Istio.
pub const CONTROL_NAME: &str = "istiod.istio-system.svc";

/// The control plane's end. Renews its certificate after half of its lifetime.
#[derive(Clone, Debug)]
pub struct ControlServer(Arc<ServerConfig>);

impl ControlServer {
    /// A server whose certificates `authority` signs, with the SPIFFE id of `istiod` in
    /// `root_namespace`.
    ///
    /// # Errors
    ///
    /// If no certificate can be made.
    pub fn new(
        authority: Arc<Authority>,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ChannelError> {
        let time = Arc::new(TlsClock(clock.clone()));
        let make = move |now| make(&authority, &identity, now);
        let certificate = OwnCertificate::new(Box::new(make), clock)?;
        let mut config = ServerConfig::builder_with_details(provider(), time)
            .with_protocol_versions(VERSIONS)
            .expect("the provider has suites of TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificate));
        // Proxies connect rarely: full handshakes are simpler than tickets.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
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
        TlsAcceptor::from(self.0.clone()).accept(io).await
    }
}

/// A proxy's end.
#[derive(Clone, Debug)]
pub struct ControlClient(Arc<ClientConfig>);

impl ControlClient {
    /// A client that trusts a control plane whose certificate chains to these anchors (PEM) and names
    /// [`CONTROL_NAME`].
    ///
    /// # Errors
    ///
    /// If the anchors cannot be used.
    pub fn new(anchors_pem: &str, clock: Arc<dyn Clock>) -> Result<Self, BadAnchors> {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(anchors_pem)?, provider())
            .build()
            .map_err(|_| BadAnchors)?;
        let config = ClientConfig::builder_with_details(provider(), Arc::new(TlsClock(clock)))
            .with_protocol_versions(VERSIONS)
            .expect("the provider has suites of TLS 1.3")
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Performs the client side of a handshake.
    ///
    /// # Errors
    ///
    /// If the handshake fails or the server is not the control plane.
    pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
    ) -> io::Result<client::TlsStream<IO>> {
        let name = ServerName::try_from(CONTROL_NAME).expect("it is a DNS name");
        TlsConnector::from(self.0.clone()).connect(name, io).await
    }
}

/// Why the control plane's certificate could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The authority did not sign it.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// There is no key for it.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// A server's own certificate, renewed in time.
pub(crate) struct OwnCertificate {
    make: Box<Make>,
    clock: Arc<dyn Clock>,
    /// The certificate, and when to renew it.
    current: Mutex<Current>,
}

/// Makes a certificate that is valid from a time on.
type Make = dyn Fn(Timestamp) -> Result<Current, ChannelError> + Send + Sync;
/// A certificate with its key, and when to renew it.
pub(crate) type Current = (Arc<CertifiedKey>, Timestamp);

impl OwnCertificate {
    pub(crate) fn new(make: Box<Make>, clock: Arc<dyn Clock>) -> Result<Self, ChannelError> {
        let current = Mutex::new(make(clock.now())?);
        Ok(Self { make, clock, current })
    }
}

fn make(
    authority: &Authority,
    identity: &Identity,
    now: Timestamp,
) -> Result<Current, ChannelError> {
    let key = KeyPair::generate()?;
    let issued = authority.sign_server(key.inner(), identity, CONTROL_NAME, LIFETIME, now)?;
    Ok((Arc::new(key.certified(&issued.chain)?), now.plus(LIFETIME / 2)))
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.clock.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1 <= now {
            // If this fails, the old one is still valid for half of its lifetime.
            if let Ok(next) = (self.make)(now) {
                *current = next;
            }
        }
        Some(current.0.clone())
    }
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate").finish_non_exhaustive()
    }
}

/// Lifetime of a server's own certificate.
pub(crate) const LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
