//! An API server in this process, and a toy kubelet.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ironmesh_apiserver::extension::{self, Answering, Extension};
use ironmesh_apiserver::{ApiServer, Doors, Failure, Hooks, Options};
use ironmesh_dialects::kinds::Resource;
use ironmesh_model::limits::ControlLimits;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::stub_node::StubNode;

/// An API server that can be killed and started again.
pub(crate) struct World {
    directory: tempfile::TempDir,
    api: std::os::unix::net::UnixListener,
    administrator: TcpListener,
    pods: TcpListener,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl World {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let api = std::os::unix::net::UnixListener::bind(directory.path().join("api.sock"));
        let api = api.unwrap();
        api.set_nonblocking(true).unwrap();
        let [administrator, pods] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let mut world = Self { directory, api, administrator, pods, running: None };
        world.run();
        world
    }

    /// A client of its API.
    pub(crate) fn api(&self) -> Api {
        Api(self.directory.path().join("api.sock"))
    }

    /// Where its API is over TLS: for the administrator, and for pods.
    pub(crate) fn secure(&self) -> [SocketAddr; 2] {
        [&self.administrator, &self.pods].map(|door| door.local_addr().unwrap())
    }

    /// Where its API is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// Where the logs of containers are expected.
    pub(crate) fn logs(&self) -> PathBuf {
        self.directory.path().join("logs")
    }

    fn run(&mut self) {
        let (state, logs) = (self.directory.path().join("state"), self.logs());
        let listener = self.api.try_clone().unwrap();
        let secure = [&self.administrator, &self.pods].map(|door| door.try_clone().unwrap());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let server = ApiServer::open(Options {
                state: &state,
                logs,
                service_network: "10.96.0.0/16",
                addresses: Vec::new(),
                pods: None,
                limits: quick(),
                hooks: Hooks {
                    admit_pod: Some(admit),
                    initial: vec![gateway()],
                    ..Hooks::default()
                },
            });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                let [administrator, pods] = secure.map(|door| {
                    door.set_nonblocking(true).unwrap();
                    Some(tokio::net::TcpListener::from_std(door).unwrap())
                });
                let doors = Doors { trusted: vec![listener], administrator, pods };
                let node = Arc::new(StubNode);
                tokio::select! {
                    () = server.unwrap().run(doors, Arc::new(Echo), node) => panic!("it ended"),
                    _ = stopped => {}
                }
            });
        });
        self.running = Some((stop, thread));
    }

    /// Drops everything that is not in the state directory.
    pub(crate) fn kill(&mut self) {
        let (stop, thread) = self.running.take().unwrap();
        stop.send(()).unwrap();
        thread.join().unwrap();
    }

    /// Starts it again with the same sockets and state.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.run();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.running.is_some() && !std::thread::panicking() {
            self.kill();
        }
    }
}

/// Limits with which no test waits long.
fn quick() -> ControlLimits {
    ControlLimits {
        job_pause_min: Duration::from_millis(1),
        api_proxy_timeout: Duration::from_secs(2),
        ..ControlLimits::default()
    }
}

/// Says what it was asked.
#[derive(Debug)]
struct Echo;

impl Extension for Echo {
    fn findings<'a>(&'a self, object: &'a Value, is_tried: bool) -> extension::Findings<'a> {
        let said = object["data"]["findings"].as_str().unwrap_or_default();
        let prefix = if is_tried { "would: " } else { "" };
        let said = said.split('|').filter(|text| !text.is_empty());
        Box::pin(std::future::ready(said.map(|text| format!("{prefix}{text}")).collect()))
    }

    fn answer<'a>(&'a self, request: &'a extension::Request<'a>) -> Answering<'a> {
        Box::pin(async move {
            match request.path {
                ["echo"] => extension::json(&json!({
                    "method": request.method.as_str(),
                    "query": request.query("x"),
                    "body": request.json()?,
                })),
                _ => Err(Failure::no_such_path()),
            }
        })
    }
}

/// Adds a container to the pods of namespaces that want it.
fn admit(namespace: &Value, _: ironmesh_apiserver::ConfigMaps<'_>, pod: &mut Value) {
    if namespace["metadata"]["labels"]["istio-injection"] == "enabled" {
        let containers = pod["spec"]["containers"].as_array_mut().unwrap();
        containers.push(json!({"name": "added", "image": "added:1"}));
    }
}

/// What a new store gets.
fn gateway() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "gateway", "namespace": "kube-system"},
        "spec": {"ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
    })
}

/// A client of the API.
#[derive(Clone)]
pub(crate) struct Api(PathBuf);

