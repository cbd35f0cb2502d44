//! Which workloads that are none of the platform's are looked at, how, and what was found: the condition
//! `Healthy` of a `WorkloadEntry`, as Istio has it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ironmesh_model::Name;
use serde_json::Value;

use super::{Probe, WorkloadGroup};
use crate::istio::workload_entry::WorkloadEntry;
use crate::kubernetes::kinds;
use crate::object::value;
use crate::schema::{Bounded, IntegerOrText, parse};

/// WorkloadGroups and WorkloadEntries, brought up to date by one object at a time, and the checks that
/// follow from them.
#[derive(Debug, Default)]
pub struct HealthChecks {
    groups: BTreeMap<(Name, Name), Group>,
    entries: BTreeMap<(Name, Name), Entry>,
}

/// How it is found out whether one workload is healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// Where it is.
    pub address: IpAddr,
    /// What it is asked; `httpGet`, `tcpSocket` or `grpc`.
    pub probe: kinds::Probe,
}

#[derive(Debug)]
struct Group {
    labels: BTreeMap<String, String>,
    probe: Option<kinds::Probe>,
}

#[derive(Debug)]
struct Entry {
    address: Option<IpAddr>,
    labels: BTreeMap<String, String>,
    /// The group that it says that it is of.
    group: Option<Name>,
    has_condition: bool,
}

impl HealthChecks {
    /// A WorkloadGroup is this. One that cannot be read is as if it were not there.
    pub fn put_group(&mut self, object: &Value) {
        let key = key(object);
        match parse::<WorkloadGroup>(object) {
            Ok(WorkloadGroup { spec, .. }) => {
                let probe = spec.probe.as_ref().and_then(Probe::as_made_here);
                self.groups.insert(key, Group { labels: spec.metadata.labels, probe });
            }
            Err(_) => {
                self.groups.remove(&key);
            }
        }
    }

    /// The WorkloadGroup of this namespace and name is gone.
    pub fn take_group(&mut self, namespace: &str, name: &str) {
        self.groups.remove(&(namespace.into(), name.into()));
    }

    /// A WorkloadEntry is this. One that cannot be read is as if it were not there.
    pub fn put_entry(&mut self, object: &Value) {
        let key = key(object);
        let Ok(WorkloadEntry { spec, status, .. }) = parse(object) else {
            self.entries.remove(&key);
            return;
        };
        let mut labels = spec.labels;
        let own = object["metadata"]["labels"].as_object();
        for (name, text) in own.into_iter().flatten() {
            if let Some(text) = text.as_str() {
                labels.entry(name.clone()).or_insert_with(|| text.to_owned());
            }
        }
        let entry = Entry {
            address: spec.address.parse().ok(),
            labels,
            group: value::annotation(object, GROUP).map(Name::from),
            has_condition: condition(&status).is_some_and(|own| own["reason"] == REASON),
        };
        self.entries.insert(key, entry);
    }

    /// The WorkloadEntry of this namespace and name is gone.
    pub fn take_entry(&mut self, namespace: &str, name: &str) {
        self.entries.remove(&(namespace.into(), name.into()));
    }

    /// The checks of now, by namespace and name of the entries: of those that a group with a probe has. It
    /// has what is annotated with its name (`istio.io/autoRegistrationGroup`), and what has all labels that
    /// it gives to its members.
    pub fn checks(&self) -> BTreeMap<(Name, Name), HealthCheck> {
        let check = |key: &(Name, Name), entry: &Entry| {
            let probe = self.group_of(&key.0, entry)?.probe.clone()?;
            Some((key.clone(), HealthCheck { address: entry.address?, probe }))
        };
        self.entries.iter().filter_map(|(key, entry)| check(key, entry)).collect()
    }

    fn group_of(&self, namespace: &Name, entry: &Entry) -> Option<&Group> {
        if let Some(name) = &entry.group {
            return self.groups.get(&(namespace.clone(), name.clone()));
        }
        let has = |(name, text): (&String, &String)| entry.labels.get(name) == Some(text);
        let of_namespace = self.groups.iter().filter(|((own, _), _)| own == namespace);
        let mut groups = of_namespace.map(|(_, group)| group);
        groups.find(|group| !group.labels.is_empty() && group.labels.iter().all(has))
    }

    /// Entries with a condition that stems from a check, but without a check.
    pub fn left_over(&self) -> Vec<(Name, Name)> {
        let checks = self.checks();
        let entries = self.entries.iter().filter(|(_, entry)| entry.has_condition);
        entries.filter(|(key, _)| !checks.contains_key(key)).map(|(key, _)| key.clone()).collect()
    }
}

