//! The one table of limits: every queue, body, header, history and wait of the mesh has its name,
//! its unit and its default here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Size of one compiled regex, in bytes. Fixed, so that a pattern means the same everywhere.
pub const REGEX_BYTES_MAX: usize = 256 << 10;

/// Limits of the data plane. Set in a proxy's bootstrap; the defaults are for sidecars and gateways
/// alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyLimits {
    /// Bytes of a request's or response's head: start line and headers. Default 60 KiB (Envoy's
    /// `max_request_headers_kb`).
    pub head_bytes_max: usize,
    /// Header fields of one message. Default 100 (Envoy's `max_headers_count`).
    pub header_count_max: usize,
    /// Bytes of a trailer section. Default 16 KiB.
    pub trailer_bytes_max: usize,
    /// Bytes of a chunk-size line, extensions included. Default 256.
    pub chunk_line_bytes_max: usize,
    /// Time a client may take for a request's head, from its first byte. Default 60 s.
    pub head_timeout: Duration,
    /// Time a keep-alive connection of a client may idle. Default 1 h, as Istio.
    pub downstream_idle_timeout: Duration,
    /// Time a pooled connection to an endpoint may idle. Default 60 s, which is less than common
    /// servers wait.
    pub upstream_idle_timeout: Duration,
    /// Idle connections kept per endpoint and worker. Default 64.
    pub idle_connections_per_endpoint_max: usize,
    /// Connections from clients per proxy; more wait in the accept queue. Default 50 000.
    pub connections_max: usize,
    /// Requests that wait for a resource, per worker; more get 503. Default 1 024.
    pub parked_requests_max: usize,
    /// Time a request waits for a resource. Default 5 s.
    pub parked_wait: Duration,
    /// Resolutions that a proxy holds; at the limit, absent ones go first. Default 50 000.
    pub resolutions_max: usize,
    /// Connect attempts for one request, each to another endpoint where there is one. Default 3.
    pub connect_attempts_max: u32,
    /// Time an inbound TLS handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// Silence of a client on an undeclared port after which the outbound side dials. Default 10 ms.
    pub outbound_silence: Duration,
    /// Time an opaque connection may be silent in both directions. Default 1 h, as Istio.
    pub opaque_idle_timeout: Duration,
    /// Concurrent HTTP/2 streams of one connection. Default 1 024.
    pub h2_streams_max: u32,
    /// Distinct label sets of one metric family per worker; more are counted under `other`.
    /// Default 4 096.
    pub metric_series_max: usize,
    /// Bytes of access log lines that wait for standard output, per worker; lines beyond are
    /// dropped and counted. Default 1 MiB.
    pub access_log_bytes_max: usize,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 60 << 10,
            header_count_max: 100,
            trailer_bytes_max: 16 << 10,
            chunk_line_bytes_max: 256,
            head_timeout: Duration::from_secs(60),
            downstream_idle_timeout: Duration::from_secs(3600),
            upstream_idle_timeout: Duration::from_secs(60),
            idle_connections_per_endpoint_max: 64,
            connections_max: 50_000,
            parked_requests_max: 1_024,
            parked_wait: Duration::from_secs(5),
            resolutions_max: 50_000,
            connect_attempts_max: 3,
            handshake_timeout: Duration::from_secs(10),
            outbound_silence: Duration::from_millis(10),
            opaque_idle_timeout: Duration::from_secs(3600),
            h2_streams_max: 1_024,
            metric_series_max: 4_096,
            access_log_bytes_max: 1 << 20,
        }
    }
}

/// Limits of the push protocol, the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WireLimits {
    /// Bytes of one frame. Default 4 MiB.
    pub frame_bytes_max: usize,
    /// Keys that one proxy may subscribe to. Default 200 000.
    pub subscriptions_max: usize,
    /// Unanswered updates of one proxy; more changes are joined until it acknowledges. Default 16.
    pub updates_in_flight_max: usize,
    /// First and longest pause before a proxy connects again. Defaults 50 ms and 5 s.
    pub reconnect_pause: (Duration, Duration),
    /// Silence after which a ping is sent, and after twice of which the peer counts as gone.
    /// Default 10 s.
    pub keepalive: Duration,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 4 << 20,
            subscriptions_max: 200_000,
            updates_in_flight_max: 16,
            reconnect_pause: (Duration::from_millis(50), Duration::from_secs(5)),
            keepalive: Duration::from_secs(10),
        }
    }
}

/// Limits of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlLimits {
    /// Bytes of one object or request body of the API. Default 3 MiB (etcd's limit is 1.5 MiB).
    pub object_bytes_max: usize,
    /// Objects in the store. Default 200 000.
    pub objects_max: usize,
    /// Watch events kept for watchers that come back; older versions get `410 Gone`. Default
    /// 10 000.
    pub watch_history_max: usize,
    /// Bytes of the objects in those events, as JSON. Default 1 MiB.
    pub watch_history_bytes_max: u64,
    /// Events (`kind: Event`) kept. Default 2 000.
    pub events_max: usize,
    /// How long an Event is kept after it was last seen. Default 1 h, as Kubernetes.
    pub event_ttl: Duration,
    /// Connections of proxies at a time; more wait in the accept queue. Default 4 096.
    pub push_connections_max: usize,
    /// Connections to the API at a time; more wait in the accept queue. Default 256.
    pub api_connections_max: usize,
    /// Bytes of the journal, beyond twice the live objects, at which it is compacted. Default
    /// 8 MiB.
    pub journal_slack_bytes: u64,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self {
            object_bytes_max: 3 << 20,
            objects_max: 200_000,
            watch_history_max: 10_000,
            watch_history_bytes_max: 1 << 20,
            events_max: 2_000,
            event_ttl: Duration::from_secs(3600),
            push_connections_max: 4_096,
            api_connections_max: 256,
            journal_slack_bytes: 8 << 20,
        }
    }
}
