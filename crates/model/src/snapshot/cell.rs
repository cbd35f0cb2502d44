//! Cells: the smallest parts of a snapshot that an answer can depend on, and those that a change
//! touched.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use hashbrown::HashSet;

use crate::chunk::Chunk;
use crate::name::{ObjectId, ServiceId};

/// A part of a snapshot that an answer can depend on, by a hash of its name. That something is not
/// there is a state of its cell like any other. (Two cells of one hash cost a look too many, nothing
/// else.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(u64);

/// The names of cells.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Name<'a> {
    /// All settings together.
    Settings,
    /// The root namespace.
    RootNamespace,
    /// A service without its endpoints.
    Service(&'a ServiceId),
    /// The list of the chunks of a service.
    Chunks(&'a ServiceId),
    /// One chunk of the endpoints of a service.
    Endpoints(&'a ServiceId, Chunk),
    /// All endpoints of a service.
    AllEndpoints(&'a ServiceId),
    /// Which services there are.
    Services,
    /// Which services have a host.
    ServicesOfHost(&'a str),
    /// Which services have a virtual address.
    ServicesAt(IpAddr),
    /// Which services are reached by networks of addresses.
    Networks,
    /// Which services are reached on a port at any address.
    ServicesAnywhere(u16),
    /// Which endpoints have an address, and their ports.
    EndpointsAt(IpAddr),
    /// Who lives at an address.
    Workload(IpAddr),
    /// The workload of a uid.
    WorkloadOf(&'a str),
    /// Which labels the workloads of a namespace have.
    LabelsIn(&'a str),
    /// Which labels workloads have.
    Labels,
    /// A route.
    Route(&'a ObjectId),
    /// Who sees a route, how old it is, and whether it is for connections, too.
    Attachment(&'a ObjectId),
    /// The hosts that a route sends requests to.
    DestinationsOf(&'a ObjectId),
    /// Which routes have a pattern, in a map of patterns.
    Pattern(Map<'a>, &'a str),
    /// Which wildcards that do not begin with a label there are in a map.
    OddWildcards(Map<'a>),
    /// The patterns of a gateway's routes, in a chunk of them.
    GatewayPatterns(&'a str, Chunk),
    /// A policy.
    Policy(&'a ObjectId),
    /// Where a policy counts.
    Reach(&'a ObjectId),
    /// Which destination policies of a namespace are for some workloads only, and for which.
    SelectingPoliciesIn(&'a str),
    /// Which inbound policies are in a namespace, and whom they select.
    InboundPoliciesIn(&'a str),
    /// A Sidecar.
    Sidecar(&'a ObjectId),
    /// Which Sidecars are in a namespace, and whom they select.
    SidecarsIn(&'a str),
    /// A gateway.
    Gateway(&'a ObjectId),
    /// The gateways of a name (`NAMESPACE/NAME`).
    GatewayNamed(&'a str),
    /// Gateways whose selectors name a label first; empty texts: those that select everything.
    GatewaysByLabel(&'a str, &'a str),
    /// Which gateways there are.
    Gateways,
    /// A certificate or key of a user, by namespace and name.
    Credential(&'a str, &'a str),
}

/// Which map of patterns.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Map<'a> {
    /// Routes inside the mesh.
    Mesh,
    /// Routes of a gateway.
    Gateway(&'a str),
    /// Destination policies of a namespace.
    Destination(&'a str),
    /// All destination policies.
    Destinations,
}

impl Name<'_> {
    /// The cell of this name.
    pub(super) fn cell(self) -> Cell {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        Cell(hasher.finish())
    }
}

/// What a change touched: every answer that read none of these cells is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Whether anything may be another.
    pub everything: bool,
    /// Cells that differ.
    pub cells: HashSet<Cell>,
    /// Objects of which something differs.
    pub(super) objects: BTreeSet<ObjectId>,
}

impl Touched {
    /// What a snapshot touches of which it is not known how it differs from the one before.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Whether nothing is another.
    pub fn is_nothing(&self) -> bool {
        !self.everything && self.cells.is_empty() && self.objects.is_empty()
    }

    pub(super) fn touch(&mut self, name: Name<'_>) {
        self.cells.insert(name.cell());
    }

    /// Adds what another change touched.
    pub fn join(&mut self, other: Self) {
        self.everything |= other.everything;
        self.cells.extend(other.cells);
        self.objects.extend(other.objects);
    }
}
