//! Fields of `DestinationRule`, those of Istio 0.8 to today.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::istio::{PortSelector, WorkloadSelector};
use crate::schema::{Bounded, fields, kind, words};

kind! {
    istio;
    /// How connections to a service are made, once a request has been routed to it.
    pub struct DestinationRule "DestinationRule" {
        /// The service and its policies.
        required spec: Spec,
        /// What controllers have found out about it.
        honoured status: Value,
    }
}

fields! {
    istio;
    /// What a `DestinationRule` says.
    pub struct Spec "DestinationRule.spec" {
        /// The service's host; `*` in front for all below.
        required host: String,
        /// How connections are made.
        honoured traffic_policy "trafficPolicy": Option<TrafficPolicy>,
        /// Parts of the service, by labels.
        honoured subsets: Vec<Subset>,
        /// The namespaces that see it: `.` its own, `*` all, `~` none.
        honoured export_to "exportTo": Vec<String>,
        /// The workloads of its namespace whose calls it is for; none: all.
        honoured workload_selector "workloadSelector": Option<WorkloadSelector>,
    }

    /// A part of a service.
    pub struct Subset "a subset" {
        /// Its name, for destinations.
        required name: String,
        /// Labels that its endpoints have.
        honoured labels: BTreeMap<String, String>,
        /// How connections to it are made, where that differs.
        honoured traffic_policy "trafficPolicy": TrafficPolicy,
    }

    /// How connections are made.
    pub struct TrafficPolicy "trafficPolicy" {
        /// How requests are spread over the endpoints.
        honoured load_balancer "loadBalancer": Option<LoadBalancer>,
        /// How many connections and requests there may be at a time.
        honoured connection_pool "connectionPool": Option<ConnectionPool>,
        /// Which endpoints are left out for a time.
        honoured outlier_detection "outlierDetection": Option<OutlierDetection>,
        /// How connections are secured.
        honoured tls: Option<ClientTls>,
        /// What holds for single ports instead. They inherit nothing.
        honoured port_level_settings "portLevelSettings": Vec<PortTrafficPolicy>,
        /// Connections are tunnelled through the service by HTTP's CONNECT.
        honoured tunnel: Option<Tunnel>,
        /// The caller's address is sent first, as HAProxy's PROXY protocol has it.
        honoured proxy_protocol "proxyProtocol": Option<ProxyProtocol>,
        /// The share of requests that may be retries.
        honoured retry_budget "retryBudget": Option<RetryBudget>,
    }

    /// How connections to a port are made.
    pub struct PortTrafficPolicy "the policy of a port" {
        /// The port.
        honoured port: PortSelector,
        /// How requests are spread over the endpoints.
        honoured load_balancer "loadBalancer": Option<LoadBalancer>,
        /// How many connections and requests there may be at a time.
        honoured connection_pool "connectionPool": Option<ConnectionPool>,
        /// Which endpoints are left out for a time.
        honoured outlier_detection "outlierDetection": Option<OutlierDetection>,
        /// How connections are secured.
        honoured tls: Option<ClientTls>,
    }

    /// How requests are spread over the endpoints.
    pub struct LoadBalancer "loadBalancer" {
        /// By one of these rules.
        honoured simple: Option<SimpleBalance>,
        /// By a hash, so that alike requests meet the same endpoint.
        honoured consistent_hash "consistentHash": Option<ConsistentHash>,
        /// By the locality of caller and endpoint.
        honoured locality_lb_setting "localityLbSetting": Option<LocalityBalance>,
        /// By the zone of caller and endpoint.
        honoured zone_aware_lb_setting "zoneAwareLbSetting": Option<ZoneBalance>,
        /// How long a new endpoint gets fewer requests.
        honoured warmup_duration_secs "warmupDurationSecs": Option<Duration>,
        /// How a new endpoint gets fewer requests at first.
        honoured warmup: Option<Warmup>,
    }

    /// What is hashed, one of the first four, and how.
    pub struct ConsistentHash "consistentHash" {
        /// A header.
        honoured http_header_name "httpHeaderName": Option<String>,
        /// A cookie, which is set if it is absent.
        honoured http_cookie "httpCookie": Option<HttpCookie>,
        /// The caller's address.
        honoured use_source_ip "useSourceIp": Option<bool>,
        /// A parameter of the query.
        honoured http_query_parameter_name "httpQueryParameterName": Option<String>,
        /// The least number of points on the ring.
        honoured minimum_ring_size "minimumRingSize": Option<u64>,
        /// By ring.
        honoured ring_hash "ringHash": Option<RingHash>,
        /// By Maglev's table.
        honoured maglev: Option<Maglev>,
    }

    /// A cookie that is hashed.
    pub struct HttpCookie "httpCookie" {
        /// Its name.
        required name: String,
        /// The path that it is set for.
        honoured path: String,
        /// How long it lives; none: it is not set.
        honoured ttl: Option<Duration>,
        /// Further attributes with which it is set.
        honoured attributes: Vec<CookieAttribute>,
    }

    /// An attribute of a cookie.
    pub struct CookieAttribute "an attribute" {
        /// Its name.
        required name: String,
        /// Its value.
        honoured value: String,
    }

    /// A ring of hashes.
    pub struct RingHash "ringHash" {
        /// The least number of points on it.
        honoured minimum_ring_size "minimumRingSize": Option<u64>,
    }

    /// Maglev's table.
    pub struct Maglev "maglev" {
        /// Its size, a prime.
        honoured table_size "tableSize": Option<u64>,
    }

    /// Balancing by locality.
    pub struct LocalityBalance "localityLbSetting" {
        /// Shares by locality of the caller.
        honoured distribute: Vec<Distribute>,
        /// Where requests go when a locality has no healthy endpoints.
        honoured failover: Vec<Failover>,
        /// Labels by which endpoints are preferred, the most important first.
        honoured failover_priority "failoverPriority": Vec<String>,
        /// Whether it is used at all.
        honoured enabled: Option<bool>,
    }

    /// Shares of the requests of one locality.
    pub struct Distribute "distribute" {
        /// The callers' locality.
        honoured from: String,
        /// Percents by locality of the endpoints.
        honoured to: BTreeMap<String, u32>,
    }

    /// What stands in for a locality.
    pub struct Failover "failover" {
        /// The region.
        honoured from: String,
        /// The region that stands in for it.
        honoured to: String,
    }

    /// Balancing by zone.
    pub struct ZoneBalance "zoneAwareLbSetting" {
        /// Whether it is used at all.
        honoured enabled: Option<bool>,
        /// Where requests go when a locality has no healthy endpoints.
        honoured failover: Vec<Failover>,
        /// Labels by which endpoints are preferred, the most important first.
        honoured failover_priority "failoverPriority": Vec<String>,
        /// The number of endpoints below which zones do not matter.
        honoured min_cluster_size "minClusterSize": Option<u64>,
    }

    /// Fewer requests for new endpoints.
    pub struct Warmup "warmup" {
        /// For how long.
        required duration: Duration,
        /// The share with which it begins, in percent; 10 if left out.
        honoured minimum_percent "minimumPercent": Option<f64>,
        /// How fast it grows; 1 is linear.
        honoured aggression: Option<f64>,
    }

    /// Bounds of connections and requests.
    pub struct ConnectionPool "connectionPool" {
        /// Of connections.
        honoured tcp: TcpPool,
        /// Of requests.
        honoured http: HttpPool,
    }

    /// Bounds of connections.
    pub struct TcpPool "tcp" {
        /// The most connections to all endpoints.
        honoured max_connections "maxConnections": Option<i32>,
        /// How long connecting may take.
        honoured connect_timeout "connectTimeout": Option<Duration>,
        /// Probes on idle connections.
        honoured tcp_keepalive "tcpKeepalive": Option<TcpKeepalive>,
        /// The longest age of a connection.
        honoured max_connection_duration "maxConnectionDuration": Option<Duration>,
        /// How long a connection may be idle.
        honoured idle_timeout "idleTimeout": Option<Duration>,
    }

    /// Probes on idle connections.
    pub struct TcpKeepalive "tcpKeepalive" {
        /// How many without an answer end the connection.
        honoured probes: Option<u32>,
        /// How long it is idle before the first.
        honoured time: Option<Duration>,
        /// The pause between them.
        honoured interval: Option<Duration>,
    }

    /// Bounds of requests.
    pub struct HttpPool "http" {
        /// The most requests that wait for a connection.
        honoured http1_max_pending_requests "http1MaxPendingRequests": Option<i32>,
        /// The most requests at a time.
        honoured http2_max_requests "http2MaxRequests": Option<i32>,
        /// The most requests on one connection.
        honoured max_requests_per_connection "maxRequestsPerConnection": Option<i32>,
        /// The most retries at a time.
        honoured max_retries "maxRetries": Option<i32>,
        /// How long a connection may be without a request.
        honoured idle_timeout "idleTimeout": Option<Duration>,
        /// Whether HTTP/1.1 is forwarded as HTTP/2.
        honoured h2_upgrade_policy "h2UpgradePolicy": Option<H2UpgradePolicy>,
        /// Whether requests are forwarded in the version in which they came.
        honoured use_client_protocol "useClientProtocol": Option<bool>,
        /// The most streams on one HTTP/2 connection.
        honoured max_concurrent_streams "maxConcurrentStreams": Option<i32>,
        /// Pings on HTTP/2 connections; those that are idle, too. If left out, only a peer for which
        /// requests wait is asked whether it is still there.
        honoured http2_keep_alive "http2KeepAlive": Option<Http2Keepalive>,
    }

    /// Pings on HTTP/2 connections.
    pub struct Http2Keepalive "http2KeepAlive" {
        /// The pause before each.
        honoured interval: Option<Duration>,
        /// How long its answer may take; then the connection is closed.
        honoured timeout: Option<Duration>,
    }

    /// When endpoints are left out.
    pub struct OutlierDetection "outlierDetection" {
        /// Errors in a row.
        old("consecutiveGatewayErrors or consecutive5xxErrors")
            consecutive_errors "consecutiveErrors": Option<i32>,
        /// Whether attempts without an answer are counted apart.
        honoured split_external_local_origin_errors "splitExternalLocalOriginErrors": Option<bool>,
        /// Attempts without an answer in a row, where they are counted apart; 5 if left out.
        honoured consecutive_local_origin_failures "consecutiveLocalOriginFailures": Option<u32>,
        /// Answers 502, 503 and 504 in a row; 0 or left out: not counted.
        honoured consecutive_gateway_errors "consecutiveGatewayErrors": Option<u32>,
        /// Answers of 5xx in a row; 5 if left out, 0: not counted.
        honoured consecutive_5xx_errors "consecutive5xxErrors": Option<u32>,
        /// How often endpoints are looked at; 10 s if left out.
        honoured interval: Option<Duration>,
        /// How long an endpoint is left out the first time; 30 s if left out.
        honoured base_ejection_time "baseEjectionTime": Option<Duration>,
        /// The most endpoints that are left out, in percent; 10 if left out.
        honoured max_ejection_percent "maxEjectionPercent": Option<i32>,
        /// With a smaller share of healthy endpoints than this, in percent, none is left out.
        honoured min_health_percent "minHealthPercent": Option<i32>,
        /// Statuses that count as errors in place of 5xx.
        no_effect("Istio takes it and does nothing with it up to 1.31; answers of 5xx count")
            outlier_detection_http_error_codes "outlierDetectionHttpErrorCodes":
            Vec<Bounded<100, 599>>,
        /// The same for HTTP, as Istio 0.8 had it.
        old("the fields of outlierDetection itself") http: Option<OldOutlierDetection>,
    }

    /// When endpoints are left out, as Istio 0.8 had it.
    pub struct OldOutlierDetection "outlierDetection.http" {
        /// Errors in a row.
        honoured consecutive_errors "consecutiveErrors": Option<i32>,
        /// How often endpoints are looked at; 10 s if left out.
        honoured interval: Option<Duration>,
        /// How long an endpoint is left out the first time; 30 s if left out.
        honoured base_ejection_time "baseEjectionTime": Option<Duration>,
        /// The most endpoints that are left out, in percent; 10 if left out.
        honoured max_ejection_percent "maxEjectionPercent": Option<i32>,
    }

    /// How connections are secured.
    pub struct ClientTls "tls" {
        /// Whether, and with whose certificate; not at all if left out. Without `tls` traffic between
        /// members of the mesh is mutual TLS.
        honoured mode: Option<TlsMode>,
        /// File of the proxy with the certificate of the caller, in PEM.
        honoured client_certificate "clientCertificate": String,
        /// File with its key.
        honoured private_key "privateKey": String,
        /// File with the authorities that are trusted; those of Mozilla if left out or `system`.
        honoured ca_certificates "caCertificates": String,
        /// Secret that has all three, in the namespace of the gateway, or of the workload that
        /// `workloadSelector` selects; for other workloads it is not there.
        honoured credential_name "credentialName": String,
        /// Names of which the service's certificate has one; its host if left out.
        honoured subject_alt_names "subjectAltNames": Vec<String>,
        /// The name in the ClientHello; the service's host if left out.
        honoured sni: String,
        /// Whether any certificate will do.
        honoured insecure_skip_verify "insecureSkipVerify": Option<bool>,
        /// File with the certificates that were revoked.
        honoured ca_crl "caCrl": String,
    }

    /// A tunnel.
    pub struct Tunnel "tunnel" {
        /// `CONNECT`, or with a finding `POST`, which makes none here.
        honoured protocol: String,
        /// The host at its end.
        required target_host "targetHost": String,
        /// The port at its end.
        required target_port "targetPort": u16,
    }

    /// The PROXY protocol.
    pub struct ProxyProtocol "proxyProtocol" {
        /// Its version.
        honoured version: Option<ProxyProtocolVersion>,
    }

    /// The share of requests that may be retries.
    pub struct RetryBudget "retryBudget" {
        /// In percent of the requests.
        honoured percent: Option<f64>,
        /// Retries that are allowed in any case.
        honoured min_retry_concurrency "minRetryConcurrency": Option<u32>,
        /// The time over which requests are counted.
        no_effect("what is under way at the moment counts, as where it is left out")
            budget_interval "budgetInterval": Option<Duration>,
    }
}

