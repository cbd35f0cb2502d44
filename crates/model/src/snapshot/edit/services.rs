//! Changes of services and their endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::count;
use crate::chunk::{Chunk, Chunked};
use crate::name::{Labels, Name, ServiceId};
use crate::resource::EVERY_PORT;
use crate::service::{Endpoint, EndpointAddress, PortTls, Service, UpstreamTls, Workload};
use crate::snapshot::cell::{Name as Cell, Touched};
use crate::snapshot::inbound::Takes;
use crate::snapshot::index::{Aged, EndpointEntry, Index, ServiceEntry};
use crate::snapshot::{Reach, check};

impl Index {
    pub(super) fn edit_service(
        &mut self,
        id: &ServiceId,
        service: Option<(Box<Service>, Reach)>,
        touched: &mut Touched,
    ) {
        let before = self.services.get(id).cloned();
        let after = service.map(|(mut service, reach)| {
            let endpoints = before.as_ref().map(|b| b.endpoints.clone()).unwrap_or_default();
            service.endpoint_chunks = endpoints.chunks_below(Chunk::WHOLE);
            Arc::new(ServiceEntry { service: Arc::new(*service), reach, endpoints })
        });
        let told = |entry: &Arc<ServiceEntry>| (entry.service.clone(), entry.reach.clone());
        if before.as_ref().map(told) == after.as_ref().map(told) {
            return;
        }
        touched.touch(Cell::Service(id));
        let entries = before.iter().chain(&after);
        touched.objects.extend(entries.map(|entry| check::object_of(&entry.service)));
        if before.is_none() || after.is_none() {
            touched.touch(Cell::Chunks(id));
            touched.touch(Cell::Services);
            touched.touch(Cell::Endpoints(id, Chunk::WHOLE));
            touched.touch(Cell::AllEndpoints(id));
        }
        let age = |entry: &Arc<ServiceEntry>| entry.reach.created;
        let same_age = before.as_ref().map(age) == after.as_ref().map(age);
        if let Some(before) = &before {
            self.index_service(before, false, touched);
            if !same_age {
                self.index_all_endpoints(before, false, touched);
            }
            self.services.remove(id);
        }
        if let Some(after) = after {
            self.index_service(&after, true, touched);
            if !same_age {
                self.index_all_endpoints(&after, true, touched);
            }
            self.services.insert(id.clone(), after);
        } else if let Some(before) = before {
            for chunk in before.endpoints.chunks_below(Chunk::WHOLE) {
                touched.touch(Cell::Endpoints(id, chunk));
            }
        }
    }

    fn index_service(&mut self, entry: &ServiceEntry, on: bool, touched: &mut Touched) {
        let service = &entry.service;
        let aged = entry.aged();
        let host = &service.id.hostname;
        touched.touch(Cell::ServicesOfHost(host));
        if on {
            self.services_by_host.insert(host.clone(), aged.clone());
        } else {
            self.services_by_host.remove(host, &aged);
        }
        for address in &service.addresses {
            touched.touch(Cell::ServicesAt(*address));
            if on {
                self.services_by_address.insert(*address, aged.clone());
            } else {
                self.services_by_address.remove(address, &aged);
            }
        }
        for network in &entry.reach.networks {
            touched.touch(Cell::Networks);
            if on {
                self.services_by_network.insert(*network, aged.clone());
            } else {
                self.services_by_network.remove(network, &aged);
            }
        }
        if entry.is_anywhere() {
            for port in service.ports.iter().filter(|port| !port.protocol.is_http()) {
                touched.touch(Cell::ServicesAnywhere(port.number));
                if on {
                    self.services_anywhere.insert(port.number, aged.clone());
                } else {
                    self.services_anywhere.remove(&port.number, &aged);
                }
            }
        }
    }

    fn index_all_endpoints(&mut self, entry: &ServiceEntry, on: bool, touched: &mut Touched) {
        for endpoint in entry.endpoints.iter() {
            self.index_endpoint(entry.aged(), &endpoint.given, on, touched);
        }
    }

    fn index_endpoint(
        &mut self,
        service: Aged<ServiceId>,
        endpoint: &Endpoint,
        on: bool,
        touched: &mut Touched,
    ) {
        let namespace = &endpoint.workload.namespace;
        count(&mut self.services_by_endpoint_namespace, namespace, service.id.clone(), on);
        let EndpointAddress::Ip(ip) = endpoint.address else { return };
        touched.touch(Cell::EndpointsAt(ip));
        let at = (service, endpoint.id.clone());
        if on {
            self.endpoints_by_ip.insert(ip, at);
        } else {
            self.endpoints_by_ip.remove(&ip, &at);
        }
    }

    pub(super) fn edit_endpoints(
        &mut self,
        id: &ServiceId,
        endpoints: Vec<Endpoint>,
        touched: &mut Touched,
    ) {
        let Some(entry) = self.services.get(id) else { return };
        let mut changes: BTreeMap<Name, Option<Endpoint>> =
            entry.endpoints.iter().map(|own| (own.given.id.clone(), None)).collect();
        changes.extend(endpoints.into_iter().map(|own| (own.id.clone(), Some(own))));
        for (endpoint_id, endpoint) in changes {
            self.edit_endpoint(id, &endpoint_id, endpoint, touched);
        }
    }

