//! What a line of the access log says.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use ironmesh_model::{Draw, Identity, ListenerKind, Reason, Version};

use super::pieces::cluster;

/// A finished request or opaque connection. Absent fields are `-` in text and `null` in JSON.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// When it began, since the Unix epoch.
    pub start: Duration,
    /// Method.
    pub method: Option<&'a str>,
    /// Path and query as the client sent them, before any rewrite.
    pub path: Option<&'a str>,
    /// `HTTP/1.1`, `HTTP/2`, ...
    pub protocol: Option<&'a str>,
    /// Status of the response; 0 if there was none.
    pub response_code: u16,
    /// Why it ended as it did; determines the response flag.
    pub reason: Reason,
    /// Whether it was held back on purpose.
    pub delayed: bool,
    /// Whether it would have been sent again, if it had not been as often as is allowed.
    pub exhausted: bool,
    /// Whether it would have been sent again, if not as many retries had been under way as is allowed.
    pub overflowed: bool,
    /// Where the response came from, in Envoy's words: `via_upstream`, `route_not_found`, ...
    pub response_code_details: Option<&'a str>,
    /// Why the connection was ended.
    pub connection_termination_details: Option<&'a str>,
    /// Why TLS with the endpoint failed.
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// Bytes of the request's body, or of an opaque connection from the client.
    pub bytes_received: u64,
    /// Bytes of the response's body, or of an opaque connection to the client.
    pub bytes_sent: u64,
    /// From its first byte to the end of the response.
    pub duration: Duration,
    /// From the end of the request to the head of the endpoint's response.
    pub upstream_service_time: Option<Duration>,
    /// `x-forwarded-for`.
    pub x_forwarded_for: Option<&'a str>,
    /// `user-agent`.
    pub user_agent: Option<&'a str>,
    /// `x-request-id`.
    pub request_id: Option<&'a str>,
    /// Authority.
    pub authority: Option<&'a str>,
    /// The endpoint that was used.
    pub upstream_host: Option<SocketAddr>,
    /// The cluster of that endpoint.
    pub upstream_cluster: Option<Cluster<'a>>,
    /// The proxy's own address on the connection to the endpoint.
    pub upstream_local_address: Option<SocketAddr>,
    /// The address that the client dialled.
    pub downstream_local_address: Option<SocketAddr>,
    /// The client's address.
    pub downstream_remote_address: Option<SocketAddr>,
    /// The SNI of the client's TLS.
    pub requested_server_name: Option<&'a str>,
    /// The winning rule: `NAMESPACE/NAME#RULE`.
    pub route: Option<&'a str>,
    /// Version of the winning route.
    pub version: Option<Version>,
    /// The subset that was chosen.
    pub subset: Option<&'a str>,
    /// The seed of all random choices made for it.
    pub draw: Option<Draw>,
    /// Where it entered the proxy.
    pub listener: ListenerKind,
    /// Who called, if mutual TLS proved it.
    pub peer: Option<&'a Identity>,
}

/// The cluster of an endpoint, named as in Istio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster<'a> {
    /// A port of a service, or of a subset of it.
    Outbound {
        /// Port of the service.
        port: u16,
        /// The subset, if one was chosen.
        subset: Option<&'a str>,
        /// Fully qualified host.
        host: &'a str,
    },
    /// A port of the proxy's own workload.
    Inbound {
        /// The port.
        port: u16,
    },
    /// What the client dialled.
    Passthrough,
    /// Nothing: it was refused.
    BlackHole,
}

impl Cluster<'_> {
    /// Its name.
    pub fn name(self) -> String {
        let mut out = Vec::new();
        cluster(&mut out, self, |out, text| out.extend_from_slice(text.as_bytes()));
        String::from_utf8(out).unwrap_or_default()
    }
}

impl AccessRecord<'_> {
    /// Envoy's flags, `-` if there are none, in Envoy's order (its `ResponseFlag`).
    pub fn flags(&self) -> Cow<'static, str> {
        let flag = self.reason.flag();
        if !self.delayed && !self.exhausted && !self.overflowed {
            return flag.into();
        }
        let delayed = self.delayed.then_some("DI");
        let exhausted = self.exhausted.then_some("URX");
        let overflowed = self.overflowed.then_some("UO");
        let own = Some(flag).filter(|flag| *flag != "-");
        let mut flags: Vec<&str> =
            [own, delayed, exhausted, overflowed].into_iter().flatten().collect();
        flags.sort_by_key(|flag| FLAGS.iter().position(|(known, _)| known == flag));
        flags.join(",").into()
    }

    /// The same by their long names.
    pub fn flags_long(&self) -> String {
        let flags = self.flags();
        let long = |flag| FLAGS.iter().find(|(known, _)| *known == flag).map_or(flag, |row| row.1);
        flags.split(',').map(long).collect::<Vec<_>>().join(",")
    }
}

/// Envoy's flags with their long names, in the order in which it joins them
/// (`StreamInfo::CoreResponseFlag`).
pub(super) const FLAGS: [(&str, &str); 17] = [
    ("UH", "NoHealthyUpstream"),
    ("UT", "UpstreamRequestTimeout"),
    ("UF", "UpstreamConnectionFailure"),
    ("UC", "UpstreamConnectionTermination"),
    ("UO", "UpstreamOverflow"),
    ("NR", "NoRouteFound"),
    ("DI", "DelayInjected"),
    ("FI", "FaultInjected"),
    ("RL", "RateLimited"),
    ("DC", "DownstreamConnectionTermination"),
    ("URX", "UpstreamRetryLimitExceeded"),
    ("SI", "StreamIdleTimeout"),
    ("DPE", "DownstreamProtocolError"),
    ("DT", "DurationTimeout"),
    ("UPE", "UpstreamProtocolError"),
    ("NC", "NoClusterFound"),
    ("OM", "OverloadManagerTerminated"),
];
