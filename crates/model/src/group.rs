//! Groups: the endpoints of one port of a service, or of one subset of them, as one local workload
//! uses them (Envoy's cluster), and the state that outlives views.
//!
//! A route holds the handle of a group, never its endpoints: each [`Group::pick`] reads the members
//! of that moment. Nothing here reads a clock: time is an argument, asked for only where endpoints
//! may be ejected, and an ejection lapses by comparison.
//! Nothing here draws either: what is random about a pick follows from the draw of the request.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use smallvec::SmallVec;

use crate::draw::{Draw, Purpose};
use crate::host::covers_any_case;
use crate::name::{Labels, Name, ServiceId, WorkloadId};
use crate::policy::{Balance, Balancer, ConnectionPool, ProxyProtocol, TrafficPolicy};
use crate::reason::Reason;
use crate::retry::Retry;
use crate::service::{Discovery, Endpoint, EndpointAddress, Protocol, Service, UpstreamTls};

mod choose;
mod latency;
mod near;
mod outlier;
mod report;
mod stats;
mod table;
mod usage;

use choose::{By, Level};
use latency::Latency;
use near::{Ejecting, Ranks};

pub use near::Nearness;
pub use outlier::Noted;
pub use report::{EndpointLoad, GroupReport, GroupUsage, MemberReport};
pub use stats::{Counter, GroupStats, Statistic};
use usage::Usage;
pub use usage::{OpenConnection, Requesting, Retrying, Waiting};

/// Time since a moment that the proxy chose, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

impl Tick {
    fn after(self, duration: Duration) -> Self {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }
}

/// Which endpoints a group has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// The service.
    pub service: ServiceId,
    /// Port of the service.
    pub port: u16,
    /// The subset; `None`: all endpoints.
    pub subset: Option<Name>,
}

/// See the module.
#[derive(Debug)]
pub struct Group {
    /// Which endpoints it has.
    pub key: GroupKey,
    policy: ArcSwap<GroupPolicy>,
    members: ArcSwap<Members>,
    /// See [`Group::is_unresolved`].
    unresolved: AtomicBool,
    cursor: Padded<AtomicU64>,
    usage: Padded<Usage>,
    /// Held while an endpoint is ejected, so that the share of those stays within its limit.
    ejecting: Mutex<()>,
    /// Tick at which the last ejection ends.
    ejects_until: AtomicU64,
    stats: GroupStats,
}

/// What holds for a group now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPolicy {
    /// The service.
    pub service: Arc<Service>,
    /// Protocol that the port declares.
    pub protocol: Protocol,
    /// Labels that the subset selects by.
    pub selector: Option<Labels>,
    /// What the destination policies say.
    pub traffic: TrafficPolicy,
    /// Whether and how endpoints are preferred for being near; `None`: they are not.
    pub near: Option<Nearness>,
}

/// The endpoints of a group at one moment.
#[derive(Debug, Default)]
pub struct Members {
    /// All of them, in order of their ids.
    pub all: Box<[Arc<Member>]>,
    /// Indices of those that are ready.
    pub ready: Box<[u32]>,
    level: Level,
    /// The same by how near they are, where that makes a difference.
    ranks: Option<Ranks>,
    /// How one of them is chosen.
    balance: Option<Balance>,
    /// Which of them are preferred.
    near: Option<Nearness>,
}

/// An endpoint as a member of a group.
#[derive(Debug)]
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Port to dial.
    pub port: u16,
    /// How it is spoken to, under the policy of the group.
    pub tls: UpstreamTls,
    /// By which PROXY protocol it is told who calls, if at all.
    pub proxy_protocol: Option<ProxyProtocol>,
    state: Arc<EndpointState>,
}

/// A request that is under way at an endpoint, counted until this is dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<EndpointState>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Member {
    /// Counts a request, or an opaque connection, that is sent to it.
    pub fn begin(&self) -> UnderWay {
        self.state.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.state.clone())
    }

    /// Where it is dialled; `None` if only through what proxies cannot do yet.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(ip(&self.endpoint)?, self.port))
    }

    /// What is known of it.
    pub fn state(&self) -> &EndpointState {
        &self.state
    }
}

/// The address of an endpoint, if it is dialled directly.
pub fn ip(endpoint: &Endpoint) -> Option<IpAddr> {
    match endpoint.address {
        EndpointAddress::Ip(ip) => Some(ip),
        EndpointAddress::Dns(_) | EndpointAddress::Gateway(..) => None,
    }
}

