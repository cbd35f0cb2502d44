//! What sections of a policy get from elsewhere.

use crate::policy::TrafficPolicy;
use crate::resource::Destination;
use crate::service::Service;

/// A policy with what the Secret has that it names, and with the names that the service gives itself. For
/// who may not have a Secret the policy names none, as in Istio; names of its own go before those of the
/// service.
pub(super) fn completed(
    mut traffic: TrafficPolicy,
    destination: &Destination,
    service: &Service,
) -> TrafficPolicy {
    let Some(tls) = &mut traffic.tls else { return traffic };
    if let Some(named) = tls.credential.take() {
        let held = destination.credentials.iter().find(|held| held.name == named.name);
        tls.credential = held.cloned().map(Box::new);
    }
    if tls.names.is_empty() {
        tls.names.clone_from(&service.certificate_names);
    }
    traffic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::ClientCredential;
    use crate::policy::ClientTls;
    use crate::test_world::service;

    #[test]
    fn a_policy_gets_what_the_secret_has_that_it_names() {
        let secret = |name: &str, trusted: Option<&str>| ClientCredential {
            name: name.into(),
            certificate: None,
            trusted: trusted.map(Into::into),
            revoked: None,
        };
        let held = [secret("other", Some("others")), secret("own", Some("its own"))];
        let of = |held: &[ClientCredential]| {
            let credential = Some(Box::new(secret("own", None)));
            let tls = Some(ClientTls { credential, ..ClientTls::default() });
            let destination = Destination {
                host: "app".into(),
                service: None,
                policies: Vec::new(),
                credentials: held.to_vec(),
            };
            let service = service("default", "app", 1, 80, &[]).service;
            let traffic = TrafficPolicy { tls, ..TrafficPolicy::default() };
            completed(traffic, &destination, &service).tls.unwrap().credential
        };
        assert_eq!(of(&held).map(|held| *held), Some(held[1].clone()));
        assert_eq!(of(&held[..1]), None, "it may not have it");
    }
}
