//! `DestinationRule`.

use ironmesh_model::credential::ClientCredential;
use ironmesh_model::draw::Share;
use ironmesh_model::policy::{self, DestinationPolicy, Keepalive, PortPolicy};
use ironmesh_model::snapshot::{DestinationPolicySource, NamedSecret};
use ironmesh_model::{Finding, FindingCode, Name};

use super::{export_to, fully_qualified, labels};
use crate::Object;
use crate::path::{field, item};
use crate::schema::read;
use crate::translate::Part;

mod balance;
mod fields;

use balance::{Report, TrafficPolicyFields, failover_without_detection};
pub use fields::*;

/// Translates a DestinationRule.
pub(crate) fn destination_rule(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let DestinationRule { spec, .. } = read(object, findings)?;
    let mut report = |path: String, code, message: String| {
        findings.push(Finding::new(object.id(), path, code, message));
    };
    let subsets = spec.subsets.iter().enumerate().map(|(at, subset)| policy::Subset {
        name: subset.name.as_str().into(),
        labels: labels(&subset.labels),
        traffic: traffic(
            &subset.traffic_policy,
            &field(&item("spec.subsets", at), "trafficPolicy"),
            &mut report,
        ),
    });
    let subsets = subsets.collect();
    let traffic = spec.traffic_policy.as_ref();
    let traffic = traffic.map(|given| self::traffic(given, "spec.trafficPolicy", &mut report));
    let traffic = balance::by_annotation(object, traffic, &mut report);
    let (mutual_tls_at, credentials) = (mutual_tls_at(&spec), credentials(&spec));
    without_detection(&spec, &mut report);
    Some(Part::DestinationPolicy(Box::new(DestinationPolicySource {
        policy: DestinationPolicy { id: object.id().clone(), traffic, subsets, fills: false },
        host: fully_qualified(&spec.host, object),
        export_to: export_to(&spec.export_to, object),
        selector: spec.workload_selector.as_ref().map(|selector| labels(&selector.match_labels)),
        created: object.created(),
        mutual_tls_at,
        credentials,
    })))
}

/// Finds preferences of localities that nothing leads to, in the whole, its subsets and ports.
fn without_detection(spec: &Spec, report: Report<'_>) {
    let wider = spec.traffic_policy.as_ref().and_then(|own| own.outlier_detection.as_ref());
    let whole = spec.traffic_policy.iter().map(|own| ("spec.trafficPolicy".to_owned(), own));
    let subsets =
        spec.subsets.iter().enumerate().map(|(at, own)| {
            (field(&item("spec.subsets", at), "trafficPolicy"), &own.traffic_policy)
        });
    for (path, own) in whole.chain(subsets) {
        let sections = TrafficPolicyFields {
            load_balancer: own.load_balancer.as_ref(),
            outlier_detection: own.outlier_detection.as_ref().or(wider),
        };
        failover_without_detection(&sections, &path, report);
        for (at, port) in own.port_level_settings.iter().enumerate() {
            let sections = TrafficPolicyFields {
                load_balancer: port.load_balancer.as_ref(),
                outlier_detection: port.outlier_detection.as_ref(),
            };
            let path = item(&field(&path, "portLevelSettings"), at);
            failover_without_detection(&sections, &path, report);
        }
    }
}

/// Where it asks for `ISTIO_MUTUAL`.
fn mutual_tls_at(spec: &Spec) -> Vec<String> {
    let is_mesh = |tls: &ClientTls| tls.mode == Some(TlsMode::IstioMutual);
    let mut at: Vec<String> = Vec::new();
    for (path, policy) in policies(spec) {
        if policy.tls.as_ref().is_some_and(is_mesh) {
            at.push(format!("{path}.tls.mode"));
        }
    }
    at
}

/// The Secrets that it names, each with its field.
fn credentials(spec: &Spec) -> Vec<NamedSecret> {
    let mut named = Vec::new();
    for (path, policy) in policies(spec) {
        let ports = policy.port_level_settings.iter().enumerate();
        let of_ports = ports.filter_map(|(at, own)| {
            Some((item(&field(&path, "portLevelSettings"), at), own.tls.as_ref()?))
        });
        let own = policy.tls.as_ref().map(|tls| (path.clone(), tls));
        for (path, tls) in own.into_iter().chain(of_ports) {
            if let Some(name) = credential_name(tls) {
                let place = format!("{path}.tls.credentialName");
                let is_shown = tls.mode == Some(TlsMode::Mutual);
                named.push(NamedSecret { name, place, is_shown });
            }
        }
    }
    named
}

