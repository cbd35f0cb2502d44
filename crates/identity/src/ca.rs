//! The certificate authority of a mesh.
//!
//! A workload's certificate names it by a SPIFFE URI, the only subject alternative name, marked
//! critical because there is no subject (RFC 5280, section 4.2.1.6; X.509-SVID, section 2). Only the
//! public key of a signing request is used; the authority decides everything else.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use ironmesh_model::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

use x509_parser::certificate::X509Certificate;

use crate::clock::Timestamp;
use crate::random::NoRandomness;
use crate::{peer, random};

/// A self-signed ECDSA P-256 root that signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, rcgen::KeyPair>,
    anchor_pem: String,
    /// When the root expires.
    not_after: Timestamp,
}

/// A certificate that the authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// DER, leaf first, without the trust anchor.
    pub chain: Vec<Vec<u8>>,
    /// Trust anchors for verifying peers, in PEM.
    pub anchors_pem: String,
    /// When it expires.
    pub not_after: Timestamp,
}

impl Authority {
    /// Creates an authority with a new root, which is not stored anywhere.
    ///
    /// # Errors
    ///
    /// If the system has no random bytes.
    pub fn create(now: Timestamp) -> Result<Self, CaError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = root_params(now)?.self_signed(&key)?;
        Self::new(certificate.der().clone(), certificate.pem(), key)
    }

    /// Opens the authority stored in a directory, or creates it there. Key and root are in one file of
    /// mode 0600, which is written atomically.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, written or understood, or its root has expired.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, CaError> {
        let path = directory.join(FILE);
        match fs::read(&path) {
            Ok(pem) => Self::from_pem(&path, &pem, now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let authority = Self::create(now)?;
                let pem = authority.issuer.key().serialize_pem() + &authority.anchor_pem;
                write_private(&path, pem.as_bytes())
                    .map_err(|source| CaError::Write { path, source })?;
                Ok(authority)
            }
            Err(source) => Err(CaError::Read { path, source }),
        }
    }

    /// The trust anchors that verify certificates of this authority, in PEM.
    pub fn anchors_pem(&self) -> &str {
        &self.anchor_pem
    }

    /// Signs a certificate for a workload, with the key of the request (PKCS #10 in DER) and the name
    /// `identity`. It is valid for `ttl` from `now`, but no longer than the root.
    ///
    /// # Errors
    ///
    /// If the request is malformed or not signed by its own key.
    pub fn sign(
        &self,
        csr_der: &[u8],
        identity: &Identity,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let csr = CertificateSigningRequestDer::from(csr_der);
        let request = CertificateSigningRequestParams::from_der(&csr).map_err(CaError::Request)?;
        self.issue(&request.public_key, vec![uri(identity)?], ttl, now)
    }

    /// Signs a certificate for one of the mesh's own servers, which is also known by a DNS name.
    pub(crate) fn sign_server(
        &self,
        key: &rcgen::KeyPair,
        identity: &Identity,
        dns_name: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let names = vec![uri(identity)?, SanType::DnsName(dns_name.try_into()?)];
        self.issue(key, names, ttl, now)
    }

    /// Signs a certificate for a server that clients know by DNS names and addresses alone.
    pub(crate) fn sign_names(
        &self,
        key: &rcgen::KeyPair,
        dns_names: &[String],
        addresses: &[IpAddr],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let names = dns_names.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
        let mut names = names.collect::<Result<Vec<_>, CaError>>()?;
        names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.issue(key, names, ttl, now)
    }

    fn issue(
        &self,
        key: &impl rcgen::PublicKeyData,
        names: Vec<SanType>,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        // Certificates have a resolution of one second.
        let not_after = Timestamp(Duration::from_secs(now.plus(ttl).unix_seconds()));
        let not_after = not_after.min(self.not_after);
        let mut params = params(now.minus(BACKDATED), not_after)?;
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(Issued {
            chain: vec![certificate.der().to_vec()],
            anchors_pem: self.anchor_pem.clone(),
            not_after,
        })
    }

    fn new(
        anchor: CertificateDer<'static>,
        anchor_pem: String,
        key: rcgen::KeyPair,
    ) -> Result<Self, CaError> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&anchor).map_err(|_| CaError::Unreadable)?;
        let not_after = peer::validity(&parsed).1;
        Ok(Self { issuer: Issuer::from_ca_cert_der(&anchor, key)?, anchor_pem, not_after })
    }

    fn from_pem(path: &Path, pem: &[u8], now: Timestamp) -> Result<Self, CaError> {
        let malformed = |why: &str| CaError::Malformed { path: path.into(), why: why.to_owned() };
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| malformed("it has no private key"))?;
        let anchor =
            CertificateDer::from_pem_slice(pem).map_err(|_| malformed("it has no certificate"))?;
        let key = rcgen::KeyPair::try_from(&key)
            .map_err(|_| malformed("its private key cannot be read"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&anchor)
            .map_err(|_| malformed("its certificate cannot be read"))?;
        if parsed.public_key().subject_public_key.data != rcgen::PublicKeyData::der_bytes(&key) {
            return Err(malformed("its key is not that of its certificate"));
        }
        if !is_self_signed(&anchor, &parsed) {
            return Err(malformed("its certificate was changed: it does not match its signature"));
        }
        if peer::validity(&parsed).1 <= now {
            return Err(malformed("its root certificate has expired"));
        }
        let text = String::from_utf8_lossy(pem);
        let certificate_at = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_default();
        let anchor_pem = text[certificate_at..].to_owned();
        Self::new(anchor, anchor_pem, key)
    }
}

