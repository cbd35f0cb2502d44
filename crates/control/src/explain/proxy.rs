//! A proxy as it would be if it began now: an empty view that is filled by what decisions need.

use std::net::{IpAddr, SocketAddr};

use ironmesh_dialects::istio::topology::{PROXY_CONFIG, own_topology};
use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::object::value as object;
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::decide::{https_location, passes_bytes_on};
use ironmesh_model::entry::{self, Entered, SECURE_SCHEME, Sender};
use ironmesh_model::group::GroupReport;
use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::path::{EscapedNul, normalize_target, split_target};
use ironmesh_model::policy::HashKey;
use ironmesh_model::retry::Asked;
use ironmesh_model::snapshot::{Scope, Subscriber};
use ironmesh_model::topology::Topology;
use ironmesh_model::{
    Connection, Decision, Draw, Event, Hashed, Identity, ListenerKind, Local, Plan, Reason,
    Request, ResourceKey, Seen, Silent, Snapshot, Trace, Traffic, View, decide,
};
use ironmesh_wire::server::expand;
use serde_json::Value;

use super::edge::{self, Place};
use super::url::Url;
use crate::api::explain::ExplainRequest;
use crate::inject;
use crate::mesh::subscriber;
use crate::plane::Refused;

/// A request on its way; proxies change it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: String,
    /// Whether the caller speaks TLS of its own, so that no proxy can read it.
    is_tls: bool,
    /// Whether what it sends is no request.
    is_opaque: bool,
    pub(super) authority: String,
    /// Host that the caller dials; it names it in TLS of its own.
    host: String,
    /// Host and port that the caller dials.
    pub(super) dialled: String,
    /// Path and query; normalised by the first proxy that takes it in.
    pub(super) target: String,
    headers: Vec<(String, String)>,
}

impl Call {
    /// The request as its client sends it.
    pub(super) fn new(request: &ExplainRequest, url: &Url) -> Self {
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let host = request.headers.iter().rev().find(|(name, _)| is_host(name));
        Self {
            method: request.method.clone(),
            is_tls: url.is_tls,
            is_opaque: url.is_opaque,
            host: url.host.clone(),
            dialled: format!("{}:{}", url.host, url.port),
            authority: host.map_or_else(|| url.authority.clone(), |(_, value)| value.clone()),
            target: url.target.clone(),
            headers: request
                .headers
                .iter()
                .filter(|(name, _)| !is_host(name))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect(),
        }
    }

    /// Whom the caller's own TLS names: no address (RFC 6066, section 3).
    fn server_name(&self) -> Option<String> {
        let is_name = self.is_tls && self.host.parse::<IpAddr>().is_err();
        is_name.then(|| self.host.clone())
    }

    /// Changes it as a proxy does that takes it in. Gives what it finds out about it.
    ///
    /// # Errors
    ///
    /// If the proxy refuses its path.
    fn enter(
        &mut self,
        sender: &Sender<'_>,
        destination: SocketAddr,
    ) -> Result<Entered, EscapedNul> {
        if self.authority.is_empty() {
            self.authority = destination.to_string();
        }
        let begin_trace = |headers: &mut Vec<(String, String)>| {
            let made = |name: &str| (name.to_owned(), MADE_BY_PROXY.to_owned());
            headers.extend(NEW_TRACE_HEADERS.map(made));
        };
        let id = || MADE_BY_PROXY.to_owned();
        let entered = entry::at_entry(&mut self.headers, sender, id, begin_trace);
        self.target = normalize_target(&self.target)?.into_owned();
        Ok(entered)
    }

    /// Changes it as the winning rule says; what is for proxies alone is taken off.
    pub(super) fn rewrite(&mut self, decision: &Decision) {
        self.headers.retain(|(name, _)| !Asked::takes(name.as_bytes()));
        if let Some(target) = decision.rewritten_target(&self.target) {
            self.target = target;
        }
        if let Some(authority) = decision.rewritten_authority() {
            self.authority = authority.to_owned();
        }
        for ops in decision.header_ops() {
            let op = &ops.request;
            let replaced = |name: &str| {
                op.remove.iter().any(|gone| &**gone == name)
                    || op.set.iter().any(|(set, _)| &**set == name)
            };
            self.headers.retain(|(name, _)| !replaced(name));
            let new = op.set.iter().chain(&op.add);
            self.headers.extend(new.map(|(name, value)| (name.to_string(), value.to_string())));
        }
    }
}