/// The policies of the whole and of its subsets, each with its path.
fn policies(spec: &Spec) -> impl Iterator<Item = (String, &TrafficPolicy)> {
    let whole = spec.traffic_policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = spec.subsets.iter().enumerate().map(|(at, subset)| {
        (field(&item("spec.subsets", at), "trafficPolicy"), &subset.traffic_policy)
    });
    whole.chain(subsets)
}

/// The Secret that stands for all files.
fn credential_name(tls: &ClientTls) -> Option<Name> {
    let takes_one = matches!(tls.mode, Some(TlsMode::Simple | TlsMode::Mutual));
    let name = tls.credential_name.trim_start_matches("kubernetes://");
    (takes_one && !name.is_empty()).then(|| name.into())
}

/// What the policy at this path says, by section and port.
pub(super) fn traffic(
    given: &TrafficPolicy,
    path: &str,
    report: Report<'_>,
) -> policy::TrafficPolicy {
    let mut balance = |given: &Option<LoadBalancer>, of: &str| {
        let path = field(of, "loadBalancer");
        given.as_ref().map(|given| balance::balance(given, &path, report))
    };
    let mut ports = Vec::new();
    for (at, own) in given.port_level_settings.iter().enumerate() {
        let path = item(&field(path, "portLevelSettings"), at);
        let traffic = policy::TrafficPolicy {
            balance: balance(&own.load_balancer, &path),
            outlier: own.outlier_detection.as_ref().map(outlier),
            pool: own.connection_pool.as_ref().map(pool),
            retry_budget: None,
            tls: own.tls.as_ref().map(tls),
            proxy_protocol: None,
            tunnel: None,
            ports: Vec::new(),
        };
        ports.extend(own.port.number.map(|port| PortPolicy { port, traffic }));
    }
    policy::TrafficPolicy {
        balance: balance(&given.load_balancer, path),
        outlier: given.outlier_detection.as_ref().map(outlier),
        pool: given.connection_pool.as_ref().map(pool),
        retry_budget: given.retry_budget.as_ref().map(retry_budget),
        tls: given.tls.as_ref().map(tls),
        proxy_protocol: given.proxy_protocol.as_ref().map(proxy_protocol),
        tunnel: given.tunnel.as_ref().and_then(|given| tunnel(given, path, report)),
        ports,
    }
}

/// Envoy's defaults stand in for what is left out; 0 retries in any case are as good as left out, as in
/// Istio.
fn retry_budget(given: &RetryBudget) -> policy::RetryBudget {
    let default = policy::RetryBudget::default();
    policy::RetryBudget {
        share: given.percent.map_or(default.share, Share::of_percent),
        retries_min: given.min_retry_concurrency.filter(|n| *n > 0).unwrap_or(default.retries_min),
    }
}

/// Envoy's defaults stand in for what is left out, as Istio leaves it out towards Envoy.
fn outlier(given: &OutlierDetection) -> policy::OutlierDetection {
    let left_out = policy::OutlierDetection::default();
    let percent = |given: Option<i32>| given.and_then(|n| u8::try_from(n).ok()).map(|n| n.min(100));
    let of_old = given.http.clone().unwrap_or_default();
    let share = percent(given.max_ejection_percent.or(of_old.max_ejection_percent));
    let share = share.filter(|percent| *percent > 0);
    // What it was called first, when it counted gateway errors and nothing else did.
    let old = given.consecutive_errors.or(of_old.consecutive_errors);
    let old = old.and_then(|n| u32::try_from(n).ok());
    let old = old.filter(|_| given.consecutive_gateway_errors.is_none());
    let consecutive_5xx = if old.is_some() { 0 } else { left_out.consecutive_5xx };
    let local = given.consecutive_local_origin_failures.filter(|n| *n > 0);
    let split = given.split_external_local_origin_errors == Some(true);
    policy::OutlierDetection {
        consecutive_5xx: given.consecutive_5xx_errors.unwrap_or(consecutive_5xx),
        consecutive_gateway: given.consecutive_gateway_errors.or(old).unwrap_or(0),
        consecutive_local: split.then(|| local.unwrap_or(LOCAL_ORIGIN_DEFAULT)),
        interval: given.interval.or(of_old.interval).unwrap_or(left_out.interval),
        base_ejection: (given.base_ejection_time.or(of_old.base_ejection_time))
            .unwrap_or(left_out.base_ejection),
        max_ejection_percent: share.unwrap_or(left_out.max_ejection_percent),
        min_health_percent: percent(given.min_health_percent).unwrap_or(0),
    }
}

