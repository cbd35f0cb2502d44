//! Fields of `VirtualService`, those of Istio 0.8 to today.

use crate::istio::{API_VERSION, KIND, METADATA, PORT_SELECTOR, STATUS};
use crate::schema::{
    Message, PORT, TEXT_MAP, TEXTS, Type, UINT32, honoured, later, old, required, typed,
};

pub(super) static VIRTUAL_SERVICE: Message = Message {
    name: "VirtualService",
    open: false,
    fields: &[API_VERSION, KIND, METADATA, required("spec", Type::Object(&SPEC)), STATUS],
};

static SPEC: Message = Message {
    name: "VirtualService.spec",
    open: false,
    fields: &[
        honoured("hosts", TEXTS),
        honoured("gateways", TEXTS),
        honoured("exportTo", TEXTS),
        honoured("http", Type::List(&Type::Object(&HTTP_ROUTE))),
        later("tls", Type::List(&Type::Object(&TLS_ROUTE))),
        later("tcp", Type::List(&Type::Object(&TCP_ROUTE))),
    ],
};

static HTTP_ROUTE: Message = Message {
    name: "a rule of http",
    open: false,
    fields: &[
        honoured("name", Type::Text),
        honoured("match", Type::List(&Type::Object(&HTTP_MATCH))),
        honoured("route", Type::List(&Type::Object(&DESTINATION_WEIGHT))),
        later("redirect", Type::Object(&REDIRECT)),
        later("directResponse", Type::Object(&DIRECT_RESPONSE)),
        later("delegate", Type::Object(&DELEGATE)),
        honoured("rewrite", Type::Object(&REWRITE)),
        honoured("timeout", Type::Duration),
        later("retries", Type::Object(&RETRIES)),
        honoured("fault", Type::Object(&FAULT)),
        later("mirror", Type::Object(&DESTINATION)),
        later("mirrors", Type::List(&Type::Object(&MIRROR))),
        later("mirrorPercentage", Type::Object(&PERCENT)),
        later("mirrorPercent", UINT32),
        later("corsPolicy", Type::Object(&CORS)),
        honoured("headers", Type::Object(&HEADERS)),
        old("websocketUpgrade", Type::Bool, "as nothing at all: upgrades are always allowed"),
        old("appendHeaders", TEXT_MAP, "headers.request.add"),
        old("appendRequestHeaders", TEXT_MAP, "headers.request.add"),
        old("removeRequestHeaders", TEXTS, "headers.request.remove"),
        old("appendResponseHeaders", TEXT_MAP, "headers.response.add"),
        old("removeResponseHeaders", TEXTS, "headers.response.remove"),
    ],
};

static HTTP_MATCH: Message = Message {
    name: "a match",
    open: false,
    fields: &[
        honoured("name", Type::Text),
        honoured("uri", Type::Object(&STRING_MATCH)),
        honoured("scheme", Type::Object(&STRING_MATCH)),
        honoured("method", Type::Object(&STRING_MATCH)),
        honoured("authority", Type::Object(&STRING_MATCH)),
        honoured("headers", Type::Map(&Type::Object(&STRING_MATCH))),
        honoured("port", PORT),
        honoured("sourceLabels", TEXT_MAP),
        honoured("gateways", TEXTS),
        honoured("queryParams", Type::Map(&Type::Object(&STRING_MATCH))),
        honoured("ignoreUriCase", Type::Bool),
        honoured("withoutHeaders", Type::Map(&Type::Object(&STRING_MATCH))),
        honoured("sourceNamespace", Type::Text),
        later("statPrefix", Type::Text),
    ],
};

static STRING_MATCH: Message = Message {
    name: "a text match",
    open: false,
    fields: &[
        honoured("exact", Type::Text),
        honoured("prefix", Type::Text),
        honoured("regex", Type::Text),
    ],
};

static DESTINATION_WEIGHT: Message = Message {
    name: "a destination of a rule",
    open: false,
    fields: &[
        required("destination", Type::Object(&DESTINATION)),
        honoured("weight", Type::Integer(0, i32::MAX as i64)),
        honoured("headers", Type::Object(&HEADERS)),
        old("appendRequestHeaders", TEXT_MAP, "headers.request.add"),
        old("removeRequestHeaders", TEXTS, "headers.request.remove"),
        old("appendResponseHeaders", TEXT_MAP, "headers.response.add"),
        old("removeResponseHeaders", TEXTS, "headers.response.remove"),
    ],
};

static DESTINATION: Message = Message {
    name: "a destination",
    open: false,
    fields: &[
        required("host", Type::Text),
        honoured("subset", Type::Text),
        honoured("port", Type::Object(&PORT_SELECTOR)),
    ],
};