/// Why an authority cannot be used, or why it refuses to sign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The file could not be read.
    #[error("CA file {path}: it cannot be read: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("CA file {path}: it cannot be written: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content of the file is not valid.
    #[error("CA file {path}: {why}; restore the file, or move it away to begin with a new root", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The request is malformed.
    #[error("certificate signing request: {0}")]
    Request(rcgen::Error),
    /// Signing failed.
    #[error("certificate: {0}")]
    Signing(#[from] rcgen::Error),
    /// The newly created root cannot be parsed.
    #[error("the root certificate cannot be read")]
    Unreadable,
    /// The system has no random bytes.
    #[error("serial number: {0}")]
    NoRandomness(#[from] NoRandomness),
}

/// Whether the root certificate is signed by its own key, as the one that was written is. The reader
/// of DER forgives some changes around the signature; this does not.
fn is_self_signed(der: &[u8], certificate: &X509Certificate<'_>) -> bool {
    let (body, signature) =
        (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    let Ok(length) = u8::try_from(signature.len() + 1) else { return false };
    let end = [ALGORITHM, &[BIT_STRING, length, 0], signature].concat();
    let key = &certificate.public_key().subject_public_key.data;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
    der.ends_with(&[body, &end].concat()) && key.verify(body, signature).is_ok()
}

fn root_params(now: Timestamp) -> Result<CertificateParams, CaError> {
    let mut params = params(now.minus(BACKDATED), now.plus(ROOT_LIFETIME))?;
    params.distinguished_name.push(DnType::OrganizationName, "ironmesh");
    params.distinguished_name.push(DnType::CommonName, "ironmesh root");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Parameters without a name, with a random serial number.
fn params(not_before: Timestamp, not_after: Timestamp) -> Result<CertificateParams, CaError> {
    let mut serial: [u8; 16] = random::bytes()?;
    // Positive, and of full length whatever was drawn (RFC 5280, section 4.1.2.2).
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = epoch + not_before.0;
    params.not_after = epoch + not_after.0;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn uri(identity: &Identity) -> Result<SanType, CaError> {
    Ok(SanType::URI(identity.to_string().try_into()?))
}

/// Writes a file that only its owner may read. After a crash the file is there either whole or not
/// at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

/// `ecdsa-with-SHA256` as an AlgorithmIdentifier in DER (RFC 5758, section 3.2).
const ALGORITHM: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
/// Tag of a BIT STRING in DER.
const BIT_STRING: u8 = 3;

/// Key and root certificate, in PEM.
const FILE: &str = "ca.pem";

/// Lifetime of a root, as Istio's self-signed one.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far before its creation a certificate is already valid, for clocks that are behind (as in
/// Istio).
const BACKDATED: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests;
