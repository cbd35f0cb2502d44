use serde_json::json;

use std::sync::Arc;

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn cells(group: &str, plural: &str, mut object: Value) -> Vec<String> {
    if object.pointer("/metadata/creationTimestamp").is_none() {
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:55:00Z".into();
    }
    let rows = Rows::new(group, plural, Arc::from([]), Include::Nothing, NOW.parse().unwrap());
    let table = rows.table(vec![rows.row(&object)], "1");
    let row = table.pointer("/rows/0/cells").unwrap().as_array().unwrap();
    row.iter().map(|cell| cell.as_str().map_or(cell.to_string(), str::to_owned)).collect()
}

fn pod_status(status: Value) -> Vec<String> {
    let containers = json!([{"name": "a"}, {"name": "istio-proxy"}]);
    let spec = json!({"containers": containers, "initContainers": [{"name": "i"}]});
    cells("", "pods", json!({"metadata": {"name": "p"}, "spec": spec, "status": status}))[..4]
        .to_vec()
}

#[test]
fn pods_as_kubectl_shows_them() {
    let running =
        |ready: bool| json!({"ready": ready, "restartCount": 0, "state": {"running": {}}});
    for (status, expected) in [
        (json!({"phase": "Pending"}), ["p", "0/2", "Pending", "0"]),
        (
            json!({"phase": "Running", "containerStatuses": [running(true), running(true)]}),
            ["p", "2/2", "Running", "0"],
        ),
        (
            json!({"phase": "Running", "containerStatuses": [running(true), running(false)]}),
            ["p", "1/2", "Running", "0"],
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}),
            ["p", "0/2", "Init:0/1", "0"],
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": [
                {"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
            ["p", "0/2", "Init:Error", "0"],
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [
                {"ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}},
                running(true)]}),
            ["p", "1/2", "ErrImagePull", "0"],
        ),
        (
            json!({"phase": "Running", "containerStatuses": [
                {"ready": true, "restartCount": 3, "state": {"running": {}},
                 "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:30Z"}}},
                running(true)]}),
            ["p", "2/2", "Running", "3 (30s ago)"],
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [
                {"ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 69}}}]}),
            ["p", "0/2", "ExitCode:69", "0"],
        ),
    ] {
        assert_eq!(pod_status(status.clone()), expected, "{status}");
    }
}

#[test]
fn services_with_their_ports_and_addresses() {
    let service = json!({
        "metadata": {"name": "istio-ingressgateway"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.5", "selector": {"istio": "ingressgateway"},
                 "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}]},
    });
    let expected = [
        "istio-ingressgateway",
        "LoadBalancer",
        "10.96.0.5",
        "<pending>",
        "80:30080/TCP,443/TCP",
        "5m",
        "istio=ingressgateway",
    ];
    assert_eq!(cells("", "services", service.clone()), expected);
    let mut published = service;
    published["status"] = json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}});
    assert_eq!(cells("", "services", published)[3], "127.0.0.1");
}

#[test]
fn other_kinds() {
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}},
                 "template": {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}},
        "status": {"readyReplicas": 1, "updatedReplicas": 2},
    });
    assert_eq!(
        cells("apps", "deployments", deployment),
        ["d", "1/2", "2", "0", "5m", "a", "a:1", "app=a"]
    );
    let route = json!({"metadata": {"name": "v"}, "spec": {"hosts": ["*"], "gateways": ["g"]}});
    assert_eq!(
        cells("networking.istio.io", "virtualservices", route),
        ["v", "[\"g\"]", "[\"*\"]", "5m"]
    );
    assert_eq!(cells("example.com", "things", json!({"metadata": {"name": "t"}})), ["t", "5m"]);
}