/// Limits that are left out or zero are none, as in Istio.
pub(super) fn pool(given: &ConnectionPool) -> policy::ConnectionPool {
    let limit = |given: Option<i32>| given.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let (tcp, http) = (&given.tcp, &given.http);
    policy::ConnectionPool {
        connections_max: limit(tcp.max_connections),
        connect_timeout: tcp.connect_timeout,
        keepalive: tcp.tcp_keepalive.as_ref().map(|given| Keepalive {
            probes: given.probes.filter(|n| *n > 0),
            time: given.time,
            interval: given.interval,
        }),
        connection_age_max: tcp.max_connection_duration,
        tcp_idle_timeout: tcp.idle_timeout,
        pending_max: limit(http.http1_max_pending_requests),
        requests_max: limit(http.http2_max_requests),
        requests_per_connection_max: limit(http.max_requests_per_connection),
        retries_max: limit(http.max_retries),
        http_idle_timeout: http.idle_timeout,
        upgrade: match http.h2_upgrade_policy {
            None | Some(H2UpgradePolicy::Default) => None,
            Some(H2UpgradePolicy::DoNotUpgrade) => Some(false),
            Some(H2UpgradePolicy::Upgrade) => Some(true),
        },
        client_protocol: http.use_client_protocol == Some(true),
        streams_max: limit(http.max_concurrent_streams),
        // Validation sees to it that both are there.
        http2_keepalive: http.http2_keep_alive.as_ref().and_then(|given| {
            Some(policy::Http2Keepalive { interval: given.interval?, timeout: given.timeout? })
        }),
    }
}

/// What is left out is turned off, as in Istio.
fn tls(given: &ClientTls) -> policy::ClientTls {
    let text = |given: &str| (!given.is_empty()).then(|| given.into());
    policy::ClientTls {
        mode: match given.mode {
            None | Some(TlsMode::Disable) => policy::TlsMode::Disable,
            Some(TlsMode::Simple) => policy::TlsMode::Simple,
            Some(TlsMode::Mutual) => policy::TlsMode::Mutual,
            Some(TlsMode::IstioMutual) => policy::TlsMode::Mesh,
        },
        sni: text(&given.sni),
        names: given.subject_alt_names.iter().map(|name| name.as_str().into()).collect(),
        skip_verify: given.insecure_skip_verify == Some(true),
        certificate_file: text(&given.client_certificate),
        key_file: text(&given.private_key),
        // Istio's word for the authorities of the system, of which a proxy has none.
        trusted_file: text(&given.ca_certificates).filter(|file: &Name| **file != *"system"),
        revoked_file: text(&given.ca_crl),
        credential: credential_name(given)
            .map(|name| Box::new(ClientCredential { name, ..ClientCredential::default() })),
    }
}

/// The first version where none is said, as in Istio.
fn proxy_protocol(given: &ProxyProtocol) -> policy::ProxyProtocol {
    match given.version {
        None | Some(ProxyProtocolVersion::V1) => policy::ProxyProtocol::V1,
        Some(ProxyProtocolVersion::V2) => policy::ProxyProtocol::V2,
    }
}

