use ironmesh_model::snapshot::Objects;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Object, translate, translate_one};

/// One of a few objects, in one of a few states.
fn object(what: u8, who: u8, how: u8) -> Value {
    let namespace = ["default", "shop"][usize::from(who % 2)];
    let name = format!("n{}", who / 2 % 3);
    let metadata = |labels: Value| {
        json!({
            "name": name, "namespace": namespace, "uid": format!("{what}-{who}-{}", how / 100),
            "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z",
        })
    };
    match what {
        0 => {
            let mut spec = json!({
                "clusterIP": format!("10.96.0.{}", who + 1),
                "ports": [{"name": "http", "port": 80, "targetPort": (match how % 4 {
                    3 => json!("web"),
                    n => json!(8000 + u16::from(n % 2)),
                })}],
                "publishNotReadyAddresses": how.is_multiple_of(7),
            });
            if !how.is_multiple_of(3) {
                spec["selector"] = json!({"app": (["a", "b"][usize::from(how % 3) - 1])});
            }
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(json!({})), "spec": spec})
        }
        1 => pod(how, &metadata(json!({"app": (["a", "b"][usize::from(how % 2)])}))),
        2 => {
            let ip = |n: u8| json!({"ip": format!("10.77.0.{}", n % 6 + 1)});
            json!({
                "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata(json!({})),
                "subsets": [{
                    "addresses": [ip(how), ip(how / 2)],
                    "ports": [{"name": "http", "port": 9000 + u16::from(how % 2)}],
                }],
            })
        }
        3 => json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": metadata(json!({"kubernetes.io/service-name": format!("n{}", how % 3)})),
            "ports": [{"name": "http", "port": 9000 + u16::from(how % 5)}],
            "endpoints": [
                {"addresses": [format!("10.77.0.{}", how / 2 % 6 + 1)], "conditions": {"ready": how.is_multiple_of(4)}},
                {"addresses": [format!("10.77.0.{}", how / 3 % 6 + 1)]},
            ],
        }),
        4..8 => late(what, how, &metadata(json!({}))),
        8 => entry(namespace, how, &metadata(json!({}))),
        9 => node(how, &name),
        10..13 => of_ingresses(what, how, &name, &metadata(json!({}))),
        _ => json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": metadata(json!({})),
            "spec": {
                "hosts": [format!("h{}", how % 2)],
                "http": [{"route": [{"destination": {"host": "n0"}, "weight": how}]}],
            },
        }),
    }
}

fn pod(how: u8, metadata: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": format!("n{}", how % 3),
            "containers": [{
                "name": (["c", "istio-proxy"][usize::from(how / 2 % 2)]),
                "ports": [{"name": "web", "containerPort": 8000 + u16::from(how / 4 % 4)}],
            }],
        },
        "status": {
            "phase": (["Running", "Running", "Failed"][usize::from(how % 3)]),
            "podIP": format!("10.77.0.{}", how % 4 + 1),
            "conditions": [{"type": "Ready", "status": (["True", "False"][usize::from(how / 8 % 2)])}],
        },
    })
}

/// One of those that are made with what others say, or that others refer to.
fn late(what: u8, how: u8, metadata: &Value) -> Value {
    match what {
        4 => json!({
            "apiVersion": "config.istio.io/v1alpha2", "kind": "RouteRule",
            "metadata": metadata,
            "spec": {
                "destination": {"name": "n0"}, "precedence": how % 3,
                "match": {"source": (match how % 4 {
                    0 => json!({"labels": {"app": "a"}}),
                    n => json!({"name": format!("n{}", n % 3)}),
                })},
            },
        }),
        5 => json!({
            "apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit",
            "metadata": metadata,
            "spec": {
                "service": "n0", "backends": [{"service": "n1", "weight": 1}],
                "matches": [{"kind": "HTTPRouteGroup", "name": format!("n{}", how % 3)}],
            },
        }),
        6 => json!({
            "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
            "metadata": metadata,
            "spec": {"matches": [{"pathRegex": format!("/{}", how % 3)}]},
        }),
        _ => json!({
            "apiVersion": "authentication.istio.io/v1alpha1", "kind": "Policy",
            "metadata": metadata,
            "spec": {
                "targets": [{"name": format!("n{}", how % 3)}, (match how / 3 % 4 {
                    0 => json!({"name": "n0"}),
                    1 => json!({"name": "n0", "ports": [{"number": 80}]}),
                    2 => json!({"name": "n0", "ports": [{"name": "http"}], "labels": {"app": "a"}}),
                    _ => json!({"name": "n0", "ports": [{"number": 81}]}),
                })],
                "peers": [{"mtls": {}}],
            },
        }),
    }
}

