//! Limits of what enters a workload.

use std::sync::Arc;

use super::View;
use crate::group::{Group, GroupKey, GroupPolicy};
use crate::name::ServiceId;
use crate::policy::Distribution;
use crate::policy::TrafficPolicy;
use crate::resource::{InboundPort, ResolutionKey, Target};
use crate::service::{Discovery, Service};

impl View {
    /// What counts what enters a workload at a port, if there are limits.
    pub(super) fn inbound_group(
        &mut self,
        of: &ResolutionKey,
        port: &InboundPort,
    ) -> Option<Arc<Group>> {
        let Target::Address(ip, _) = of.target else { return None };
        let key = ResolutionKey { target: Target::Address(ip, port.number), ..of.clone() };
        let Some(pool) = port.pool else {
            self.inbound_groups.remove(&key);
            return None;
        };
        let id = ServiceId { namespace: of.namespace.clone(), hostname: INBOUND.into() };
        let policy = GroupPolicy {
            near: None,
            service: Arc::new(Service {
                id: id.clone(),
                name: INBOUND.into(),
                addresses: Vec::new(),
                headless: false,
                distribution: Distribution::Any,
                certificate_names: Vec::new(),
                discovery: Discovery::Endpoints,
                ports: Vec::new(),
                endpoint_chunks: Vec::new(),
            }),
            protocol: port.protocol,
            selector: None,
            traffic: TrafficPolicy { pool: Some(pool), ..TrafficPolicy::default() },
        };
        if let Some(group) = self.inbound_groups.get(&key) {
            group.set_policy(policy);
            return Some(group.clone());
        }
        let group_key = GroupKey { service: id, port: port.number, subset: None };
        let group = Arc::new(Group::new(group_key, policy));
        self.inbound_groups.insert(key, group.clone());
        Some(group)
    }
}

/// The service of a group that counts what enters the workload itself.
const INBOUND: &str = "inbound";
