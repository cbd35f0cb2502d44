//! Capabilities that containers ask for, and why the platform gives some to nobody.

use ironmesh_model::{Finding, FindingCode};
use serde_json::Value;

use crate::{Object, path};

/// Why a container that adds this capability, with or without `CAP_`, does not get what it asks for;
/// none if it does. Each counts in the pod's own namespaces alone.
pub fn why_not(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    match name.strip_prefix("CAP_").unwrap_or(&name) {
        "AUDIT_CONTROL" | "AUDIT_READ" | "AUDIT_WRITE" => Some("pods have no part in the audit"),
        "ALL" => Some("those that reach beyond the pod are not among them"),
        "BPF" | "PERFMON" | "SYSLOG" => Some("it looks into the kernel of the whole machine"),
        "MKNOD" => Some("no device can be made in a pod"),
        "IPC_LOCK" | "SYS_NICE" | "SYS_RESOURCE" => {
            Some("the kernel gives no pod more of the machine for it")
        }
        "SYS_ADMIN" | "CHECKPOINT_RESTORE" => {
            Some("mounts, namespaces and processes are the platform's to make")
        }
        "BLOCK_SUSPEND" | "LINUX_IMMUTABLE" | "MAC_ADMIN" | "MAC_OVERRIDE" | "SYS_BOOT"
        | "SYS_MODULE" | "SYS_PACCT" | "SYS_RAWIO" | "SYS_TIME" | "SYS_TTY_CONFIG"
        | "WAKE_ALARM" => Some("it reaches the whole machine"),
        "CHOWN" | "DAC_OVERRIDE" | "DAC_READ_SEARCH" | "FOWNER" | "FSETID" | "IPC_OWNER"
        | "KILL" | "LEASE" | "NET_ADMIN" | "NET_BIND_SERVICE" | "NET_BROADCAST" | "NET_RAW"
        | "SETFCAP" | "SETGID" | "SETPCAP" | "SETUID" | "SYS_CHROOT" | "SYS_PTRACE" => None,
        _ => Some("there is no such capability"),
    }
}

/// What the containers of an object add and do not get.
pub(super) fn findings(object: &Object, findings: &mut Vec<Finding>) {
    for spec in ["spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec"] {
        for kind in ["initContainers", "containers"] {
            let containers = format!("{spec}.{kind}");
            let listed = object.value().pointer(&format!("/{}", containers.replace('.', "/")));
            for (at, container) in
                listed.and_then(Value::as_array).into_iter().flatten().enumerate()
            {
                let added = container.pointer("/securityContext/capabilities/add");
                let added = added.and_then(Value::as_array).into_iter().flatten();
                for (number, name) in added.enumerate() {
                    let Some(name) = name.as_str() else { continue };
                    let Some(why) = why_not(name) else { continue };
                    let list =
                        format!("{}.securityContext.capabilities.add", path::item(&containers, at));
                    let at = path::item(&list, number);
                    let message = format!("{name}: {why}");
                    findings.push(Finding::new(object.id(), at, FindingCode::NotDoneHere, message));
                }
            }
        }
    }
}