/// What a proxy does with a call.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) listener: ListenerKind,
    pub(super) destination: SocketAddr,
    pub(super) decision: Decision,
    pub(super) events: Vec<Event>,
    pub(super) draw: Option<Draw>,
    /// What it is known by, if a hash of that chooses its endpoint.
    pub(super) hashed: Option<Hashed>,
    /// Headers that the proxy adds to the answer by itself.
    pub(super) answer_headers: Vec<(String, String)>,
    /// What the request itself asks for.
    pub(super) asked: Asked,
    /// Why the proxy takes it not at all, whatever the decision.
    pub(super) refused: Option<Reason>,
    /// Whether it is a request, and no connection whose bytes are passed on.
    pub(super) is_read: bool,
}

impl Walked {
    /// Of a connection whose requests are not read, or a request that is refused.
    fn unread(
        listener: ListenerKind,
        destination: SocketAddr,
        (decision, events): (Decision, Vec<Event>),
        draw: Option<Draw>,
        refused: Option<Reason>,
        client: SocketAddr,
    ) -> Self {
        let hash = decision.hashed_connection(client);
        let hashed = hash.map(|hash| Hashed { hash, set_cookies: Vec::new() });
        let (answer_headers, asked) = (Vec::new(), Asked::default());
        Self {
            listener,
            destination,
            decision,
            events,
            draw,
            hashed,
            answer_headers,
            asked,
            refused,
            is_read: false,
        }
    }
}

/// The proxy of a pod.
#[derive(Debug)]
pub(super) struct Proxy<'a> {
    snapshot: &'a Snapshot,
    pub(super) pod: &'a Value,
    subscriber: Subscriber,
    scope: Scope,
    view: View,
    /// Of its workload.
    pub(super) identity: Identity,
    /// Where clients outside reach its ports, and the place by which this one comes.
    places: Vec<Place>,
    entered: Option<Place>,
}

impl<'a> Proxy<'a> {
    /// A proxy that holds nothing but what every proxy asks for first.
    pub(super) fn new(snapshot: &'a Snapshot, pod: &'a Value) -> Self {
        let gateway = inject::is_router(pod);
        let subscriber = subscriber(object::namespace(pod), Some(pod));
        let identity = Identity {
            trust_domain: snapshot.settings().trust_domain.clone(),
            namespace: subscriber.namespace.clone(),
            service_account: Pod::of(pod).spec().service_account().into(),
        };
        let kind = if gateway { ProxyKind::Gateway } else { ProxyKind::Sidecar };
        let (scope, _) = snapshot.scope(&subscriber, Some(kind));
        let view = match Pod::of(pod).status().pod_ip().parse() {
            Ok(ip) => View::of(ip, object::uid(pod).into()),
            Err(_) => View::default(),
        };
        let (places, entered) = (Vec::new(), None);
        let mut proxy = Self { snapshot, pod, subscriber, scope, view, identity, places, entered };
        proxy.subscribe(ResourceKey::Settings);
        if let Ok(ip) = Pod::of(pod).status().pod_ip().parse() {
            proxy.subscribe(ResourceKey::Workload(ip));
        }
        if gateway {
            proxy.subscribe(ResourceKey::Listeners);
        }
        proxy
    }

    /// What it believes of what stands in front of it, as a gateway.
    pub(super) fn topology(&self) -> Topology {
        let own = own_topology(object::annotation(self.pod, PROXY_CONFIG));
        own.over(self.view.settings().gateway_topology)
    }

