//! Tests of who is taken for a server, and what it is shown.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::clock::SystemClock;

/// An authority outside of the mesh.
struct Outside(CertifiedIssuer<'static, KeyPair>);

/// A certificate of it, with its key.
struct Leaf {
    pem: String,
    key: KeyPair,
}

impl Outside {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> Option<Vec<u8>> {
        Some(self.0.pem().into_bytes())
    }

    /// A certificate for `example.com` and a URI, of this serial number.
    fn leaf(&self, serial: u64) -> Leaf {
        let mut params = CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://outside/app".try_into().unwrap()));
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.0).unwrap().pem();
        Leaf { pem, key }
    }

    /// A list in which this serial number is revoked.
    fn revoking(&self, serial: u64) -> Option<Vec<u8>> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Some(params.signed_by(&self.0).unwrap().pem().unwrap().into_bytes())
    }
}

impl Leaf {
    fn own(&self) -> Own {
        own(&self.files()).unwrap()
    }

    fn files(&self) -> GivenFiles {
        GivenFiles {
            certificate: Some(self.pem.clone().into_bytes()),
            key: Some(self.key.serialize_pem().into_bytes()),
            ..GivenFiles::default()
        }
    }
}

fn simple() -> ClientTls {
    ClientTls { mode: TlsMode::Simple, sni: Some("example.com".into()), ..<_>::default() }
}

fn tls(given: &ClientTls, files: &GivenFiles) -> Result<GivenTls, GivenTlsError> {
    GivenTls::new(given, files, &[b"h2"], Arc::new(SystemClock))
}

/// A server that shows this, and may ask for a certificate of these authorities.
fn server(
    leaf: &Leaf,
    version: &'static SupportedProtocolVersion,
    clients: Option<&Outside>,
) -> TlsAcceptor {
    let (chain, key) = leaf.own();
    let builder = ServerConfig::builder_with_provider(outside_provider());
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(of) => {
            let trusted = roots(&of.0.pem()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(trusted, outside_provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// What comes of a connection: the name that the server saw, or why there is none.
async fn connected(client: &GivenTls, server: &TlsAcceptor) -> Result<String, String> {
    let (near, far) = duplex(64 << 10);
    let serve = async {
        let mut stream = server.accept(far).await?;
        stream.write_all(b"x").await?;
        let seen = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
        io::Result::Ok(seen)
    };
    let ask = async {
        let mut stream = client.connect(near).await?;
        stream.read_exact(&mut [0]).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        io::Result::Ok(())
    };
    match tokio::join!(ask, serve) {
        (Ok(()), Ok(seen)) => Ok(seen),
        (Err(error), _) => Err(crate::peer::untrusted(&error).unwrap_or(error.to_string())),
        (Ok(()), Err(error)) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn a_server_has_to_be_who_the_policy_says() {
    let (outside, other) = (Outside::new(), Outside::new());
    let leaf = outside.leaf(7);
    let trusted = GivenFiles { trusted: outside.pem(), ..<_>::default() };
    let named = |names: &[&str]| ClientTls {
        names: names.iter().map(|name| (*name).into()).collect(),
        ..simple()
    };
    let revoked = |serial| GivenFiles { revoked: outside.revoking(serial), ..trusted.clone() };
    let not_trusted = GivenFiles { trusted: other.pem(), ..<_>::default() };
    let elsewhere = |given| ClientTls { sni: Some("example.org".into()), ..given };
    let anyone = ClientTls { skip_verify: true, ..elsewhere(named(&["nobody"])) };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = server(&leaf, version, None);
        for (given, files, expected) in [
            (simple(), &trusted, Some("example.com")),
            (elsewhere(simple()), &trusted, None),
            (simple(), &not_trusted, None),
            // Nobody of Mozilla's has signed it.
            (simple(), &GivenFiles::default(), None),
            (named(&["spiffe://outside/app"]), &trusted, Some("example.com")),
            // The names take the place of the one in the ClientHello.
            (elsewhere(named(&["nobody", "example.com"])), &trusted, Some("example.org")),
            (named(&["nobody"]), &trusted, None),
            (named(&["spiffe://outside/app"]), &not_trusted, None),
            (named(&["*.com"]), &trusted, None),
            (simple(), &revoked(8), Some("example.com")),
            (simple(), &revoked(7), None),
            (named(&["example.com"]), &revoked(7), None),
            (anyone.clone(), &not_trusted, Some("example.org")),
        ] {
            let client = tls(&given, files).unwrap();
            let seen = connected(&client, &server).await;
            assert_eq!(seen.as_deref().ok(), expected, "{given:?}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_is_shown_the_certificate() {
    let (outside, clients) = (Outside::new(), Outside::new());
    let server = server(&outside.leaf(1), &rustls::version::TLS13, Some(&clients));
    let mutual = ClientTls { mode: TlsMode::Mutual, ..simple() };
    let files = |leaf: &Leaf| GivenFiles { trusted: outside.pem(), ..leaf.files() };
    for (given, of, expected) in
        [(&mutual, &clients, true), (&mutual, &outside, false), (&simple(), &clients, false)]
    {
        let client = tls(given, &files(&of.leaf(2))).unwrap();
        let seen = connected(&client, &server).await;
        assert_eq!(seen.is_ok(), expected, "{given:?} {seen:?}");
    }
}

#[test]
fn what_cannot_be_used_is_told() {
    let outside = Outside::new();
    let (one, two) = (outside.leaf(1), outside.leaf(2));
    let mutual = ClientTls { mode: TlsMode::Mutual, ..simple() };
    let why = |given: &ClientTls, files| tls(given, &files).map(|_| ()).unwrap_err();
    let junk = || Some(b"junk".to_vec());
    for name in ["", "*.example.com", "a b"] {
        let given = ClientTls { sni: Some(name.into()), ..simple() };
        assert_eq!(why(&given, GivenFiles::default()), GivenTlsError::Name(name.to_owned()));
    }
    for (files, expected) in [
        (GivenFiles::default(), GivenTlsError::NoCertificate),
        (GivenFiles { key: None, ..one.files() }, GivenTlsError::NoCertificate),
        (GivenFiles { certificate: junk(), ..one.files() }, GivenTlsError::Chain),
        (GivenFiles { key: junk(), ..one.files() }, GivenTlsError::Key),
        (GivenFiles { key: two.files().key, ..one.files() }, GivenTlsError::NotItsKey),
        (GivenFiles { trusted: junk(), ..one.files() }, GivenTlsError::Authorities(BadAnchors)),
        (
            GivenFiles { trusted: Some(vec![0xff]), ..one.files() },
            GivenTlsError::Authorities(BadAnchors),
        ),
        (GivenFiles { revoked: junk(), ..one.files() }, GivenTlsError::Revoked),
    ] {
        assert_eq!(why(&mutual, files.clone()), expected, "{files:?}");
    }
}
