//! No JSON whatever makes a table fall over, and no field of it is lost in silence: it is in the type
//! that code works on, or in a finding.

use std::collections::BTreeSet;

use ironmesh_model::settings::parse_duration;
use ironmesh_model::{Finding, FindingCode, Severity};
use ironmesh_testkit::random::Random;
use serde_json::{Map, Value, json};

use super::{Message, Status, Type, Typed, read};
use crate::istio::destination_policy::DestinationPolicy;
use crate::istio::destination_rule::DestinationRule;
use crate::istio::gateway::Gateway;
use crate::istio::peer_authentication::PeerAuthentication;
use crate::istio::policy::{MeshPolicy, Policy};
use crate::istio::route_rule::RouteRule;
use crate::istio::service_entry::ServiceEntry;
use crate::istio::service_entry::egress_rule::EgressRule;
use crate::istio::sidecar::Sidecar;
use crate::istio::virtual_service::VirtualService;
use crate::istio::workload_entry::WorkloadEntry;
use crate::istio::workload_group::{ProxyConfig, WorkloadGroup};
use crate::kinds::KINDS;
use crate::kubernetes::kinds::{
    ConfigMap, ControllerRevision, DaemonSet, Deployment, EndpointSlice, Endpoints, Event, Ingress,
    IngressClass, Job, Lease, Namespace, Node, PersistentVolumeClaim, Pod, ReplicaSet,
    ReplicationController, Secret, Service, ServiceAccount, StatefulSet,
};
use crate::smi::{HttpRouteGroup, TrafficSplit};
use crate::{Object, path, translate_one};

/// Random objects of each kind.
const OBJECTS: u64 = 200;

/// A kind with a table: its `apiVersion`, its name, and what an object of it is read as.
type Tested = (&'static str, &'static str, fn(&Object) -> (Option<Value>, Vec<Finding>));

const TABLES: &[Tested] = &[
    ("networking.istio.io/v1", "VirtualService", typed::<VirtualService>),
    ("networking.istio.io/v1", "DestinationRule", typed::<DestinationRule>),
    ("networking.istio.io/v1", "Gateway", typed::<Gateway>),
    ("networking.istio.io/v1", "ServiceEntry", typed::<ServiceEntry>),
    ("networking.istio.io/v1", "Sidecar", typed::<Sidecar>),
    ("networking.istio.io/v1", "WorkloadEntry", typed::<WorkloadEntry>),
    ("networking.istio.io/v1", "WorkloadGroup", typed::<WorkloadGroup>),
    ("networking.istio.io/v1", "ProxyConfig", typed::<ProxyConfig>),
    ("security.istio.io/v1", "PeerAuthentication", typed::<PeerAuthentication>),
    ("config.istio.io/v1alpha2", "RouteRule", typed::<RouteRule>),
    ("config.istio.io/v1alpha2", "EgressRule", typed::<EgressRule>),
    ("config.istio.io/v1alpha2", "DestinationPolicy", typed::<DestinationPolicy>),
    ("authentication.istio.io/v1alpha1", "Policy", typed::<Policy>),
    ("authentication.istio.io/v1alpha1", "MeshPolicy", typed::<MeshPolicy>),
    ("split.smi-spec.io/v1alpha4", "TrafficSplit", typed::<TrafficSplit>),
    ("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", typed::<HttpRouteGroup>),
    ("v1", "Service", typed::<Service>),
    ("v1", "Pod", typed::<Pod>),
    ("v1", "Namespace", typed::<Namespace>),
    ("v1", "Node", typed::<Node>),
    ("v1", "ServiceAccount", typed::<ServiceAccount>),
    ("v1", "Event", typed::<Event>),
    ("coordination.k8s.io/v1", "Lease", typed::<Lease>),
    ("v1", "ConfigMap", typed::<ConfigMap>),
    ("v1", "Secret", typed::<Secret>),
    ("v1", "Endpoints", typed::<Endpoints>),
    ("discovery.k8s.io/v1", "EndpointSlice", typed::<EndpointSlice>),
    ("apps/v1", "Deployment", typed::<Deployment>),
    ("apps/v1", "ReplicaSet", typed::<ReplicaSet>),
    ("apps/v1", "DaemonSet", typed::<DaemonSet>),
    ("apps/v1", "ControllerRevision", typed::<ControllerRevision>),
    ("v1", "ReplicationController", typed::<ReplicationController>),
    ("apps/v1", "StatefulSet", typed::<StatefulSet>),
    ("v1", "PersistentVolumeClaim", typed::<PersistentVolumeClaim>),
    ("batch/v1", "Job", typed::<Job>),
    ("networking.k8s.io/v1", "Ingress", typed::<Ingress>),
    ("networking.k8s.io/v1", "IngressClass", typed::<IngressClass>),
];