    /// What is to be known of how a client comes to it, if it is a gateway.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(Place { outside, own, of }) = &self.entered {
            notes.push(format!("port {outside} of {of} leads to port {own} here"));
        }
        let own = own_topology(object::annotation(self.pod, PROXY_CONFIG));
        let by_mesh = self.view.settings().gateway_proxy_protocol;
        if inject::is_router(self.pod) && (own.proxy_protocol || by_mesh) {
            let text = "a connection must begin with a header of the PROXY protocol, by which the \
                        balancer in front says who calls";
            notes.push(text.to_owned());
        }
        notes
    }

    /// What it holds by now.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Takes over what the real proxy has found the name of a service's endpoint to stand for. (Of
    /// several names it does not tell which is which.)
    pub(super) fn take_answers(&mut self, report: &GroupReport) {
        if let [name] = &self.view.names_of(&report.key.service)[..] {
            let addresses: Vec<IpAddr> = report.members.iter().map(|m| m.address.ip()).collect();
            self.view = self.view.with_answer(name, Some(&addresses));
        }
    }

    /// Lets a client enter a gateway, and gives the port that it means: the one in the URL, or if the
    /// gateway does not listen there the one to which that leads, else the first of HTTPS or the one of
    /// HTTP.
    ///
    /// # Errors
    ///
    /// If the gateway listens at none of them.
    pub(super) fn enter_gateway(
        &mut self,
        port: u16,
        tls: bool,
        places: Vec<Place>,
    ) -> Result<u16, Refused> {
        self.places = places;
        let listens = |port| self.view.listeners().at(port).is_some();
        self.entered = edge::entered(&self.places, port, listens).cloned();
        if let Some(place) = &self.entered {
            return Ok(place.own);
        }
        let listeners = self.view.listeners();
        let secure = listeners.listeners.iter().find(|own| own.protocol == GatewayProtocol::Tls);
        let meant = match tls {
            true => secure.map(|own| own.port),
            false => Some(HTTP_PORT),
        };
        let found = [Some(port), meant].into_iter().flatten().find(|p| listeners.at(*p).is_some());
        found.ok_or_else(|| {
            let kind = if tls { " for TLS" } else { "" };
            Refused::BadRequest(format!(
                "the gateway does not listen at port {port}, since no Gateway that selects it has a \
                 server{kind} there"
            ))
        })
    }

    /// Decides about a call as the proxy does: first about its connection, then, unless the bytes
    /// of that stay unread, about the request, which it changes where that comes in.
    pub(super) fn walk(
        &mut self,
        sender: &Sender<'_>,
        peer: Option<&Identity>,
        (client, destination): (SocketAddr, SocketAddr),
        call: &mut Call,
        draw: Option<Draw>,
    ) -> Walked {
        let listener = sender.listener;
        let local = self.local();
        let peer = peer.map_or(Seen::Absent, Seen::Is);
        let server_name = call.server_name();
        let server_name = server_name.as_deref().map_or(Seen::Absent, Seen::Is);
        let connection = Connection { listener, local: &local, destination, peer, server_name };
        if listener != ListenerKind::Gateway
            || call.is_opaque
            || passes_bytes_on(&self.view, &connection)
        {
            let decided = self.decide(&Traffic::Connection(connection), draw);
            let protocol = decided.0.protocol();
            // What leaves a workload is read all the same: its host may be known.
            let is_refused =
                listener == ListenerKind::Inbound && matches!(decided.0.plan, Plan::Answer(_));
            let unread = protocol.is_opaque() || call.is_tls || call.is_opaque;
            if unread || is_refused || listener == ListenerKind::Gateway {
                // TLS to a port that declares HTTP is not HTTP; the inbound side leaves it to the
                // application.
                let reads_all = listener == ListenerKind::Outbound && protocol.is_http();
                let not_http = reads_all && (call.is_tls || call.is_opaque);
                let refused = not_http.then_some(Reason::BadRequest);
                return Walked::unread(listener, destination, decided, draw, refused, client);
            }
        }
        let entered = match call.enter(sender, destination) {
            Ok(entered) => entered,
            Err(EscapedNul) => {
                let refused = Some(Reason::BadRequest);
                let decided = (Decision::without_lookup(Reason::BadRequest), Vec::new());
                return Walked::unread(listener, destination, decided, draw, refused, client);
            }
        };
        let client = entered.client.map_or(client, |ip| SocketAddr::new(ip, 0));
        let (path, query) = split_target(&call.target);
        let request = Request {
            method: &call.method,
            scheme: if entered.https { SECURE_SCHEME } else { sender.scheme() },
            authority: &call.authority,
            path,
            query,
            headers: &call.headers,
        };
        let (decision, events) = self.decide(&Traffic::Request(connection, request), draw);
        let hashed = decision.hashed(&request, client, destination);
        let mut answer_headers = answer_headers(&decision, &request, destination.port());
        if decision.reason == Reason::HttpsRedirect {
            let location = https_location(&self.view, &request, destination.port(), |port| {
                edge::published(&self.places, self.entered.as_ref()?, port)
            });
            answer_headers.push(("location".to_owned(), location));
        }
        let (new, hashed) = new_cookie(&decision, hashed);
        answer_headers.extend(new.map(|cookie| ("set-cookie".to_owned(), cookie)));
        let asked = match listener {
            ListenerKind::Inbound => Asked::default(),
            _ => Asked::of(request.headers, decision.retry()),
        };
        Walked {
            listener,
            destination,
            decision,
            events,
            draw,
            hashed,
            answer_headers,
            asked,
            refused: None,
            is_read: true,
        }
    }

    /// The workload whose proxy it is.
    fn local(&self) -> Local {
        Local {
            namespace: self.subscriber.namespace.clone(),
            labels: self.subscriber.labels.clone(),
        }
    }

    /// Where the node sends a connection to an address for which there is no proxy: to a pod of the
    /// Service that has the address, `None` if none is ready, or to the address itself.
    pub(super) fn plain(&mut self, to: SocketAddr) -> Option<SocketAddr> {
        let local = self.local();
        let connection = Connection {
            listener: ListenerKind::Outbound,
            local: &local,
            destination: to,
            peer: Seen::Absent,
            server_name: Seen::Absent,
        };
        let (decision, _) = self.decide(&Traffic::Connection(connection), None);
        let service = decision.applies().and_then(|applies| applies.service.as_ref());
        match service {
            Some(service) if service.addresses.contains(&to.ip()) => {
                super::picked(&decision, to, Draw(0), None).map(|(_, address)| address)
            }
            _ => Some(to),
        }
    }

    /// Decides again and again, subscribing to what is needed, until nothing is.
    fn decide(&mut self, traffic: &Traffic<'_>, draw: Option<Draw>) -> (Decision, Vec<Event>) {
        let draw = draw.unwrap_or(Draw(0));
        for _ in 0..SUBSCRIPTIONS_MAX {
            let decision = decide(&self.view, traffic, draw, &mut Silent);
            let Plan::Needs(key) = decision.plan else { break };
            self.subscribe(key);
        }
        let mut trace = Trace::default();
        let decision = decide(&self.view, traffic, draw, &mut trace);
        (decision, trace.0)
    }

    fn subscribe(&mut self, key: ResourceKey) {
        let changes = expand(self.snapshot, &self.scope, [key]);
        // What cannot be compiled is dead, and the trace says so.
        self.view = self.view.apply(changes).0;
    }
}

