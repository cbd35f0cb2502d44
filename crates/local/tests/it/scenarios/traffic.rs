//! Where connections go: capture, and plain Services.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;

use ironmesh_capture::forwarding::{ForwardedPort, Forwarding, Transport};
use ironmesh_capture::{self as capture, CaptureSpec, Exemption};
use ironmesh_local::PROXY_PORTS;
use socket2::Socket;

use crate::world::{GATEWAY, PATIENCE, Pod, SERVICES, World, answer};

/// Address that no pod has.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

pub(super) fn spec(pod: &Pod) -> CaptureSpec {
    CaptureSpec {
        ports: PROXY_PORTS,
        exemption: pod.sandbox.exemption(),
        pod: Some(pod.sandbox.ip()),
        resolver: Some(GATEWAY),
    }
}

/// Connects with a mark, as proxies and probes do.
fn marked(pod: &Pod, mark: u32, to: SocketAddrV4) -> String {
    let socket = Socket::from(pod.sandbox.marked_socket(mark).unwrap());
    socket.set_nonblocking(false).unwrap();
    let connected = socket.connect_timeout(&to.into(), PATIENCE).map(|()| socket.into());
    answer(connected)
}

/// A pod whose proxy's ports and application answer with their names.
pub(super) fn meshed(world: &World) -> Pod {
    let pod = world.pod();
    pod.sandbox.capture().unwrap();
    pod.serve("outbound", SocketAddrV4::new(LOOPBACK, 15001));
    pod.serve("inbound", SocketAddrV4::new(ANY, 15006));
    pod.serve("health", SocketAddrV4::new(ANY, 15021));
    pod.serve("admin", SocketAddrV4::new(LOOPBACK, 15000));
    pod.serve("app", SocketAddrV4::new(ANY, 9080));
    pod
}

pub(crate) fn capture(world: &World) {
    let (meshed, plain) = (meshed(world), world.pod());
    plain.serve("plain", SocketAddrV4::new(ANY, 9080));
    let (own, other) = (meshed.sandbox.ip(), plain.sandbox.ip());
    let at = SocketAddrV4::new;
    let from = |to| answer(meshed.connect(to));
    // What the application dials goes out through the proxy, which learns where it wanted to go.
    assert_eq!(from(at(other, 9080)), format!("outbound 127.0.0.1:15001 {own} {other}:9080"));
    assert_eq!(from(at(VIP, 80)), format!("outbound 127.0.0.1:15001 {own} {VIP}:80"));
    // Its own addresses are not captured.
    assert!(from(at(LOOPBACK, 9080)).starts_with("app 127.0.0.1:9080"));
    assert!(from(at(own, 9080)).starts_with(&format!("app {own}:9080 {own}")));
    assert!(from(at(LOOPBACK, 15000)).starts_with("admin"));
    // What comes from outside goes in through the proxy, from pods and from the mesh itself.
    let incoming = answer(plain.connect(at(own, 9080)));
    assert_eq!(incoming, format!("inbound {own}:15006 {other} {own}:9080"));
    let incoming = answer(std::net::TcpStream::connect(at(own, 9080)));
    assert_eq!(incoming, format!("inbound {own}:15006 {GATEWAY} {own}:9080"));
    assert!(answer(plain.connect(at(own, 15021))).starts_with("health"));
    // The admin API is not reachable: the proxy is asked, and must refuse its own ports.
    let admin = answer(plain.connect(at(own, 15000)));
    assert_eq!(admin, format!("inbound {own}:15006 {other} {own}:15000"));
    // The outbound proxy: to others untouched, to its own pod through the inbound proxy.
    assert!(marked(&meshed, 1, at(other, 9080)).starts_with("plain"));
    for _ in 0..200 {
        let own_call = marked(&meshed, 1, at(own, 9080));
        assert_eq!(own_call, format!("inbound 127.0.0.1:15006 {own} {own}:9080"));
    }
    // The inbound proxy, and probes.
    assert!(marked(&meshed, 2, at(own, 9080)).starts_with("app"));
    assert!(marked(&meshed, 2, at(LOOPBACK, 9080)).starts_with("app"));
    // The resolver's TCP port stays reachable: nobody listens there in this test.
    assert_eq!(from(at(GATEWAY, 53)), "error 111");
    assert!(from(at(GATEWAY, 54)).starts_with("outbound"));
    // A changed rule set keeps open connections.
    let mut open = meshed.connect(at(LOOPBACK, 9080)).unwrap();
    meshed.sandbox.capture().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut open, &mut text).unwrap();
    assert!(text.starts_with("app"));
    // IPv6 goes nowhere but to itself.
    let v6 = meshed.sandbox.in_netns(|| {
        let there = std::net::TcpStream::connect("[2001:db8::1]:80").unwrap_err();
        (there.raw_os_error(), std::net::TcpListener::bind("[::1]:0").is_ok())
    });
    assert_eq!(v6.unwrap(), (Some(libc::ENETUNREACH), true));
}