static REWRITE: Message = Message {
    name: "rewrite",
    open: false,
    fields: &[
        honoured("uri", Type::Text),
        honoured("authority", Type::Text),
        later("uriRegexRewrite", Type::Object(&REGEX_REWRITE)),
    ],
};

static REGEX_REWRITE: Message = Message {
    name: "uriRegexRewrite",
    open: false,
    fields: &[typed("match", Type::Text), typed("rewrite", Type::Text)],
};

static REDIRECT: Message = Message {
    name: "redirect",
    open: false,
    fields: &[
        typed("uri", Type::Text),
        typed("authority", Type::Text),
        typed("port", PORT),
        typed("derivePort", Type::Text),
        typed("scheme", Type::Text),
        typed("redirectCode", UINT32),
        typed("prefixRewrite", Type::Text),
    ],
};

static DIRECT_RESPONSE: Message = Message {
    name: "directResponse",
    open: false,
    fields: &[required("status", UINT32), typed("body", Type::Object(&BODY))],
};

static BODY: Message = Message {
    name: "body",
    open: false,
    fields: &[typed("string", Type::Text), typed("bytes", Type::Text)],
};

static DELEGATE: Message = Message {
    name: "delegate",
    open: false,
    fields: &[typed("name", Type::Text), typed("namespace", Type::Text)],
};

static RETRIES: Message = Message {
    name: "retries",
    open: false,
    fields: &[
        typed("attempts", Type::Integer(0, i32::MAX as i64)),
        typed("perTryTimeout", Type::Duration),
        typed("retryOn", Type::Text),
        typed("retryRemoteLocalities", Type::Bool),
        typed("retryIgnorePreviousHosts", Type::Bool),
        typed("backoff", Type::Duration),
    ],
};

static FAULT: Message = Message {
    name: "fault",
    open: false,
    fields: &[later("delay", Type::Object(&DELAY)), later("abort", Type::Object(&ABORT))],
};

static DELAY: Message = Message {
    name: "delay",
    open: false,
    fields: &[
        typed("fixedDelay", Type::Duration),
        typed("exponentialDelay", Type::Duration),
        typed("percentage", Type::Object(&PERCENT)),
        typed("percent", Type::Number),
    ],
};

static ABORT: Message = Message {
    name: "abort",
    open: false,
    fields: &[
        typed("httpStatus", UINT32),
        typed("grpcStatus", Type::Text),
        typed("http2Error", Type::Text),
        typed("percentage", Type::Object(&PERCENT)),
        typed("percent", Type::Number),
    ],
};

static PERCENT: Message =
    Message { name: "a percentage", open: false, fields: &[typed("value", Type::Number)] };

static MIRROR: Message = Message {
    name: "a mirror",
    open: false,
    fields: &[
        required("destination", Type::Object(&DESTINATION)),
        typed("percentage", Type::Object(&PERCENT)),
    ],
};

static CORS: Message = Message {
    name: "corsPolicy",
    open: false,
    fields: &[
        typed("allowOrigin", TEXTS),
        typed("allowOrigins", Type::List(&Type::Object(&STRING_MATCH))),
        typed("allowMethods", TEXTS),
        typed("allowHeaders", TEXTS),
        typed("exposeHeaders", TEXTS),
        typed("maxAge", Type::Duration),
        typed("allowCredentials", Type::Bool),
        typed("unmatchedPreflights", Type::Text),
    ],
};

static HEADERS: Message = Message {
    name: "headers",
    open: false,
    fields: &[
        honoured("request", Type::Object(&OPERATIONS)),
        honoured("response", Type::Object(&OPERATIONS)),
    ],
};

static OPERATIONS: Message = Message {
    name: "header operations",
    open: false,
    fields: &[honoured("set", TEXT_MAP), honoured("add", TEXT_MAP), honoured("remove", TEXTS)],
};

static TLS_ROUTE: Message = Message {
    name: "a rule of tls",
    open: false,
    fields: &[
        typed("match", Type::List(&Type::Object(&L4_MATCH))),
        typed("route", Type::List(&Type::Object(&DESTINATION_WEIGHT))),
    ],
};

static TCP_ROUTE: Message = Message {
    name: "a rule of tcp",
    open: false,
    fields: &[
        typed("match", Type::List(&Type::Object(&L4_MATCH))),
        typed("route", Type::List(&Type::Object(&DESTINATION_WEIGHT))),
    ],
};

static L4_MATCH: Message = Message {
    name: "a match of connections",
    open: false,
    fields: &[
        typed("sniHosts", TEXTS),
        typed("destinationSubnets", TEXTS),
        typed("port", PORT),
        typed("sourceSubnet", Type::Text),
        typed("sourceLabels", TEXT_MAP),
        typed("gateways", TEXTS),
        typed("sourceNamespace", Type::Text),
    ],
};
