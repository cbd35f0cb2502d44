//! Fields of `VirtualService`, those of Istio 0.8 to today.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::istio::PortSelector;
use crate::schema::{Count, fields, kind, words};

kind! {
    istio;
    /// How requests and connections to some hosts are routed.
    pub struct VirtualService "VirtualService" {
        /// What is routed where.
        required spec: Spec,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

fields! {
    istio;
    /// What a `VirtualService` says.
    pub struct Spec "VirtualService.spec" {
        /// The hosts that it is for; none if others delegate to it.
        honoured hosts: Vec<String>,
        /// The gateways that it is for, and `mesh` for the sidecars; none: `mesh`.
        honoured gateways: Vec<String>,
        /// The namespaces that see it: `.` its own, `*` all, `~` none.
        honoured export_to "exportTo": Vec<String>,
        /// Rules for HTTP requests; the first that matches is used.
        honoured http: Vec<HttpRoute>,
        /// Rules for TLS connections that are passed on as they are, by their SNI.
        honoured tls: Vec<TlsRoute>,
        /// Rules for all other connections.
        honoured tcp: Vec<TcpRoute>,
    }

    /// A rule for HTTP requests.
    pub struct HttpRoute "a rule of http" {
        /// Its name, for people and metrics.
        honoured name: String,
        /// Its conditions, of which one must hold; none: it takes every request.
        honoured matches "match": Vec<HttpMatch>,
        /// Where requests go, by weight.
        honoured route: Vec<HttpRouteDestination>,
        /// Answers with a redirect instead.
        honoured redirect: Option<Redirect>,
        /// Answers with a fixed response instead.
        honoured direct_response "directResponse": Option<DirectResponse>,
        /// The `VirtualService` whose rules are taken instead.
        honoured delegate: Option<Delegate>,
        /// Changes path and authority before the request is forwarded.
        honoured rewrite: Option<HttpRewrite>,
        /// The time that a request may take with all its attempts; 0 or none: no bound.
        honoured timeout: Option<Duration>,
        /// When a failed request is sent again.
        honoured retries: Option<Retries>,
        /// Delays or aborts a share of the requests.
        honoured fault: Option<Fault>,
        /// Where a copy of each request goes, whose answer is dropped.
        honoured mirror: Option<Destination>,
        /// Where copies of requests go, each with a share of its own.
        honoured mirrors: Vec<Mirror>,
        /// The share of requests that `mirror` gets; none: all.
        honoured mirror_percentage "mirrorPercentage": Option<Percent>,
        /// `mirrorPercentage` as a whole number.
        old("mirrorPercentage.value") mirror_percent "mirrorPercent": Option<u32>,
        /// Cross-origin requests.
        honoured cors_policy "corsPolicy": Option<CorsPolicy>,
        /// Changes headers.
        honoured headers: Headers,
        /// Allowed upgrades to WebSocket.
        old("as nothing at all: upgrades are always allowed")
            websocket_upgrade "websocketUpgrade": bool,
        /// Headers added to requests.
        old("headers.request.add") append_headers "appendHeaders": BTreeMap<String, String>,
        /// Headers added to requests.
        old("headers.request.add")
            append_request_headers "appendRequestHeaders": BTreeMap<String, String>,
        /// Headers removed from requests.
        old("headers.request.remove") remove_request_headers "removeRequestHeaders": Vec<String>,
        /// Headers added to responses.
        old("headers.response.add")
            append_response_headers "appendResponseHeaders": BTreeMap<String, String>,
        /// Headers removed from responses.
        old("headers.response.remove") remove_response_headers "removeResponseHeaders": Vec<String>,
    }

    /// Conditions on a request, all of which must hold.
    pub struct HttpMatch "a match" {
        /// Its name, for people and metrics.
        honoured name: String,
        /// The path, without query.
        honoured uri: Option<StringMatch>,
        /// The scheme.
        honoured scheme: Option<StringMatch>,
        /// The method.
        honoured method: Option<StringMatch>,
        /// The authority, which HTTP/1.1 calls `Host`.
        honoured authority: Option<StringMatch>,
        /// Headers by name; `{}` if a header need only be there.
        honoured headers: BTreeMap<String, StringMatch>,
        /// The port that the caller dialled.
        honoured port: Option<u16>,
        /// Labels of the calling workload.
        honoured source_labels "sourceLabels": BTreeMap<String, String>,
        /// The gateways, or `mesh`, through which the request comes; none: those of the rule.
        honoured gateways: Vec<String>,
        /// Parameters of the query by name; `{}` if one need only be there.
        honoured query_params "queryParams": BTreeMap<String, StringMatch>,
        /// Whether the letter case of the path does not matter.
        honoured ignore_uri_case "ignoreUriCase": bool,
        /// Headers that must not match.
        honoured without_headers "withoutHeaders": BTreeMap<String, StringMatch>,
        /// The namespace of the calling workload.
        honoured source_namespace "sourceNamespace": String,
        /// Start of the names of the metrics that Envoy keeps for the rule.
        no_effect("metrics have the names of services and routes; give the rule a name")
            stat_prefix "statPrefix": String,
    }

    /// How a text is compared: exactly one of the three.
    pub struct StringMatch "a text match" {
        /// It is this.
        honoured exact: Option<String>,
        /// It begins so.
        honoured prefix: Option<String>,
        /// All of it matches this expression, in RE2's syntax.
        honoured regex: Option<String>,
    }

    /// A destination of HTTP requests and its share of them.
    pub struct HttpRouteDestination "a destination of a rule" {
        /// Where they go.
        required destination: Destination,
        /// Its share, in relation to the sum of all; left out everywhere: equal shares.
        honoured weight: Option<Count>,
        /// Changes headers of the requests that go there.
        honoured headers: Headers,
        /// Headers added to requests.
        old("headers.request.add")
            append_request_headers "appendRequestHeaders": BTreeMap<String, String>,
        /// Headers removed from requests.
        old("headers.request.remove") remove_request_headers "removeRequestHeaders": Vec<String>,
        /// Headers added to responses.
        old("headers.response.add")
            append_response_headers "appendResponseHeaders": BTreeMap<String, String>,
        /// Headers removed from responses.
        old("headers.response.remove") remove_response_headers "removeResponseHeaders": Vec<String>,
    }

    /// A destination of connections and its share of them.
    pub struct RouteDestination "a destination of a rule" {
        /// Where they go.
        required destination: Destination,
        /// Its share, in relation to the sum of all; left out everywhere: equal shares.
        honoured weight: Option<Count>,
    }

    /// A service, or a part of it.
    pub struct Destination "a destination" {
        /// The service's host; without a dot one of the object's namespace.
        required host: String,
        /// A subset that a `DestinationRule` defines.
        honoured subset: String,
        /// Its port, if it has several.
        honoured port: PortSelector,
    }

    /// What a request becomes before it is forwarded.
    pub struct HttpRewrite "rewrite" {
        /// What replaces the path, or the prefix that matched.
        honoured uri: String,
        /// What replaces the authority.
        honoured authority: String,
        /// Replaces what an expression finds in the path.
        honoured uri_regex_rewrite "uriRegexRewrite": Option<RegexRewrite>,
    }

    /// A replacement by expression.
    pub struct RegexRewrite "uriRegexRewrite" {
        /// The expression, in RE2's syntax.
        honoured matches "match": String,
        /// What replaces it; `\1` is the first group.
        honoured rewrite: String,
    }

    /// A redirect.
    pub struct Redirect "redirect" {
        /// The path to go to.
        honoured uri: String,
        /// The authority to go to.
        honoured authority: String,
        /// The port to go to.
        honoured port: Option<u16>,
        /// Where the port comes from, if `port` does not say it.
        honoured derive_port "derivePort": Option<DerivePort>,
        /// The scheme to go to.
        honoured scheme: String,
        /// Status of the answer; 301 if left out.
        honoured redirect_code "redirectCode": Option<u32>,
        /// What replaces the prefix that matched.
        honoured prefix_rewrite "prefixRewrite": String,
    }

    /// A response made by the proxy.
    pub struct DirectResponse "directResponse" {
        /// Its status.
        required status: u32,
        /// Its body; none: empty.
        honoured body: Option<HttpBody>,
    }

    /// A body: one of the two.
    pub struct HttpBody "body" {
        /// As text.
        honoured string: Option<String>,
        /// As base64.
        honoured bytes: Option<String>,
    }

    /// A `VirtualService` without hosts.
    pub struct Delegate "delegate" {
        /// Its name.
        honoured name: String,
        /// Its namespace; that of the object if left out.
        honoured namespace: String,
    }

    /// When a failed request is sent again.
    pub struct Retries "retries" {
        /// How often, after the first attempt.
        honoured attempts: Count,
        /// The time that one attempt may take; none: that of the request.
        honoured per_try_timeout "perTryTimeout": Option<Duration>,
        /// The failures that are tried again: Envoy's conditions and statuses, by commas. None: what
        /// no endpoint has seen, and of requests that may be sent twice any 5xx or no answer.
        honoured retry_on "retryOn": String,
        /// Whether endpoints of other localities may be tried.
        honoured retry_remote_localities "retryRemoteLocalities": Option<bool>,
        /// Whether endpoints that were tried are left out while there are others; they are if left
        /// out.
        honoured retry_ignore_previous_hosts "retryIgnorePreviousHosts": Option<bool>,
        /// The longest pause before the first retry, from which the pause is drawn; doubled with each
        /// that follows, up to ten times. None: 25 ms.
        honoured backoff: Option<Duration>,
    }

    /// Failures on purpose.
    pub struct Fault "fault" {
        /// Holds requests back.
        honoured delay: Option<Delay>,
        /// Answers requests with an error.
        honoured abort: Option<Abort>,
    }

    /// A delay before requests are forwarded.
    pub struct Delay "delay" {
        /// How long.
        honoured fixed_delay "fixedDelay": Option<Duration>,
        /// The mean of a delay that is drawn.
        no_effect("Istio has never honoured it; use fixedDelay")
            exponential_delay "exponentialDelay": Option<Duration>,
        /// The share of requests; none: no request.
        honoured percentage: Option<Percent>,
        /// The share as a number.
        old("percentage.value") percent: Option<f64>,
    }

    /// An error that is answered.
    pub struct Abort "abort" {
        /// Status of the answer.
        honoured http_status "httpStatus": Option<u32>,
        /// Status of the answer to gRPC.
        honoured grpc_status "grpcStatus": String,
        /// Error with which an HTTP/2 stream is reset.
        no_effect("Istio has never honoured it; use httpStatus or grpcStatus")
            http2_error "http2Error": String,
        /// The share of requests; none: no request.
        honoured percentage: Option<Percent>,
        /// The share as a number.
        old("percentage.value") percent: Option<f64>,
    }

    /// A share in percent.
    pub struct Percent "a percentage" {
        /// From 0 to 100.
        honoured value: f64,
    }

    /// Where copies of requests go.
    pub struct Mirror "a mirror" {
        /// The service.
        required destination: Destination,
        /// The share of requests; none: all.
        honoured percentage: Option<Percent>,
    }

    /// What pages of other origins may ask.
    pub struct CorsPolicy "corsPolicy" {
        /// Origins that are allowed.
        old("allowOrigins[].exact") allow_origin "allowOrigin": Vec<String>,
        /// Origins that are allowed.
        honoured allow_origins "allowOrigins": Vec<StringMatch>,
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
        /// What happens to preflights of origins that are not allowed.
        honoured unmatched_preflights "unmatchedPreflights": Option<UnmatchedPreflights>,
    }

    /// Changes of headers.
    pub struct Headers "headers" {
        /// Of requests, before they are forwarded.
        honoured request: HeaderOperations,
        /// Of responses, before they are delivered.
        honoured response: HeaderOperations,
    }

    /// Changes of the headers of a message.
    pub struct HeaderOperations "header operations" {
        /// Headers that replace those of their name.
        honoured set: BTreeMap<String, String>,
        /// Headers that are added to those of their name.
        honoured add: BTreeMap<String, String>,
        /// Headers that are removed.
        honoured remove: Vec<String>,
    }

    /// A rule for TLS connections that are passed on as they are.
    pub struct TlsRoute "a rule of tls" {
        /// Its conditions, of which one must hold.
        honoured matches "match": Vec<TlsMatch>,
        /// Where connections go, by weight.
        honoured route: Vec<RouteDestination>,
    }

    /// A rule for connections.
    pub struct TcpRoute "a rule of tcp" {
        /// Its conditions, of which one must hold; none: it takes every connection.
        honoured matches "match": Vec<L4Match>,
        /// Where connections go, by weight.
        honoured route: Vec<RouteDestination>,
    }

    /// Conditions on a TLS connection, all of which must hold.
    pub struct TlsMatch "a match of TLS connections" {
        /// Hosts of which the ClientHello names one, `*.` in front for any below.
        honoured sni_hosts "sniHosts": Vec<String>,
        /// Networks of which the caller dialled one, as `10.0.0.0/8`; at gateways they say nothing.
        honoured destination_subnets "destinationSubnets": Vec<String>,
        /// The port that the caller dialled.
        honoured port: Option<u16>,
        /// Labels of the calling workload.
        honoured source_labels "sourceLabels": BTreeMap<String, String>,
        /// The gateways, or `mesh`, through which the connection comes; none: those of the rule.
        honoured gateways: Vec<String>,
        /// The namespace of the calling workload.
        honoured source_namespace "sourceNamespace": String,
    }

    /// Conditions on a connection, all of which must hold.
    pub struct L4Match "a match of connections" {
        /// Networks of which the caller dialled one, as `10.0.0.0/8`; at gateways they say nothing.
        honoured destination_subnets "destinationSubnets": Vec<String>,
        /// The port that the caller dialled.
        honoured port: Option<u16>,
        /// The network of the caller.
        no_effect("as in Istio; callers are told apart by sourceLabels and sourceNamespace")
            source_subnet "sourceSubnet": String,
        /// Labels of the calling workload.
        honoured source_labels "sourceLabels": BTreeMap<String, String>,
        /// The gateways, or `mesh`, through which the connection comes; none: those of the rule.
        honoured gateways: Vec<String>,
        /// The namespace of the calling workload.
        honoured source_namespace "sourceNamespace": String,
    }
}

words! {
    /// Where a redirect takes its port from.
    pub enum DerivePort {
        /// The scheme's default.
        honoured Default = "FROM_PROTOCOL_DEFAULT",
        /// The port of the request.
        honoured Request = "FROM_REQUEST_PORT",
    }

    /// What happens to preflights of origins that are not allowed.
    pub enum UnmatchedPreflights {
        /// Forwarded.
        honoured Unspecified = "UNSPECIFIED",
        /// Forwarded.
        honoured Forward = "FORWARD",
        /// Answered by the proxy.
        honoured Ignore = "IGNORE",
    }
}