impl Api {
    /// One request; the answer as JSON, or as a JSON text if it is none.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let response = self.open(method, path, headers, body).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into());
        (status, value)
    }

    /// The warnings of a request that is done.
    pub(crate) async fn warnings(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Vec<String> {
        let response = self.open(method, path, headers, Some(body)).await;
        assert!(response.status().is_success(), "{}", response.status());
        let warnings = response.headers().get_all("warning").iter();
        warnings.map(|warning| warning.to_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> http::Response<hyper::body::Incoming> {
        let stream = UnixStream::connect(&self.0).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "ironmesh");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, value) = self.request(Method::GET, path, &[], None).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<Value> {
        let (status, value) = self.request(Method::GET, path, &[], None).await;
        (status == 200).then_some(value)
    }

    /// Creates an object, by its own apiVersion, kind and namespace.
    pub(crate) async fn create(&self, object: Value) -> Value {
        let (status, value) = self.try_create(object).await;
        assert_eq!(status, 201, "{value}");
        value
    }

    pub(crate) async fn try_create(&self, object: Value) -> (StatusCode, Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let resource = Resource::of(text("/apiVersion").unwrap(), text("/kind").unwrap());
        let namespace = text("/metadata/namespace").unwrap_or("default");
        let path = resource.path(Some(namespace), None);
        self.request(Method::POST, &path, &[], Some(&object)).await
    }

    pub(crate) async fn merge(&self, path: &str, patch: Value) -> Value {
        let kind = [("content-type", "application/merge-patch+json")];
        let (status, value) = self.request(Method::PATCH, path, &kind, Some(&patch)).await;
        assert_eq!(status, 200, "{value}");
        value
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.request(Method::DELETE, path, &[], None).await
    }

    pub(crate) async fn table(&self, path: &str) -> Vec<Vec<String>> {
        let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        let (status, table) = self.request(Method::GET, path, &accept, None).await;
        assert_eq!(status, 200, "{table}");
        let text = |cell: &Value| cell.as_str().map_or(cell.to_string(), str::to_owned);
        let cells = |row: &Value| row["cells"].as_array().unwrap().iter().map(text).collect();
        table["rows"].as_array().unwrap().iter().map(cells).collect()
    }

    /// Begins a watch.
    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let response = self.open(Method::GET, path, &[], None).await;
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), buffer: Vec::new() }
    }
}

/// A running watch.
pub(crate) struct Watch {
    body: hyper::body::Incoming,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; none if the watch has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.next_line().await?).unwrap())
    }

    /// The next line as text; none if there will be none.
    pub(crate) async fn next_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            let frame = self.body.frame().await?.ok()?;
            self.buffer.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// Type and name of the next event.
    pub(crate) async fn next_name(&mut self) -> (String, String) {
        let event = tokio::time::timeout(DEADLINE, self.next()).await.expect("an event").unwrap();
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        (event["type"].as_str().unwrap().to_owned(), name)
    }
}

/// Waits until `check` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(check: impl Fn() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found).await.expect("a condition that comes true")
}

/// Makes every pod ready whose app's name does not begin with `broken`, and ends those that are to
/// be deleted. Pods get addresses in the order in which they come.
pub(crate) async fn kubelet(api: Api) {
    let mut next_address = 2u32;
    loop {
        let mut watch = api.watch("/api/v1/pods?watch=1").await;
        while let Some(event) = watch.next().await {
            let pod = &event["object"];
            if event["type"] == "DELETED" || event["type"] == "ERROR" {
                continue;
            }
            let metadata = &pod["metadata"];
            let path = format!(
                "/api/v1/namespaces/{}/pods/{}",
                metadata["namespace"].as_str().unwrap(),
                metadata["name"].as_str().unwrap()
            );
            if metadata["deletionTimestamp"].is_string() {
                api.delete(&format!("{path}?gracePeriodSeconds=0")).await;
            } else if pod["status"]["phase"] == "Pending" {
                let ip =
                    std::net::Ipv4Addr::from(u32::from_be_bytes([10, 77, 0, 0]) + next_address);
                next_address += 1;
                let status = ready_status(pod, &ip.to_string());
                let patch = [("content-type", "application/merge-patch+json")];
                let body = json!({"status": status});
                api.request(Method::PATCH, &format!("{path}/status"), &patch, Some(&body)).await;
            }
        }
    }
}

fn ready_status(pod: &Value, ip: &str) -> Value {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let broken = containers[0]["image"].as_str().unwrap().starts_with("broken");
    let ready = if broken { "False" } else { "True" };
    let state = |container: &Value| {
        json!({
            "name": container["name"],
            "ready": !broken,
            "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        })
    };
    json!({
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": containers.iter().map(state).collect::<Vec<_>>(),
    })
}

/// A Deployment of one container.
pub(crate) fn deployment(name: &str, app: &str, version: &str, replicas: u32) -> Value {
    let labels = json!({"app": app, "version": version});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [
                    {"name": app, "image": format!("{app}:1"), "ports": [{"containerPort": 9080}]},
                ]},
            },
        },
    })
}

/// A Service for one app.
pub(crate) fn service(app: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": app},
        "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": port}]},
    })
}

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
