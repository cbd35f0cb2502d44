//! A snapshot: all objects of the mesh at one instant, and the answers to every resource key.

use std::net::IpAddr;
use std::sync::Arc;

use crate::finding::Finding;
use crate::listeners::GatewayProtocol;
use crate::name::{Labels, Name, ObjectId, WorkloadId};
use crate::policy::{DestinationPolicy, InboundPolicy};
use crate::resource::{
    EVERY_PORT, ListenerKind, Resolution, ResolutionKey, Resource, ResourceKey, Target,
    references_of,
};
use crate::route::Route;
use crate::service::{Endpoint, Service, Workload};
use crate::settings::Settings;

mod check;
mod destination;
mod gateway;
mod inbound;
mod index;
mod outbound;

use index::Index;

/// When an object was created: seconds since the Unix epoch, as Kubernetes keeps it.
pub type Created = i64;

/// Everything that the dialects made of the users' objects; order does not matter.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Settings of the mesh.
    pub settings: Settings,
    /// Services with their endpoints.
    pub services: Vec<ServiceSource>,
    /// Workloads by address.
    pub workloads: Vec<(IpAddr, Workload)>,
    /// Routes.
    pub routes: Vec<RouteSource>,
    /// Policies of destinations.
    pub destination_policies: Vec<DestinationPolicySource>,
    /// Policies of workloads.
    pub inbound_policies: Vec<InboundPolicySource>,
    /// Gateways.
    pub gateways: Vec<GatewaySource>,
}

/// A service and its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSource {
    /// The service.
    pub service: Service,
    /// Its endpoints, in order of their ids.
    pub endpoints: Vec<Endpoint>,
    /// Age, for ties.
    pub created: Created,
}

/// A route and where it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSource {
    /// The route.
    pub route: Route,
    /// Hosts: fully qualified, or `*`, or `*.suffix`.
    pub hosts: Vec<Name>,
    /// What it is attached to: `mesh`, or `NAMESPACE/NAME` of Gateways.
    pub gateways: Vec<Name>,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<Name>,
    /// Age.
    pub created: Created,
    /// Where its parts stand in the object, for findings.
    pub fields: RouteFields,
}

/// Field names by which a finding points into the object that a route was made from: rule 0 of a
/// `VirtualService` stands at `spec.http[0]`, its first backend at `spec.http[0].route[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteFields {
    /// Path of the list of hosts.
    pub hosts: &'static str,
    /// Path of the list of what it is attached to.
    pub gateways: &'static str,
    /// Path of the list of rules, one for each of [`Route::rules`].
    pub rules: &'static str,
    /// Within a rule: list of its backends.
    pub backends: &'static str,
    /// Within a backend: the destination's host.
    pub host: &'static str,
    /// Within a backend: the destination's port.
    pub port: &'static str,
    /// Within a backend: the destination's subset.
    pub subset: &'static str,
    /// Within a rule: list of its alternatives, one for each of [`crate::route::Rule::matches`].
    pub matches: &'static str,
    /// Within an alternative: the list of the gateways that it holds at.
    pub match_gateways: &'static str,
}

impl RouteFields {
    /// Those of Istio's `VirtualService`.
    pub const VIRTUAL_SERVICE: Self = Self {
        hosts: "spec.hosts",
        gateways: "spec.gateways",
        rules: "spec.http",
        backends: "route",
        host: "destination.host",
        port: "destination.port.number",
        subset: "destination.subset",
        matches: "match",
        match_gateways: "gateways",
    };
}

/// A destination policy and where it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationPolicySource {
    /// The policy.
    pub policy: DestinationPolicy,
    /// Host: fully qualified, or `*.suffix`.
    pub host: Name,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<Name>,
    /// Age.
    pub created: Created,
    /// Paths of the fields of its object that ask for the mesh's mutual TLS, for findings.
    pub mutual_tls_at: Vec<String>,
}

/// An inbound policy and where it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPolicySource {
    /// The policy.
    pub policy: InboundPolicy,
    /// Workloads of its namespace that it selects; `None`: all of the namespace, or of the mesh if
    /// it is the root namespace.
    pub selector: Option<Labels>,
    /// Age.
    pub created: Created,
}

/// A gateway: which workloads serve it, on which ports, for which hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySource {
    /// The object.
    pub id: ObjectId,
    /// Labels of the gateway workloads, in any namespace.
    pub selector: Labels,
    /// Its servers.
    pub servers: Vec<GatewayServer>,
    /// Age.
    pub created: Created,
}

