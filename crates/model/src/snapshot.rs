//! A snapshot: all objects of the mesh at one instant, and the answers to every resource key.

use std::net::IpAddr;

use crate::finding::Finding;
use crate::listeners::GatewayProtocol;
use crate::name::{Labels, Name, ObjectId};
use crate::policy::{DestinationPolicy, InboundPolicy};
use crate::resource::{Resource, ResourceKey};
use crate::route::Route;
use crate::service::{Endpoint, Service, Workload};
use crate::settings::Settings;

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
#[derive(Clone, Debug)]
pub struct ServiceSource {
    /// The service.
    pub service: Service,
    /// Its endpoints, in order of their ids.
    pub endpoints: Vec<Endpoint>,
    /// Age, for ties.
    pub created: Created,
}

/// A route and where it applies.
#[derive(Clone, Debug)]
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
}

/// A destination policy and where it applies.
#[derive(Clone, Debug)]
pub struct DestinationPolicySource {
    /// The policy.
    pub policy: DestinationPolicy,
    /// Host: fully qualified, or `*.suffix`.
    pub host: Name,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<Name>,
    /// Age.
    pub created: Created,
}

/// An inbound policy and where it applies.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
    /// Whether it is a gateway.
    pub gateway: bool,
}

/// All objects of the mesh at one instant, indexed. Cheap to share; never changes.
#[derive(Debug, Default)]
pub struct Snapshot {}

impl Snapshot {
    /// Indexes the objects. Pure: equal objects in any order give equal answers. The findings are
    /// those that only all objects together show (a host taken twice, an undefined subset, ...).
    pub fn new(_objects: Objects) -> (Self, Vec<Finding>) {
        todo!()
    }

    /// Settings of the mesh.
    pub fn settings(&self) -> &Settings {
        todo!()
    }

    /// The resource under a key as `subscriber` sees it; `None` if there is none (a
    /// [`crate::resource::Resolution`] and a [`ResourceKey::Workload`] always have an answer).
    pub fn resource(&self, _key: &ResourceKey, _subscriber: &Subscriber) -> Option<Resource> {
        todo!()
    }

    /// Every key that the resource under `key` refers to, directly: what travels with it in the
    /// same answer. For a Resolution: its routes, policies, services, and the chunks of their
    /// endpoints; for others nothing.
    pub fn references(&self, _resource: &Resource) -> Vec<ResourceKey> {
        todo!()
    }
}
