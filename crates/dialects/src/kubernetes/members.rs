//! Services and those that serve them, joined: a Service gets the endpoints of the pods that it
//! selects; one without a selector those that Endpoints and EndpointSlices of its name list.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use ironmesh_model::service::Endpoint;
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::Edit;
use ironmesh_model::{Labels, Name, ServiceId};

use super::endpoints::{self, EndpointsPart};
use super::{
    NodePart, PodPart, SelectedPods, SelectedPort, ServicePart, TargetPort, endpoint, holder,
    workload,
};

/// Services, pods and lists of endpoints, by the names of their objects.
#[derive(Debug)]
pub(crate) struct Members<K> {
    settings: Settings,
    services: BTreeMap<K, ServicePart>,
    pods: BTreeMap<K, PodPart>,
    nodes: BTreeMap<K, NodePart>,
    lists: BTreeMap<K, EndpointsPart>,
    /// By namespace and the first label of the selector.
    services_by_label: Sets<(Name, Name, Name), K>,
    /// By namespace and name.
    services_by_name: Sets<(Name, Name), K>,
    pods_by_label: Sets<(Name, Name, Name), K>,
    pods_by_ip: Sets<IpAddr, K>,
    /// By namespace and name of their service.
    lists_by_service: Sets<(Name, Name), K>,
    lists_by_ip: Sets<IpAddr, K>,
}

