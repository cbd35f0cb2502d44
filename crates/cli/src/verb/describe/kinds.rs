//! Descriptions of everything but pods.

use serde_json::Value;

use super::text::{Sheet, metadata, pairs, selector, string};
use crate::output::yaml::to_yaml;
use crate::verb::text;

/// Describes a Service, with its Endpoints.
pub(super) fn service(sheet: &mut Sheet, service: &Value, endpoints: &Value) {
    let spec = &service["spec"];
    metadata(sheet, service);
    sheet.field("Selector", selector(&spec["selector"]));
    let of = spec["type"].as_str().unwrap_or("ClusterIP");
    sheet.field("Type", of);
    let texts = |list: &Value| {
        let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.collect::<Vec<_>>().join(",")
    };
    if let Some(policy) = spec["ipFamilyPolicy"].as_str() {
        sheet.field("IP Family Policy", policy);
        sheet.field("IP Families", texts(&spec["ipFamilies"]));
    }
    sheet.field("IP", string(&spec["clusterIP"]));
    for (name, list) in [("IPs", &spec["clusterIPs"]), ("External IPs", &spec["externalIPs"])] {
        if !texts(list).is_empty() {
            sheet.field(name, texts(list));
        }
    }
    if let Some(name) = spec["externalName"].as_str().filter(|name| !name.is_empty()) {
        sheet.field("External Name", name);
    }
    let ingress = service.pointer("/status/loadBalancer/ingress").unwrap_or(&Value::Null);
    let given = ingress.as_array().into_iter().flatten();
    let given: Vec<&str> =
        given.filter_map(|at| at["ip"].as_str().or(at["hostname"].as_str())).collect();
    if !given.is_empty() {
        sheet.field("LoadBalancer Ingress", given.join(", "));
    }
    for port in spec["ports"].as_array().into_iter().flatten() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let name = port["name"].as_str().unwrap_or("<unset>");
        sheet.field("Port", format!("{name}  {}/{protocol}", string(&port["port"])));
        let target = port.get("targetPort").unwrap_or(&port["port"]);
        sheet.field("TargetPort", format!("{}/{protocol}", string(target)));
        if let Some(node_port) = port.get("nodePort") {
            sheet.field("NodePort", format!("{name}  {}/{protocol}", string(node_port)));
        }
        sheet.field("Endpoints", shortened(&addresses(endpoints, &port["name"])));
    }
    sheet.field("Session Affinity", spec["sessionAffinity"].as_str().unwrap_or("None"));
    if matches!(of, "NodePort" | "LoadBalancer") {
        let policy = spec["externalTrafficPolicy"].as_str().unwrap_or("Cluster");
        sheet.field("External Traffic Policy", policy);
    }
}

/// The first addresses, as kubectl shortens them.
fn shortened(addresses: &[String]) -> String {
    let first = addresses.iter().take(ADDRESSES_SHOWN).cloned().collect::<Vec<_>>().join(",");
    match addresses.len().saturating_sub(ADDRESSES_SHOWN) {
        0 if first.is_empty() => "<none>".to_owned(),
        0 => first,
        more => format!("{first} + {more} more..."),
    }
}

/// Addresses that take requests for a port of a Service, which is found by its name.
fn addresses(endpoints: &Value, port_name: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let ports = subset["ports"].as_array().into_iter().flatten();
        for port in ports.filter(|port| port["name"] == *port_name) {
            for address in subset["addresses"].as_array().into_iter().flatten() {
                all.push(format!("{}:{}", string(&address["ip"]), string(&port["port"])));
            }
        }
    }
    all
}

/// Describes a Deployment and what has its fields.
pub(super) fn workload(sheet: &mut Sheet, workload: &Value) {
    let (spec, status) = (&workload["spec"], &workload["status"]);
    metadata(sheet, workload);
    sheet.field("CreationTimestamp", string(&workload["metadata"]["creationTimestamp"]));
    sheet.field("Selector", workload_selector(workload));
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    sheet.field(
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            spec["replicas"].as_i64().unwrap_or(1),
            number("updatedReplicas"),
            number("replicas"),
            number("availableReplicas"),
            number("unavailableReplicas")
        ),
    );
    for (name, pointer) in
        [("StrategyType", "/strategy/type"), ("Update Strategy", "/updateStrategy/type")]
    {
        if let Some(strategy) = spec.pointer(pointer).and_then(Value::as_str) {
            sheet.field(name, strategy);
        }
    }
    template_and_conditions(sheet, workload);
}

/// Describes a DaemonSet.
pub(super) fn daemon_set(sheet: &mut Sheet, set: &Value) {
    let (spec, status) = (&set["spec"], &set["status"]);
    metadata(sheet, set);
    sheet.field("Selector", selector(&spec["selector"]["matchLabels"]));
    sheet.field("Node-Selector", selector(&spec["template"]["spec"]["nodeSelector"]));
    for (name, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
    ] {
        sheet.field(name, string(&status[field]));
    }
    template_and_conditions(sheet, set);
}