fn typed<T: Typed>(object: &Object) -> (Option<Value>, Vec<Finding>) {
    let mut findings = Vec::new();
    let read: Option<T> = read(object, &mut findings);
    (read.map(|read| read.value()), findings)
}

#[test]
fn every_table_is_tested() {
    let mut tables: Vec<&str> = TABLES.iter().map(|(_, kind, _)| *kind).collect();
    let mut kinds: Vec<&str> =
        KINDS.iter().filter(|k| k.fields.is_some()).map(|k| k.kind).collect();
    tables.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(tables, kinds);
}

#[test]
fn no_field_is_lost_in_silence() {
    for (api_version, kind, typed) in TABLES {
        let message = message(api_version, kind);
        let mut read = 0;
        for seed in 0..OBJECTS {
            // Every second object has nothing but what the table allows, and unknown fields.
            let mut maker = Maker { random: Random(seed), hostile: seed % 2 == 0 };
            let value = maker.object(message, api_version, kind);
            let object = Object::new(value.clone()).unwrap();
            let (typed, findings) = typed(&object);
            read += u64::from(typed.is_some());
            let refused = findings.iter().any(|f| f.code.severity() == Severity::Error);
            assert_eq!(refused, typed.is_none(), "{value}: {findings:?}");
            Kept { findings: &findings }.object(message, &value, typed.as_ref(), "");
            translate_one(&object);
        }
        assert!(read >= OBJECTS / 3, "{kind}: only {read} of {OBJECTS} were read");
    }
}

/// Every field and word of the kinds of traffic does what it says, or has a finding that says why it has
/// no effect here.
#[test]
fn nothing_of_traffic_is_left_for_later() {
    let of_traffic = |api_version: &str| {
        let group = api_version.split('/').next().unwrap_or_default();
        matches!(group, "networking.istio.io" | "config.istio.io" | "networking.k8s.io")
            || group.ends_with("smi-spec.io")
    };
    let tables = TABLES.iter().filter(|(api_version, ..)| of_traffic(api_version));
    let mut kinds = 0;
    for (api_version, kind, _) in tables {
        let message = message(api_version, kind);
        let mut later = Vec::new();
        left_for_later(&Type::Object(message), kind, &mut later);
        assert_eq!(later, [""; 0]);
        // Nor do the rules that stand in no table say it.
        for seed in 0..OBJECTS {
            let mut maker = Maker { random: Random(seed), hostile: false };
            let value = maker.object(message, api_version, kind);
            let findings = translate_one(&Object::new(value).unwrap()).findings;
            let later: Vec<_> =
                findings.iter().filter(|f| f.code == FindingCode::NotHonoured).collect();
            assert!(later.is_empty(), "{later:?}");
        }
        kinds += 1;
    }
    assert!(kinds >= 14, "{kinds}");
}

/// The fields and words below a type that are taken and do nothing yet.
fn left_for_later(of: &Type, path: &str, later: &mut Vec<String>) {
    match of {
        Type::Object(message) => {
            for field in message.fields {
                let path = path::field(path, field.name);
                if field.status == Status::NotHonoured {
                    later.push(path.clone());
                }
                left_for_later(&field.of, &path, later);
            }
        }
        Type::List(of) | Type::Map(of) => left_for_later(of, path, later),
        Type::Words { words, .. } => {
            let words = words.iter().filter(|word| !word.honoured);
            later.extend(words.map(|word| format!("{path}: {}", word.word)));
        }
        _ => {}
    }
}