/// What a group knows of one of its endpoints; kept while the endpoint keeps its id and address.
#[derive(Debug, Default)]
pub struct EndpointState {
    /// Tick at which its ejection ends; 0: it was never ejected.
    ejected_until: AtomicU64,
    /// Failures since the last success, or since the last of them that ejected it; counted where
    /// endpoints may be ejected.
    failures: AtomicU32,
    /// Those among them that were errors of a gateway, since the last other answer.
    gateway_failures: AtomicU32,
    /// Attempts without an answer since the last answer, where those are counted apart.
    local_failures: AtomicU32,
    /// All failures. Shared by the workers, who write it only when something has failed.
    failed: AtomicU64,
    /// Times that it was ejected, as far as it has not done well since.
    ejections: AtomicU32,
    /// Requests of all workers that are under way.
    under_way: AtomicU32,
    /// Tick at which it was first thought of where that matters, plus one; 0: never yet.
    since: AtomicU64,
    /// How long its answers take: microseconds, and the tick of the last.
    latency: Latency,
}

impl EndpointState {
    /// Whether it gets no requests for now.
    pub fn is_ejected(&self, now: Tick) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now.0
    }

    /// How long its ejection lasts yet; zero if it is not ejected.
    pub fn ejected_for(&self, now: Tick) -> Duration {
        let until = self.ejected_until.load(Ordering::Relaxed);
        Duration::from_millis(until.saturating_sub(now.0))
    }

    /// How long it has been there, from when that was first asked.
    fn age(&self, now: Tick) -> Duration {
        let first = now.0.saturating_add(1);
        let since = match self.since.load(Ordering::Relaxed) {
            0 => {
                match self.since.compare_exchange(0, first, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => first,
                    Err(other) => other,
                }
            }
            since => since,
        };
        Duration::from_millis(first.saturating_sub(since))
    }

    /// Requests of all workers that are under way.
    pub fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Failures one after the other, the last answer included.
    pub fn failures(&self) -> u32 {
        let local = self.local_failures.load(Ordering::Relaxed);
        self.failures.load(Ordering::Relaxed).max(local)
    }
}

/// Endpoints that were tried for one request and that it should not meet again. Most requests succeed
/// at once, so that it takes memory only then.
#[derive(Clone, Debug, Default)]
pub struct Tried(Option<Box<TriedMembers>>);

#[derive(Clone, Debug, Default)]
struct TriedMembers {
    members: SmallVec<[Arc<Member>; 2]>,
    leaves_localities: bool,
    meets_again: bool,
}

impl Tried {
    /// Notes one more, as the retries of the request ask for it.
    pub fn push(&mut self, member: Arc<Member>, retry: Option<&Retry>) {
        let tried = self.0.get_or_insert_default();
        tried.leaves_localities = retry.is_some_and(|retry| retry.leaves_localities);
        tried.meets_again = retry.is_some_and(|retry| !retry.avoids_tried);
        if !tried.has(&member) {
            tried.members.push(member);
        }
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |tried| tried.members.len())
    }

    /// Those of the attempts up to the last even one, where localities are left.
    fn in_left_localities(&self) -> &[Arc<Member>] {
        match &self.0 {
            Some(tried) if tried.leaves_localities => &tried.members[..tried.members.len() & !1],
            _ => &[],
        }
    }

    fn contains(&self, member: &Member) -> bool {
        self.0.as_ref().is_some_and(|tried| !tried.meets_again && tried.has(member))
    }
}

impl TriedMembers {
    fn has(&self, member: &Member) -> bool {
        self.members.iter().any(|tried| Arc::ptr_eq(&tried.state, &member.state))
    }
}

/// For whom an endpoint is picked.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Original destination of the connection.
    pub dialled: SocketAddr,
    /// Endpoints that were tried already.
    pub tried: &'a Tried,
    /// All chance in it.
    pub draw: Draw,
    /// Hash of what the request is known by, if it is known by something.
    pub hash: Option<u64>,
}

impl Members {
    /// In which rank an endpoint is of which some are preferred for being near: 0 for those that are
    /// asked first; `None` if it gets no requests from this caller.
    pub fn rank(&self, member: &Member) -> Option<u32> {
        let Some(ranks) = &self.ranks else { return Some(0) };
        let is = |own: &Arc<Member>| Arc::ptr_eq(&own.state, &member.state);
        let index = self.all.iter().position(is)?;
        ranks.rank_of(u32::try_from(index).ok()?)
    }
}

