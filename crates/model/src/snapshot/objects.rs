//! Objects as lists, and as the edits that make them.

use super::{
    DestinationPolicySource, Edit, GatewaySource, InboundPolicySource, Objects, RouteSource,
    ServiceSource, SidecarSource,
};
use crate::credential::CredentialSource;
use crate::name::ServiceId;

impl Objects {
    /// The edits that make a snapshot of these objects from none.
    pub fn into_edits(self) -> Vec<Edit> {
        let mut edits = vec![Edit::Settings(self.settings.into())];
        // Before the services, whose endpoints listen as these say.
        let source = |source: InboundPolicySource| {
            Edit::InboundPolicy(source.policy.id.clone(), Some(source.into()))
        };
        edits.extend(self.inbound_policies.into_iter().map(source));
        for ServiceSource { service, endpoints, reach } in self.services {
            let id = service.id.clone();
            edits.push(Edit::Service(id.clone(), Some((service.into(), reach))));
            edits.push(Edit::Endpoints(id, endpoints));
        }
        let mut workloads = self.workloads;
        workloads.sort_by(|(a, x), (b, y)| (a, &x.id).cmp(&(b, &y.id)));
        edits.extend(workloads.into_iter().map(|(ip, w)| Edit::Workload(ip, Some(w.into()))));
        let source =
            |source: RouteSource| Edit::Route(source.route.id.clone(), Some(source.into()));
        edits.extend(self.routes.into_iter().map(source));
        let source = |source: DestinationPolicySource| {
            Edit::DestinationPolicy(source.policy.id.clone(), Some(source.into()))
        };
        edits.extend(self.destination_policies.into_iter().map(source));
        let source = |source: GatewaySource| Edit::Gateway(source.id.clone(), Some(source.into()));
        edits.extend(self.gateways.into_iter().map(source));
        let source =
            |source: CredentialSource| Edit::Credential(source.id.clone(), Some(source.into()));
        edits.extend(self.credentials.into_iter().map(source));
        let source = |source: SidecarSource| Edit::Sidecar(source.id.clone(), Some(source.into()));
        edits.extend(self.sidecars.into_iter().map(source));
        edits.extend(self.found.into_iter().map(|(id, found)| Edit::Found(id, found)));
        edits
    }

    /// Applies a change. What is new comes last, so that a list keeps the order in which its
    /// objects came.
    pub fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Settings(settings) => self.settings = *settings,
            Edit::Service(id, told) => {
                let endpoints = self.service_mut(&id).map(|s| std::mem::take(&mut s.endpoints));
                let source = told.map(|(service, reach)| {
                    let endpoints = endpoints.unwrap_or_default();
                    ServiceSource { service: *service, endpoints, reach }
                });
                put(&mut self.services, source, |own| own.service.id == id);
            }
            Edit::Endpoints(id, mut endpoints) => {
                endpoints.sort_by(|a, b| a.id.cmp(&b.id));
                if let Some(service) = self.service_mut(&id) {
                    service.endpoints = endpoints;
                }
            }
            Edit::Endpoint(id, endpoint_id, endpoint) => {
                if let Some(service) = self.service_mut(&id) {
                    let endpoint = endpoint.map(|endpoint| *endpoint);
                    put(&mut service.endpoints, endpoint, |own| own.id == endpoint_id);
                    service.endpoints.sort_by(|a, b| a.id.cmp(&b.id));
                }
            }
            Edit::Workload(ip, workload) => {
                let workload = workload.map(|workload| (ip, *workload));
                put(&mut self.workloads, workload, |(own, _)| *own == ip);
                self.workloads.sort_by_key(|(ip, _)| *ip);
            }
            Edit::Route(id, source) => {
                put(&mut self.routes, source.map(|s| *s), |own| own.route.id == id);
            }
            Edit::DestinationPolicy(id, source) => {
                put(&mut self.destination_policies, source.map(|s| *s), |own| own.policy.id == id);
            }
            Edit::InboundPolicy(id, source) => {
                put(&mut self.inbound_policies, source.map(|s| *s), |own| own.policy.id == id);
            }
            Edit::Gateway(id, source) => {
                put(&mut self.gateways, source.map(|s| *s), |own| own.id == id);
            }
            Edit::Credential(id, source) => {
                put(&mut self.credentials, source.map(|s| *s), |own| own.id == id);
            }
            Edit::Sidecar(id, source) => {
                put(&mut self.sidecars, source.map(|s| *s), |own| own.id == id);
            }
            Edit::Found(id, found) => {
                let found = (!found.is_empty()).then(|| (id.clone(), found));
                put(&mut self.found, found, |(own, _)| *own == id);
            }
        }
    }

    fn service_mut(&mut self, id: &ServiceId) -> Option<&mut ServiceSource> {
        self.services.iter_mut().find(|own| own.service.id == *id)
    }
}

/// Replaces the element of a list of which `is_it` holds, or adds it; `None` takes it out.
fn put<T>(list: &mut Vec<T>, element: Option<T>, is_it: impl Fn(&T) -> bool) {
    match (list.iter().position(is_it), element) {
        (Some(at), Some(element)) => list[at] = element,
        (Some(at), None) => {
            list.remove(at);
        }
        (None, Some(element)) => list.push(element),
        (None, None) => {}
    }
}
