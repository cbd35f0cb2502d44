//! The description of a node, as kubectl's.

use serde_json::Value;

use super::text::{Sheet, labels_and_annotations, string};
use crate::clock;
use crate::output::table::Columns;
use crate::verb::text;

/// Describes a node, with its pods.
pub(super) fn describe(sheet: &mut Sheet, node: &Value, pods: &[Value]) {
    let (metadata, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
    sheet.field("Name", string(&metadata["name"]));
    let labels = metadata["labels"].as_object().into_iter().flatten();
    let roles: Vec<&str> = labels.filter_map(|(label, _)| label.strip_prefix(ROLE)).collect();
    sheet.field("Roles", if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") });
    labels_and_annotations(sheet, node);
    sheet.field("CreationTimestamp", string(&metadata["creationTimestamp"]));
    let taints = spec["taints"].as_array().into_iter().flatten();
    sheet.lines("Taints", taints.map(taint));
    sheet.field("Unschedulable", (spec["unschedulable"] == true).to_string());
    conditions(sheet, &status["conditions"]);
    sheet.nested("Addresses", |sheet| {
        for address in status["addresses"].as_array().into_iter().flatten() {
            sheet.field(text(address, "/type"), text(address, "/address"));
        }
    });
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        sheet.nested(title, |sheet| {
            for (name, amount) in status[field].as_object().into_iter().flatten() {
                sheet.field(name, string(amount));
            }
        });
    }
    sheet.nested("System Info", |sheet| {
        for (name, field) in [
            ("Kernel Version", "kernelVersion"),
            ("OS Image", "osImage"),
            ("Operating System", "operatingSystem"),
            ("Architecture", "architecture"),
            ("Container Runtime Version", "containerRuntimeVersion"),
            ("Kubelet Version", "kubeletVersion"),
        ] {
            sheet.field(name, string(&status["nodeInfo"][field]));
        }
    });
    running(sheet, pods);
}

fn taint(taint: &Value) -> String {
    let value = match text(taint, "/value") {
        "" => String::new(),
        value => format!("={value}"),
    };
    format!("{}{value}:{}", text(taint, "/key"), text(taint, "/effect"))
}

fn conditions(sheet: &mut Sheet, conditions: &Value) {
    let mut columns = Columns::default();
    columns.push(["Type", "Status", "LastTransitionTime", "Reason", "Message"]);
    columns.push(["----", "------", "------------------", "------", "-------"]);
    for condition in conditions.as_array().into_iter().flatten() {
        columns.push([
            text(condition, "/type"),
            text(condition, "/status"),
            text(condition, "/lastTransitionTime"),
            text(condition, "/reason"),
            text(condition, "/message"),
        ]);
    }
    sheet.block("Conditions", &columns.take_text());
}

/// The pods that have not ended.
fn running(sheet: &mut Sheet, pods: &[Value]) {
    let has_ended = |pod: &&Value| matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    let pods: Vec<&Value> = pods.iter().filter(|pod| !has_ended(pod)).collect();
    let mut columns = Columns::default();
    columns.push(["Namespace", "Name", "Age"]);
    columns.push(["---------", "----", "---"]);
    for pod in &pods {
        let age = clock::age(text(pod, "/metadata/creationTimestamp"));
        columns.push([text(pod, "/metadata/namespace"), text(pod, "/metadata/name"), &age]);
    }
    let title = format!("Non-terminated Pods ({} in total)", pods.len());
    sheet.block(&title, &columns.take_text());
}

/// Before a role of a node, in the label that gives it.
const ROLE: &str = "node-role.kubernetes.io/";
