"""Objects of Istio's traffic kinds with most of their fields, from which others are made by small changes."""

VIRTUAL_SERVICES = [
    {"hosts": ["reviews", "*.shop.test"], "gateways": ["mesh", "edge"], "exportTo": [".", "other"],
     "http": [{
         "name": "first",
         "match": [{"uri": {"prefix": "/a"}, "scheme": {"exact": "http"}, "method": {"exact": "GET"},
                    "authority": {"regex": "a.*"}, "headers": {"x-a": {"exact": "b"}}, "port": 80,
                    "sourceLabels": {"app": "web"}, "gateways": ["edge"],
                    "queryParams": {"q": {"exact": "1"}}, "ignoreUriCase": True,
                    "withoutHeaders": {"x-b": {"prefix": "c"}}, "sourceNamespace": "shop"}],
         "route": [{"destination": {"host": "reviews", "subset": "v1", "port": {"number": 80}},
                    "weight": 40, "headers": {"request": {"set": {"x-c": "1"}, "remove": ["x-d"]}}},
                   {"destination": {"host": "reviews", "subset": "v2"}, "weight": 60}],
         "rewrite": {"uri": "/b", "authority": "other.test"}, "timeout": "5s",
         "retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,gateway-error",
                     "backoff": "25ms", "retryRemoteLocalities": True,
                     "retryIgnorePreviousHosts": True},
         "fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 10}},
                   "abort": {"httpStatus": 503, "percentage": {"value": 1.5}}},
         "mirror": {"host": "shadow", "port": {"number": 80}}, "mirrorPercentage": {"value": 50},
         "corsPolicy": {"allowOrigins": [{"exact": "https://a.test"}, {"regex": "b.*"}],
                        "allowMethods": ["GET"], "allowHeaders": ["x-e"], "exposeHeaders": ["x-f"],
                        "maxAge": "24h", "allowCredentials": True, "unmatchedPreflights": "IGNORE"},
         "headers": {"response": {"add": {"x-g": "2"}}}}]},
    {"hosts": ["reviews.shop.svc.cluster.local"],
     "http": [{"match": [{"uri": {"exact": "/old"}}],
               "redirect": {"uri": "/new", "authority": "a.test", "redirectCode": 302,
                            "scheme": "https", "port": 443}},
              {"match": [{"uri": {"regex": "/n.*"}}],
               "directResponse": {"status": 404, "body": {"string": "no"}}},
              {"mirrors": [{"destination": {"host": "shadow"}, "percentage": {"value": 3}}],
               "rewrite": {"uriRegexRewrite": {"match": "/x(.*)", "rewrite": "/y\\1"}},
               "route": [{"destination": {"host": "reviews"}}]}]},
    {"hosts": ["a.test"], "gateways": ["shop/edge"],
     "tls": [{"match": [{"sniHosts": ["a.test"], "port": 443, "destinationSubnets": ["10.0.0.0/8"],
                         "sourceLabels": {"app": "web"}, "gateways": ["shop/edge"],
                         "sourceNamespace": "shop"}],
              "route": [{"destination": {"host": "reviews", "port": {"number": 443}},
                         "weight": 100}]}],
     "tcp": [{"match": [{"port": 3306, "destinationSubnets": ["10.0.0.1"], "sourceSubnet": "10.0.0.0/8",
                         "sourceLabels": {"app": "web"}, "gateways": ["shop/edge"]}],
              "route": [{"destination": {"host": "db", "subset": "v1"}, "weight": 1},
                        {"destination": {"host": "db", "subset": "v2"}, "weight": 1}]}]},
    {"hosts": ["ratings"], "http": [
        {"match": [{"uri": {"prefix": "/d"}}],
         "delegate": {"name": "leaf", "namespace": "shop"}},
        {"route": [{"destination": {"host": "ratings"}}]}]},
    {"http": [{"match": [{"uri": {"prefix": "/d/e"}}],
               "route": [{"destination": {"host": "ratings"}}]}]},
]

