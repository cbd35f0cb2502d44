//! Who a peer is: the SPIFFE id in its certificate, and the verification of its chain.

use std::sync::Arc;

use ironmesh_model::Identity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::clock::Timestamp;
use crate::provider::provider;

/// Why a peer's certificate is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer has none.
    #[error("the peer showed no certificate")]
    Missing,
    /// It cannot be parsed.
    #[error("the peer's certificate cannot be read")]
    Malformed,
    /// It does not have exactly one well-formed SPIFFE id.
    #[error("the peer's certificate names {0}; it must carry one SPIFFE URI of the mesh's form")]
    NotSpiffe(String),
    /// It names someone else.
    #[error("the peer is {actual}, but {expected} is expected there")]
    Unexpected {
        /// The identity that was expected.
        expected: Identity,
        /// The identity in the certificate.
        actual: Identity,
    },
    /// It is not valid now. Also checked on a resumed connection, where TLS itself does not check.
    #[error(
        "the peer's certificate is not valid now: it is from {not_before} to {not_after} (seconds since 1970)"
    )]
    NotNow {
        /// Start of its validity.
        not_before: u64,
        /// End of its validity.
        not_after: u64,
    },
}

/// The identity in a verified chain (DER, leaf first), if the leaf is valid `now`.
///
/// TLS verifies a chain only in a full handshake. On a resumed connection this function rejects a
/// certificate that has expired since; [`crate::Credentials`] calls it for every connection.
///
/// # Errors
///
/// If there is no certificate, it names no member of a mesh, or it is not valid now.
pub fn peer_identity(chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Identity, PeerError> {
    let leaf = chain.first().ok_or(PeerError::Missing)?;
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|_| PeerError::Malformed)?;
    let (not_before, not_after) = validity(&leaf);
    if now < not_before || not_after <= now {
        return Err(PeerError::NotNow {
            not_before: not_before.unix_seconds(),
            not_after: not_after.unix_seconds(),
        });
    }
    spiffe_id(&leaf)
}

/// Start and end of a certificate's validity.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = certificate.validity();
    (
        Timestamp::from_unix_seconds(validity.not_before.timestamp()),
        Timestamp::from_unix_seconds(validity.not_after.timestamp()),
    )
}

/// The URI of a certificate, which must be exactly one (X.509-SVID, section 2).
fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<Identity, PeerError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerError::Malformed)?
        .map(|extension| &extension.value.general_names[..])
        .unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => uri.parse().map_err(|_| PeerError::NotSpiffe(format!("{uri:?}"))),
        [] => Err(PeerError::NotSpiffe("no URI".to_owned())),
        _ => Err(PeerError::NotSpiffe(format!("{} URIs", uris.len()))),
    }
}

/// What a certificate says of itself, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Distinguished name of the subject; empty for workloads.
    pub subject: String,
    /// Distinguished name of who signed it.
    pub issuer: String,
    /// Its URIs and DNS names.
    pub names: Vec<String>,
    /// Serial number in hex.
    pub serial: String,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
}

impl CertificateFacts {
    /// Reads a certificate in DER; `None` if it is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let extension = certificate.subject_alternative_name().ok()?;
        let names = extension.iter().flat_map(|extension| &extension.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::URI(name) | GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let (not_before, not_after) = validity(&certificate);
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            names: names.collect(),
            serial: certificate.raw_serial_as_string().replace(':', ""),
            not_before,
            not_after,
        })
    }
}

/// Trust anchors (PEM) in DER.
pub(crate) fn anchors(anchors_pem: &str) -> Result<Vec<Vec<u8>>, BadAnchors> {
    let anchors = CertificateDer::pem_slice_iter(anchors_pem.as_bytes());
    anchors.map(|der| der.map(|der| der.to_vec()).map_err(|_| BadAnchors)).collect()
}

/// Trust anchors (PEM) in the form that the TLS library takes.
pub(crate) fn roots(anchors_pem: &str) -> Result<Arc<RootCertStore>, BadAnchors> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors(anchors_pem)? {
        roots.add(anchor.into()).map_err(|_| BadAnchors)?;
    }
    if roots.is_empty() { Err(BadAnchors) } else { Ok(Arc::new(roots)) }
}

/// Trust anchors that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trust anchors are not a list of CA certificates in PEM")]
pub struct BadAnchors;

/// Why a handshake failed, if the peer's certificate was the cause.
pub fn untrusted(error: &std::io::Error) -> Option<String> {
    let Some(Error::InvalidCertificate(why)) = error.get_ref()?.downcast_ref::<Error>() else {
        return None;
    };
    Some(match why {
        CertificateError::Other(OtherError(why)) => why.to_string(),
        why => why.to_string(),
    })
}

/// The TLS library's error for a certificate that we reject.
pub(crate) fn refuse(why: PeerError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// How a verifier in the mesh looks at signatures: members speak TLS 1.3 only.
macro_rules! signatures_of_tls13 {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("members of a mesh speak TLS 1.3 only".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

/// How a verifier of others looks at signatures: as its `chain` does.
macro_rules! signatures_of_chain {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.chain.verify_tls12_signature(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.chain.verify_tls13_signature(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.chain.supported_verify_schemes()
        }
    };
}
pub(crate) use signatures_of_chain;

/// Verifies a server in the mesh: its chain against the anchors, its SPIFFE id against the expected
/// one. DNS names mean nothing between members.
#[derive(Debug)]
pub(crate) struct MemberServer {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) expected: Identity,
}

impl ServerCertVerifier for MemberServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &rustls::server::ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            algorithms().all,
        )?;
        let now = Timestamp(std::time::Duration::from_secs(now.as_secs()));
        let actual = peer_identity(std::slice::from_ref(end_entity), now).map_err(refuse)?;
        if actual != self.expected {
            return Err(refuse(PeerError::Unexpected { expected: self.expected.clone(), actual }));
        }
        Ok(ServerCertVerified::assertion())
    }

    signatures_of_tls13!();
}

/// Verifies a client in the mesh: its chain against the anchors, and that it has a SPIFFE id.
#[derive(Debug)]
pub(crate) struct MemberClient {
    chain: Arc<dyn ClientCertVerifier>,
}

impl MemberClient {
    pub(crate) fn new(roots: Arc<RootCertStore>, required: bool) -> Result<Self, BadAnchors> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider())
            // Members have only one certificate, so hints would only reveal the CA.
            .clear_root_hint_subjects();
        let chain = if required { chain } else { chain.allow_unauthenticated() };
        Ok(Self { chain: chain.build().map_err(|_| BadAnchors)? })
    }
}

impl ClientCertVerifier for MemberClient {
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
        let now = Timestamp(std::time::Duration::from_secs(now.as_secs()));
        peer_identity(std::slice::from_ref(end_entity), now).map_err(refuse)?;
        Ok(verified)
    }

    signatures_of_tls13!();
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}