fn node(how: u8, name: &str) -> Value {
    let labels = json!({"topology.kubernetes.io/zone": (["a", "b"][usize::from(how % 2)])});
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
}

/// An Ingress, or what says whose it is.
fn of_ingresses(what: u8, how: u8, name: &str, metadata: &Value) -> Value {
    match what {
        10 => json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
            "spec": {
                "ingressClassName": format!("n{}", how % 3),
                "defaultBackend": {"service": {"name": "n0", "port": {"number": 80}}},
            },
        }),
        11 => json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name},
            "spec": {"controller": (["istio.io/ingress-controller", "x"][usize::from(how % 2)])},
        }),
        _ => json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": (["ingressControllerMode: DEFAULT", "ingressService: edge", ""][usize::from(how % 3)])},
        }),
    }
}

/// A ServiceEntry, of one of a few hosts, some of which a Service has, too.
fn entry(namespace: &str, how: u8, metadata: &Value) -> Value {
    let ip = format!("10.77.0.{}", how % 4 + 1);
    let service = format!("n{}.{namespace}.svc.cluster.local", how % 3);
    let mut spec = json!({
        "hosts": [format!("h{}.test", how % 3), (if how.is_multiple_of(4) { service } else { "*.test".into() })],
        "ports": [{"name": "http", "number": 80 + u16::from(how % 2), "protocol": "HTTP"}],
        "location": (["MESH_EXTERNAL", "MESH_INTERNAL"][usize::from(how % 2)]),
        "resolution": "STATIC",
        "exportTo": ([".", "*"][usize::from(how / 3 % 2)]),
    });
    spec["exportTo"] = json!([spec["exportTo"]]);
    match how % 5 {
        0 => spec["resolution"] = json!("NONE"),
        1 => spec["workloadSelector"] = json!({"labels": {"app": "a"}}),
        2 => spec["addresses"] = json!(["198.18.0.1", "198.19.0.0/16"]),
        _ => {
            spec["endpoints"] =
                json!([{"address": ip}, {"address": "192.0.2.1", "ports": {"http": 81}}]);
        }
    }
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": metadata, "spec": spec,
    })
}

/// The lists in an order that does not tell how they came about.
fn sorted(mut objects: Objects) -> Objects {
    objects.services.sort_by(|a, b| a.service.id.cmp(&b.service.id));
    objects.routes.sort_by(|a, b| a.route.id.cmp(&b.route.id));
    objects.inbound_policies.sort_by(|a, b| a.policy.id.cmp(&b.policy.id));
    objects.gateways.sort_by(|a, b| a.id.cmp(&b.id));
    objects.found.sort();
    objects
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn one_object_at_a_time_gives_what_all_at_once_give(
        steps in prop::collection::vec((0u8..14, 0u8..6, any::<u8>(), prop::bool::weighted(0.75)), 1..40)
    ) {
        let settings = Settings::default();
        let (mut join, edits) = Join::new(settings.clone());
        let mut objects = Objects::default();
        edits.into_iter().for_each(|edit| objects.edit(edit));
        let mut all: BTreeMap<(u8, u8), Value> = BTreeMap::new();
        for (what, who, how, keep) in steps {
            // There is one MeshConfig.
            let key = (what, if what == 12 { 0 } else { who });
            let edits = if keep {
                let value = object(what, who, how);
                all.insert(key, value.clone());
                join.put(key, translate_one(&Object::new(value).unwrap()))
            } else {
                all.remove(&key);
                join.take(&key)
            };
            edits.into_iter().for_each(|edit| objects.edit(edit));
            let given: Vec<Object> = all.values().map(|v| Object::new(v.clone()).unwrap()).collect();
            let at_once = sorted(translate(&given, &settings).objects);
            let by_one = sorted(objects.clone());
            prop_assert_eq!(by_one.services, at_once.services);
            prop_assert_eq!(by_one.workloads, at_once.workloads);
            prop_assert_eq!(by_one.routes, at_once.routes);
            prop_assert_eq!(by_one.inbound_policies, at_once.inbound_policies);
            prop_assert_eq!(by_one.gateways, at_once.gateways);
            prop_assert_eq!(by_one.found, at_once.found);
            prop_assert_eq!(by_one.settings, at_once.settings);
        }
    }
}

