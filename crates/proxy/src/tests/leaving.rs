//! What callers see of a workload that is told to end, while it still serves.

use ironmesh_model::policy::MtlsMode;
use ironmesh_model::service::Protocol;

use super::http2::{Http2App, block_on, call, connect, grpc};
use super::mesh::Mesh;
use super::world::*;

#[test]
fn when_the_workload_is_to_end_its_callers_are_sent_away_and_its_own_calls_go_on() {
    let mesh = Mesh::new();
    let app = App::named("a");
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Permissive, "reviews");
    let outbound = outbound(Protocol::Http, &[&app]);
    for (proxy, kept) in [(&inbound, false), (&outbound, true)] {
        let mut pooled = Wire::connect(proxy);
        assert_eq!(pooled.get("/").header("connection"), None);
        proxy.workload.send_away();
        // What still comes is served: on the connection that there was, once, and on new ones.
        for mut client in [pooled, Wire::connect(proxy), Wire::connect(proxy)] {
            let response = client.get("/");
            assert_eq!((response.status, &*response.body), (200, "a"));
            assert_eq!(response.header("connection"), (!kept).then_some("close"));
            match kept {
                true => assert_eq!(client.get("/").status, 200),
                false => assert!(client.is_ended()),
            }
        }
    }
}

#[test]
fn a_workload_that_is_to_end_is_not_ready_and_nothing_takes_that_back() {
    use ironmesh_model::ListenerKind::{Gateway, Inbound, Outbound};
    let workload = workload("client");
    assert!(!workload.is_leaving());
    let sends_away = || [Outbound, Inbound, Gateway].map(|kind| workload.sends_away(kind));
    assert_eq!(sends_away(), [false; 3]);
    workload.send_away();
    assert!(workload.is_leaving());
    assert_eq!(sends_away(), [false, true, true]);
    workload.drain();
    workload.send_away();
    assert_eq!(sends_away(), [true; 3], "a drain goes on");
}

#[test]
fn http2_callers_of_a_workload_that_is_to_end_are_told_to_go_and_served_meanwhile() {
    let mesh = Mesh::new();
    let app = Http2App::echo();
    let inbound = mesh.inbound(Protocol::Http2, app.address, MtlsMode::Permissive, "reviews");
    block_on(async {
        let pooled = connect(&inbound).await;
        assert_eq!(call(pooled.clone(), grpc("/"), b"x".to_vec()).await.2, b"x");
        inbound.workload.send_away();
        // The connection takes no more requests, and a new one still does, for those on their way.
        let told = async {
            let mut pooled = pooled;
            while let Ok(ready) = pooled.ready().await {
                pooled = ready;
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap();
        let late = connect(&inbound).await;
        assert_eq!(call(late, grpc("/"), b"y".to_vec()).await.2, b"y");
    });
}
