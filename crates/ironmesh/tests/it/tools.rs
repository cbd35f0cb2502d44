//! Programs of others on a mesh: helm and Prometheus. They are looked for in the folder that
//! `IRONMESH_TOOLS` names, and on PATH; where one is not, that is said and nothing is tried.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::running::{Running, Said, await_some, samples};

/// A program of others; `None`, said so, where it is not.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::var_os("IRONMESH_TOOLS").map(PathBuf::from);
    let folders = folders.into_iter().chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("SKIPPED: there is no {name}");
    }
    found.filter(|_| {
        let built = samples().exists();
        if !built {
            println!("SKIPPED: {} is not built", samples().display());
        }
        built
    })
}

const CHART: &str = "apiVersion: v2\nname: ratings\nversion: 0.0.1\n";
const TEMPLATES: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}-deploy}
spec:
  selector: {matchLabels: {app: ratings}}
  replicas: {{ .Values.replicas }}
  template:
    metadata: {labels: {app: ratings}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: app, image: {{ .Values.image }}, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: ratings}
spec: {selector: {app: ratings}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: looked-up}
data: {namespace: {{ (lookup "v1" "Namespace" "" "default").metadata.uid | quote }}}
"#;
const HOOK: &str = r#"
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-migrate
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: "before-hook-creation,hook-succeeded"}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: busybox, command: [sh, -c, "exit {{ .Values.migration }}"]}]
"#;
const TEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}-test, annotations: {helm.sh/hook: test}}
spec:
  restartPolicy: Never
  containers: [{name: test, image: busybox, command: [sh, -c, "echo as it should be"]}]
"#;

