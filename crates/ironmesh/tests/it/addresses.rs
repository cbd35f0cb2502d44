//! Where Services are reached on the host, as a user's scripts find it out.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::running::{Running, as_every_user, await_some, samples};

const WEB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers: [{name: web, image: ironmesh/helloworld-v1}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 5000}, {name: admin, port: 9990, targetPort: 5000}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: ['*']
  gateways: [web]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {ingressClassName: istio, defaultBackend: {service: {name: web, port: {number: 80}}}}
";

/// As `bookinfo-gateway.yaml` says it since Istio 1.18.
const OF_PODS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: pods}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// Whether the sample applications are there, which answer in these tests.
fn can_answer() -> bool {
    let can = samples().exists();
    if !can {
        println!("SKIPPED: {} is not built", samples().display());
    }
    can
}

/// What a jsonpath finds in an object.
fn field(mesh: &Running, kind: &str, name: &str, path: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    mesh.ok(&["-n", namespace, "get", kind, name, "-o", &format!("jsonpath={path}")])
}

/// The address of a Service, as the texts of others find it out, once it has one.
fn address(mesh: &Running, service: &str) -> Ipv4Addr {
    await_some(&format!("an address of {service}"), || {
        let path = "{.status.loadBalancer.ingress[0].*}=\
                    {.status.loadBalancer.ingress[0].ip}";
        let both = field(mesh, "svc", service, path);
        let (either, ip) = both.split_once('=').unwrap();
        assert_eq!(either, ip);
        ip.parse().ok()
    })
}

/// Whether the web application answers there.
fn answers(at: SocketAddr) -> bool {
    get(at).is_some_and(|answer| answer.contains("Hello version: v1"))
}

fn get(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn await_answer(at: SocketAddr) {
    await_some(&format!("an answer at {at}"), || answers(at).then_some(()));
}

fn await_refusal(at: SocketAddr) {
    await_some(&format!("a refusal at {at}"), || TcpStream::connect(at).is_err().then_some(()));
}

/// The findings, once one says this.
fn await_finding(mesh: &Running, text: &str) {
    await_some(&format!("a finding with {text:?}"), || {
        mesh.ok(&["findings"]).contains(text).then_some(())
    });
}

/// Patches the status of a Service, as any client of the API can.
fn patch_status(mesh: &Running, service: &str, patch: &str) {
    let name = format!("ironmesh/{}/{}/api", nix::unistd::geteuid(), mesh.name);
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let mut stream = UnixStream::connect_addr(&address).unwrap();
    let length = patch.len();
    let request = format!(
        "PATCH /api/v1/namespaces/default/services/{service}/status HTTP/1.1\r\nhost: x\r\n\
         content-type: application/merge-patch+json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{patch}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn every_load_balancer_has_an_address_of_its_own() {
    if can_answer() {
        as_every_user(WEB, &[], |mesh| {
            let low: u16 = if mesh.may_use_low_ports() { 80 } else { 8080 };
            let own = address(mesh, "web");
            await_answer((own, low).into());
            await_answer((own, 9990).into());
            // The gateway, by the words that Istio's documentation has for it.
            let gateway = address(mesh, "istio-system/istio-ingressgateway");
            let port = "{.spec.ports[?(@.name==\"http2\")].port}";
            let port = field(mesh, "svc", "istio-system/istio-ingressgateway", port);
            assert_eq!(port, low.to_string());
            await_answer((gateway, low).into());
            let url = mesh.ok(&["status", "-o", "url"]);
            assert_eq!(url.trim(), format!("http://{gateway}:{low}"));
            await_some("the address of the Ingress", || {
                let ip = field(mesh, "ing", "web", "{.status.loadBalancer.ingress[0].*}");
                (ip == gateway.to_string()).then_some(())
            });
            // Node ports, at the address of the mesh.
            let node = mesh.status()["node_address"].as_str().unwrap().parse::<Ipv4Addr>().unwrap();
            let node_port = field(mesh, "svc", "web", "{.spec.ports[0].nodePort}");
            await_answer((node, node_port.parse().unwrap()).into());
            if low != 80 {
                await_finding(mesh, "port 80 is at");
            }

            // As another type it has neither address nor port, and again those as before.
            let of = |of: &str| {
                mesh.write("type.yaml", &WEB.replace("type: LoadBalancer", &format!("type: {of}")));
                mesh.ok(&["apply", "-f", "type.yaml"]);
            };
            of("ClusterIP");
            await_refusal((own, 9990).into());
            await_some("no address", || {
                let status = field(mesh, "svc", "web", "{.status.loadBalancer.ingress}");
                status.is_empty().then_some(())
            });
            // What is free is anybody's.
            await_some("a free port", || TcpListener::bind((own, 9990)).ok());
            of("LoadBalancer");
            assert_eq!(address(mesh, "web"), own);
            await_answer((own, 9990).into());

            // The next mesh of this name has the same addresses.
            mesh.ok(&["down"]);
            await_refusal((own, 9990).into());
            mesh.ok(&["up", "--detach", "mesh.yaml"]);
            assert_eq!(address(mesh, "web"), own);
            assert_eq!(address(mesh, "istio-system/istio-ingressgateway"), gateway);
            await_answer((gateway, low).into());
        });
    }
}

#[test]
fn nobody_takes_the_address_of_another() {
    if !can_answer() {
        return;
    }
    let Some(mesh) = Running::start(WEB, &[]) else { return };
    let own = address(&mesh, "web");
    let thief = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: thief}}
spec:
  type: LoadBalancer
  loadBalancerIP: {own}
  selector: {{app: nobody}}
  ports: [{{name: http, port: 9990}}, {{name: agent, port: 15012}}, {{name: names, port: 53}}]
"
    );
    mesh.write("thief.yaml", &thief);
    let said = mesh.run(&["apply", "-f", "thief.yaml"]);
    assert!(said.err.contains("loadBalancerIP"), "{said:?}");
    assert_ne!(address(&mesh, "thief"), own);
    // Not even by saying so in its status.
    let claim =
        format!("{{\"status\":{{\"loadBalancer\":{{\"ingress\":[{{\"ip\":\"{own}\"}}]}}}}}}");
    patch_status(&mesh, "thief", &claim);
    await_some("its own address again", || (address(&mesh, "thief") != own).then_some(()));
    // Another mesh has other addresses, whatever it is called.
    let Some(other) = Running::start(WEB, &[]) else { return };
    let others = address(&other, "web");
    assert_ne!(own, others);
    await_answer((own, 9990).into());
    await_answer((others, 9990).into());
    // What nobody serves is refused; the mesh itself is as before.
    await_refusal((address(&mesh, "thief"), 9990).into());
    mesh.ok(&["exec", "web", "--", "true"]);
}

