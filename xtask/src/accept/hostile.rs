//! Hostile manifests do no harm: nothing of the host changes or shows, and nothing falls over.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::bookinfo::TITLE;
use super::http::page;
use super::mesh::{Mesh, Stage, wait_for};
use super::{Options, ensure, fact};

/// Every manifest of [`refused`] and [`endured`] is applied to a mesh with Bookinfo. Each is answered
/// with 0 or 1, a refused one with a message; no file outside the mesh's folders changes, a secret of
/// the host is not read, no process of the mesh ends, and Bookinfo goes on.
pub(super) fn manifests(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let canary = Canary::plant(&stage.home)?;
    let mesh = stage.up(&["--image", "test/python=python3"])?;
    mesh.wait_ready("default", 6)?;
    let processes = fixed_processes(&mesh)?;

    let all_refused = refused();
    for (what, manifest) in &all_refused {
        let code = apply(stage, what, manifest)?;
        ensure(code == 1, || format!("{what}: taken, though it should be refused"))?;
    }
    let all_endured = endured(&canary.folder);
    for (what, manifest) in &all_endured {
        apply(stage, what, manifest)?;
    }
    // The sentinel: what is applied last is seen by the gateway, so all before has been as well.
    stage.apply(SENTINEL)?;
    wait_for("the last manifest's answer", Duration::from_secs(60), || {
        let seen = page(mesh.gateway, "/sentinel")?;
        Ok((seen.status == 200 && seen.body == "seen").then_some(()))
    })?;
    reads_no_secret(&mesh, &canary)?;
    canary.unchanged()?;

    let after = fixed_processes(&mesh)?;
    ensure(processes == after, || format!("processes ended: {processes:?}, then {after:?}"))?;
    let served = page(mesh.gateway, "/productpage")?;
    ensure(served.body.contains(TITLE), || format!("the page: {}", served.status))?;
    fact(format!(
        "{} manifests refused, {} endured; no file, secret or process of the host is concerned",
        all_refused.len(),
        all_endured.len()
    ));
    mesh.stop()
}

/// Applies it, and returns the exit code.
fn apply(stage: &Stage, what: &str, manifest: &[u8]) -> anyhow::Result<i32> {
    let file = stage.home.join("hostile.yaml");
    fs::write(&file, manifest)?;
    let output = stage.output(&["apply", "-f", &file.display().to_string()])?;
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().with_context(|| format!("{what}: {}", output.status))?;
    ensure(code == 0 || code == 1, || format!("{what}: exit code {code}: {said}"))?;
    ensure(code == 0 || !said.trim().is_empty(), || format!("{what}: refused without a word"))?;
    Ok(code)
}

/// The processes of the mesh that no manifest may end: the mesh's own, and Bookinfo's sidecars.
fn fixed_processes(mesh: &Mesh) -> anyhow::Result<BTreeMap<String, i64>> {
    let status = mesh.status()?;
    let mut found = BTreeMap::new();
    for name in ["agent_pid", "control_pid"] {
        found.insert(name.to_owned(), status[name].as_i64().context("no pid")?);
    }
    for pod in status["pods"].as_array().context("no pods")? {
        if let Some(pid) = pod["sidecar_pid"].as_i64() {
            found.insert(pod["name"].to_string(), pid);
        }
    }
    found.retain(|name, _| !name.contains("hostile"));
    Ok(found)
}

/// An application of this mesh asks for the secret by every way that a pod has.
fn reads_no_secret(mesh: &Mesh, canary: &Canary) -> anyhow::Result<()> {
    wait_for("the pod that looks", Duration::from_secs(30), || {
        let phase = ["get", "pod", "hostile-look", "-o", "jsonpath={.status.phase}"];
        Ok((mesh.stage.run(&phase)? == "Running").then_some(()))
    })?;
    let secret = canary.folder.join("secret");
    let look = format!(
        "cat {0} /etc/shadow /proc/1/root{0} /data/secret /data/../..{0} 2>&1; true",
        secret.display()
    );
    let seen = mesh.stage.run(&["exec", "hostile-look", "--", "sh", "-c", &look])?;
    ensure(!seen.contains(SECRET), || format!("the secret is readable: {seen}"))?;
    ensure(!seen.contains("root:"), || "/etc/shadow is readable".to_owned())
}

