//! Who called and what was called, as numbers of interned labels. One cache per worker, so that a
//! request costs a few hash lookups and no lock.

use std::cell::RefCell;
use std::sync::Arc;

use hashbrown::HashMap;
use ironmesh_model::service::{Endpoint, Workload, canonical_revision, canonical_service};
use ironmesh_model::view::LinkedBackend;
use ironmesh_model::{Identity, Labels, Name, WorkloadId};
use ironmesh_telemetry::{Interned, Party, PartyId, Registry, ServiceLabels, ServiceLabelsId};

use crate::workload::LocalWorkload;

/// The numbers that a worker has asked for.
#[derive(Debug)]
pub(crate) struct Parties {
    registry: Arc<Registry>,
    /// By uid of the workload: those whose identity was not proved, and those whose was.
    workloads: [RefCell<HashMap<Name, Known>>; 2],
    services: RefCell<HashMap<Name, Interned<ServiceLabels>>>,
    /// Entries of each.
    known_max: usize,
}

/// A workload as it was when its number was asked for.
#[derive(Debug)]
struct Known {
    /// Those of a running pod may change.
    labels: Labels,
    party: Interned<Party>,
}

impl Parties {
    pub(crate) fn new(registry: Arc<Registry>, known_max: usize) -> Self {
        Self { registry, workloads: Default::default(), services: RefCell::default(), known_max }
    }

    /// Forgets all numbers, so that labels that no series has can be forgotten, too.
    pub(crate) fn forget(&self) {
        self.workloads.iter().for_each(|workloads| workloads.borrow_mut().clear());
        self.services.borrow_mut().clear();
    }

    /// A workload that this proxy serves; `proved`: by mutual TLS to the other side.
    pub(crate) fn local(&self, own: &LocalWorkload, proved: bool) -> PartyId {
        let labels = &own.local.load().labels;
        self.workload(&own.id.uid, labels, proved, || {
            let identity = own.credentials.load().as_ref().map(|c| c.identity().clone());
            party(&own.id, &own.owner, labels, identity)
        })
    }

    /// The endpoint of a service.
    pub(crate) fn endpoint(&self, endpoint: &Endpoint, proved: bool) -> PartyId {
        self.workload(&endpoint.workload.uid, &endpoint.labels, proved, || {
            let identity = endpoint.identity().cloned();
            party(&endpoint.workload, &endpoint.owner, &endpoint.labels, identity)
        })
    }

    /// A workload of which the address is known: a caller, or one that was dialled by it.
    pub(crate) fn known(&self, workload: &Workload, proved: bool) -> PartyId {
        self.workload(&workload.id.uid, &workload.labels, proved, || {
            party(&workload.id, &workload.owner, &workload.labels, Some(workload.identity.clone()))
        })
    }

    /// A caller of whom only the identity is known.
    pub(crate) fn stranger(&self, identity: &Identity) -> PartyId {
        let principal = Some(identity.clone());
        let namespace = Some(identity.namespace.clone());
        self.registry.party(&Party { principal, namespace, ..Party::default() }).id()
    }

    /// The service of a backend. One of which nothing is known is not remembered: it may be later.
    pub(crate) fn backend(&self, backend: &LinkedBackend) -> ServiceLabelsId {
        let labels = |name, namespace| ServiceLabels {
            host: Some(backend.host.clone()),
            name: Some(name),
            namespace,
        };
        match &backend.group {
            Ok(group) => self.service(&backend.host, || {
                let policy = group.policy();
                let service = &policy.service;
                labels(service.name.clone(), Some(service.id.namespace.clone()))
            }),
            Err(_) => self.registry.service(&labels(first_label(&backend.host), None)).id(),
        }
    }

    /// The service of a workload that this proxy serves.
    pub(crate) fn inbound(
        &self,
        own: &LocalWorkload,
        service: Option<&ironmesh_model::service::Service>,
    ) -> ServiceLabelsId {
        let labels = &own.local.load().labels;
        let canonical = || canonical_service(labels).unwrap_or(&own.owner);
        let host =
            service.map_or_else(|| canonical().into(), |service| service.id.hostname.clone());
        self.service(&host, || ServiceLabels {
            host: Some(host.clone()),
            name: Some(service.map_or_else(|| canonical().into(), |s| s.name.clone())),
            namespace: Some(own.id.namespace.clone()),
        })
    }

    /// Traffic that is for no service.
    ///
    /// The host is the client's word and no label, since there may be any number of them.
    pub(crate) fn no_service(&self, name: &'static str) -> ServiceLabelsId {
        let key: Name = name.into();
        self.service(&key, || ServiceLabels {
            host: Some(name.into()),
            name: Some(name.into()),
            namespace: None,
        })
    }

    fn workload(
        &self,
        uid: &Name,
        labels: &Labels,
        proved: bool,
        party: impl FnOnce() -> Party,
    ) -> PartyId {
        let workloads = &self.workloads[usize::from(proved)];
        if let Some(known) = workloads.borrow().get(uid).filter(|known| known.labels == *labels) {
            return known.party.id();
        }
        let mut party = party();
        if !proved {
            party.principal = None;
        }
        let party = self.registry.party(&party);
        let id = party.id();
        let known = Known { labels: labels.clone(), party };
        remember(&mut workloads.borrow_mut(), self.known_max, uid.clone(), known);
        id
    }

    fn service(&self, host: &Name, labels: impl FnOnce() -> ServiceLabels) -> ServiceLabelsId {
        if let Some(known) = self.services.borrow().get(host) {
            return known.id();
        }
        let service = self.registry.service(&labels());
        let id = service.id();
        remember(&mut self.services.borrow_mut(), self.known_max, host.clone(), service);
        id
    }
}

/// Begins again rather than grow without end: everything can be asked for again.
fn remember<K: std::hash::Hash + Eq, V>(cache: &mut HashMap<K, V>, max: usize, key: K, value: V) {
    if cache.len() >= max {
        cache.clear();
    }
    cache.insert(key, value);
}

fn party(id: &WorkloadId, owner: &Name, labels: &Labels, principal: Option<Identity>) -> Party {
    let label = |name: &str| labels.0.get(name).cloned();
    Party {
        workload: Some(owner.clone()),
        namespace: Some(id.namespace.clone()),
        principal,
        app: label("app"),
        version: label("version"),
        cluster: Some(id.cluster.clone()),
        canonical_service: Some(
            canonical_service(labels).map_or_else(|| owner.clone(), Name::from),
        ),
        canonical_revision: Some(canonical_revision(labels).into()),
    }
}

fn first_label(host: &str) -> Name {
    host.split('.').next().unwrap_or(host).into()
}
