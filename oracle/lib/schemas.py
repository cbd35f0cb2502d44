"""What the schemas of Istio's kinds say of an object, as Kubernetes' API checks it before Istio sees it.

Types, words, bounds, lengths, and which fields exclude each other. Not the rules in CEL: Istio's code says
the same, in other words.
"""

import re


class Schemas:
    """Of the file with Istio's CustomResourceDefinitions."""

    def __init__(self, path):
        import yaml  # Of Python's own modules none reads YAML.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._of = {}
        for definition in yaml.load_all(path.read_text(), Loader=loader):
            if definition:
                spec = definition["spec"]
                for version in spec["versions"]:
                    key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    self._of[key] = version["schema"]["openAPIV3Schema"]

    def refused(self, one):
        """The first reason why an object is refused; `None`: it is taken."""
        schema = self._of.get((one["apiVersion"], one["kind"]))
        if not schema:
            return None
        spec = schema["properties"]["spec"]
        if "spec" in schema.get("required", []) and one.get("spec") is None:
            return "spec: required"
        return next(wrong(spec, one["spec"], "spec"), None)


TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}


def wrong(schema, value, path):
    """What is wrong with a value, part by part."""
    if value is None and (schema.get("nullable") or path != "spec"):
        return  # Kubernetes drops what is null.
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, (int, str)) or isinstance(value, bool):
            yield f"{path}: no number and no text"
        return
    if kind in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, (int, float)) \
                or kind == "integer" and value != int(value):
            yield f"{path}: no {kind}"
            return
    elif kind and not isinstance(value, TYPES[kind]):
        yield f"{path}: no {kind}"
        return
    yield from bounds(schema, value, path)
    if isinstance(value, dict):
        yield from parts(schema, value, path)
    if isinstance(value, list):
        for at, item in enumerate(value):
            if item is None:
                yield f"{path}[{at}]: null"
            else:
                yield from wrong(schema.get("items", {}), item, f"{path}[{at}]")
    yield from alternatives(schema, value, path)


def parts(schema, value, path):
    for name in schema.get("required", []):
        if value.get(name) is None:
            yield f"{path}.{name}: required"
    for name, field in schema.get("properties", {}).items():
        if name in value:
            yield from wrong(field, value[name], f"{path}.{name}")
    rest = schema.get("additionalProperties")
    if isinstance(rest, dict):
        for name, item in value.items():
            yield from wrong(rest, item, f"{path}.{name}")


def bounds(schema, value, path):
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: none of {schema['enum']}"
    for name, fits in [("minimum", lambda v, b: v >= b), ("maximum", lambda v, b: v <= b)]:
        if name in schema and not fits(value, schema[name]):
            yield f"{path}: {name} {schema[name]}"
    for name in ["Length", "Items", "Properties"]:
        if len(value) < schema.get(f"min{name}", 0) if hasattr(value, "__len__") else False:
            yield f"{path}: min{name}"
        if f"max{name}" in schema and len(value) > schema[f"max{name}"]:
            yield f"{path}: max{name}"
    if schema.get("format") in ("int32", "int64"):
        bits = int(schema["format"][3:]) - 1
        if not -(1 << bits) <= value < 1 << bits:
            yield f"{path}: {schema['format']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {schema['pattern']}"


def alternatives(schema, value, path):
    def fits(one):
        return next(wrong(one, value, path), None) is None

    if "oneOf" in schema and sum(map(fits, schema["oneOf"])) != 1:
        yield f"{path}: fields that exclude each other"
    if "anyOf" in schema and not any(map(fits, schema["anyOf"])):
        yield f"{path}: none of the alternatives"
    if "not" in schema and fits(schema["not"]):
        yield f"{path}: not this"
