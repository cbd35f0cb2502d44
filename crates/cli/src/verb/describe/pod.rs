//! Descriptions of pods.

use serde_json::Value;

use super::text::{Sheet, labels_and_annotations, pairs, string};
use crate::clock;
use crate::output::table::Columns;
use crate::verb::text;

/// Describes a pod as `kubectl` does.
pub(super) fn describe(sheet: &mut Sheet, pod: &Value) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    sheet.field("Name", string(&pod["metadata"]["name"]));
    sheet.field("Namespace", string(&pod["metadata"]["namespace"]));
    sheet.field("Priority", spec["priority"].as_i64().unwrap_or_default().to_string());
    sheet.field("Service Account", string(&spec["serviceAccountName"]));
    let host = status["hostIP"].as_str().map(|ip| format!("/{ip}")).unwrap_or_default();
    sheet.field("Node", format!("{}{host}", string(&spec["nodeName"])));
    sheet.field("Start Time", time(&status["startTime"]));
    labels_and_annotations(sheet, pod);
    let terminating = !pod["metadata"]["deletionTimestamp"].is_null();
    let phase = string(&status["phase"]);
    sheet.field("Status", if terminating { "Terminating".to_owned() } else { phase });
    for (name, field) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(text) = status[field].as_str() {
            sheet.field(name, text);
        }
    }
    sheet.field("IP", string(&status["podIP"]));
    let addresses = status["podIPs"].as_array().filter(|all| !all.is_empty());
    if let Some(addresses) = addresses {
        sheet.header("IPs");
        addresses.iter().for_each(|address| sheet.field("  IP", string(&address["ip"])));
    }
    if let Some(owner) = pod["metadata"]["ownerReferences"].get(0) {
        sheet.field("Controlled By", format!("{}/{}", text(owner, "/kind"), text(owner, "/name")));
    }
    containers(sheet, "Init Containers", &spec["initContainers"], &status["initContainerStatuses"]);
    containers(sheet, "Containers", &spec["containers"], &status["containerStatuses"]);
    conditions(sheet, status);
    volumes(sheet, &spec["volumes"]);
    if let Some(class) = status["qosClass"].as_str() {
        sheet.field("QoS Class", class);
    }
    sheet.lines("Node-Selectors", pairs(&spec["nodeSelector"]));
}

/// A time in words.
fn time(time: &Value) -> String {
    clock::in_words(&string(time))
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
    let of_status = |field: &str| status.and_then(|s| s[field].as_str()).filter(|t| !t.is_empty());
    let image = container["image"].as_str();
    for (name, text) in [
        ("Container ID", of_status("containerID")),
        ("Image", image),
        ("Image ID", of_status("imageID")),
    ] {
        if let Some(text) = text {
            sheet.field(name, text);
        }
    }
    ports(sheet, &container["ports"]);
    for (name, field) in [("Command", "command"), ("Args", "args")] {
        if let Some(words) = container[field].as_array().filter(|words| !words.is_empty()) {
            sheet.header(name);
            words.iter().for_each(|word| sheet.text(&format!("  {}", string(word))));
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
    for (name, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let Some(amounts) = container["resources"][field].as_object() else { continue };
        if !amounts.is_empty() {
            sheet.header(name);
            amounts
                .iter()
                .for_each(|(name, amount)| sheet.field(&format!("  {name}"), string(amount)));
        }
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
    environment(sheet, container);
    mounts(sheet, &container["volumeMounts"]);
}

/// Ports of a container, and those of the host that lead to them.
fn ports(sheet: &mut Sheet, ports: &Value) {
    let ports: Vec<&Value> = ports.as_array().into_iter().flatten().collect();
    let many = if ports.len() > 1 { "s" } else { "" };
    for (name, field) in [("Port", "containerPort"), ("Host Port", "hostPort")] {
        let words = ports.iter().map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            format!("{}/{protocol}", port[field].as_u64().unwrap_or_default())
        });
        let words = words.collect::<Vec<_>>().join(", ");
        let words = if words.is_empty() { "<none>".to_owned() } else { words };
        sheet.field(&format!("{name}{many}"), words);
    }
}

fn environment(sheet: &mut Sheet, container: &Value) {
    let list = |field: &str| container[field].as_array().filter(|list| !list.is_empty());
    if let Some(sources) = list("envFrom") {
        sheet.header("Environment Variables from");
        for source in sources {
            for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
                if let Some(reference) = source.get(field) {
                    let optional = reference["optional"].as_bool().unwrap_or_default();
                    let name = format!("  {}", text(reference, "/name"));
                    sheet.field(&name, format!("{kind}  Optional: {optional}"));
                }
            }
        }
    }
    let Some(variables) = list("env") else { return sheet.field("Environment", "<none>") };
    sheet.header("Environment");
    for variable in variables {
        sheet.field(&format!("  {}", text(variable, "/name")), value_of(variable));
    }
}

