//! Gateways beside the ingress gateway, over real sidecars: Istio's egress gateway as its documentation
//! sets it up, and gateways that users deploy themselves.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::running::{Running, await_some, samples};

/// Callers with and without a sidecar, and two servers that no mesh knows: one that speaks HTTP, and one
/// that speaks TLS.
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
---
apiVersion: v1
kind: Pod
metadata: {name: plain, labels: {app: plain}}
spec: {containers: [{name: server, image: ironmesh/helloworld-v1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: secure, labels: {app: secure}}
spec:
  containers:
  - name: server
    image: ironmesh/sleep
    command: [/usr/bin/openssl, s_server, -accept, '8443', -www, -cert, /tls/tls.crt, -key, /tls/tls.key]
    volumeMounts: [{name: tls, mountPath: /tls}]
  volumes: [{name: tls, secret: {secretName: secure}}]
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {selector: {app: plain}, ports: [{name: http, port: 5000}]}
---
apiVersion: v1
kind: Service
metadata: {name: secure}
spec: {selector: {app: secure}, ports: [{name: tls, port: 8443}]}
";

/// The two servers as hosts outside the mesh.
const OUTSIDE: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: plain, namespace: shop}
spec:
  hosts: [plain.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: PLAIN, ports: {http: 5000}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: secure, namespace: shop}
spec:
  hosts: [secure.test]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: SECURE, ports: {http: 5000, tls: 8443}}]
";

/// Plain HTTP through the egress gateway.
const HTTP: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out, namespace: shop}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [plain.test]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: to-gateway, namespace: shop}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets: [{name: plain}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out, namespace: shop}
spec:
  hosts: [plain.test]
  gateways: [out, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: plain, port: {number: 80}}}]
  - match: [{gateways: [out], port: 80}]
    route: [{destination: {host: plain.test, port: {number: 80}}}]
";

/// The same with mutual TLS up to the gateway.
const MUTUAL: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out, namespace: shop}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [plain.test]
    tls: {mode: ISTIO_MUTUAL}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: to-gateway, namespace: shop}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: plain
    trafficPolicy:
      portLevelSettings: [{port: {number: 443}, tls: {mode: ISTIO_MUTUAL, sni: plain.test}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out, namespace: shop}
spec:
  hosts: [plain.test]
  gateways: [out, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: plain, port: {number: 443}}}]
  - match: [{gateways: [out], port: 443}]
    route: [{destination: {host: plain.test, port: {number: 80}}}]
";

/// The application's own TLS, passed on by its name.
const PASSED: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out, namespace: shop}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    hosts: [secure.test]
    tls: {mode: PASSTHROUGH}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: to-gateway, namespace: shop}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets: [{name: secure}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out, namespace: shop}
spec:
  hosts: [secure.test]
  gateways: [mesh, out]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: [secure.test]}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: secure, port: {number: 443}}}]
  - match: [{gateways: [out], port: 443, sniHosts: [secure.test]}]
    route: [{destination: {host: secure.test, port: {number: 443}}}]
";

/// The application speaks HTTP, and the gateway begins TLS.
const BEGUN: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: out, namespace: shop}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 80, name: https-port-for-tls-origination, protocol: HTTPS}
    hosts: [secure.test]
    tls: {mode: ISTIO_MUTUAL}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: to-gateway, namespace: shop}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: secure
    trafficPolicy:
      loadBalancer: {simple: ROUND_ROBIN}
      portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL, sni: secure.test}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out, namespace: shop}
spec:
  hosts: [secure.test]
  gateways: [out, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: secure, port: {number: 80}}}]
  - match: [{gateways: [out], port: 80}]
    route: [{destination: {host: secure.test, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: begins-tls, namespace: shop}
spec:
  host: secure.test
  trafficPolicy:
    portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE, sni: secure.test, insecureSkipVerify: true}}]
";

/// A mesh with these pods, if what they need is there.
fn started(more: &str) -> Option<Running> {
    let needed = ["/usr/bin/openssl", "/usr/bin/curl"].map(Path::new);
    if let Some(lacking) = needed.into_iter().chain([&*samples()]).find(|file| !file.exists()) {
        println!("SKIPPED: there is no {}", lacking.display());
        return None;
    }
    let mesh = Running::new();
    let made = Command::new("/usr/bin/openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-subj", "/CN=secure.test", "-keyout", "tls.key", "-out", "tls.crt"])
        .current_dir(mesh.folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| std::fs::read_to_string(mesh.folder.path().join(name)).unwrap();
    let data = serde_json::json!({"tls.crt": file("tls.crt"), "tls.key": file("tls.key")});
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: secure}}\nstringData: {data}\n"
    );
    let mesh = mesh.started(&format!("{PODS}{secret}{more}"), &[])?;
    for namespace in ["shop", "default"] {
        let wait = ["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"];
        mesh.ok(&[&["-n", namespace], &wait[..]].concat());
    }
    Some(mesh)
}

/// Body and status of what the caller of a namespace gets.
fn get(mesh: &Running, namespace: &str, arguments: &[&str]) -> String {
    let curl = ["-n", namespace, "exec", "caller", "--", "/usr/bin/curl", "-sk", "-m", "10"];
    mesh.run(&[&curl[..], &["-w", " %{http_code}"], arguments].concat()).out
}

