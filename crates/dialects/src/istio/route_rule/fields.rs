//! Fields of `RouteRule`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::istio::config::IstioService;
use crate::istio::virtual_service::StringMatch;
use crate::schema::{Count, fields, kind};

kind! {
    istio;
    /// One rule for the traffic to a service, as Istio up to 0.8 had it.
    pub struct RouteRule "RouteRule" {
        /// What is routed where.
        required spec: Spec,
    }
}

fields! {
    istio;
    /// What a `RouteRule` says.
    pub struct Spec "RouteRule.spec" {
        /// The service to which the traffic goes that it is for.
        required destination: IstioService,
        /// Of several rules for a service those with a higher number are tried first.
        honoured precedence: Option<i32>,
        /// Its conditions; none: it takes everything.
        honoured matches "match": Option<MatchCondition>,
        /// Where requests go, by weight; none: to the service.
        honoured route: Vec<DestinationWeight>,
        /// Answers with a redirect instead.
        honoured redirect: Option<HttpRedirect>,
        /// Changes path and authority before the request is forwarded.
        honoured rewrite: Option<HttpRewrite>,
        /// Allows upgrades to WebSocket, which always are.
        honoured websocket_upgrade "websocketUpgrade": bool,
        /// How long a request may take.
        honoured http_req_timeout "httpReqTimeout": HttpTimeout,
        /// When a failed request is sent again.
        honoured http_req_retries "httpReqRetries": HttpRetry,
        /// Delays or aborts a share of the requests.
        honoured http_fault "httpFault": Option<HttpFault>,
        /// Slows down or ends a share of the connections.
        no_effect("Istio has never honoured it") l4_fault "l4Fault": Option<serde_json::Value>,
        /// Where a copy of each request goes, whose answer is dropped.
        honoured mirror: Option<IstioService>,
        /// Cross-origin requests.
        honoured cors_policy "corsPolicy": Option<CorsPolicy>,
        /// Headers added to requests.
        honoured append_headers "appendHeaders": BTreeMap<String, String>,
    }

    /// Conditions, all of which must hold.
    pub struct MatchCondition "match" {
        /// The calling service or its labels.
        honoured source: Option<IstioService>,
        /// Addresses of connections.
        no_effect("Istio has never honoured it; the rule takes no request and no connection")
            tcp: Option<L4Match>,
        /// Addresses of datagrams.
        no_effect("a mesh carries no UDP; the rule takes no request and no connection")
            udp: Option<L4Match>,
        /// What the request is.
        honoured request: MatchRequest,
    }

    /// Addresses.
    pub struct L4Match "addresses" {
        /// Networks of callers.
        honoured source_subnet "sourceSubnet": Vec<String>,
        /// Networks of destinations.
        honoured destination_subnet "destinationSubnet": Vec<String>,
    }

    /// Conditions on a request.
    pub struct MatchRequest "request" {
        /// Headers by name; `uri`, `scheme`, `method` and `authority` are those of the request.
        honoured headers: BTreeMap<String, StringMatch>,
    }

    /// A destination and its share.
    pub struct DestinationWeight "a destination of the rule" {
        /// Another service; none: that of the rule.
        honoured destination: Option<IstioService>,
        /// Labels of the endpoints; none: all.
        honoured labels: BTreeMap<String, String>,
        /// Its share in percent; of a single one 0 is all.
        honoured weight: Option<Count>,
    }

    /// A redirect.
    pub struct HttpRedirect "redirect" {
        /// The path to go to.
        honoured uri: String,
        /// The authority to go to.
        honoured authority: String,
    }

    /// What a request becomes before it is forwarded.
    pub struct HttpRewrite "rewrite" {
        /// What replaces the path, or the prefix that matched.
        honoured uri: String,
        /// What replaces the authority.
        honoured authority: String,
    }

    /// What pages of other origins may ask.
    pub struct CorsPolicy "corsPolicy" {
        /// Origins that are allowed; `*`: any.
        honoured allow_origin "allowOrigin": Vec<String>,
        /// Methods that are allowed.
        honoured allow_methods "allowMethods": Vec<String>,
        /// Headers of requests that are allowed.
        honoured allow_headers "allowHeaders": Vec<String>,
        /// Headers of responses that a page may see.
        honoured expose_headers "exposeHeaders": Vec<String>,
        /// How long the answer to a preflight holds.
        honoured max_age "maxAge": Option<Duration>,
        /// Whether credentials may be sent.
        honoured allow_credentials "allowCredentials": Option<bool>,
    }

    /// How long a request may take.
    pub struct HttpTimeout "httpReqTimeout" {
        /// This long.
        honoured simple_timeout "simpleTimeout": SimpleTimeout,
        /// In a way of one's own.
        no_effect("no such way was ever defined; use simpleTimeout") custom: Option<serde_json::Value>,
    }

    /// A time-out.
    pub struct SimpleTimeout "simpleTimeout" {
        /// The time that a request may take with all its attempts.
        honoured timeout: Option<Duration>,
        /// A header that says it instead.
        no_effect("Istio has never honoured it") override_header_name "overrideHeaderName": String,
    }

    /// When a failed request is sent again.
    pub struct HttpRetry "httpReqRetries" {
        /// This often.
        honoured simple_retry "simpleRetry": Option<SimpleRetry>,
        /// In a way of one's own.
        no_effect("no such way was ever defined; use simpleRetry") custom: Option<serde_json::Value>,
    }

    /// Retries.
    pub struct SimpleRetry "simpleRetry" {
        /// How often, after the first attempt.
        honoured attempts: Count,
        /// The time that one attempt may take; none: that of the request.
        honoured per_try_timeout "perTryTimeout": Option<Duration>,
        /// A header that says it instead.
        no_effect("Istio has never honoured it") override_header_name "overrideHeaderName": String,
    }

    /// Failures on purpose.
    pub struct HttpFault "httpFault" {
        /// Holds requests back.
        honoured delay: Option<HttpDelay>,
        /// Answers requests with an error.
        honoured abort: Option<HttpAbort>,
    }

    /// A delay before requests are forwarded.
    pub struct HttpDelay "delay" {
        /// The share of requests.
        honoured percent: Option<f64>,
        /// How long.
        honoured fixed_delay "fixedDelay": Option<Duration>,
        /// The mean of a delay that is drawn.
        no_effect("Istio has never honoured it; use fixedDelay")
            exponential_delay "exponentialDelay": Option<Duration>,
        /// A header that says it instead.
        no_effect("Istio has never honoured it") override_header_name "overrideHeaderName": String,
    }

    /// An error that is answered.
    pub struct HttpAbort "abort" {
        /// The share of requests.
        honoured percent: Option<f64>,
        /// Status of the answer.
        honoured http_status "httpStatus": Option<u32>,
        /// Status of the answer to gRPC.
        honoured grpc_status "grpcStatus": String,
        /// Error with which an HTTP/2 stream is reset.
        no_effect("Istio has never honoured it; use httpStatus or grpcStatus")
            http2_error "http2Error": String,
        /// A header that says it instead.
        no_effect("Istio has never honoured it") override_header_name "overrideHeaderName": String,
    }
}