/// Fields and words are taken as the API takes them; near misses are findings, and have no effect.
#[test]
fn letter_case_is_as_strict_as_the_api_is() {
    let found = |object: Value| {
        let object = Object::new(object).unwrap();
        let findings = translate_one(&object).findings;
        findings.into_iter().map(|f| (f.path.to_string(), f.code.code())).collect::<Vec<_>>()
    };
    let pod = |container: Value| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x", "namespace": "n" },
                "spec": { "containers": [container] } })
    };
    let at = |field: &str| format!("spec.containers[0].{field}");
    assert_eq!(found(pod(json!({ "imagePullPolicy": "Never" }))), []);
    assert_eq!(
        found(pod(json!({ "imagePullPolicy": "never" }))),
        [(at("imagePullPolicy"), "IM0001")]
    );
    // Kubernetes takes no snake case, and no other letter case either.
    assert_eq!(found(pod(json!({ "working_dir": "/" }))), [(at("working_dir"), "IM0003")]);
    assert_eq!(found(pod(json!({ "workingdir": "/" }))), [(at("workingdir"), "IM0003")]);

    let authentication = |mode: &str| {
        json!({ "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                "metadata": { "name": "x", "namespace": "n" }, "spec": { "mtls": { "mode": mode } } })
    };
    assert_eq!(found(authentication("STRICT")), []);
    assert_eq!(found(authentication("strict")), [("spec.mtls.mode".to_owned(), "IM0001")]);

    // Istio reads the protocol of a server in any letter case, and protobuf snake case, but not both
    // forms at once.
    let gateway = |server: Value| {
        json!({ "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
                "metadata": { "name": "x", "namespace": "n" }, "spec": { "servers": [server] } })
    };
    let port = json!({ "number": 80, "name": "http", "protocol": "http" });
    assert_eq!(found(gateway(json!({ "port": port, "hosts": ["*"] }))), []);
    let tls = json!({ "https_redirect": true, "httpsRedirect": true });
    let twice = found(gateway(json!({ "port": port, "hosts": ["*"], "tls": tls })));
    assert!(
        twice.contains(&("spec.servers[0].tls.https_redirect".to_owned(), "IM0001")),
        "{twice:?}"
    );
}

/// Every field of every kind, wherever it stands: in another letter case, or in snake case where the API
/// takes none, it is no field; and a word in another letter case is no word.
#[test]
fn no_field_of_any_kind_is_taken_in_another_letter_case() {
    for table @ (api_version, kind, _) in TABLES {
        let top = message(api_version, kind);
        let mut tried = 0;
        each_message(top, &|value| value, "", &mut |message, place, at| {
            for field in message.fields {
                for wrong in wrong_cases(field.name, !message.protobuf) {
                    let mut entries = Map::new();
                    entries.insert(wrong.clone(), json!(null));
                    let found = findings(place(Value::Object(entries)), table);
                    let at = path::field(at, &wrong);
                    assert!(message.open || found.contains(&(at.clone(), "IM0003")), "{kind} {at}");
                    tried += 1;
                }
                let Type::Words { words, any_case: false } = &field.of else { continue };
                for wrong in words.iter().flat_map(|word| wrong_cases(word.word, false)) {
                    let mut entries = Map::new();
                    entries.insert(field.name.to_owned(), json!(wrong));
                    let found = findings(place(Value::Object(entries)), table);
                    let at = path::field(at, field.name);
                    assert!(found.contains(&(at.clone(), "IM0001")), "{kind} {at}: {wrong}");
                }
            }
        });
        assert!(tried > 10, "{kind}: {tried}");
    }
}

/// A name in other letter cases, and in snake case.
fn wrong_cases(name: &str, snake: bool) -> BTreeSet<String> {
    let mut first = name.to_owned();
    first[..1].make_ascii_uppercase();
    let snake = snake.then(|| snake_case(name));
    let cases = [first, name.to_lowercase(), name.to_uppercase()];
    cases.into_iter().chain(snake).filter(|wrong| wrong != name).collect()
}

/// Path and code of what is found in an object of a kind.
fn findings(mut value: Value, (api_version, kind, typed): &Tested) -> Vec<(String, &'static str)> {
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(kind);
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    value["metadata"]["name"] = json!("x");
    let object = Object::new(value).unwrap();
    typed(&object).1.into_iter().map(|f| (f.path, f.code.code())).collect()
}

/// Puts a value to its place in an object.
type Place<'a> = &'a dyn Fn(Value) -> Value;

/// Calls a function with a message, how an object of it is put to its place, and the path of that; and
/// with all messages in it.
fn each_message(
    message: &'static Message,
    place: Place<'_>,
    at: &str,
    f: &mut dyn FnMut(&'static Message, Place<'_>, &str),
) {
    f(message, place, at);
    for field in message.fields {
        let at = path::field(at, field.name);
        let (at, shape, of): (_, fn(Value) -> Value, _) = match &field.of {
            Type::Object(of) => (at, |value| value, of),
            Type::List(Type::Object(of)) => (path::item(&at, 0), |value| json!([value]), of),
            Type::Map(Type::Object(of)) => (path::field(&at, "a"), |value| json!({"a": value}), of),
            _ => continue,
        };
        let place = |value| {
            let mut entries = Map::new();
            entries.insert(field.name.to_owned(), shape(value));
            place(Value::Object(entries))
        };
        each_message(of, &place, &at, f);
    }
}

/// The hostile twin: anything at all in the place of anything.
#[test]
fn no_json_makes_a_table_fall_over() {
    for (api_version, kind, typed) in TABLES {
        for seed in 0..OBJECTS {
            let mut maker = Maker { random: Random(seed), hostile: true };
            let mut value = maker.anything(5);
            if !value.is_object() {
                value = json!({ "spec": value, "status": maker.anything(3) });
            }
            value["apiVersion"] = json!(api_version);
            value["kind"] = json!(kind);
            value["metadata"] = json!({ "name": "x", "labels": maker.anything(2) });
            let object = Object::new(value).unwrap();
            typed(&object);
            translate_one(&object);
        }
    }
}

fn message(api_version: &str, kind: &str) -> &'static Message {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    crate::kinds::Kind::of(group, kind).unwrap().fields.unwrap()
}

