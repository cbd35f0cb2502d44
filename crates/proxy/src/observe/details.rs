//! Envoy's words for why a request or a connection ended, which dashboards and people search for
//! (Envoy, "Response Code Details"). Where Envoy has none the reason's own code stands.

use ironmesh_model::Reason;

/// Of a request; `begun`: the client has got a part of an endpoint's answer.
pub(super) fn of_request(reason: Reason, begun: bool) -> &'static str {
    match (reason, begun) {
        (Reason::Route | Reason::DefaultRoute | Reason::Inbound | Reason::Passthrough, _) => {
            "via_upstream"
        }
        // Istio's answer of its BlackHoleCluster is a route that answers by itself.
        (Reason::Blocked | Reason::Redirect, _) => "direct_response",
        (Reason::FaultAbort, _) => "fault_filter_abort",
        (Reason::NoRoute, _) => "route_not_found",
        (Reason::UndefinedSubset | Reason::UnknownDestination, _) => "cluster_not_found",
        (Reason::NoEndpoints, _) => "no_healthy_upstream",
        (Reason::ConnectFailed | Reason::PeerUntrusted, _) => {
            "upstream_reset_before_response_started{remote_connection_failure}"
        }
        (Reason::UpstreamReset, false) => {
            "upstream_reset_before_response_started{connection_termination}"
        }
        (Reason::UpstreamReset, true) => {
            "upstream_reset_after_response_started{connection_termination}"
        }
        (Reason::UpstreamProtocol, false) => {
            "upstream_reset_before_response_started{protocol_error}"
        }
        (Reason::UpstreamProtocol, true) => "upstream_reset_after_response_started{protocol_error}",
        (Reason::Timeout, _) => "response_timeout",
        (Reason::PerTryTimeout, _) => "upstream_per_try_timeout",
        (Reason::StreamIdle | Reason::ExchangeIdle, _) => "stream_idle_timeout",
        (Reason::ConnectionAge, _) => "max_duration_timeout",
        (Reason::DownstreamClosed, _) => "downstream_remote_disconnect",
        (Reason::HeadTooLarge, _) => "request_headers_too_large",
        (Reason::RequestTimeout, _) => "request_header_timeout",
        (other, _) => other.code(),
    }
}

/// Of an opaque connection, which has no answer: only why it did not come about.
pub(super) fn of_connection(reason: Reason) -> Option<&'static str> {
    match (reason, of_request(reason, false)) {
        (Reason::PlaintextRefused, _) => Some("filter_chain_not_found"),
        (_, "via_upstream") => None,
        (_, other) => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_envoys_words() {
        for (reason, begun, words) in [
            (Reason::DefaultRoute, true, "via_upstream"),
            (Reason::Timeout, false, "response_timeout"),
            (
                Reason::UpstreamReset,
                false,
                "upstream_reset_before_response_started{connection_termination}",
            ),
            (
                Reason::UpstreamReset,
                true,
                "upstream_reset_after_response_started{connection_termination}",
            ),
            (Reason::DeadRule, false, "dead_rule"),
        ] {
            assert_eq!(of_request(reason, begun), words);
        }
    }
}
