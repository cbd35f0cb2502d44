//! Columns of kinds that have no table of fields here: those that kubectl shows of them, or that the
//! definitions of their projects name.

use jiff::Timestamp;
use serde_json::Value;

use super::core::abbreviated;
use super::{Columns, NONE, age, column, or_none, since, wide};
use crate::kubernetes::kinds::AnyObject;

/// Columns whose cells are the name, what a function makes of the object, and the age.
macro_rules! columns {
    ($($name:ident [$($column:expr),*] $cells:expr;)*) => {
        $(pub(crate) const $name: Columns = Columns {
            all: &[column("Name"), $($column,)* column("Age")],
            cells: |object, now| {
                let cells: fn(&Value, Timestamp) -> Vec<Value> = $cells;
                let metadata = AnyObject::of(object).metadata();
                let mut all = vec![metadata.name().into()];
                all.extend(cells(object, now));
                all.push(age(metadata, now));
                all
            },
        };)*
    };
}

columns! {
    INGRESS [column("Class"), column("Hosts"), column("Address"), column("Ports")] |object, _| {
        let spec = &object["spec"];
        let hosts = texts(&spec["rules"], "/host");
        let hosts = if hosts.is_empty() { "*".to_owned() } else { some_of(&hosts) };
        let given = object.pointer("/status/loadBalancer/ingress").unwrap_or(&Value::Null);
        let addresses = items(given).filter_map(|at| at["ip"].as_str().or(at["hostname"].as_str()));
        let addresses: Vec<&str> = addresses.collect();
        let ports = if items(&spec["tls"]).next().is_some() { "80, 443" } else { "80" };
        let class = spec["ingressClassName"].as_str().unwrap_or_default();
        vec![or_none(class), hosts.into(), addresses.join(",").into(), ports.into()]
    };
    INGRESS_CLASS [column("Controller"), column("Parameters")] |object, _| {
        let of = &object["spec"]["parameters"];
        let parameters = match of["kind"].as_str() {
            Some(kind) => format!("{kind}/{}", text(of, "/name")),
            None => NONE.to_owned(),
        };
        vec![text(object, "/spec/controller").into(), parameters.into()]
    };
    AUTOSCALER [
        column("Reference"), column("Targets"), column("MinPods"), column("MaxPods"), column("Replicas")
    ] |object, _| {
        let (spec, of) = (&object["spec"], &object["spec"]["scaleTargetRef"]);
        let metrics: Vec<String> = items(&spec["metrics"]).map(metric).collect();
        let metrics = match spec["targetCPUUtilizationPercentage"].as_i64() {
            Some(percent) => format!("cpu: <unknown>/{percent}%"),
            None if metrics.is_empty() => "<none>".to_owned(),
            None => metrics.join(", "),
        };
        vec![
            format!("{}/{}", text(of, "/kind"), text(of, "/name")).into(),
            metrics.into(),
            spec["minReplicas"].as_i64().unwrap_or(1).into(),
            spec["maxReplicas"].as_i64().unwrap_or(0).into(),
            object.pointer("/status/currentReplicas").and_then(Value::as_i64).unwrap_or(0).into(),
        ]
    };
    CRON_JOB [
        column("Schedule"), column("Timezone"), column("Suspend"), column("Active"), column("Last Schedule")
    ] |object, now| {
        let spec = &object["spec"];
        let last = object.pointer("/status/lastScheduleTime").and_then(Value::as_str);
        let suspended = spec["suspend"] == true;
        vec![
            text(spec, "/schedule").into(),
            or_none(text(spec, "/timeZone")),
            if suspended { "True" } else { "False" }.into(),
            object.pointer("/status/active").map_or(0, |active| items(active).count()).into(),
            last.map_or_else(|| NONE.to_owned(), |last| since(last, now)).into(),
        ]
    };
    NETWORK_POLICY [column("Pod-Selector")] |object, _| {
        vec![or_none(&pairs(&object["spec"]["podSelector"]["matchLabels"]))]
    };
    DISRUPTION_BUDGET [
        column("Min Available"), column("Max Unavailable"), column("Allowed Disruptions")
    ] |object, _| {
        let spec = &object["spec"];
        let bound = |field: &str| match &spec[field] {
            Value::Null => "N/A".into(),
            bound => scalar(bound),
        };
        let allowed = object.pointer("/status/disruptionsAllowed").and_then(Value::as_i64);
        vec![bound("minAvailable"), bound("maxUnavailable"), allowed.unwrap_or(0).into()]
    };
    ENDPOINT_SLICE [column("AddressType"), column("Ports"), column("Endpoints")] |object, _| {
        let ports: Vec<String> =
            items(&object["ports"]).map(|port| scalar_text(&port["port"])).collect();
        let all = items(&object["endpoints"]).flat_map(|endpoint| items(&endpoint["addresses"]));
        let all: Vec<&str> = all.filter_map(Value::as_str).collect();
        let unset = |text: String| if text.is_empty() { "<unset>".into() } else { text.into() };
        vec![text(object, "/addressType").into(), unset(some_of_texts(&ports)), unset(some_of(&all))]
    };
    BINDING [column("Role"), wide("Users"), wide("Groups"), wide("ServiceAccounts")] |object, _| {
        let role = &object["roleRef"];
        let of = |kind: &str| -> Value {
            let subjects = items(&object["subjects"]).filter(|subject| subject["kind"] == kind);
            let names = subjects.map(|subject| match text(subject, "/namespace") {
                "" => text(subject, "/name").to_owned(),
                namespace => format!("{namespace}/{}", text(subject, "/name")),
            });
            names.collect::<Vec<_>>().join(", ").into()
        };
        let role = format!("{}/{}", text(role, "/kind"), text(role, "/name"));
        vec![role.into(), of("User"), of("Group"), of("ServiceAccount")]
    };
    WEBHOOKS [column("Webhooks")] |object, _| vec![items(&object["webhooks"]).count().into()];
    VOLUME [
        column("Capacity"), column("Access Modes"), column("Reclaim Policy"), column("Status"),
        column("Claim"), column("StorageClass"), column("VolumeAttributesClass"), column("Reason")
    ] |object, _| {
        let (spec, of) = (&object["spec"], &object["spec"]["claimRef"]);
        let modes = items(&spec["accessModes"]).filter_map(Value::as_str);
        let modes: Vec<&str> = modes.map(abbreviated).collect();
        let claim = match text(of, "/name") {
            "" => String::new(),
            name => format!("{}/{name}", text(of, "/namespace")),
        };
        let phase = match object.pointer("/metadata/deletionTimestamp") {
            Some(_) => "Terminating",
            None => text(object, "/status/phase"),
        };
        vec![
            text(spec, "/capacity/storage").into(),
            modes.join(",").into(),
            text(spec, "/persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            text(spec, "/storageClassName").into(),
            "<unset>".into(),
            text(object, "/status/reason").into(),
        ]
    };
    STORAGE_CLASS [
        column("Provisioner"), column("ReclaimPolicy"), column("VolumeBindingMode"),
        column("AllowVolumeExpansion")
    ] |object, _| {
        let or = |field: &str, otherwise: &str| -> Value {
            object[field].as_str().unwrap_or(otherwise).into()
        };
        vec![
            or("provisioner", ""),
            or("reclaimPolicy", "Delete"),
            or("volumeBindingMode", "Immediate"),
            (object["allowVolumeExpansion"] == true).to_string().into(),
        ]
    };
    PRIORITY_CLASS [column("Value"), column("Global-Default")] |object, _| {
        vec![scalar(&object["value"]), (object["globalDefault"] == true).to_string().into()]
    };
    HTTP_ROUTE [column("Hostnames")] |object, _| vec![list(&object["spec"]["hostnames"])];
    GATEWAY_CLASS [column("Controller"), column("Accepted")] |object, _| {
        vec![text(object, "/spec/controllerName").into(), condition(object, "Accepted")]
    };
    API_GATEWAY [column("Class"), column("Address"), column("Programmed")] |object, _| {
        let addresses = object.pointer("/status/addresses").unwrap_or(&Value::Null);
        let addresses = texts(addresses, "/value").join(",");
        vec![
            text(object, "/spec/gatewayClassName").into(),
            addresses.into(),
            condition(object, "Programmed"),
        ]
    };
    WORKLOAD_ENTRY [column("Address")] |object, _| vec![text(object, "/spec/address").into()];
    OPERATOR [column("Revision"), column("Status")] |object, _| {
        vec![text(object, "/spec/revision").into(), text(object, "/status/status").into()]
    };
}

/// Of kinds that show when they were made.
pub(crate) const CREATED: Columns = Columns {
    all: &[column("Name"), column("Created At")],
    cells: |object, _| {
        let metadata = AnyObject::of(object).metadata();
        vec![metadata.name().into(), metadata.creation_timestamp().into()]
    },
};

/// A metric of an autoscaler; nobody measures it here.
fn metric(metric: &Value) -> String {
    let of = &metric["resource"];
    let target = [&of["target"]["averageUtilization"], &of["targetAverageUtilization"]];
    match target.into_iter().find_map(Value::as_i64) {
        Some(percent) => format!("{}: <unknown>/{percent}%", text(of, "/name")),
        None => format!("{}: <unknown>", text(metric, "/type").to_lowercase()),
    }
}

fn condition(object: &Value, name: &str) -> Value {
    let conditions = object.pointer("/status/conditions").unwrap_or(&Value::Null);
    let found = items(conditions).find(|condition| condition["type"] == name);
    found.map_or("Unknown", |condition| text(condition, "/status")).into()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn texts<'a>(list: &'a Value, pointer: &str) -> Vec<&'a str> {
    items(list).map(|item| text(item, pointer)).filter(|text| !text.is_empty()).collect()
}

