//! `DestinationPolicy`: how connections to a service are made, as Istio up to 0.8 had it.

use std::time::Duration;

use ironmesh_model::policy::{self, DestinationPolicy as Policy};
use ironmesh_model::snapshot::DestinationPolicySource;
use ironmesh_model::{Finding, FindingCode};
use serde_json::Value;

use super::config::IstioService;
use super::destination_rule::{self as today, traffic};
use super::labels;
use crate::Object;
use crate::schema::{Count, fields, kind, read, words};
use crate::translate::Part;

/// Translates a DestinationPolicy: one for labels of a service is for the subset that RouteRules with these
/// labels choose.
pub(crate) fn destination_policy(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let DestinationPolicy { spec, .. } = read(object, findings)?;
    spec.destination.check(object, "spec.destination", findings);
    if let Some(source) = spec.source.as_ref().filter(|source| source.is_named()) {
        let message = format!(
            "it is for the calls of {} alone, which only labels can say today: write a \
             DestinationRule with a workloadSelector that has the labels of its pods",
            source.host(object)
        );
        let path = "spec.source";
        findings.push(Finding::new(object.id(), path, FindingCode::NoEffect, message));
        return None;
    }
    // Nothing that it has is reported beside what its own table reports.
    let traffic = traffic(&as_today(&spec), "spec", &mut |_, _, _| {});
    let of = labels(&spec.destination.labels);
    let (wide, subsets) = match of.is_empty() {
        true => (Some(traffic), Vec::new()),
        false => {
            let name = of.to_string().into();
            let subset = policy::Subset { name, labels: of, traffic };
            (None, vec![subset])
        }
    };
    Some(Part::DestinationPolicy(Box::new(DestinationPolicySource {
        policy: Policy { id: object.id().clone(), traffic: wide, subsets, fills: true },
        host: spec.destination.host(object),
        export_to: Vec::new(),
        selector: None,
        created: object.created(),
        mutual_tls_at: Vec::new(),
        credentials: Vec::new(),
    })))
}

/// The same as a policy of today.
fn as_today(spec: &Spec) -> today::TrafficPolicy {
    let is_given = spec.circuit_breaker.simple_cb.is_some();
    let breaker = spec.circuit_breaker.simple_cb.clone().unwrap_or_default();
    let count = |given: Option<Count>| given.and_then(|count| i32::try_from(count.0).ok());
    let ejects = breaker.http_consecutive_errors.is_some()
        || breaker.sleep_window.is_some()
        || breaker.http_detection_interval.is_some()
        || breaker.http_max_ejection_percent.is_some();
    today::TrafficPolicy {
        load_balancer: spec
            .load_balancing
            .name
            .map(|name| today::LoadBalancer { simple: Some(name.today()), ..Default::default() }),
        connection_pool: is_given.then(|| today::ConnectionPool {
            tcp: today::TcpPool {
                max_connections: count(breaker.max_connections),
                ..Default::default()
            },
            http: today::HttpPool {
                http1_max_pending_requests: count(breaker.http_max_pending_requests),
                http2_max_requests: count(breaker.http_max_requests),
                max_requests_per_connection: count(breaker.http_max_requests_per_connection),
                max_retries: count(breaker.http_max_retries),
                ..Default::default()
            },
        }),
        outlier_detection: ejects.then(|| today::OutlierDetection {
            consecutive_5xx_errors: breaker.http_consecutive_errors.map(Count::get),
            interval: breaker.http_detection_interval,
            base_ejection_time: breaker.sleep_window,
            max_ejection_percent: count(breaker.http_max_ejection_percent),
            ..Default::default()
        }),
        ..Default::default()
    }
}

kind! {
    istio;
    /// How connections to a service are made, as Istio up to 0.8 had it.
    pub struct DestinationPolicy "DestinationPolicy" {
        /// The service and how connections are made.
        required spec: Spec,
    }
}

fields! {
    istio;
    /// What a `DestinationPolicy` says.
    pub struct Spec "DestinationPolicy.spec" {
        /// The service, and labels if it is for some of its endpoints.
        required destination: IstioService,
        /// The calling service; none: all.
        honoured source: Option<IstioService>,
        /// How requests are spread over the endpoints.
        honoured load_balancing "loadBalancing": LoadBalancing,
        /// When requests are refused, and which endpoints are left out for a time.
        honoured circuit_breaker "circuitBreaker": CircuitBreaker,
    }

    /// How requests are spread over the endpoints.
    pub struct LoadBalancing "loadBalancing" {
        /// By this rule.
        honoured name: Option<SimpleLb>,
        /// In a way of one's own.
        no_effect("no such way was ever defined; use name") custom: Option<Value>,
    }

    /// Bounds.
    pub struct CircuitBreaker "circuitBreaker" {
        /// These.
        honoured simple_cb "simpleCb": Option<SimpleCircuitBreaker>,
        /// In a way of one's own.
        no_effect("no such way was ever defined; use simpleCb") custom: Option<Value>,
    }

    /// Bounds of connections and requests, and when endpoints are left out.
    pub struct SimpleCircuitBreaker "simpleCb" {
        /// The most connections to all endpoints.
        honoured max_connections "maxConnections": Option<Count>,
        /// The most requests that wait for a connection.
        honoured http_max_pending_requests "httpMaxPendingRequests": Option<Count>,
        /// The most requests at a time.
        honoured http_max_requests "httpMaxRequests": Option<Count>,
        /// How long an endpoint is left out the first time; 30 s if left out.
        honoured sleep_window "sleepWindow": Option<Duration>,
        /// Answers of 5xx in a row; 5 if left out.
        honoured http_consecutive_errors "httpConsecutiveErrors": Option<Count>,
        /// How often endpoints are looked at; 10 s if left out.
        honoured http_detection_interval "httpDetectionInterval": Option<Duration>,
        /// The most requests on one connection.
        honoured http_max_requests_per_connection "httpMaxRequestsPerConnection": Option<Count>,
        /// The most endpoints that are left out, in percent; 10 if left out.
        honoured http_max_ejection_percent "httpMaxEjectionPercent": Option<Count>,
        /// The most retries at a time.
        honoured http_max_retries "httpMaxRetries": Option<Count>,
    }
}

words! {
    /// How requests are spread over the endpoints.
    pub enum SimpleLb {
        /// One after the other.
        honoured RoundRobin = "ROUND_ROBIN",
        /// To the one of two that has fewer requests.
        honoured LeastConn = "LEAST_CONN",
        /// At random.
        honoured Random = "RANDOM",
    }
}

impl SimpleLb {
    fn today(self) -> today::SimpleBalance {
        match self {
            Self::RoundRobin => today::SimpleBalance::RoundRobin,
            Self::LeastConn => today::SimpleBalance::LeastConn,
            Self::Random => today::SimpleBalance::Random,
        }
    }
}
