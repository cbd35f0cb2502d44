//! What a proxy does over real sockets, with a configuration that went through the wire's encoding,
//! is what `decide` says of the view that a snapshot gives: route, subset and reason of random
//! requests and connections in random meshes, at sidecars and at gateways, compared with the access log
//! by its draw. `IRONMESH_ORACLE_MESHES` says how many meshes.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use ironmesh_dialects::{Object, translate};
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::service::{EndpointAddress, UpstreamTls};
use ironmesh_model::settings::{AccessLogEncoding, OutboundPolicy, Settings};
use ironmesh_model::snapshot::{Objects, Subscriber};
use ironmesh_model::{Draw, Local, Plan, ResourceKey, Snapshot, View, WorkloadId};
use ironmesh_testkit::deciding::{
    connect_on, decide_on, destination, listener, listener_of, location, subscriber, subscriber_of,
};
use ironmesh_testkit::naive::Request;
use ironmesh_testkit::naive::connections::{Connection, Met};
use ironmesh_testkit::random::{self, Random};
use serde_json::Value;

use super::world::*;
use crate::client_hello::tests::{hello, record};
use crate::workload::LocalWorkload;

const MESHES: u64 = 160;
const REQUESTS: usize = 30;
const CONNECTED_MESHES: u64 = 60;

#[test]
fn the_wire_agrees_with_decide() {
    let app = App::named("any");
    let mut reasons = BTreeMap::new();
    for seed in 0..random::meshes(MESHES) {
        let mut random = Random(seed);
        let objects = objects(random::mesh(&mut random), app.address);
        // A proxy for each place where requests come in.
        let mut by_proxy: BTreeMap<String, Vec<Request>> = BTreeMap::new();
        for _ in 0..REQUESTS {
            // The proxy's own view of every request that it can read.
            let request = Request { scheme: "http".to_owned(), ..random::request(&mut random) };
            let Request { at_gateway, namespace, labels, port, .. } = &request;
            let place = format!("{at_gateway} {namespace} {labels:?} {port}");
            by_proxy.entry(place).or_default().push(request);
        }
        let snapshot = Snapshot::new(objects.clone()).0;
        let mut views = HashMap::new();
        for requests in by_proxy.values() {
            compare(&objects, &snapshot, &mut views, requests, &mut reasons)
                .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
    }
    for (at_gateway, reason) in [
        (false, "route"),
        (false, "default_route"),
        (false, "blocked"),
        (false, "no_route"),
        (false, "undefined_subset"),
        (false, "redirect"),
        (false, "fault_abort"),
        (false, "preflight"),
        (false, "direct_response"),
        (true, "route"),
        (true, "no_route"),
        (true, "undefined_subset"),
    ] {
        let count = reasons.get(&(at_gateway, reason));
        assert!(count.is_some_and(|count| *count > 3), "{at_gateway} {reason}: {reasons:?}");
    }
}

/// Sends requests through one proxy, and compares its log with decisions.
fn compare(
    objects: &Objects,
    snapshot: &Snapshot,
    views: &mut HashMap<Subscriber, View>,
    requests: &[Request],
    reasons: &mut BTreeMap<(bool, &'static str), usize>,
) -> Result<(), String> {
    let first = &requests[0];
    let setup = Setup::new(listener(first), destination(first), objects.clone());
    // However late the machine lets this thread write: whoever is silent at first may get no answer.
    let limits = ProxyLimits { outbound_silence: PATIENCE, ..setup.limits.clone() };
    let setup = Setup { limits, ..setup };
    let proxy = Proxy::begin(Setup { workload: caller(subscriber(first)), ..setup });
    let mut client = Wire::connect(&proxy);
    let mut answers = Vec::new();
    for request in requests {
        client.send(&text(request));
        answers.push(client.read_response(request.method == "HEAD"));
    }
    eventually("all log lines", || proxy.lines.text().lines().count() >= requests.len());
    for ((line, request), answer) in proxy.lines.text().lines().zip(requests).zip(&answers) {
        let logged: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let word = |name: &str| logged[name].as_str().map(str::to_owned);
        let draw: Draw = word("draw").unwrap_or_default().parse().unwrap_or(Draw(0));
        let decision = decide_on(snapshot, views, request, draw);
        let subset = decision.backend().and_then(|backend| backend.subset.as_deref());
        let reason = decision.reason.code();
        let status = match decision.plan {
            Plan::Answer(status) => status,
            _ => answer.status,
        };
        let told = (status, location(&decision, request));
        let expected =
            (decision.route_name(), subset.map(str::to_owned), Some(reason.to_owned()), told);
        let seen = (answer.status, answer.header("location").map(str::to_owned));
        let got = (word("route"), word("subset"), word("reason"), seen);
        if got != expected {
            return Err(format!("{got:?} instead of {expected:?}: {request:#?}"));
        }
        *reasons.entry((request.at_gateway, reason)).or_default() += 1;
    }
    Ok(())
}

#[test]
fn the_wire_agrees_with_decide_on_connections() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_exact(1);
        wire.send("ok");
    });
    let mut reasons = BTreeMap::new();
    for seed in 0..random::meshes(CONNECTED_MESHES) {
        let mut random = Random(seed);
        let objects = objects(random::connected_mesh(&mut random), app.address);
        let snapshot = Snapshot::new(objects.clone()).0;
        let mut views = HashMap::new();
        for _ in 0..REQUESTS {
            let connection = random::connection(&mut random);
            let decision = connect_on(&snapshot, &mut views, &connection, Draw(0));
            let port = connection.destination.port();
            let servers = objects.gateways.iter().flat_map(|gateway| &gateway.servers);
            let mut servers = servers.filter(|server| server.port == port).peekable();
            let is_open = servers.peek().is_some();
            // What is no TLS fails before anything is decided.
            let is_read = connection.server_name.is_some()
                || servers.all(|server| server.protocol == GatewayProtocol::Tcp);
            // A gateway has the ports of its Gateways.
            if connection.met == Met::AtGateway && !(is_open && is_read) {
                continue;
            }
            let is_dialled = decision.backend().is_some_and(|to| to.host.starts_with('*'));
            // What goes to where it was dialled would leave this machine.
            if connection.met == Met::Entering || decision.plan == Plan::Passthrough || is_dialled {
                continue;
            }
            let reason = connected(&objects, &snapshot, &mut views, &connection)
                .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            *reasons.entry((connection.met, reason)).or_insert(0) += 1;
        }
    }
    for (met, reason) in [
        (Met::Leaving, "route"),
        (Met::Leaving, "default_route"),
        (Met::Leaving, "blocked"),
        (Met::Leaving, "undefined_subset"),
        (Met::AtGateway, "route"),
        (Met::AtGateway, "no_route"),
        (Met::AtGateway, "no_server"),
        (Met::AtGateway, "undefined_subset"),
    ] {
        let count = reasons.get(&(met, reason));
        assert!(count.is_some_and(|count| *count > 3), "{met:?} {reason}: {reasons:?}");
    }
}

