//! Policies and limits of what enters a workload.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{LinkedApplies, View};
use crate::group::{Group, GroupKey, GroupPolicy};
use crate::name::{Labels, ServiceId};
use crate::policy::{Distribution, InboundMode, InboundPolicy, MtlsMode, Policy, TrafficPolicy};
use crate::resource::{Applies, InboundPort, ResolutionKey, Target};
use crate::service::{Discovery, Service};

/// The policies that a workload is under, the narrowest first.
#[derive(Clone, Debug, Default)]
pub struct InboundPolicies(Arc<[Arc<Policy>]>);

impl InboundPolicies {
    /// What they say of a port of it; `None`: nothing, so that the settings do.
    pub fn said(&self, port: u16, labels: &Labels) -> Option<InboundMode<'_>> {
        InboundPolicy::mode(|| self.iter(), port, labels)
    }

    /// The ports of which they say something of their own, in order.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.iter().flat_map(|policy| &policy.parts).filter_map(|part| part.port).collect()
    }

    fn iter(&self) -> impl Iterator<Item = &InboundPolicy> {
        self.0.iter().filter_map(|policy| match &**policy {
            Policy::Inbound(policy) => Some(policy),
            Policy::Destination(_) => None,
        })
    }
}

impl Hash for InboundPolicies {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.iter().for_each(|policy| policy.hash(state));
    }
}

impl View {
    /// What the workload takes at a port where this applies.
    pub fn inbound_mode(&self, applies: &LinkedApplies, port: u16) -> MtlsMode {
        let labels = self.caller.as_ref().map(|own| own.labels.clone()).unwrap_or_default();
        let said = applies.inbound.said(port, &labels);
        said.map_or(self.settings.mtls_mode, |said| said.mtls)
    }

    /// The inbound policies that a resolution names, as far as they are held.
    pub(super) fn inbound_policies(&self, applies: &Applies) -> InboundPolicies {
        let policies = applies.inbound_policies.iter().filter_map(|id| self.policy(id));
        InboundPolicies(policies.cloned().collect())
    }

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
