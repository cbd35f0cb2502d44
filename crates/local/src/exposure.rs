//! Services on the host's loopback: each of type LoadBalancer at an address of its own, node ports at
//! the mesh's, and gateways' ports at 127.0.0.1, too, where those are free.
//!
//! Gateways accept on the host's sockets themselves; for other pods the agent relays. What cannot be
//! had is noted in the status of the Service, and tried again until it can.

mod assigned;
mod places;
mod report;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use ironmesh_capture::forwarding;
use ironmesh_dialects::kubernetes::kinds::{Service, ServicePort, ServiceProtocol, ServiceType};
use ironmesh_fds::slots::Slots;
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::PlatformLimits;
use socket2::SockRef;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};

use self::assigned::Assigned;
use self::places::places;
use crate::addresses::{HostAddresses, PROXY_PORTS};
use crate::agent_api::{ExposedService, PublishedPort};
use crate::host_link::Transport;
use crate::kubelet::pod::PodState;
use crate::kubelet::{edge, host_ports};
use crate::node::Node;
use crate::reflector::Key;
use crate::relay::{self, To, datagrams};

/// What of the mesh is on the host's loopback.
pub(crate) struct Exposure {
    host: HostAddresses,
    /// Where gateways' ports are wanted at 127.0.0.1, as (gateway's port, host's port); others are
    /// wanted under their own numbers.
    convenient: Vec<(u16, u16)>,
    /// Rung when something may have to be published, or not any more.
    pub(crate) changed: Notify,
    slots: Slots,
    assigned: RefCell<Assigned>,
    open: RefCell<BTreeMap<At, Open>>,
    /// Why what is wanted is not open.
    refused: RefCell<BTreeMap<At, String>>,
    services: RefCell<Vec<ExposedService>>,
}

/// A place on the host: a port of TCP or UDP.
type At = (SocketAddrV4, Transport);

/// Who answers at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Server {
    /// A port of gateways.
    Gateway(u16),
    /// The agent, which relays to the address of the Service in the mesh.
    Relay(SocketAddrV4),
}

/// A place on the host where something is to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    server: Server,
    /// The Service; none: any gateway that has the port, at 127.0.0.1, or a pod that has a port of the
    /// node.
    service: Option<Key>,
}

/// A place where something answers.
struct Open {
    wanted: Wanted,
    /// Of TCP; a socket of UDP is the relay's alone.
    listener: Option<TcpListener>,
    relay: Option<AbortHandle>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.abort();
        }
        // Gateways hold the socket, too: who connects is to be refused from now on. One that was shut
        // down already is as good.
        if let Some(listener) = &self.listener {
            let _ = SockRef::from(listener).shutdown(Shutdown::Both);
        }
    }
}

impl Exposure {
    pub(crate) fn new(
        host: HostAddresses,
        convenient: Vec<(u16, u16)>,
        limits: &PlatformLimits,
    ) -> Self {
        Self {
            host,
            convenient,
            changed: Notify::new(),
            slots: relay::slots(limits),
            assigned: RefCell::new(Assigned::new(host)),
            open: RefCell::default(),
            refused: RefCell::default(),
            services: RefCell::default(),
        }
    }

    /// The address of the host at which node ports answer.
    pub(crate) fn node_address(&self) -> Ipv4Addr {
        self.host.node()
    }

    /// Where ports 80 and 443 of the ingress gateway are on the host.
    pub(crate) fn gateway_ports(&self) -> [u16; 2] {
        [80, 443].map(|port| self.host.port(port))
    }

    /// The lowest port that the mesh may listen on.
    pub(crate) fn lowest_port(&self) -> u16 {
        self.host.lowest_port
    }

    /// The Services that are published, by namespace and name.
    pub(crate) fn services(&self) -> Vec<ExposedService> {
        self.services.borrow().clone()
    }

    /// Where the ports of gateways answer, 127.0.0.1 first.
    pub(crate) fn of_gateways(&self) -> Vec<PublishedPort> {
        let open = self.open.borrow();
        let port = |((at, _), open): (&At, &Open)| match open.wanted.server {
            Server::Gateway(port) if *at.ip() != self.host.node() => {
                Some(PublishedPort { port, address: SocketAddr::V4(*at) })
            }
            _ => None,
        };
        let mut ports: Vec<PublishedPort> = open.iter().filter_map(port).collect();
        ports.sort_by_key(|published| (published.port, published.address));
        ports
    }

