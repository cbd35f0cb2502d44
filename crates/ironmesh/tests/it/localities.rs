//! Who is asked where endpoints are in several places.

use crate::running::{Running, await_some, samples};

/// A caller in `eu/a`, a server there and one in `us/b`: pods say themselves where they are, since there
/// is one node.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: caller, labels: {istio-locality: eu.a, sidecar.istio.io/inject: 'true'}}
spec: {containers: [{name: caller, image: ironmesh/sleep}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: hello, istio-locality: eu.a}}
spec: {containers: [{name: server, image: ironmesh/helloworld-v1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: hello, istio-locality: us.b}}
spec: {containers: [{name: server, image: ironmesh/helloworld-v2}]}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec:
  selector: {app: hello}
  ports: [{name: http, port: 80, targetPort: 5000}]
";

/// A policy with this locality setting, and outlier detection, without which nobody fails over.
fn policy(locality: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: hello}}
spec:
  host: hello
  trafficPolicy:
    outlierDetection: {{consecutive5xxErrors: 5}}
    loadBalancer: {{localityLbSetting: {locality}}}
"
    )
}

/// How many of so many calls each version answered.
fn answers(mesh: &Running, count: u32) -> [usize; 2] {
    let calls = format!("for i in $(seq {count}); do curl -s -m 10 http://hello/hello; done");
    let said = mesh.run(&["exec", "caller", "--", "sh", "-c", &calls]).out;
    ["v1", "v2"].map(|version| said.matches(&format!("version: {version}")).count())
}

fn becomes(mesh: &Running, wanted: [usize; 2]) {
    let last = std::cell::Cell::new([0; 2]);
    await_some(&format!("{wanted:?} of {} answers", wanted[0] + wanted[1]), || {
        last.set(answers(mesh, 10));
        (last.get() == wanted).then_some(())
    });
}

#[test]
fn near_endpoints_are_asked_first_and_others_when_those_are_gone() {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    let Some(mesh) = Running::start(PODS, &[]) else { return };
    mesh.ok(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    // Without a policy both are asked.
    await_some("answers of both", || {
        let [near, far] = answers(&mesh, 20);
        (near > 0 && far > 0 && near + far == 20).then_some(())
    });
    mesh.write("policy.yaml", &policy("{enabled: true}"));
    mesh.ok(&["apply", "-f", "policy.yaml"]);
    becomes(&mesh, [10, 0]);
    let explained = mesh.ok(&["explain", "--from", "caller", "GET", "http://hello/hello"]);
    assert!(explained.contains("near"), "{explained}");
    mesh.ok(&["delete", "pod", "near"]);
    becomes(&mesh, [0, 10]);
    mesh.ok(&["apply", "-f", "mesh.yaml"]);
    mesh.ok(&["wait", "--for=condition=Ready", "pod", "near", "--timeout=60s"]);
    becomes(&mesh, [10, 0]);
    shares(&mesh);
}

/// Shares by locality, which hold without anybody's failing.
fn shares(mesh: &Running) {
    let setting = "{enabled: true, distribute: [{from: eu/a, to: {eu/a: 25, us/b: 75}}]}";
    mesh.write("policy.yaml", &policy(setting));
    mesh.ok(&["apply", "-f", "policy.yaml"]);
    await_some("an answer from afar", || (answers(mesh, 10)[1] > 0).then_some(()));
    let [near, far] = answers(mesh, 200);
    assert_eq!(near + far, 200);
    // Binomial(200, 1/4): sigma is 6.1.
    assert!(near.abs_diff(50) <= 25, "{near} of 200 from near by");
    // A share of nothing: nobody is asked there.
    mesh.write(
        "policy.yaml",
        &policy("{enabled: true, distribute: [{from: eu/a, to: {us/b: 100}}]}"),
    );
    mesh.ok(&["apply", "-f", "policy.yaml"]);
    becomes(mesh, [0, 10]);
    // Turned off for this host, both are asked again.
    mesh.write("policy.yaml", &policy("{enabled: false}"));
    mesh.ok(&["apply", "-f", "policy.yaml"]);
    await_some("answers of both", || answers(mesh, 20).iter().all(|n| *n > 0).then_some(()));
}