POLICY = {
    "loadBalancer": {"consistentHash": {"httpCookie": {"name": "u", "path": "/", "ttl": "10s"},
                                        "ringHash": {"minimumRingSize": 1024}},
                     "localityLbSetting": {"enabled": True, "failover": [
                         {"from": "east", "to": "west"}]},
                     "warmup": {"duration": "10s", "minimumPercent": 10, "aggression": 1.5}},
    "connectionPool": {"tcp": {"maxConnections": 10, "connectTimeout": "1s",
                               "tcpKeepalive": {"probes": 3, "time": "7200s", "interval": "75s"},
                               "maxConnectionDuration": "1h", "idleTimeout": "60s"},
                       "http": {"http1MaxPendingRequests": 5, "http2MaxRequests": 100,
                                "maxRequestsPerConnection": 10, "maxRetries": 3, "idleTimeout": "5s",
                                "h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 50}},
    "outlierDetection": {"consecutive5xxErrors": 3, "consecutiveGatewayErrors": 3, "interval": "1s",
                         "baseEjectionTime": "3m", "maxEjectionPercent": 50, "minHealthPercent": 10,
                         "splitExternalLocalOriginErrors": True,
                         "consecutiveLocalOriginFailures": 4},
    "tls": {"mode": "MUTUAL", "clientCertificate": "/c.pem", "privateKey": "/k.pem",
            "caCertificates": "/ca.pem", "sni": "a.test", "subjectAltNames": ["a.test"]},
    "portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"simple": "ROUND_ROBIN"}}],
}

DESTINATION_RULES = [
    {"host": "reviews", "exportTo": ["."], "trafficPolicy": POLICY,
     "workloadSelector": {"matchLabels": {"app": "web"}},
     "subsets": [{"name": "v1", "labels": {"version": "v1"}},
                 {"name": "v2", "labels": {"version": "v2"},
                  "trafficPolicy": {"loadBalancer": {"simple": "LEAST_REQUEST"},
                                    "tls": {"mode": "ISTIO_MUTUAL"}}}]},
    {"host": "*.shop.test", "trafficPolicy": {
        "loadBalancer": {"consistentHash": {"httpHeaderName": "x-user", "maglev": {"tableSize": 1009}}},
        "tls": {"mode": "SIMPLE", "credentialName": "cert", "sni": "b.test"}}},
    {"host": "db", "trafficPolicy": {
        "loadBalancer": {"simple": "RANDOM", "localityLbSetting": {"distribute": [
            {"from": "east/*", "to": {"east/*": 80, "west/*": 20}}]}},
        "connectionPool": {"http": {"useClientProtocol": True}},
        "tunnel": {"protocol": "CONNECT", "targetHost": "c.test", "targetPort": 443},
        "retryBudget": {"percent": 20, "minRetryConcurrency": 3}}},
    {"host": "web", "exportTo": ["*"], "trafficPolicy": {
        "proxyProtocol": {"version": "V1"},
        "loadBalancer": {"simple": "LEAST_REQUEST", "localityLbSetting": {
            "failoverPriority": ["topology.kubernetes.io/region"]}}}},
]

GATEWAYS = [
    {"selector": {"istio": "ingressgateway"}, "servers": [
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*.a.test", "shop/b.test"],
         "tls": {"httpsRedirect": True}, "name": "one"},
        {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["./a.test"],
         "bind": "10.0.0.1",
         "tls": {"mode": "MUTUAL", "credentialName": "cert", "minProtocolVersion": "TLSV1_2",
                 "maxProtocolVersion": "TLSV1_3", "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256"],
                 "subjectAltNames": ["c.test"]}},
        {"port": {"number": 9000, "name": "tcp", "protocol": "TCP"}, "hosts": ["*"]},
        {"port": {"number": 8443, "name": "tls", "protocol": "TLS"}, "hosts": ["*"],
         "tls": {"mode": "PASSTHROUGH"}}]},
    {"selector": {"app": "edge"}, "servers": [
        {"port": {"number": 443, "name": "files", "protocol": "HTTPS"}, "hosts": ["a.test"],
         "tls": {"mode": "SIMPLE", "serverCertificate": "/c.pem", "privateKey": "/k.pem"}},
        {"port": {"number": 444, "name": "both", "protocol": "HTTPS"}, "hosts": ["b.test"],
         "tls": {"mode": "OPTIONAL_MUTUAL", "serverCertificate": "/c.pem", "privateKey": "/k.pem",
                 "caCertificates": "/ca.pem"}},
        {"port": {"number": 15443, "name": "auto", "protocol": "TLS"}, "hosts": ["*.local"],
         "tls": {"mode": "AUTO_PASSTHROUGH"}},
        {"port": {"number": 445, "name": "mesh", "protocol": "HTTPS"}, "hosts": ["c.test"],
         "tls": {"mode": "ISTIO_MUTUAL"}}]},
]

