//! The indexes of a snapshot. Every list in them has one order whatever the order of the objects:
//! oldest first, ties by `NAME.NAMESPACE` as Istio breaks them.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::{Created, GatewaySource, Objects, RouteFields, ServiceSource};
use crate::name::{Labels, Name, ObjectId, ServiceId};
use crate::policy::Policy;
use crate::route::Route;
use crate::service::{Endpoints, Service, UpstreamTls, Workload};
use crate::settings::Settings;

/// What routes inside the mesh are attached to.
pub(super) const MESH: &str = "mesh";

/// All objects, and where to find them.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) settings: Arc<Settings>,
    pub(super) services: Vec<ServiceEntry>,
    pub(super) routes: Vec<RouteEntry>,
    pub(super) destination_policies: Vec<DestinationPolicyEntry>,
    pub(super) inbound_policies: Vec<InboundPolicyEntry>,
    pub(super) gateways: Vec<GatewaySource>,
    workloads: HashMap<IpAddr, Arc<Workload>>,
    workload_by_uid: HashMap<Name, Arc<Workload>>,
    service_by_id: HashMap<ServiceId, usize>,
    services_by_hostname: HashMap<Name, Vec<usize>>,
    service_by_address: HashMap<IpAddr, usize>,
    endpoints_by_ip: HashMap<IpAddr, Vec<(usize, usize)>>,
    route_by_id: HashMap<ObjectId, usize>,
    mesh_routes: HostMap,
    routes_by_gateway: HashMap<Name, Vec<usize>>,
    policy_by_id: HashMap<ObjectId, Arc<Policy>>,
    destination_policies_by_host: HashMap<Name, HostMap>,
    all_destination_policies: HostMap,
    gateway_names: HashSet<String>,
}

/// A service as it is indexed.
#[derive(Debug)]
pub(super) struct ServiceEntry {
    pub(super) service: Arc<Service>,
    pub(super) endpoints: Arc<Endpoints>,
}

/// A route as it is indexed.
#[derive(Debug)]
pub(super) struct RouteEntry {
    pub(super) route: Arc<Route>,
    pub(super) hosts: Vec<Name>,
    pub(super) gateways: Vec<Name>,
    pub(super) export_to: Vec<Name>,
    pub(super) fields: RouteFields,
}

impl RouteEntry {
    /// Whether proxies of `namespace` see it.
    pub(super) fn visible_from(&self, namespace: &str) -> bool {
        exported(&self.export_to, namespace)
    }
}

/// A destination policy as it is indexed.
#[derive(Debug)]
pub(super) struct DestinationPolicyEntry {
    pub(super) policy: Arc<Policy>,
    pub(super) host: Name,
    pub(super) export_to: Vec<Name>,
    pub(super) mutual_tls_at: Vec<String>,
}

/// An inbound policy as it is indexed.
#[derive(Debug)]
pub(super) struct InboundPolicyEntry {
    pub(super) policy: Arc<Policy>,
    pub(super) selector: Option<Labels>,
}

/// Objects by host pattern, as positions in their list, which is in order of age.
#[derive(Debug, Default)]
pub(super) struct HostMap {
    names: HashMap<Name, Vec<usize>>,
    /// By what follows the `*`.
    wildcards: HashMap<Name, Vec<usize>>,
}

impl HostMap {
    fn insert(&mut self, pattern: &str, position: usize) {
        let positions = match pattern.strip_prefix('*') {
            Some(suffix) => self.wildcards.entry(suffix.into()).or_default(),
            None => self.names.entry(pattern.into()).or_default(),
        };
        if positions.last() != Some(&position) {
            positions.push(position);
        }
    }

    /// The positions for each pattern that covers `host`, the most specific pattern first.
    pub(super) fn covering<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a [usize]> {
        let by_name = self.names.get(host);
        let by_wildcard = crate::host::suffixes(host).filter_map(|s| self.wildcards.get(s));
        by_name.into_iter().chain(by_wildcard).map(Vec::as_slice)
    }

    /// The positions for exactly this pattern.
    pub(super) fn of_pattern(&self, pattern: &str) -> &[usize] {
        let found = match pattern.strip_prefix('*') {
            Some(suffix) => self.wildcards.get(suffix),
            None => self.names.get(pattern),
        };
        found.map_or(&[], Vec::as_slice)
    }
}

