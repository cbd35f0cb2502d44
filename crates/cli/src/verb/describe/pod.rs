//! Descriptions of pods.

use serde_json::Value;

use super::text::{Sheet, metadata, string};
use crate::output::table::Columns;
use crate::verb::text;

/// Describes a pod as `kubectl` does.
pub(super) fn describe(sheet: &mut Sheet, pod: &Value) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    metadata(sheet, pod);
    sheet.field("Service Account", string(&spec["serviceAccountName"]));
    sheet.field("Node", string(&spec["nodeName"]));
    sheet.field("Start Time", string(&status["startTime"]));
    let terminating = !pod["metadata"]["deletionTimestamp"].is_null();
    let phase = string(&status["phase"]);
    sheet.field("Status", if terminating { "Terminating".to_owned() } else { phase });
    if let Some(reason) = status["reason"].as_str() {
        sheet.field("Reason", reason);
    }
    if let Some(message) = status["message"].as_str() {
        sheet.field("Message", message);
    }
    sheet.field("IP", string(&status["podIP"]));
    if let Some(owner) = pod["metadata"]["ownerReferences"].get(0) {
        sheet.field("Controlled By", format!("{}/{}", text(owner, "/kind"), text(owner, "/name")));
    }
    containers(sheet, "Init Containers", &spec["initContainers"], &status["initContainerStatuses"]);
    containers(sheet, "Containers", &spec["containers"], &status["containerStatuses"]);
    conditions(sheet, status);
    volumes(sheet, &spec["volumes"]);
}

fn containers(sheet: &mut Sheet, name: &str, containers: &Value, statuses: &Value) {
    let Some(containers) = containers.as_array().filter(|list| !list.is_empty()) else { return };
    sheet.nested(name, |sheet| {
        for container in containers {
            let name = text(container, "/name");
            let status = statuses.as_array().into_iter().flatten().find(|s| s["name"] == name);
            sheet.nested(name, |sheet| self::container(sheet, container, status));
        }
    });
}

fn container(sheet: &mut Sheet, container: &Value, status: Option<&Value>) {
    sheet.field("Image", string(&container["image"]));
    let image_id = status.and_then(|status| status["imageID"].as_str()).unwrap_or_default();
    if !image_id.is_empty() {
        sheet.field("Image ID", image_id.to_owned());
    }
    let ports = container["ports"].as_array().into_iter().flatten();
    let ports: Vec<String> = ports
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            format!("{}/{protocol}", string(&port["containerPort"]))
        })
        .collect();
    sheet.field("Ports", if ports.is_empty() { "<none>".to_owned() } else { ports.join(", ") });
    for (name, field) in [("Command", "command"), ("Args", "args")] {
        let words: Vec<String> =
            container[field].as_array().into_iter().flatten().map(string).collect();
        if !words.is_empty() {
            sheet.lines(name, words);
        }
    }
    if let Some(status) = status {
        state(sheet, "State", &status["state"]);
        if status["lastState"].as_object().is_some_and(|state| !state.is_empty()) {
            state(sheet, "Last State", &status["lastState"]);
        }
        let ready = status["ready"].as_bool().unwrap_or_default();
        sheet.field("Ready", if ready { "True" } else { "False" });
        sheet.field("Restart Count", string(&status["restartCount"]));
    }
    for (name, field) in [
        ("Liveness", "livenessProbe"),
        ("Readiness", "readinessProbe"),
        ("Startup", "startupProbe"),
    ] {
        if let Some(probe) = container.get(field) {
            sheet.field(name, self::probe(probe));
        }
    }
    let environment = container["env"].as_array().into_iter().flatten();
    sheet.lines(
        "Environment",
        environment.map(|variable| {
            let value = match variable.get("valueFrom") {
                Some(from) => format!(
                    "<from {}>",
                    from.as_object().and_then(|f| f.keys().next()).map_or("", |k| k)
                ),
                None => variable["value"].as_str().unwrap_or_default().to_owned(),
            };
            format!("{}:  {value}", text(variable, "/name"))
        }),
    );
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    sheet.lines(
        "Mounts",
        mounts.map(|mount| {
            let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
            format!("{} from {} ({mode})", text(mount, "/mountPath"), text(mount, "/name"))
        }),
    );
}

