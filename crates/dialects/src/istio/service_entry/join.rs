//! What ServiceEntries are together, and with the pods: services and their endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ironmesh_model::service::{
    Discovery, Endpoint, EndpointAddress, PortMap, Service, ServicePort, UpstreamTls,
};
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::{Edit, Reach};
use ironmesh_model::{Identity, Name, ObjectId, ServiceId, WorkloadId};

use super::conflicts::Conflicts;
use super::synthetic::Synthetic;
use super::{Endpoints, EntryEndpoint, EntryPart, EntryPort};
use crate::kubernetes::{CLUSTER, Members, PodPart};

/// ServiceEntries by the names of their objects. Those of one namespace that have a host in common are
/// one service, the oldest first.
#[derive(Debug)]
pub(crate) struct Entries<K> {
    settings: Settings,
    parts: BTreeMap<K, EntryPart>,
    by_host: BTreeMap<ServiceId, BTreeSet<K>>,
    /// The services of a host.
    of_hostname: BTreeMap<Name, BTreeSet<ServiceId>>,
    /// Those that select workloads, by namespace.
    selecting: BTreeMap<Name, BTreeSet<K>>,
    /// Those with an endpoint at an address.
    by_ip: BTreeMap<IpAddr, BTreeSet<K>>,
    addresses: Synthetic,
    conflicts: Conflicts,
}

