"""Small changes of objects, such as people make by mistake."""

import copy

TEXTS = ["", "a b", "not a host!", "http://c", "*", "*.", "a/b/c", "-a", "UPPER", "a_b", "a.b.",
         "10.0.0.1", "10.0.0.0/33", "[", "(a", "0s", "0.1ms", "-1s", "1.5s", "~", ".", "*/*", "./x.y",
         "unix:///x", "unix://", "%", "%A%", ":method", ":authority", "x" * 64, "a" * 300, "ISTIO_MUTUAL",
         "DISABLE", "SIMPLE", "NONE", "DNS", "STATIC", "HTTPS", "TCP", "BOGUS", "mesh", "5xx,bogus",
         "@request.auth.claims.sub", "127.0.0.1:80", "0.0.0.0:80", "istio-system/edge", "a*", "*a.b"]
NUMBERS = [0, -1, 1, 99, 100, 101, 200, 600, 65535, 65536, 1 << 31, 1 << 33, 0.5]


def mutate(random, spec):
    """A copy of a spec with one or two changes, and what they are."""
    spec = copy.deepcopy(spec)
    changes = [change(random, spec) for _ in range(random.choice([1, 1, 1, 2]))]
    return spec, "; ".join(changes)


def places(value, path="spec"):
    """All values with what holds them: (holder, key, path)."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        at = f"{path}.{key}" if isinstance(value, dict) else f"{path}[{key}]"
        yield value, key, at
        if isinstance(value[key], (dict, list)):
            yield from places(value[key], at)


def change(random, spec):
    """One change in place, in words."""
    all_places = list(places(spec))
    if not all_places:
        return "nothing"
    holder, key, path = random.choice(all_places)
    value = holder[key]
    kinds = ["remove", "value", "value", "value"]
    if isinstance(value, list):
        kinds += ["empty", "twice", "twice"]
    if isinstance(value, dict):
        kinds += ["empty", "empty", "graft"]
    if isinstance(holder, dict):
        kinds += ["rename"]
    kind = random.choice(kinds)
    if kind == "remove":
        del holder[key]
    elif kind == "empty":
        holder[key] = type(value)()
    elif kind == "twice":
        if not value:
            return "nothing"
        value.append(copy.deepcopy(random.choice(value)))
    elif kind == "rename":
        name = misspelt(random, key) if random.random() < 0.5 else random.choice(TEXTS)
        holder[name] = holder.pop(key)
        return f"{path} is called {name!r}"
    elif kind == "graft":
        _, other, _ = random.choice(all_places)
        if not isinstance(other, str):
            return "nothing"
        source = next(h[k] for h, k, _ in all_places if k == other and isinstance(h, dict))
        value[other] = copy.deepcopy(source)
        return f"{path} gets {other}"
    else:
        holder[key] = another(random, value)
        return f"{path} = {holder[key]!r}"
    return f"{path}: {kind}"


def another(random, value):
    if isinstance(value, bool):
        return random.choice([not value, not value, "true", 1])
    if isinstance(value, str):
        return random.choice(TEXTS + [value + "x", value.upper(), 7])
    if isinstance(value, (int, float)):
        return random.choice(NUMBERS + [str(value)])
    return random.choice([None, "", 0, [], {}, "text", [{}], [""]])


def misspelt(random, name):
    if len(name) < 2:
        return name + "x"
    at = random.randrange(len(name) - 1)
    return random.choice([name[:at] + name[at + 1:], name + "s",
                          name[:at] + name[at + 1] + name[at] + name[at + 2:]])
