//! Policies: what holds for traffic to a destination, and for traffic into a workload.

use serde::{Deserialize, Serialize};

use crate::name::{Labels, Name, ObjectId};

mod balance;
mod inbound;
mod locality;
mod outlier;
mod pool;
mod retry_budget;
mod tls;

pub use balance::{Balance, Balancer, HashBalance, HashCookie, HashKey, HashTable, Warmup};
pub use inbound::{InboundMode, InboundPart, InboundPolicy, MtlsMode};
pub use locality::{Distribute, Distribution, Failover, LocalityBalance, Preference, ZoneAware};
pub use outlier::OutlierDetection;
pub use pool::{ConnectionPool, Http2Keepalive, Keepalive};
pub use retry_budget::RetryBudget;
pub use tls::{ClientTls, ProxyProtocol, TlsMode, Tunnel};

/// One policy object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is kept once per object, shared by all who hold it"
)]
pub enum Policy {
    /// How callers reach a destination.
    Destination(DestinationPolicy),
    /// What a workload takes.
    Inbound(InboundPolicy),
}

impl Policy {
    /// The object it was made from.
    pub fn id(&self) -> &ObjectId {
        match self {
            Self::Destination(policy) => &policy.id,
            Self::Inbound(policy) => &policy.id,
        }
    }
}

/// How callers reach a destination (a `DestinationRule`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationPolicy {
    /// The object it was made from.
    pub id: ObjectId,
    /// What holds for traffic to it; `None`: nothing is said, and another policy of the same
    /// destination may say it.
    pub traffic: Option<TrafficPolicy>,
    /// Named subsets.
    pub subsets: Vec<Subset>,
    /// Whether `traffic` holds beside what another policy says of the whole destination, for the sections
    /// that this leaves open.
    pub fills: bool,
}

impl DestinationPolicy {
    /// What all policies of a destination say of a port of it.
    pub(crate) fn joined<'a, I: Iterator<Item = &'a Self>>(
        policies: impl Fn() -> I,
        port: u16,
    ) -> TrafficPolicy {
        let first = |fills: bool| {
            let mut own = policies().filter(|policy| policy.fills == fills);
            own.find_map(|policy| policy.traffic.as_ref())
        };
        let at = |own: Option<&TrafficPolicy>, wider: TrafficPolicy| match own {
            Some(own) => own.at(port, &wider),
            None => wider,
        };
        at(first(false), at(first(true), TrafficPolicy::default()))
    }
}

/// Endpoints of a destination that carry certain labels. No labels: all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subset {
    /// Its name.
    pub name: Name,
    /// Labels that select.
    pub labels: Labels,
    /// What holds for traffic to it; what it leaves open the destination says.
    pub traffic: TrafficPolicy,
}

/// What holds for traffic to a destination (`trafficPolicy`), by section; `None`: nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen; `None`: by the fewest requests under way.
    pub balance: Option<Balance>,
    /// When an endpoint gets no requests for a while.
    pub outlier: Option<OutlierDetection>,
    /// Limits of connections and requests.
    pub pool: Option<ConnectionPool>,
    /// How many retries may be under way; single ports have none of their own.
    pub retry_budget: Option<RetryBudget>,
    /// How connections are secured; `None`: as the endpoint is spoken to in the mesh.
    pub tls: Option<ClientTls>,
    /// By which PROXY protocol it is told who calls; single ports have none of their own.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The tunnel that it is the way to; single ports have none of their own.
    pub tunnel: Option<Tunnel>,
    /// What holds for single ports instead.
    pub ports: Vec<PortPolicy>,
}

/// What holds for traffic to one port of a destination (`portLevelSettings`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPolicy {
    /// The port of the service.
    pub port: u16,
    /// What holds there. What it leaves open is open: it inherits nothing.
    pub traffic: TrafficPolicy,
}

impl TrafficPolicy {
    /// The rule by which an endpoint is chosen.
    pub fn balancer(&self) -> &Balancer {
        self.balance.as_ref().map_or(&Balancer::LeastRequest, |balance| &balance.by)
    }

    /// What holds at a port: the sections of this, and those of `wider` that this does not have, as a
    /// subset inherits from its destination. Settings of the port itself take the place of all
    /// sections that they can have, whether they have them or not.
    pub fn at(&self, port: u16, wider: &Self) -> Self {
        let sections = Self {
            balance: self.balance.as_ref().or(wider.balance.as_ref()).cloned(),
            outlier: self.outlier.or(wider.outlier),
            pool: self.pool.or(wider.pool),
            retry_budget: self.retry_budget.or(wider.retry_budget),
            tls: self.tls.as_ref().or(wider.tls.as_ref()).cloned(),
            proxy_protocol: self.proxy_protocol.or(wider.proxy_protocol),
            tunnel: self.tunnel.as_ref().or(wider.tunnel.as_ref()).cloned(),
            ports: Vec::new(),
        };
        match self.ports.iter().find(|own| own.port == port) {
            Some(PortPolicy { traffic: Self { balance, outlier, pool, tls, .. }, .. }) => Self {
                balance: balance.clone(),
                outlier: *outlier,
                pool: *pool,
                tls: tls.clone(),
                ..sections
            },
            None => sections,
        }
    }
}