impl<K: Ord + Clone> Members<K> {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            services: BTreeMap::new(),
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            lists: BTreeMap::new(),
            services_by_label: Sets::default(),
            services_by_name: Sets::default(),
            pods_by_label: Sets::default(),
            pods_by_ip: Sets::default(),
            lists_by_service: Sets::default(),
            lists_by_ip: Sets::default(),
        }
    }

    /// A Service is this, or gone.
    pub(crate) fn put_service(&mut self, key: K, part: Option<ServicePart>) -> Vec<Edit> {
        let before = self.services.remove(&key);
        if before == part {
            self.services.extend(part.map(|part| (key, part)));
            return Vec::new();
        }
        let mut edits = Vec::new();
        let mut same_endpoints = false;
        if let Some(before) = &before {
            same_endpoints = part.as_ref().is_some_and(|part| shape(part) == shape(before));
            self.services_by_name.take(&before.place(), &key);
            if let Some(label) = first_label(before) {
                self.services_by_label.take(&label, &key);
            }
            let id = &before.service.id;
            if part.as_ref().is_none_or(|part| part.service.id != *id) {
                edits.push(Edit::Service(id.clone(), None));
            }
        }
        if let Some(part) = part {
            self.services_by_name.put(part.place(), key.clone());
            if let Some(label) = first_label(&part) {
                self.services_by_label.put(label, key.clone());
            }
            let told = (part.service.clone().into(), part.reach.clone());
            edits.push(Edit::Service(part.service.id.clone(), Some(told)));
            if !same_endpoints {
                edits.push(self.all_endpoints(&part));
            }
            self.services.insert(key, part);
        }
        edits
    }

    /// A pod is this, or gone.
    pub(crate) fn put_pod(&mut self, key: K, part: Option<PodPart>) -> Vec<Edit> {
        if self.pods.get(&key) == part.as_ref() {
            return Vec::new();
        }
        let ips = self.pods.get(&key).into_iter().chain(&part).map(|part| part.ip);
        let ips: BTreeSet<IpAddr> = ips.collect();
        let were: Vec<Option<PodPart>> = ips.iter().map(|ip| self.pod_at(*ip).cloned()).collect();
        let before = self.pods.remove(&key);
        if let Some(before) = &before {
            labels_in(&before.id.namespace, &before.labels)
                .for_each(|label| self.pods_by_label.take(&label, &key));
            self.pods_by_ip.take(&before.ip, &key);
        }
        if let Some(part) = &part {
            labels_in(&part.id.namespace, &part.labels)
                .for_each(|label| self.pods_by_label.put(label, key.clone()));
            self.pods_by_ip.put(part.ip, key.clone());
            self.pods.insert(key, part.clone());
        }
        let mut edits = self.endpoints_of(before.as_ref(), part.as_ref());
        let mut listed = Vec::new();
        for (ip, was) in ips.into_iter().zip(were) {
            edits.push(self.workload_at(ip));
            let lists = self.lists_by_ip.of(&ip).filter_map(|list| self.lists.get(list));
            let services: BTreeSet<(Name, Name)> = lists.map(EndpointsPart::service).collect();
            for service in services.iter().flat_map(|service| self.without_selector(service)) {
                listed.extend(self.listed_at(service, ip, was.as_ref()));
            }
        }
        // A pod that moves from one listed address to another leaves before it comes.
        listed.sort_by_key(|edit| matches!(edit, Edit::Endpoint(_, _, Some(_))));
        edits.extend(listed);
        edits
    }

    /// What a change of a pod is to the services that select it.
    fn endpoints_of(&self, before: Option<&PodPart>, after: Option<&PodPart>) -> Vec<Edit> {
        let labels = before.iter().chain(&after);
        let labels = labels.flat_map(|pod| labels_in(&pod.id.namespace, &pod.labels));
        let labels: BTreeSet<_> = labels.collect();
        let services = labels.iter().flat_map(|label| self.services_by_label.of(label));
        let services = services.collect::<BTreeSet<_>>().into_iter();
        let mut edits = Vec::new();
        for part in services.filter_map(|key| self.services.get(key)) {
            let id = &part.service.id;
            let now = after.filter(|pod| selects(part, pod));
            let uid = now.map(|pod| &pod.id.uid);
            if let Some(gone) = before.filter(|pod| selects(part, pod) && Some(&pod.id.uid) != uid)
            {
                edits.push(Edit::Endpoint(id.clone(), gone.id.uid.clone(), None));
            }
            if let Some(pod) = now {
                let made = endpoint(part, pod, &self.settings);
                edits.push(Edit::Endpoint(id.clone(), made.id.clone(), Some(made.into())));
            }
        }
        edits
    }

    /// A node is this, or gone: its pods, which are to be put again.
    pub(crate) fn put_node(&mut self, key: K, part: Option<NodePart>) -> Vec<(K, PodPart)> {
        let before = self.nodes.remove(&key);
        if before == part {
            self.nodes.extend(part.map(|part| (key, part)));
            return Vec::new();
        }
        let names: Vec<Name> = before.iter().chain(&part).map(|part| part.name.clone()).collect();
        self.nodes.extend(part.map(|part| (key, part)));
        let pods = self.pods.iter().filter(|(_, pod)| names.contains(&pod.node));
        pods.map(|(key, pod)| (key.clone(), pod.clone())).collect()
    }

    /// A pod where its node says that it is.
    pub(crate) fn settled(&self, mut pod: PodPart) -> PodPart {
        let node = self.nodes.values().find(|node| node.name == pod.node);
        pod.settle(node);
        pod
    }

    /// A list of endpoints is this, or gone.
    pub(crate) fn put_list(&mut self, key: K, part: Option<EndpointsPart>) -> Vec<Edit> {
        let before = self.lists.remove(&key);
        if before == part {
            self.lists.extend(part.map(|part| (key, part)));
            return Vec::new();
        }
        let mut moved: BTreeMap<(Name, Name), BTreeSet<IpAddr>> = BTreeMap::new();
        match (&before, &part) {
            (Some(before), Some(part)) if before.service() == part.service() => {
                moved.insert(part.service(), before.differing(part));
            }
            _ => moved.extend(
                before.iter().chain(&part).map(|part| (part.service(), part.ips().collect())),
            ),
        }
        if let Some(before) = &before {
            self.lists_by_service.take(&before.service(), &key);
        }
        for ip in moved.values().flatten() {
            self.lists_by_ip.take(ip, &key);
        }
        if let Some(part) = part {
            self.lists_by_service.put(part.service(), key.clone());
            let listed = moved.values().flatten().filter(|ip| !part.at(**ip).is_empty());
            listed.for_each(|ip| self.lists_by_ip.put(*ip, key.clone()));
            self.lists.insert(key, part);
        }
        let mut edits = Vec::new();
        for (name, ips) in &moved {
            for service in self.without_selector(name) {
                edits.extend(
                    ips.iter().flat_map(|ip| self.listed_at(service, *ip, self.pod_at(*ip))),
                );
            }
        }
        edits
    }

    /// The services of a name that select no pods.
    fn without_selector(&self, name: &(Name, Name)) -> impl Iterator<Item = &ServicePart> {
        let services = self.services_by_name.of(name).filter_map(|key| self.services.get(key));
        services.filter(|part| part.selector.is_none() && part.external.is_none())
    }

    /// The endpoint of a service without a selector at an address that this pod had until now.
    fn listed_at(&self, part: &ServicePart, ip: IpAddr, was: Option<&PodPart>) -> Vec<Edit> {
        let service = &part.service.id;
        let before = endpoints::id_at(part, ip, was);
        let now = self.listed(part, ip);
        let mut edits = Vec::new();
        if now.as_ref().is_none_or(|now| now.id != before) {
            edits.push(Edit::Endpoint(service.clone(), before, None));
        }
        if let Some(now) = now {
            edits.push(Edit::Endpoint(service.clone(), now.id.clone(), Some(now.into())));
        }
        edits
    }

    /// What lists say that a service without a selector has at an address.
    fn listed(&self, part: &ServicePart, ip: IpAddr) -> Option<Endpoint> {
        let name = part.place();
        let lists = self.lists_by_ip.of(&ip).filter_map(|key| self.lists.get(key));
        let listed = lists.filter(|list| list.is_for(&name)).flat_map(|list| list.at(ip));
        endpoints::at_address(part, ip, self.pod_at(ip), listed, &self.settings)
    }

    fn all_endpoints(&self, part: &ServicePart) -> Edit {
        let endpoints: Vec<Endpoint> = match (&part.external, first_label(part)) {
            (Some(name), _) => vec![endpoints::named(part, name)],
            (None, Some(label)) => {
                let pods = self.pods_by_label.of(&label).filter_map(|key| self.pods.get(key));
                let selected = pods.filter(|pod| selects(part, pod));
                selected.map(|pod| endpoint(part, pod, &self.settings)).collect()
            }
            (None, None) => {
                let name = part.place();
                let lists = self.lists_by_service.of(&name);
                let lists = lists.filter_map(|key| self.lists.get(key));
                let ips: BTreeSet<IpAddr> = lists.flat_map(EndpointsPart::ips).collect();
                ips.into_iter().filter_map(|ip| self.listed(part, ip)).collect()
            }
        };
        Edit::Endpoints(part.service.id.clone(), endpoints)
    }

    /// A pod by the name of its object.
    pub(crate) fn pod(&self, key: &K) -> Option<&PodPart> {
        self.pods.get(key)
    }

    /// The pods of a namespace with these labels.
    pub(crate) fn selected<'a>(
        &'a self,
        namespace: &Name,
        selector: &'a Labels,
    ) -> impl Iterator<Item = &'a PodPart> {
        let of_label = labels_in(namespace, selector).next();
        let keys = of_label.map(|label| self.pods_by_label.of(&label).collect::<Vec<_>>());
        let pods = keys.unwrap_or_default().into_iter().filter_map(|key| self.pods.get(key));
        pods.filter(|pod| selector.selects(&pod.labels))
    }

    /// The pods that a Service selects, and where they have its ports; `None`: it selects none.
    pub(crate) fn pods_of(&self, part: &ServicePart) -> Option<SelectedPods> {
        let labels = part.selector.clone()?;
        let pods: Vec<&PodPart> = self.selected(&part.service.id.namespace, &labels).collect();
        let ports = part.service.ports.iter().map(|port| {
            let of_port = part.targets.iter().filter(|target| target.service == port.number);
            let at = of_port.flat_map(|target| {
                let stated = match target.pod {
                    TargetPort::Number(number) => Some(number),
                    TargetPort::Name(_) => None,
                };
                pods.iter().filter_map(|pod| part.port_at(target, pod)).chain(stated)
            });
            SelectedPort { number: port.number, name: port.name.clone(), at: at.collect() }
        });
        Some(SelectedPods { ports: ports.collect(), labels })
    }

    /// The Services that select a pod.
    pub(crate) fn services_of(&self, pod: &PodPart) -> impl Iterator<Item = (&K, &ServicePart)> {
        let labels = labels_in(&pod.id.namespace, &pod.labels);
        let keys: BTreeSet<&K> = labels
            .flat_map(|label| self.services_by_label.of(&label).collect::<Vec<_>>())
            .collect();
        let services = keys.into_iter().filter_map(|key| self.services.get_key_value(key));
        services.filter(|(_, part)| selects(part, pod))
    }

    /// The Services of this namespace and name.
    pub(crate) fn services_at(
        &self,
        place: &(Name, Name),
    ) -> impl Iterator<Item = (&K, &ServicePart)> {
        let keys = self.services_by_name.of(place);
        keys.filter_map(|key| self.services.get_key_value(key))
    }

    /// Whether a Service has this id.
    pub(crate) fn has_service(&self, id: &ServiceId) -> bool {
        let name = id.hostname.split('.').next().unwrap_or_default();
        let name = (id.namespace.clone(), name.into());
        let services = self.services_by_name.of(&name);
        services.filter_map(|key| self.services.get(key)).any(|part| part.service.id == *id)
    }

    /// The id of the Service of an object.
    pub(crate) fn service_id(&self, key: &K) -> Option<&ServiceId> {
        self.services.get(key).map(|part| &part.service.id)
    }

    /// The pod that has an address.
    pub(crate) fn pod_at(&self, ip: IpAddr) -> Option<&PodPart> {
        self.pods_by_ip.of(&ip).filter_map(|key| self.pods.get(key)).reduce(holder)
    }

    fn workload_at(&self, ip: IpAddr) -> Edit {
        Edit::Workload(ip, self.pod_at(ip).map(|pod| workload(pod, &self.settings).into()))
    }
}