/// The value of a variable, or where it comes from; never what a Secret holds.
fn value_of(variable: &Value) -> String {
    let Some(from) = variable.get("valueFrom") else {
        return variable["value"].as_str().unwrap_or_default().to_owned();
    };
    if let Some(field) = from.get("fieldRef") {
        let version = field["apiVersion"].as_str().unwrap_or("v1");
        return format!(" ({version}:{})", text(field, "/fieldPath"));
    }
    for (field, kind) in [("secretKeyRef", "secret"), ("configMapKeyRef", "config map")] {
        if let Some(key) = from.get(field) {
            let (name, key, optional) =
                (text(key, "/name"), text(key, "/key"), key["optional"] == true);
            return format!("<set to the key '{key}' in {kind} '{name}'>  Optional: {optional}");
        }
    }
    format!("<from {}>", from.as_object().and_then(|from| from.keys().next()).map_or("", |key| key))
}

fn mounts(sheet: &mut Sheet, mounts: &Value) {
    let Some(mounts) = mounts.as_array().filter(|mounts| !mounts.is_empty()) else {
        return sheet.field("Mounts", "<none>");
    };
    sheet.header("Mounts");
    for mount in mounts {
        let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
        let (path, name) = (text(mount, "/mountPath"), text(mount, "/name"));
        sheet.text(&format!("  {path} from {name} ({mode})"));
    }
}

fn state(sheet: &mut Sheet, name: &str, state: &Value) {
    let Some((kind, details)) = state.as_object().and_then(|state| state.iter().next()) else {
        return sheet.field(name, "Waiting");
    };
    let word = match kind.as_str() {
        "running" => "Running",
        "terminated" => "Terminated",
        _ => "Waiting",
    };
    sheet.field(name, word);
    for (name, field) in [("Reason", "reason"), ("Message", "message"), ("Exit Code", "exitCode")] {
        if let Some(value) = details.get(field).filter(|value| !value.is_null()) {
            sheet.field(&format!("  {name}"), string(value));
        }
    }
    for (name, field) in [("Started", "startedAt"), ("Finished", "finishedAt")] {
        if details[field].is_string() {
            sheet.field(&format!("  {name}"), time(&details[field]));
        }
    }
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
    columns.push(["Type", "Status"]);
    for condition in conditions {
        columns.push([text(condition, "/type"), text(condition, "/status")]);
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

    /// The parts of `kubectl describe pod` that texts show.
    #[test]
    fn a_pod_as_kubectl_describes_it() {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "n" },
            "spec": { "nodeName": "a", "volumes": [{ "name": "tmp", "emptyDir": {} }], "containers": [{
                "name": "app", "image": "shop:1", "args": ["proxy", "sidecar"],
                "ports": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "UDP", "hostPort": 5353 }],
                "resources": { "limits": { "cpu": "2" } },
                "env": [
                    { "name": "A", "value": "1" },
                    { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                    { "name": "S", "valueFrom": { "secretKeyRef": { "name": "login", "key": "user" } } },
                ],
                "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
            }] },
            "status": { "phase": "Running", "hostIP": "10.77.0.1", "podIPs": [{ "ip": "10.77.0.2" }],
                "containerStatuses": [{
                    "name": "app", "ready": true, "restartCount": 1,
                    "state": { "running": { "startedAt": "2019-08-06T17:38:46Z" } },
                    "lastState": { "terminated": { "reason": "Error", "exitCode": 69 } },
                }] },
        });
        let mut sheet = Sheet::default();
        describe(&mut sheet, &pod);
        let text = sheet.finish();
        let expected = "Containers:
  app:
    Image:       shop:1
    Ports:       80/TCP, 53/UDP
    Host Ports:  0/TCP, 5353/UDP
    Args:
      proxy
      sidecar
    State:          Running
      Started:      Tue, 06 Aug 2019 17:38:46 +0000
    Last State:     Terminated
      Reason:       Error
      Exit Code:    69
    Ready:          True
    Restart Count:  1
    Limits:
      cpu:  2
    Environment:
      A:         1
      POD_NAME:   (v1:metadata.name)
      S:         <set to the key 'user' in secret 'login'>  Optional: false
    Mounts:
      /tmp from tmp (rw)
";
        assert!(text.contains(expected), "{text}");
        for line in ["Node:             a/10.77.0.1", "IPs:", "  IP:  10.77.0.2"] {
            assert!(text.lines().any(|found| found == line), "{line:?} in\n{text}");
        }
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
            "      Reason:       ErrImagePull",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
