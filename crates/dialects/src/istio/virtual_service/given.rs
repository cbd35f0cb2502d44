//! The honoured part of a `VirtualService`, as the schema leaves it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) hosts: Vec<String>,
    pub(super) gateways: Vec<String>,
    pub(super) export_to: Vec<String>,
    pub(super) http: Vec<HttpRoute>,
    pub(super) tcp: Option<Value>,
    pub(super) tls: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HttpRoute {
    pub(super) name: String,
    #[serde(rename = "match")]
    pub(super) matches: Vec<HttpMatch>,
    pub(super) route: Vec<RouteDestination>,
    pub(super) redirect: Option<Value>,
    pub(super) direct_response: Option<Value>,
    pub(super) delegate: Option<Value>,
    pub(super) rewrite: Option<GivenRewrite>,
    pub(super) timeout: Option<String>,
    pub(super) headers: Option<Headers>,
    #[serde(flatten)]
    pub(super) old_headers: OldHeaders,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HttpMatch {
    pub(super) name: String,
    pub(super) uri: Option<StringMatch>,
    pub(super) scheme: Option<StringMatch>,
    pub(super) method: Option<StringMatch>,
    pub(super) authority: Option<StringMatch>,
    pub(super) headers: BTreeMap<String, StringMatch>,
    pub(super) without_headers: BTreeMap<String, StringMatch>,
    pub(super) query_params: BTreeMap<String, StringMatch>,
    pub(super) ignore_uri_case: bool,
    pub(super) port: Option<u16>,
    pub(super) source_labels: Value,
    pub(super) source_namespace: String,
    pub(super) gateways: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct StringMatch {
    pub(super) exact: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) regex: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RouteDestination {
    pub(super) destination: Destination,
    pub(super) weight: Option<u32>,
    pub(super) headers: Option<Headers>,
    #[serde(flatten)]
    pub(super) old_headers: OldHeaders,
}

#[derive(Deserialize)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) subset: Option<String>,
    pub(super) port: Option<PortSelector>,
}

#[derive(Deserialize)]
pub(super) struct PortSelector {
    pub(super) number: Option<u16>,
}

#[derive(Deserialize)]
pub(super) struct GivenRewrite {
    pub(super) uri: Option<String>,
    pub(super) authority: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Headers {
    pub(super) request: Operations,
    pub(super) response: Operations,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Operations {
    pub(super) set: BTreeMap<String, String>,
    pub(super) add: BTreeMap<String, String>,
    pub(super) remove: Vec<String>,
}

/// Header operations as Istio 1.0 wrote them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct OldHeaders {
    pub(super) append_headers: BTreeMap<String, String>,
    pub(super) append_request_headers: BTreeMap<String, String>,
    pub(super) remove_request_headers: Vec<String>,
    pub(super) append_response_headers: BTreeMap<String, String>,
    pub(super) remove_response_headers: Vec<String>,
}
