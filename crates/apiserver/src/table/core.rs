//! Tables of the core group, but for pods.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, NONE, age, column, name, or_none, pairs, since, wide};
use crate::object::{self, Object};

pub(super) const SERVICE: &[Column] = &[
    column("Name"),
    column("Type"),
    column("Cluster-IP"),
    column("External-IP"),
    column("Port(s)"),
    column("Age"),
    wide("Selector"),
];

pub(super) fn service(service: &Object, now: Timestamp) -> Vec<Value> {
    let address = object::text(service, "/spec/clusterIP");
    let ports: Vec<_> = object::list(service, "/spec/ports").iter().map(port).collect();
    vec![
        name(service),
        object::text(service, "/spec/type").into(),
        or_none(address),
        external(service).into(),
        or_none(&ports.join(",")),
        age(service, now),
        pairs(service.pointer("/spec/selector")),
    ]
}

fn port(port: &Value) -> String {
    let number = object::number(port, "/port").unwrap_or_default();
    let protocol = object::text(port, "/protocol");
    match object::number(port, "/nodePort").filter(|n| *n != 0) {
        Some(node_port) => format!("{number}:{node_port}/{protocol}"),
        None => format!("{number}/{protocol}"),
    }
}

fn external(service: &Object) -> String {
    let given: Vec<_> =
        object::list(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    let ingress: Vec<_> = object::list(service, "/status/loadBalancer/ingress")
        .iter()
        .map(|entry| match object::text(entry, "/ip") {
            "" => object::text(entry, "/hostname"),
            ip => ip,
        })
        .collect();
    match object::text(service, "/spec/type") {
        "LoadBalancer" if !ingress.is_empty() => [ingress, given].concat().join(","),
        "LoadBalancer" if given.is_empty() => "<pending>".to_owned(),
        "ExternalName" => object::text(service, "/spec/externalName").to_owned(),
        _ if given.is_empty() => NONE.to_owned(),
        _ => given.join(","),
    }
}

pub(super) const NAMESPACE: &[Column] = &[column("Name"), column("Status"), column("Age")];

pub(super) fn namespace(namespace: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(namespace), object::text(namespace, "/status/phase").into(), age(namespace, now)]
}

pub(super) const NODE: &[Column] = &[
    column("Name"),
    column("Status"),
    column("Roles"),
    column("Age"),
    column("Version"),
    wide("Internal-IP"),
    wide("Kernel-Version"),
];

pub(super) fn node(node: &Object, now: Timestamp) -> Vec<Value> {
    let ready = if object::has_condition(node, "Ready") { "Ready" } else { "NotReady" };
    let roles: Vec<_> = object::map(node, "/metadata/labels")
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    vec![
        name(node),
        ready.into(),
        or_none(&roles.join(",")),
        age(node, now),
        object::text(node, "/status/nodeInfo/kubeletVersion").into(),
        or_none(object::text(node, "/status/addresses/0/address")),
        or_none(object::text(node, "/status/nodeInfo/kernelVersion")),
    ]
}

pub(super) const SERVICE_ACCOUNT: &[Column] = &[column("Name"), column("Secrets"), column("Age")];

pub(super) fn service_account(account: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(account), object::list(account, "/secrets").len().into(), age(account, now)]
}

pub(super) const SECRET: &[Column] =
    &[column("Name"), column("Type"), column("Data"), column("Age")];

pub(super) fn secret(secret: &Object, now: Timestamp) -> Vec<Value> {
    let count = object::map(secret, "/data").map_or(0, serde_json::Map::len);
    vec![name(secret), object::text(secret, "/type").into(), count.into(), age(secret, now)]
}

pub(super) const CONFIG_MAP: &[Column] = &[column("Name"), column("Data"), column("Age")];

pub(super) fn config_map(config: &Object, now: Timestamp) -> Vec<Value> {
    let count = |pointer| object::map(config, pointer).map_or(0, serde_json::Map::len);
    vec![name(config), (count("/data") + count("/binaryData")).into(), age(config, now)]
}

pub(super) const EVENT: &[Column] = &[
    column("Last Seen"),
    column("Type"),
    column("Reason"),
    column("Object"),
    wide("Subobject"),
    wide("Source"),
    column("Message"),
    wide("First Seen"),
    wide("Count"),
    wide("Name"),
];

pub(super) fn event(event: &Object, now: Timestamp) -> Vec<Value> {
    let seen = |pointer: &str| {
        let pointers = [pointer, "/eventTime", "/metadata/creationTimestamp"];
        let known = pointers.into_iter().find(|p| !object::text(event, p).is_empty());
        since(event, known.unwrap_or(pointer), now)
    };
    let kind = object::text(event, "/involvedObject/kind").to_ascii_lowercase();
    let source = [object::text(event, "/source/component"), object::text(event, "/source/host")];
    vec![
        seen("/lastTimestamp").into(),
        object::text(event, "/type").into(),
        object::text(event, "/reason").into(),
        format!("{kind}/{}", object::text(event, "/involvedObject/name")).into(),
        object::text(event, "/involvedObject/fieldPath").into(),
        source.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ").into(),
        object::text(event, "/message").trim().into(),
        seen("/firstTimestamp").into(),
        object::number(event, "/count").unwrap_or(1).into(),
        name(event),
    ]
}

pub(super) const ENDPOINTS: &[Column] = &[column("Name"), column("Endpoints"), column("Age")];

pub(super) fn endpoints(endpoints: &Object, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in object::list(endpoints, "/subsets") {
        for address in object::list(subset, "/addresses") {
            for port in object::list(subset, "/ports") {
                let number = object::number(port, "/port").unwrap_or_default();
                all.push(format!("{}:{number}", object::text(address, "/ip")));
            }
        }
    }
    let shown = all.iter().take(ENDPOINTS_SHOWN).cloned().collect::<Vec<_>>().join(",");
    let text = match all.len().saturating_sub(ENDPOINTS_SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    };
    vec![name(endpoints), or_none(&text), age(endpoints, now)]
}

const ENDPOINTS_SHOWN: usize = 3;
