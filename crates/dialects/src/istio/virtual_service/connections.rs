//! `tls` and `tcp`: rules for connections whose requests are not looked at.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ironmesh_model::FindingCode;
use ironmesh_model::network::Network;
use ironmesh_model::route::{Backend, ConnectionMatch, ConnectionRule, HeaderOps};

use super::{L4Match, RouteDestination, Spec, TlsMatch, Translator, weight};
use crate::istio::{gateway_name, labels};
use crate::path::{field, item};

impl Translator<'_> {
    /// The rules in the order in which they are tried: those of `tls` first, as in Istio.
    pub(super) fn connection_rules(&mut self, spec: &Spec) -> Vec<ConnectionRule> {
        let mut rules = Vec::new();
        for (at, given) in spec.tls.iter().enumerate() {
            let place = item("tls", at);
            if given.matches.is_empty() {
                let message = "a rule of tls needs a match with sniHosts";
                self.report(format!("spec.{place}.match"), FindingCode::Missing, message);
                continue;
            }
            let path = format!("spec.{place}.match");
            for (at, given) in given.matches.iter().enumerate() {
                self.no_server_name(given, &item(&path, at));
            }
            let matches: Option<Vec<_>> =
                given.matches.iter().map(|given| self.tls_match(given)).collect();
            rules.extend(self.connection_rule(&place, matches, &given.route));
        }
        for (at, given) in spec.tcp.iter().enumerate() {
            let place = item("tcp", at);
            let matches: Option<Vec<_>> =
                given.matches.iter().map(|given| self.l4_match(given)).collect();
            rules.extend(self.connection_rule(&place, matches, &given.route));
        }
        rules
    }

    /// `matches`: `None` if one of them has a condition that cannot be read, of which the validation
    /// tells; without it the rule would take what is not meant for it, so it takes nothing.
    fn connection_rule(
        &mut self,
        place: &str,
        matches: Option<Vec<ConnectionMatch>>,
        route: &[RouteDestination],
    ) -> Option<ConnectionRule> {
        let path = format!("spec.{place}");
        if route.is_empty() {
            self.report(field(&path, "route"), FindingCode::Missing, "it needs a destination");
            return None;
        }
        let backends = route.iter().map(|given| self.connection_backend(given));
        let mut backends: Vec<Backend> = backends.collect();
        if route.iter().all(|destination| destination.weight.is_none()) {
            backends.iter_mut().for_each(|backend| backend.weight = 1);
        }
        if backends.len() > 1 && backends.iter().all(|backend| backend.weight == 0) {
            let message = "no destination has a weight above 0";
            self.report(field(&path, "route"), FindingCode::NoWeight, message);
        }
        Some(ConnectionRule { place: place.into(), matches: matches?, backends })
    }

    fn connection_backend(&self, given: &RouteDestination) -> Backend {
        let weight = given.weight.map_or(0, weight);
        self.backend_of(&given.destination, weight, HeaderOps::default())
    }

    /// What no client names.
    fn no_server_name(&mut self, given: &TlsMatch, path: &str) {
        let path = field(path, "sniHosts");
        for (at, name) in given.sni_hosts.iter().enumerate() {
            if name.parse::<IpAddr>().is_ok() {
                let message = "clients name no address in TLS (RFC 6066, section 3); \
                               destinationSubnets are for addresses";
                self.report(item(&path, at), FindingCode::NoEffect, message);
            }
        }
    }

    fn tls_match(&self, given: &TlsMatch) -> Option<ConnectionMatch> {
        let names = given.sni_hosts.iter().map(|name| name.to_ascii_lowercase().into()).collect();
        let of = self.match_of(&given.source_labels, &given.source_namespace, &given.gateways);
        let destinations = networks(&given.destination_subnets)?;
        let is_honoured = !given.sni_hosts.is_empty();
        let port = given.port;
        is_honoured.then_some(ConnectionMatch { server_names: names, port, destinations, ..of })
    }

    fn l4_match(&self, given: &L4Match) -> Option<ConnectionMatch> {
        let of = self.match_of(&given.source_labels, &given.source_namespace, &given.gateways);
        let destinations = networks(&given.destination_subnets)?;
        Some(ConnectionMatch { port: given.port, destinations, ..of })
    }

    fn match_of(
        &self,
        source_labels: &BTreeMap<String, String>,
        source_namespace: &str,
        gateways: &[String],
    ) -> ConnectionMatch {
        ConnectionMatch {
            source_labels: labels(source_labels),
            source_namespace: (!source_namespace.is_empty()).then(|| source_namespace.into()),
            gateways: gateways.iter().map(|name| gateway_name(name, self.object)).collect(),
            ..ConnectionMatch::default()
        }
    }
}

/// Networks, of which one that is written without its size is a single address; `None`: one is none.
fn networks(given: &[String]) -> Option<Vec<Network>> {
    given.iter().map(|text| Network::of_text(text)).collect()
}