impl Group {
    /// A group without members.
    pub(crate) fn new(key: GroupKey, policy: GroupPolicy) -> Self {
        Self {
            key,
            policy: ArcSwap::from_pointee(policy),
            members: ArcSwap::default(),
            unresolved: AtomicBool::new(false),
            cursor: Padded::default(),
            usage: Padded::default(),
            ejecting: Mutex::new(()),
            ejects_until: AtomicU64::new(0),
            stats: GroupStats::default(),
        }
    }

    /// What holds for it at this moment. Cheap; not to be held over an await.
    pub fn policy(&self) -> Guard<Arc<GroupPolicy>> {
        self.policy.load()
    }

    /// Its endpoints at this moment. Cheap; not to be held over an await.
    pub fn members(&self) -> Guard<Arc<Members>> {
        self.members.load()
    }

    /// Whether it has an endpoint that is a name of which nobody knows yet what it stands for. Who
    /// finds no endpoint waits for that.
    pub fn is_unresolved(&self) -> bool {
        self.unresolved.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unresolved(&self, unresolved: bool) {
        self.unresolved.store(unresolved, Ordering::Relaxed);
    }

    /// The name that is resolved for what names this host, where connections go to the name that they
    /// name. `None`: they do not, or it is no host of the service.
    pub fn named(&self, host: Option<&str>) -> Option<Name> {
        let policy = self.policy.load();
        if policy.service.discovery != Discovery::Named {
            return None;
        }
        let own = &policy.service.id.hostname;
        match host {
            _ if !own.starts_with('*') => Some(own.clone()),
            Some(host) if covers_any_case(own, host) => Some(host.to_ascii_lowercase().into()),
            Some(_) | None => None,
        }
    }

    /// A host that a client names and that is at these addresses now, at one of them, as an endpoint (see
    /// [`Group::named`]). Another attempt gets another one. It belongs to the one request alone: nothing
    /// is remembered of it.
    pub fn member_named(
        &self,
        name: &Name,
        addresses: &[IpAddr],
        ask: &Ask<'_>,
    ) -> Option<Arc<Member>> {
        let count = addresses.len() as u64;
        let first = (count > 0).then(|| ask.draw.choose(Purpose::Endpoint, 0, count))?;
        let at = usize::try_from(first).ok()? + ask.tried.len();
        let ip = *addresses.get(at % addresses.len())?;
        let policy = self.policy.load();
        let id: Name = format!("{name}/{ip}").into();
        let namespace = self.key.service.namespace.clone();
        let endpoint = Endpoint {
            id: id.clone(),
            address: EndpointAddress::Ip(ip),
            ports: Vec::new(),
            labels: Labels::default(),
            workload: WorkloadId {
                cluster: Name::default(),
                namespace,
                name: name.clone(),
                uid: id,
            },
            owner: name.clone(),
            tls: UpstreamTls::None,
            tls_at: Vec::new(),
            ready: true,
            weight: 1,
            network: Name::default(),
            cluster: Name::default(),
            locality: Name::default(),
            node: Name::default(),
        };
        Some(Arc::new(Member {
            tls: endpoint.tls.under(policy.traffic.tls.as_ref(), name),
            endpoint: Arc::new(endpoint),
            port: self.key.port,
            proxy_protocol: policy.traffic.proxy_protocol,
            state: Arc::default(),
        }))
    }

    /// What holds for its connections, if anything does: then they are its own, and counted.
    pub fn pool(&self) -> Option<ConnectionPool> {
        self.policy.load().traffic.pool
    }

    pub(crate) fn set_policy(&self, policy: GroupPolicy) {
        if **self.policy.load() != policy {
            self.policy.store(Arc::new(policy));
        }
    }

    /// Takes these endpoints under the policy of now, which are in order of their ids and pass the selector. What is known
    /// of those that stay is kept.
    pub(crate) fn set_members<'a>(&self, endpoints: impl Iterator<Item = &'a Arc<Endpoint>>) {
        let before = self.members.load();
        let policy = self.policy.load();
        let host = &self.key.service.hostname;
        let mut kept = before.all.iter().peekable();
        let mut all = Vec::new();
        for endpoint in endpoints {
            let port = endpoint.ports.iter().find(|map| map.service == self.key.port);
            let Some(port) = port.map(|map| map.target) else { continue };
            while kept.next_if(|member| member.endpoint.id < endpoint.id).is_some() {}
            let known = kept.peek().filter(|member| {
                let same_place = member.endpoint.address == endpoint.address && member.port == port;
                member.endpoint.id == endpoint.id && same_place
            });
            let tls = endpoint.tls_at(port).under(policy.traffic.tls.as_ref(), host);
            let proxy_protocol = policy.traffic.proxy_protocol;
            let is_same = |member: &Member| {
                member.endpoint == *endpoint
                    && member.tls == tls
                    && member.proxy_protocol == proxy_protocol
            };
            all.push(match known {
                Some(member) if is_same(member) => Arc::clone(member),
                known => {
                    let state = known.map(|member| member.state.clone()).unwrap_or_default();
                    let endpoint = endpoint.clone();
                    Arc::new(Member { endpoint, port, tls, proxy_protocol, state })
                }
            });
        }
        let balance = policy.traffic.balance.as_ref();
        let near = policy.near.as_ref();
        if !before.are(&all, balance, near) {
            self.members.store(Arc::new(Members::of(all, balance, near)));
        }
    }