pub(crate) fn listing(world: &World) {
    let pod = world.pod();
    let exemption = Exemption::Marks { outbound: 1, inbound: 2, user: Some(65_536) };
    capture::apply(pod.sandbox.netns(), &CaptureSpec { exemption, ..spec(&pod) }).unwrap();
    let Some(listed) = nft(&pod) else { return };
    assert_golden("capture.nft", &listed, include_str!("../capture.nft"));
    let owner = CaptureSpec {
        ports: PROXY_PORTS,
        exemption: Exemption::Owner { uid: 1337, gid: 1337 },
        pod: None,
        resolver: None,
    };
    capture::apply(pod.sandbox.netns(), &owner).unwrap();
    let listed = nft(&pod).unwrap();
    assert_golden("capture-owner.nft", &listed, include_str!("../capture-owner.nft"));
    let mut forwarding = Forwarding::new(SERVICES);
    let endpoint = |last, port| SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, last), port);
    let port = |port, endpoints| ForwardedPort {
        address: SocketAddrV4::new(VIP, port),
        transport: Transport::Tcp,
        endpoints,
        sticky: port == 82,
    };
    let both = vec![endpoint(4, 9080), endpoint(6, 9080)];
    let ports = [port(80, both.clone()), port(81, Vec::new()), port(82, both)];
    pod.sandbox.in_netns(|| forwarding.apply(&ports).unwrap()).unwrap();
    let listed = nft(&pod).unwrap();
    let services = &listed[listed.find("table ip ironmesh-services").unwrap()..];
    assert_golden("services.nft", services, include_str!("../services.nft"));
}

/// Compares; with `UPDATE=1` the listing is printed in full, to be put into the file.
fn assert_golden(name: &str, listed: &str, expected: &str) {
    if std::env::var_os("UPDATE").is_some() {
        println!("=== {name}\n{listed}===");
    } else {
        assert_eq!(listed, expected, "{name}");
    }
}

/// The rules as nft shows them.
fn nft(pod: &Pod) -> Option<String> {
    let output = pod.sandbox.in_netns(|| {
        Command::new("/usr/sbin/nft").args(["--stateless", "list", "ruleset"]).output()
    });
    match output.unwrap() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            println!("SKIPPED: nft cannot be run: {error}");
            None
        }
    }
}

