//! A mesh for tests: proxies, toy applications and toy clients.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::{
    Balance, Balancer, DestinationPolicy, Distribution, Subset, TrafficPolicy,
};
use ironmesh_model::resource::Version;
use ironmesh_model::route::{Action, Backend, Match, Route, Rule};
use ironmesh_model::service::{
    Discovery, Endpoint, EndpointAddress, PortMap, Protocol, Service, ServicePort, UpstreamTls,
    Workload,
};
use ironmesh_model::snapshot::{
    DestinationPolicySource, Objects, Reach, RouteFields, RouteSource, ServiceSource, Subscriber,
};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{
    Identity, ListenerKind, Local, ObjectId, Resource, ResourceKey, ServiceId, Snapshot, WorkloadId,
};

use ironmesh_telemetry::{AccessLog, Registry};
use ironmesh_wire::codec;
use tokio::time::Instant;

use crate::connect::Connector;
use crate::destination::OriginalDestination;
use crate::process::Process;
use crate::worker::{Listener, Workers};
use crate::workload::LocalWorkload;

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy that runs in this process.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) process: Arc<Process>,
    pub(crate) workload: Arc<LocalWorkload>,
    pub(crate) workers: Option<Arc<Workers>>,
    control: Arc<Control>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lines: Lines,
    _log: AccessLog,
}

/// The access log of a proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// The lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What stands in for the control plane of one proxy.
struct Control {
    snapshot: Mutex<Snapshot>,
    subscribed: Mutex<HashSet<ResourceKey>>,
    mute: AtomicBool,
    subscriber: Subscriber,
}

/// What a proxy of a test is started with.
pub(crate) struct Setup {
    pub(crate) kind: ListenerKind,
    /// Where its connections were going.
    pub(crate) destination: SocketAddr,
    pub(crate) objects: Objects,
    pub(crate) limits: ProxyLimits,
    /// Whether its control plane says nothing before [`Proxy::speak`].
    pub(crate) mute: bool,
    pub(crate) workload: Arc<LocalWorkload>,
}

impl Setup {
    pub(crate) fn new(kind: ListenerKind, destination: SocketAddr, objects: Objects) -> Self {
        let limits = ProxyLimits::default();
        Self { kind, destination, objects, limits, mute: false, workload: workload("client") }
    }
}

impl Proxy {
    /// Starts a proxy with one listener of `kind`, whose connections were going to `destination`.
    pub(crate) fn start(kind: ListenerKind, destination: SocketAddr, objects: Objects) -> Self {
        Self::begin(Setup::new(kind, destination, objects))
    }

    /// Starts a proxy.
    pub(crate) fn begin(setup: Setup) -> Self {
        let Setup { kind, destination, objects, limits, mute, workload } = setup;
        let connector = Connector::of_loopback().keeping_alive(limits.keepalive);
        let process = Arc::new(Process::new(limits, connector, 2));
        let control = Control::begin(&workload, objects, mute);
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let registry = Registry::new(1000);
        let lines = Lines::default();
        let log = AccessLog::start(lines.clone(), 1 << 20).unwrap();
        let workers = Workers::start(&process, &registry, &log).unwrap();
        let original = OriginalDestination::Fixed(destination);
        let of = workload.clone();
        workers.listen(&Arc::new(Listener::new(kind, of, original, socket)));
        let workers = Some(Arc::new(workers));
        Self { address, process, workload, workers, control, registry, lines, _log: log }
    }

    /// Opens another listener of the same kind, whose connections were going elsewhere.
    pub(crate) fn also_for(&self, kind: ListenerKind, destination: SocketAddr) -> SocketAddr {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let original = OriginalDestination::Fixed(destination);
        let listener = Listener::new(kind, self.workload.clone(), original, socket);
        self.workers.as_ref().unwrap().listen(&Arc::new(listener));
        address
    }

    /// Resources that were asked for beside the settings.
    pub(crate) fn asked(&self) -> usize {
        self.control.subscribed.lock().unwrap().len() - 1
    }

    /// Lets a mute control plane answer.
    pub(crate) fn speak(&self) {
        self.control.mute.store(false, Ordering::SeqCst);
        self.control.push(&self.workload);
    }

    /// Replaces all objects of the mesh.
    pub(crate) fn change(&self, objects: Objects) {
        *self.control.snapshot.lock().unwrap() = Snapshot::new(objects).0;
        self.control.push(&self.workload);
    }

    /// Begins to end it as SIGTERM does.
    pub(crate) fn begin_drain(&self) {
        self.workload.drain();
        self.process.drain();
    }

    /// Ends it as SIGTERM does.
    pub(crate) fn drain(&mut self) {
        self.begin_drain();
        self.workers.take().unwrap().join();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.begin_drain();
    }
}

