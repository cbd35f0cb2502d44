//! Settings of the kernel that a pod asks for: those that Kubernetes calls safe and that concern the
//! pod's network alone.

use ironmesh_model::{Finding, FindingCode};
use serde_json::Value;

use crate::{Object, path};

/// Those that are honoured.
const SAFE: [&str; 10] = [
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// A setting that is honoured, as it is usually written; parts of the name may be separated by slashes.
pub fn safe(name: &str) -> Option<&'static str> {
    let name = name.replace('/', ".");
    SAFE.into_iter().find(|safe| *safe == name)
}

/// What the pods of an object ask for and do not get.
pub(super) fn findings(object: &Object, findings: &mut Vec<Finding>) {
    for spec in ["spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec"] {
        let list = format!("{spec}.securityContext.sysctls");
        let asked = object.value().pointer(&format!("/{}", list.replace('.', "/")));
        for (at, sysctl) in asked.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let Some(name) = sysctl.get("name").and_then(Value::as_str) else { continue };
            let why = match safe(name) {
                Some(_) => continue,
                None if name == "net.ipv4.ping_group_range" => "all groups of a pod may ping",
                None => "only those of the network that Kubernetes calls safe are set",
            };
            let message = format!("{name}: {why}");
            let at = path::item(&list, at);
            findings.push(Finding::new(object.id(), at, FindingCode::NotDoneHere, message));
        }
    }
}