#[test]
fn a_real_helm_installs_upgrades_rolls_back_and_uninstalls_a_chart() {
    let Some(helm) = tool("helm") else { return };
    let Some(mesh) = Running::start("", &[]) else { return };
    let folder = mesh.folder.path();
    std::fs::create_dir_all(folder.join("chart/templates/tests")).unwrap();
    mesh.write("chart/Chart.yaml", CHART);
    mesh.write("chart/values.yaml", "image: ironmesh/sleep\nreplicas: 2\nmigration: 0\n");
    mesh.write("chart/templates/all.yaml", TEMPLATES);
    mesh.write("chart/templates/hook.yaml", HOOK);
    mesh.write("chart/templates/tests/test.yaml", TEST);
    mesh.write("kubeconfig", &mesh.ok(&["kubeconfig"]));
    let run = |line: &str| {
        let mut command = Command::new(&helm);
        command.args(line.split(' ')).current_dir(folder);
        command.env("KUBECONFIG", folder.join("kubeconfig")).env("HOME", folder);
        Said::of(command)
    };
    let ok = |line: &str| {
        let said = run(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.out
    };
    ok("install shop chart -n dev --create-namespace --wait --timeout 60s");
    let replicas = || {
        mesh.ok(&[
            "-n",
            "dev",
            "get",
            "deploy",
            "shop-deploy",
            "-o",
            "jsonpath={.status.readyReplicas}",
        ])
    };
    assert_eq!(replicas(), "2");
    assert!(ok("list -n dev").contains("deployed"));
    assert!(ok("test shop -n dev --logs").contains("as it should be"));
    let secrets = mesh.ok(&["-n", "dev", "get", "secrets"]);
    assert!(
        secrets.contains("sh.helm.release.v1.shop.v1") && secrets.contains("helm.sh/release.v1")
    );
    ok("upgrade shop chart -n dev --wait --timeout 60s --set replicas=3");
    assert_eq!(replicas(), "3");
    // A hook that fails and an image that nobody has leave what there was.
    let said = run("upgrade shop chart -n dev --wait --timeout 60s --set migration=7");
    assert!(said.code != 0 && said.err.contains("pre-upgrade hooks failed"), "{said:?}");
    let said =
        run("upgrade shop chart -n dev --atomic --timeout 5s --set image=127.0.0.1:1/none:1");
    assert!(said.code != 0 && said.err.contains("rolled back"), "{said:?}");
    assert_eq!(replicas(), "3");
    ok("rollback shop 1 -n dev --wait --timeout 60s");
    assert_eq!(replicas(), "2");
    ok("uninstall shop -n dev --wait --timeout 60s");
    let left = mesh.ok(&["-n", "dev", "get", "deploy,svc,job,secret", "-o", "name"]);
    assert_eq!(left, "", "nothing is left");
}

/// What the addon's own configuration asks for: the API, nodes, Services, Endpoints and pods by their
/// annotations; and the roles that newer ones have, too.
const PROMETHEUS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus, namespace: istio-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: prometheus, namespace: istio-system}
data:
  prometheus.yml: |
    global: {scrape_interval: 1s, scrape_timeout: 1s}
    scrape_configs:
    - job_name: kubernetes-apiservers
      scheme: https
      kubernetes_sd_configs: [{role: endpoints}]
      tls_config: {ca_file: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt}
      bearer_token_file: /var/run/secrets/kubernetes.io/serviceaccount/token
      relabel_configs:
      - action: keep
        regex: default;kubernetes;https
        source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_service_name, __meta_kubernetes_endpoint_port_name]
    - job_name: kubernetes-pods
      kubernetes_sd_configs: [{role: pod}]
      relabel_configs:
      - {action: keep, regex: "true", source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape]}
      - {action: replace, regex: (.+), source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], target_label: __metrics_path__}
      - action: replace
        regex: ([^:]+)(?::\d+)?;(\d+)
        replacement: $1:$2
        source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port]
        target_label: __address__
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
    - {job_name: nodes, kubernetes_sd_configs: [{role: node}]}
    - {job_name: services, kubernetes_sd_configs: [{role: service}]}
    - {job_name: slices, kubernetes_sd_configs: [{role: endpointslice}]}
    - {job_name: ingresses, kubernetes_sd_configs: [{role: ingress}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: prometheus, namespace: istio-system}
spec:
  selector: {matchLabels: {app: prometheus}}
  template:
    metadata: {labels: {app: prometheus, sidecar.istio.io/inject: "false"}}
    spec:
      serviceAccountName: prometheus
      containers:
      - name: prometheus
        image: prom/prometheus:v2.31.1
        args: [--config.file=/etc/config/prometheus.yml, --storage.tsdb.path=/data]
        readinessProbe: {httpGet: {path: /-/ready, port: 9090}}
        volumeMounts: [{name: config, mountPath: /etc/config}, {name: data, mountPath: /data}]
      volumes: [{name: config, configMap: {name: prometheus}}, {name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, image: ironmesh/sleep, ports: [{containerPort: 8080}]}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  rules: [{host: web.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
"#;

#[test]
fn a_real_prometheus_finds_its_targets_by_the_api() {
    let Some(prometheus) = tool("prometheus") else { return };
    let with_discovery = Command::new(&prometheus).arg("--version").output().unwrap();
    let said = [with_discovery.stdout, with_discovery.stderr].concat();
    if !String::from_utf8_lossy(&said).contains("enable_kubernetes_sd") {
        println!("SKIPPED: this prometheus knows no kubernetes_sd");
        return;
    }
    let image = format!("prom/prometheus*={}", prometheus.display());
    let Some(mesh) = Running::start(PROMETHEUS, &["--image", &image]) else { return };
    let targets = || -> Value {
        let url = "http://127.0.0.1:9090/api/v1/targets";
        let said =
            mesh.run(&["-n", "istio-system", "exec", "deploy/prometheus", "--", "curl", "-s", url]);
        serde_json::from_str(&said.out).unwrap_or_default()
    };
    let of = |targets: &Value, job: &str| -> Vec<Value> {
        let active = targets["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        active.into_iter().filter(|target| target["scrapePool"] == job).collect()
    };
    await_some("the API and the sidecar of the pod to be scraped", || {
        let all = targets();
        let up = |job: &str| of(&all, job).iter().any(|target| target["health"] == "up");
        let web = of(&all, "kubernetes-pods");
        let sidecar = web.iter().any(|target| {
            let url = target["scrapeUrl"].as_str().unwrap_or_default();
            url.ends_with(":15020/stats/prometheus") && target["labels"]["pod"] == "web"
        });
        (up("kubernetes-apiservers") && up("kubernetes-pods") && sidecar).then_some(())
    });
    await_some("every role to find something", || {
        let all = targets();
        let roles = ["nodes", "services", "slices", "ingresses"];
        roles.iter().all(|job| !of(&all, job).is_empty()).then_some(())
    });
    await_some("the pod of the slice to be found as ready", || {
        of(&targets(), "slices").into_iter().find(|target| {
            let is = |label: &str, value: &str| {
                target["discoveredLabels"][format!("__meta_kubernetes_{label}")] == value
            };
            is("service_name", "web")
                && is("endpointslice_endpoint_conditions_ready", "true")
                && is("endpointslice_address_target_name", "web")
                && is("pod_name", "web")
        })
    });
}