/// Makes a connection through a proxy of its own, and compares what is logged with the decision.
fn connected(
    objects: &Objects,
    snapshot: &Snapshot,
    views: &mut HashMap<Subscriber, View>,
    connection: &Connection,
) -> Result<&'static str, String> {
    let setup = Setup::new(listener_of(connection), connection.destination, objects.clone());
    let limits = ProxyLimits { outbound_silence: PATIENCE, ..setup.limits.clone() };
    let workload = caller(subscriber_of(connection));
    let proxy = Proxy::begin(Setup { limits, workload, ..setup });
    if connection.met == Met::AtGateway {
        // It opens no port before it has been told so.
        proxy.workload.views.want(ResourceKey::Listeners);
        let is_told = || proxy.workload.views.load().get(&ResourceKey::Listeners).is_some();
        eventually("the listeners", is_told);
    }
    let mut client = Wire::connect(&proxy);
    let first = match &connection.server_name {
        Some(name) => record(&hello(&[], name)),
        None => b"hello\n".to_vec(),
    };
    // Who is refused may be so before it has said anything.
    let _ = client.stream.write_all(&first);
    let mut answer = Vec::new();
    let _ = client.stream.read_to_end(&mut answer);
    drop(client);
    eventually("a log line", || !proxy.lines.text().is_empty());
    let line = proxy.lines.text();
    let logged: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    let word = |name: &str| logged[name].as_str().map(str::to_owned);
    let draw: Draw = word("draw").unwrap_or_default().parse().unwrap_or(Draw(0));
    let decision = connect_on(snapshot, views, connection, draw);
    let subset = decision.backend().and_then(|backend| backend.subset.as_deref());
    let reason = decision.reason.code();
    let served = decision.plan == Plan::Forward;
    let expected =
        (decision.route_name(), subset.map(str::to_owned), Some(reason.to_owned()), served);
    let got = (word("route"), word("subset"), word("reason"), answer == b"ok");
    match got == expected {
        true => Ok(reason),
        false => Err(format!("{got:?} instead of {expected:?}: {connection:#?}")),
    }
}

/// The workload from which a request comes, or the gateway.
fn caller(subscriber: Subscriber) -> Arc<LocalWorkload> {
    let Subscriber { namespace, labels, .. } = subscriber;
    let id = WorkloadId {
        cluster: "Kubernetes".into(),
        namespace: namespace.clone(),
        name: "caller".into(),
        uid: "uid-caller".into(),
    };
    let ip = Ipv4Addr::LOCALHOST.into();
    LocalWorkload::new(id, "caller".into(), Local { namespace, labels }, ip)
}

/// A random mesh, all endpoints of which are one toy application.
fn objects(mesh: Vec<Value>, app: SocketAddr) -> Objects {
    let settings = Settings {
        // The original destination of the test is nowhere, so that nothing may go there.
        outbound_policy: OutboundPolicy::RegistryOnly,
        access_log_encoding: AccessLogEncoding::Json,
        ..Settings::default()
    };
    let objects: Vec<Object> =
        mesh.into_iter().map(|object| Object::new(object).unwrap()).collect();
    let mut objects = translate(&objects, &settings).objects;
    objects.settings = settings;
    for endpoint in objects.services.iter_mut().flat_map(|service| &mut service.endpoints) {
        endpoint.address = EndpointAddress::Ip(app.ip());
        endpoint.tls = UpstreamTls::None;
        endpoint.ports.iter_mut().for_each(|map| map.target = app.port());
    }
    objects
}

fn text(request: &Request) -> String {
    let fields: String =
        request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let Request { method, target, authority, .. } = request;
    format!("{method} {target} HTTP/1.1\r\nhost: {authority}\r\n{fields}\r\n")
}