fn state(sheet: &mut Sheet, name: &str, state: &Value) {
    let Some((kind, details)) = state.as_object().and_then(|state| state.iter().next()) else {
        return sheet.field(name, "Waiting");
    };
    let mut lines = vec![match kind.as_str() {
        "running" => "Running".to_owned(),
        "terminated" => "Terminated".to_owned(),
        _ => "Waiting".to_owned(),
    }];
    for (name, field) in [
        ("Reason", "reason"),
        ("Message", "message"),
        ("Exit Code", "exitCode"),
        ("Started", "startedAt"),
        ("Finished", "finishedAt"),
    ] {
        if let Some(value) = details.get(field).filter(|value| !value.is_null()) {
            lines.push(format!("  {name}: {}", string(value)));
        }
    }
    sheet.lines(name, lines);
}

/// A probe in a line, as `http-get http://:9080/health delay=0s timeout=1s period=1s ...`.
fn probe(probe: &Value) -> String {
    let what = if let Some(get) = probe.get("httpGet") {
        let scheme = get["scheme"].as_str().unwrap_or("HTTP").to_ascii_lowercase();
        let host = text(get, "/host");
        format!("http-get {scheme}://{host}:{}{}", string(&get["port"]), text(get, "/path"))
    } else if let Some(socket) = probe.get("tcpSocket") {
        format!("tcp-socket :{}", string(&socket["port"]))
    } else if let Some(command) = probe.pointer("/exec/command").and_then(Value::as_array) {
        let words: Vec<String> = command.iter().map(string).collect();
        format!("exec [{}]", words.join(" "))
    } else {
        "unknown".to_owned()
    };
    let number = |field: &str, default: i64| probe[field].as_i64().unwrap_or(default);
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    )
}

fn conditions(sheet: &mut Sheet, status: &Value) {
    let Some(conditions) = status["conditions"].as_array().filter(|list| !list.is_empty()) else {
        return;
    };
    let mut columns = Columns::default();
    columns.push(["Type", "Status", "Reason"]);
    for condition in conditions {
        columns.push([
            text(condition, "/type"),
            text(condition, "/status"),
            text(condition, "/reason"),
        ]);
    }
    sheet.block("Conditions", &columns.take_text());
}

fn volumes(sheet: &mut Sheet, volumes: &Value) {
    let Some(volumes) = volumes.as_array().filter(|list| !list.is_empty()) else { return };
    sheet.nested("Volumes", |sheet| {
        for volume in volumes {
            let fields = volume.as_object().into_iter().flatten();
            let kinds: Vec<&str> =
                fields.map(|(name, _)| name.as_str()).filter(|name| *name != "name").collect();
            sheet.field(text(volume, "/name"), kinds.join(", "));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probes_in_kubectls_words() {
        let http = json!({ "httpGet": { "path": "/health", "port": 9080 }, "periodSeconds": 1 });
        assert_eq!(
            probe(&http),
            "http-get http://:9080/health delay=0s timeout=1s period=1s #success=1 #failure=3"
        );
        let exec = json!({ "exec": { "command": ["cat", "/x"] } });
        assert!(probe(&exec).starts_with("exec [cat /x] delay=0s"));
    }

    #[test]
    fn a_waiting_container_says_why() {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "n" },
            "spec": { "containers": [{ "name": "app", "image": "unknown/x" }] },
            "status": { "phase": "Pending", "containerStatuses": [{
                "name": "app", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": "ErrImagePull", "message": "not known" } },
            }] },
        });
        let mut sheet = Sheet::default();
        describe(&mut sheet, &pod);
        let text = sheet.finish();
        for line in [
            "Status:           Pending",
            "    Image:          unknown/x",
            "    State:          Waiting",
            "                      Reason: ErrImagePull",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
