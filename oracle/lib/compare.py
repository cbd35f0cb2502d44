"""What is compared of an exchange, and what is not, with the reason."""

import time

# Of requests, as they reach an application.
REQUEST_IGNORED = {
    # Made by each proxy for itself.
    "x-request-id", "x-forwarded-proto", "x-forwarded-for", "x-forwarded-client-cert", "traceparent",
    "tracestate", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled",
    # Hop by hop, or framing.
    "connection", "content-length", "transfer-encoding",
    # Envoy's own, of which ironmesh sends what ARCHITECTURE.md names.
    "x-envoy-attempt-count", "x-envoy-original-path", "x-envoy-original-host",
    "x-envoy-expected-rq-timeout-ms", "x-envoy-decorator-operation", "x-envoy-internal",
    "x-envoy-peer-metadata", "x-envoy-peer-metadata-id", "x-istio-attributes",
}
RESPONSE_IGNORED = {
    "date", "server", "connection", "content-length", "transfer-encoding", "keep-alive",
    "x-envoy-upstream-service-time", "x-envoy-decorator-operation", "x-envoy-attempt-count",
}


def outcome(answer, seen):
    """What is compared, by name."""
    status, headers, body = answer
    own = [one for one in seen if not one[0].endswith(".9")]
    copies = [one for one in seen if one[0].endswith(".9")]
    found = {
        "status": status,
        "attempts": len(own),
        "copies": sorted((method, target) for _, method, target, _ in copies),
        "response headers": fields(headers, RESPONSE_IGNORED | {"x-address"}),
    }
    if own:
        address, method, target, request = own[-1]
        found["address"] = address
        found["request"] = (method, target)
        found["request headers"] = fields(request, REQUEST_IGNORED)
    else:
        # An answer of the proxy itself: only its rule has a say in the text.
        found["body"] = body if status not in (503, 504, 404, 403, 400) else b""
    return found


def fields(headers, ignored):
    """Values by name, in order."""
    by_name = {}
    for name, value in headers:
        if name.lower() not in ignored:
            by_name.setdefault(name.lower(), []).append(value)
    return {name: ",".join(values).replace(", ", ",") for name, values in by_name.items()}


def settled(apps, number, copies):
    """What came of a request, once the copies that the other side had are there, too."""
    end = time.monotonic() + 2
    while True:
        seen = apps.seen(number)
        if sum(one[0].endswith(".9") for one in seen) >= copies or time.monotonic() > end:
            return seen
        time.sleep(0.005)


def differences(theirs, ours, free):
    """Names of what differs; `free`: what chance decides on both sides."""
    names = {*theirs, *ours} - free
    return sorted(name for name in names if theirs.get(name) != ours.get(name))
