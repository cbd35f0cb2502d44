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
