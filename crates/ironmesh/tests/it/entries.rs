//! What pods reach outside by ServiceEntries, and by which rules.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc;

use crate::running::{Running, await_some, samples};

/// A caller in an injected namespace, one without a sidecar, and two servers that no mesh knows.
const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: closed, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: shop}
spec: {containers: [{name: caller, image: ironmesh/sleep}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: closed}
spec: {containers: [{name: caller, image: ironmesh/sleep}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec: {containers: [{name: caller, image: ironmesh/sleep}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one}
spec: {containers: [{name: server, image: ironmesh/helloworld-v1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two}
spec: {containers: [{name: server, image: ironmesh/helloworld-v2}]}
";

const CLOSED: [&str; 2] = ["--set", "outboundTrafficPolicy.mode=REGISTRY_ONLY"];

/// A server of the host that answers each request with its name and what it was asked for.
fn server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            // A client that breaks off is none.
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
            let host = head.lines().find(|line| line.starts_with("host:")).unwrap_or_default();
            let body = format!("{name} {host}");
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n");
            let _ = write!(stream, "{head}\r\n{body}");
        }
    });
    address
}

/// A server of the host that tells for which hosts it was asked.
fn heard() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
            let host = head.lines().find(|line| line.starts_with("host:")).unwrap_or_default();
            // Once nobody listens any more the test is over.
            let _ = tell.send(host.to_owned());
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, heard)
}

/// Status and body of what the caller of a namespace gets; a status of 000 if there was no answer.
fn get(mesh: &Running, namespace: &str, arguments: &[&str]) -> String {
    let curl = ["-n", namespace, "exec", "caller", "--", "curl", "-s", "-m", "10"];
    let format = ["-w", " %{http_code}"];
    mesh.run(&[&curl[..], &format, arguments].concat()).out
}

fn await_answer(mesh: &Running, namespace: &str, arguments: &[&str], answer: &str) {
    let last = std::cell::RefCell::default();
    let look = || {
        let got = get(mesh, namespace, arguments);
        let found = got.contains(answer).then_some(());
        *last.borrow_mut() = got;
        found
    };
    await_some(&format!("{answer:?} from {arguments:?} in {namespace}"), look);
}

fn ip(mesh: &Running, pod: &str) -> String {
    let path = "jsonpath={.status.podIP}";
    await_some("an address", || {
        Some(mesh.run(&["get", "pod", pod, "-o", path]).out).filter(|ip| !ip.is_empty())
    })
}

/// Starts a mesh in which only what is known is reached.
fn closed(options: &[&str]) -> Option<Running> {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return None;
    }
    let mesh = Running::start(PODS, &[&CLOSED[..], options].concat())?;
    for namespace in ["shop", "closed", "default"] {
        let wait = ["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"];
        mesh.ok(&[&["-n", namespace], &wait[..]].concat());
    }
    Some(mesh)
}

/// Applies manifest text about which nothing is found.
fn apply(mesh: &Running, file: &str, text: &str) {
    mesh.write(file, text);
    let applied = mesh.run(&["apply", "-f", file]);
    assert!(applied.code == 0 && !applied.err.contains("IM0"), "{applied:?}");
}

#[test]
fn what_is_outside_is_closed_until_an_entry_names_it_and_then_rules_apply() {
    let (first, second) = (server("first"), server("second"));
    let given = format!("api.test={first}");
    let Some(mesh) = closed(&["--external", &given, "--external", "none.test=127.0.0.1:9"]) else {
        return;
    };
    let api = ["http://api.test/"];
    await_answer(&mesh, "shop", &api, " 502");
    apply(
        &mesh,
        "api.yaml",
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: DNS
  exportTo: ['.']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.test]
  exportTo: ['.']
  http:
  - match: [{uri: {prefix: /fixed}}]
    directResponse: {status: 418}
  - route: [{destination: {host: api.test}}]
",
    );
    await_answer(&mesh, "shop", &api, "first host: api.test 200");
    assert_eq!(get(&mesh, "shop", &["http://api.test/fixed"]), " 418");
    // Nobody else sees it; who has no sidecar is not asked what the mesh lets through.
    assert!(get(&mesh, "closed", &api).ends_with(" 502"));
    assert_eq!(get(&mesh, "default", &api), "first host: api.test 200");
    // A port that it does not name, and a name beside it.
    assert!(get(&mesh, "shop", &["http://none.test/"]).ends_with(" 502"));
    assert_ne!(get(&mesh, "shop", &["http://api.test:81/"]), "first host: api.test 200");
    let explained = mesh.ok(&["explain", "GET", "http://api.test/fixed", "--from", "caller.shop"]);
    assert!(explained.contains("418") && explained.contains("shop/api"), "{explained}");

    // The name stands for another address: connections follow it.
    mesh.ok(&["external", "api.test-"]);
    mesh.ok(&["external", &format!("api.test={second}")]);
    await_answer(&mesh, "shop", &api, "second host: api.test 200");
    // Without the entry the rule leads to nobody, and without both all is as before.
    mesh.ok(&["-n", "shop", "delete", "serviceentry", "api"]);
    await_answer(&mesh, "shop", &api, " 503");
    mesh.ok(&["-n", "shop", "delete", "virtualservice", "api"]);
    await_answer(&mesh, "shop", &api, " 502");
    by_the_name_of_the_request(&mesh, first);
}

