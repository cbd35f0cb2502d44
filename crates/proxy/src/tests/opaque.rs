//! Opaque connections, and what is found out about undeclared ports.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::route::{Action, ConnectionRule};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::RouteSource;

use super::world::*;
use crate::destination::OriginalDestination;
use crate::worker::Listener;

#[test]
fn a_half_closed_tunnel_goes_on() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        let all = wire.read_to_end();
        wire.send(&all.to_uppercase());
    });
    let proxy = outbound(Protocol::Tcp, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.stream.write_all(b"hello").unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(), "HELLO");
    eventually("the metrics", || {
        ["sent", "received"].iter().all(|way| {
            let family = format!("istio_tcp_{way}_bytes_total{{");
            let metrics = proxy.registry.render();
            metrics.lines().any(|line| line.starts_with(&family) && line.ends_with(" 5"))
        })
    });
}

#[test]
fn a_reset_is_passed_on_as_what_it_is() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_exact(5);
        reset(wire);
    });
    let proxy = outbound(Protocol::Tcp, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("hello");
    let ended = client.stream.read(&mut [0]);
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_of_the_client_is_passed_on_as_what_it_is() {
    let app = App::start(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        let ended = stream.read(&mut [0]);
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    });
    let proxy = outbound(Protocol::Tcp, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("hello");
    eventually("the connection", || app.connections() == 1);
    reset(client);
    app.finish();
}

#[test]
fn a_server_that_ends_its_direction_still_hears_its_client() {
    let (tell, told) = std::sync::mpsc::channel();
    let app = App::start(move |stream| {
        let mut wire = Wire::new(stream);
        wire.send("all that I say");
        wire.stream.shutdown(Shutdown::Write).unwrap();
        tell.send(wire.read_to_end()).unwrap();
    });
    let proxy = outbound(Protocol::Tcp, &[&app]);
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.read_to_end(), "all that I say");
    client.send("and what I answer");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "and what I answer");
}

#[test]
fn a_connection_on_which_nobody_says_anything_ends() {
    let app = App::silent();
    let objects = objects(Protocol::Tcp, &[&app]);
    let opaque_idle_timeout = std::time::Duration::from_millis(100);
    let limits = ProxyLimits { opaque_idle_timeout, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    assert!(Wire::connect(&proxy).is_ended());
    app.finish();
}

/// A port that declares nothing, whose server was heard to speak first: nobody is looked at any more.
#[test]
fn where_a_server_spoke_first_clients_are_not_sniffed_again() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.send("220 ready\r\n");
        wire.read_until("\r\n\r\n");
    });
    let proxy = outbound(Protocol::Undeclared, &[&app]);
    // Each worker learns by itself, from clients that wait. Of one it could be chance: it may hesitate.
    let teach = || {
        let mut silent = Wire::connect(&proxy);
        assert_eq!(silent.read_until("\r\n").unwrap(), "220 ready\r\n");
    };
    let is_not_looked_at = || {
        let mut client = Wire::connect(&proxy);
        client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
        client.read_until("\r\n").unwrap() == "220 ready\r\n"
    };
    eventually("clients of HTTP that are not looked at", || {
        teach();
        (0..10).all(|_| is_not_looked_at())
    });
}

/// Whoever dials a captured port itself would have the proxy dial itself.
#[test]
fn who_dials_the_proxy_itself_is_refused() {
    let proxy = outbound(Protocol::Tcp, &[]);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let original =
        OriginalDestination::Captured { own_ports: vec![address.port()], inbound: false };
    let workload = proxy.workload.clone();
    let listener = Listener::new(ListenerKind::Outbound, workload, original, socket);
    proxy.workers.as_ref().unwrap().listen(&Arc::new(listener));
    let mut client = Wire::new(std::net::TcpStream::connect(address).unwrap());
    assert!(client.is_ended());
    eventually("a log line", || proxy.lines.text().contains(" NR own_port "));
}

#[test]
fn what_a_server_says_before_it_takes_no_more_arrives() {
    let app = App::start(|stream| Wire::new(stream).send("too much"));
    let proxy = outbound(Protocol::Tcp, &[&app]);
    let mut client = Wire::connect(&proxy);
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for _ in 0..1000 {
            if sender.write_all(&[b'x'; 64 << 10]).is_err() {
                return;
            }
        }
    });
    assert_eq!(client.read_exact(8).as_deref(), Some("too much"));
    drop(client);
    sending.join().unwrap();
}

#[test]
fn a_client_that_says_all_and_ends_its_direction_is_answered() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        let all = wire.read_to_end();
        wire.send(&all.to_uppercase());
    });
    let undeclared = objects(Protocol::Undeclared, &[&app]);
    let outbound = Proxy::start(ListenerKind::Outbound, service_address(), undeclared.clone());
    let inbound = Proxy::start(ListenerKind::Inbound, app.address, undeclared);
    for proxy in [outbound, inbound] {
        for said in ["stats", ""] {
            let mut client = Wire::connect(&proxy);
            client.send(said);
            client.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.read_to_end(), said.to_uppercase());
        }
    }
    assert_eq!(app.connections(), 4);
}