/// Whether an object with this `exportTo` is seen from `namespace`.
pub(super) fn exported(export_to: &[Name], namespace: &str) -> bool {
    export_to.is_empty() || export_to.iter().any(|n| **n == *namespace)
}

/// Sorting key: age, then `NAME.NAMESPACE`.
fn by_age(created: Created, id: &ObjectId) -> (Created, String) {
    (created, format!("{}.{}", id.name, id.namespace))
}

impl Index {
    pub(super) fn new(objects: Objects) -> Self {
        let mut index = Self { settings: Arc::new(objects.settings), ..Self::default() };
        // First, since workloads and endpoints listen as these say.
        index.add_inbound_policies(objects.inbound_policies);
        index.add_workloads(objects.workloads);
        index.add_services(objects.services);
        index.add_routes(objects.routes);
        index.add_destination_policies(objects.destination_policies);
        index.gateways = objects.gateways;
        index.gateways.sort_by_cached_key(|g| by_age(g.created, &g.id));
        index.gateway_names = index.gateways.iter().map(super::gateway::gateway_name).collect();
        index
    }

    fn add_workloads(&mut self, mut workloads: Vec<(IpAddr, Workload)>) {
        workloads.sort_by(|(a, x), (b, y)| (a, &x.id).cmp(&(b, &y.id)));
        for (ip, mut workload) in workloads {
            self.apply_policies(&mut workload.tls, &workload.id.namespace, &workload.labels);
            self.workloads.insert(ip, Arc::new(workload));
        }
        let by_uid = self.workloads.values().map(|w| (w.id.uid.clone(), w.clone()));
        self.workload_by_uid = by_uid.collect();
    }

    /// Turns mutual TLS off where the policies of a workload do.
    fn apply_policies(&self, tls: &mut UpstreamTls, namespace: &str, labels: &Labels) {
        if *tls != UpstreamTls::None && !super::inbound::takes_mutual_tls(self, namespace, labels) {
            *tls = UpstreamTls::None;
        }
    }

    fn add_services(&mut self, mut services: Vec<ServiceSource>) {
        services.sort_by(|a, b| (a.created, &a.service.id).cmp(&(b.created, &b.service.id)));
        for ServiceSource { service, mut endpoints, .. } in services {
            endpoints.sort_by(|a, b| a.id.cmp(&b.id));
            let position = self.services.len();
            self.service_by_id.insert(service.id.clone(), position);
            self.services_by_hostname
                .entry(service.id.hostname.clone())
                .or_default()
                .push(position);
            for address in &service.addresses {
                self.service_by_address.entry(*address).or_insert(position);
            }
            for (at, endpoint) in endpoints.iter_mut().enumerate() {
                let namespace = &endpoint.workload.namespace;
                self.apply_policies(&mut endpoint.tls, namespace, &endpoint.labels);
                if let crate::service::EndpointAddress::Ip(ip) = endpoint.address {
                    self.endpoints_by_ip.entry(ip).or_default().push((position, at));
                }
            }
            let endpoints = endpoints.into_iter().map(Arc::new).collect();
            let endpoints = Endpoints { service: service.id.clone(), chunk: 0, endpoints };
            self.services
                .push(ServiceEntry { service: Arc::new(service), endpoints: Arc::new(endpoints) });
        }
    }

    fn add_routes(&mut self, mut routes: Vec<super::RouteSource>) {
        routes.sort_by_cached_key(|r| by_age(r.created, &r.route.id));
        for source in routes {
            let position = self.routes.len();
            self.route_by_id.insert(source.route.id.clone(), position);
            for gateway in &source.gateways {
                if **gateway == *MESH {
                    for host in &source.hosts {
                        self.mesh_routes.insert(host, position);
                    }
                } else {
                    self.routes_by_gateway.entry(gateway.clone()).or_default().push(position);
                }
            }
            self.routes.push(RouteEntry {
                route: Arc::new(source.route),
                hosts: source.hosts,
                gateways: source.gateways,
                export_to: source.export_to,
                fields: source.fields,
            });
        }
    }