/// Answers what a workload asks for, from these objects.
pub(crate) fn serve_views(workload: &Arc<LocalWorkload>, objects: Objects) {
    Control::begin(workload, objects, false);
}

impl Control {
    fn begin(workload: &Arc<LocalWorkload>, objects: Objects, mute: bool) -> Arc<Self> {
        // A proxy always asks who it is; tests in which that matters say where it is.
        let is_own = |of: &Workload| of.id.uid == workload.id.uid && !of.locality.is_empty();
        let own = objects.workloads.iter().find(|(_, of)| is_own(of)).map(|(ip, _)| *ip);
        let control = Arc::new(Self {
            snapshot: Mutex::new(Snapshot::new(objects).0),
            subscribed: Mutex::default(),
            mute: AtomicBool::new(mute),
            subscriber: Subscriber {
                namespace: workload.id.namespace.clone(),
                labels: workload.local.load().labels.clone(),
                addresses: Vec::new(),
            },
        });
        control.subscribed.lock().unwrap().insert(ResourceKey::Settings);
        control.subscribed.lock().unwrap().extend(own.map(ResourceKey::Workload));
        control.push(workload);
        let (of_thread, of) = (control.clone(), Arc::downgrade(workload));
        let mut wanted = workload.views.take_wanted().unwrap();
        thread::spawn(move || {
            while let Some(key) = wanted.blocking_recv() {
                of_thread.subscribed.lock().unwrap().insert(key);
                if !of_thread.mute.load(Ordering::SeqCst)
                    && let Some(workload) = of.upgrade()
                {
                    of_thread.push(&workload);
                }
            }
        });
        control
    }

    /// Sends everything that is subscribed, with what it refers to.
    fn push(&self, workload: &LocalWorkload) {
        let snapshot = self.snapshot.lock().unwrap();
        let mut changes = Vec::new();
        for key in self.subscribed.lock().unwrap().iter() {
            let resource = snapshot.resource(key, &self.subscriber);
            let references = resource.iter().flat_map(|r| snapshot.references(r));
            for reference in references.collect::<Vec<_>>() {
                let body = snapshot.resource(&reference, &self.subscriber);
                changes.push(change(reference, body));
            }
            changes.push(change(key.clone(), resource));
        }
        // A pattern that cannot be used makes its rule dead, nothing else.
        let (view, _) = workload.views.load().apply(changes);
        let _ = workload.learn_certificates(&view);
        workload.views.replace(view);
    }
}

/// A resource as it comes out of the wire's encoding.
fn change(key: ResourceKey, resource: Option<Resource>) -> Change {
    match resource {
        None => Change { key, version: codec::nothing(), body: Body::Nothing },
        Some(resource) => {
            let bytes = codec::encode(&resource);
            let body = Body::Is(codec::decode(&bytes).unwrap());
            Change { key, version: Version::of(&bytes), body }
        }
    }
}

/// A workload of namespace `default` that is called like its owner and its service account.
pub(crate) fn workload(name: &str) -> Arc<LocalWorkload> {
    workload_in("default", name)
}

/// The same in another namespace.
pub(crate) fn workload_in(namespace: &str, name: &str) -> Arc<LocalWorkload> {
    LocalWorkload::new(
        WorkloadId {
            cluster: "Kubernetes".into(),
            namespace: namespace.into(),
            name: name.into(),
            uid: format!("uid-{name}").into(),
        },
        name.into(),
        Local { namespace: namespace.into(), labels: [("app", name)].into_iter().collect() },
        Ipv4Addr::LOCALHOST.into(),
    )
}

/// The identity of a workload that [`workload`] makes.
pub(crate) fn identity(name: &str) -> Identity {
    format!("spiffe://cluster.local/ns/default/sa/{name}").parse().unwrap()
}

/// The virtual address of the only service of a test.
pub(crate) fn service_address() -> SocketAddr {
    "10.96.0.10:9080".parse().unwrap()
}

/// A service `reviews` on port 9080 with these endpoints.
pub(crate) fn reviews(protocol: Protocol, endpoints: Vec<Endpoint>) -> ServiceSource {
    ServiceSource {
        service: Service {
            id: ServiceId {
                namespace: "default".into(),
                hostname: "reviews.default.svc.cluster.local".into(),
            },
            name: "reviews".into(),
            addresses: vec![service_address().ip()],
            headless: false,
            ports: vec![ServicePort { number: 9080, name: "http".into(), protocol }],
            discovery: Discovery::Endpoints,
            distribution: Distribution::Any,
            certificate_names: Vec::new(),
            endpoint_chunks: Vec::new(),
        },
        endpoints,
        reach: Reach::default(),
    }
}