#[test]
fn a_port_of_another_program_is_taken_when_it_is_free() {
    if can_answer() {
        as_every_user(WEB, &[], |mesh| {
            let at = SocketAddr::from((address(mesh, "web"), 9990));
            await_answer(at);
            mesh.ok(&["delete", "service", "web"]);
            // As any program of this machine may.
            let taken = await_some("the port", || TcpListener::bind(at).ok());
            mesh.ok(&["apply", "-f", "mesh.yaml"]);
            await_finding(mesh, &format!("{at}: another program listens there"));
            let status = mesh.ok(&["status"]);
            assert!(status.contains("another program listens there"), "{status}");
            drop(taken);
            await_answer(at);
            await_some("no finding", || {
                (!mesh.ok(&["findings"]).contains("another program")).then_some(())
            });
        });
    }
}

#[test]
fn gateways_serve_new_ports_without_a_restart_and_who_has_8080_keeps_it() {
    if !can_answer() {
        return;
    }
    // A mesh of another test may have it, and give it back at any time.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 8080));
    let mesh = Running::new();
    mesh.write("mesh.yaml", WEB);
    let up = mesh.run(&["up", "--detach", "mesh.yaml"]);
    if up.err.contains("does not let ironmesh run") {
        println!("SKIPPED: {}", up.err.trim());
        return;
    }
    match &taken {
        Ok(_) => assert!(up.out.contains("not at 127.0.0.1:8080: another program"), "{up:?}"),
        Err(error) => println!("port 8080 is another's, who may give it back meanwhile: {error}"),
    }
    let url = mesh.ok(&["status", "-o", "url"]);
    assert!(up.out.contains(url.trim()), "{url} {up:?}");
    // One more Service that leads to the gateway's port: the gateway accepts there, too.
    let more = "
apiVersion: v1
kind: Service
metadata: {name: more, namespace: istio-system}
spec:
  type: LoadBalancer
  selector: {istio: ingressgateway}
  ports: [{name: http, port: 9000, targetPort: 80}]
";
    mesh.write("more.yaml", more);
    mesh.ok(&["apply", "-f", "more.yaml"]);
    let at = SocketAddr::from((address(&mesh, "istio-system/more"), 9000));
    await_answer(at);
    mesh.ok(&["delete", "-f", "more.yaml"]);
    await_refusal(at);
    // The gateway without its Gateway and Ingress listens nowhere, and again with them.
    let gateway = "istio-system/istio-ingressgateway";
    let http2 = field(&mesh, "svc", gateway, "{.spec.ports[?(@.name==\"http2\")].port}");
    let first = SocketAddr::from((address(&mesh, gateway), http2.parse().unwrap()));
    await_answer(first);
    mesh.ok(&["delete", "gateway/web", "ingress/web"]);
    await_refusal(first);
    mesh.ok(&["apply", "-f", "mesh.yaml"]);
    await_answer(first);
    // Istio's samples name the port of its gateway's pods, which is that of the Service all the same.
    mesh.ok(&["delete", "gateway/web", "ingress/web"]);
    await_refusal(first);
    mesh.ok(&[
        "patch",
        "virtualservice/web",
        "--type=merge",
        "-p",
        r#"{"spec": {"gateways": ["pods"]}}"#,
    ]);
    mesh.write("pods.yaml", OF_PODS);
    mesh.ok(&["apply", "-f", "pods.yaml"]);
    await_answer(first);
    await_answer(SocketAddr::new(first.ip(), 8080));
}

