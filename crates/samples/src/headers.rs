//! The request headers that the applications propagate to the calls they make, so that a tracer can
//! join the spans.

use http::HeaderMap;

/// The headers of `request` that identify the user and the trace.
pub(crate) fn propagated(request: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in PASSED_ON {
        for value in request.get_all(name) {
            passed.append(name, value.clone());
        }
    }
    passed
}

/// The header that carries the user of a session between the applications.
pub(crate) const END_USER: &str = "end-user";

const PASSED_ON: [&str; 17] = [
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "user-agent",
    END_USER,
];
