//! The control plane proper on a source in memory: no store, no API, no controllers.

use std::sync::Arc;

use ironmesh_control::api::ExplainRequest;
use ironmesh_control::plane::{Options, Plane, Refused};
use ironmesh_control::source::{Memory, ObjectKey};
use ironmesh_dialects::Object;
use ironmesh_identity::KeyPair;
use ironmesh_model::ResourceKey;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::Settings;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::push::{ToyProxy, host};
use crate::world::{TOKEN_KEY, eventually, service};

/// A control plane that follows a source in memory.
struct MemoryWorld {
    source: Arc<Memory>,
    plane: Arc<Plane>,
    state: tempfile::TempDir,
    address: std::net::SocketAddr,
}

impl MemoryWorld {
    /// Starts one on the current runtime.
    async fn start() -> Self {
        let source = Arc::new(Memory::new(100));
        let state = tempfile::tempdir().unwrap();
        let options = Options {
            state: state.path(),
            token_key: TOKEN_KEY,
            settings: Settings::default(),
            limits: Limits::default(),
            user_ids: true,
        };
        let plane = Plane::open(source.clone(), options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(plane.clone().run(listener));
        Self { source, plane, state, address }
    }

    fn put(&self, mut object: Value) -> Value {
        object["metadata"]["namespace"] = "default".into();
        self.source.put(Object::new(object.clone()).unwrap());
        object
    }

    async fn explain(&self, from: &str, url: &str) -> Result<String, Refused> {
        let request = json!({"from": from, "url": url, "namespace": "default", "method": "GET", "headers": []});
        let request: ExplainRequest = serde_json::from_value(request).unwrap();
        Ok(self.plane.explain(&request).await?.outcome)
    }
}

/// A ready pod of an app with a sidecar.
fn pod(name: &str, app: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "uid": format!("uid-of-{name}"), "labels": {"app": app}},
        "spec": {
            "serviceAccountName": "default",
            "containers": [
                {"name": app, "ports": [{"containerPort": 9080}]},
                {"name": "istio-proxy", "args": ["proxy", "sidecar"]},
            ],
        },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn service_at(app: &str, ip: &str) -> Value {
    let mut service = service(app, 9080);
    service["spec"]["clusterIP"] = ip.into();
    service
}

#[tokio::test]
async fn proxies_follow_a_source_in_memory() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let world = MemoryWorld::start().await;
            let caller = world.put(pod("web-1", "web", "10.77.0.2"));
            world.put(service_at("reviews", "10.96.0.9"));
            let proxy = ToyProxy::connect_to(world.state.path(), world.address, &caller);
            let key = host("reviews", 9080);
            proxy.client.subscribe([ResourceKey::Resolution(key.clone())]);
            for (count, name) in [(1, "reviews-1"), (2, "reviews-2")] {
                world.put(pod(name, "reviews", &format!("10.77.0.{}", count + 10)));
                eventually(|| async { (proxy.ready(&key) == Some(count)).then_some(()) }).await;
            }
            world.source.remove(&ObjectKey::pod("default", "reviews-1"));
            eventually(|| async { (proxy.ready(&key) == Some(1)).then_some(()) }).await;

            // More changes at once than the source keeps: it is listed again.
            for number in 0..300 {
                let mut other = pod("other", "other", "10.77.0.99");
                other["metadata"]["annotations"] = json!({"n": number.to_string()});
                world.put(other);
            }
            world.source.remove(&ObjectKey::pod("default", "reviews-2"));
            eventually(|| async { (proxy.ready(&key) == Some(0)).then_some(()) }).await;

            let request = || KeyPair::generate().unwrap().csr().unwrap();
            proxy.client.sign(request()).await.unwrap();
            world.source.remove(&ObjectKey::pod("default", "web-1"));
            let refused = proxy.client.sign(request()).await.unwrap_err().to_string();
            assert!(refused.contains("is not there any more"), "{refused}");
        })
        .await;
}

#[tokio::test]
async fn questions_are_answered_from_a_source_in_memory() {
    let world = MemoryWorld::start().await;
    world.put(pod("web-1", "web", "10.77.0.2"));
    world.put(pod("reviews-1", "reviews", "10.77.0.3"));
    world.put(service_at("reviews", "10.96.0.9"));
    let reached = world.explain("web-1", "http://reviews:9080/").await.unwrap();
    assert!(reached.contains("reaches reviews-1.default at 10.77.0.3:9080"), "{reached}");
    world.put(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "reviews"},
        "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "nowhere"}}]}]},
    }));
    let refused = world.explain("web-1", "http://reviews:9080/").await.unwrap();
    assert!(!refused.contains("reaches"), "{refused}");
    let findings =
        world.plane.findings(Some("default"), Some("VirtualService"), None).await.unwrap();
    assert!(!findings.is_empty());
    assert!(world.plane.findings(Some("other"), None, None).await.unwrap().is_empty());
    let none = world.explain("nobody", "http://reviews:9080/").await.unwrap_err();
    assert_eq!(none, Refused::NoPod("nobody".to_owned()));
    assert_eq!(world.plane.proxies().len(), 2);
}