impl Probe {
    /// The probe as it is made from another machine; `None` if it cannot be.
    fn as_made_here(&self) -> Option<kinds::Probe> {
        let port = |port: &Option<Bounded<0, 65_535>>| u16::try_from(port.as_ref()?.0).ok();
        let number = |port: u16| IntegerOrText::Integer(port.into());
        let http_get = self.http_get.as_ref().and_then(|get| {
            let headers = get.http_headers.iter().map(|header| kinds::HttpHeader {
                name: header.name.clone(),
                value: header.value.clone(),
            });
            Some(kinds::HttpGet {
                path: get.path.clone(),
                port: number(port(&get.port)?),
                host: String::new(),
                scheme: match get.scheme.as_str() {
                    "HTTPS" => kinds::ProbeScheme::Https,
                    _ => kinds::ProbeScheme::Http,
                },
                http_headers: headers.collect(),
            })
        });
        let tcp_socket = self.tcp_socket.as_ref().and_then(|tcp| {
            Some(kinds::TcpSocket { port: number(port(&tcp.port)?), host: String::new() })
        });
        let grpc = self.grpc.as_ref().and_then(|call| {
            Some(kinds::GrpcProbe { port: port(&call.port)?, service: call.service.clone() })
        });
        if http_get.is_none() && tcp_socket.is_none() && grpc.is_none() {
            return None;
        }
        // As in Istio, 0 is what it is where it is left out.
        let or = |given: i32, default: i64| if given > 0 { given.into() } else { default };
        Some(kinds::Probe {
            http_get,
            tcp_socket,
            grpc,
            exec: None,
            initial_delay_seconds: Bounded(or(self.initial_delay_seconds, 0)),
            period_seconds: Bounded(or(self.period_seconds, 10)),
            timeout_seconds: Bounded(or(self.timeout_seconds, 1)),
            success_threshold: Bounded(or(self.success_threshold, 1)),
            failure_threshold: Bounded(or(self.failure_threshold, 3)),
            termination_grace_period_seconds: None,
        })
    }
}

/// Whether an entry takes requests: what its condition says; without one what it says of checks.
pub(crate) fn is_ready(entry: &Value, status: &Value) -> bool {
    match condition(status) {
        Some(condition) => condition["status"] == "True",
        None => value::annotation(entry, CHECKED) != Some("true"),
    }
}

/// The status of an entry, changed so that its condition says this; `None`: it has no condition.
pub fn with_condition(status: &Value, healthy: Option<(bool, &str)>, now: &str) -> Value {
    let mut status = if status.is_object() { status.clone() } else { serde_json::json!({}) };
    let before = condition(&status).cloned();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let mut conditions: Vec<Value> =
        conditions.into_iter().filter(|other| other["type"] != HEALTHY).collect();
    if let Some((is_healthy, message)) = healthy {
        let said = if is_healthy { "True" } else { "False" };
        let same = before.filter(|before| before["status"] == said);
        let since =
            same.and_then(|before| before["lastTransitionTime"].as_str().map(str::to_owned));
        conditions.push(serde_json::json!({
            "type": HEALTHY, "status": said, "reason": REASON, "message": message,
            "lastProbeTime": now, "lastTransitionTime": since.unwrap_or_else(|| now.to_owned()),
        }));
    }
    status["conditions"] = conditions.into();
    status
}

/// Whether a status has a condition on health.
pub fn is_known(status: &Value) -> bool {
    condition(status).is_some()
}

fn condition(status: &Value) -> Option<&Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == HEALTHY)
}

fn key(object: &Value) -> (Name, Name) {
    (value::namespace(object).into(), value::name(object).into())
}