/// Requests go to the host that they name, wherever their client thinks that it is.
fn by_the_name_of_the_request(mesh: &Running, server: SocketAddr) {
    mesh.ok(&["external", &format!("a.dyn.test={server}")]);
    apply(
        mesh,
        "dynamic.yaml",
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dynamic, namespace: shop}
spec:
  hosts: ['*.dyn.test']
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: DYNAMIC_DNS
",
    );
    let elsewhere = ["--resolve", "a.dyn.test:80:192.0.2.1", "http://a.dyn.test/"];
    await_answer(mesh, "shop", &elsewhere, "first host: a.dyn.test 200");
    assert_eq!(get(mesh, "shop", &["http://a.dyn.test/"]), "first host: a.dyn.test 200");
    // A copy goes to the host that its rule names.
    let (copied, copies) = heard();
    mesh.ok(&["external", &format!("copy.dyn.test={copied}")]);
    apply(
        mesh,
        "mirror.yaml",
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mirrored, namespace: shop}
spec:
  hosts: [a.dyn.test]
  http:
  - route: [{destination: {host: a.dyn.test}}]
    mirror: {host: copy.dyn.test}
",
    );
    await_some("a copy", || {
        assert_eq!(get(mesh, "shop", &elsewhere), "first host: a.dyn.test 200");
        copies.try_iter().find(|host| host == "host: a.dyn.test-shadow")
    });
    // A name that nobody knows, and one that is none of the entry's.
    let unknown = ["--resolve", "b.dyn.test:80:192.0.2.1", "http://b.dyn.test/"];
    assert!(get(mesh, "shop", &unknown).ends_with(" 503"));
    let other = ["--resolve", "dyn.test:80:192.0.2.1", "http://dyn.test/"];
    assert!(get(mesh, "shop", &other).ends_with(" 502"));
}

#[test]
fn services_on_one_port_are_told_apart_by_addresses_that_stay() {
    let Some(mesh) = closed(&["--state", "state"]) else { return };
    let (one, two) = (ip(&mesh, "one"), ip(&mesh, "two"));
    let entry = |name: &str, ip: &str, more: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{name}.test]
  ports: [{{number: 7001, name: tcp, protocol: TCP, targetPort: 5000}}]
  resolution: STATIC
  endpoints: [{{address: {ip}}}]
{more}
"
        )
    };
    let all = [
        entry("one", &one, ""),
        entry("two", &two, ""),
        entry("given", &two, "  addresses: [198.18.77.1]"),
    ];
    mesh.write("all.yaml", &all.concat());
    mesh.ok(&["apply", "-f", "all.yaml"]);
    for (name, version) in [("one", "v1"), ("two", "v2"), ("given", "v2")] {
        let url = format!("http://{name}.test:7001/hello");
        await_answer(&mesh, "shop", &[&url], &format!("version: {version}"));
    }
    await_answer(&mesh, "shop", &["http://198.18.77.1:7001/hello"], "version: v2");
    // A port that none of them has, and an address of nobody.
    assert!(get(&mesh, "shop", &["http://198.18.77.1:7002/hello"]).ends_with(" 502"));
    let address = |name: &str| {
        let host = format!("{name}.test");
        let found = ["-n", "shop", "exec", "caller", "--", "getent", "ahostsv4", &host];
        let found = mesh.run(&found).out;
        found.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let before = [address("one"), address("two"), address("given")];
    assert!(before[0].starts_with("240.240.") && before[1].starts_with("240.240."), "{before:?}");
    assert!(before[0] != before[1] && before[2] == "198.18.77.1", "{before:?}");
    // One that comes and goes moves no other.
    mesh.write("other.yaml", &entry("other", &one, ""));
    mesh.ok(&["apply", "-f", "other.yaml"]);
    await_answer(&mesh, "shop", &["http://other.test:7001/hello"], "version: v1");
    mesh.ok(&["delete", "-f", "other.yaml"]);
    assert_eq!(before, [address("one"), address("two"), address("given")]);
}
