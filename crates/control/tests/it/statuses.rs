//! What the control plane writes into the status of objects, and when it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ironmesh_control::source::{Change, Expired, Memory, ObjectKey, Source, StatusError, Writing};
use ironmesh_dialects::{Object, StatusChange};
use ironmesh_model::ResourceKey;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::push::{ToyProxy, host, on_one_thread, synced};
use crate::world::{World, eventually, pod, service};

/// A source that counts the statuses that are written, and refuses the first ones.
#[derive(Debug)]
struct Counting {
    memory: Arc<Memory>,
    written: Arc<AtomicUsize>,
    refused: usize,
}

impl Source for Counting {
    fn subscribe(&self) -> watch::Receiver<u64> {
        self.memory.subscribe()
    }

    fn list(&self) -> (Vec<Object>, u64) {
        self.memory.list()
    }

    fn changes_after(&self, version: u64) -> Result<(Vec<Change>, u64), Expired> {
        self.memory.changes_after(version)
    }

    fn object(&self, key: &ObjectKey) -> Option<Arc<Value>> {
        self.memory.object(key)
    }

    fn pods(&self) -> Vec<Arc<Value>> {
        self.memory.pods()
    }

    fn write_status<'a>(&'a self, key: &'a ObjectKey, change: &'a StatusChange) -> Writing<'a> {
        if self.written.fetch_add(1, Ordering::SeqCst) < self.refused {
            let refused = StatusError::Refused("the disk is full".to_owned());
            return Box::pin(std::future::ready(Err(refused)));
        }
        self.memory.write_status(key, change)
    }
}

/// A control plane whose source refuses the first statuses, and how many it was given.
fn start(refused: usize) -> (World, Arc<AtomicUsize>) {
    let written = Arc::<AtomicUsize>::default();
    let counted = written.clone();
    let world =
        World::start_over(|memory| Arc::new(Counting { memory, written: counted, refused }));
    (world, written)
}

fn virtual_service(name: &str, to: &str, generation: i64) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name, "generation": generation},
        "spec": {"hosts": [name], "http": [{"route": [{"destination": {"host": to}}]}]},
    })
}

fn status(world: &World, name: &str) -> Value {
    let key = ObjectKey {
        group: "networking.istio.io".into(),
        kind: "VirtualService".into(),
        namespace: "default".into(),
        name: name.into(),
    };
    world.source.object(&key).unwrap()["status"].clone()
}

/// Waits until a status has messages of these codes and is about this generation.
async fn says(world: &World, name: &str, codes: &[&str], generation: i64) {
    eventually(|| {
        let status = status(world, name);
        let messages = status["validationMessages"].as_array().cloned().unwrap_or_default();
        let found: Vec<_> = messages.iter().map(|m| m["type"]["code"].as_str().unwrap()).collect();
        (found == codes && status["observedGeneration"] == generation).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_virtual_service_says_in_its_status_what_is_wrong_with_it_as_long_as_it_is() {
    let (world, written) = start(0);
    world.put(service("reviews", "10.96.0.4"));
    world.put(virtual_service("reviews", "missing", 1));
    says(&world, "reviews", &["IM0104"], 1).await;
    world.put(virtual_service("reviews", "missing", 2));
    says(&world, "reviews", &["IM0104"], 2).await;
    // What is missing comes: nobody touched the object.
    world.put(service("missing", "10.96.0.5"));
    eventually(|| (status(&world, "reviews") == json!({})).then_some(())).await;
    // One that is in order has none, and what is said already is not written again.
    world.put(virtual_service("missing", "reviews", 1));
    world.put(service("another", "10.96.0.6"));
    world.put(virtual_service("another", "nowhere", 1));
    says(&world, "another", &["IM0104"], 1).await;
    world.put(service("others", "10.96.0.7"));
    world.put(virtual_service("others", "nowhere", 1));
    says(&world, "others", &["IM0104"], 1).await;
    assert_eq!(status(&world, "missing"), Value::Null);
    assert_eq!(written.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_status_that_cannot_be_written_is_tried_again_and_holds_up_no_other() {
    let (world, written) = start(3);
    world.put(service("reviews", "10.96.0.4"));
    world.put(virtual_service("reviews", "missing", 1));
    eventually(|| (written.load(Ordering::SeqCst) > 0).then_some(())).await;
    world.put(service("ratings", "10.96.0.5"));
    world.put(virtual_service("ratings", "missing", 1));
    says(&world, "reviews", &["IM0104"], 1).await;
    says(&world, "ratings", &["IM0104"], 1).await;
    assert_eq!(written.load(Ordering::SeqCst), 5, "three were refused");
}

#[tokio::test]
async fn an_object_that_changed_or_went_meanwhile_gets_no_status_of_before() {
    let memory = Memory::new(10);
    let object = virtual_service("reviews", "missing", 2);
    let key = {
        let mut object = object;
        object["metadata"]["namespace"] = "default".into();
        let object = Object::new(object).unwrap();
        memory.put(object.clone());
        ObjectKey::of(&object)
    };
    let fields = json!({"observedGeneration": 1}).as_object().unwrap().clone();
    let change = StatusChange { generation: 1, fields };
    assert_eq!(memory.write_status(&key, &change).await, Err(StatusError::Outdated));
    memory.remove(&key);
    let change = StatusChange { generation: 2, ..change };
    assert_eq!(memory.write_status(&key, &change).await, Err(StatusError::Outdated));
}

#[tokio::test]
async fn proxies_are_told_nothing_when_a_status_is_written() {
    on_one_thread(async {
        let world = World::start();
        world.put(service("reviews", "10.96.0.4"));
        world.put(virtual_service("reviews", "reviews", 1));
        let pod = world.put(pod("reviews", "v1", "10.77.0.2"));
        let proxy = ToyProxy::connect(&world, &pod);
        let key = host("reviews", 9080);
        proxy.client.subscribe([ResourceKey::Resolution(key.clone())]);
        eventually(|| (proxy.ready(&key) == Some(1)).then_some(())).await;
        synced(&world, &pod).await;
        proxy.pushed.lock().unwrap().clear();
        world.put(virtual_service("reviews", "missing", 2));
        says(&world, "reviews", &["IM0104"], 2).await;
        // Another change of which it is told comes behind that of the status.
        world.put(self::pod("reviews", "v2", "10.77.0.3"));
        let endpoints = || proxy.pushed.lock().unwrap().iter().any(|key| key.kind() == "endpoints");
        eventually(|| endpoints().then_some(())).await;
        let pushed = proxy.pushed.lock().unwrap().clone();
        let routes = pushed.iter().filter(|key| key.kind() == "route").count();
        assert_eq!(routes, 1, "the edit alone: {pushed:?}");
    })
    .await;
}