#[test]
fn a_server_that_speaks_first_is_heard_on_an_undeclared_port() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.send("220 ready\r\n");
        let line = wire.read_until("\r\n").unwrap();
        wire.send(&line);
    });
    let proxy = outbound(Protocol::Undeclared, &[&app]);
    for _ in 0..3 {
        let mut client = Wire::connect(&proxy);
        assert_eq!(client.read_until("\r\n").unwrap(), "220 ready\r\n");
        client.send("EHLO me\r\n");
        assert_eq!(client.read_until("\r\n").unwrap(), "EHLO me\r\n");
    }
}

#[test]
fn a_server_that_closes_without_a_word_is_not_taken_for_one_that_speaks_first() {
    let closing = Arc::new(AtomicBool::new(true));
    let closes = closing.clone();
    let app = App::start(move |stream| {
        if closes.load(Ordering::SeqCst) {
            return;
        }
        let mut wire = Wire::new(stream);
        while wire.read_request().is_some() {
            wire.send(&ok("http"));
        }
    });
    let proxy = outbound(Protocol::Undeclared, &[&app]);
    // Enough for every worker.
    let mut silent: Vec<Wire> = (0..4).map(|_| Wire::connect(&proxy)).collect();
    assert!(silent.iter_mut().all(Wire::is_ended));
    closing.store(false, Ordering::SeqCst);
    let mut clients: Vec<Wire> = (0..4).map(|_| Wire::connect(&proxy)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").body, "http");
    }
    eventually("the log lines", || proxy.lines.text().matches("GET / HTTP/1.1").count() == 4);
}

#[test]
fn http_is_found_on_an_undeclared_port_even_after_a_silence() {
    let apps = [App::named("a"), App::named("b")];
    let proxy = outbound(Protocol::Undeclared, &apps.each_ref());
    let mut client = Wire::connect(&proxy);
    eventually("the silence to end", || apps.iter().any(|app| app.connections() == 1));
    let answers: Vec<String> = (0..4).map(|_| client.get("/").body).collect();
    assert_eq!(answers.iter().filter(|body| *body == "a").count(), 2, "{answers:?}");
    eventually("the log lines", || proxy.lines.text().contains("GET"));
}

#[test]
fn an_opaque_connection_that_is_too_old_is_broken_off_however_busy_it_is() {
    let app = App::start(|stream| {
        let mut stream = stream;
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    });
    let limits = ProxyLimits {
        connection_age_max: std::time::Duration::from_millis(300),
        ..ProxyLimits::default()
    };
    let objects = objects(Protocol::Tcp, &[&app]);
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    let mut client = Wire::connect(&proxy);
    let mut echoed = 0;
    let broken = loop {
        let mut byte = [0];
        let sent = client.stream.write_all(b"x");
        match sent.and_then(|()| client.stream.read_exact(&mut byte)) {
            Ok(()) => echoed += 1,
            Err(error) => break error.kind(),
        }
    };
    assert!(echoed > 0);
    assert_ne!(broken, std::io::ErrorKind::WouldBlock, "it was waited for in vain");
    assert_ne!(broken, std::io::ErrorKind::UnexpectedEof, "it does not look like a whole answer");
    eventually("the log", || proxy.lines.text().contains(" DT "));
}

/// A rule for connections to these subsets of `reviews`, by weight.
fn weighted(weights: &[(&str, u32)]) -> RouteSource {
    let Action::Forward(backends) = rule(weights, None).action else { panic!("it forwards") };
    let mut source = route(Vec::new());
    let place = "tcp[0]".into();
    source.route.connection_rules = vec![ConnectionRule { place, matches: Vec::new(), backends }];
    source
}

#[test]
fn weights_of_connections_hold() {
    let named = |name: &'static str| App::start(move |stream| Wire::new(stream).send(name));
    let apps = [named("v1"), named("v2")];
    let mut objects = objects(Protocol::Tcp, &[]);
    for (app, version) in apps.iter().zip(["v1", "v2"]) {
        objects.services[0].endpoints.push(endpoint(version, app.address, false));
    }
    objects.destination_policies = vec![subsets(&["v1", "v2"])];
    objects.routes = vec![weighted(&[("v1", 75), ("v2", 25)])];
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let reached = || Wire::connect(&proxy).read_to_end();
    let first = (0..400).filter(|_| reached() == "v1").count();
    // Binomial(400, 3/4): six sigma are 52.
    assert!(first.abs_diff(300) < 52, "{first}");
}
