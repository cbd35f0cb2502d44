//! A pair of injected pods: what the sidecars do for them, and what happens when one dies.

use crate::running::{Running, as_every_user, await_some, kill, samples};

const PAIR: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: caller, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: shop}
spec:
  selector: {app: hello}
  ports: [{name: http, port: 5000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, namespace: shop}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers: [{name: hello, image: ironmesh/helloworld-v1, ports: [{containerPort: 5000}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: shop, labels: {app: caller}}
spec:
  serviceAccountName: caller
  containers: [{name: caller, image: ironmesh/sleep}]
---
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec:
  containers: [{name: stranger, image: ironmesh/sleep}]
";

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

/// A port of its own mind.
const OPEN_PORT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: open, namespace: shop}
spec:
  selector: {matchLabels: {app: hello}}
  portLevelMtls: {5000: {mode: DISABLE}}
";

/// What Istio up to 1.5 and 0.8 had for the same, each for a Service by its name.
const OLD_POLICY: &str = "
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: hello, namespace: shop}
spec: {targets: [{name: hello}], peers: [{mtls: {}}]}
";
const OLD_RULE: &str = "
apiVersion: config.istio.io/v1alpha2
kind: RouteRule
metadata: {name: refused, namespace: shop}
spec:
  destination: {name: hello}
  match: {source: {labels: {app: caller}}, request: {headers: {uri: {prefix: /hello}}}}
  httpFault: {abort: {percent: 100, httpStatus: 418}}
";

const GIVEN: &str = "
apiVersion: v1
kind: Service
metadata: {name: given}
spec:
  ports: [{name: http, port: 5000}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: given}
subsets:
- addresses: [{ip: ADDRESS}]
  ports: [{name: http, port: 5000}]
";

/// A port where the application does not listen, and a Sidecar that leads it to where it does.
const LED: &str = "
apiVersion: v1
kind: Service
metadata: {name: led, namespace: shop}
spec:
  selector: {app: hello}
  ports: [{name: http, port: 5000, targetPort: 5999}]
";
const LEADING: &str = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: hello, namespace: shop}
spec:
  workloadSelector: {labels: {app: hello}}
  ingress:
  - port: {number: 5999, name: http, protocol: HTTP}
    defaultEndpoint: 127.0.0.1:5000
";

#[test]
fn a_pair_with_sidecars_speaks_mutual_tls() {
    if !samples().exists() {
        println!("SKIPPED: ironmesh-samples is not built: cargo build -p ironmesh-samples");
        return;
    }
    as_every_user(PAIR, &["--set", "accessLogEncoding=JSON"], tell);
}

fn tell(mesh: &Running) {
    for pod in ["hello", "caller"] {
        assert_eq!(mesh.pod(pod).unwrap()["ready"], "2/2", "{pod}");
    }
    assert_eq!(mesh.pod("stranger").unwrap()["ready"], "1/1");

    // The page comes, and the server's sidecar knows who asked.
    assert_eq!(page(mesh, "shop", "caller").as_deref(), Some("Hello version: v1"));
    let log = mesh.ok(&["-n", "shop", "logs", "deploy/hello", "-c", "istio-proxy"]);
    let peer = r#""peer":"spiffe://cluster.local/ns/shop/sa/caller""#;
    assert!(log.contains(peer), "{log}");
    let metrics = mesh.ok(&["-n", "shop", "proxy-config", "deploy/hello", "--metrics"]);
    let secured = metrics.lines().any(|line| {
        line.starts_with("istio_requests_total{reporter=\"destination\"")
            && line.contains("connection_security_policy=\"mutual_tls\"")
    });
    assert!(secured, "{metrics}");

    // Without a sidecar one may ask as well, until the policy is strict.
    assert_eq!(page(mesh, "default", "stranger").as_deref(), Some("Hello version: v1"));
    // A Service without a selector leads where its Endpoints say.
    let ip = mesh.pod("hello").unwrap()["ip"].as_str().unwrap().to_owned();
    mesh.write("given.yaml", &GIVEN.replace("ADDRESS", &ip));
    mesh.ok(&["apply", "-f", "given.yaml"]);
    await_some("the page of the given address", || {
        page_of(mesh, "default", "stranger", "given.default")
    });

    // Settings change while the sidecars run, and back.
    mesh.ok(&["settings", "mtlsMode=STRICT", "accessLogEncoding=TEXT"]);
    await_some("the stranger to be refused by the settings", || {
        page(mesh, "default", "stranger").is_none().then_some(())
    });
    assert_eq!(page(mesh, "shop", "caller").as_deref(), Some("Hello version: v1"));
    let last =
        || mesh.ok(&["-n", "shop", "logs", "deploy/hello", "-c", "istio-proxy", "--tail", "1"]);
    await_some("a line in Istio's format", || last().starts_with('[').then_some(()));
    mesh.ok(&["settings", "accessLogFormat=%RESPONSE_CODE% by %DOWNSTREAM_PEER_URI_SAN%"]);
    await_some("a line in a format of our own", || {
        page(mesh, "shop", "caller")?;
        (last().trim_end() == "200 by spiffe://cluster.local/ns/shop/sa/caller").then_some(())
    });
    mesh.ok(&["settings", "mtlsMode-", "accessLogEncoding-", "accessLogFormat-"]);
    await_some("the stranger to be let in again", || page(mesh, "default", "stranger"));

    old_kinds(mesh);
    led_port(mesh);
    mesh.write("strict.yaml", STRICT);
    mesh.ok(&["apply", "-f", "strict.yaml"]);
    await_some("the stranger to be refused", || {
        page(mesh, "default", "stranger").is_none().then_some(())
    });
    assert_eq!(page(mesh, "shop", "caller").as_deref(), Some("Hello version: v1"));
    open_port(mesh);

    // A killed sidecar comes back, and nobody is let in meanwhile.
    let before = mesh.pod("hello").unwrap()["sidecar_pid"].as_i64().unwrap();
    kill(before);
    assert_eq!(page(mesh, "default", "stranger"), None);
    await_some("the page after the sidecar's death", || page(mesh, "shop", "caller"));
    let after = mesh.pod("hello").unwrap()["sidecar_pid"].as_i64();
    assert!(after.is_some_and(|after| after != before), "{after:?}");
    assert_eq!(page(mesh, "default", "stranger"), None);
}