fn tunnel(given: &Tunnel, path: &str, report: Report<'_>) -> Option<policy::Tunnel> {
    if !matches!(given.protocol.as_str(), "" | "CONNECT") {
        let path = format!("{path}.tunnel.protocol");
        let message = "only CONNECT makes tunnels here; connections are not tunnelled".to_owned();
        report(path, FindingCode::NoEffect, message);
        return None;
    }
    Some(policy::Tunnel { host: given.target_host.as_str().into(), port: given.target_port })
}

/// Envoy's default of `consecutive_local_origin_failure`.
const LOCAL_ORIGIN_DEFAULT: u32 = 5;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::translate_one;

    fn translated(policy: Value) -> (Option<policy::TrafficPolicy>, Vec<(FindingCode, String)>) {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "d", "namespace": "shop"},
            "spec": {"host": "a", "trafficPolicy": policy},
        });
        let translated = translate_one(&Object::new(object).unwrap());
        let found = translated.findings.into_iter().map(|f| (f.code, f.path)).collect();
        match translated.part {
            Part::DestinationPolicy(source) => (source.policy.traffic, found),
            _ => (None, found),
        }
    }

    #[test]
    fn pings_have_an_interval_and_a_timeout() {
        let pool =
            |keepalive: Value| json!({"connectionPool": {"http": {"http2KeepAlive": keepalive}}});
        let (traffic, found) = translated(pool(json!({"interval": "30s", "timeout": "5s"})));
        let given = traffic.and_then(|traffic| traffic.pool?.http2_keepalive);
        let seconds = Duration::from_secs;
        let expected = policy::Http2Keepalive { interval: seconds(30), timeout: seconds(5) };
        assert_eq!((given, found), (Some(expected), vec![]));
        let at =
            |name: &str| format!("spec.trafficPolicy.connectionPool.http.http2KeepAlive.{name}");
        for (keepalive, name) in [
            (json!({"interval": "30s"}), "timeout"),
            (json!({"interval": "0s", "timeout": "5s"}), "interval"),
            (json!({"interval": "1s", "timeout": "5s", "jitter": "1s"}), "jitter"),
        ] {
            let (_, found) = translated(pool(keepalive));
            let paths: Vec<_> = found.iter().map(|(_, path)| path.clone()).collect();
            assert_eq!(paths, [at(name)]);
        }
    }

    #[test]
    fn outlier_detection_of_old_is_that_of_today() {
        let (traffic, found) = translated(json!({"outlierDetection": {"http": {
            "consecutiveErrors": 7, "interval": "2s", "baseEjectionTime": "3m", "maxEjectionPercent": 50,
        }}}));
        let outlier = traffic.and_then(|traffic| traffic.outlier).unwrap();
        let seconds = Duration::from_secs;
        assert_eq!((outlier.consecutive_gateway, outlier.consecutive_5xx), (7, 0));
        assert_eq!((outlier.interval, outlier.base_ejection), (seconds(2), seconds(180)));
        assert_eq!(outlier.max_ejection_percent, 50);
        let path = "spec.trafficPolicy.outlierDetection.http".to_owned();
        assert_eq!(found, [(FindingCode::Deprecated, path)]);
        let codes = json!({"outlierDetection": {"outlierDetectionHttpErrorCodes": [404]}});
        let path = "spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes".to_owned();
        assert_eq!(translated(codes).1, [(FindingCode::NoEffect, path)]);
    }

    /// What a port cannot have is found there, and holds for the ports that have settings, too.
    #[test]
    fn ports_have_no_tunnel_and_no_proxy_protocol_of_their_own() {
        let (traffic, found) = translated(json!({
            "proxyProtocol": {"version": "V2"},
            "portLevelSettings": [{
                "port": {"number": 80}, "proxyProtocol": {"version": "V1"},
                "tunnel": {"targetHost": "a", "targetPort": 1},
                "connectionPool": {"tcp": {"maxConnections": 1}},
            }],
        }));
        let at = |name: &str| {
            (FindingCode::UnknownField, format!("spec.trafficPolicy.portLevelSettings[0].{name}"))
        };
        assert_eq!(found, [at("proxyProtocol"), at("tunnel")]);
        let traffic = traffic.unwrap();
        let default = policy::TrafficPolicy::default();
        assert_eq!(traffic.at(80, &default).proxy_protocol, Some(policy::ProxyProtocol::V2));
    }
}
