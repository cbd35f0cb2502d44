//! What single objects are together, brought up to date by one object at a time.

use std::collections::BTreeMap;

use ironmesh_model::ObjectId;
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::Edit;

use crate::istio::Entries;
use crate::kubernetes::{Members, NodePart, PodPart, ServicePart};
use crate::translate::{Part, Translated};

mod ingresses;
mod late;

use ingresses::Ingresses;
use late::LateParts;
pub(crate) use late::{Late, Place, PortOf, TargetPods};

/// Joins what was made of single objects: each that comes, changes or goes gives the edits of the
/// model that follow from it, at a cost that does not grow with the mesh. `K` names the objects.
#[derive(Debug)]
pub struct Join<K> {
    members: Members<K>,
    late: LateParts<K>,
    entries: Entries<K>,
    ingresses: Ingresses<K>,
    /// Those that the mesh was started with.
    settings: Settings,
    /// What each object is that has a part in the model.
    kinds: BTreeMap<K, Kind>,
}

/// What an object is in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    Pod,
    Node,
    Endpoints,
    Entry,
    Route(ObjectId),
    DestinationPolicy(ObjectId),
    InboundPolicy(ObjectId),
    Gateway(ObjectId),
    Sidecar(ObjectId),
    /// What others refer to.
    Conditions,
    /// A late part of this object, and whether it is a policy.
    Late(ObjectId, bool),
    /// Its id, and whether it holds.
    MeshConfig(ObjectId, bool),
    Credential(ObjectId),
    Ingress(ObjectId),
    IngressClass,
}

impl<K: Ord + Clone> Join<K> {
    /// Nothing but settings, and the edit that tells of them.
    pub fn new(settings: Settings) -> (Self, Vec<Edit>) {
        let edits = vec![Edit::Settings(settings.clone().into())];
        let members = Members::new(settings.clone());
        let entries = Entries::new(settings.clone());
        let (late, ingresses) = (LateParts::new(), Ingresses::new(settings.ingress.clone()));
        let kinds = BTreeMap::new();
        (Self { members, late, entries, ingresses, settings, kinds }, edits)
    }

    /// An object came or changed.
    pub fn put(&mut self, key: K, translated: Translated) -> Vec<Edit> {
        let kind = Kind::of(&translated.part, &self.settings);
        let mut edits = Vec::new();
        if self.kinds.get(&key) != kind.as_ref() {
            edits = self.take(&key);
        }
        if let Some(kind) = kind {
            self.kinds.insert(key.clone(), kind);
        }
        let made = match translated.part {
            Part::Nothing => Vec::new(),
            Part::Service(part) => {
                let told = self.late.put_pods(&key, part.place(), self.members.pods_of(&part));
                let mut edits = self.put_service(key, Some(*part));
                edits.extend(told);
                edits
            }
            Part::Late(part) => {
                let asked: Vec<Place> = part.asks_for_ports().cloned().collect();
                let mut edits = vec![self.late.put(key, *part)];
                // Until somebody asked nobody was told of pods.
                let services = asked.iter().flat_map(|place| self.members.services_at(place));
                edits.extend(Self::tell(&mut self.late, &self.members, services));
                edits
            }
            Part::Pod(part) => self.put_pod(key, Some(*part)),
            Part::Node(part) => self.put_node(key, Some(*part)),
            Part::Entry(part) => self.entries.put(key, Some(*part), &self.members),
            Part::Endpoints(part) => self.members.put_list(key, Some(*part)),
            Part::Route(part) => vec![Edit::Route(part.route.id.clone(), Some(part))],
            Part::DestinationPolicy(part) => {
                vec![Edit::DestinationPolicy(part.policy.id.clone(), Some(part))]
            }
            Part::InboundPolicy(part) => {
                vec![Edit::InboundPolicy(part.policy.id.clone(), Some(part))]
            }
            Part::MeshPolicy(mut part) => {
                part.policy.id.namespace = self.settings.root_namespace.clone();
                vec![Edit::InboundPolicy(part.policy.id.clone(), Some(part))]
            }
            Part::Conditions(place, conditions) => {
                self.late.put_conditions(&key, place, conditions)
            }
            Part::Gateway(part) => vec![Edit::Gateway(part.id.clone(), Some(part))],
            Part::Sidecar(part) => vec![Edit::Sidecar(part.id.clone(), Some(part))],
            Part::MeshConfig(part) if part.namespace == self.settings.root_namespace => {
                let settings = part.over(&self.settings);
                let found = Edit::Found(part.id(), part.found(&settings));
                let mut edits = self.set(settings);
                edits.push(found);
                edits
            }
            Part::MeshConfig(part) => {
                vec![Edit::Found(part.id(), vec![part.elsewhere(&self.settings.root_namespace)])]
            }
            Part::Ingress(part) => self.ingresses.put(key, *part),
            Part::IngressClass(name, controller) => self.ingresses.put_class(key, name, controller),
            Part::Credential(part) => vec![Edit::Credential(part.id.clone(), Some(part))],
        };
        edits.extend(made);
        edits
    }