/// Makes values along tables.
struct Maker {
    random: Random,
    /// Whether values may be of a wrong type.
    hostile: bool,
}

impl Maker {
    fn object(&mut self, message: &Message, api_version: &str, kind: &str) -> Value {
        let mut value = self.message(message, 0);
        value["apiVersion"] = json!(api_version);
        value["kind"] = json!(kind);
        let metadata = json!({ "name": "x", "namespace": "n", "labels": { "a": "b" }, "extra": 1 });
        value["metadata"] = metadata;
        value
    }

    fn message(&mut self, message: &Message, depth: usize) -> Value {
        let mut entries = Map::new();
        for field in message.fields {
            let required = field.status == Status::Required;
            if !required && !self.random.one_in(3 + depth * 2) {
                continue;
            }
            let name = match self.random.below(40) {
                0 if self.hostile => field.name.to_uppercase(),
                1 if message.protobuf => snake_case(field.name),
                _ => field.name.to_owned(),
            };
            let mut value = self.value(&field.of, depth + 1);
            if required && super::check::is_empty(&value) && !self.hostile {
                value = self.value(&field.of, depth + 1);
            }
            entries.insert(name, value);
        }
        if self.random.one_in(10) {
            let unknown = self.anything(2);
            entries.insert("notAField".to_owned(), unknown);
        }
        Value::Object(entries)
    }

