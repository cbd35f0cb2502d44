use std::os::unix::fs::PermissionsExt;

use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::workload::KeyPair;

fn identity(account: &str) -> Identity {
    Identity {
        trust_domain: "cluster.local".into(),
        namespace: "default".into(),
        service_account: account.into(),
    }
}

#[test]
fn a_certificate_names_the_identity_and_nothing_else() {
    let now = SystemClock.now();
    let authority = Authority::create(now).unwrap();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let issued = authority.sign(&csr, &identity("reviews"), Duration::from_secs(30), now).unwrap();
    assert_eq!(issued.chain.len(), 1, "the anchor must not travel with the chain");
    assert_eq!(issued.not_after.unix_seconds(), now.unix_seconds() + 30);

    let (_, leaf) = parse_x509_certificate(&issued.chain[0]).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical, "the only name of a certificate without subject must be critical");
    assert_eq!(
        names.value.general_names,
        [GeneralName::URI("spiffe://cluster.local/ns/default/sa/reviews")]
    );
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth);
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let valid = leaf.validity();
    assert_eq!(valid.not_after.timestamp() as u64, now.unix_seconds() + 30);
    assert_eq!(valid.not_before.timestamp() as u64, now.unix_seconds() - 120);
}

#[test]
fn what_a_request_asks_for_beside_its_key_is_not_given() {
    let now = SystemClock.now();
    let authority = Authority::create(now).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["evil.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
        .subject_alt_names
        .push(SanType::URI("spiffe://cluster.local/ns/istio-system/sa/istiod".try_into().unwrap()));
    let csr = params.serialize_request(&key).unwrap();
    let sign =
        |csr: &[u8]| authority.sign(csr, &identity("details"), Duration::from_secs(3600), now);
    let issued = sign(csr.der()).unwrap();
    let (_, leaf) = parse_x509_certificate(&issued.chain[0]).unwrap();
    assert_eq!(
        leaf.subject_alternative_name().unwrap().unwrap().value.general_names,
        [GeneralName::URI("spiffe://cluster.local/ns/default/sa/details")]
    );
    assert!(!leaf.is_ca());
    assert_eq!(leaf.public_key().subject_public_key.data, rcgen::PublicKeyData::der_bytes(&key));

    let mut forged = csr.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(sign(&forged), Err(CaError::Request(_))), "its own key did not sign it");
    assert!(sign(b"not a request").is_err());
    assert!(sign(b"").is_err());
}

#[test]
fn serial_numbers_differ_even_for_one_key() {
    let now = SystemClock.now();
    let authority = Authority::create(now).unwrap();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let serial = || {
        let issued = authority.sign(&csr, &identity("a"), Duration::from_secs(60), now).unwrap();
        let (_, leaf) = parse_x509_certificate(&issued.chain[0]).unwrap();
        leaf.serial.clone()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn an_authority_survives_in_its_directory_and_only_its_owner_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemClock.now();
    let first = Authority::open(directory.path(), now).unwrap();
    let second = Authority::open(directory.path(), now).unwrap();
    assert_eq!(first.anchors_pem(), second.anchors_pem());

    let files: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files, [directory.path().join("ca.pem")]);
    let mode = fs::metadata(&files[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // What the second one signs is valid for who trusts the first one's anchors.
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let issued = second.sign(&csr, &identity("a"), Duration::from_secs(60), now).unwrap();
    let anchor = CertificateDer::from_pem_slice(first.anchors_pem().as_bytes()).unwrap();
    let (_, anchor) = parse_x509_certificate(&anchor).unwrap();
    let (_, leaf) = parse_x509_certificate(&issued.chain[0]).unwrap();
    assert_eq!(leaf.issuer(), anchor.subject());
    assert!(anchor.is_ca());
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_its_path_and_the_reason() {
    let now = SystemClock.now();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    Authority::open(directory.path(), now).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let other = Authority::create(now).unwrap();

    let key_only = good[..good.find("-----BEGIN CERTIFICATE").unwrap()].to_owned();
    for (content, expected) in [
        (String::new(), "no private key"),
        (key_only.clone(), "no certificate"),
        (key_only + other.anchors_pem(), "not that of its certificate"),
    ] {
        fs::write(&path, content).unwrap();
        let error = Authority::open(directory.path(), now).unwrap_err().to_string();
        assert!(error.contains("ca.pem") && error.contains(expected), "{error}");
    }

    fs::write(&path, good).unwrap();
    let in_eleven_years = now.plus(Duration::from_secs(11 * 365 * 24 * 3600));
    let error = Authority::open(directory.path(), in_eleven_years).unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");
}

#[test]
fn every_cut_and_flip_of_the_file_is_refused_with_place_and_remedy_or_harmless() {
    let now = SystemClock.now();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let authority = Authority::open(directory.path(), now).unwrap();
    let good = fs::read(&path).unwrap();
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let root = der(authority.anchors_pem());
    let cuts = (0..good.len()).map(|cut| good[..cut].to_vec());
    let flips = (0..good.len()).map(|at| {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        flipped
    });
    for damaged in cuts.chain(flips) {
        fs::write(&path, &damaged).unwrap();
        match Authority::open(directory.path(), now) {
            // The same root, and a line that ends elsewhere.
            Ok(opened) => assert_eq!(der(opened.anchors_pem()), root),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("ca.pem") && error.contains("move it away"), "{error}");
            }
        }
        assert_eq!(fs::read(&path).unwrap(), damaged, "the file is left as it is");
    }
}

#[test]
fn a_directory_that_is_not_there_is_an_error_not_a_panic() {
    let error = Authority::open(Path::new("/nonexistent"), SystemClock.now()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
}

#[test]
fn no_certificate_outlives_the_root() {
    let now = SystemClock.now();
    let authority = Authority::create(now).unwrap();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let late = now.plus(ROOT_LIFETIME - Duration::from_secs(10));
    let issued = authority.sign(&csr, &identity("a"), Duration::from_secs(3600), late).unwrap();
    let root_end = now.plus(ROOT_LIFETIME).unix_seconds();
    assert_eq!(issued.not_after.unix_seconds(), root_end);
    let (_, leaf) = parse_x509_certificate(&issued.chain[0]).unwrap();
    assert_eq!(leaf.validity().not_after.timestamp() as u64, root_end);
}
