"""Differences on purpose, each with its reason; ARCHITECTURE.md lists them, too."""


def known(configuration, request, theirs, ours, names):
    """Why the outcomes of a request differ and may, a reason for each part; `None`: they may not."""
    reasons, left = [], set(names)
    for why, may_differ in deviations(configuration, request, theirs, ours):
        if left & may_differ:
            reasons.append(why)
            left -= may_differ
    return None if left else reasons


def deviations(configuration, request, theirs, ours):
    """The differences on purpose that these outcomes show, each with what may differ for it."""
    for why, as_ours in TARGETS:
        rewritten = {name for name in ("request", "copies") if name in theirs
                     and requests(theirs[name], as_ours) == requests(ours.get(name))}
        yield why, rewritten
    if theirs.get("address") in theirs.get("tried", []):
        yield "endpoints that were tried are passed over while there is another", {"address"}
    rules = [rule for one in configuration.istio for rule in one["spec"].get("http", [])]
    retries = [rule["retries"] for rule in rules if "retries" in rule]
    if (ours["attempts"] > theirs["attempts"] and request[0] in IDEMPOTENT
            and any(one["attempts"] and "retryOn" not in one for one in retries)):
        yield ("retries without retryOn: 5xx and resets of idempotent requests are tried again, too",
               {*theirs, *ours} - {"request", "copies"})
    aborts = any("corsPolicy" in rule and "abort" in rule.get("fault", {}) for rule in rules)
    if aborts and theirs["attempts"] == ours["attempts"] == 0:
        with_cors = theirs["response headers"].items() - ours["response headers"].items()
        if all(name.startswith("access-control-") for name, _ in with_cors):
            preflight = {"status", "body"} if request[0] == "OPTIONS" else set()
            yield ("aborts come before corsPolicy in Istio's proxies, but not in the Envoy that is asked",
                   {"response headers"} | preflight)


def requests(seen, as_ours=str):
    """A request or several, method and target, with their targets as a deviation has them."""
    if isinstance(seen, tuple):
        method, target = seen
        return method, as_ours(target)
    return seen and sorted(requests(one, as_ours) for one in seen)


def with_first_slash(target):
    return target if target.startswith("/") else "/" + target


def with_single_slashes(target):
    path, *query = target.split("?")
    return "?".join([path.replace("//", "/"), *query])


# What becomes of targets on purpose.
TARGETS = [
    ("a rewrite that takes the first slash away: there is one all the same", with_first_slash),
    ("a prefix that is replaced by one which ends with a slash: there is one slash",
     with_single_slashes),
]


# Methods whose requests do twice what they do once (RFC 9110, section 9.2.2).
IDEMPOTENT = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}


# What our messages say where we refuse what Istio takes, and why we do.
REFUSED = [
    ("did you mean", "a misspelt field is refused, with what was meant; Istio drops it"),
    ("names a group that the pattern does not have", "Envoy refuses such a rewrite"),
    ("it has blanks, control characters", "a Location has no blanks (RFC 3986)"),
    ("is no name of DNS, nor", "a host of dots or stars only is nobody's"),
    ("names no Gateway", "Istio looks at no Gateway after the first name without namespace"),
    ("is no name of a header", "Istio takes any text with a letter in it; Envoy does not"),
    ("not null", "an entry that is null is not one that is left out"),
    ("it is a status of 200 to 599", "no status is 600"),
    ("is no status of an answer", "no status is 600"),
    ("from 1 to 65535, not 0", "0 is no port; Istio takes it for none"),
    ("the size is a prime", "1 is no prime; Istio and Envoy take it for one"),
]


# Codes of Istio's analyzers, and those that we may say the same by.
MEANT = {
    "IST0101": ["IM0103", "IM0104", "IM0105", "IM0111", "IM0112", "IM0116", "IM0121", "IM0129"],
    "IST0106": ["IM0001", "IM0002"],
    "IST0107": ["IM0114"],
    "IST0108": ["IM0003"],
    "IST0109": ["IM0106"],
    "IST0110": ["IM0130"],
    "IST0111": ["IM0130"],
    "IST0112": ["IM0131"],
    "IST0125": ["IM0114", "IM0003"],
    "IST0127": ["IM0111"],
    "IST0130": ["IM0109"],
    "IST0131": ["IM0109"],
    "IST0132": ["IM0117", "IM0105"],
    "IST0135": ["IM0113"],
    "IST0140": ["IM0132"],
    "IST0145": ["IM0122"],
    "IST0161": ["IM0121"],
    "IST0173": ["IM0112"],
    "IST0174": ["IM0116"],
    "IST0177": ["IM0135"],
}

# Codes that we have nothing for on purpose.
SILENT = {
    "IST0002": "old forms have findings of their own",
    "IST0102": "a namespace need not ask for sidecars",
    "IST0128": "without caCertificates Mozilla's authorities are trusted",
    "IST0129": "without caCertificates Mozilla's authorities are trusted",
    "IST0133": "warnings of the validation are findings of other codes",
    "IST0134": "every host gets an address of the mesh",
    "IST0138": "misdirected requests are answered with 421",
    "IST0162": "the platform publishes the ports that Gateways name",
}


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
