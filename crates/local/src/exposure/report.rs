//! What Services and Ingresses are told of where they are reached: their status.

use std::net::Ipv4Addr;

use ironmesh_client::Client;
use ironmesh_dialects::kubernetes::kinds::{PUBLISHED, Service, ServiceType};
use serde_json::{Value, json};

use super::{Survey, Surveyed};
use crate::clock;
use crate::node::Node;
use crate::reflector::Key;

/// Writes each status that is not as it should be; returns whether all are.
pub(super) async fn tell(node: &Node, all: &Survey) -> bool {
    let mut all_told = true;
    for (key, one) in &all.services {
        let of = &one.service;
        let address = one.shown.address.filter(|_| of.spec.of == ServiceType::LoadBalancer);
        let wanted = Wanted { address, note: one.shown.notes.join("; ") };
        if wanted != Wanted::of(of) {
            let path = format!("/api/v1/namespaces/{}/services/{}", key.0, key.1);
            all_told &= put(&node.api, &path, |object| wanted.write_to(object)).await;
        }
    }
    let gateway = all.services.get(&gateway(node)).and_then(place_of);
    for (namespace, name, shown) in ingresses(node) {
        if shown != gateway {
            let path =
                format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}");
            let write = |object: &mut Value| {
                let places: Vec<&Value> = gateway.iter().collect();
                object["status"]["loadBalancer"] =
                    if places.is_empty() { json!({}) } else { json!({"ingress": places}) };
            };
            all_told &= put(&node.api, &path, write).await;
        }
    }
    all_told
}

/// The Service whose place Ingresses show.
fn gateway(node: &Node) -> Key {
    let service = node.gateway_ports.ingress_control.borrow().shown_service().to_owned();
    (node.gateway_ports.settings.root_namespace.to_string(), service)
}

/// Where a Service is reached, as the status of an Ingress says it: at its address, or at the name
/// that it stands for.
fn place_of(one: &Surveyed) -> Option<Value> {
    let spec = &one.service.spec;
    match spec.of {
        ServiceType::LoadBalancer => Some(json!({"ip": one.shown.address?.to_string()})),
        ServiceType::ExternalName => Some(json!({"hostname": spec.external_name})),
        _ => None,
    }
}

/// The Ingresses that are the mesh's, and the place that they show.
fn ingresses(node: &Node) -> Vec<(String, String, Option<Value>)> {
    let mut own = Vec::new();
    node.gateway_ports.for_each_ingress(|ingress, _| {
        let text = |name: &str| ingress["metadata"][name].as_str().unwrap_or_default().to_owned();
        let shown = ingress.pointer("/status/loadBalancer/ingress/0").cloned();
        own.push((text("namespace"), text("name"), shown));
    });
    own
}

/// What a status says.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    address: Option<Ipv4Addr>,
    /// What a user should know; may be empty.
    note: String,
}

impl Wanted {
    fn of(service: &Service) -> Self {
        let status = &service.status;
        let address = status.load_balancer.ingress.first();
        let note = status.conditions.iter().find(|condition| condition.of == PUBLISHED);
        Self {
            address: address.and_then(|ingress| ingress.ip.parse().ok()),
            note: note.map(|condition| condition.message.clone()).unwrap_or_default(),
        }
    }

    /// Writes it into the status of an object; what others say there stays.
    fn write_to(&self, object: &mut Value) {
        let balancer = match self.address {
            // Nothing beside the address: users ask for whatever stands there (`ingress[0].*`).
            Some(address) => json!({"ingress": [{"ip": address.to_string()}]}),
            None => json!({}),
        };
        let mut conditions = match object["status"]["conditions"].take() {
            Value::Array(conditions) => conditions,
            _ => Vec::new(),
        };
        conditions.retain(|condition| condition["type"] != PUBLISHED);
        if !self.note.is_empty() {
            conditions.push(json!({
                "type": PUBLISHED, "status": "False", "reason": "NotAllPorts",
                "message": self.note, "lastTransitionTime": clock::now(),
            }));
        }
        object["status"] = json!({"loadBalancer": balancer});
        if !conditions.is_empty() {
            object["status"]["conditions"] = conditions.into();
        }
    }
}

/// Replaces a status; returns whether there is nothing more to do.
async fn put(api: &Client, path: &str, write: impl FnOnce(&mut Value)) -> bool {
    let mut object = match api.get(path).await {
        Ok(object) => object,
        Err(error) => return error.is_gone(),
    };
    write(&mut object);
    match api.put(&format!("{path}/status"), &object).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(path, %error, "a status was not written");
            error.is_gone()
        }
    }
}