/// Describes a Job.
pub(super) fn job(sheet: &mut Sheet, job: &Value) {
    let (spec, status) = (&job["spec"], &job["status"]);
    metadata(sheet, job);
    sheet.field("Selector", selector(&spec["selector"]["matchLabels"]));
    sheet.field("Parallelism", string(&spec["parallelism"]));
    sheet.field("Completions", string(&spec["completions"]));
    sheet.field("Completion Mode", spec["completionMode"].as_str().unwrap_or("NonIndexed"));
    for (name, time) in [("Start Time", "startTime"), ("Completed At", "completionTime")] {
        if let Some(time) = status[time].as_str() {
            sheet.field(name, time);
        }
    }
    if !spec["activeDeadlineSeconds"].is_null() {
        let deadline = format!("{}s", string(&spec["activeDeadlineSeconds"]));
        sheet.field("Active Deadline Seconds", deadline);
    }
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    sheet.field(
        "Pods Statuses",
        format!(
            "{} Active ({} Ready) / {} Succeeded / {} Failed",
            number("active"),
            number("ready"),
            number("succeeded"),
            number("failed")
        ),
    );
    if spec["completionMode"] == "Indexed" {
        sheet.field("Completed Indexes", string(&status["completedIndexes"]));
        if let Some(failed) = status["failedIndexes"].as_str() {
            sheet.field("Failed Indexes", failed);
        }
    }
    template_and_conditions(sheet, job);
}

/// The selector of a workload; that of a replication controller names labels only.
fn workload_selector(workload: &Value) -> String {
    let selected = &workload["spec"]["selector"];
    match workload["kind"] == "ReplicationController" {
        true => selector(selected),
        false => selector(&selected["matchLabels"]),
    }
}

fn template_and_conditions(sheet: &mut Sheet, workload: &Value) {
    let (spec, status) = (&workload["spec"], &workload["status"]);
    template(sheet, &spec["template"]);
    for condition in status["conditions"].as_array().into_iter().flatten() {
        sheet.field(
            &format!("Condition {}", text(condition, "/type")),
            format!("{} {}", text(condition, "/status"), text(condition, "/reason")),
        );
    }
}

/// Describes a pod template.
pub(super) fn template(sheet: &mut Sheet, template: &Value) {
    sheet.nested("Pod Template", |sheet| {
        sheet.lines("Labels", pairs(&template["metadata"]["labels"]));
        for container in template["spec"]["containers"].as_array().into_iter().flatten() {
            sheet.field("Container", text(container, "/name"));
            sheet.field("  Image", string(&container["image"]));
        }
    });
}

/// Describes a Namespace.
pub(super) fn namespace(sheet: &mut Sheet, namespace: &Value) {
    metadata(sheet, namespace);
    sheet.field("Status", string(&namespace["status"]["phase"]));
    let injected = text(namespace, "/metadata/labels/istio-injection") == "enabled"
        || namespace.pointer("/metadata/labels/istio.io~1rev").is_some();
    let words = if injected { "new pods get a sidecar" } else { "new pods get none" };
    sheet.field("Injection", words);
}

/// Describes any object: its fields as YAML.
pub(super) fn any(sheet: &mut Sheet, object: &Value) -> anyhow::Result<()> {
    metadata(sheet, object);
    sheet.field("API Version", string(&object["apiVersion"]));
    sheet.field("Kind", string(&object["kind"]));
    sheet.field("Created", string(&object["metadata"]["creationTimestamp"]));
    for (name, value) in object.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        // A Secret's values are not for the screen.
        if object["kind"] == "Secret" && matches!(name.as_str(), "data" | "stringData") {
            let sizes = value.as_object().into_iter().flatten();
            let sizes = sizes.map(|(key, value)| {
                format!("{key}:  {} characters", value.as_str().map_or(0, str::len))
            });
            sheet.lines("Data", sizes);
            continue;
        }
        sheet.block(name, &to_yaml(value)?);
    }
    Ok(())
}

/// Addresses of a port of a Service that are shown.
const ADDRESSES_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_as_kubectl_describes_it() {
        let given = json!({
            "metadata": { "name": "l5d", "namespace": "default" },
            "spec": {
                "selector": { "app": "l5d" }, "type": "LoadBalancer", "clusterIP": "10.96.0.9",
                "clusterIPs": ["10.96.0.9"],
                "ports": [{ "name": "outgoing", "port": 4140, "nodePort": 30001 }],
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "127.128.0.2" }] } },
        });
        let addresses: Vec<Value> =
            (1..=5).map(|n| json!({ "ip": format!("10.0.0.{n}") })).collect();
        let ports = json!([{ "name": "outgoing", "port": 4140 }]);
        let endpoints = json!({ "subsets": [{ "addresses": addresses, "ports": ports }] });
        let mut sheet = Sheet::default();
        service(&mut sheet, &given, &endpoints);
        let text = sheet.finish();
        for line in [
            "Type:                     LoadBalancer\n",
            "IPs:                      10.96.0.9\n",
            "LoadBalancer Ingress:     127.128.0.2\n",
            "Port:                     outgoing  4140/TCP\n",
            "NodePort:                 outgoing  30001/TCP\n",
            "Endpoints:                10.0.0.1:4140,10.0.0.2:4140,10.0.0.3:4140 + 2 more...\n",
            "External Traffic Policy:  Cluster\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        let mut sheet = Sheet::default();
        service(&mut sheet, &json!({ "spec": { "ports": [{ "port": 1 }] } }), &Value::Null);
        assert!(sheet.finish().contains("Endpoints:         <none>\n"));
    }
}
