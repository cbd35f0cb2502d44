//! Endpoints that are names: which there are in a view, and what they stand for.
//!
//! A proxy has them resolved ([`View::names`], [`View::with_answer`]); in a view nobody resolved any
//! for, such endpoints are not there.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;

use super::{Body, View};
use crate::group::Group;
use crate::name::{Name, ServiceId};
use crate::resource::{Resource, ResourceKey};
use crate::service::{Discovery, Endpoint, EndpointAddress, Endpoints};
use crate::shared_map::SharedMap;

/// The names of a view.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// With the services that have endpoints of this name, once for each.
    used: SharedMap<Name, Arc<[ServiceId]>>,
    /// What they stand for, in the order of the answer.
    answers: SharedMap<Name, Arc<[IpAddr]>>,
}

/// Endpoints as groups have them.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    /// Whether there is a name of which nobody knows what it stands for.
    unresolved: bool,
}

impl Found {
    /// Gives a group these endpoints.
    pub(super) fn give_to(&self, group: &Group) {
        group.set_members(self.endpoints.iter());
        group.set_unresolved(self.unresolved);
    }
}

impl Names {
    /// Adds an endpoint for each address for which its name stands.
    pub(super) fn add_endpoints(
        &self,
        name: &Name,
        endpoint: &Endpoint,
        discovery: Discovery,
        found: &mut Found,
    ) {
        let Some(addresses) = self.answers.get(name) else {
            found.unresolved = true;
            return;
        };
        let most = match discovery {
            Discovery::FirstAddress => 1,
            Discovery::Endpoints | Discovery::Dialled | Discovery::Named => usize::MAX,
        };
        found.endpoints.extend(addresses.iter().take(most).map(|ip| {
            let id = format!("{}/{ip}", endpoint.id).into();
            Arc::new(Endpoint { id, address: EndpointAddress::Ip(*ip), ..endpoint.clone() })
        }));
    }

    fn count(&mut self, chunk: &Endpoints, on: bool) {
        for endpoint in &chunk.endpoints {
            let EndpointAddress::Dns(name) = &endpoint.address else { continue };
            let mut services = self.used.get(name).map(|s| s.to_vec()).unwrap_or_default();
            match services.iter().position(|id| *id == chunk.service) {
                _ if on => services.push(chunk.service.clone()),
                Some(at) => _ = services.swap_remove(at),
                None => {}
            }
            if services.is_empty() {
                self.used.remove(name);
            } else {
                self.used.insert(name.clone(), services.into());
            }
        }
    }
}

impl View {
    /// The names of endpoints that it holds, in no order.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.names.used.iter().map(|(name, _)| name)
    }

    /// The names of the endpoints of a service that it holds, each once, in order.
    pub fn names_of(&self, service: &ServiceId) -> Vec<Name> {
        let all = self.names.used.iter().filter(|(_, services)| services.contains(service));
        let mut names: Vec<Name> = all.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// What a name of an endpoint stands for, if it is known.
    pub fn answer(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.answers.get(name).map(|addresses| &**addresses)
    }

    /// The next view, in which a name of endpoints stands for these addresses, in this order. `None`: it
    /// is not known for which.
    #[must_use]
    pub fn with_answer(&self, name: &Name, addresses: Option<&[IpAddr]>) -> Self {
        let mut next = self.clone();
        match addresses {
            Some(addresses) => _ = next.names.answers.insert(name.clone(), addresses.into()),
            None => _ = next.names.answers.remove(name),
        };
        next.endpoint_changes += 1;
        let services = next.names.used.get(name).map(|services| services.to_vec());
        let services: HashSet<ServiceId> = services.unwrap_or_default().into_iter().collect();
        next.refresh_groups(&services);
        next
    }

    /// Takes the names of a chunk that changes out, and those that it has now in.
    pub(super) fn replace_names(&mut self, key: &ResourceKey, body: &Body) {
        if let Some(Resource::Endpoints(before)) =
            self.held.get(key).and_then(|held| held.resource.clone())
        {
            self.names.count(&before, false);
        }
        if let Body::Is(Resource::Endpoints(now)) = body {
            self.names.count(now, true);
        }
    }
}