fn selects(part: &ServicePart, pod: &PodPart) -> bool {
    pod.id.namespace == part.service.id.namespace
        && part.selector.as_ref().is_some_and(|selector| selector.selects(&pod.labels))
}

/// What of a service its endpoints depend on.
fn shape(part: &ServicePart) -> impl PartialEq {
    let ports = part.service.ports.iter().map(|port| (port.number, port.name.clone()));
    (
        part.service.id.clone(),
        part.service.name.clone(),
        ports.collect::<Vec<_>>(),
        part.targets.clone(),
        part.selector.clone(),
        part.external.clone(),
        part.publish_not_ready,
    )
}

fn labels_in(namespace: &Name, labels: &Labels) -> impl Iterator<Item = (Name, Name, Name)> {
    labels.0.iter().map(|(name, value)| (namespace.clone(), name.clone(), value.clone()))
}

/// The first label that a service selects by.
fn first_label(part: &ServicePart) -> Option<(Name, Name, Name)> {
    labels_in(&part.service.id.namespace, part.selector.as_ref()?).next()
}

/// Sets by key.
#[derive(Debug)]
struct Sets<P, K>(HashMap<P, BTreeSet<K>>);

impl<P: Hash + Eq, K: Ord> Sets<P, K> {
    fn of(&self, place: &P) -> impl Iterator<Item = &K> {
        self.0.get(place).into_iter().flatten()
    }

    fn put(&mut self, place: P, key: K) {
        self.0.entry(place).or_default().insert(key);
    }

    fn take(&mut self, place: &P, key: &K) {
        if let Some(set) = self.0.get_mut(place) {
            set.remove(key);
            if set.is_empty() {
                self.0.remove(place);
            }
        }
    }
}

impl<P, K> Default for Sets<P, K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}
