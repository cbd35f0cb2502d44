//! Fields of `Endpoints` and `EndpointSlice` (API reference, v1.30).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kubernetes::kinds::ServiceProtocol;
use crate::schema::{fields, kind};

kind! {
    kubernetes;
    /// Addresses of the Service of the same name.
    pub struct Endpoints "Endpoints" {
        /// Addresses and the ports that they serve.
        honoured subsets: Vec<EndpointSubset>,
    }

    /// Addresses of a Service, which a label names.
    pub struct EndpointSlice "EndpointSlice" {
        /// The kind of its addresses.
        honoured address_type "addressType": String,
        /// The endpoints.
        honoured endpoints: Vec<SliceEndpoint>,
        /// The ports that all of them serve.
        honoured ports: Vec<SlicePort>,
    }
}

fields! {
    kubernetes;
    /// Addresses that serve the same ports.
    pub struct EndpointSubset "a subset of Endpoints" {
        /// Those that are ready.
        honoured addresses: Vec<ListedAddress>,
        /// Those that are not.
        honoured not_ready_addresses "notReadyAddresses": Vec<ListedAddress>,
        /// The ports.
        honoured ports: Vec<EndpointPort>,
    }

    /// An address of an endpoint.
    pub struct ListedAddress "an address" {
        /// The address.
        required ip: String,
        /// Its host name.
        honoured hostname: String,
        /// Its node.
        honoured node_name "nodeName": String,
        /// The pod that has it.
        honoured target_ref "targetRef": Value,
    }

    /// A port that addresses serve.
    pub struct EndpointPort "a port" {
        /// The name that the Service gives it.
        honoured name: String,
        /// Its number.
        required port: u16,
        /// What is under it.
        honoured protocol: ServiceProtocol = ServiceProtocol::Tcp,
        /// The protocol that it carries.
        honoured app_protocol "appProtocol": String,
    }

    /// A port that endpoints serve.
    pub struct SlicePort "a port" {
        /// The name that the Service gives it.
        honoured name: String,
        /// Its number; all that the Service has if left out.
        honoured port: Option<u16>,
        /// What is under it.
        honoured protocol: ServiceProtocol = ServiceProtocol::Tcp,
        /// The protocol that it carries.
        honoured app_protocol "appProtocol": String,
    }

    /// An endpoint. Topology and hints change nothing on one node.
    pub struct SliceEndpoint "an endpoint" {
        /// Its addresses, of which clients use the first.
        required addresses: Vec<String>,
        /// How it is.
        honoured conditions: EndpointConditions,
        /// Its host name.
        honoured hostname: String,
        /// The pod that it is.
        honoured target_ref "targetRef": Value,
        /// Its node.
        honoured node_name "nodeName": String,
        /// Its zone.
        honoured zone: String,
        /// Where it is best used.
        honoured hints: Value,
        /// Where it is, as v1beta1 wrote it.
        honoured topology: BTreeMap<String, String>,
        /// Where it is, as v1beta1 wrote it.
        honoured deprecated_topology "deprecatedTopology": BTreeMap<String, String>,
    }

    /// How an endpoint is.
    pub struct EndpointConditions "conditions" {
        /// Whether it takes calls; yes if left out.
        honoured ready: Option<bool>,
        /// The same, of one that ends, too.
        honoured serving: Option<bool>,
        /// Whether it ends.
        honoured terminating: Option<bool>,
    }
}