    /// What stands in the way of gateways' ports at 127.0.0.1.
    pub(crate) fn inconvenient(&self) -> Vec<String> {
        let refused = self.refused.borrow();
        let at_localhost = refused.iter().filter(|((at, _), _)| *at.ip() == Ipv4Addr::LOCALHOST);
        at_localhost.map(|(_, why)| why.clone()).collect()
    }

    /// The host's sockets of a port of a gateway.
    pub(crate) fn sockets(&self, gateway: &PodState, port: u16) -> Vec<OwnedFd> {
        let open = self.open.borrow();
        let own = open.values().filter(|open| {
            open.wanted.server == Server::Gateway(port) && selects(gateway, &open.wanted.service)
        });
        // One that cannot be copied is missing, as if it were taken.
        own.filter_map(|open| open.listener.as_ref()?.try_clone().ok().map(Into::into)).collect()
    }
}

/// Whether the Service selects a gateway; all do where none is named.
fn selects(gateway: &PodState, service: &Option<Key>) -> bool {
    service.as_ref().is_none_or(|(namespace, name)| {
        let service = gateway.node.services.object(namespace, name);
        service.is_some_and(|service| service.selects(&gateway.pod.borrow().metadata))
    })
}

/// Keeps on the host what the Services and the gateways say, for ever.
pub(crate) async fn run(node: Rc<Node>) {
    let exposure = &node.exposure;
    loop {
        let is_whole = settle(&node).await;
        let pause = node.limits.platform.publish_retry_pause;
        tokio::select! {
            () = exposure.changed.notified() => {}
            () = tokio::time::sleep(pause), if !is_whole => {}
        }
        tokio::time::sleep(COALESCE).await;
    }
}

/// One round; returns whether nothing is left to be tried again.
async fn settle(node: &Rc<Node>) -> bool {
    let exposure = &node.exposure;
    let mut all = Survey::of(node);
    let mut moved = close(exposure, &all.wanted);
    let wanted = std::mem::take(&mut all.wanted);
    for (at, wanted) in &wanted {
        if exposure.open.borrow().contains_key(at) {
            continue;
        }
        match open(node, *at, wanted).await {
            Ok(()) => {
                exposure.refused.borrow_mut().remove(at);
                moved.extend(wanted.gateway_port());
            }
            Err(why) => drop(exposure.refused.borrow_mut().insert(*at, why)),
        }
    }
    exposure.refused.borrow_mut().retain(|at, _| wanted.contains_key(at));
    for pod in node.pods.borrow().values() {
        let has_moved = pod.edge_listeners.borrow().keys().any(|port| moved.contains(port));
        if has_moved || edge::has_moved(pod) {
            pod.ports_moved.notify_one();
        }
    }
    for (at, wanted) in &wanted {
        let refused = exposure.refused.borrow().get(at).cloned();
        if let Some(service) = &wanted.service {
            all.note(service, *at, refused);
        }
    }
    // First, so that `status` knows what a finding says.
    exposure.services.replace(all.services.values().map(|one| one.shown.clone()).collect());
    let is_told = report::tell(node, &all).await;
    is_told && exposure.refused.borrow().is_empty()
}

impl Wanted {
    fn gateway_port(&self) -> Option<u16> {
        match self.server {
            Server::Gateway(port) => Some(port),
            Server::Relay(_) => None,
        }
    }
}

/// Closes what is not wanted any more, or from another; returns the gateways' ports among it.
fn close(exposure: &Exposure, wanted: &BTreeMap<At, Wanted>) -> BTreeSet<u16> {
    let mut moved = BTreeSet::new();
    exposure.open.borrow_mut().retain(|at, open| {
        let kept = wanted.get(at) == Some(&open.wanted);
        if !kept {
            moved.extend(open.wanted.gateway_port());
        }
        kept
    });
    moved
}