/// In a strict namespace one port takes plaintext, for as long as a policy says so.
fn open_port(mesh: &Running) {
    mesh.write("port.yaml", OPEN_PORT);
    mesh.ok(&["apply", "-f", "port.yaml"]);
    await_some("the stranger at the open port", || page(mesh, "default", "stranger"));
    assert_eq!(page(mesh, "shop", "caller").as_deref(), Some("Hello version: v1"));
    let url = "http://hello.shop:5000/hello";
    let why = mesh.ok(&["-n", "shop", "explain", "--from", "caller.shop", "GET", url]);
    let said = "takes DISABLE at port 5000: PeerAuthentication shop/open, for this port";
    assert!(why.contains(said) && why.contains("mTLS: plaintext to the next hop"), "{why}");
    mesh.ok(&["delete", "-f", "port.yaml"]);
    await_some("the stranger to be refused again", || {
        page(mesh, "default", "stranger").is_none().then_some(())
    });
}

/// The kinds of earlier releases do what they say, and no longer once they are gone.
fn old_kinds(mesh: &Running) {
    mesh.write("policy.yaml", OLD_POLICY);
    mesh.ok(&["apply", "-f", "policy.yaml"]);
    await_some("the stranger to be refused by the old policy", || {
        page(mesh, "default", "stranger").is_none().then_some(())
    });
    assert_eq!(page(mesh, "shop", "caller").as_deref(), Some("Hello version: v1"));
    mesh.ok(&["delete", "-f", "policy.yaml"]);
    await_some("the stranger after the old policy", || page(mesh, "default", "stranger"));
    mesh.write("rule.yaml", OLD_RULE);
    mesh.ok(&["apply", "-f", "rule.yaml"]);
    await_some("the old rule's answer", || page(mesh, "shop", "caller").is_none().then_some(()));
    let why = mesh.ok(&[
        "-n",
        "shop",
        "explain",
        "--from",
        "caller.shop",
        "GET",
        "http://hello:5000/hello",
    ]);
    assert!(why.contains("shop/refused#0"), "{why}");
    mesh.ok(&["delete", "-f", "rule.yaml"]);
    await_some("the page after the old rule", || page(mesh, "shop", "caller"));
}

/// A Sidecar leads a port of the workload to another, for as long as it is there.
fn led_port(mesh: &Running) {
    let led = || page_of(mesh, "shop", "caller", "led.shop");
    mesh.write("led.yaml", LED);
    mesh.ok(&["apply", "-f", "led.yaml"]);
    assert_eq!(led(), None);
    mesh.write("leading.yaml", LEADING);
    let applied = mesh.run(&["apply", "-f", "leading.yaml"]);
    assert!(applied.code == 0 && !applied.err.contains("IM0"), "{applied:?}");
    await_some("the page at the port that is led elsewhere", led);
    assert_eq!(page(mesh, "shop", "caller").as_deref(), Some("Hello version: v1"));
    mesh.ok(&["delete", "-f", "leading.yaml"]);
    await_some("the port to lead nowhere", || led().is_none().then_some(()));
}

/// What a pod gets of the server, up to the comma; none if it gets nothing.
fn page(mesh: &Running, namespace: &str, pod: &str) -> Option<String> {
    page_of(mesh, namespace, pod, "hello.shop")
}

fn page_of(mesh: &Running, namespace: &str, pod: &str, host: &str) -> Option<String> {
    let url = format!("http://{host}:5000/hello");
    let said = mesh.run(&["-n", namespace, "exec", pod, "--", "curl", "-sf", "-m", "5", &url]);
    let page = said.out.split(',').next().unwrap_or_default().to_owned();
    (said.code == 0).then_some(page)
}