/// Name of the condition.
const HEALTHY: &str = "Healthy";
/// Why it is there: a probe of the group has told.
const REASON: &str = "Probed";
/// Annotation of an entry: its group.
const GROUP: &str = "istio.io/autoRegistrationGroup";
/// Annotation of an entry: it takes requests only once it is known to be healthy.
const CHECKED: &str = "proxy.istio.io/health-checks-enabled";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn group(name: &str, labels: Value, probe: Value) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"metadata": {"labels": labels}, "template": {}, "probe": probe},
        })
    }

    fn entry(name: &str, more: Value) -> Value {
        let mut entry = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"address": "192.0.2.1", "labels": {"app": "a", "version": "v1"}},
        });
        for (field, value) in more.as_object().unwrap() {
            entry[field] = value.clone();
        }
        entry
    }

    fn checked(objects: &[Value]) -> Vec<(String, kinds::Probe)> {
        let mut checks = HealthChecks::default();
        for object in objects {
            match object["kind"].as_str() {
                Some("WorkloadGroup") => checks.put_group(object),
                _ => checks.put_entry(object),
            }
        }
        checks
            .checks()
            .into_iter()
            .map(|((_, name), check)| (name.to_string(), check.probe))
            .collect()
    }

    fn names(objects: &[Value]) -> Vec<String> {
        checked(objects).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_group_has_what_names_it_or_has_its_labels() {
        let tcp = json!({"tcpSocket": {"port": 80}});
        let own = group("a", json!({"app": "a"}), tcp.clone());
        let named = json!({"metadata": {
            "name": "named", "namespace": "default",
            "annotations": {"istio.io/autoRegistrationGroup": "b"},
        }});
        let elsewhere = json!({"metadata": {"name": "elsewhere", "namespace": "other"}});
        let entries = [
            own,
            group("b", json!({"app": "b"}), tcp.clone()),
            group("c", json!({}), tcp),
            entry("labelled", json!({})),
            entry("named", named),
            entry("elsewhere", elsewhere),
            entry("unlike", json!({"spec": {"address": "192.0.2.1", "labels": {"app": "x"}}})),
            entry("a-name", json!({"spec": {"address": "a.test", "labels": {"app": "a"}}})),
        ];
        assert_eq!(names(&entries), ["labelled", "named"]);
    }

    #[test]
    fn a_probe_is_as_istio_reads_it() {
        let of = |probe: Value| {
            let objects = [group("a", json!({"app": "a"}), probe), entry("e", json!({}))];
            checked(&objects).into_iter().map(|(_, probe)| probe).next()
        };
        let probe = of(
            json!({"httpGet": {"port": 8080, "path": "/h", "scheme": "HTTPS"}, "periodSeconds": 0}),
        );
        let probe = probe.unwrap();
        let get = probe.http_get.unwrap();
        assert_eq!((get.path.as_str(), get.scheme), ("/h", kinds::ProbeScheme::Https));
        assert_eq!((probe.period_seconds.0, probe.timeout_seconds.0), (10, 1));
        assert_eq!((probe.success_threshold.0, probe.failure_threshold.0), (1, 3));
        assert_eq!(of(json!({"exec": {"command": ["true"]}})), None);
        assert_eq!(
            of(json!({"tcpSocket": {"port": 80}, "failureThreshold": 2}))
                .unwrap()
                .failure_threshold
                .0,
            2
        );
    }

    #[test]
    fn a_condition_says_whether_an_entry_takes_requests() {
        let now = "2024-01-01T00:00:00Z";
        let none = json!({});
        let plain = entry("e", json!({}));
        assert!(is_ready(&plain, &none));
        let ill = with_condition(&none, Some((false, "no answer")), now);
        assert!(!is_ready(&plain, &ill));
        let well = with_condition(&ill, Some((true, "")), "2024-01-01T00:00:09Z");
        assert!(is_ready(&plain, &well));
        assert_eq!(well["conditions"][0]["lastTransitionTime"], "2024-01-01T00:00:09Z");
        let still = with_condition(&well, Some((true, "")), "2024-01-01T00:00:19Z");
        assert_eq!(still["conditions"][0]["lastTransitionTime"], "2024-01-01T00:00:09Z");
        assert_eq!(with_condition(&still, None, now), json!({"conditions": []}));
        let annotations = json!({"metadata": {
            "name": "e", "namespace": "default",
            "annotations": {"proxy.istio.io/health-checks-enabled": "true"},
        }});
        let annotated = entry("e", annotations);
        assert!(!is_ready(&annotated, &none));
        assert!(is_ready(&annotated, &well));
    }

    #[test]
    fn what_no_check_is_behind_any_more_is_left_over() {
        let status = with_condition(&json!({}), Some((false, "no answer")), "2024-01-01T00:00:00Z");
        let others = json!({"conditions": [{"type": "Healthy", "status": "False"}]});
        let mut checks = HealthChecks::default();
        checks.put_entry(&entry("e", json!({"status": status})));
        checks.put_entry(&entry("others", json!({"status": others})));
        assert_eq!(checks.left_over(), [("default".into(), "e".into())]);
        checks.put_group(&group("a", json!({"app": "a"}), json!({"tcpSocket": {"port": 80}})));
        assert_eq!(checks.left_over(), []);
        checks.take_group("default", "a");
        assert_eq!(checks.left_over().len(), 1);
        checks.take_entry("default", "e");
        assert_eq!(checks.left_over(), []);
    }
}