#[test]
fn what_the_mesh_does_not_see_gives_no_edit() {
    let (mut join, _) = Join::new(Settings::default());
    let pod = |version: u32, phase: &str, condition: &str| {
        translate_one(
            &Object::new(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "namespace": "default", "resourceVersion": version.to_string()},
                "spec": {"containers": [{"name": "c"}]},
                "status": {"phase": phase, "podIP": "10.77.0.1", "conditions": [
                    {"type": condition, "status": "True"}]},
            }))
            .unwrap(),
        )
    };
    assert!(!join.put(1, pod(1, "Running", "Initialized")).is_empty());
    assert!(join.put(1, pod(2, "Running", "ContainersReady")).is_empty());
    assert!(!join.put(1, pod(3, "Running", "Ready")).is_empty(), "it takes requests now");
    assert!(!join.take(&1).is_empty());
    assert!(join.take(&1).is_empty());
}

#[test]
fn the_mesh_config_of_the_root_namespace_is_the_settings() {
    let base = Settings { access_log: false, ..Settings::default() };
    let (mut join, edits) = Join::new(base.clone());
    let mut objects = Objects::default();
    edits.into_iter().for_each(|edit| objects.edit(edit));
    let config = |namespace: &str, mesh: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": namespace}, "data": {"mesh": mesh},
        });
        translate_one(&Object::new(object).unwrap())
    };
    let mut after = |edits: Vec<Edit>| {
        edits.into_iter().for_each(|edit| objects.edit(edit));
        objects.settings.clone()
    };
    let edits = join.put(1, config("default", "authPolicy: MUTUAL_TLS"));
    let [Edit::Found(id, said)] = &edits[..] else { panic!("{edits:?}") };
    assert_eq!(*id, ObjectId::new("ConfigMap", "default", "istio"));
    assert_eq!(
        (said[0].code, &*said[0].path),
        (ironmesh_model::FindingCode::NoEffect, "data.mesh")
    );
    assert!(said[0].message.contains("is read in namespace istio-system"), "{said:?}");
    assert_eq!(after(edits), base);
    let settings = after(join.put(2, config("istio-system", "connectTimeout: 2s")));
    assert_eq!(settings.value("connectTimeout"), "2s");
    assert!(!settings.access_log, "what it does not say is as at the start");
    // What it no longer says is as at the start again, and so is all once it is gone.
    let settings = after(join.put(2, config("istio-system", "mtlsMode: STRICT")));
    assert_eq!(
        (settings.value("connectTimeout"), settings.value("mtlsMode")),
        ("10s".into(), "STRICT".into())
    );
    let edits = join.take(&1);
    assert!(matches!(&edits[..], [Edit::Found(_, said)] if said.is_empty()), "{edits:?}");
    assert_eq!(after(edits).value("mtlsMode"), "STRICT");
    assert_eq!(after(join.take(&2)), base);
}

/// What MeshConfig says alone is well, and what the mesh was started with, too.
#[test]
fn a_format_that_does_not_go_with_the_encoding_of_the_mesh_is_found() {
    let mut base = Settings::default();
    base.set("accessLogEncoding", "JSON").unwrap();
    let (mut join, _) = Join::new(base.clone());
    let config = |mesh: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh},
        });
        translate_one(&Object::new(object).unwrap())
    };
    let found = |edits: Vec<Edit>| -> Vec<String> {
        let found = edits.into_iter().filter_map(|edit| match edit {
            Edit::Found(id, found) => {
                assert_eq!(id, ObjectId::new("ConfigMap", "istio-system", "istio"));
                Some(found)
            }
            _ => None,
        });
        let all: Vec<_> = found.flatten().map(|f| format!("{} {}", f.path, f.message)).collect();
        all
    };
    let said = found(join.put(1, config("accessLogFormat: '%PROTOCOL%'")));
    assert!(
        said.len() == 1
            && said[0].starts_with("data.mesh.accessLogFormat setting accessLogFormat: "),
        "{said:?}"
    );
    let well = config("{accessLogFormat: '%PROTOCOL%', accessLogEncoding: TEXT}");
    assert_eq!(found(join.put(1, well)), [""; 0]);
    join.put(1, config("accessLogFormat: '%PROTOCOL%'"));
    assert_eq!(found(join.take(&1)), [""; 0]);
    base.set("accessLogEncoding", "TEXT").unwrap();
    base.set("accessLogFormat", "%PROTOCOL%").unwrap();
    let (mut join, _) = Join::new(base);
    let said = found(join.put(1, config("accessLogEncoding: JSON")));
    assert!(said.len() == 1 && said[0].starts_with("data.mesh.accessLogEncoding "), "{said:?}");
}

