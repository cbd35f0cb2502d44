//! Which port here leads to which port of a pod.

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::verb::text;

/// A port of this machine and the pod's port that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forwarding {
    /// 0: any that is free.
    pub(super) local: u16,
    pub(super) remote: u16,
}

impl Forwarding {
    /// Reads `PORT`, `LOCAL:PORT` or `:PORT`, where PORT is one of the pod, or of the Service if one was
    /// named.
    ///
    /// # Errors
    ///
    /// If there is no such port, or none can be.
    pub(super) fn read(word: &str, pod: &Value, service: Option<&Value>) -> anyhow::Result<Self> {
        let (local, remote) = match word.split_once(':') {
            Some((local, remote)) => (Some(local), remote),
            None => (None, word),
        };
        let (number, target) = match service {
            Some(service) => of_service(service, pod, remote)?,
            None => {
                let port = of_pod(pod, remote)?;
                (port, port)
            }
        };
        let local = match local {
            None => number,
            Some("") => 0,
            Some(text) => text.parse().ok().with_context(|| {
                format!("error parsing local port {text:?} of {word:?}: it is no port")
            })?,
        };
        Ok(Self { local, remote: target })
    }
}

/// A port of a pod, by its number or the name that a container gives it.
fn of_pod(pod: &Value, word: &str) -> anyhow::Result<u16> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        let port = word.parse().ok().filter(|port| *port > 0);
        return port.with_context(|| {
            format!("remote port must be a number from 1 to 65535, unlike {word:?}")
        });
    }
    let containers = ["/spec/containers", "/spec/initContainers"];
    let lists = containers.iter().filter_map(|list| pod.pointer(list)?.as_array());
    let ports = lists.flatten().filter_map(|container| container["ports"].as_array()).flatten();
    let named = ports.into_iter().find(|port| text(port, "/name") == word);
    named.and_then(|port| port["containerPort"].as_u64()?.try_into().ok()).with_context(|| {
        format!("Pod '{}' does not have a named port '{word}'", text(pod, "/metadata/name"))
    })
}

/// A port of a Service, by its number or name, and that of its pod which it leads to.
fn of_service(service: &Value, pod: &Value, word: &str) -> anyhow::Result<(u16, u16)> {
    let name = text(service, "/metadata/name");
    let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let is_it = |port: &&Value| {
        port["port"].as_u64().is_some_and(|number| number.to_string() == word)
            || text(port, "/name") == word
    };
    let Some(port) = ports.iter().find(is_it) else {
        bail!("Service {name} does not have a service port {word}");
    };
    if port["protocol"].as_str().is_some_and(|protocol| protocol != "TCP") {
        bail!("port {word} of Service {name} is not TCP, and only TCP can be forwarded");
    }
    let number = port["port"].as_u64().and_then(|number| u16::try_from(number).ok());
    let number = number.with_context(|| format!("port {word} of Service {name} is no port"))?;
    if service["spec"]["clusterIP"] == "None" {
        return Ok((number, number));
    }
    let target = match &port["targetPort"] {
        Value::String(named) => of_pod(pod, named)?,
        Value::Number(target) => of_pod(pod, &target.to_string())?,
        _ => number,
    };
    Ok((number, target))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "a", "ports": [{"name": "web", "containerPort": 9080}]},
        ]}})
    }

    #[test]
    fn ports_of_pods() {
        for (word, local, remote) in [
            ("80", 80, 80),
            ("8080:80", 8080, 80),
            (":80", 0, 80),
            ("web", 9080, 9080),
            (":web", 0, 9080),
        ] {
            let read = Forwarding::read(word, &pod(), None).unwrap();
            assert_eq!(read, Forwarding { local, remote }, "{word}");
        }
        for word in ["", ":", "0", "70000", "nope", "a:80", "70000:80", "80:", "-1", "1:2:3"] {
            assert!(Forwarding::read(word, &pod(), None).is_err(), "{word}");
        }
    }

    #[test]
    fn ports_of_services_lead_to_what_they_target() {
        let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.7", "ports": [
            {"name": "http", "port": 80, "targetPort": "web"}, {"name": "n", "port": 81, "targetPort": 7000},
            {"name": "same", "port": 82}, {"name": "dns", "port": 53, "protocol": "UDP"},
        ]}});
        let read = |word| Forwarding::read(word, &pod(), Some(&service));
        for (word, local, remote) in
            [("80", 80, 9080), ("http", 80, 9080), (":81", 0, 7000), ("8000:same", 8000, 82)]
        {
            assert_eq!(read(word).unwrap(), Forwarding { local, remote }, "{word}");
        }
        assert!(read("53").unwrap_err().to_string().contains("not TCP"));
        assert!(read("9999").unwrap_err().to_string().contains("9999"));
        let mut headless = service.clone();
        headless["spec"]["clusterIP"] = "None".into();
        let read = Forwarding::read("81", &pod(), Some(&headless)).unwrap();
        assert_eq!(read, Forwarding { local: 81, remote: 81 });
    }
}