    pub(super) fn edit_endpoint(
        &mut self,
        id: &ServiceId,
        endpoint_id: &Name,
        endpoint: Option<Endpoint>,
        touched: &mut Touched,
    ) {
        let Some(entry) = self.services.get(id).cloned() else { return };
        let before = entry.endpoints.get(endpoint_id).cloned();
        let after = endpoint.map(|endpoint| {
            let given = Arc::new(endpoint);
            EndpointEntry { seen: self.endpoint_seen(&given), given }
        });
        if before == after {
            return;
        }
        let place = |e: &EndpointEntry| {
            (e.given.address.clone(), e.given.ports.clone(), e.given.workload.namespace.clone())
        };
        if before.as_ref().map(place) != after.as_ref().map(place) {
            if let Some(before) = &before {
                self.index_endpoint(entry.aged(), &before.given, false, touched);
            }
            if let Some(after) = &after {
                self.index_endpoint(entry.aged(), &after.given, true, touched);
            }
        }
        let mut endpoints = entry.endpoints.clone();
        match after {
            Some(after) => endpoints.insert(after),
            None => {
                endpoints.remove(endpoint_id);
            }
        }
        self.replace_endpoints(&entry, endpoints, endpoint_id, touched);
    }

    /// Gives a service endpoints that differ in one, and touches the chunks that this moves.
    fn replace_endpoints(
        &mut self,
        entry: &ServiceEntry,
        endpoints: Chunked<EndpointEntry>,
        changed: &str,
        touched: &mut Touched,
    ) {
        let id = &entry.service.id;
        touched.touch(Cell::AllEndpoints(id));
        let (before, _) = entry.endpoints.leaf_of(changed);
        let (after, _) = endpoints.leaf_of(changed);
        let mut service = entry.service.clone();
        if before == after {
            touched.touch(Cell::Endpoints(id, after));
        } else {
            // One of them is a part of the other.
            let wider = before.min(after);
            let were = entry.endpoints.chunks_below(wider);
            for chunk in were.into_iter().chain(endpoints.chunks_below(wider)) {
                touched.touch(Cell::Endpoints(id, chunk));
            }
            touched.touch(Cell::Chunks(id));
            let endpoint_chunks = endpoints.chunks_below(Chunk::WHOLE);
            service = Arc::new(Service { endpoint_chunks, ..(*service).clone() });
        }
        let entry = ServiceEntry { service, reach: entry.reach.clone(), endpoints };
        self.services.insert(id.clone(), Arc::new(entry));
    }

    /// An endpoint as callers see it: one that takes mutual TLS does so as its policies say.
    fn endpoint_seen(&self, given: &Arc<Endpoint>) -> Arc<Endpoint> {
        let serves = |port| given.ports.iter().any(|map| map.target == port);
        match self.tls_seen(&given.tls, &given.workload.namespace, &given.labels, serves) {
            Some((tls, tls_at)) => Arc::new(Endpoint { tls, tls_at, ..(**given).clone() }),
            None => given.clone(),
        }
    }

    /// A workload as callers see it.
    pub(super) fn workload_seen(&self, given: &Arc<Workload>) -> Arc<Workload> {
        match self.tls_seen(&given.tls, &given.id.namespace, &given.labels, |_| true) {
            Some((tls, tls_at)) => Arc::new(Workload { tls, tls_at, ..(**given).clone() }),
            None => given.clone(),
        }
    }

    /// How callers speak to a workload that is to be spoken to like this unless policies turn that off,
    /// and at which of the ports that it serves they do otherwise; `None`: like this everywhere.
    fn tls_seen(
        &self,
        given: &UpstreamTls,
        namespace: &str,
        labels: &Labels,
        serves: impl Fn(u16) -> bool,
    ) -> Option<(UpstreamTls, Vec<PortTls>)> {
        if !given.is_encrypted() {
            return None;
        }
        let takes = Takes::of(self, namespace, labels);
        let everywhere = takes.mutual_tls_at(EVERY_PORT);
        let others = takes.ports().into_iter().filter(|port| serves(*port));
        let others = others.filter(|port| takes.mutual_tls_at(*port) != everywhere);
        let tls = |takes: bool| if takes { given.clone() } else { UpstreamTls::None };
        let tls_at: Vec<PortTls> =
            others.map(|port| PortTls { port, tls: tls(!everywhere) }).collect();
        (!everywhere || !tls_at.is_empty()).then(|| (tls(everywhere), tls_at))
    }

    /// Looks at the workloads and endpoints in a namespace, or at all of them, after policies
    /// changed.
    pub(super) fn look_again_at_members(
        &mut self,
        namespace: Option<&Name>,
        touched: &mut Touched,
    ) {
        let (services, workloads): (Vec<ServiceId>, Vec<IpAddr>) = match namespace {
            Some(namespace) => {
                let of_namespace = self.services_by_endpoint_namespace.get(namespace).into_iter();
                let services = of_namespace.flat_map(|s| s.iter()).map(|(id, _)| id.clone());
                (services.collect(), self.workloads_in.of(namespace).to_vec())
            }
            None => (
                self.services.iter().map(|(id, _)| id.clone()).collect(),
                self.workloads.iter().map(|(ip, _)| *ip).collect(),
            ),
        };
        for ip in workloads {
            if let Some(entry) = self.workloads.get(&ip)
                && self.workload_seen(&entry.given) != entry.seen
            {
                let given = Box::new((*entry.given).clone());
                self.edit_workload(ip, Some(given), touched);
            }
        }
        for id in services {
            let Some(entry) = self.services.get(&id) else { continue };
            let differ: Vec<Arc<Endpoint>> = entry
                .endpoints
                .iter()
                .filter(|own| namespace.is_none_or(|n| own.given.workload.namespace == *n))
                .filter(|own| self.endpoint_seen(&own.given) != own.seen)
                .map(|own| own.given.clone())
                .collect();
            for endpoint in differ {
                let endpoint_id = endpoint.id.clone();
                self.edit_endpoint(&id, &endpoint_id, Some((*endpoint).clone()), touched);
            }
        }
    }
}
