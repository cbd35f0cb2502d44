//! What pods reach outside the mesh, and what they do not.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use crate::running::{Running, as_every_user, await_some, samples};

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: shop}
spec: {containers: [{name: caller, image: ironmesh/sleep}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec: {containers: [{name: caller, image: ironmesh/sleep}]}
";

/// A server of the host, outside of any mesh, that answers each request with its name.
fn server(ip: IpAddr, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A client that breaks off is none.
            let _ = stream.read(&mut [0; 4096]);
            let length = name.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n");
            let _ = write!(stream, "{head}\r\n{name}");
        }
    });
    address
}

/// What the pod of a namespace gets from a URL; empty if nothing.
fn get(mesh: &Running, namespace: &str, url: &str) -> String {
    mesh.run(&["-n", namespace, "exec", "caller", "--", "curl", "-sf", "-m", "10", url]).out
}

fn await_body(mesh: &Running, namespace: &str, url: &str, body: &str) {
    let what = format!("{body:?} from {url} in {namespace}");
    await_some(&what, || (get(mesh, namespace, url) == body).then_some(()));
}

/// An address of this machine that is not the loopback's; nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// Whether the sample applications are there, which run in these tests.
fn can_run() -> bool {
    let can = samples().exists();
    if !can {
        println!("SKIPPED: {} is not built", samples().display());
    }
    can
}

#[test]
fn names_that_were_given_lead_out_of_pods_and_can_be_changed() {
    if can_run() {
        as_every_user(PODS, &["--external", "unused.test=127.0.0.1:9"], |mesh| {
            let first = server(Ipv4Addr::LOCALHOST.into(), "first");
            let second = server(Ipv4Addr::LOCALHOST.into(), "second");
            let shown = mesh.ok(&["external", &format!("hello.test={first}")]);
            assert!(shown.contains("hello.test") && shown.contains("unused.test"), "{shown}");
            for namespace in ["default", "shop"] {
                await_body(mesh, namespace, "http://hello.test/", "first");
            }
            mesh.ok(&["external", &format!("hello.test={second}")]);
            for namespace in ["default", "shop"] {
                await_body(mesh, namespace, "http://hello.test/", "second");
                // Only that port leads out.
                assert_eq!(get(mesh, namespace, "http://hello.test:81/"), "");
            }
            // What leads to the loopback by a name does not by its address.
            for ip in ["127.0.0.1", "0.0.0.0", "10.77.0.1"] {
                for namespace in ["default", "shop"] {
                    assert_eq!(get(mesh, namespace, &format!("http://{ip}:{}/", first.port())), "");
                }
            }
            mesh.ok(&["external", "hello.test-"]);
            for namespace in ["default", "shop"] {
                await_body(mesh, namespace, "http://hello.test/", "");
            }
            for bad in ["hello.test", "a.svc.cluster.local=127.0.0.1:80", "hello.test-"] {
                assert_ne!(mesh.run(&["external", bad]).code, 0, "{bad}");
            }
        });
    }
}

#[test]
fn a_pod_reaches_the_gateway_of_another_mesh_by_a_name() {
    if !can_run() {
        return;
    }
    let other = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: web, image: ironmesh/helloworld-v1}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{name: http, port: 8000, targetPort: 5000}]}
";
    let Some(other) = Running::start(other, &[]) else { return };
    let Some(mesh) = Running::start(PODS, &[]) else { return };
    let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    let address = await_some("an address", || {
        other.ok(&["get", "svc", "web", "-o", path]).parse::<Ipv4Addr>().ok()
    });
    // Not by itself: that is the pod's own.
    assert_eq!(get(&mesh, "default", &format!("http://{address}:8000/hello")), "");
    mesh.ok(&["external", &format!("web.other.test={address}:8000")]);
    for namespace in ["default", "shop"] {
        await_some("the other mesh", || {
            get(&mesh, namespace, "http://web.other.test/hello").contains("Hello").then_some(())
        });
    }
}

#[test]
fn pods_without_a_sidecar_reach_the_hosts_network_unless_that_is_closed() {
    let Some(ip) = own_address() else {
        println!("SKIPPED: this machine has no address but the loopback's");
        return;
    };
    if !can_run() {
        return;
    }
    let at = server(ip, "outside");
    let url = format!("http://{at}/");
    let Some(open) = Running::start(PODS, &[]) else { return };
    for namespace in ["default", "shop"] {
        await_body(&open, namespace, &url, "outside");
    }
    // Credentials of clouds are not for pods, and it is said at once.
    assert_eq!(get(&open, "default", "http://169.254.169.254/"), "");
    let Some(closed) = Running::start(PODS, &["--no-egress"]) else { return };
    for namespace in ["default", "shop"] {
        assert_eq!(get(&closed, namespace, &url), "");
    }
    let said = closed.run(&["external", &format!("hello.test={at}")]);
    assert!(said.code != 0 && said.err.contains("--no-egress"), "{said:?}");
    // The open one goes on, however many connections a pod begins and leaves.
    let flood = format!(
        "for i in $(seq 1 200); do curl -s -m 20 -o /dev/null {url} & done; wait; curl -sf {url}"
    );
    let said = open.run(&["exec", "caller", "--", "sh", "-c", &flood]);
    assert!(said.out.ends_with("outside"), "{said:?}");
}

/// With NET_ADMIN an application cannot take the rules away that lead to its sidecar, but go before them.
/// Past it nothing leads out of the mesh.
#[test]
fn no_pod_gets_out_past_its_sidecar() {
    let (Some(ip), true) = (own_address(), Path::new("/usr/sbin/nft").exists()) else {
        println!("SKIPPED: this machine has no nft, or no address but the loopback's");
        return;
    };
    if !can_run() {
        return;
    }
    let at = server(ip, "outside");
    let url = format!("http://{at}/");
    let rights = "image: ironmesh/sleep, securityContext: {capabilities: {add: [NET_ADMIN]}}";
    as_every_user(&PODS.replace("image: ironmesh/sleep", rights), &[], |mesh| {
        for namespace in ["default", "shop"] {
            await_body(mesh, namespace, &url, "outside");
            mesh.ok(&["-n", namespace, "exec", "caller", "--", "nft", "flush", "ruleset"]);
            assert_eq!(get(mesh, namespace, &url), "outside");
            let before = format!(
                "add table ip first; \
                 add chain ip first out {{ type nat hook output priority -101; }}; \
                 add rule ip first out ip daddr {ip} dnat to {ip}"
            );
            mesh.ok(&["-n", namespace, "exec", "caller", "--", "nft", &before]);
        }
        assert_eq!(get(mesh, "shop", &url), "");
        // A pod without a sidecar has the same way as before.
        assert_eq!(get(mesh, "default", &url), "outside");
    });
}