/// A list as kubectl prints that of a custom column: JSON.
fn list(value: &Value) -> Value {
    if value.is_null() { "".into() } else { value.to_string().into() }
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn scalar(value: &Value) -> Value {
    scalar_text(value).into()
}

/// Labels in the order of their keys.
fn pairs(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let mut pairs: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", scalar_text(value))).collect();
    pairs.sort();
    pairs.join(",")
}

/// The first few of a list, as kubectl shortens it.
fn some_of(all: &[&str]) -> String {
    let first = all.iter().take(SHOWN).copied().collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} + {more} more..."),
    }
}

fn some_of_texts(all: &[String]) -> String {
    some_of(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Items of a list that are shown.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(columns: &Columns, mut object: Value) -> Vec<String> {
        object["metadata"] = json!({"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"});
        let cells = (columns.cells)(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(cells.len(), columns.all.len());
        cells.iter().map(scalar_text).collect()
    }

    #[test]
    fn an_ingress_has_its_hosts_and_address() {
        let rules: Vec<Value> = ["a", "b", "c", "d"].map(|host| json!({"host": host})).to_vec();
        let ingress = json!({
            "spec": {"ingressClassName": "istio", "rules": rules, "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "127.128.0.1"}]}},
        });
        let expected = ["x", "istio", "a,b,c + 1 more...", "127.128.0.1", "80, 443", "0s"];
        assert_eq!(cells(&INGRESS, ingress), expected);
        assert_eq!(cells(&INGRESS, json!({})), ["x", "<none>", "*", "", "80", "0s"]);
    }

    #[test]
    fn what_is_empty_or_of_another_type_is_shown_all_the_same() {
        let wrong =
            || json!({"spec": 1, "status": [], "subjects": {}, "webhooks": "x", "roleRef": 0});
        for columns in [
            INGRESS,
            INGRESS_CLASS,
            AUTOSCALER,
            CRON_JOB,
            NETWORK_POLICY,
            DISRUPTION_BUDGET,
            ENDPOINT_SLICE,
            BINDING,
            WEBHOOKS,
            STORAGE_CLASS,
            PRIORITY_CLASS,
            HTTP_ROUTE,
            GATEWAY_CLASS,
            API_GATEWAY,
            WORKLOAD_ENTRY,
            OPERATOR,
            CREATED,
        ] {
            cells(&columns, json!({}));
            cells(&columns, wrong());
        }
    }

    #[test]
    fn autoscalers_of_both_forms() {
        let target = json!({"kind": "Deployment", "name": "web"});
        let old = json!({"spec": {
            "scaleTargetRef": target, "maxReplicas": 4, "targetCPUUtilizationPercentage": 75,
        }});
        let new = json!({"spec": {"scaleTargetRef": target, "maxReplicas": 4, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 75}}},
        ]}});
        for object in [old, new] {
            let expected = ["x", "Deployment/web", "cpu: <unknown>/75%", "1", "4", "0", "0s"];
            assert_eq!(cells(&AUTOSCALER, object), expected);
        }
    }
}
