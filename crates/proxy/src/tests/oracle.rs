//! What a proxy does over real sockets, with a configuration that went through the wire's encoding,
//! is what `decide` says of the view that a snapshot gives: route, subset and reason of random
//! requests in random meshes, at sidecars and at gateways, compared with the access log by its draw.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use ironmesh_dialects::{Object, translate};
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::service::{EndpointAddress, UpstreamTls};
use ironmesh_model::settings::{AccessLogEncoding, OutboundPolicy, Settings};
use ironmesh_model::snapshot::{Objects, Subscriber};
use ironmesh_model::{Draw, Local, Plan, Snapshot, View, WorkloadId};
use ironmesh_testkit::deciding::{decide_on, destination, listener, location, subscriber};
use ironmesh_testkit::naive::Request;
use ironmesh_testkit::random::{self, Random};
use serde_json::Value;

use super::world::*;
use crate::workload::LocalWorkload;

const MESHES: u64 = 160;
const REQUESTS: usize = 30;

#[test]
fn the_wire_agrees_with_decide() {
    let app = App::named("any");
    let mut reasons = BTreeMap::new();
    for seed in 0..MESHES {
        let mut random = Random(seed);
        let objects = objects(&mut random, app.address);
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
    let proxy = Proxy::begin(Setup { workload: caller(first), ..setup });
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

/// The workload from which a request comes, or the gateway.
fn caller(request: &Request) -> Arc<LocalWorkload> {
    let Subscriber { namespace, labels, .. } = subscriber(request);
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