    /// An endpoint, chosen as the policy says: of two that are drawn the one with fewer requests under
    /// way, if it says nothing. Turns are strictly cyclic over the ready ones, since the cursor is
    /// shared by all workers. Those that were tried are passed over while there are others, and those
    /// that are ejected in any case.
    ///
    /// The callers of a headless service choose the endpoint themselves, and those of one that is to be
    /// passed through: if the dialled address is
    /// that of one, that gets the request, ready or not, and no other does (Istio's
    /// `ORIGINAL_DST`).
    ///
    /// # Errors
    ///
    /// If there is none: [`Reason::NoEndpoints`].
    pub fn pick(&self, ask: &Ask<'_>, now: impl FnOnce() -> Tick) -> Result<Arc<Member>, Reason> {
        self.pick_at(ask, now, |cursor| cursor.fetch_add(1, Ordering::Relaxed))
    }

    /// The endpoint that [`Group::pick`] would give, without taking a turn.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn peek(&self, ask: &Ask<'_>, now: impl FnOnce() -> Tick) -> Result<Arc<Member>, Reason> {
        self.pick_at(ask, now, |cursor| cursor.load(Ordering::Relaxed))
    }

    fn pick_at(
        &self,
        ask: &Ask<'_>,
        now: impl FnOnce() -> Tick,
        turn: impl Fn(&AtomicU64) -> u64,
    ) -> Result<Arc<Member>, Reason> {
        let (policy, members) = (self.policy.load(), self.members.load());
        let balancer = policy.traffic.balancer();
        let is_dialled = policy.service.headless || *balancer == Balancer::Passthrough;
        if is_dialled
            && let Some(own) = members.all.iter().find(|m| m.address() == Some(ask.dialled))
        {
            return match ask.tried.contains(own) {
                true => Err(Reason::NoEndpoints),
                false => Ok(own.clone()),
            };
        }
        let warmup = policy.traffic.balance.as_ref().and_then(|own| own.effective_warmup());
        let outlier = policy.traffic.outlier.as_ref();
        let is_timed = outlier.is_some() || warmup.is_some() || *balancer == Balancer::PeakEwma;
        let at = if is_timed { now() } else { Tick(0) };
        let by = By { balancer, warmup, now: at };
        if let Some(ranks) = &members.ranks {
            let may_be_ejected = at.0 < self.ejects_until.load(Ordering::Relaxed);
            let ejecting = outlier.filter(|_| may_be_ejected).map(|outlier| Ejecting {
                now: at,
                percent_min: u64::from(outlier.min_health_percent),
            });
            let chosen = ranks.choose(&by, &members.all, ask, turn, ejecting);
            return chosen.cloned().ok_or(Reason::NoEndpoints);
        }
        let outlier = outlier.map(|outlier| (outlier, at));
        let passes = |(outlier, now)| members.passes_over_ejected(outlier, now).then_some(now);
        let now = outlier.and_then(passes);
        let takes = |member: &Member| now.is_none_or(|now| !member.state.is_ejected(now));
        let turn = || turn(&self.cursor.0);
        let chosen = members.level.choose(&by, &members.all, ask, turn, takes);
        chosen.cloned().ok_or(Reason::NoEndpoints)
    }
}

/// Alone on its cache lines, so that workers that write to it do not slow down those that read what
/// is beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

#[cfg(test)]
mod tests;