SERVICE_ENTRIES = [
    {"hosts": ["api.test", "b.test"], "location": "MESH_EXTERNAL", "resolution": "STATIC",
     "exportTo": ["."], "subjectAltNames": ["spiffe://x"], "addresses": ["240.1.1.1", "10.1.0.0/16"],
     "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080},
               {"number": 443, "name": "tls", "protocol": "TLS"}],
     "endpoints": [{"address": "1.2.3.4", "ports": {"http": 8080}, "labels": {"a": "b"},
                    "locality": "east/a/b", "weight": 3, "network": "n", "serviceAccount": "s"},
                   {"address": "1.2.3.5"}]},
    {"hosts": ["*.wild.test"], "resolution": "NONE", "location": "MESH_EXTERNAL",
     "ports": [{"number": 443, "name": "https", "protocol": "HTTPS"}]},
    {"hosts": ["named.test"], "resolution": "DNS",
     "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
     "endpoints": [{"address": "a.test", "ports": {"http": 81}}]},
    {"hosts": ["one.test"], "resolution": "DNS_ROUND_ROBIN", "location": "MESH_INTERNAL",
     "ports": [{"number": 3306, "name": "tcp", "protocol": "TCP"}],
     "endpoints": [{"address": "a.test"}]},
    {"hosts": ["selected.test"], "resolution": "STATIC", "location": "MESH_INTERNAL",
     "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
     "workloadSelector": {"labels": {"app": "vm"}}},
    {"hosts": ["*.dynamic.test"], "resolution": "DYNAMIC_DNS",
     "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]},
]

SIDECARS = [
    {"workloadSelector": {"labels": {"app": "web"}},
     "egress": [{"hosts": ["./*", "istio-system/*", "*/api.test"],
                 "port": {"number": 9080, "protocol": "HTTP", "name": "egress"},
                 "bind": "127.0.0.1", "captureMode": "NONE"},
                {"hosts": ["shop/reviews.shop.svc.cluster.local"]}],
     "ingress": [{"port": {"number": 9080, "protocol": "HTTP", "name": "in"}, "bind": "10.0.0.1",
                  "captureMode": "DEFAULT", "defaultEndpoint": "127.0.0.1:8080",
                  "connectionPool": {"tcp": {"maxConnections": 3}}},
                 {"port": {"number": 9081, "protocol": "TCP", "name": "unix"},
                  "defaultEndpoint": "unix:///run/x.sock"}],
     "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
     "inboundConnectionPool": {"tcp": {"maxConnections": 10}}},
    {"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": {"mode": "ALLOW_ANY"}},
]

WORKLOAD_ENTRIES = [
    {"address": "1.2.3.4", "ports": {"http": 8080}, "labels": {"app": "vm", "version": "v1"},
     "network": "n", "locality": "east/a", "weight": 3, "serviceAccount": "s"},
    {"address": "unix:///run/x.sock", "labels": {"app": "vm"}},
    {"address": "vm.test", "labels": {"app": "vm"}},
]

WORKLOAD_GROUPS = [
    {"metadata": {"labels": {"app": "vm"}, "annotations": {"a": "b"}},
     "template": {"ports": {"http": 8080}, "serviceAccount": "s", "network": "n",
                  "labels": {"a": "b"}, "weight": 3, "locality": "east"},
     "probe": {"initialDelaySeconds": 1, "timeoutSeconds": 2, "periodSeconds": 5,
               "successThreshold": 1, "failureThreshold": 3,
               "httpGet": {"path": "/health", "port": 8080, "host": "127.0.0.1", "scheme": "HTTP",
                           "httpHeaders": [{"name": "x-a", "value": "b"}]}}},
    {"metadata": {"labels": {"app": "vm"}}, "template": {"serviceAccount": "s"},
     "probe": {"tcpSocket": {"port": 80, "host": "127.0.0.1"}}},
    {"template": {"labels": {"app": "vm"}}, "probe": {"exec": {"command": ["true"]}}},
]

PROXY_CONFIGS = [
    {"selector": {"matchLabels": {"app": "web"}}, "concurrency": 2,
     "environmentVariables": {"A": "b"}, "image": {"imageType": "debug"}},
]