pub(crate) fn services(world: &World) {
    let pods: Vec<Pod> = (0..3).map(|_| world.pod()).collect();
    for (pod, name) in pods.iter().zip(["a", "b", "c"]) {
        pod.serve(name, SocketAddrV4::new(ANY, 9080));
    }
    let endpoint = |pod: &Pod| SocketAddrV4::new(pod.sandbox.ip(), 9080);
    let address = SocketAddrV4::new(VIP, 80);
    let port = |endpoints: &[&Pod]| ForwardedPort {
        address,
        transport: Transport::Tcp,
        endpoints: endpoints.iter().map(|pod| endpoint(pod)).collect(),
        sticky: false,
    };
    let name = |text: String| text.split(' ').next().unwrap_or_default().to_owned();
    let from_pod = |pod: &Pod| name(answer(pod.connect(address)));
    let from_mesh =
        || name(answer(std::net::TcpStream::connect_timeout(&address.into(), PATIENCE)));
    let mut forwarding = Forwarding::new(SERVICES);
    forwarding.apply(&[port(&[&pods[0], &pods[1]])]).unwrap();
    let turn: Vec<String> = (0..6).map(|_| from_pod(&pods[2])).collect();
    assert!(turn == ["a", "b", "a", "b", "a", "b"], "{turn:?}");
    // A pod that reaches itself sees the mesh as its caller.
    let both: Vec<String> = (0..2).map(|_| answer(pods[0].connect(address))).collect();
    assert!(both[0].starts_with(&format!("a {}:9080 {GATEWAY}", pods[0].sandbox.ip())));
    assert!(both[1].starts_with(&format!(
        "b {}:9080 {}",
        pods[1].sandbox.ip(),
        pods[0].sandbox.ip()
    )));
    // From the mesh's own processes too, and with changes the turn goes on.
    assert!(["a", "b"].contains(&&*from_mesh()));
    let mut first = Vec::new();
    for count in [3, 2, 3, 2, 3, 2] {
        let some: Vec<&Pod> = pods.iter().take(count).collect();
        forwarding.apply(&[port(&some)]).unwrap();
        first.push(from_pod(&pods[2]));
    }
    assert!(first.iter().any(|f| f != &first[0]), "always the same after a change: {first:?}");
    // Where callers keep their pod each has one, and not all the same; after a change that is undone
    // it is that one again.
    let sticky = |endpoints: &[&Pod]| ForwardedPort { sticky: true, ..port(endpoints) };
    let all: Vec<&Pod> = pods.iter().collect();
    let callers: Vec<Pod> = (0..16).map(|_| world.pod()).collect();
    forwarding.apply(&[sticky(&all)]).unwrap();
    let kept: Vec<String> = callers.iter().map(from_pod).collect();
    let others: std::collections::BTreeSet<&String> = kept.iter().collect();
    assert!(others.len() > 1, "{kept:?}");
    forwarding.apply(&[port(&all)]).unwrap();
    forwarding.apply(&[sticky(&all)]).unwrap();
    for _ in 0..3 {
        assert_eq!(callers.iter().map(from_pod).collect::<Vec<_>>(), kept);
    }
    drop(callers);
    // Nobody there: refused at once, for pods and for the mesh; the same for a port unknown.
    forwarding.apply(&[port(&[])]).unwrap();
    assert_eq!(
        (from_pod_error(&pods[2], address), from_mesh()),
        (libc::ECONNREFUSED, "error".into())
    );
    forwarding.apply(&[]).unwrap();
    assert_eq!(from_pod_error(&pods[2], address), libc::EHOSTUNREACH);
    // What is no host is no endpoint, and what is no Service's address is taken from nobody.
    let loopback = std::net::TcpListener::bind(SocketAddrV4::new(ANY, 9081)).unwrap();
    crate::world::serve(loopback, "mesh");
    let special = [[127, 0, 0, 1], [0, 0, 0, 0], [169, 254, 0, 1], [224, 0, 0, 1]];
    let mut hostile = port(&[]);
    hostile.endpoints = special.map(|ip| SocketAddrV4::new(ip.into(), 9081)).to_vec();
    let mut stolen = port(&[&pods[1]]);
    stolen.address = SocketAddrV4::new(GATEWAY, 9081);
    forwarding.apply(&[hostile, stolen.clone()]).unwrap();
    assert_eq!(
        (from_pod_error(&pods[2], address), from_mesh()),
        (libc::ECONNREFUSED, "error".into())
    );
    assert_eq!(name(answer(pods[2].connect(stolen.address))), "mesh");
    forwarding.apply(&[port(&[&pods[1]])]).unwrap();
    assert_eq!((from_pod(&pods[1]), from_mesh()), ("b".to_owned(), "b".to_owned()));
}

fn from_pod_error(pod: &Pod, to: SocketAddrV4) -> i32 {
    pod.connect(to).unwrap_err().raw_os_error().unwrap()
}

pub(crate) fn many_services(world: &World) {
    let pod = world.pod();
    pod.serve("app", SocketAddrV4::new(ANY, 9080));
    let at = |index: u32| SocketAddrV4::new(Ipv4Addr::from(SERVICES.0.to_bits() + index), 80);
    let mut ports: Vec<ForwardedPort> = (1..=500)
        .map(|index| ForwardedPort {
            address: at(index),
            transport: if index % 10 == 0 { Transport::Udp } else { Transport::Tcp },
            endpoints: vec![SocketAddrV4::new(pod.sandbox.ip(), 9080); index as usize % 4],
            sticky: false,
        })
        .collect();
    let mut forwarding = Forwarding::new(SERVICES);
    forwarding.apply(&ports).unwrap();
    let name = |index| answer(std::net::TcpStream::connect_timeout(&at(index).into(), PATIENCE));
    assert!(name(499).starts_with("app"));
    assert_eq!(name(496), "error 111");
    ports.truncate(499);
    ports[498].endpoints.clear();
    forwarding.apply(&ports).unwrap();
    assert_eq!(name(499), "error 111");
    forwarding.apply(&[]).unwrap();
    assert_eq!(name(495), "error 111");
}
