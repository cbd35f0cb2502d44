//! What `POST /ironmesh/explain` takes and answers. Fields that the access log has, too, have its
//! names.

use std::time::Duration;

use ironmesh_model::route::HeaderOps;
use ironmesh_model::{Draw, Event, Reason};
use serde::{Deserialize, Serialize};

use super::mesh::EndpointState;

/// A request to explain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Where it begins: `gateway`, or a pod as `NAME` or `NAME.NAMESPACE`. Instead of a pod's name
    /// that of what owns it or the value of its `app` label is taken, too. Default: `gateway`.
    #[serde(default = "gateway")]
    pub from: String,
    /// Namespace of the pod if `from` names none. Default: `default`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Method.
    pub method: String,
    /// URL, as a client would write it.
    pub url: String,
    /// Headers, in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The draw at the first proxy, as its access log shows it. Without one the choice that draw 0
    /// makes is followed.
    #[serde(default)]
    pub draw: Option<Draw>,
}

/// What the mesh does with a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// Method.
    pub method: String,
    /// URL.
    pub url: String,
    /// One proxy after the other, up to the destination.
    pub hops: Vec<Hop>,
    /// How it ends, in a sentence.
    pub outcome: String,
}

/// One proxy on the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hop {
    /// The pod, as `NAME.NAMESPACE`.
    pub workload: String,
    /// `outbound`, `inbound` or `gateway`.
    pub listener: String,
    /// Method.
    pub method: String,
    /// Authority as this proxy sees it.
    pub authority: String,
    /// Normalised path and query as this proxy sees it.
    pub path: String,
    /// What was looked up, each rule that was tried, and what was chosen.
    pub events: Vec<Event>,
    /// Why it goes where it goes.
    pub reason: Reason,
    /// The reason in a sentence.
    pub reason_text: String,
    /// Envoy's response flag; `-` if none.
    pub response_flags: String,
    /// Status of the mesh's own answer; `None` if the request goes on.
    pub response_code: Option<u16>,
    /// The winning rule, as `NAMESPACE/NAME#RULE`.
    pub route: Option<String>,
    /// Version of the winning route.
    pub version: Option<String>,
    /// The chosen subset.
    pub subset: Option<String>,
    /// What the endpoint belongs to, as Istio writes clusters.
    pub upstream_cluster: Option<String>,
    /// The endpoint that is followed: the first of those that the proxy may pick.
    pub endpoint: Option<String>,
    /// Why it is not known how the endpoints stand with the proxy, whether one is ejected say, if that
    /// is not known.
    #[serde(default)]
    pub endpoints_not_known: Option<String>,
    /// The draw; `None` if none was given.
    pub draw: Option<Draw>,
    /// All backends of the winning rule, or the service's own.
    pub backends: Vec<BackendItem>,
    /// `mutual` or `plaintext`: how the next hop is spoken to; at an inbound listener, how it is
    /// spoken to.
    pub tls: Option<String>,
    /// At an inbound listener which connections it takes: `STRICT`, `PERMISSIVE`, `DISABLE`.
    pub mtls_mode: Option<String>,
    /// Timeout of the request; `None`: no limit.
    pub timeout: Option<Duration>,
    /// When an attempt is followed by another, if the rule or the request say so; else what no
    /// endpoint has seen goes elsewhere, and gRPC's `unavailable` and `cancelled` are asked for again.
    #[serde(default)]
    pub retry: Option<RetryItem>,
    /// How long the request is held back on purpose, if the draw says so.
    #[serde(default)]
    pub delay: Option<Duration>,
    /// Copies that the winning rule asks for.
    #[serde(default)]
    pub mirrors: Vec<MirrorItem>,
    /// Headers that this proxy adds to the answer by itself: `location`, `access-control-...`.
    #[serde(default)]
    pub answer_headers: Vec<(String, String)>,
    /// What the path becomes, if it is rewritten.
    pub rewritten_path: Option<String>,
    /// What the authority becomes, if it is rewritten.
    pub rewritten_authority: Option<String>,
    /// Header operations, in the order in which they are applied.
    pub headers: Vec<HeaderOps>,
    /// What the decision rests on, and how far the proxy is with it.
    pub resources: Vec<ResourceItem>,
    /// What else is to be known: by which port a client outside comes to a gateway, what a connection
    /// must begin with, what an endpoint is told or asked for first.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// When an attempt is followed by another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetryItem {
    /// Attempts after the first.
    pub attempts: u32,
    /// What is tried again, in Envoy's words.
    pub on: Vec<String>,
    /// Timeout of one attempt; `None`: no limit but the request's.
    pub per_try_timeout: Option<Duration>,
    /// Longest pause before the first of them.
    pub backoff: Duration,
    /// Whether endpoints that were tried are passed over.
    pub avoids_tried: bool,
    /// Whether localities are left with each second attempt.
    #[serde(default)]
    pub leaves_localities: bool,
    /// Whether the request itself asks for it, by headers `x-envoy-...`.
    pub asked: bool,
}

