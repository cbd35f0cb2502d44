//! TLS with clients that are no members of the mesh, by certificates that users give: the servers of a
//! gateway.
//!
//! A server's TLS is made when its certificate comes, and again when that changes. Connections that are
//! open keep theirs.

use std::fmt;
use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use ironmesh_model::Name;
use ironmesh_model::credential::Certificate;
use ironmesh_model::listeners::{ClientCertificate, Termination, TlsVersion};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs as library;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, InconsistentKeys,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server};
use x509_parser::extensions::GeneralName;

use crate::clock::{Clock, TlsClock};
use crate::peer::{BadAnchors, roots, signatures_of_chain};
use crate::provider::provider;
use crate::workload::Alpn;

/// The TLS of one server.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// The TLS that a server speaks, which offers these protocols.
    ///
    /// # Errors
    ///
    /// If it has no certificate, or a part of what it is made from cannot be used.
    pub fn new(
        given: &Termination,
        alpn: Alpn,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServerTlsError> {
        let certificates = given.certificates.iter().map(certified);
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(ServerTlsError::NoCertificate);
        }
        let versions: &[&SupportedProtocolVersion] = match (given.lowest, given.highest) {
            (TlsVersion::V12, TlsVersion::V12) => &[&rustls::version::TLS12],
            (TlsVersion::V12, TlsVersion::V13) => {
                &[&rustls::version::TLS12, &rustls::version::TLS13]
            }
            (TlsVersion::V13, _) => &[&rustls::version::TLS13],
        };
        let builder =
            ServerConfig::builder_with_details(edge_provider(), Arc::new(TlsClock(clock)))
                .with_protocol_versions(versions)
                .map_err(|_| ServerTlsError::Versions)?;
        let builder = match given.client {
            ClientCertificate::None => builder.with_no_client_auth(),
            ClientCertificate::Optional | ClientCertificate::Required => {
                builder.with_client_cert_verifier(Arc::new(NamedClient::new(given)?))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByAlgorithm(certificates)));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        if given.client != ClientCertificate::None {
            // A resumed session is not checked again against what was revoked or has expired.
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(Self(Arc::new(config)))
    }

    /// Performs the server side of a handshake.
    ///
    /// # Errors
    ///
    /// If the handshake fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
    ) -> io::Result<server::TlsStream<IO>> {
        TlsAcceptor::from(self.0.clone()).accept(io).await
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

/// Why a server has no TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerTlsError {
    /// There is none.
    #[error("it has no certificate with a key")]
    NoCertificate,
    /// It cannot be read.
    #[error("the certificate is no chain of certificates in PEM")]
    Chain,
    /// It cannot be read.
    #[error("the private key is none that is known: PKCS #8, PKCS #1 or SEC 1 in PEM")]
    Key,
    /// The certificate is for another key.
    #[error("the private key is not that of the certificate")]
    NotItsKey,
    /// There is nobody to trust.
    #[error("it is to ask for client certificates, but has no authorities that it trusts: {0}")]
    Authorities(#[from] BadAnchors),
    /// They cannot be read.
    #[error("the list of revoked certificates cannot be read")]
    Revoked,
    /// There is none.
    #[error("no version of TLS is left")]
    Versions,
}

/// Checks that a certificate can be used with its key.
///
/// # Errors
///
/// Why not.
pub fn check(certificate: &Certificate) -> Result<(), ServerTlsError> {
    certified(certificate).map(|_| ())
}

/// Checks that authorities (PEM) can be trusted, and a list of what was revoked (PEM) be read.
///
/// # Errors
///
/// Why not.
pub fn check_authorities(
    trusted: Option<&str>,
    revoked: Option<&str>,
) -> Result<(), ServerTlsError> {
    if let Some(trusted) = trusted {
        roots(trusted)?;
    }
    revocations(revoked).map(|_| ())
}

fn certified(given: &Certificate) -> Result<Arc<CertifiedKey>, ServerTlsError> {
    let chain = CertificateDer::pem_slice_iter(given.chain.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|_| ServerTlsError::Chain)?;
    let leaf = chain.first().ok_or(ServerTlsError::Chain)?;
    x509_parser::parse_x509_certificate(leaf).map_err(|_| ServerTlsError::Chain)?;
    let key = PrivateKeyDer::from_pem_slice(given.key.reveal().as_bytes());
    let key = key.map_err(|_| ServerTlsError::Key)?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| ServerTlsError::Key)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Of some kinds of key the library does not tell.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
        Err(_) => Err(ServerTlsError::NotItsKey),
    }
}

fn revocations(
    pem: Option<&str>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, ServerTlsError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem.unwrap_or_default().as_bytes());
    let lists = lists.collect::<Result<Vec<_>, _>>().map_err(|_| ServerTlsError::Revoked)?;
    if pem.is_some() && lists.is_empty() { Err(ServerTlsError::Revoked) } else { Ok(lists) }
}

