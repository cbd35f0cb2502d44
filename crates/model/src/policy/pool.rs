//! Connection pools: limits of connections and requests.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of what one proxy has open to a destination, and how its connections are made
/// (`connectionPool`). `None`: no limit of the policy's; those of the proxy hold in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`.
    pub connections_max: Option<u32>,
    /// `tcp.connectTimeout`, handshakes of TLS on their own; `None`: the mesh's `connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `tcp.tcpKeepalive`; `None`: as the proxy has it.
    pub keepalive: Option<Keepalive>,
    /// `tcp.maxConnectionDuration`: a connection that is older takes no new requests; an opaque one is
    /// closed.
    pub connection_age_max: Option<Duration>,
    /// `tcp.idleTimeout`: how long a connection without requests is kept, or an opaque one on which
    /// nothing is sent; zero: for ever.
    pub tcp_idle_timeout: Option<Duration>,
    /// `http.http1MaxPendingRequests`: requests that may wait for a connection.
    pub pending_max: Option<u32>,
    /// `http.http2MaxRequests`: requests at a time, of either version of HTTP.
    pub requests_max: Option<u32>,
    /// `http.maxRequestsPerConnection`: requests that one connection carries.
    pub requests_per_connection_max: Option<u32>,
    /// `http.maxRetries`: retries at a time.
    pub retries_max: Option<u32>,
    /// `http.idleTimeout`: how long a connection without requests is kept; zero: for ever. `None`:
    /// `tcp.idleTimeout` says it.
    pub http_idle_timeout: Option<Duration>,
    /// `http.h2UpgradePolicy`: whether requests by HTTP/1.1 go on by HTTP/2; `None`: by the protocol
    /// that the port declares.
    pub upgrade: Option<bool>,
    /// `http.useClientProtocol`: requests go on in the version of HTTP in which they came.
    pub client_protocol: bool,
    /// `http.maxConcurrentStreams`: requests at a time on one HTTP/2 connection.
    pub streams_max: Option<u32>,
    /// `http.http2KeepAlive`: when the peer of an HTTP/2 connection is asked whether it is still there;
    /// `None`: as the proxy has it, while requests wait for it.
    pub http2_keepalive: Option<Http2Keepalive>,
}

/// When the peer of an HTTP/2 connection is asked whether it is still there, requests or none (Envoy,
/// `connection_keepalive`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http2Keepalive {
    /// Pause before each ping.
    pub interval: Duration,
    /// Time for the answer to it, after which the connection is given up.
    pub timeout: Duration,
}

impl ConnectionPool {
    /// How long a connection without requests is kept; zero: for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.http_idle_timeout.or(self.tcp_idle_timeout)
    }
}

/// When a silent peer is asked whether it is still there; `None`: as the kernel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    /// Probes without an answer that end the connection.
    pub probes: Option<u32>,
    /// Silence before the first.
    pub time: Option<Duration>,
    /// Pause between them.
    pub interval: Option<Duration>,
}