/// Whose an Ingress is, its class and MeshConfig say while the mesh runs; ports and addresses follow.
#[test]
fn an_ingress_is_served_as_its_class_and_meshconfig_say() {
    if !can_answer() {
        return;
    }
    let own = |class: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: own}}\n\
             spec: {{{class} defaultBackend: {{service: {{name: web, port: {{number: 80}}}}}}}}\n"
        )
    };
    let class = |name: &str, controller: &str, annotations: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\n\
             metadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec: {{controller: {controller}}}\n"
        )
    };
    let service = WEB.split("---").take(2).collect::<Vec<_>>().join("---");
    let manifest = format!("{service}{}", own("ingressClassName: edge,"));
    let Some(mesh) = Running::start(&manifest, &[]) else { return };
    let apply = |text: &str| {
        mesh.write("more.yaml", text);
        mesh.ok(&["apply", "-f", "more.yaml"]);
    };
    let config = |text: &str| {
        apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data: {{mesh: '{text}'}}\n"
        ));
    };
    let low: u16 = if mesh.may_use_low_ports() { 80 } else { 8080 };
    let edge = SocketAddr::from((address(&mesh, "istio-system/istio-ingressgateway"), low));
    let shown = |expected: &str| {
        await_some(&format!("{expected:?} in the status"), || {
            let ip = field(&mesh, "ing", "own", "{.status.loadBalancer.ingress[0].ip}");
            (ip == expected).then_some(())
        });
    };
    await_finding(&mesh, "nothing here serves the class \"edge\"");
    await_refusal(edge);
    apply(&class("edge", "istio.io/ingress-controller", ""));
    await_answer(edge);
    shown(&edge.ip().to_string());
    apply(&class("edge", "example.com/another", ""));
    await_refusal(edge);
    await_finding(&mesh, "for the controller \"example.com/another\"");
    config("ingressClass: edge\n");
    await_refusal(edge);
    mesh.ok(&["delete", "ingressclass", "edge"]);
    await_answer(edge);
    config("ingressControllerMode: \"OFF\"");
    await_refusal(edge);
    await_finding(&mesh, "MeshConfig turns Ingresses off");
    config("ingressControllerMode: DEFAULT");
    await_answer(edge);
    // Gateways with another label serve, and the mesh's own does not.
    config("{ingressControllerMode: DEFAULT, ingressSelector: inner}");
    await_refusal(edge);
    config("");
    mesh.ok(&["delete", "ingress", "own"]);

    // A new one without a class gets the default class.
    let default = r#"ingressclass.kubernetes.io/is-default-class: "true""#;
    apply(&class("usual", "istio.io/ingress-controller", default));
    apply(&own(""));
    assert_eq!(field(&mesh, "ing", "own", "{.spec.ingressClassName}"), "usual");
    await_answer(edge);
}