/// What no pod may read or change.
struct Canary {
    folder: PathBuf,
    before: BTreeMap<PathBuf, (u32, u32, u64, i64)>,
}

const SECRET: &str = "the-secret-of-the-host";

impl Canary {
    fn plant(home: &Path) -> anyhow::Result<Self> {
        let folder = home.join("canary");
        fs::create_dir_all(folder.join("empty"))?;
        fs::write(folder.join("secret"), SECRET)?;
        fs::write(folder.join("empty/file"), "left alone")?;
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.join("secret"), fs::Permissions::from_mode(0o600))?;
        let before = look(&folder)?;
        Ok(Self { folder, before })
    }

    fn unchanged(&self) -> anyhow::Result<()> {
        let now = look(&self.folder)?;
        ensure(now == self.before, || format!("the host's files: {:?}, then {now:?}", self.before))
    }
}

/// Mode, owner, size and time of change of the folder, all that it has, and some of the host.
fn look(folder: &Path) -> anyhow::Result<BTreeMap<PathBuf, (u32, u32, u64, i64)>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    let host = ["/etc/passwd", "/etc/hosts", "/usr", "/usr/bin", "/var", "/opt", "/etc"];
    let mut see = |path: PathBuf| -> anyhow::Result<bool> {
        let meta = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        let size = if meta.is_dir() { 0 } else { meta.size() };
        found.insert(path, (meta.mode(), meta.uid(), size, meta.ctime()));
        Ok(meta.is_dir())
    };
    for path in host {
        see(path.into())?;
    }
    while let Some(path) = open.pop() {
        if see(path.clone())? {
            for entry in fs::read_dir(path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(found)
}

/// Manifests that a cluster's API refuses, too.
fn refused() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in ["../../..", "..", "a/b", "a\\nb", "A", "", "-a", "a\\u0000", "a\\u202eb"] {
        let quoted = format!("\"{name}\"");
        all.push((
            format!("a volume named {name}"),
            pod("hostile-volume", &quoted, "emptyDir: {}", "/data", ""),
        ));
        all.push((
            format!("a pod named {name}"),
            pod(&quoted, "data", "emptyDir: {}", "/data", ""),
        ));
        all.push((format!("a Service named {name}"), service(&quoted, "")));
    }
    for path in ["../x", "a/../../x", "/x"] {
        let sub = format!(", subPath: {path}");
        all.push((
            format!("subPath {path}"),
            pod("hostile-sub", "data", "emptyDir: {}", "/data", &sub),
        ));
        let items = format!("configMap: {{name: none, items: [{{key: a, path: {path}}}]}}");
        all.push((format!("an item at {path}"), pod("hostile-item", "data", &items, "/data", "")));
    }
    for address in ["10.77.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "1.2.3", "::1", "host"] {
        let ip = format!("clusterIP: \"{address}\", ");
        all.push((format!("clusterIP {address}"), service("hostile-ip", &ip)));
    }
    for address in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "::1", "fe80::1"] {
        all.push((
            format!("Endpoints of {address}"),
            text(format!(
                "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: hostile-endpoints}}\n\
             subsets: [{{addresses: [{{ip: \"{address}\"}}], ports: [{{port: 80}}]}}]\n"
            )),
        ));
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        all.push((format!("an EndpointSlice of {address}"), text(format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: hostile-slice, labels: {{kubernetes.io/service-name: reviews}}}}\n\
             addressType: {family}\nports: [{{port: 80}}]\nendpoints: [{{addresses: [\"{address}\"]}}]\n"
        ))));
    }
    let key =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hostile-key}\ndata: {\"../x\": y}\n";
    all.push(("a ConfigMap's key ../x".to_owned(), text(key)));
    all.push((
        "bytes that are no UTF-8".to_owned(),
        b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \xff\xfe}\n".to_vec(),
    ));
    let lines: String = (1..12)
        .map(|n| format!("  a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 12].join(",")))
        .collect();
    all.push(("aliases of aliases".to_owned(), text(format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: hostile-bomb}}\ndata:\n  a0: &a0 [lol]\n{lines}"
    ))));
    let deep = "[".repeat(100_000);
    all.push(("a hundred thousand brackets".to_owned(), text(deep)));
    all
}