    fn value(&mut self, of: &Type, depth: usize) -> Value {
        if self.hostile && self.random.one_in(50) {
            return self.anything(2);
        }
        match of {
            Type::Bool => json!(self.random.one_in(2)),
            Type::Integer(min, max) => {
                let span = max.saturating_sub(*min).min(70_000);
                json!(min + i64::try_from(self.random.below(span as usize + 1)).unwrap())
            }
            Type::Number => json!(0.5),
            Type::Text => json!("text"),
            Type::IntegerOrText if self.random.one_in(2) => json!(7),
            Type::IntegerOrText => json!("25%"),
            Type::Quantity => json!("500m"),
            Type::Duration => json!("1.5s"),
            Type::Words { words, .. } => {
                json!(words[self.random.below(words.len())].word)
            }
            Type::List(of) => (0..=self.random.below(2)).map(|_| self.value(of, depth)).collect(),
            Type::Map(of) => json!({ "a": self.value(of, depth), "b.c/d": self.value(of, depth) }),
            Type::Object(message) => self.message(message, depth),
            Type::Any => self.anything(2),
        }
    }

    fn anything(&mut self, depth: usize) -> Value {
        match self.random.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(-1),
            3 => json!(u64::MAX),
            4 => json!(1e300),
            5 => json!(self.random.of(&["", "\u{0}%", "1s", "é", "ISTIO_MUTUAL"])),
            6 => (0..self.random.below(3)).map(|_| self.anything(depth - 1)).collect(),
            _ => {
                let mut entries = Map::new();
                for _ in 0..self.random.below(4) {
                    let name = self.random.of(&["spec", "http", "hosts", "", "a.b", "containers"]);
                    entries.insert(name.to_owned(), self.anything(depth - 1));
                }
                Value::Object(entries)
            }
        }
    }
}

fn snake_case(camel: &str) -> String {
    camel.chars().fold(String::new(), |mut out, c| {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
        out
    })
}

/// Looks for what was sent in what was read and found.
struct Kept<'a> {
    findings: &'a [Finding],
}

impl Kept<'_> {
    fn is_found(&self, at: &str) -> bool {
        let mut at = Some(at);
        while let Some(path) = at {
            if self.findings.iter().any(|finding| *finding.path == *path) {
                return true;
            }
            at = path::parent(path);
        }
        false
    }

    fn object(&self, message: &Message, sent: &Value, read: Option<&Value>, at: &str) {
        for (name, value) in sent.as_object().into_iter().flatten() {
            let at = path::field(at, name);
            let Some(field) = message.field(name) else {
                assert!(message.open || self.is_found(&at), "{at}: lost");
                continue;
            };
            if !value.is_null() {
                let read = read.map(|read| &read[field.name]);
                self.value(&field.of, value, read, &at);
            }
        }
    }

    /// With `None` the object was refused: the findings say why, if not about this field.
    fn value(&self, of: &Type, sent: &Value, read: Option<&Value>, at: &str) {
        let item = |index: usize| read.map(|read| &read[index]);
        match (of, sent) {
            (Type::Object(message), Value::Object(_)) => self.object(message, sent, read, at),
            (Type::List(of), Value::Array(items)) => {
                for (index, sent) in items.iter().enumerate() {
                    self.value(of, sent, item(index), &path::item(at, index));
                }
            }
            (Type::Map(of), Value::Object(entries)) => {
                for (name, sent) in entries {
                    let read = read.map(|read| &read[name]);
                    self.value(of, sent, read, &path::field(at, name));
                }
            }
            _ => {
                let kept = read.is_none_or(|read| is_same(of, sent, read));
                assert!(kept || self.is_found(at), "{at}: sent {sent}, read {read:?}");
            }
        }
    }
}

fn is_same(of: &Type, sent: &Value, read: &Value) -> bool {
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or(value.to_string());
    match of {
        Type::Duration => {
            let duration = |value: &Value| value.as_str().and_then(parse_duration);
            duration(sent) == duration(read)
        }
        Type::Number => sent.as_f64() == read.as_f64(),
        Type::Quantity => text(sent) == text(read),
        Type::Words { any_case: true, .. } => text(sent).eq_ignore_ascii_case(&text(read)),
        _ => sent == read,
    }
}
