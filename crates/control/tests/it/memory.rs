//! How a source is followed, and what is answered from it.

use ironmesh_control::plane::Refused;
use ironmesh_control::source::ObjectKey;
use ironmesh_identity::KeyPair;
use ironmesh_model::ResourceKey;
use serde_json::json;

use crate::push::{ToyProxy, host, on_one_thread};
use crate::world::{World, eventually, pod, service};

#[tokio::test]
async fn proxies_follow_a_source() {
    on_one_thread(async {
        let world = World::start();
        let caller = world.put(pod("web", "v1", "10.77.0.2"));
        world.put(service("reviews", "10.96.0.9"));
        let proxy = ToyProxy::connect(&world, &caller);
        let key = host("reviews", 9080);
        proxy.client.subscribe([ResourceKey::Resolution(key.clone())]);
        for (count, version) in [(1, "v1"), (2, "v2")] {
            world.put(pod("reviews", version, &format!("10.77.0.{}", count + 10)));
            eventually(|| (proxy.ready(&key) == Some(count)).then_some(())).await;
        }
        world.source.remove(&ObjectKey::pod("default", "reviews-v1-5d8f-abcde"));
        eventually(|| (proxy.ready(&key) == Some(1)).then_some(())).await;

        // More changes at once than the source keeps: it is listed again.
        for number in 0..300 {
            let mut other = pod("other", "v1", "10.77.0.99");
            other["metadata"]["annotations"] = json!({"n": number.to_string()});
            world.put(other);
        }
        world.source.remove(&ObjectKey::pod("default", "reviews-v2-5d8f-abcde"));
        eventually(|| (proxy.ready(&key) == Some(0)).then_some(())).await;

        let request = || KeyPair::generate().unwrap().csr().unwrap();
        proxy.client.sign(request()).await.unwrap();
        world.source.remove(&ObjectKey::pod("default", "web-v1-5d8f-abcde"));
        let refused = proxy.client.sign(request()).await.unwrap_err().to_string();
        assert!(refused.contains("is not there any more"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn questions_are_answered_from_a_source() {
    let world = World::start();
    world.put(pod("web", "v1", "10.77.0.2"));
    world.put(pod("reviews", "v1", "10.77.0.3"));
    world.put(service("reviews", "10.96.0.9"));
    let ask = |from: &str| json!({"from": from, "url": "http://reviews:9080/", "method": "GET"});
    let reached = world.explain(ask("web-v1")).await.unwrap().outcome;
    assert!(reached.contains("default at 10.77.0.3:9080"), "{reached}");
    world.put(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "reviews"},
        "spec": {"hosts": ["reviews"], "http": [{"route": [{"destination": {"host": "nowhere"}}]}]},
    }));
    let refused = world.explain(ask("web-v1")).await.unwrap().outcome;
    assert!(!refused.contains("reaches"), "{refused}");
    let findings =
        world.plane.findings(Some("default"), Some("VirtualService"), None).await.unwrap();
    assert!(!findings.is_empty());
    assert!(world.plane.findings(Some("other"), None, None).await.unwrap().is_empty());
    let none = world.explain(ask("nobody")).await.unwrap_err();
    assert_eq!(none, Refused::NoPod("nobody".to_owned()));
    assert_eq!(world.plane.proxies().len(), 2);
}

/// A kind that nobody knows does nothing, which is said.
#[tokio::test]
async fn kinds_that_nobody_knows_are_found() {
    let world = World::start();
    world.put(json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}));
    let found = world.plane.findings(None, Some("Thing"), None).await.unwrap();
    assert_eq!((found.len(), &*found[0].finding.object.name), (1, "t"));
    assert_eq!(found[0].severity, ironmesh_model::Severity::Warning);
}
