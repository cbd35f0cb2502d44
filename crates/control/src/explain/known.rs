//! How the endpoints of a decision stand with the real proxy, asked of it.

use std::collections::HashMap;
use std::net::SocketAddr;

use ironmesh_dialects::object::value as object;
use ironmesh_model::group::{GroupKey, MemberReport};
use ironmesh_model::{Decision, Group, Tick};

use super::proxy::Proxy;
use crate::api::mesh::EndpointState;
use crate::plane::{Plane, endpoints};

/// The moment of an explanation, for its groups.
pub(super) const NOW: Tick = Tick(1);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    members: HashMap<(GroupKey, SocketAddr), MemberReport>,
    /// Why nothing is, if something was asked.
    pub(super) not_known: Option<String>,
}

impl Known {
    /// Asks the proxy of a pod about the groups of a decision, and has these pick as the proxy's do:
    /// among the addresses that it has found for names, and without those that it has ejected.
    pub(super) async fn ask(plane: &Plane, proxy: &mut Proxy<'_>, decision: &Decision) -> Self {
        let groups: Vec<&Group> = decision
            .backends()
            .into_iter()
            .flatten()
            .chain(decision.backend())
            .filter_map(|backend| backend.group.as_deref().ok())
            .collect();
        if groups.is_empty() {
            return Self::default();
        }
        let mut hosts: Vec<String> =
            groups.iter().map(|group| group.key.service.hostname.to_string()).collect();
        hosts.sort();
        hosts.dedup();
        let told = match plane.mesh.server.ask(object::uid(proxy.pod), hosts).await {
            Ok(told) => told,
            Err(error) => {
                return Self { not_known: Some(error.to_string()), ..Self::default() };
            }
        };
        let mut known = Self::default();
        for report in told.groups {
            proxy.take_answers(&report);
            let same = groups.iter().filter(|group| group.key == report.key);
            same.for_each(|group| group.adopt(&report, NOW));
            let members = report.members.into_iter();
            known.members.extend(members.map(|m| ((report.key.clone(), m.address), m)));
        }
        known
    }

    /// How an endpoint of a group stands.
    pub(super) fn state(&self, group: &Group, address: SocketAddr) -> Option<EndpointState> {
        self.members.get(&(group.key.clone(), address)).map(endpoints::state)
    }
}