/// The cryptography at the edge: that of the mesh, and for TLS 1.2 what has forward secrecy and
/// authenticated encryption.
fn edge_provider() -> Arc<CryptoProvider> {
    let own = provider();
    let mut suites = own.cipher_suites.clone();
    let others = library::ALL_CIPHER_SUITES.iter();
    suites.extend(others.filter(|suite| suite.tls13().is_none()));
    Arc::new(CryptoProvider { cipher_suites: suites, ..(*own).clone() })
}

/// Chooses the certificate by the signatures that the client understands, in the order given.
#[derive(Debug)]
struct ByAlgorithm(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByAlgorithm {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.signature_schemes();
        let fits = |own: &&Arc<CertifiedKey>| own.key.choose_scheme(offered).is_some();
        self.0.iter().find(fits).or(self.0.first()).cloned()
    }
}

/// Verifies a client: its chain against the authorities, and its certificate by name and hash.
#[derive(Debug)]
struct NamedClient {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<Name>,
    key_hashes: Vec<Name>,
    certificate_hashes: Vec<Name>,
}

impl NamedClient {
    fn new(given: &Termination) -> Result<Self, ServerTlsError> {
        let roots = roots(given.trusted.as_deref().unwrap_or_default())?;
        let revoked = revocations(given.revoked.as_deref())?;
        let mut chain = WebPkiClientVerifier::builder_with_provider(roots, edge_provider());
        if !revoked.is_empty() {
            chain = chain.with_crls(revoked).only_check_end_entity_revocation();
        }
        if given.client == ClientCertificate::Optional {
            chain = chain.allow_unauthenticated();
        }
        Ok(Self {
            chain: chain.build().map_err(|_| ServerTlsError::Revoked)?,
            names: given.names.clone(),
            key_hashes: given.key_hashes.clone(),
            certificate_hashes: given.certificate_hashes.clone(),
        })
    }

    /// Whether the certificate has one of the names, and one of the hashes, if any are asked for.
    fn is_named(&self, der: &[u8]) -> bool {
        let Ok((_, leaf)) = x509_parser::parse_x509_certificate(der) else { return false };
        let names = leaf.subject_alternative_name().ok().flatten();
        let mut names = names.iter().flat_map(|names| &names.value.general_names);
        let is_asked_for = |text: &str| self.names.iter().any(|name| **name == *text);
        let named = self.names.is_empty()
            || names.any(|name| match name {
                GeneralName::DNSName(text)
                | GeneralName::URI(text)
                | GeneralName::RFC822Name(text) => is_asked_for(text),
                _ => false,
            });
        let hashed = (self.key_hashes.is_empty() && self.certificate_hashes.is_empty())
            || {
                let key = BASE64.encode(digest(&SHA256, leaf.public_key().raw).as_ref());
                self.key_hashes.iter().any(|hash| **hash == *key)
            }
            || {
                let hash = digest(&SHA256, der);
                let plain = |text: &Name| text.replace(':', "").to_ascii_uppercase();
                let own = HEXUPPER.encode(hash.as_ref());
                self.certificate_hashes.iter().any(|text| plain(text) == own)
            };
        named && hashed
    }
}

impl ClientCertVerifier for NamedClient {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        if self.is_named(end_entity) {
            Ok(verified)
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    signatures_of_chain!();
}

/// A client's certificate as the header `x-forwarded-client-cert` tells it, as Envoy writes it.
pub fn client_text(der: &[u8]) -> String {
    let hash = HEXLOWER.encode(digest(&SHA256, der).as_ref());
    let mut text = format!("Hash={hash};Cert=\"{}\"", encoded_pem(der));
    let Ok((_, leaf)) = x509_parser::parse_x509_certificate(der) else { return text };
    let subject = leaf.subject().to_string().replace(['"', '\\'], "");
    text.push_str(&format!(";Subject=\"{subject}\""));
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        let (kind, name) = match name {
            GeneralName::URI(name) => ("URI", name),
            GeneralName::DNSName(name) => ("DNS", name),
            _ => continue,
        };
        // What would end the element or the field is in no well-formed name.
        if name.bytes().all(|byte| byte.is_ascii_graphic() && !b",;\"=".contains(&byte)) {
            text.push_str(&format!(";{kind}={name}"));
        }
    }
    text
}

/// A certificate in PEM, without the characters that would end a field or a line (Envoy,
/// `urlEncodedPemEncodedPeerCertificate`).
fn encoded_pem(der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut pem = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    let lines = body.as_bytes().chunks(PEM_LINE_BYTES).filter_map(|line| str::from_utf8(line).ok());
    for line in lines {
        pem.push_str(&line.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"));
        pem.push_str("%0A");
    }
    pem.push_str("-----END%20CERTIFICATE-----%0A");
    pem
}

/// Characters of a line in PEM (RFC 7468, section 2).
const PEM_LINE_BYTES: usize = 64;

#[cfg(test)]
mod tests;
