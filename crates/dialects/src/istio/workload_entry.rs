//! `WorkloadEntry`: a workload that is none of the platform's.

use std::net::IpAddr;

use ironmesh_model::{Finding, FindingCode, Name, WorkloadId};

use super::labels;
use super::service_entry::{self, TLS_MODE};
use super::workload_group::health::is_ready;
use crate::Object;
use crate::kubernetes::{CLUSTER, PodPart, Topology};
use crate::schema::{Bounded, kind, read};
use crate::translate::Part;

kind! {
    istio;
    /// A workload that is none of the platform's: it counts wherever a selector picks pods by labels.
    pub struct WorkloadEntry "WorkloadEntry" {
        /// Where it is, and what it is.
        required spec: service_entry::WorkloadEntry,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

/// Translates a WorkloadEntry to what a pod would be in its place.
pub(crate) fn workload_entry(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let WorkloadEntry { spec, status, .. } = read(object, findings)?;
    let mut find = |code, message: &str| {
        findings.push(Finding::new(object.id(), "spec.address", code, message));
    };
    let Ok(ip) = spec.address.parse::<IpAddr>() else {
        match spec.address.as_str() {
            "" if !spec.network.is_empty() => find(
                FindingCode::NoEffect,
                "it has no address but that of its network's gateway, and there is one network here",
            ),
            "" => find(FindingCode::Missing, "a workload has an address"),
            _ => find(
                FindingCode::NoEffect,
                "the address is no IP address; list names as endpoints of a ServiceEntry",
            ),
        }
        return None;
    };
    let labels = labels(&spec.labels);
    let has_proxy = labels.value(TLS_MODE) == Some("istio");
    let owner: Name = labels.value("app").map_or_else(|| object.name().clone(), Name::from);
    let account = Some(spec.service_account.as_str()).filter(|account| !account.is_empty());
    let port = |(name, Bounded(port)): (&String, &Bounded<1, 65_535>)| {
        Some((name.as_str().into(), u16::try_from(*port).ok()?))
    };
    let id = WorkloadId {
        cluster: CLUSTER.into(),
        namespace: object.namespace().clone(),
        name: object.name().clone(),
        uid: object.uid(),
    };
    let topology = Topology::or(&spec.locality, &labels);
    let mut part = PodPart::of_entry(id, ip, labels, has_proxy);
    part.ready = is_ready(object.value(), &status);
    part.topology = topology;
    part.network = spec.network.as_str().into();
    part.weight = spec.weight.filter(|weight| *weight > 0).unwrap_or(1);
    part.owner = owner;
    part.service_account = account.unwrap_or("default").into();
    part.created = object.created();
    part.service_ports = spec.ports.iter().filter_map(port).collect();
    Some(Part::Pod(Box::new(part)))
}

#[cfg(test)]
mod tests {
    use ironmesh_model::settings::Settings;
    use serde_json::{Value, json};

    use super::*;
    use crate::{translate, translate_one};

    fn entry(spec: Value) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": "vm", "namespace": "default", "uid": "u"}, "spec": spec,
        })
    }

    /// The ports at which the one endpoint of each service is.
    fn targets(objects: &[Value]) -> Vec<u16> {
        let objects: Vec<Object> =
            objects.iter().map(|value| Object::new(value.clone()).unwrap()).collect();
        let translation = translate(&objects, &Settings::default());
        assert_eq!(translation.findings, []);
        let of = |endpoints: &[ironmesh_model::service::Endpoint]| {
            assert_eq!(endpoints.len(), 1);
            assert_eq!(&*endpoints[0].workload.name, "vm");
            endpoints[0].ports[0].target
        };
        translation.objects.services.iter().map(|service| of(&service.endpoints)).collect()
    }

    #[test]
    fn services_and_entries_select_it_as_they_do_pods() {
        let spec = json!({"address": "192.0.2.1", "labels": {"app": "a"}, "ports": {"http": 81}});
        let service = |port: &str| {
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "s", "namespace": "default"},
                "spec": {
                    "clusterIP": "10.96.0.9", "selector": {"app": "a"},
                    "ports": [{"name": port, "port": 80, "targetPort": 8080}],
                },
            })
        };
        let selecting = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": "e", "namespace": "default"},
            "spec": {
                "hosts": ["a.test"], "resolution": "STATIC", "location": "MESH_INTERNAL",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "workloadSelector": {"labels": {"app": "a"}},
            },
        });
        assert_eq!(targets(&[entry(spec.clone()), service("http"), selecting]), [81, 81]);
        assert_eq!(targets(&[entry(spec), service("other")]), [8080]);
    }

    #[test]
    fn it_says_where_it_is_and_how_much_it_gets() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.9", "selector": {"app": "a"}, "ports": [{"port": 80}]},
        });
        let place = |label: &str, more: Value| {
            let labels = json!({"app": "a", "istio-locality": label});
            let mut spec = json!({"address": "192.0.2.1", "labels": labels});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let objects = [entry(spec), service.clone()];
            let objects = objects.map(|value| Object::new(value).unwrap());
            let translation = translate(&objects, &Settings::default());
            assert_eq!(translation.findings, []);
            let endpoint = &translation.objects.services[0].endpoints[0];
            let workload = &translation.objects.workloads[0].1;
            assert_eq!(endpoint.place(), workload.place());
            (endpoint.locality.to_string(), endpoint.network.to_string(), endpoint.weight)
        };
        let own = json!({"locality": "eu/a/1", "network": "n", "weight": 3});
        assert_eq!(place("us.b", own), ("eu/a/1".to_owned(), "n".to_owned(), 3));
        assert_eq!(place("us.b", json!({"weight": 0})), ("us/b".to_owned(), String::new(), 1));
    }

    #[test]
    fn an_address_that_is_none_is_found() {
        for (spec, code) in [
            (json!({"address": "a.test"}), FindingCode::NoEffect),
            (json!({"labels": {"a": "b"}}), FindingCode::Missing),
        ] {
            let translated = translate_one(&Object::new(entry(spec)).unwrap());
            let codes: Vec<_> = translated.findings.iter().map(|f| f.code).collect();
            assert_eq!((translated.part, codes), (Part::Nothing, vec![code]));
        }
    }
}
