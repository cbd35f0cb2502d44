//! TLS towards servers that are no members of the mesh, as a policy says it: whom they have to be, and
//! which certificate they are shown.

use std::fmt;
use std::io;
use std::sync::Arc;

use ironmesh_model::Name;
use ironmesh_model::policy::{ClientTls, TlsMode};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client};
use x509_parser::extensions::GeneralName;

use crate::clock::{Clock, TlsClock};
use crate::peer::{BadAnchors, roots, signatures_of_chain};
use crate::provider::provider;
use crate::workload::Alpn;

/// What the files have that a policy names, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenFiles {
    /// The chain that is shown, leaf first.
    pub certificate: Option<Vec<u8>>,
    /// The key of that.
    pub key: Option<Vec<u8>>,
    /// The authorities that are trusted; `None`: those of Mozilla.
    pub trusted: Option<Vec<u8>>,
    /// Lists of what was revoked.
    pub revoked: Option<Vec<u8>>,
}

/// The TLS towards one destination.
#[derive(Clone)]
pub struct GivenTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl GivenTls {
    /// The TLS that a policy asks for, which offers these protocols.
    ///
    /// # Errors
    ///
    /// If something that it needs is not there or cannot be used.
    pub fn new(
        given: &ClientTls,
        files: &GivenFiles,
        alpn: Alpn,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, GivenTlsError> {
        let sni = given.sni.as_deref().unwrap_or_default();
        let name = ServerName::try_from(sni.to_owned());
        let name = name.map_err(|_| GivenTlsError::Name(sni.to_owned()))?;
        let verifier: Arc<dyn ServerCertVerifier> = match given.skip_verify {
            true => Arc::new(Anyone),
            false => Arc::new(NamedServer::new(given, files)?),
        };
        let builder =
            ClientConfig::builder_with_details(outside_provider(), Arc::new(TlsClock(clock)))
                .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
                .map_err(|_| GivenTlsError::Key)?
                .dangerous()
                .with_custom_certificate_verifier(verifier);
        let mut config = match given.mode {
            TlsMode::Mutual => {
                let (chain, key) = own(files)?;
                builder.with_client_auth_cert(chain, key).map_err(|_| GivenTlsError::NotItsKey)?
            }
            TlsMode::Simple | TlsMode::Disable | TlsMode::Mesh => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { config: Arc::new(config), name })
    }

    /// Performs the client side of a handshake.
    ///
    /// # Errors
    ///
    /// If the handshake fails or the server is someone else; [`crate::peer::untrusted`] tells which.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
    ) -> io::Result<client::TlsStream<IO>> {
        TlsConnector::from(self.config.clone()).connect(self.name.clone(), io).await
    }
}

impl fmt::Debug for GivenTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why there is no TLS towards a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GivenTlsError {
    /// No certificate could be for it.
    #[error(
        "tls.sni: {0:?} is no name that a certificate could be for; say the server's name there"
    )]
    Name(String),
    /// There is none.
    #[error("MUTUAL needs tls.clientCertificate and tls.privateKey")]
    NoCertificate,
    /// It cannot be read.
    #[error("tls.clientCertificate is no chain of certificates in PEM")]
    Chain,
    /// It cannot be read.
    #[error("tls.privateKey is none that is known: PKCS #8, PKCS #1 or SEC 1 in PEM")]
    Key,
    /// The certificate is for another key.
    #[error("tls.privateKey is not that of tls.clientCertificate")]
    NotItsKey,
    /// What it should have is not there.
    #[error("tls.credentialName: there is no Secret {0:?} with authorities to trust")]
    Secret(Name),
    /// There is nobody to trust.
    #[error("tls.caCertificates: {0}")]
    Authorities(#[from] BadAnchors),
    /// They cannot be read.
    #[error("tls.caCrl has no list of revoked certificates in PEM")]
    Revoked,
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What is shown to servers.
fn own(files: &GivenFiles) -> Result<Own, GivenTlsError> {
    let (Some(chain), Some(key)) = (&files.certificate, &files.key) else {
        return Err(GivenTlsError::NoCertificate);
    };
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(GivenTlsError::Chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| GivenTlsError::Key)?;
    Ok((chain, key))
}

/// The cryptography towards servers outside: that of the mesh, and for TLS 1.2 what has forward
/// secrecy and authenticated encryption.
fn outside_provider() -> Arc<CryptoProvider> {
    let own = provider();
    let mut cipher_suites = own.cipher_suites.clone();
    let others = aws_lc_rs::ALL_CIPHER_SUITES.iter();
    cipher_suites.extend(others.filter(|suite| suite.tls13().is_none()));
    Arc::new(CryptoProvider { cipher_suites, ..(*own).clone() })
}

/// Verifies a server: its chain against the authorities and what was revoked, and its name.
#[derive(Debug)]
struct NamedServer {
    chain: Arc<WebPkiServerVerifier>,
    /// Names of which the certificate has one; empty: it has the one that was sent.
    names: Vec<Name>,
}

impl NamedServer {
    fn new(given: &ClientTls, files: &GivenFiles) -> Result<Self, GivenTlsError> {
        let trusted = match (&files.trusted, &given.credential) {
            (None, Some(named)) => return Err(GivenTlsError::Secret(named.name.clone())),
            (Some(pem), _) => roots(std::str::from_utf8(pem).map_err(|_| BadAnchors)?)?,
            (None, None) => {
                Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
            }
        };
        let mut chain = WebPkiServerVerifier::builder_with_provider(trusted, outside_provider());
        if let Some(pem) = &files.revoked {
            let lists = CertificateRevocationListDer::pem_slice_iter(pem);
            let lists = lists.collect::<Result<Vec<_>, _>>().map_err(|_| GivenTlsError::Revoked)?;
            if lists.is_empty() {
                return Err(GivenTlsError::Revoked);
            }
            // As Envoy, which asks for a list of each authority that it is given one of.
            chain = chain.with_crls(lists).allow_unknown_revocation_status();
        }
        let chain = chain.build().map_err(|_| GivenTlsError::Revoked)?;
        Ok(Self { chain, names: given.names.clone() })
    }

    /// Whether the certificate has one of the names, as they are written there.
    fn is_named(&self, der: &[u8]) -> bool {
        let Ok((_, leaf)) = x509_parser::parse_x509_certificate(der) else { return false };
        let names = leaf.subject_alternative_name().ok().flatten();
        let mut names = names.iter().flat_map(|names| &names.value.general_names);
        names.any(|name| match name {
            GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
                self.names.iter().any(|name| **name == **text)
            }
            _ => false,
        })
    }
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        if self.names.is_empty() {
            return verified;
        }
        let other_name = Error::InvalidCertificate(CertificateError::NotValidForName);
        match verified {
            // The name is looked at when all else is right.
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.is_named(end_entity) => Ok(ServerCertVerified::assertion()),
            Ok(_) => Err(other_name),
            Err(error) => Err(error),
        }
    }

    signatures_of_chain!();
}

/// Takes whoever has the key of the certificate that is shown (`insecureSkipVerify`).
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &outside_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &outside_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        outside_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