/// One server of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayServer {
    /// Port.
    pub port: u16,
    /// Name of the port.
    pub name: Name,
    /// Protocol.
    pub protocol: GatewayProtocol,
    /// Hosts: names, `*` or `*.suffix`, each with the namespace from which routes may attach
    /// (`None`: any).
    pub hosts: Vec<(Option<Name>, Name)>,
}

/// Who asks for a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscriber {
    /// Namespace of its workload.
    pub namespace: Name,
    /// Labels of its workload.
    pub labels: Labels,
}

/// All objects of the mesh at one instant, indexed. Cheap to share; never changes.
#[derive(Debug, Default)]
pub struct Snapshot {
    index: Index,
}

impl Snapshot {
    /// Indexes the objects. Pure: equal objects in any order give equal answers. The findings are
    /// those that only all objects together show (a host taken twice, an undefined subset, ...).
    pub fn new(objects: Objects) -> (Self, Vec<Finding>) {
        let index = Index::new(objects);
        let findings = check::findings(&index);
        (Self { index }, findings)
    }

    /// Settings of the mesh.
    pub fn settings(&self) -> &Settings {
        &self.index.settings
    }

    /// As whom the proxy of a workload asks, by the labels that it has now; `None` if it is not known.
    pub fn subscriber(&self, workload: &WorkloadId) -> Option<Subscriber> {
        let known = self.index.workload_of(&workload.uid)?;
        Some(Subscriber { namespace: known.id.namespace.clone(), labels: known.labels.clone() })
    }

    /// The resource under a key as `subscriber` sees it; `None` if there is none (a
    /// [`crate::resource::Resolution`] and a [`ResourceKey::Workload`] always have an answer).
    pub fn resource(&self, key: &ResourceKey, subscriber: &Subscriber) -> Option<Resource> {
        let index = &self.index;
        match key {
            ResourceKey::Settings => Some(Resource::Settings(index.settings.clone())),
            ResourceKey::Listeners => {
                Some(Resource::Listeners(Arc::new(gateway::listeners(index, subscriber))))
            }
            ResourceKey::Resolution(key) => {
                Some(Resource::Resolution(Arc::new(self.resolve(key, subscriber))))
            }
            ResourceKey::Route(id) => index.route(id).cloned().map(Resource::Route),
            ResourceKey::Service(id) => {
                index.service(id).map(|s| Resource::Service(s.service.clone()))
            }
            ResourceKey::Policy(id) => index.policy(id).cloned().map(Resource::Policy),
            ResourceKey::Workload(ip) => Some(Resource::Workload(index.workload(*ip).cloned())),
            ResourceKey::Endpoints(id, 0) => {
                index.service(id).map(|s| Resource::Endpoints(s.endpoints.clone()))
            }
            ResourceKey::Endpoints(..) => None,
        }
    }

    /// Every key that the resource under `key` refers to, directly: what travels with it in the
    /// same answer. For a Resolution: its routes, policies, services, and the chunks of their
    /// endpoints; for others nothing.
    pub fn references(&self, resource: &Resource) -> Vec<ResourceKey> {
        let Resource::Resolution(resolution) = resource else { return Vec::new() };
        let Resolution::Present(applies) = &**resolution else { return Vec::new() };
        let mut keys = references_of(applies);
        let chunks: Vec<ResourceKey> = keys
            .iter()
            .filter_map(|key| match key {
                ResourceKey::Service(id) => Some((id, self.index.service(id)?)),
                _ => None,
            })
            .flat_map(|(id, entry)| {
                (0..entry.service.endpoint_chunks).map(|c| ResourceKey::Endpoints(id.clone(), c))
            })
            .collect();
        keys.extend(chunks);
        keys
    }

    fn resolve(&self, key: &ResolutionKey, subscriber: &Subscriber) -> Resolution {
        let index = &self.index;
        let applies = match (key.listener, &key.target) {
            (ListenerKind::Outbound, Target::Host(host, port)) => {
                outbound::host(index, host, *port, &key.namespace)
            }
            (ListenerKind::Outbound, Target::Address(ip, port)) => {
                outbound::address(index, *ip, *port, &key.namespace)
            }
            (ListenerKind::Inbound, Target::Address(ip, EVERY_PORT)) => {
                Some(inbound::address(index, *ip, subscriber))
            }
            (ListenerKind::Gateway, Target::Host(domain, port)) => {
                gateway::domain(index, domain, *port, subscriber)
            }
            (ListenerKind::Inbound, Target::Address(..) | Target::Host(..))
            | (ListenerKind::Gateway, Target::Address(..)) => None,
        };
        applies.map_or(Resolution::Absent, Resolution::Present)
    }
}

#[cfg(test)]
mod tests;