impl<K: Ord + Clone> Entries<K> {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            parts: BTreeMap::new(),
            by_host: BTreeMap::new(),
            of_hostname: BTreeMap::new(),
            selecting: BTreeMap::new(),
            by_ip: BTreeMap::new(),
            addresses: Synthetic::default(),
            conflicts: Conflicts::default(),
        }
    }

    /// An entry is this, or gone.
    pub(crate) fn put(
        &mut self,
        key: K,
        part: Option<EntryPart>,
        members: &Members<K>,
    ) -> Vec<Edit> {
        let before = self.parts.remove(&key);
        if before == part {
            self.parts.extend(part.map(|part| (key, part)));
            return Vec::new();
        }
        if let Some(before) = &before {
            self.index(&key, before, false);
        }
        let mut ids: BTreeSet<ServiceId> =
            before.iter().chain(&part).flat_map(EntryPart::ids).collect();
        let hostnames = ids.iter().map(|id| id.hostname.clone()).collect();
        if let Some(part) = part {
            self.index(&key, &part, true);
            self.parts.insert(key, part);
        }
        for id in ids.clone() {
            let since = self.wants_address(&id);
            ids.extend(self.addresses.set(&id, since));
        }
        let mut edits: Vec<Edit> = ids.iter().flat_map(|id| self.service(id, members)).collect();
        edits.extend(self.found(hostnames));
        edits
    }

    /// What of entries with these hosts is found now and was not before.
    fn found(&mut self, hostnames: BTreeSet<Name>) -> Vec<Edit> {
        let (mut conflicts, mut moved) = (std::mem::take(&mut self.conflicts), BTreeSet::new());
        for hostname in hostnames {
            let ids = self.of_hostname.get(&hostname).into_iter().flatten();
            let parts: Vec<&EntryPart> = ids.flat_map(|id| self.of(id)).collect();
            moved.extend(conflicts.look(hostname, &parts));
        }
        let found = |id: ObjectId| Edit::Found(id.clone(), conflicts.about(&id));
        let edits = moved.into_iter().map(found).collect();
        self.conflicts = conflicts;
        edits
    }

    fn index(&mut self, key: &K, part: &EntryPart, on: bool) {
        for id in part.ids() {
            put(&mut self.by_host, id.clone(), key, on);
            let is_there = self.by_host.contains_key(&id);
            put(&mut self.of_hostname, id.hostname.clone(), &id, is_there);
        }
        match &part.endpoints {
            Endpoints::Host => {}
            Endpoints::Selected(_) => {
                put(&mut self.selecting, part.id.namespace.clone(), key, on);
            }
            Endpoints::Listed(endpoints) => {
                for endpoint in endpoints {
                    if let EndpointAddress::Ip(ip) = endpoint.address {
                        put(&mut self.by_ip, ip, key, on);
                    }
                }
            }
        }
    }

    /// The entries of a host, the oldest first.
    fn of(&self, id: &ServiceId) -> Vec<&EntryPart> {
        let keys = self.by_host.get(id).into_iter().flatten();
        let mut parts: Vec<&EntryPart> = keys.filter_map(|key| self.parts.get(key)).collect();
        parts.sort_by_key(|part| (part.created, &part.id));
        parts
    }

    /// Since when a host is to have an address of the mesh's own: it has no other, and its callers do
    /// not choose where they go.
    fn wants_address(&self, id: &ServiceId) -> Option<i64> {
        let parts = self.of(id);
        let first = parts.first()?;
        let has_own =
            parts.iter().any(|part| !part.addresses.is_empty() || !part.networks.is_empty());
        let goes_on = matches!(first.discovery, Discovery::Dialled | Discovery::Named);
        (!has_own && !goes_on && !id.hostname.starts_with('*')).then_some(first.created)
    }

    /// The addresses at which a host is reached.
    pub(crate) fn addresses_of(&self, id: &ServiceId) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        let given = self.of(id).into_iter().flat_map(|part| part.addresses.iter().copied());
        for ip in given.chain(self.addresses.address(id)) {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        addresses
    }

    /// The hosts of a name, and who sees them; the oldest first.
    pub(crate) fn named(&self, hostname: &Name) -> Vec<(&ServiceId, &[Name])> {
        let of_name = self.of_hostname.get(hostname).into_iter().flatten();
        let first = |id| Some((self.of(id).first().copied()?, id));
        let mut found: Vec<(&EntryPart, &ServiceId)> = of_name.filter_map(first).collect();
        found.sort_by_key(|(part, id)| (part.created, *id));
        found.into_iter().map(|(part, id)| (id, &part.export_to[..])).collect()
    }

    /// A host as it is now; nothing if a Service has its name.
    pub(crate) fn service(&self, id: &ServiceId, members: &Members<K>) -> Vec<Edit> {
        if members.has_service(id) {
            return Vec::new();
        }
        let parts = self.of(id);
        let Some(first) = parts.first() else { return vec![Edit::Service(id.clone(), None)] };
        let mut ports: Vec<ServicePort> = Vec::new();
        for port in parts.iter().flat_map(|part| &part.ports) {
            if ports.iter().all(|own| own.number != port.service.number) {
                ports.push(port.service.clone());
            }
        }
        let mut certificate_names: Vec<Name> =
            parts.iter().flat_map(|part| part.certificate_names.clone()).collect();
        certificate_names.sort_unstable();
        certificate_names.dedup();
        let service = Service {
            id: id.clone(),
            name: id.hostname.clone(),
            addresses: self.addresses_of(id),
            headless: false,
            discovery: first.discovery,
            distribution: first.distribution,
            certificate_names,
            ports,
            endpoint_chunks: Vec::new(),
        };
        let mut networks: Vec<_> = parts.iter().flat_map(|part| part.networks.clone()).collect();
        networks.sort_unstable();
        networks.dedup();
        let reach = Reach { created: first.created, export_to: first.export_to.clone(), networks };
        let told = Edit::Service(id.clone(), Some((Box::new(service), reach)));
        vec![told, self.endpoints(id, &parts, members)]
    }

    fn endpoints(&self, id: &ServiceId, parts: &[&EntryPart], members: &Members<K>) -> Edit {
        let of_part = |part: &&EntryPart| self.endpoints_of(id, part, members);
        Edit::Endpoints(id.clone(), parts.iter().flat_map(of_part).collect())
    }

    /// What changes with these pods: the endpoints of entries that select them, or have their address.
    pub(crate) fn after_change_of<'a>(
        &self,
        pods: impl Iterator<Item = &'a PodPart>,
        members: &Members<K>,
    ) -> Vec<Edit> {
        let mut keys: BTreeSet<&K> = BTreeSet::new();
        for pod in pods {
            keys.extend(self.by_ip.get(&pod.ip()).into_iter().flatten());
            let selecting = self.selecting.get(pod.namespace()).into_iter().flatten();
            keys.extend(selecting.filter(|key| {
                self.parts.get(key).is_some_and(|part| match &part.endpoints {
                    Endpoints::Selected(selector) => selector.selects(pod.labels()),
                    Endpoints::Listed(_) | Endpoints::Host => false,
                })
            }));
        }
        let parts = keys.into_iter().filter_map(|key| self.parts.get(key));
        let ids: BTreeSet<ServiceId> = parts.flat_map(EntryPart::ids).collect();
        let ids = ids.iter().filter(|id| !members.has_service(id));
        ids.map(|id| self.endpoints(id, &self.of(id), members)).collect()
    }

    fn endpoints_of(
        &self,
        id: &ServiceId,
        part: &EntryPart,
        members: &Members<K>,
    ) -> Vec<Endpoint> {
        let ports_of = |pod: &PodPart| {
            let ports = part.ports.iter().map(|EntryPort { service, target }| PortMap {
                service: service.number,
                target: pod.service_port(&service.name).unwrap_or(*target),
            });
            ports.collect()
        };
        match &part.endpoints {
            Endpoints::Selected(selector) => members
                .selected(&part.id.namespace, selector)
                .map(|pod| pod.as_endpoint(ports_of(pod), &self.settings))
                .collect(),
            Endpoints::Host => {
                let given = EntryEndpoint::of_host(&id.hostname);
                vec![self.listed(part, 0, &given, id, members)]
            }
            Endpoints::Listed(endpoints) => (0..)
                .zip(endpoints)
                .map(|(at, given)| self.listed(part, at, given, id, members))
                .collect(),
        }
    }

    /// An endpoint that an entry lists. If a pod has its address it is that pod, with its identity.
    fn listed(
        &self,
        part: &EntryPart,
        at: usize,
        given: &EntryEndpoint,
        id: &ServiceId,
        members: &Members<K>,
    ) -> Endpoint {
        let ports = part.ports.iter().map(|port| {
            let own = given.ports.iter().find(|(name, _)| *name == port.service.name);
            PortMap {
                service: port.service.number,
                target: own.map_or(port.target, |(_, number)| *number),
            }
        });
        let ports: Vec<PortMap> = ports.collect();
        // In the order in which they are listed.
        let uid: Name = format!("{}/{}/{at:04}", part.id.namespace, part.id.name).into();
        let pod = match &given.address {
            EndpointAddress::Ip(ip) => members.pod_at(*ip),
            EndpointAddress::Dns(_) | EndpointAddress::Gateway(..) => None,
        };
        if let Some(pod) = pod {
            let own = pod.as_endpoint(ports, &self.settings);
            let mut labels = own.labels.clone();
            labels
                .0
                .extend(given.labels.0.iter().map(|(name, value)| (name.clone(), value.clone())));
            let or = |given: &Name, own: Name| if given.is_empty() { own } else { given.clone() };
            return Endpoint {
                id: uid,
                labels,
                weight: given.weight,
                ready: true,
                network: or(&given.network, own.network.clone()),
                locality: or(&given.locality, own.locality.clone()),
                ..own
            };
        }
        Endpoint {
            id: uid.clone(),
            address: given.address.clone(),
            ports,
            labels: given.labels.clone(),
            workload: WorkloadId {
                cluster: CLUSTER.into(),
                namespace: part.id.namespace.clone(),
                name: given.name(),
                uid,
            },
            owner: id.hostname.clone(),
            tls: self.tls(part, given),
            tls_at: Vec::new(),
            ready: true,
            weight: given.weight,
            network: given.network.clone(),
            cluster: CLUSTER.into(),
            locality: given.locality.clone(),
            node: Name::default(),
        }
    }

    /// How callers speak to an endpoint that is no pod: by the mesh's mutual TLS if it is of the mesh
    /// and says that it has a proxy.
    fn tls(&self, part: &EntryPart, given: &EntryEndpoint) -> UpstreamTls {
        let has_proxy = given.labels.value(TLS_MODE) == Some("istio");
        if !part.is_internal || !has_proxy {
            return UpstreamTls::None;
        }
        if given.service_account.is_empty() {
            return match &part.certificate_names[..] {
                [name] => name.parse().map_or(UpstreamTls::None, UpstreamTls::Mesh),
                _ => UpstreamTls::None,
            };
        }
        UpstreamTls::Mesh(Identity {
            trust_domain: self.settings.trust_domain.clone(),
            namespace: part.id.namespace.clone(),
            service_account: given.service_account.clone(),
        })
    }
}