/// A copy that a rule asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MirrorItem {
    /// Fully qualified host.
    pub host: String,
    /// Port of the service.
    pub port: u16,
    /// Its subset, if it names one.
    pub subset: Option<String>,
    /// Of how many requests: `25 %`.
    pub share: String,
    /// Whether this one is copied, by the draw.
    pub drawn: bool,
    /// Why it can be sent to nobody, if so.
    pub unusable: Option<Reason>,
}

/// A backend and its endpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendItem {
    /// Fully qualified host.
    pub host: String,
    /// Port of the service.
    pub port: u16,
    /// Subset.
    pub subset: Option<String>,
    /// Weight; 0 of a service's own.
    pub weight: u32,
    /// Whether it is the one that is followed.
    pub chosen: bool,
    /// Why it cannot be used, if it cannot.
    pub unusable: Option<Reason>,
    /// How one of its endpoints is chosen: `LEAST_REQUEST`, `RING_HASH of the header user`.
    #[serde(default)]
    pub balancer: Option<String>,
    /// By what endpoints are preferred for being near; `None`: they are not.
    #[serde(default)]
    pub prefers: Option<String>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointItem>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointItem {
    /// Where it is dialled.
    pub address: String,
    /// Its pod, as `NAME.NAMESPACE`.
    pub workload: String,
    /// Whether it takes requests.
    pub ready: bool,
    /// `mutual` or `plaintext`.
    pub tls: String,
    /// The identity that it must prove.
    pub identity: Option<String>,
    /// Where it is, as `REGION/ZONE/SUBZONE`; empty if that is not known.
    #[serde(default)]
    pub locality: String,
    /// Its rank among those that are preferred for being near: 0 for those that are asked first. `None`
    /// if it gets no requests from this caller.
    #[serde(default)]
    pub rank: Option<u32>,
    /// Whether the proxy may pick it now: if it is ejected it may not, nor, in general, if it is not
    /// ready.
    #[serde(default)]
    pub may_be_picked: bool,
    /// How it stands with the proxy; `None`: not known, or the proxy does not use it yet.
    #[serde(default)]
    pub state: Option<EndpointState>,
}

/// A resource that a decision rests on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceItem {
    /// Its key.
    pub resource: String,
    /// Its version, as of now.
    pub version: String,
    /// The version that the proxy acknowledged last.
    pub acknowledged: Option<String>,
    /// How far the proxy is with it.
    pub state: ResourceState,
}

/// How far a proxy is with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceState {
    /// It acknowledged this version.
    Acknowledged,
    /// It holds another version, and this one is on its way.
    Pending,
    /// It has not asked for it: the first request that needs it waits for it.
    NotSubscribed,
    /// The proxy is not connected to the control plane.
    NotConnected,
}

fn gateway() -> String {
    "gateway".to_owned()
}

fn default_namespace() -> String {
    "default".to_owned()
}
