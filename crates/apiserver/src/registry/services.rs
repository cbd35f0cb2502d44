//! What Services ask for and are given: addresses and node ports.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{Service, ServicePort, ServiceSpec, ServiceType};
use ironmesh_dialects::schema::{Bounded, Fields};
use serde_json::{Value, json};

use super::validate::IP_RULE;
use super::{Registry, addresses};
use crate::failure::{Cause, Failure};
use crate::object::{self, Object, entry, set_default};
use crate::store::Collection;

impl Registry {
    /// Gives a Service what it asks for: an address, node ports.
    pub(super) fn allocate(
        &self,
        resource: &Resource,
        service: &mut Object,
    ) -> Result<(), Failure> {
        let (namespace, name) =
            (object::namespace(service).to_owned(), object::name(service).to_owned());
        let spec = Service::of(service).spec();
        let (of, address) = (spec.of(), spec.cluster_ip().to_owned());
        let is_headless = spec.is_headless();
        say_policies(entry(service, "spec"), of);
        if is_headless {
            service["spec"]["clusterIPs"] = json!([address]);
            return Ok(());
        }
        if of == ServiceType::ExternalName {
            return Ok(());
        }
        let own = Collection::core("services").key(&namespace, &name);
        let is_taken = |address: &Ipv4Addr| {
            self.store.services_at(&address.to_string()).iter().any(|key| *key != own)
        };
        let address: Ipv4Addr = if address.is_empty() {
            let free = self.network.free_address(&namespace, &name, is_taken);
            free.ok_or_else(|| Failure::internal("range is full: no free Service address"))?
        } else {
            let refuse = |field: &str, value: Value, why: &str| {
                let cause = Cause::invalid(field, &value, why);
                Failure::invalid(resource, &name, vec![cause])
            };
            let wanted: Ipv4Addr = address
                .parse()
                .map_err(|_| refuse("spec.clusterIPs[0]", address.clone().into(), IP_RULE))?;
            let not_had = |why: &str| {
                let why = format!("failed to allocate IP {wanted}: {why}");
                refuse("spec.clusterIPs", json!([address]), &why)
            };
            if !self.network.has(wanted) {
                return Err(not_had(&format!(
                    "the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {}",
                    self.network
                )));
            }
            if is_taken(&wanted) {
                return Err(not_had("provided IP is already allocated"));
            }
            wanted
        };
        let spec = entry(service, "spec");
        spec["clusterIP"] = address.to_string().into();
        spec["clusterIPs"] = json!([address.to_string()]);
        if has_node_ports(of) {
            let services = self.store.list(&own.collection, None).0;
            let taken = services
                .iter()
                .filter(|s| (object::namespace(s), object::name(s)) != (&*namespace, &*name))
                .flat_map(|s| Service::of(s).spec().ports())
                .filter_map(|port| Some((port.protocol().word(), port.node_port()?.0)))
                .collect();
            let causes = allocate_node_ports(&namespace, &name, spec, taken)?;
            if !causes.is_empty() {
                return Err(Failure::invalid(resource, &name, causes));
            }
        }
        Ok(())
    }
}

/// Says of a Service what holds for all here, as Kubernetes does, so that clients show it: it has addresses
/// of IPv4, and all of its endpoints serve, whoever calls.
fn say_policies(spec: &mut Value, of: ServiceType) {
    if of == ServiceType::ExternalName {
        return;
    }
    set_default(spec, "ipFamilies", json!(["IPv4"]));
    set_default(spec, "ipFamilyPolicy", "SingleStack");
    set_default(spec, "internalTrafficPolicy", "Cluster");
    if has_node_ports(of) {
        set_default(spec, "externalTrafficPolicy", "Cluster");
    } else if let Some(spec) = spec.as_object_mut() {
        // What it had as another type goes with the type.
        spec.shift_remove("externalTrafficPolicy");
    }
}

/// Gives each port of a Service its node port. Returns what is wrong with those that it names. Each
/// protocol has ports of its own.
fn allocate_node_ports(
    namespace: &str,
    name: &str,
    spec: &mut Value,
    mut taken: BTreeSet<(&'static str, i64)>,
) -> Result<Vec<Cause>, Failure> {
    let mut causes = Vec::new();
    // What the Service names itself goes to no other of its ports.
    let named = ServiceSpec::of(spec).ports().filter_map(|port| Some(port.node_port()?.0));
    let named: BTreeSet<i64> = named.collect();
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
    for (index, port) in ports.enumerate() {
        let read = ServicePort::of(port);
        let (protocol, number) = (read.protocol().word(), read.port().into());
        let node_port = match read.node_port() {
            Some(Bounded(given)) if given != 0 => {
                let mut refuse = |why: &str| {
                    let field = format!("spec.ports[{index}].nodePort");
                    causes.push(Cause::invalid(field, &given.into(), why));
                };
                if !addresses::NODE_PORTS.contains(&given) {
                    refuse(
                        "provided port is not in the valid range. The range of valid ports is 30000-32767",
                    );
                } else if taken.contains(&(protocol, given)) {
                    refuse("provided port is already allocated");
                }
                given
            }
            _ => {
                let is_free = |port| !named.contains(&port) && !taken.contains(&(protocol, port));
                addresses::free_node_port(namespace, name, number, is_free)
                    .ok_or_else(|| Failure::internal("range is full: no free node port"))?
            }
        };
        taken.insert((protocol, node_port));
        port["nodePort"] = node_port.into();
    }
    Ok(causes)
}

/// A Service that is sent without its addresses keeps them, unless it shall have none.
pub(super) fn keep_addresses(old: &Object, new: &mut Object) {
    let service_type = Service::of(new).spec().of();
    if service_type == ServiceType::ExternalName {
        return;
    }
    let old = Service::of(old).spec();
    let spec = entry(new, "spec");
    for key in ["clusterIP", "clusterIPs"] {
        if let Some(value) = old.json().get(key) {
            set_default(spec, key, value.clone());
        }
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let now = ServicePort::of(port);
        let of = |port: Fields<'_, ServicePort>| (port.protocol(), port.port());
        let Some(before) = old.ports().find(|before| of(*before) == of(now)) else { continue };
        if has_node_ports(service_type) {
            if let Some(Bounded(node_port)) = before.node_port() {
                set_default(port, "nodePort", node_port);
            }
            continue;
        }
        // What it had as another type goes with the type.
        let kept = before.node_port() == now.node_port();
        if let Some(fields) = port.as_object_mut().filter(|_| kept) {
            fields.shift_remove("nodePort");
        }
    }
}

/// Whether a Service of a type can be reached at ports of the node.
fn has_node_ports(of: ServiceType) -> bool {
    matches!(of, ServiceType::NodePort | ServiceType::LoadBalancer)
}