async fn open(node: &Rc<Node>, at: At, wanted: &Wanted) -> Result<(), String> {
    let (exposure, limits) = (&node.exposure, &node.limits.platform);
    let (address, transport) = at;
    if exposure.open.borrow().len() >= limits.published_ports_max {
        let most = limits.published_ports_max;
        return Err(format!(
            "{address}: the mesh has {most} ports already (limits.platform.published_ports_max)"
        ));
    }
    let socket = node.host.listen(address, transport).await.map_err(|why| match why.as_str() {
        "address in use" => format!(
            "{address}: another program listens there, or on port {} of all addresses; when it ends \
             the port is taken",
            address.port()
        ),
        _ => format!("{address}: {why}"),
    })?;
    let opened = open_socket(exposure, limits, socket, transport, &wanted.server);
    let (listener, relay) = opened.map_err(|error| format!("{address}: {error}"))?;
    tracing::info!(%address, ?transport, ?wanted, "published");
    exposure.open.borrow_mut().insert(at, Open { wanted: wanted.clone(), listener, relay });
    Ok(())
}

/// Has what comes to a socket relayed, unless gateways take it themselves.
fn open_socket(
    exposure: &Exposure,
    limits: &PlatformLimits,
    socket: OwnedFd,
    transport: Transport,
    server: &Server,
) -> std::io::Result<(Option<TcpListener>, Option<AbortHandle>)> {
    let slots = exposure.slots.clone();
    if transport == Transport::Udp {
        let Server::Relay(to) = server else { return Ok((None, None)) };
        let socket = tokio::net::UdpSocket::from_std(UdpSocket::from(socket))?;
        let silence = limits.relay_datagrams_silence_max;
        let serving = datagrams::serve(socket, slots, silence, SocketAddr::V4(*to));
        return Ok((None, Some(spawn_local(serving).abort_handle())));
    }
    let listener = TcpListener::from(socket);
    let relay = match server {
        Server::Gateway(_) => None,
        Server::Relay(to) => {
            let accepting = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            let to = To(SocketAddr::V4(*to));
            let serving = relay::serve(accepting, slots, limits.relay_connect_timeout, to);
            Some(spawn_local(serving).abort_handle())
        }
    };
    Ok((Some(listener), relay))
}

/// What is wanted of the host now.
#[derive(Default)]
struct Survey {
    wanted: BTreeMap<At, Wanted>,
    services: BTreeMap<Key, Surveyed>,
}

/// A Service that is to be on the host, or was.
struct Surveyed {
    shown: ExposedService,
    service: Service,
}

impl Survey {
    fn of(node: &Node) -> Self {
        let exposure = &node.exposure;
        let mut all = Self::default();
        let published = node.services.filtered(|service| {
            let of = service.spec.of;
            let has_status = !service.status.load_balancer.ingress.is_empty()
                || !service.status.conditions.is_empty();
            matches!(of, ServiceType::LoadBalancer | ServiceType::NodePort) || has_status
        });
        let key =
            |service: &Service| (service.metadata.namespace.clone(), service.metadata.name.clone());
        let is_balancer = |service: &&Service| service.spec.of == ServiceType::LoadBalancer;
        let balancers: BTreeSet<Key> = published.iter().filter(is_balancer).map(key).collect();
        let mut assigned = exposure.assigned.borrow_mut();
        assigned.keep(&balancers);
        for service in published.iter().filter(is_balancer) {
            let noted = service.status.load_balancer.ingress.first();
            assigned.of(&key(service), noted.and_then(|ingress| ingress.ip.parse().ok()));
        }
        drop(assigned);
        for service in published {
            all.add(node, key(&service), service);
        }
        all.add_of_gateways(node);
        all.add_of_node(node);
        all
    }

    /// Ports of the node that lead to pods: they are at the mesh's own address, too.
    fn add_of_node(&mut self, node: &Node) {
        let host = node.exposure.host;
        for port in host_ports::forwarded(node) {
            let transport = match port.transport {
                forwarding::Transport::Tcp => Transport::Tcp,
                forwarding::Transport::Udp => Transport::Udp,
            };
            let at = SocketAddrV4::new(host.node(), host.port(port.address.port()));
            let at = (at, transport);
            for endpoint in port.endpoints {
                let wanted = Wanted { server: Server::Relay(endpoint), service: None };
                self.wanted.entry(at).or_insert(wanted);
            }
        }
    }

    fn add(&mut self, node: &Node, key: Key, service: Service) {
        let exposure = &node.exposure;
        let address = exposure.assigned.borrow().get(&key);
        let (places, mut notes) = places(exposure.host, address, &service.spec);
        if address.is_none() && service.spec.of == ServiceType::LoadBalancer {
            let count = HostAddresses::count();
            notes.push(format!("all {count} addresses of the mesh are taken"));
        }
        for place in places {
            if let Some(server) = server(node, &service, place.port) {
                let service = Some(key.clone());
                self.wanted.insert(place.at, Wanted { server, service });
            }
        }
        let (namespace, name) = key.clone();
        let shown = ExposedService { namespace, name, address, ports: Vec::new(), notes };
        self.services.insert(key, Surveyed { shown, service });
    }

