//! What Services and Ingresses are told of where they are reached: their status.

use std::net::Ipv4Addr;

use ironmesh_client::Client;
use ironmesh_dialects::kubernetes::ingress_ports;
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
            all_told &= put(&node.api, &path, &wanted).await;
        }
    }
    let gateway = all.services.get(&gateway()).and_then(address_of);
    for (namespace, name, status) in ingresses(node) {
        if status != gateway {
            let path =
                format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}");
            let wanted = Wanted { address: gateway, note: String::new() };
            all_told &= put(&node.api, &path, &wanted).await;
        }
    }
    all_told
}

/// The gateway that Ingresses are served by.
fn gateway() -> Key {
    ("istio-system".to_owned(), "istio-ingressgateway".to_owned())
}

fn address_of(one: &Surveyed) -> Option<Ipv4Addr> {
    one.shown.address
}

/// The Ingresses that are the mesh's, and the addresses that they show.
fn ingresses(node: &Node) -> Vec<(String, String, Option<Ipv4Addr>)> {
    let mut own = Vec::new();
    node.gateway_ports.ingresses.for_each(|ingress| {
        if !ingress_ports(ingress).is_empty() {
            let text =
                |name: &str| ingress["metadata"][name].as_str().unwrap_or_default().to_owned();
            let shown = ingress["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
            let shown = shown.and_then(|ip| ip.parse().ok());
            own.push((text("namespace"), text("name"), shown));
        }
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
async fn put(api: &Client, path: &str, wanted: &Wanted) -> bool {
    let mut object = match api.get(path).await {
        Ok(object) => object,
        Err(error) => return error.is_gone(),
    };
    wanted.write_to(&mut object);
    match api.put(&format!("{path}/status"), &object).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(path, %error, "a status was not written");
            error.is_gone()
        }
    }
}