PEER_AUTHENTICATIONS = [
    {"selector": {"matchLabels": {"app": "web"}}, "mtls": {"mode": "STRICT"},
     "portLevelMtls": {"80": {"mode": "DISABLE"}, "81": {"mode": "PERMISSIVE"}}},
    {"mtls": {"mode": "STRICT"}},
]

NETWORKING = "networking.istio.io/v1"
ORIGINALS = [(version, kind, spec) for version, kind, specs in [
    (NETWORKING, "VirtualService", VIRTUAL_SERVICES),
    (NETWORKING, "DestinationRule", DESTINATION_RULES),
    (NETWORKING, "Gateway", GATEWAYS),
    (NETWORKING, "ServiceEntry", SERVICE_ENTRIES),
    (NETWORKING, "Sidecar", SIDECARS),
    (NETWORKING, "WorkloadEntry", WORKLOAD_ENTRIES),
    (NETWORKING, "WorkloadGroup", WORKLOAD_GROUPS),
    ("networking.istio.io/v1beta1", "ProxyConfig", PROXY_CONFIGS),
    ("security.istio.io/v1", "PeerAuthentication", PEER_AUTHENTICATIONS),
] for spec in specs]


def thing(version, kind, name, **fields):
    labels = fields.pop("labels", {})
    return {"apiVersion": version, "kind": kind,
            "metadata": {"name": name, "namespace": "default", "labels": labels}, **fields}


def pod(name, ip, labels):
    return thing("v1", "Pod", name, labels=labels,
                 spec={"containers": [{"name": "app", "image": "app"},
                                      {"name": "istio-proxy", "image": "proxyv2"}]},
                 status={"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                         "conditions": [{"type": "Ready", "status": "True"}]})


def service(name, ports, selector):
    return thing("v1", "Service", name, spec={
        "selector": selector,
        "ports": [{"name": f"http-{port}", "port": port} for port in ports]})


# What objects of Istio's kinds are about. (Istio's analyzers tell of one namespace.)
BESIDE = [
    thing("v1", "Namespace", "default") | {"metadata": {"name": "default"}},
    pod("reviews-v1", "10.0.0.1", {"app": "reviews", "version": "v1"}),
    pod("reviews-v2", "10.0.0.2", {"app": "reviews", "version": "v2"}),
    pod("edge", "10.0.0.3", {"istio": "ingressgateway"}),
    service("reviews", [80], {"app": "reviews"}),
    service("both", [80, 81], {"app": "reviews"}),
    service("edge", [80, 443], {"istio": "ingressgateway"}),
]


def network(kind, name, spec):
    return thing(NETWORKING, kind, name, spec=spec)


TOGETHER = [
    network("Gateway", "edge", {"selector": {"istio": "ingressgateway"}, "servers": [
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.test"]}]}),
    network("DestinationRule", "reviews", {"host": "reviews", "subsets": [
        {"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]}),
    network("VirtualService", "reviews", {"hosts": ["reviews"], "http": [
        {"match": [{"uri": {"prefix": "/a"}}, {"uri": {"exact": "/b"}}],
         "route": [{"destination": {"host": "reviews", "subset": "v1"}, "weight": 50},
                   {"destination": {"host": "reviews", "subset": "v2"}, "weight": 50}]},
        {"match": [{"uri": {"prefix": "/c"}}],
         "route": [{"destination": {"host": "both", "port": {"number": 80}}}]},
        {"route": [{"destination": {"host": "reviews", "port": {"number": 80}}}]}]}),
    network("VirtualService", "edge", {"hosts": ["a.test"], "gateways": ["edge"], "http": [
        {"route": [{"destination": {"host": "reviews"}}]}]}),
    network("VirtualService", "tcp", {"hosts": ["both"], "tcp": [
        {"match": [{"port": 80}], "route": [{"destination": {"host": "both", "port": {"number": 80}}}]},
        {"match": [{"port": 81}], "route": [{"destination": {"host": "both", "port": {"number": 81}}}]}]}),
    network("Sidecar", "reviews", {"workloadSelector": {"labels": {"app": "reviews", "version": "v1"}},
                                   "egress": [{"hosts": ["./*"]}]}),
    network("Sidecar", "edge", {"workloadSelector": {"labels": {"istio": "ingressgateway"}},
                                "egress": [{"hosts": ["./*"]}]}),
    network("ServiceEntry", "outside", {"hosts": ["api.test"], "resolution": "DNS",
                                        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}),
]