    /// Gateways' ports at 127.0.0.1, and those that no Service names at the address of one that
    /// selects the gateway.
    fn add_of_gateways(&mut self, node: &Node) {
        let (exposure, pods) = (&node.exposure, node.pods.borrow());
        for (gateway, port) in pods.values().flat_map(edge_ports) {
            let convenient = exposure.convenient.iter().find(|(of, _)| *of == port);
            let number = convenient.map_or(exposure.host.port(port), |(_, number)| *number);
            let at = (SocketAddrV4::new(Ipv4Addr::LOCALHOST, number), Transport::Tcp);
            let server = Server::Gateway(port);
            self.wanted.insert(at, Wanted { server: server.clone(), service: None });
            let metadata = &gateway.pod.borrow().metadata;
            let balancer = self.services.iter().find_map(|(key, one)| {
                let address = one.shown.address.filter(|_| one.service.selects(metadata))?;
                Some((key.clone(), address))
            });
            let Some((key, address)) = balancer else { continue };
            let is_named = self
                .wanted
                .iter()
                .any(|((at, _), wanted)| *at.ip() == address && wanted.server == server);
            // By another number a `Gateway` means the same port, which is to be found there, too.
            let mut numbers = node.gateway_ports.numbers(metadata, port);
            numbers.insert(port);
            for number in numbers.into_iter().filter(|number| *number != port || !is_named) {
                let at = SocketAddrV4::new(address, exposure.host.port(number));
                let at = (at, Transport::Tcp);
                let unnamed = Wanted { server: server.clone(), service: Some(key.clone()) };
                self.wanted.entry(at).or_insert(unnamed);
            }
        }
    }

    /// Notes what became of a place of a Service.
    fn note(&mut self, service: &Key, (at, _): At, refused: Option<String>) {
        let Some(one) = self.services.get_mut(service) else { return };
        match refused {
            // The same number of TCP and UDP is one.
            None if one.shown.ports.last() == Some(&SocketAddr::V4(at)) => {}
            None => one.shown.ports.push(SocketAddr::V4(at)),
            Some(why) => one.shown.notes.push(why),
        }
    }
}

/// The ports that a gateway serves.
fn edge_ports(pod: &Rc<PodState>) -> Vec<(Rc<PodState>, u16)> {
    let ports: Vec<u16> = pod.edge_listeners.borrow().keys().copied().collect();
    let (metadata, named) = (&pod.pod.borrow().metadata, &pod.node.gateway_ports);
    let is_named = |port: &u16| named.may_listen(ProxyKind::Gateway, metadata, *port);
    ports.into_iter().filter(is_named).map(|port| (Rc::clone(pod), port)).collect()
}

/// Who answers for a port of a Service: its gateways, if it has some; `None` while nobody does.
fn server(node: &Node, service: &Service, port: &ServicePort) -> Option<Server> {
    let address = service.spec.cluster_ip.parse().ok()?;
    let relay = Server::Relay(SocketAddrV4::new(address, port.port));
    if service.spec.selector.is_empty() {
        return Some(relay);
    }
    let is_udp = port.protocol == ServiceProtocol::Udp;
    let pods = node.pods.borrow();
    let mut selected =
        pods.values().filter(|pod| service.selects(&pod.pod.borrow().metadata)).peekable();
    // Without a pod it is refused, as in the mesh.
    selected.peek()?;
    // Gateways serve TCP alone.
    let mut gateways = selected.filter(|pod| pod.is_gateway() && !is_udp).peekable();
    let Some(gateway) = gateways.peek() else { return Some(relay) };
    let target = edge::led_from(gateway, port.target(&gateway.pod.borrow())?);
    if PROXY_PORTS.own.contains(&target) {
        return Some(relay);
    }
    let serves = |pod: &Rc<PodState>| edge_ports(pod).iter().any(|(_, port)| *port == target);
    gateways.any(serves).then_some(Server::Gateway(target))
}

/// Changes that come together are applied together.
const COALESCE: Duration = Duration::from_millis(2);