/// An endpoint of `reviews`, labelled with a version.
pub(crate) fn endpoint(version: &str, address: SocketAddr, mutual: bool) -> Endpoint {
    Endpoint {
        id: format!("uid-{version}").into(),
        address: EndpointAddress::Ip(address.ip()),
        ports: vec![PortMap { service: 9080, target: address.port() }],
        labels: [("app", "reviews"), ("version", version)].into_iter().collect(),
        workload: WorkloadId {
            cluster: "Kubernetes".into(),
            namespace: "default".into(),
            name: format!("reviews-{version}").into(),
            uid: format!("uid-{version}").into(),
        },
        owner: format!("reviews-{version}").into(),
        tls: if mutual { UpstreamTls::Mesh(identity("reviews")) } else { UpstreamTls::None },
        tls_at: Vec::new(),
        ready: true,
        weight: 1,
        network: "".into(),
        cluster: "Kubernetes".into(),
        locality: "".into(),
        node: "".into(),
    }
}

/// What is said, and if nothing is said of it, that applications take turns.
pub(crate) fn taking_turns(traffic: TrafficPolicy) -> TrafficPolicy {
    TrafficPolicy { balance: traffic.balance.or(in_turn().balance), ..traffic }
}

/// A proxy of a caller, for which these applications are `reviews`, in turn.
pub(crate) fn outbound(protocol: Protocol, apps: &[&App]) -> Proxy {
    let destination_policies = vec![subsets(&[])];
    let objects = Objects { destination_policies, ..objects(protocol, apps) };
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

/// Applications take turns, so that tests know whose it is.
pub(crate) fn in_turn() -> TrafficPolicy {
    let balance = Some(Balance::by(Balancer::RoundRobin));
    TrafficPolicy { balance, ..TrafficPolicy::default() }
}

/// The service `reviews` on these applications.
pub(crate) fn objects(protocol: Protocol, apps: &[&App]) -> Objects {
    let endpoints = apps
        .iter()
        .enumerate()
        .map(|(index, app)| endpoint(&format!("v{index}"), app.address, false))
        .collect();
    Objects { services: vec![reviews(protocol, endpoints)], ..Objects::default() }
}

/// Closes a connection so that its peer gets a reset.
pub(crate) fn reset(wire: Wire) {
    let linger = Some(Duration::ZERO);
    socket2::SockRef::from(&wire.stream).set_linger(linger).unwrap();
}

/// A route for `reviews` with these rules.
pub(crate) fn route(rules: Vec<Rule>) -> RouteSource {
    RouteSource {
        route: Route {
            id: ObjectId::new("VirtualService", "default", "reviews"),
            rules,
            connection_rules: Vec::new(),
        },
        hosts: vec!["reviews.default.svc.cluster.local".into()],
        gateways: vec!["mesh".into()],
        precedence: None,
        found: Vec::new(),
        delegations: Vec::new(),
        fields: RouteFields::VIRTUAL_SERVICE,
        export_to: Vec::new(),
        created: 0,
    }
}

/// A rule for all requests, or for those under a prefix, to subsets of `reviews` by weight; an
/// empty subset is the whole service.
pub(crate) fn rule(subsets: &[(&str, u32)], prefix: Option<&str>) -> Rule {
    let backends = subsets.iter().map(|(subset, weight)| Backend {
        subset: (!subset.is_empty()).then(|| (*subset).into()),
        weight: *weight,
        ..Backend::to("reviews.default.svc.cluster.local", None)
    });
    let path = prefix.map(|prefix| TextMatch::Prefix(prefix.into()));
    Rule {
        matches: path
            .map(|path| Match { path: Some(path), ..Match::default() })
            .into_iter()
            .collect(),
        action: Action::Forward(backends.collect()),
        ..Rule::default()
    }
}

/// Subsets of `reviews` by the label `version`. Its applications take turns.
pub(crate) fn subsets(versions: &[&str]) -> DestinationPolicySource {
    let subset = |version: &&str| Subset {
        name: (*version).into(),
        labels: [("version", *version)].into_iter().collect(),
        traffic: TrafficPolicy::default(),
    };
    DestinationPolicySource {
        policy: DestinationPolicy {
            id: ObjectId::new("DestinationRule", "default", "reviews"),
            traffic: Some(in_turn()),
            subsets: versions.iter().map(subset).collect(),
            fills: false,
        },
        host: "reviews.default.svc.cluster.local".into(),
        export_to: Vec::new(),
        created: 0,
        selector: None,
        mutual_tls_at: Vec::new(),
        credentials: Vec::new(),
    }
}

/// Waits until something holds; fails with what was waited for.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::yield_now();
    }
}

/// An address where nothing listens and nothing can: a bound socket keeps the port.
pub(crate) struct Nowhere {
    pub(crate) address: SocketAddr,
    socket: socket2::Socket,
}

impl Nowhere {
    pub(crate) fn new() -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, socket }
    }

    /// Takes connections from now on.
    pub(crate) fn listen(self) -> TcpListener {
        self.socket.listen(8).unwrap();
        self.socket.into()
    }
}

