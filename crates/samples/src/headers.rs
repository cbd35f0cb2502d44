//! Which headers of a request the applications pass on with the calls that they make for it, so
//! that a tracer can join them.

use http::HeaderMap;

/// The headers of `request` that tell who calls and as part of what.
pub(crate) fn passed_on(request: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in PASSED_ON {
        for value in request.get_all(name) {
            passed.append(name, value.clone());
        }
    }
    passed
}

/// Name of the header that carries the user of a session between the applications.
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
