"""Differences on purpose, each with its reason; ARCHITECTURE.md lists them, too."""


def known(configuration, request, theirs, ours, names):
    """Why the outcomes of a request differ and may; `None`: they may not."""
    return None


# What our messages say where we refuse what Istio takes, and why we do.
REFUSED = [
    ("did you mean", "a misspelt field is refused, with what was meant; Istio leaves it away"),
    ("names a group that the pattern does not have", "Envoy refuses such a rewrite"),
    ("it has blanks, control characters", "a Location has no blanks (RFC 3986)"),
    ("is no name of DNS, nor", "a host of dots or stars only is nobody's"),
    ("names no Gateway", "Istio looks at no Gateway after the first name without namespace"),
    ("is no name of a header", "Istio takes any text with a letter in it; Envoy does not"),
    ("not null", "an entry that is null is no entry that is left away"),
    ("it is a status of 200 to 599", "no status is 600"),
    ("is no status of an answer", "no status is 600"),
]


def refusal(one, theirs, errors):
    """Why one side refuses an object and the other does not; `None`: they may not differ."""
    if errors:
        reasons = [next((why for said, why in REFUSED if said in error["message"]), None)
                   for error in errors]
        if all(reasons):
            return reasons[0]
    if one["kind"] == "WorkloadGroup" and all("ports" in error["path"] for error in errors):
        return "Istio's schema refuses it by a rule in CEL, which is not looked at"
    return None
