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
    "x-envoy-peer-metadata", "x-envoy-peer-metadata-id", "x-istio-attributes", "x-id",
    # Istio's gateways add it, but the configuration that is made here has no part about addresses.
    "x-envoy-external-address",
}
RESPONSE_IGNORED = {
    "date", "server", "connection", "content-length", "transfer-encoding", "keep-alive",
    "x-ironmesh-reason", "x-envoy-upstream-service-time", "x-envoy-decorator-operation", "x-envoy-attempt-count",
}


# Which pods have which last bytes of an address.
PODS = {1: "a v1", 2: "a v1", 3: "a v1", 4: "a v2", 5: "a v2", 6: "b", 9: "copies"}


def outcome(answer, seen):
    """What is compared, by name."""
    status, headers, body = answer
    own = [one for one in seen if not one[0].endswith(".9")]
    found = {
        "status": status,
        "attempts": len(own),
        "copies": copies(seen),
    }
    # Of an answer of the proxy itself, kind and text of the body are its own.
    ignored = {"x-address"} if own else {"content-type"}
    found["response headers"] = fields(headers, RESPONSE_IGNORED | ignored)
    if own:
        address, method, target, request = own[-1]
        found["address"] = address
        found["tried"] = [one[0] for one in own[:-1]]
        found["pods"] = PODS[int(address.rsplit(".", 1)[1])]
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
    end = time.monotonic() + 0.5
    while True:
        seen = apps.seen(number)
        if sum(one[0].endswith(".9") for one in seen) >= copies or time.monotonic() > end:
            return seen
        time.sleep(0.005)


def copies(seen):
    """What of a request came to those who get copies alone."""
    return sorted((one[1], one[2]) for one in seen if one[0].endswith(".9"))


def by_chance(pairs):
    """Whether what differs between these may be chance, by weights or among endpoints: then each side
    must be seen to do once what the other has done."""
    return not any(not differences(*pair) for pair in crossed(pairs))


def likest(pairs):
    """Each outcome of one side with each of the other, those that differ least first."""
    return sorted(crossed(pairs), key=lambda pair: len(differences(*pair)))


def crossed(pairs):
    return [(theirs, ours) for theirs, _ in pairs for _, ours in pairs]


def differences(theirs, ours):
    """Names of what differs."""
    names = {*theirs, *ours} - {"pods", "tried"}
    return sorted(name for name in names if theirs.get(name) != ours.get(name))
