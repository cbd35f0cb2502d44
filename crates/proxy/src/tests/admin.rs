//! What a proxy tells about itself, to whom, and who may ask.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::ListenerKind;
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::group::EndpointLoad;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::service::Protocol;
use ironmesh_telemetry::Registry;

use super::http2::{Http2App, block_on, connect, grpc, runtime};
use super::mesh::Mesh;
use super::world::*;
use crate::admin::{self, Admin, Site};
use crate::connect::Connector;
use crate::logging::LogLevel;
use crate::process::Process;
use crate::workload::LocalWorkload;

/// A site of a proxy of this workload; its thread ends with the test process.
fn serve(
    kind: ProxyKind,
    site: Site,
    workload: &Arc<LocalWorkload>,
    limits: ProxyLimits,
) -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let workload = workload.clone();
    std::thread::spawn(move || {
        let process = Arc::new(Process::new(limits, Connector::of_loopback(), 1));
        let registry = Registry::new(1_000);
        let admin = Admin::new(process, workload, registry, LogLevel::of_nothing(), kind, None);
        tokio::task::LocalSet::new().block_on(&runtime(), async {
            admin::serve(&admin, socket, site).unwrap();
            std::future::pending::<()>().await;
        });
    });
    address
}

fn ask(address: SocketAddr, what: &str) -> (u16, String) {
    let mut client = Wire::new(TcpStream::connect(address).unwrap());
    client.send(&format!("{what} HTTP/1.1\r\nhost: a\r\n\r\n"));
    let response = client.read_response(false);
    (response.status, response.body)
}

#[test]
fn a_proxy_is_ready_when_it_can_serve_and_says_what_it_lacks() {
    let mesh = Mesh::new();
    for (kind, lacks_listeners) in [(ProxyKind::Sidecar, false), (ProxyKind::Gateway, true)] {
        let workload = workload("client");
        let address = serve(kind, Site::Health, &workload, ProxyLimits::default());
        let ready = || ask(address, "GET /healthz/ready");
        let lacks = |what: &str| assert_eq!(ready(), (503, format!("not ready: {what}\n")));
        lacks("no settings from the control plane");
        serve_views(&workload, objects(Protocol::Http, &[]));
        lacks("no certificate from the control plane");
        workload.credentials.store(Some(mesh.credentials("client")));
        if lacks_listeners {
            lacks("no listeners from the control plane");
            workload.views.want(ironmesh_model::ResourceKey::Listeners);
            eventually("the listeners", || ready().0 == 200);
        }
        assert_eq!(ready(), (200, "ready\n".to_owned()));
        workload.send_away();
        lacks("draining");
    }
}

#[test]
fn each_port_tells_what_it_is_for() {
    let workload = workload("client");
    let ask_at = |site, what: &str| {
        ask(serve(ProxyKind::Sidecar, site, &workload, ProxyLimits::default()), what).0
    };
    for (what, admin, metrics, health) in [
        ("GET /healthz/ready", 503, 503, 503),
        ("GET /stats/prometheus", 200, 200, 404),
        ("GET /config_dump", 200, 404, 404),
        ("GET /versions", 200, 404, 404),
        ("GET /certs", 200, 404, 404),
        ("GET /endpoints", 200, 404, 404),
        ("GET /logging", 200, 404, 404),
        ("GET /other", 404, 404, 404),
    ] {
        let found = [Site::Admin, Site::Metrics, Site::Health].map(|site| ask_at(site, what));
        assert_eq!(found, [admin, metrics, health], "{what}");
    }
}

#[test]
fn only_a_level_that_there_is_is_set_and_only_by_who_means_it() {
    let workload = workload("client");
    let address = serve(ProxyKind::Sidecar, Site::Admin, &workload, ProxyLimits::default());
    assert_eq!(ask(address, "POST /logging?level=ironmesh_proxy=nonsense").0, 400);
    assert_eq!(ask(address, "GET /logging?level=debug").0, 405);
    assert_eq!(ask(address, "POST /logging").0, 405);
}

#[test]
fn whoever_says_nothing_or_stays_too_long_makes_room() {
    let workload = workload("client");
    let soon = Duration::from_millis(100);
    let connect = |limits| {
        let address = serve(ProxyKind::Sidecar, Site::Health, &workload, limits);
        Wire::new(TcpStream::connect(address).unwrap())
    };
    let quick = ProxyLimits { admin_head_timeout: soon, ..ProxyLimits::default() };
    assert!(connect(quick).is_ended());
    let brief = ProxyLimits {
        admin_connection_time_max: soon,
        admin_head_timeout: Duration::from_secs(3_600),
        ..ProxyLimits::default()
    };
    let mut client = connect(brief);
    client.send("GET /ready HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.read_response(false).status, 503);
    assert!(client.is_ended());
}

#[test]
fn a_peer_has_no_more_connections_than_its_share() {
    let workload = workload("client");
    let limits = ProxyLimits {
        admin_connections_per_peer_max: 2,
        admin_head_timeout: Duration::from_secs(3_600),
        admin_connection_time_max: Duration::from_secs(3_600),
        ..ProxyLimits::default()
    };
    let address = serve(ProxyKind::Sidecar, Site::Health, &workload, limits);
    let mut clients = [(); 3].map(|()| Wire::new(TcpStream::connect(address).unwrap()));
    assert!(clients[0].is_ended(), "the one that was idle for longest goes");
    for client in &mut clients[1..] {
        client.send("GET /ready HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.read_response(false).status, 503);
    }
}

#[test]
fn what_is_open_to_endpoints_is_told_by_all_workers_together() {
    let loads = |proxy: &Proxy| {
        let workers = proxy.workers.as_ref().unwrap();
        let loads = runtime().block_on(workers.loads(&proxy.workload, PATIENCE)).unwrap();
        let mut sum = EndpointLoad::default();
        loads.iter().for_each(|(_, load)| sum.add(*load));
        (sum.connections, sum.requests)
    };
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let app = App::http(move |_| {
        released.lock().unwrap().recv().unwrap();
        ok("late")
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    assert_eq!(loads(&proxy), (0, 0));
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("the request", || loads(&proxy) == (1, 1));
    release.send(()).unwrap();
    assert_eq!(client.read_response(false).body, "late");
    eventually("that it is idle", || loads(&proxy) == (1, 0));

    let http2 = Http2App::echo();
    let proxy = http2.outbound(Protocol::Grpc);
    block_on(async {
        let client = connect(&proxy).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut client = client.clone().ready().await.unwrap();
            let (response, send) = client.send_request(grpc("/"), false).unwrap();
            streams.push((response.await.unwrap(), send));
        }
        let told = tokio::task::spawn_blocking(move || (loads(&proxy), proxy));
        let (found, _proxy) = told.await.unwrap();
        assert_eq!(found, (1, 3));
    });

    let opaque = App::silent();
    let proxy = outbound(Protocol::Tcp, &[&opaque]);
    let client = Wire::connect(&proxy);
    eventually("the connection", || loads(&proxy) == (1, 1));
    drop(client);
    eventually("its end", || loads(&proxy) == (0, 0));
    // What enters a workload goes to no endpoint.
    let inbound =
        Proxy::start(ListenerKind::Inbound, app.address, objects(Protocol::Http, &[&app]));
    release.send(()).unwrap();
    assert_eq!(Wire::connect(&inbound).get("/").body, "late");
    assert_eq!(loads(&inbound), (0, 0));
}
