use ironmesh_model::credential::Secret;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;
use crate::clock::SystemClock;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(by: &Issuer, name: &str) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    Certificate { chain: certificate.pem().into(), key: key.serialize_pem().into() }
}

fn server(by: &Issuer) -> Termination {
    Termination {
        from: "Secret a/b".into(),
        certificates: vec![certificate(by, "a.test")],
        client: ClientCertificate::None,
        trusted: None,
        revoked: None,
        names: Vec::new(),
        key_hashes: Vec::new(),
        certificate_hashes: Vec::new(),
        lowest: TlsVersion::V12,
        highest: TlsVersion::V13,
    }
}

/// Whether a client gets a byte through to a server, who is asked for `a.test`.
async fn is_served(given: &Termination, ca: &Issuer, own: Option<&Certificate>) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let tls = ServerTls::new(given, &[b"h2", b"http/1.1"], Arc::new(SystemClock)).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(ca.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(edge_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let own = certified(own).unwrap();
            let resolver = rustls::sign::SingleCertAndKey::from(own);
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
    };
    let (near, far) = tokio::io::duplex(1 << 16);
    let serves = async {
        let mut stream = tls.accept(far).await.ok()?;
        stream.write_all(b"!").await.ok()?;
        stream.shutdown().await.ok()
    };
    let asks = async {
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream =
            connector.connect(ServerName::try_from("a.test").unwrap(), near).await.ok()?;
        stream.read_u8().await.ok()
    };
    let (served, asked) = tokio::join!(serves, asks);
    served.is_some() && asked == Some(b'!')
}

#[tokio::test]
async fn clients_are_asked_for_what_the_server_says() {
    let (ca, clients, strangers) = (authority(), authority(), authority());
    let mut given = server(&ca);
    assert!(is_served(&given, &ca, None).await);
    assert!(!is_served(&given, &strangers, None).await, "the client trusts others");
    let (good, alien) = (certificate(&clients, "me.test"), certificate(&strangers, "me.test"));
    given.trusted = Some(clients.pem().into());
    for (asked, without) in
        [(ClientCertificate::Required, false), (ClientCertificate::Optional, true)]
    {
        given.client = asked;
        assert!(is_served(&given, &ca, Some(&good)).await, "{asked:?}");
        assert!(!is_served(&given, &ca, Some(&alien)).await, "{asked:?}");
        assert_eq!(is_served(&given, &ca, None).await, without, "{asked:?}");
    }
    given.names = vec!["you.test".into()];
    assert!(!is_served(&given, &ca, Some(&good)).await);
    given.names.push("me.test".into());
    assert!(is_served(&given, &ca, Some(&good)).await);
    let der = CertificateDer::from_pem_slice(good.chain.as_bytes()).unwrap();
    let hash = HEXLOWER.encode(digest(&SHA256, &der).as_ref());
    given.certificate_hashes = vec!["00".into()];
    assert!(!is_served(&given, &ca, Some(&good)).await);
    given.certificate_hashes.push(hash.as_str().into());
    assert!(is_served(&given, &ca, Some(&good)).await);
    let text = client_text(&der);
    let mut fields = text.split(';');
    assert_eq!(fields.next(), Some(&*format!("Hash={hash}")));
    let encoded = fields.next().and_then(|field| field.strip_prefix("Cert=\""));
    let pem = encoded.unwrap().trim_end_matches('"').replace("%0A", "\n").replace("%20", " ");
    let pem = pem.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    assert_eq!(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap(), der);
    assert_eq!(text.split(';').next_back(), Some("DNS=me.test"));
}

#[tokio::test]
async fn who_was_revoked_is_refused() {
    let (ca, clients) = (authority(), authority());
    let (good, bad) = (certificate(&clients, "good.test"), certificate(&clients, "bad.test"));
    let der = CertificateDer::from_pem_slice(bad.chain.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let now = rcgen::date_time_ymd(2020, 1, 1);
    let list = rcgen::CertificateRevocationListParams {
        this_update: now,
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(parsed.raw_serial()),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let mut given = server(&ca);
    given.client = ClientCertificate::Required;
    given.trusted = Some(clients.pem().into());
    assert!(is_served(&given, &ca, Some(&bad)).await);
    given.revoked = Some(list.signed_by(&clients).unwrap().pem().unwrap().into());
    assert!(!is_served(&given, &ca, Some(&bad)).await);
    assert!(is_served(&given, &ca, Some(&good)).await);
}

#[test]
fn what_cannot_be_used_says_why() {
    let ca = authority();
    let (one, other) = (certificate(&ca, "a.test"), certificate(&ca, "a.test"));
    assert_eq!(check(&one), Ok(()));
    let of =
        |chain: &str, key: &Secret| check(&Certificate { chain: chain.into(), key: key.clone() });
    assert_eq!(of(&one.chain, &other.key), Err(ServerTlsError::NotItsKey));
    assert_eq!(of("garbage", &one.key), Err(ServerTlsError::Chain));
    assert_eq!(of(&one.chain, &"garbage".into()), Err(ServerTlsError::Key));
    assert!(check_authorities(Some("garbage"), None).is_err());
    assert!(check_authorities(None, Some("garbage")).is_err());
    assert_eq!(check_authorities(Some(&ca.pem()), None), Ok(()));
    let mut given = server(&ca);
    given.client = ClientCertificate::Required;
    let made = |given: &Termination| ServerTls::new(given, &[], Arc::new(SystemClock)).map(|_| ());
    assert!(matches!(made(&given), Err(ServerTlsError::Authorities(_))));
    given.certificates.clear();
    assert_eq!(made(&given), Err(ServerTlsError::NoCertificate));
}
