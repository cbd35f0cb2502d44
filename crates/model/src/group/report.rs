//! What a proxy tells of its groups: plain data, of one moment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Group, GroupKey, Member, Tick};
use crate::name::Name;

/// A group as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// Which one.
    pub key: GroupKey,
    /// What its limits count; `None`: it has none.
    pub usage: Option<GroupUsage>,
    /// Its endpoints, in order of their ids. Those that are not dialled directly are left out.
    pub members: Vec<MemberReport>,
}

/// What the limits of a group count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// Connections that are open.
    pub connections: u32,
    /// Requests that wait for one.
    pub waiting: u32,
}

/// An endpoint of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// Where it is dialled.
    pub address: SocketAddr,
    /// Namespace of its workload.
    pub namespace: Name,
    /// Name of its workload.
    pub workload: Name,
    /// Whether it takes requests.
    pub ready: bool,
    /// How long it gets none yet, since it failed too often; zero: it is not ejected.
    pub ejected_for: Duration,
    /// Failures one after the other, the last answer included; counted where endpoints may be ejected.
    pub failures_in_a_row: u32,
    /// Attempts that failed: by a 5xx, or without an answer.
    pub failures: u64,
    /// What is open to it; `None`: not known, since a worker has not told in time.
    pub load: Option<EndpointLoad>,
}

/// What a proxy has open to one endpoint. Groups without limits share their connections, so it is
/// the same in each of those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointLoad {
    /// Connections, idle ones included.
    pub connections: u32,
    /// Requests, and opaque connections, that are under way.
    pub requests: u32,
}

impl EndpointLoad {
    /// Adds what another worker has open.
    pub fn add(&mut self, other: Self) {
        self.connections = self.connections.saturating_add(other.connections);
        self.requests = self.requests.saturating_add(other.requests);
    }
}

impl Group {
    /// What is known of it now; `load`: what is open to a member.
    pub fn report(
        &self,
        now: Tick,
        load: impl Fn(SocketAddr, &Member) -> Option<EndpointLoad>,
    ) -> GroupReport {
        let (connections, waiting) = self.usage();
        let usage = self.pool().map(|_| GroupUsage { connections, waiting });
        let member = |member: &Member| {
            let (address, state) = (member.address()?, &member.state);
            Some(MemberReport {
                address,
                namespace: member.endpoint.workload.namespace.clone(),
                workload: member.endpoint.workload.name.clone(),
                ready: member.endpoint.ready,
                ejected_for: state.ejected_for(now),
                failures_in_a_row: state.failures(),
                failures: state.failed.load(Ordering::Relaxed),
                load: load(address, member),
            })
        };
        let members = self.members().all.iter().filter_map(|of| member(of)).collect();
        GroupReport { key: self.key.clone(), usage, members }
    }

    /// Takes over what a report tells of its endpoints, so that it picks as the one does that was
    /// reported about.
    pub fn adopt(&self, report: &GroupReport, now: Tick) {
        let told: HashMap<SocketAddr, &MemberReport> =
            report.members.iter().map(|told| (told.address, told)).collect();
        for member in &self.members().all {
            let Some(told) = member.address().and_then(|address| told.get(&address)) else {
                continue;
            };
            let until = if told.ejected_for.is_zero() { 0 } else { now.after(told.ejected_for).0 };
            member.state.ejected_until.store(until, Ordering::Relaxed);
            self.ejects_until.fetch_max(until, Ordering::Relaxed);
            member.state.failures.store(told.failures_in_a_row, Ordering::Relaxed);
            member.state.failed.store(told.failures, Ordering::Relaxed);
        }
    }
}
