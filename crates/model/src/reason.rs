//! The table of reasons: why a request went where it went. The same word stands in the access log,
//! the metric label, the response header `x-ironmesh-reason` and the output of `explain`.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $flag:literal, $status:literal, $text:literal;)*) => {
        /// Why a request went where it went, or was answered by the mesh itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable word for it.
            pub fn code(self) -> &'static str { match self { $(Self::$name => $code,)* } }

            /// Envoy's response flag, `-` if none.
            pub fn flag(self) -> &'static str { match self { $(Self::$name => $flag,)* } }

            /// Status of the mesh's own answer; 0 if it gives none.
            pub fn status(self) -> u16 { match self { $(Self::$name => $status,)* } }

            /// One sentence for people, with a remedy where there is one.
            pub fn text(self) -> &'static str { match self { $(Self::$name => $text,)* } }
        }
    };
}

reasons! {
    /// A rule of a route matched.
    Route, "route", "-", 0, "a rule of a route matched";
    /// The service was named and no route applies to this caller.
    DefaultRoute, "default_route", "-", 0, "no route applies to this caller, so the service's endpoints are used";
    /// The rule that matched answers by itself.
    DirectResponse, "direct_response", "-", 0, "the rule that matched answers the request by itself";
    /// The rule that matched sends the client elsewhere.
    Redirect, "redirect", "-", 0, "the rule that matched sends the client to another address";
    /// The gateway's server sends everything to HTTPS.
    HttpsRedirect, "https_redirect", "-", 301, "the gateway's server has httpsRedirect, so requests are sent to HTTPS";
    /// The rule that matched answers the preflight of a page.
    Preflight, "preflight", "-", 0, "the corsPolicy of the rule that matched answers the preflight of a page of another origin";
    /// The rule that matched fails requests on purpose.
    FaultAbort, "fault_abort", "FI", 0, "the rule that matched fails this share of requests on purpose";
    /// The inbound proxy hands the request to its workload.
    Inbound, "inbound", "-", 0, "the workload's proxy hands it to the workload";
    /// The destination is not known to the mesh and is used as dialled.
    Passthrough, "passthrough", "-", 0, "the destination is not a service of the mesh, so it goes to the address that the caller dialled";
    /// The destination is not known, and the mesh allows only known ones.
    Blocked, "blocked", "NR", 502, "the destination is not a service of the mesh, and outboundTrafficPolicy.mode is REGISTRY_ONLY; declare it, or allow any";
    /// No rule matched.
    NoRoute, "no_route", "NR", 404, "no rule matched this host and request; see `ironmesh explain`";
    /// The request belongs to another server than its connection.
    Misdirected, "misdirected", "-", 421, "the host is served by another server of the gateway than the one whose TLS the connection speaks; the client has to open a connection for it";
    /// No server of a gateway is for the name that the client's TLS asks for.
    NoServer, "no_server", "NR", 0, "no server of the gateway is for the name that the client's TLS asks for (SNI)";
    /// The server's certificate cannot be used.
    NoCertificate, "no_certificate", "-", 0, "the certificate of the gateway's server is missing or cannot be used; see the finding in `ironmesh describe` of its Gateway";
    /// The winning rule names a subset that no destination policy defines.
    UndefinedSubset, "undefined_subset", "NC", 503, "the rule names a subset that no DestinationRule for this host defines; add it to one";
    /// The winning rule names a service that does not exist.
    UnknownDestination, "unknown_destination", "NC", 503, "the rule names a destination that is not a service; create it, or correct the host or port";
    /// The rule matched, but it cannot be used.
    DeadRule, "dead_rule", "NC", 503, "the rule that matched has no backend that can be used; see the finding in `ironmesh describe` of its object";
    /// No endpoint of the destination is ready.
    NoEndpoints, "no_endpoints", "UH", 503, "no endpoint of the destination is ready; look at its pods";
    /// No connection to any tried endpoint could be made.
    ConnectFailed, "connect_failed", "UF", 503, "no connection could be made to the endpoints that were tried";
    /// The peer's certificate is not what the mesh expects there.
    PeerUntrusted, "peer_untrusted", "UF", 503, "the endpoint's certificate does not carry the identity that the mesh expects there";
    /// The endpoint closed the connection before it answered.
    UpstreamReset, "upstream_reset", "UC", 503, "the endpoint closed the connection before its answer was complete";
    /// The endpoint answered with something that is not HTTP.
    UpstreamProtocol, "upstream_protocol", "UPE", 502, "the endpoint's answer is not valid HTTP";
    /// The route's timeout passed.
    Timeout, "timeout", "UT", 504, "the timeout of the route passed before the answer was complete";
    /// The time of one attempt passed.
    PerTryTimeout, "per_try_timeout", "UT", 504, "the perTryTimeout of the route passed before the endpoint answered, and there was no other attempt";
    /// The client went away.
    DownstreamClosed, "downstream_closed", "DC", 0, "the client closed the connection before the answer was complete";
    /// The request is not valid or is ambiguous HTTP.
    BadRequest, "bad_request", "DPE", 400, "the request is not valid HTTP, or its framing is ambiguous";
    /// The head of the request is larger than the limit.
    HeadTooLarge, "head_too_large", "DPE", 431, "the head of the request is larger than head_bytes_max or header_count_max";
    /// The client did not finish the head in time.
    RequestTimeout, "request_timeout", "-", 408, "the client did not finish the request's head within head_timeout";
    /// A side of the request made no progress for too long.
    StreamIdle, "stream_idle", "SI", 408, "the rest of the request's body did not come, or what was sent was not taken, for stream_idle_timeout";
    /// Neither side of a request has sent anything for too long.
    ExchangeIdle, "exchange_idle", "SI", 504, "neither the client nor the endpoint sent anything for exchange_idle_timeout";
    /// A connection has become too old.
    ConnectionAge, "connection_age", "DT", 0, "the connection was open for connection_age_max and is ended";
    /// The control plane has not said yet what applies.
    NotConfigured, "not_configured", "NC", 503, "the control plane has not answered yet what applies here, or the proxy cannot use a part of the answer; see `ironmesh proxy-status`";
    /// A limit of the proxy was reached.
    Overloaded, "overloaded", "UO", 503, "a limit of the proxy was reached";
    /// A limit of the destination was reached.
    UpstreamOverflow, "upstream_overflow", "UO", 503, "the connections that the DestinationRule's connectionPool allows are in use, and no more requests may wait for one";
    /// The connection names one of the proxy's own ports as its destination.
    OwnPort, "own_port", "NR", 502, "the connection names one of the proxy's own ports as its destination";
    /// Plaintext to a workload that takes mutual TLS only.
    PlaintextRefused, "plaintext_refused", "NR", 0, "the workload takes mutual TLS only, and the caller sent plaintext; put the caller into the mesh, or set PeerAuthentication to PERMISSIVE";
    /// The caller's mutual TLS did not come about.
    HandshakeFailed, "handshake_failed", "-", 0, "the caller's TLS handshake failed or took too long: its certificate may have expired, or be of another mesh";
    /// A request form that this listener does not serve.
    UnsupportedForm, "unsupported_form", "DPE", 400, "the request is a CONNECT, which this listener does not serve";
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words_and_unlike() {
        let codes: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(codes.iter().all(|c| c.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
