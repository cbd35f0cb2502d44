//! Fields of `DestinationRule`, those of Istio 0.8 to today.

use crate::istio::{API_VERSION, KIND, METADATA, PORT_SELECTOR, STATUS};
use crate::schema::{
    Field, Message, TEXT_MAP, TEXTS, Type, UINT32, honoured, later, required, typed,
};

pub(super) static DESTINATION_RULE: Message = Message {
    name: "DestinationRule",
    open: false,
    fields: &[API_VERSION, KIND, METADATA, required("spec", Type::Object(&SPEC)), STATUS],
};

static SPEC: Message = Message {
    name: "DestinationRule.spec",
    open: false,
    fields: &[
        required("host", Type::Text),
        honoured("trafficPolicy", Type::Object(&TRAFFIC_POLICY)),
        honoured("subsets", Type::List(&Type::Object(&SUBSET))),
        honoured("exportTo", TEXTS),
        later("workloadSelector", Type::Any),
    ],
};

static SUBSET: Message = Message {
    name: "a subset",
    open: false,
    fields: &[
        required("name", Type::Text),
        honoured("labels", TEXT_MAP),
        honoured("trafficPolicy", Type::Object(&TRAFFIC_POLICY)),
    ],
};

const LOAD_BALANCER_FIELD: Field = honoured("loadBalancer", Type::Object(&LOAD_BALANCER));
const CONNECTION_POOL_FIELD: Field = honoured("connectionPool", Type::Object(&CONNECTION_POOL));
const OUTLIERS_FIELD: Field = later("outlierDetection", Type::Object(&OUTLIER_DETECTION));
const TLS_FIELD: Field = honoured("tls", Type::Object(&TLS));

static TRAFFIC_POLICY: Message = Message {
    name: "trafficPolicy",
    open: false,
    fields: &[
        LOAD_BALANCER_FIELD,
        CONNECTION_POOL_FIELD,
        OUTLIERS_FIELD,
        TLS_FIELD,
        later("portLevelSettings", Type::List(&Type::Object(&PORT_POLICY))),
        later("tunnel", Type::Any),
        later("proxyProtocol", Type::Any),
        later("retryBudget", Type::Object(&RETRY_BUDGET)),
    ],
};

static PORT_POLICY: Message = Message {
    name: "the policy of a port",
    open: false,
    fields: &[
        typed("port", Type::Object(&PORT_SELECTOR)),
        LOAD_BALANCER_FIELD,
        CONNECTION_POOL_FIELD,
        OUTLIERS_FIELD,
        TLS_FIELD,
    ],
};

static LOAD_BALANCER: Message = Message {
    name: "loadBalancer",
    open: false,
    fields: &[
        honoured(
            "simple",
            Type::Words {
                all: &["LEAST_CONN", "LEAST_REQUEST", "RANDOM", "PASSTHROUGH"],
                honoured: &["ROUND_ROBIN", "UNSPECIFIED"],
            },
        ),
        later("consistentHash", Type::Object(&CONSISTENT_HASH)),
        later("localityLbSetting", Type::Any),
        later("zoneAwareLbSetting", Type::Any),
        later("warmupDurationSecs", Type::Duration),
        later("warmup", Type::Any),
    ],
};

static CONSISTENT_HASH: Message = Message {
    name: "consistentHash",
    open: false,
    fields: &[
        typed("httpHeaderName", Type::Text),
        typed("httpCookie", Type::Object(&COOKIE)),
        typed("useSourceIp", Type::Bool),
        typed("httpQueryParameterName", Type::Text),
        typed("minimumRingSize", Type::Integer(0, i64::MAX)),
        typed("ringHash", Type::Any),
        typed("maglev", Type::Any),
    ],
};

static COOKIE: Message = Message {
    name: "httpCookie",
    open: false,
    fields: &[
        required("name", Type::Text),
        typed("path", Type::Text),
        typed("ttl", Type::Duration),
        typed("attributes", Type::Any),
    ],
};

static CONNECTION_POOL: Message = Message {
    name: "connectionPool",
    open: false,
    fields: &[later("tcp", Type::Object(&TCP_POOL)), later("http", Type::Object(&HTTP_POOL))],
};

static TCP_POOL: Message = Message {
    name: "tcp",
    open: false,
    fields: &[
        typed("maxConnections", INT32),
        typed("connectTimeout", Type::Duration),
        typed("tcpKeepalive", Type::Any),
        typed("maxConnectionDuration", Type::Duration),
        typed("idleTimeout", Type::Duration),
    ],
};

static HTTP_POOL: Message = Message {
    name: "http",
    open: false,
    fields: &[
        typed("http1MaxPendingRequests", INT32),
        typed("http2MaxRequests", INT32),
        typed("maxRequestsPerConnection", INT32),
        typed("maxRetries", INT32),
        typed("idleTimeout", Type::Duration),
        typed("h2UpgradePolicy", Type::Text),
        typed("useClientProtocol", Type::Bool),
        typed("maxConcurrentStreams", INT32),
        typed("http2KeepAlive", Type::Any),
    ],
};

static OUTLIER_DETECTION: Message = Message {
    name: "outlierDetection",
    open: false,
    fields: &[
        typed("consecutiveErrors", INT32),
        typed("splitExternalLocalOriginErrors", Type::Bool),
        typed("consecutiveLocalOriginFailures", UINT32),
        typed("consecutiveGatewayErrors", UINT32),
        typed("consecutive5xxErrors", UINT32),
        typed("interval", Type::Duration),
        typed("baseEjectionTime", Type::Duration),
        typed("maxEjectionPercent", INT32),
        typed("minHealthPercent", INT32),
        typed("http", Type::Any),
    ],
};

static TLS: Message = Message {
    name: "tls",
    open: false,
    fields: &[
        honoured(
            "mode",
            // Between members of the mesh traffic is mutual TLS in any case.
            Type::Words { all: &["DISABLE", "SIMPLE", "MUTUAL"], honoured: &["ISTIO_MUTUAL"] },
        ),
        later("clientCertificate", Type::Text),
        later("privateKey", Type::Text),
        later("caCertificates", Type::Text),
        later("credentialName", Type::Text),
        later("subjectAltNames", TEXTS),
        later("sni", Type::Text),
        later("insecureSkipVerify", Type::Bool),
        later("caCrl", Type::Text),
    ],
};

static RETRY_BUDGET: Message = Message {
    name: "retryBudget",
    open: false,
    fields: &[
        typed("percent", Type::Any),
        typed("minRetryConcurrency", UINT32),
        typed("budgetInterval", Type::Duration),
    ],
};

const INT32: Type = Type::Integer(i32::MIN as i64, i32::MAX as i64);