fn await_answer(mesh: &Running, namespace: &str, arguments: &[&str], expected: [&str; 2]) {
    let last = std::cell::RefCell::default();
    let look = || {
        let got = get(mesh, namespace, arguments);
        let is_it = got.contains(expected[0]) && got.ends_with(expected[1]);
        *last.borrow_mut() = got;
        is_it.then_some(())
    };
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        await_some(&format!("{expected:?} from {arguments:?}"), look);
    }));
    assert!(found.is_ok(), "{arguments:?} gave {:?}", last.borrow());
}

fn ip(mesh: &Running, pod: &str) -> String {
    mesh.ok(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])
}

fn apply(mesh: &Running, text: &str) -> String {
    mesh.write("objects.yaml", text);
    let applied = mesh.run(&["apply", "-f", "objects.yaml"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    applied.err
}

/// What the egress gateway wrote of the requests and connections that it served.
fn await_log(mesh: &Running, word: &str) {
    await_some(&format!("{word} in the log of the egress gateway"), || {
        let log = mesh.run(&["-n", "istio-system", "logs", "deploy/istio-egressgateway"]).out;
        log.contains(word).then_some(())
    });
}

#[test]
fn an_egress_gateway_carries_what_leaves_the_mesh() {
    let Some(mesh) = started("") else { return };
    let outside = OUTSIDE.replace("PLAIN", &ip(&mesh, "plain"));
    apply(&mesh, &outside.replace("SECURE", &ip(&mesh, "secure")));
    // Who has none is told how there is one.
    let said = apply(&mesh, HTTP);
    let makes = "`ironmesh install --set components.egressGateways[0].enabled=true` makes";
    assert!(said.contains("IM0111") && said.contains(makes), "{said}");
    let hello = ["http://plain.test/hello"];
    await_answer(&mesh, "shop", &hello, ["", " 503"]);

    let log = "meshConfig.accessLogFile=/dev/stdout";
    let said = mesh.ok(&["install", "-y", "--set", "profile=demo", "--set", log]);
    assert!(said.contains("+ Deployment istio-system/istio-egressgateway"), "{said}");
    assert!(said.contains("✔ Egress gateways installed"), "{said}");
    await_answer(&mesh, "shop", &hello, ["Hello", " 200"]);
    let found = mesh.ok(&["findings", "-A"]);
    assert!(!found.contains(makes), "{found}");
    await_log(&mesh, "plain.test");
    // Nothing goes past it.
    let gateway = ["-n", "istio-system", "scale", "deploy/istio-egressgateway"];
    mesh.ok(&[&gateway[..], &["--replicas=0"]].concat());
    await_answer(&mesh, "shop", &hello, ["", " 503"]);
    mesh.ok(&[&gateway[..], &["--replicas=1"]].concat());
    await_answer(&mesh, "shop", &hello, ["Hello", " 200"]);

    let said = apply(&mesh, MUTUAL);
    assert!(!said.contains("IM0"), "{said}");
    // As long as the rule before holds it answers, too: by port 443 there is one way only.
    await_answer(&mesh, "shop", &hello, ["Hello", " 200"]);
    let explained = mesh.ok(&["explain", "GET", hello[0], "--from", "caller.shop"]);
    assert!(explained.contains("mutual") && explained.contains(":443"), "{explained}");
    await_answer(&mesh, "shop", &hello, ["Hello", " 200"]);
    // Without the name the gateway has no server for it, and in plaintext neither.
    apply(&mesh, &MUTUAL.replace(", sni: plain.test", ", sni: other.test"));
    await_answer(&mesh, "shop", &hello, ["", " 503"]);
    apply(&mesh, &MUTUAL.replace("ISTIO_MUTUAL, sni: plain.test", "DISABLE"));
    await_answer(&mesh, "shop", &hello, ["", " 503"]);

    apply(&mesh, PASSED);
    await_answer(&mesh, "shop", &["https://secure.test/"], ["TLSv1.3", " 200"]);
    await_log(&mesh, "secure.test");

    apply(&mesh, BEGUN);
    await_answer(&mesh, "shop", &["http://secure.test/"], ["TLSv1.3", " 200"]);

    // An installation without it takes it back.
    let said = mesh.ok(&["install", "-y"]);
    assert!(said.contains("- Deployment istio-system/istio-egressgateway"), "{said}");
    await_answer(&mesh, "shop", &["http://secure.test/"], ["", " 503"]);
}

/// Gateways of a user's, one of which has a balancer with the PROXY protocol in front, and a pod that has
/// their label alone.
const OWN: &str = "
---
apiVersion: v1
kind: Pod
metadata:
  name: edge
  labels: {edge: 'yes', led: 'yes', sidecar.istio.io/inject: 'true'}
  annotations: {inject.istio.io/templates: gateway}
spec: {containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: balanced
  labels: {edge: 'yes', sidecar.istio.io/inject: 'true'}
  annotations:
    inject.istio.io/templates: gateway
    proxy.istio.io/config: '{gatewayTopology: {proxyProtocol: {}}}'
spec: {containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: v1
kind: Pod
metadata: {name: none, labels: {edge: 'yes'}}
spec: {containers: [{name: app, image: ironmesh/sleep}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {edge: 'yes'}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['edge.test']}
  - {port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: [edge.test]
  gateways: [edge]
  http: [{route: [{destination: {host: plain, port: {number: 5000}}}]}]
";

/// A Service that leads a gateway's port to another one of its pod.
fn leading(target: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: led}}, spec: {{selector: {{led: 'yes'}}, \
         ports: [{{name: http, port: 8080, targetPort: {target}}}]}}}}"
    )
}

#[test]
fn a_pod_of_a_user_is_a_gateway_if_it_asks_to_be_one() {
    let Some(mesh) = started(OWN) else { return };
    let at = |pod: &str, port: u16| {
        let ip = ip(&mesh, pod);
        [format!("edge.test:{port}:{ip}"), format!("http://edge.test:{port}/hello")]
    };
    let asked = |[place, url]: &[String; 2], more: &[&str], expected: [&str; 2]| {
        let arguments = [&["--resolve", place, url], more].concat();
        await_answer(&mesh, "default", &arguments, expected);
    };
    let (edge, balanced) = (at("edge", 8080), at("balanced", 8080));
    asked(&edge, &[], ["Hello", " 200"]);
    asked(&edge, &["-H", "host: other.test"], ["", " 404"]);
    // On a port that no Gateway names, and where there is no proxy, nobody listens.
    asked(&at("edge", 8081), &[], ["", " 000"]);
    asked(&at("none", 8080), &[], ["", " 000"]);
    // Where a Service leads its port it listens, too, for callers with a sidecar and without.
    let by_service = ["-H", "host: edge.test", "http://led.default:8080/hello"];
    for target in [9080, 9081] {
        apply(&mesh, &leading(target));
        asked(&at("edge", target), &[], ["Hello", " 200"]);
        for namespace in ["default", "shop"] {
            await_answer(&mesh, namespace, &by_service, ["Hello", " 200"]);
        }
    }
    asked(&at("edge", 9080), &[], ["", " 000"]);
    // What begins as it must not is refused by either.
    asked(&balanced, &["--haproxy-protocol"], ["Hello", " 200"]);
    assert!(!get(&mesh, "default", &["--resolve", &balanced[0], &balanced[1]]).ends_with(" 200"));
    let wrong = ["--haproxy-protocol", "--resolve", &edge[0], &edge[1]];
    assert!(!get(&mesh, "default", &wrong).ends_with(" 200"));

    let place = ip(&mesh, "edge");
    let passed = |host: &str| {
        let arguments =
            ["--resolve", &format!("{host}:15443:{place}"), &format!("https://{host}:15443/")];
        get(&mesh, "default", &arguments)
    };
    let to = |port: u16, service: &str| {
        format!("outbound_.{port}_._.{service}.default.svc.cluster.local")
    };
    await_some("what the name says", || {
        let got = passed(&to(8443, "secure"));
        (got.contains("TLSv1.3") && got.ends_with(" 200")).then_some(())
    });
    for nobody in [to(1, "secure"), to(8443, "nobody"), "secure.default.svc.cluster.local".into()] {
        assert!(passed(&nobody).ends_with(" 000"), "{nobody}");
    }
}

/// Istio's chart `gateway`, by the words of its documentation.
#[test]
fn a_release_of_the_gateway_chart_is_a_gateway() {
    let Some(mesh) = started("") else { return };
    let helm = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ironmesh"));
        command.arg0("helm").args(line.split(' ')).current_dir(mesh.folder.path());
        command.env("IRONMESH_MESH", &mesh.name).env("HOME", mesh.folder.path());
        command.env("XDG_STATE_HOME", mesh.folder.path().join("state-home"));
        let said = command.output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let install = "install istio-ingress istio/gateway -n istio-ingress --create-namespace --wait \
                   --set service.type=ClusterIP,autoscaling.enabled=false,replicaCount=2";
    let said = helm(install);
    assert!(said.contains("deployment.apps/istio-ingress"), "{said}");
    assert!(helm("list").contains("istio-ingress"));
    let rolled = ["-n", "istio-ingress", "rollout", "status", "deploy/istio-ingress"];
    mesh.ok(&[&rolled[..], &["--timeout=60s"]].concat());
    let pods = ["-n", "istio-ingress", "get", "pods", "-l", "istio=ingress", "-o", "name"];
    await_some("two pods", || (mesh.ok(&pods).lines().count() == 2).then_some(()));
    apply(
        &mesh,
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingress}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{route: [{destination: {host: plain, port: {number: 5000}}}]}]
",
    );
    let url = ["http://istio-ingress.istio-ingress/hello"];
    await_answer(&mesh, "default", &url, ["Hello", " 200"]);
    helm("uninstall istio-ingress -n istio-ingress");
    await_some("no pods", || mesh.ok(&pods).trim().is_empty().then_some(()));
    await_answer(&mesh, "default", &url, ["", " 000"]);
}