    /// An object is gone.
    pub fn take(&mut self, key: &K) -> Vec<Edit> {
        match self.kinds.remove(key) {
            None => Vec::new(),
            Some(Kind::Service) => {
                let mut edits = self.put_service(key.clone(), None);
                edits.extend(self.late.hush(key));
                edits
            }
            Some(Kind::Conditions) => self.late.hush(key),
            Some(Kind::Late(id, is_policy)) => {
                self.late.take(key);
                vec![if is_policy { Edit::InboundPolicy(id, None) } else { Edit::Route(id, None) }]
            }
            Some(Kind::Pod) => self.put_pod(key.clone(), None),
            Some(Kind::Node) => self.put_node(key.clone(), None),
            Some(Kind::Entry) => self.entries.put(key.clone(), None, &self.members),
            Some(Kind::Endpoints) => self.members.put_list(key.clone(), None),
            Some(Kind::Route(id)) => vec![Edit::Route(id, None)],
            Some(Kind::DestinationPolicy(id)) => vec![Edit::DestinationPolicy(id, None)],
            Some(Kind::InboundPolicy(id)) => vec![Edit::InboundPolicy(id, None)],
            Some(Kind::Gateway(id)) => vec![Edit::Gateway(id, None)],
            Some(Kind::Sidecar(id)) => vec![Edit::Sidecar(id, None)],
            Some(Kind::MeshConfig(id, holds)) => {
                let mut edits = if holds { self.set(self.settings.clone()) } else { Vec::new() };
                edits.push(Edit::Found(id, Vec::new()));
                edits
            }
            Some(Kind::IngressClass) => self.ingresses.take_class(key),
            Some(Kind::Ingress(id)) => {
                self.ingresses.take(key);
                vec![
                    Edit::Gateway(id.clone(), None),
                    Edit::Route(id.clone(), None),
                    Edit::Found(id, Vec::new()),
                ]
            }
            Some(Kind::Credential(id)) => vec![Edit::Credential(id, None)],
        }
    }

    /// The settings are these.
    fn set(&mut self, settings: Settings) -> Vec<Edit> {
        let mut edits = self.ingresses.set_control(&settings.ingress);
        edits.push(Edit::Settings(settings.into()));
        edits
    }

    /// A Service is this, or gone; an entry of its name counts while it is not there.
    fn put_service(&mut self, key: K, part: Option<ServicePart>) -> Vec<Edit> {
        let before = self.members.service_id(&key).cloned();
        let mut edits = self.members.put_service(key, part);
        edits.extend(before.iter().flat_map(|id| self.entries.service(id, &self.members)));
        edits
    }

    /// A pod is this, or gone; entries may have it for an endpoint.
    fn put_pod(&mut self, key: K, part: Option<PodPart>) -> Vec<Edit> {
        let before = self.members.pod(&key).cloned();
        let part = part.map(|part| self.members.settled(part));
        if before == part {
            return Vec::new();
        }
        let mut edits = self.members.put_pod(key, part.clone());
        let pods = before.iter().chain(&part);
        edits.extend(self.entries.after_change_of(pods.clone(), &self.members));
        let services = pods.flat_map(|pod| self.members.services_of(pod));
        edits.extend(Self::tell(&mut self.late, &self.members, services));
        edits
    }

    /// Tells those who ask for ports of Services where the pods of these have them.
    fn tell<'a>(
        late: &mut LateParts<K>,
        members: &Members<K>,
        services: impl Iterator<Item = (&'a K, &'a ServicePart)>,
    ) -> Vec<Edit>
    where
        K: 'a,
    {
        let mut edits = Vec::new();
        for (key, part) in services {
            if late.asks_for_ports_of(&part.place()) {
                edits.extend(late.put_pods(key, part.place(), members.pods_of(part)));
            }
        }
        edits
    }

    /// A node is this, or gone; its pods are where it is.
    fn put_node(&mut self, key: K, part: Option<NodePart>) -> Vec<Edit> {
        let pods = self.members.put_node(key, part);
        pods.into_iter().flat_map(|(key, part)| self.put_pod(key, Some(part))).collect()
    }

    /// The objects that have a part in the model.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.kinds.keys()
    }
}

impl Kind {
    fn of(part: &Part, settings: &Settings) -> Option<Self> {
        Some(match part {
            Part::Nothing => return None,
            Part::Service(_) => Self::Service,
            Part::Pod(_) => Self::Pod,
            Part::Node(_) => Self::Node,
            Part::Endpoints(_) => Self::Endpoints,
            Part::Entry(_) => Self::Entry,
            Part::Route(part) => Self::Route(part.route.id.clone()),
            Part::Late(part) => {
                Self::Late(part.id().clone(), matches!(**part, Late::ToTargets(..)))
            }
            Part::DestinationPolicy(part) => Self::DestinationPolicy(part.policy.id.clone()),
            Part::InboundPolicy(part) => Self::InboundPolicy(part.policy.id.clone()),
            Part::MeshPolicy(part) => {
                let namespace = settings.root_namespace.clone();
                Self::InboundPolicy(ObjectId { namespace, ..part.policy.id.clone() })
            }
            Part::Conditions(..) => Self::Conditions,
            Part::Gateway(part) => Self::Gateway(part.id.clone()),
            Part::Credential(part) => Self::Credential(part.id.clone()),
            Part::Ingress(part) => Self::Ingress(part.gateway.id.clone()),
            Part::IngressClass(..) => Self::IngressClass,
            Part::Sidecar(part) => Self::Sidecar(part.id.clone()),
            Part::MeshConfig(part) => {
                Self::MeshConfig(part.id(), part.namespace == settings.root_namespace)
            }
        })
    }
}

#[cfg(test)]
mod tests;
