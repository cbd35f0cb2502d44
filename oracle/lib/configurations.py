"""Random configurations, and requests that they have an opinion about.

A configuration is a namespace of its own with the Services `a` (pods of v1 and v2), `b`, and `copies`,
where only copies go.
"""

from dataclasses import dataclass, field

PATHS = ["/", "/a", "/a/b", "/a/", "/ab", "/api/v1/x", "/A/b", "/a%20b", "/api/v1/x?x=1&y=2", "/a?x=2",
         "/a?x=%31"]
VALUES = ["a", "b", "ab", "b-2"]
# Configurations that have addresses of their own at the same time.
PLACES = 7500


@dataclass
class Configuration:
    number: int
    istio: list
    kubernetes: list
    requests: list
    # Whether it is for a gateway; for a sidecar else.
    edge: bool
    # What it uses, by the names of fields.
    features: set = field(default_factory=set)

    @property
    def namespace(self):
        return f"c{self.number}"


class Maker:
    """Makes one configuration from a random number generator."""

    def __init__(self, random, number, edge=False):
        self.random = random
        self.edge = edge
        self.host = f"a{number}.example.com" if edge else f"a.c{number}.svc.cluster.local"
        self.number = number
        self.namespace = f"c{number}"
        self.features = set()

    def make(self):
        istio = [self.virtual_service()]
        if self.chance(0.8):
            istio.append(self.destination_rule())
        if self.edge:
            istio.append(self.gateway())
        requests = [self.request() for _ in range(20)]
        return Configuration(
            self.number, istio, self.platform(), requests, self.edge, self.features)

    # --- small words ---

    def chance(self, probability):
        return self.random.random() < probability

    def one(self, *of):
        return self.random.choice(of)

    def uses(self, name):
        self.features.add(name)

    # --- platform ---

    def platform(self):
        objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}]
        pods = [("a", "v1", 1), ("a", "v1", 2), ("a", "v1", 3), ("a", "v2", 4), ("a", "v2", 5),
                ("b", "v1", 6), ("copies", "v1", 9)]
        for at, app in enumerate(["a", "b", "copies"]):
            objects.append({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": app, "namespace": self.namespace},
                "spec": {"selector": {"app": app}, "clusterIP": self.service_ip(at),
                         "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            })
        for app, version, last in pods:
            objects.append(pod(self.namespace, f"{app}-{version}-{last}", self.ip(last),
                               {"app": app, "version": version}))
        return objects

    def ip(self, last):
        row, place = divmod(self.number % PLACES, 250)
        return f"127.{1 + row}.{1 + place}.{last}"

    def service_ip(self, at):
        row, place = divmod(self.number % PLACES, 250)
        return f"10.96.{place}.{1 + row * 8 + at}"

    # --- rules ---

    def virtual_service(self):
        rules = [self.rule() for _ in range(self.random.randint(1, 4))]
        if self.chance(0.5):
            rules.append({"route": [{"destination": {"host": "a"}}]})
        return {
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "a", "namespace": self.namespace,
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"hosts": [self.host], "gateways": ["edge"], "http": rules} if self.edge else
                    {"hosts": ["a"], "http": rules},
        }

    def gateway(self):
        return {
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": self.namespace,
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{
                "port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [self.host]}]},
        }

    def rule(self):
        rule = {}
        if self.chance(0.85):
            rule["match"] = [self.match() for _ in range(self.random.randint(1, 2))]
        kind = self.random.random()
        if kind < 0.12:
            rule["redirect"] = self.redirect()
            return rule
        if kind < 0.2:
            self.uses("directResponse")
            rule["directResponse"] = {"status": self.one(200, 404, 418, 503),
                                      "body": {"string": self.one("no", "well")}}
            self.maybe_headers(rule)
            return rule
        rule["route"] = self.destinations()
        if self.chance(0.25):
            rule["rewrite"] = self.rewrite(rule.get("match", []))
        self.maybe_headers(rule)
        if self.chance(0.12):
            self.uses("fault.abort")
            rule["fault"] = {"abort": {"httpStatus": self.one(418, 503, 404),
                                       "percentage": {"value": self.one(100, 0)}}}
        if self.chance(0.15):
            self.uses("mirror")
            rule["mirror"] = {"host": "copies"}
            if self.chance(0.4):
                self.uses("mirrorPercentage")
                rule["mirrorPercentage"] = {"value": self.one(0, 100)}
        if self.chance(0.15):
            rule["corsPolicy"] = self.cors()
        if self.chance(0.3):
            rule["retries"] = self.retries()
        return rule

    def match(self):
        match = {}
        if self.chance(0.6):
            kind = self.one("exact", "prefix", "regex")
            self.uses(f"match.uri.{kind}")
            match["uri"] = {kind: {
                "exact": self.one("/a", "/a/b", "/", "/a%20b", "/api/v1/x"),
                "prefix": self.one("/a", "/", "/api/", "/a/"),
                "regex": self.one("/a.*", "/[a-z]+", ".*x", "/a/b|/ab", "/api/v[0-9]/x"),
            }[kind]}
            if kind != "regex" and self.chance(0.2):
                self.uses("match.ignoreUriCase")
                match["ignoreUriCase"] = True
        if self.chance(0.35):
            self.uses("match.headers")
            match["headers"] = {"x-a": self.text_match()}
        if self.chance(0.15):
            self.uses("match.withoutHeaders")
            match["withoutHeaders"] = {"x-b": self.text_match()}
        if self.chance(0.2):
            self.uses("match.method")
            match["method"] = self.one({"exact": "GET"}, {"exact": "POST"}, {"regex": "P.*"},
                                       {"prefix": "P"})
        if self.chance(0.15):
            self.uses("match.queryParams")
            match["queryParams"] = {"x": self.one({"exact": "1"}, {"regex": "[0-9]"}, {"exact": "2"},
                                                  {"prefix": "%3"})}
        if self.chance(0.1):
            self.uses("match.authority")
            match["authority"] = self.one({"prefix": "a."}, {"exact": "nobody"}, {"regex": "a.*(local|com)"})
        if self.chance(0.1):
            self.uses("match.sourceLabels")
            match["sourceLabels"] = self.one({"app": "client"}, {"app": "another"})
        if self.chance(0.08):
            self.uses("match.port")
            match["port"] = self.one(80, 81)
        if self.chance(0.05):
            self.uses("match.scheme")
            match["scheme"] = {"exact": self.one("http", "https")}
        return match or {"uri": {"prefix": "/a"}}

    def text_match(self):
        kind = self.one("exact", "prefix", "regex", "present")
        if kind == "present":
            return {}
        return {kind: {"exact": self.one("a", "b"), "prefix": self.one("a", "b"),
                       "regex": self.one("a|b", "b-[0-9]", ".*b")}[kind]}

    def destinations(self):
        def to(host, subset=None):
            destination = {"host": host}
            if subset:
                self.uses("destination.subset")
                destination["subset"] = subset
            if self.chance(0.2):
                self.uses("destination.port")
                destination["port"] = {"number": 80}
            return {"destination": destination}

        targets = [to("a"), to("a", "v1"), to("a", "v2"), to("b"),
                   to(f"b.{self.namespace}.svc.cluster.local"), to("a", "nobody")]
        if self.chance(0.7):
            route = [self.random.choice(targets)]
        else:
            self.uses("destination.weight")
            first, second = self.random.sample(targets[:5], 2)
            weights = self.one((100, 0), (0, 100), (30, 70), (1, 1))
            route = [dict(first, weight=weights[0]), dict(second, weight=weights[1])]
        for one in route:
            if self.chance(0.2):
                self.uses("destination.headers")
                one["headers"] = self.headers()
        return route

    def rewrite(self, matches):
        kind = self.one("uri", "authority", "both", "regex")
        self.uses(f"rewrite.{kind}")
        rewrite = {}
        if kind in ("uri", "both"):
            rewrite["uri"] = self.one("/", "/new", "/new/")
        if kind in ("authority", "both"):
            rewrite["authority"] = "else.where"
        if kind == "regex":
            rewrite["uriRegexRewrite"] = {"match": self.one("^/a", "/([a-z]+)/([a-z]+)", "x"),
                                          "rewrite": self.one("/r", "/\\2/\\1", "y")
                                          if matches else "/r"}
            if "\\2" in rewrite["uriRegexRewrite"]["rewrite"]:
                rewrite["uriRegexRewrite"]["match"] = "/([a-z]+)/([a-z]+)"
        return rewrite

    def redirect(self):
        redirect = {}
        if self.chance(0.7):
            self.uses("redirect.uri")
            redirect["uri"] = self.one("/moved", "/")
        if self.chance(0.5):
            self.uses("redirect.authority")
            redirect["authority"] = "else.where"
        if self.chance(0.3):
            self.uses("redirect.scheme")
            redirect["scheme"] = "https"
        if self.chance(0.3):
            self.uses("redirect.port")
            redirect["port"] = self.one(8443, 80)
        elif self.chance(0.2):
            self.uses("redirect.derivePort")
            redirect["derivePort"] = self.one("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")
        if self.chance(0.4):
            self.uses("redirect.redirectCode")
            redirect["redirectCode"] = self.one(302, 303, 307, 308)
        if not redirect.keys() - {"redirectCode", "derivePort"}:
            redirect["uri"] = "/moved"
        return redirect

    def maybe_headers(self, rule):
        if self.chance(0.3):
            self.uses("headers")
            rule["headers"] = self.headers()

    def headers(self):
        def operations(name):
            given = {}
            if self.chance(0.5):
                given["set"] = {name: self.one("set-1", "set-2")}
            if self.chance(0.4):
                given["add"] = {self.one(name, "x-more"): self.one("add-1", "add-2")}
            if self.chance(0.3):
                given["remove"] = [self.one(name, "x-drop")]
            return given

        headers = {"request": operations("x-a"), "response": operations("x-answer")}
        return {key: value for key, value in headers.items() if value}

    def cors(self):
        self.uses("corsPolicy")
        policy = {"allowOrigins": [self.one({"exact": "http://one"}, {"prefix": "http://"},
                                            {"regex": "http://.*"}, {"exact": "*"})]}
        if self.chance(0.6):
            policy["allowMethods"] = ["GET", "POST"]
        if self.chance(0.4):
            policy["allowHeaders"] = ["x-a"]
        if self.chance(0.4):
            policy["exposeHeaders"] = ["x-answer"]
        if self.chance(0.3):
            policy["maxAge"] = "60s"
        if self.chance(0.3):
            policy["allowCredentials"] = self.one(True, False)
        if self.chance(0.2):
            self.uses("corsPolicy.unmatchedPreflights")
            policy["unmatchedPreflights"] = self.one("FORWARD", "IGNORE")
        return policy

    def retries(self):
        self.uses("retries")
        retries = {"attempts": self.random.randint(0, 3)}
        if retries["attempts"] and self.chance(0.9):
            retries["retryOn"] = self.one("5xx", "gateway-error", "reset", "retriable-4xx", "503",
                                          "connect-failure,refused-stream,500", "5xx,404",
                                          "retriable-status-codes,409")
        return retries

    # --- destination rules ---

    def destination_rule(self):
        spec = {"host": self.one("a", f"a.{self.namespace}.svc.cluster.local"), "subsets": [
            {"name": "v1", "labels": {"version": "v1"}},
            {"name": "v2", "labels": {"version": "v2"}},
        ]}
        if self.chance(0.5):
            self.uses("consistentHash")
            spec["trafficPolicy"] = {"loadBalancer": self.hash()}
        if self.chance(0.2):
            self.uses("subset.trafficPolicy")
            spec["subsets"][0]["trafficPolicy"] = {"loadBalancer": self.hash()}
        return {
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "a", "namespace": self.namespace,
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec,
        }

    def hash(self):
        by = self.one({"httpHeaderName": "x-user"}, {"httpQueryParameterName": "x"},
                      {"httpCookie": {"name": "user"}})
        if self.chance(0.4):
            self.uses("consistentHash.maglev")
            by = dict(by, maglev={"tableSize": self.one(1009, 65537)})
        elif self.chance(0.4):
            self.uses("consistentHash.ringHash")
            by = dict(by, ringHash={"minimumRingSize": self.one(8, 4096)})
        return {"consistentHash": by}

    # --- requests ---

    def request(self):
        """(method, target, headers, body), without its id."""
        method = self.random.choices(["GET", "POST", "PUT", "OPTIONS"], [6, 2, 1, 1])[0]
        headers = [("host", self.host)]
        if self.chance(0.5):
            headers.append(("x-a", self.random.choice(VALUES)))
        if self.chance(0.3):
            headers.append(("x-b", self.random.choice(VALUES)))
        if self.chance(0.6):
            headers.append(("x-user", f"user-{self.random.randint(1, 1000)}"))
        if self.chance(0.5):
            headers.append(("cookie", f"other=1; user={self.random.randint(1, 1000)}"))
        if self.chance(0.25) or method == "OPTIONS":
            headers.append(("origin", self.one("http://one", "http://two", "https://three")))
            if method == "OPTIONS" and self.chance(0.8):
                headers.append(("access-control-request-method", self.one("GET", "PUT")))
        if self.chance(0.4):
            plan = self.one("503,200", "503,503,503,503", "500,200", "404,200", "409,200", "503,404",
                            "reset,200", "200")
            headers.append(("x-plan", plan))
        body = b"hello" if method in ("POST", "PUT") else None
        return method, self.random.choice(PATHS), headers, body


def pod(namespace, name, ip, labels, account="default"):
    """A ready pod without a sidecar."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}",
                     "labels": labels},
        "spec": {"serviceAccountName": account,
                 "containers": [{"name": "app", "image": "app",
                                 "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    }