words! {
    /// How requests are spread over the endpoints.
    pub enum SimpleBalance {
        /// One after the other.
        honoured RoundRobin = "ROUND_ROBIN",
        /// As the default: to the one of two that has fewer requests.
        honoured Unspecified = "UNSPECIFIED",
        /// To the one of two that has fewer requests.
        honoured LeastConn = "LEAST_CONN",
        /// To the one of two that has fewer requests.
        honoured LeastRequest = "LEAST_REQUEST",
        /// At random.
        honoured Random = "RANDOM",
        /// To the address that the caller dialled.
        honoured Passthrough = "PASSTHROUGH",
    }

    /// How connections are secured.
    pub enum TlsMode {
        /// Mutual TLS with the certificates of the mesh.
        honoured IstioMutual = "ISTIO_MUTUAL",
        /// Not at all.
        honoured Disable = "DISABLE",
        /// TLS without a certificate of the caller.
        honoured Simple = "SIMPLE",
        /// Mutual TLS with certificates of one's own.
        honoured Mutual = "MUTUAL",
    }

    /// Whether HTTP/1.1 is forwarded as HTTP/2.
    pub enum H2UpgradePolicy {
        /// As the mesh has it.
        honoured Default = "DEFAULT",
        /// Never.
        honoured DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Always.
        honoured Upgrade = "UPGRADE",
    }

    /// Versions of the PROXY protocol.
    pub enum ProxyProtocolVersion {
        /// Text.
        honoured V1 = "V1",
        /// Binary.
        honoured V2 = "V2",
    }
}