impl EntryPart {
    /// The services that it is a part of.
    fn ids(&self) -> impl Iterator<Item = ServiceId> {
        let namespace = &self.id.namespace;
        self.hosts
            .iter()
            .map(|host| ServiceId { namespace: namespace.clone(), hostname: host.clone() })
    }
}

impl EntryEndpoint {
    /// That of an entry that lists none: its host.
    fn of_host(host: &Name) -> Self {
        Self {
            address: EndpointAddress::Dns(host.clone()),
            ports: Vec::new(),
            labels: ironmesh_model::Labels::default(),
            service_account: Name::default(),
            weight: 1,
            network: Name::default(),
            locality: Name::default(),
        }
    }

    fn name(&self) -> Name {
        match &self.address {
            EndpointAddress::Ip(ip) => ip.to_string().into(),
            EndpointAddress::Dns(name) | EndpointAddress::Gateway(_, name) => name.clone(),
        }
    }
}

/// The label of a workload with a proxy, which takes mutual TLS.
pub(crate) const TLS_MODE: &str = "security.istio.io/tlsMode";

/// Puts a key into a set, or takes it out.
fn put<P: Ord, K: Ord + Clone>(sets: &mut BTreeMap<P, BTreeSet<K>>, place: P, key: &K, on: bool) {
    if on {
        sets.entry(place).or_default().insert(key.clone());
    } else if let Some(set) = sets.get_mut(&place) {
        set.remove(key);
        if set.is_empty() {
            sets.remove(&place);
        }
    }
}