    fn add_destination_policies(&mut self, mut sources: Vec<super::DestinationPolicySource>) {
        sources.sort_by_cached_key(|s| by_age(s.created, &s.policy.id));
        for source in sources {
            let id = source.policy.id.clone();
            let policy = Arc::new(Policy::Destination(source.policy));
            self.policy_by_id.insert(id.clone(), policy.clone());
            let position = self.destination_policies.len();
            let of_namespace = self.destination_policies_by_host.entry(id.namespace).or_default();
            of_namespace.insert(&source.host, position);
            self.all_destination_policies.insert(&source.host, position);
            self.destination_policies.push(DestinationPolicyEntry {
                policy,
                host: source.host,
                export_to: source.export_to,
                mutual_tls_at: source.mutual_tls_at,
            });
        }
    }

    fn add_inbound_policies(&mut self, mut sources: Vec<super::InboundPolicySource>) {
        sources.sort_by_cached_key(|s| by_age(s.created, &s.policy.id));
        for source in sources {
            let id = source.policy.id.clone();
            let policy = Arc::new(Policy::Inbound(source.policy));
            self.policy_by_id.insert(id, policy.clone());
            self.inbound_policies.push(InboundPolicyEntry { policy, selector: source.selector });
        }
    }

    pub(super) fn route(&self, id: &ObjectId) -> Option<&Arc<Route>> {
        Some(&self.routes[*self.route_by_id.get(id)?].route)
    }

    pub(super) fn policy(&self, id: &ObjectId) -> Option<&Arc<Policy>> {
        self.policy_by_id.get(id)
    }

    pub(super) fn service(&self, id: &ServiceId) -> Option<&ServiceEntry> {
        Some(&self.services[*self.service_by_id.get(id)?])
    }

    /// The service of that fully qualified name, as seen from `namespace`: its own if it declares
    /// one, else the oldest.
    pub(super) fn service_named(&self, hostname: &str, namespace: &str) -> Option<&ServiceEntry> {
        let mut services =
            self.services_by_hostname.get(hostname)?.iter().map(|&at| &self.services[at]);
        let oldest = services.clone().next();
        services.find(|entry| *entry.service.id.namespace == *namespace).or(oldest)
    }

    /// The service that has this virtual address.
    pub(super) fn service_at(&self, ip: IpAddr) -> Option<&ServiceEntry> {
        Some(&self.services[*self.service_by_address.get(&ip)?])
    }

    /// The endpoints with this address, each with its service, the oldest service first.
    pub(super) fn endpoints_at(
        &self,
        ip: IpAddr,
    ) -> impl Iterator<Item = (&ServiceEntry, &crate::service::Endpoint)> {
        self.endpoints_by_ip.get(&ip).into_iter().flatten().map(|&(service, endpoint)| {
            let entry = &self.services[service];
            (entry, &*entry.endpoints.endpoints[endpoint])
        })
    }

    pub(super) fn workload(&self, ip: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.get(&ip)
    }

    /// The workload of this uid.
    pub(super) fn workload_of(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workload_by_uid.get(uid)
    }

    pub(super) fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.values().map(|workload| &**workload)
    }

    /// Routes inside the mesh by host.
    pub(super) fn mesh_routes(&self) -> &HostMap {
        &self.mesh_routes
    }

    /// Routes attached to a gateway (`NAMESPACE/NAME`), oldest first.
    pub(super) fn routes_at<'a>(
        &'a self,
        gateway: &str,
    ) -> impl Iterator<Item = (usize, &'a RouteEntry)> {
        let positions = self.routes_by_gateway.get(gateway).into_iter().flatten();
        positions.map(|&at| (at, &self.routes[at]))
    }

    /// Whether there is a gateway of this name (`NAMESPACE/NAME`).
    pub(super) fn has_gateway(&self, name: &str) -> bool {
        self.gateway_names.contains(name)
    }

    /// Destination policies of all namespaces that cover a host.
    pub(super) fn destination_policies_of<'a>(
        &'a self,
        host: &'a str,
    ) -> impl Iterator<Item = &'a DestinationPolicyEntry> {
        let positions = self.all_destination_policies.covering(host).flatten();
        positions.map(|&at| &self.destination_policies[at])
    }

    /// Destination policies of one namespace by host.
    pub(super) fn destination_policies_in(&self, namespace: &str) -> Option<&HostMap> {
        self.destination_policies_by_host.get(namespace)
    }
}
