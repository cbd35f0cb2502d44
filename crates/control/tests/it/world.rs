//! A control plane over a source in memory, and the objects that tests put there.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ironmesh_control::api::{ExplainRequest, Explanation};
use ironmesh_control::plane::{Options, Plane, Refused};
use ironmesh_control::source::{Memory, Source};
use ironmesh_dialects::Object;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::Settings;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Key with which the proxies' tokens are signed.
pub(crate) const TOKEN_KEY: &str =
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A control plane that can be ended and started again.
pub(crate) struct World {
    pub(crate) source: Arc<Memory>,
    pub(crate) plane: Arc<Plane>,
    /// As the control plane sees it.
    seen: Arc<dyn Source>,
    state: tempfile::TempDir,
    proxies: TcpListener,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl World {
    /// Starts one over an empty source.
    pub(crate) fn start() -> Self {
        Self::start_over(|memory| memory)
    }

    /// Starts one that sees its source through another one.
    pub(crate) fn start_over(through: impl FnOnce(Arc<Memory>) -> Arc<dyn Source>) -> Self {
        let source = Arc::new(Memory::new(100));
        let seen = through(source.clone());
        let state = tempfile::tempdir().unwrap();
        let plane = open(&seen, state.path());
        let proxies = TcpListener::bind("127.0.0.1:0").unwrap();
        proxies.set_nonblocking(true).unwrap();
        let mut world = Self { source, plane, seen, state, proxies, running: None };
        world.run();
        world
    }

    /// Where the control plane keeps its certificate authority.
    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// Where its push protocol is.
    pub(crate) fn push_address(&self) -> SocketAddr {
        self.proxies.local_addr().unwrap()
    }

    /// Runs it in a thread, with all its tasks.
    fn run(&mut self) {
        let (plane, proxies) = (self.plane.clone(), self.proxies.try_clone().unwrap());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let proxies = tokio::net::TcpListener::from_std(proxies).unwrap();
                tokio::select! {
                    () = plane.run(proxies) => panic!("the control plane has ended"),
                    _ = stopped => {}
                }
            });
        });
        self.running = Some((stop, thread));
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.send(()).unwrap();
            thread.join().unwrap();
        }
    }

    /// Ends it with all that it knows, and starts another one over the same source, authority and
    /// socket.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.plane = open(&self.seen, self.state.path());
        self.run();
    }

    /// Puts an object, in the namespace `default` unless it names one, or if it is that of another.
    pub(crate) fn put(&self, mut object: Value) -> Value {
        if object["metadata"].get("namespace").is_none() {
            object["metadata"]["namespace"] = "default".into();
        }
        self.source.put(Object::new(object.clone()).unwrap());
        object
    }

    /// What the proxies would decide about a request.
    pub(crate) async fn explain(&self, request: Value) -> Result<Explanation, Refused> {
        let request: ExplainRequest = serde_json::from_value(request).unwrap();
        self.plane.explain(&request).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

fn open(source: &Arc<dyn Source>, state: &Path) -> Arc<Plane> {
    let mut limits = Limits::default();
    limits.control.status_pause = Duration::from_millis(20);
    let options = Options {
        state,
        token_key: TOKEN_KEY,
        settings: Settings::default(),
        limits,
        user_ids: true,
        keeps_claims: true,
    };
    Plane::open(source.clone(), options).unwrap()
}

/// A ready pod of the Deployment `APP-VERSION`, without a sidecar.
pub(crate) fn plain_pod(app: &str, version: &str, ip: &str) -> Value {
    let name = format!("{app}-{version}-5d8f-abcde");
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-{version}-5d8f"),
        "uid": "uid-of-the-set", "controller": true,
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "uid": format!("uid-of-{name}"),
            "labels": {"app": app, "version": version, "pod-template-hash": "5d8f"},
            "ownerReferences": [owner],
        },
        "spec": {
            "serviceAccountName": "default",
            "containers": [{"name": app, "ports": [{"containerPort": 9080}]}],
        },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// The same with a sidecar.
pub(crate) fn pod(app: &str, version: &str, ip: &str) -> Value {
    let mut pod = plain_pod(app, version, ip);
    let namespace =
        json!({"metadata": {"name": "default", "labels": {"istio-injection": "enabled"}}});
    ironmesh_control::inject::inject(&namespace, &|_, _| None, &mut pod);
    pod
}

/// The pod of the ingress gateway.
pub(crate) fn gateway_pod(ip: &str) -> Value {
    let mut pod = plain_pod("istio-ingressgateway", "v1", ip);
    pod["metadata"]["namespace"] = "istio-system".into();
    pod["metadata"]["labels"]["istio"] = "ingressgateway".into();
    pod["spec"]["containers"] = json!([{"name": "istio-proxy", "args": ["proxy", "router"]}]);
    pod
}

/// A Service for one app.
pub(crate) fn service(app: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": app},
        "spec": {"selector": {"app": app}, "clusterIP": ip, "ports": [{"name": "http", "port": 9080}]},
    })
}

/// Waits until `check` gives something.
pub(crate) async fn eventually<T>(check: impl Fn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = check() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found).await.expect("a condition that comes true")
}

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(20);