#[test]
fn a_listed_address_that_changes_is_one_edit_however_many_are_listed() {
    let slice = |addresses: &[u16]| {
        let endpoint =
            |n: &u16| json!({"addresses": [format!("10.1.{}.{}", n / 250, n % 250 + 1)]});
        translate_one(
            &Object::new(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "a", "namespace": "default", "labels": {"kubernetes.io/service-name": "a"}},
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
            }))
            .unwrap(),
        )
    };
    let service = |labels: Value, target: u16| {
        translate_one(
            &Object::new(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "a", "namespace": "default", "labels": labels},
                "spec": {"clusterIP": "10.96.0.1",
                    "ports": [{"name": "http", "port": 80, "targetPort": target}]},
            }))
            .unwrap(),
        )
    };
    let (mut join, _) = Join::new(Settings::default());
    assert_eq!(join.put(0, service(json!({}), 1)).len(), 2, "it, and its endpoints");
    let mut addresses: Vec<u16> = (0..1000).collect();
    assert_eq!(join.put(1, slice(&addresses)).len(), 1000);
    addresses.push(1000);
    assert_eq!(join.put(1, slice(&addresses)).len(), 1);
    assert_eq!(join.put(2, slice(&[5, 1001])).len(), 2, "another list has one of them, too");
    addresses.rotate_left(7);
    assert_eq!(join.put(1, slice(&addresses)).len(), 0, "their order means nothing");
    addresses.truncate(998);
    assert_eq!(join.put(1, slice(&addresses)).len(), 3);
    let mut pod = object(1, 0, 1);
    pod["status"]["podIP"] = "10.1.0.1".into();
    let edits = join.put(3, translate_one(&Object::new(pod).unwrap()));
    assert_eq!(edits.len(), 3, "who lives there, and the endpoint under another id: {edits:?}");
    assert_eq!(join.put(0, service(json!({"a": "b"}), 1)).len(), 0, "no label of it matters");
    let edits = join.put(0, service(json!({}), 2));
    assert!(matches!(&edits[..], [Edit::Service(..), Edit::Endpoints(..)]), "its ports matter");
    assert_eq!(join.take(&2).len(), 2);
}

/// Which ports of the pods a policy for a named port of a Service is for, as they come and change.
#[test]
fn a_policy_of_a_named_port_is_for_where_the_pods_have_it() {
    let (mut join, _) = Join::new(Settings::default());
    let ports = |edits: Vec<Edit>| {
        let policy = edits.into_iter().rev().find_map(|edit| match edit {
            Edit::InboundPolicy(_, Some(source)) => Some(source.policy),
            _ => None,
        })?;
        assert_eq!(policy.mtls, None);
        Some(policy.parts.iter().filter_map(|part| part.port).collect::<Vec<u16>>())
    };
    let put = |object: Value| translate_one(&Object::new(object).unwrap());
    let pod = |name: &str, port: u16| {
        put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": format!("10.77.0.{}", port % 10)},
        }))
    };
    let service = |target: Value| {
        put(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default"},
            "spec": {
                "clusterIP": "10.96.0.1", "selector": {"app": "a"},
                "ports": [{"name": "http", "port": 80, "targetPort": target}],
            },
        }))
    };
    let policy = put(json!({
        "apiVersion": "authentication.istio.io/v1alpha1", "kind": "Policy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"targets": [{"name": "a", "ports": [{"name": "http"}]}], "peers": [{"mtls": {}}]},
    }));
    join.put(1, service(json!("web")));
    assert_eq!(ports(join.put(2, pod("x", 8001))), None, "nobody asks");
    assert_eq!(ports(join.put(0, policy)), Some(vec![8001]));
    assert_eq!(ports(join.put(3, pod("y", 8002))), Some(vec![8001, 8002]));
    assert_eq!(ports(join.put(2, pod("x", 8003))), Some(vec![8002, 8003]));
    assert_eq!(ports(join.put(1, service(json!(8080)))), Some(vec![8080]));
    assert_eq!(ports(join.put(2, pod("x", 8004))), None, "it does not matter any more");
    join.put(1, service(json!("web")));
    assert_eq!(ports(join.take(&3)), Some(vec![8004]));
    assert_eq!(ports(join.take(&1)), Some(vec![]), "no service, no port");
}