/// A toy application: each connection is handed to a function on a thread of its own. When it is
/// dropped, the test fails if one of them has panicked.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    /// Connections that were made to it.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Those whose function has ended, and whether one has panicked.
    ended: Arc<(AtomicUsize, AtomicBool)>,
}

impl App {
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let ended = Arc::<(AtomicUsize, AtomicBool)>::default();
        let (counted, of_thread, serve) = (connections.clone(), ended.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in socket.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                let (serve, ended) = (serve.clone(), of_thread.clone());
                thread::spawn(move || {
                    let served = panic::catch_unwind(AssertUnwindSafe(|| serve(stream)));
                    ended.1.fetch_or(served.is_err(), Ordering::SeqCst);
                    ended.0.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, connections, ended }
    }

    /// One that takes connections and says nothing, so that no handshake ends.
    pub(crate) fn silent() -> Self {
        // What comes, and how it ends, is of no interest.
        Self::start(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())))
    }

    /// One that answers every request with what `answer` makes of it.
    pub(crate) fn http(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |stream| {
            let mut wire = Wire::new(stream);
            // A kept connection may rest for as long as the test runs; clients have deadlines.
            wire.stream.set_read_timeout(None).unwrap();
            while let Some(request) = wire.read_request() {
                wire.send(&answer(&request));
            }
        })
    }

    /// One that answers every request with its name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::http(move |_| ok(name))
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.connections() - self.ended.0.load(Ordering::SeqCst)
    }

    /// Waits until the application has seen all its connections to their end.
    pub(crate) fn finish(&self) {
        let ended = || self.ended.0.load(Ordering::SeqCst);
        eventually("the application", || ended() == self.connections());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let failed = self.ended.1.load(Ordering::SeqCst);
        assert!(!failed || thread::panicking(), "the application has panicked");
    }
}

/// A plain answer.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A request as an application got it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) trailers: String,
}

/// An answer as a client got it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) trailers: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A blocking HTTP/1 connection, of either side.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn connect(proxy: &Proxy) -> Self {
        Self::new(TcpStream::connect(proxy.address).unwrap())
    }

    pub(crate) fn send(&mut self, text: &str) {
        // A peer that has gone away is seen when its answer is read.
        let _ = self.stream.write_all(text.as_bytes());
    }

    /// Sends a request for `reviews` and reads its answer.
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: reviews:9080\r\n\r\n"));
        self.read_response(false)
    }

    pub(crate) fn read_request(&mut self) -> Option<Request> {
        let head = self.read_until("\r\n\r\n")?;
        let (body, trailers) = self.read_body(&head, false)?;
        Some(Request { head, body, trailers })
    }

    pub(crate) fn read_response(&mut self, to_head: bool) -> Response {
        let head = self.read_until("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let bodiless = to_head || matches!(status, 100..=199 | 204 | 304);
        let (body, trailers) = match bodiless {
            true => (String::new(), String::new()),
            false => self.read_body(&head, true).expect("the whole body"),
        };
        Response { status, head, body, trailers }
    }

    fn read_body(&mut self, head: &str, until_close: bool) -> Option<(String, String)> {
        if header(head, "transfer-encoding").is_some() {
            let mut body = String::new();
            loop {
                let line = self.read_until("\r\n")?;
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                if size == 0 {
                    let mut trailers = String::new();
                    loop {
                        let line = self.read_until("\r\n")?;
                        if line == "\r\n" {
                            return Some((body, trailers));
                        }
                        trailers.push_str(&line);
                    }
                }
                body.push_str(&self.read_exact(size)?);
                self.read_until("\r\n")?;
            }
        }
        match header(head, "content-length") {
            Some(length) => Some((self.read_exact(length.parse().unwrap())?, String::new())),
            None if until_close => Some((self.read_to_end(), String::new())),
            None => Some((String::new(), String::new())),
        }
    }

    pub(crate) fn read_until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.read.windows(end.len()).position(|w| w == end.as_bytes());
            if let Some(at) = found {
                let taken = self.read.drain(..at + end.len()).collect();
                return Some(String::from_utf8(taken).unwrap());
            }
            self.more()?;
        }
    }

    pub(crate) fn read_exact(&mut self, count: usize) -> Option<String> {
        while self.read.len() < count {
            self.more()?;
        }
        Some(String::from_utf8(self.read.drain(..count).collect()).unwrap())
    }

    pub(crate) fn read_to_end(&mut self) -> String {
        while self.more().is_some() {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// Whether the peer has ended the connection, with nothing more to read.
    pub(crate) fn is_ended(&mut self) -> bool {
        self.read.is_empty() && self.more().is_none()
    }

    fn more(&mut self) -> Option<()> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                self.read.extend_from_slice(&piece[..count]);
                Some(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}
