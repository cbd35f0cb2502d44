//! What a `Secret` has for TLS, in every form that Istio takes.

use std::collections::BTreeMap;

use ironmesh_model::credential::{CredentialSource, Secret as Hidden};
use ironmesh_model::{Finding, Name};

use super::kinds::Secret;
use super::{base64, read_workload};
use crate::Object;
use crate::translate::Part;

/// Translates a Secret; nothing if it has nothing for TLS.
pub(crate) fn credential(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let secret = read_workload::<Secret>(object, findings)?;
    let texts = texts(&secret);
    let first = |keys: &[&str]| keys.iter().find_map(|key| texts.get(*key));
    let certificate = first(&["tls.crt", "cert"]);
    let key = first(&["tls.key", "key"]);
    // Those that a chart of Istio mounts may be named as one likes.
    let any = || texts.values().find(|text| text.contains(CERTIFICATE));
    let trusted = first(&["ca.crt", "cacert"]).or_else(|| match certificate {
        None => any(),
        Some(_) => None,
    });
    let revoked = first(&["ca.crl", "crl"]);
    if certificate.is_none() && key.is_none() && trusted.is_none() {
        return None;
    }
    let name = |text: Option<&String>| text.map(|text| Name::from(text.as_str()));
    Some(Part::Credential(Box::new(CredentialSource {
        id: object.id().clone(),
        certificate: name(certificate),
        key: key.map(|key| Hidden::from(key.as_str())),
        trusted: name(trusted),
        revoked: name(revoked),
        flaw: None,
    })))
}

/// What is in a Secret, as far as it is text. What is no base64 is refused elsewhere.
fn texts(secret: &Secret) -> BTreeMap<&str, String> {
    let data = secret.data.iter().filter_map(|(name, value)| {
        let text = String::from_utf8(base64::decode(value)?).ok()?;
        Some((name.as_str(), text))
    });
    // As the server does when it takes them.
    let given = secret.string_data.iter().map(|(name, text)| (name.as_str(), text.clone()));
    data.chain(given).collect()
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn credential_of(data: &[(&str, &str)]) -> Option<CredentialSource> {
        let data: BTreeMap<&str, String> =
            data.iter().map(|(name, text)| (*name, base64::encode(text.as_bytes()))).collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "namespace": "n"}, "data": data,
        });
        let object = Object::new(secret).unwrap();
        let mut findings = Vec::new();
        match credential(&object, &mut findings)? {
            Part::Credential(credential) => Some(*credential),
            _ => None,
        }
    }

    #[test]
    fn every_form_is_taken() {
        for (certificate, key) in [("tls.crt", "tls.key"), ("cert", "key")] {
            let found = credential_of(&[(certificate, "C"), (key, "K"), ("ca.crt", "A")]).unwrap();
            assert_eq!(found.certificate.as_deref(), Some("C"));
            assert_eq!(found.key.as_ref().map(Hidden::reveal), Some("K"));
            assert_eq!(found.trusted.as_deref(), Some("A"));
        }
        let trusted = |data: &[(&str, &str)]| credential_of(data).and_then(|found| found.trusted);
        assert_eq!(trusted(&[("cacert", "A")]).as_deref(), Some("A"));
        let chain = format!("{CERTIFICATE}\n...");
        assert_eq!(trusted(&[("ca-chain.pem", &chain)]).as_deref(), Some(&*chain));
        assert_eq!(trusted(&[("cert", "C"), ("other.pem", &chain)]), None);
        let revoked = credential_of(&[("ca.crt", "A"), ("ca.crl", "R")]).unwrap().revoked;
        assert_eq!(revoked.as_deref(), Some("R"));
        assert!(credential_of(&[("password", "x")]).is_none());
    }
}