/// Manifests that may be taken, with findings or events, and change nothing that is not theirs.
fn endured(canary: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for path in ["/", "/etc", "/proc", "/../../etc", "/sys/kernel", "/dev"] {
        let name =
            format!("hostile-at{}", path.replace(['/', '.'], "-")).trim_matches('-').to_owned();
        all.push((format!("a volume at {path}"), pod(&name, "data", "emptyDir: {}", path, "")));
    }
    let host = format!("hostPath: {{path: \"{}\"}}", canary.display());
    all.push(("a folder of the host".to_owned(), pod("hostile-look", "data", &host, "/data", "")));
    let long = "x".repeat(200_000);
    for (what, spec) in [
        ("a regex that explodes", "http: [{match: [{uri: {regex: \"((a{1000}){1000}){1000}\"}}], route: [{destination: {host: reviews}}]}]".to_owned()),
        ("a regex that is none", "http: [{match: [{uri: {regex: \"(((\"}}], route: [{destination: {host: reviews}}]}]".to_owned()),
        ("a long prefix", format!("http: [{{match: [{{uri: {{prefix: \"/{long}\"}}}}], route: [{{destination: {{host: reviews}}}}]}}]")),
        ("ten thousand rules", format!("http: [{}]", vec!["{match: [{uri: {exact: /x}}], route: [{destination: {host: reviews}}]}"; 10_000].join(","))),
        ("weights that overflow", "http: [{route: [{destination: {host: reviews}, weight: 2147483647}, {destination: {host: details}, weight: 2147483647}]}]".to_owned()),
        ("a loop of delegates", "http: [{delegate: {name: hostile-loop}}]".to_owned()),
        ("a port of one's own proxy", "http: [{route: [{destination: {host: reviews, port: {number: 15001}}}]}]".to_owned()),
        ("headers that split", "http: [{headers: {request: {set: {x: \"a\\r\\nb: c\"}}}, route: [{destination: {host: reviews}}]}]".to_owned()),
        ("a redirect that splits", "http: [{redirect: {uri: \"/a\\r\\nb: c\"}}]".to_owned()),
        ("times that overflow", "http: [{timeout: 99999999999999999999h, route: [{destination: {host: reviews}}]}]".to_owned()),
    ] {
        all.push((what.to_owned(), text(format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: hostile-loop}}\nspec: {{hosts: [hostile.example.com], {spec}}}\n"
        ))));
    }
    for address in ["127.0.0.1", "169.254.169.254", "unix:///etc/shadow", "0.0.0.0"] {
        all.push((format!("a ServiceEntry of {address}"), text(format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: hostile}}\n\
             spec: {{hosts: [hostile.example.com], resolution: STATIC, location: MESH_EXTERNAL, \
             ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{{address: \"{address}\"}}]}}\n"
        ))));
    }
    for port in [0, 15_001, 15_021, 65_536, -1] {
        all.push((
            format!("a Gateway at port {port}"),
            text(format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: hostile}}\n\
             spec: {{selector: {{istio: ingressgateway}}, servers: [{{hosts: ['*'], \
             port: {{number: {port}, name: http, protocol: HTTP}}}}]}}\n"
            )),
        ));
    }
    all
}

fn text(manifest: impl Into<String>) -> Vec<u8> {
    manifest.into().into_bytes()
}

fn pod(name: &str, volume: &str, source: &str, path: &str, more: &str) -> Vec<u8> {
    text(format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
         spec:\n  containers:\n  - name: app\n    image: test/python\n\
         \x20   command: [sleep, infinity]\n    volumeMounts: [{{name: {volume}, mountPath: {path}{more}}}]\n\
         \x20 volumes: [{{name: {volume}, {source}}}]\n"
    ))
}

fn service(name: &str, more: &str) -> Vec<u8> {
    text(format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{{more}selector: {{app: none}}, ports: [{{name: http, port: 80}}]}}\n"
    ))
}

const SENTINEL: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: aa-sentinel, namespace: default}
spec:
  hosts: ['*']
  gateways: [bookinfo-gateway]
  http:
  - match: [{uri: {exact: /sentinel}}]
    directResponse: {status: 200, body: {string: seen}}
";
