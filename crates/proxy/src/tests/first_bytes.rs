//! What clients say first, by clients that never come to the point.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::service::Protocol;

use super::world::*;
use crate::untrusted;

/// Sends empty lines until the proxy takes no more of them; gives the answer.
fn flood(proxy: &Proxy) -> String {
    let mut sending = TcpStream::connect(proxy.address).unwrap();
    sending.set_read_timeout(Some(PATIENCE)).unwrap();
    sending.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut receiving = sending.try_clone().unwrap();
    let flood = thread::spawn(move || {
        loop {
            match sending.write_all([*b"\r\n"; 4096].as_flattened()) {
                Ok(()) => {}
                Err(error) => return error.kind(),
            }
        }
    });
    let mut answer = Vec::new();
    // A reset after the answer is an end, too.
    let _ = receiving.read_to_end(&mut answer);
    let _ = receiving.shutdown(Shutdown::Both);
    let ended = flood.join().unwrap();
    assert!(matches!(ended, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{ended}");
    String::from_utf8(answer).unwrap()
}

#[test]
fn empty_lines_without_end_are_refused_where_http_is_declared() {
    let app = App::named("a");
    let proxy = outbound(Protocol::Http, &[&app]);
    let answer = flood(&proxy);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(Wire::connect(&proxy).get("/").status, 200, "others are served");
    assert_eq!(app.connections(), 1);
}

#[test]
fn empty_lines_without_end_are_bytes_like_others_where_nothing_is_declared() {
    let app = App::start(|mut stream| {
        let mut seen = [0; 64 << 10];
        stream.read_exact(&mut seen).unwrap();
        assert!(seen.iter().all(|byte| matches!(byte, b'\r' | b'\n')));
    });
    let proxy = outbound(Protocol::Undeclared, &[&app]);
    flood(&proxy);
    app.finish();
}

/// However a connection begins and in whatever pieces, it comes to an end once its client has ended
/// it, and the next one is served.
#[test]
fn every_beginning_comes_to_an_end() {
    let app = App::start(|mut stream| {
        let mut rest = Vec::new();
        // What comes is no request, and may end with a reset.
        let _ = stream.read_to_end(&mut rest);
    });
    let seeds = ["first_bytes", "client_hello", "http1"].map(untrusted::seeds).concat();
    for (kind, protocol) in [
        (ListenerKind::Outbound, Protocol::Http),
        (ListenerKind::Outbound, Protocol::Undeclared),
        (ListenerKind::Inbound, Protocol::Undeclared),
        (ListenerKind::Gateway, Protocol::Http),
    ] {
        let destination =
            if kind == ListenerKind::Inbound { app.address } else { service_address() };
        // Where the mesh's TLS begins, a certificate is awaited that never comes.
        let limits = ProxyLimits { parked_wait: Duration::from_millis(100), ..Default::default() };
        let setup = Setup::new(kind, destination, objects(protocol, &[&app]));
        let proxy = Proxy::begin(Setup { limits, ..setup });
        for seed in &seeds {
            for pieces in [1, 7, seed.len()] {
                let mut client = TcpStream::connect(proxy.address).unwrap();
                client.set_nodelay(true).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                // The proxy may have refused it already.
                let sent = seed.chunks(pieces).try_for_each(|piece| client.write_all(piece));
                let _ = sent.and_then(|()| client.shutdown(Shutdown::Write));
                let ended = client.read_to_end(&mut Vec::new());
                let waited = matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock);
                assert!(!waited, "{kind:?} {protocol:?}: {}", String::from_utf8_lossy(seed));
            }
        }
    }
}
