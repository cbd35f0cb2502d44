//! What a proxy does over real sockets, with a configuration that went through the wire's encoding,
//! is what `decide` says of the view that a snapshot gives: route, subset and reason of random
//! requests in random meshes, compared with the access log by its draw.

use std::net::SocketAddr;

use ironmesh_dialects::{Object, translate};
use ironmesh_model::request::normalize_path;
use ironmesh_model::service::EndpointAddress;
use ironmesh_model::settings::{AccessLogEncoding, OutboundPolicy, Settings};
use ironmesh_model::snapshot::{Objects, Subscriber};
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{
    Decision, Draw, ListenerKind, RequestMeta, ResourceKey, Silent, Snapshot, Source, Verdict,
    Version, View, decide,
};
use ironmesh_testkit::naive::Request;
use ironmesh_testkit::random::{self, Random};
use serde_json::Value;

use super::world::*;

const MESHES: u64 = 25;
const REQUESTS: usize = 20;

#[test]
fn the_wire_agrees_with_decide() {
    let app = App::named("any");
    let mut reasons = std::collections::BTreeSet::new();
    for seed in 0..MESHES {
        let mut random = Random(seed);
        let objects = objects(&mut random, app.address);
        let destination: SocketAddr = "10.96.0.0:80".parse().unwrap();
        let caller = workload_in("a", "x");
        let source = Source::clone(&caller.source.load());
        let setup = Setup::new(ListenerKind::Outbound, destination, objects.clone());
        let proxy = Proxy::begin(Setup { workload: caller, ..setup });
        let mut client = Wire::connect(&proxy);
        let requests: Vec<Request> = (0..REQUESTS).map(|_| random::request(&mut random)).collect();
        for request in &requests {
            client.send(&text(request));
            client.read_response(request.method == "HEAD");
        }
        eventually("all log lines", || proxy.lines.text().lines().count() >= REQUESTS);
        let snapshot = Snapshot::new(objects).0;
        for (line, request) in proxy.lines.text().lines().zip(&requests) {
            let logged: Value = serde_json::from_str(line).unwrap();
            let draw: Draw = logged["draw"].as_str().unwrap().parse().unwrap();
            let decision = decided(&snapshot, &source, request, destination, draw);
            let subset = decision.backend().and_then(|backend| backend.subset.clone());
            let expected = (decision.route_name(), subset.map(|s| s.to_string()));
            let word = |name: &str| logged[name].as_str().map(str::to_owned);
            assert_eq!((word("route"), word("subset")), expected, "seed {seed}: {request:#?}");
            assert_eq!(word("reason").as_deref(), Some(decision.reason.code()), "seed {seed}");
            reasons.insert(decision.reason.code());
        }
    }
    assert!(reasons.len() >= 4, "too little came up: {reasons:?}");
}

/// A random mesh, all endpoints of which are one toy application.
fn objects(random: &mut Random, app: SocketAddr) -> Objects {
    let settings = Settings {
        // The original destination of the test is nowhere, so that nothing may go there.
        outbound_policy: OutboundPolicy::RegistryOnly,
        access_log_encoding: AccessLogEncoding::Json,
        ..Settings::default()
    };
    let objects: Vec<Object> =
        random::mesh(random).into_iter().map(|object| Object::new(object).unwrap()).collect();
    let mut objects = translate(&objects, &settings).objects;
    objects.settings = settings;
    for endpoint in objects.services.iter_mut().flat_map(|service| &mut service.endpoints) {
        endpoint.address = EndpointAddress::Ip(app.ip());
        endpoint.identity = None;
        endpoint.tls = ironmesh_model::service::EndpointTls::Plaintext;
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

fn decided(
    snapshot: &Snapshot,
    source: &Source,
    request: &Request,
    destination: SocketAddr,
    draw: Draw,
) -> Decision {
    let subscriber =
        Subscriber { namespace: source.namespace.clone(), labels: source.labels.clone() };
    let (path, query) = normalize_path(&request.target);
    let meta = RequestMeta {
        listener: ListenerKind::Outbound,
        destination,
        source,
        method: &request.method,
        scheme: "http",
        authority: &request.authority,
        path: &path,
        query,
        headers: &request.headers,
    };
    let mut view = View::default();
    let hold = |key: ResourceKey, view: &View| {
        let resource = snapshot.resource(&key, &subscriber);
        let references: Vec<ResourceKey> =
            resource.iter().flat_map(|resource| snapshot.references(resource)).collect();
        let changes = std::iter::once(key).chain(references).map(|key| Change {
            body: snapshot.resource(&key, &subscriber).map_or(Body::Nothing, Body::Is),
            version: Version::default(),
            key,
        });
        view.apply(changes).0
    };
    view = hold(ResourceKey::Settings, &view);
    loop {
        let decision = decide(&view, &meta, draw, &mut Silent);
        let Verdict::Needs(key) = decision.verdict else { return decision };
        view = hold(key, &view);
    }
}