/// A new cookie by which a client is known, and what it is known by otherwise: the port of the client is
/// not known, from which a new cookie is made, too.
fn new_cookie(decision: &Decision, hashed: Option<Hashed>) -> (Option<String>, Option<Hashed>) {
    match (hashed, decision.hash_key()) {
        (Some(Hashed { set_cookies, .. }), Some(HashKey::Cookie(cookie)))
            if !set_cookies.is_empty() =>
        {
            (Some(format!("{}={MADE_BY_PROXY}", cookie.name)), None)
        }
        (hashed, _) => (None, hashed),
    }
}

/// What a proxy adds to an answer because of the winning rule.
fn answer_headers(
    decision: &Decision,
    request: &Request<'_>,
    dialled: u16,
) -> Vec<(String, String)> {
    let location = decision.location(request, dialled).map(|location| ("location", location));
    let origin = request.headers.value("origin");
    let cors = origin.map(|origin| decision.origin_fields(&origin)).unwrap_or_default();
    location.into_iter().chain(cors).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Resources that one decision may need one after the other.
const SUBSCRIPTIONS_MAX: usize = 16;

/// Where gateways listen for HTTP, if they are not asked for another port.
const HTTP_PORT: u16 = 80;

/// Headers that a new trace adds.
const NEW_TRACE_HEADERS: [&str; 4] = ["traceparent", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"];

/// Stands for a value that the proxy draws at random.
const MADE_BY_PROXY: &str = "made-by-the-proxy";