#[test]
fn many_load_balancers_are_bounded() {
    let service = |number: usize| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\n\
             spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{name: http, port: 8000}}]}}\n"
        )
    };
    let Some(mesh) = Running::start(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\n\
         spec: {containers: [{name: web, image: busybox, command: [sleep, 1h]}]}\n",
        &["--set", "limits.platform.published_ports_max=100"],
    ) else {
        return;
    };
    let many: String = (0..300).map(service).collect();
    mesh.write("many.yaml", &many);
    mesh.run(&["apply", "-f", "many.yaml"]);
    await_finding(&mesh, "limits.platform.published_ports_max");
    let open = await_some("100 ports", || {
        let status = mesh.status();
        let services = status["services"].as_array()?.clone();
        let ports = services.iter().filter_map(|service| service["ports"].as_array());
        let open: usize = ports.map(Vec::len).sum();
        (services.len() > 300 && open == 100).then_some(open)
    });
    assert_eq!(open, 100);
    // The mesh goes on, and who makes room lets others in.
    mesh.write("fewer.yaml", &(0..290).map(service).collect::<String>());
    mesh.ok(&["delete", "-f", "fewer.yaml"]);
    await_some("all of the rest", || {
        let status = mesh.status();
        let services = status["services"].as_array()?.clone();
        let whole = services
            .iter()
            .all(|service| service["ports"].as_array().is_some_and(|ports| !ports.is_empty()));
        (services.len() == 11 && whole).then_some(())
    });
}

/// A pod that answers datagrams, by the perl that most machines have.
const DATAGRAMS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: dns, labels: {app: dns}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: dns
    image: debian
    command: [perl, -MSocket, -e]
    args:
    - socket(S, PF_INET, SOCK_DGRAM, 17); bind(S, sockaddr_in(5353, INADDR_ANY)) or die;
      while ($from = recv(S, $d, 999, 0)) { send(S, "got $d", 0, $from) }
    ports: [{containerPort: 5353, hostPort: 5399, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: dns}
spec:
  type: LoadBalancer
  selector: {app: dns}
  ports:
  - {name: datagrams, protocol: UDP, port: 5353, nodePort: 30353}
  - {name: streams, port: 5353}
"#;

/// Asks once; `None`: nobody answered in time, or nobody is there.
fn asked(client: &UdpSocket, at: SocketAddr, word: &str) -> Option<String> {
    client.send_to(word.as_bytes(), at).ok()?;
    let mut buffer = [0; 99];
    let (length, from) = client.recv_from(&mut buffer).ok()?;
    assert_eq!(from, at);
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn datagrams_reach_services_and_pods_from_the_host() {
    if !std::path::Path::new("/usr/bin/perl").exists() {
        println!("SKIPPED: this machine has no perl");
        return;
    }
    as_every_user(DATAGRAMS, &[], |mesh| {
        let node: Ipv4Addr = mesh.status()["node_address"].as_str().unwrap().parse().unwrap();
        let own = "{.status.loadBalancer.ingress[0].ip}";
        let own: Ipv4Addr =
            await_some("an address", || field(mesh, "svc", "dns", own).parse().ok());
        let client = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            socket
        };
        let (one, two) = (client(), client());
        for (ip, port) in [(own, 5353), (node, 30353), (node, 5399)] {
            let at = SocketAddr::from((ip, port));
            await_some(&format!("an answer of {at}"), || {
                asked(&one, at, "one").filter(|answer| answer == "got one")
            });
            await_some(&format!("another answer of {at}"), || {
                asked(&two, at, "two").filter(|answer| answer == "got two")
            });
        }
        // What is gone is free for others.
        mesh.ok(&["delete", "svc", "dns"]);
        await_some("the port", || UdpSocket::bind((own, 5353)).ok());
        assert_eq!(asked(&one, (node, 30353).into(), "one"), None);
        await_some("the pod's own port", || asked(&one, (node, 5399).into(), "one"));
    });
}
