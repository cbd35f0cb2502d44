//! What the dialects before and beside Istio's kinds of today do with requests.

use std::collections::HashMap;

use ironmesh_dialects::{Object, manifest, translate};
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::{Draw, FindingCode, Labels, Resource, ResourceKey, Snapshot};
use ironmesh_testkit::deciding::decide_on;
use ironmesh_testkit::naive::Request;

/// Services of `shop`: `reviews` with three versions, `ratings`, and `web` that calls them.
const SHOP: &str = include_str!("shop.yaml");

fn snapshot(more: &str) -> (Snapshot, Vec<String>) {
    let parsed = manifest::parse(&format!("{SHOP}\n---\n{more}"));
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    let objects: Vec<Object> =
        parsed.documents.into_iter().map(|d| Object::new(d.value).unwrap()).collect();
    let translation = translate(&objects, &Settings::default());
    let (snapshot, together) = Snapshot::new(translation.objects);
    let all = translation.findings.into_iter().chain(together);
    let shown = all.map(|f| format!("{} {} {}: {}", f.code, f.object.name, f.path, f.message));
    (snapshot, shown.collect())
}

struct Asked {
    host: &'static str,
    target: &'static str,
    labels: &'static [(&'static str, &'static str)],
    headers: &'static [(&'static str, &'static str)],
}

const FROM_WEB: Asked =
    Asked { host: "reviews", target: "/", labels: &[("app", "web")], headers: &[] };

fn request(asked: &Asked) -> Request {
    let own = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
    };
    Request {
        at_gateway: false,
        namespace: "shop".to_owned(),
        labels: own(asked.labels),
        port: 9080,
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        authority: asked.host.to_owned(),
        target: asked.target.to_owned(),
        headers: own(asked.headers),
    }
}

/// Where requests with different draws go, each with its share of 1 000: `RULE SUBSET-OR-HOST`, or the
/// reason.
fn shares(snapshot: &Snapshot, asked: &Asked) -> Vec<(String, u32)> {
    let request = request(asked);
    let mut views = HashMap::new();
    let mut counts = std::collections::BTreeMap::new();
    for number in 0..1_000 {
        let draw = Draw::of(b"seed", b"hop", number);
        let decision = decide_on(snapshot, &mut views, &request, draw);
        let to = decision
            .backend()
            .map(|backend| backend.subset.as_deref().unwrap_or(&backend.host).to_owned());
        let rule = decision.route_name().unwrap_or_else(|| decision.reason.code().to_owned());
        let text = format!("{rule} {}", to.unwrap_or_else(|| decision.reason.code().to_owned()));
        *counts.entry(text).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// Where all requests go.
fn only(snapshot: &Snapshot, asked: &Asked) -> String {
    let shares = shares(snapshot, asked);
    assert_eq!(shares.len(), 1, "{shares:?}");
    shares[0].0.clone()
}

fn rule(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: config.istio.io/v1alpha2\nkind: RouteRule\n\
         metadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

#[test]
fn route_rules_join_by_precedence_and_what_none_takes_goes_to_the_service() {
    let pinned = rule(
        "pinned",
        "{destination: {name: reviews}, precedence: 1, route: [{labels: {version: v1}}]}",
    );
    let tests = rule(
        "tests",
        "{destination: {name: reviews}, precedence: 2, match: {request: {headers: {cookie: {regex: '^(.*?;)?(user=jason)(;.*)?$'}}}}, route: [{labels: {version: v2}}]}",
    );
    let (mesh, findings) = snapshot(&format!("{pinned}{tests}"));
    assert_eq!(findings, [""; 0]);
    assert_eq!(only(&mesh, &FROM_WEB), "shop/pinned#0 version=v1");
    let jason = Asked { headers: &[("cookie", "user=jason")], ..FROM_WEB };
    assert_eq!(only(&mesh, &jason), "shop/tests#0 version=v2");
    // Alone it takes those that it matches, and no others.
    let (mesh, _) = snapshot(&tests);
    assert_eq!(only(&mesh, &jason), "shop/tests#0 version=v2");
    assert_eq!(only(&mesh, &FROM_WEB), "default_route reviews.shop.svc.cluster.local");
}

#[test]
fn route_rules_split_by_weight_and_an_empty_version_is_found() {
    let half = rule(
        "half",
        "{destination: {name: reviews}, route: [{labels: {version: v1}, weight: 50}, {labels: {version: v3}, weight: 50}]}",
    );
    let (mesh, _) = snapshot(&half);
    let shares = shares(&mesh, &FROM_WEB);
    assert_eq!(shares.len(), 2, "{shares:?}");
    assert!(shares.iter().all(|(_, count)| (435..=565).contains(count)), "{shares:?}");
    let (mesh, findings) =
        snapshot(&rule("gone", "{destination: {name: reviews}, route: [{labels: {version: v9}}]}"));
    let said = "IM0112 gone spec.route[0].labels: no endpoint of reviews.shop.svc.cluster.local has version=v9";
    assert_eq!(findings, [said]);
    assert!(only(&mesh, &FROM_WEB).starts_with("shop/gone#0"));
}

#[test]
fn a_route_rule_for_a_calling_service_is_for_its_pods() {
    let text = rule(
        "from-web",
        "{destination: {name: reviews}, match: {source: {name: web, labels: {version: v1}}}, route: [{labels: {version: v3}}]}",
    );
    let (mesh, findings) = snapshot(&text);
    assert_eq!(findings, [""; 0]);
    let v1 = Asked { labels: &[("app", "web"), ("version", "v1")], ..FROM_WEB };
    assert_eq!(only(&mesh, &v1), "shop/from-web#0 version=v3");
    for other in [&[("app", "web")][..], &[("app", "ratings"), ("version", "v1")]] {
        let other = Asked { labels: other, ..FROM_WEB };
        assert_eq!(only(&mesh, &other), "default_route reviews.shop.svc.cluster.local");
    }
    // Nobody is a service that is not there, and that is found.
    let (mesh, findings) = snapshot(&text.replace("{name: web,", "{name: wbe,"));
    assert_eq!(only(&mesh, &v1), "default_route reviews.shop.svc.cluster.local");
    assert_eq!(findings, ["IM0111 from-web spec.match.source: no service shop/wbe selects pods"]);
}

#[test]
fn a_virtual_service_takes_its_host_from_route_rules_and_overlaps_are_found() {
    let pinned = rule("pinned", "{destination: {name: reviews}, route: [{labels: {version: v1}}]}");
    let later = rule("zlater", "{destination: {name: reviews}, route: [{labels: {version: v2}}]}");
    let (mesh, findings) = snapshot(&format!("{pinned}{later}"));
    assert_eq!(only(&mesh, &FROM_WEB), "shop/pinned#0 version=v1");
    assert_eq!(
        findings,
        ["IM0109 zlater spec: RouteRule shop/pinned comes first and takes every request"]
    );
    let service = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
        metadata: {name: today, namespace: shop}\n\
        spec: {hosts: [reviews], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: ratings}}]}]}\n";
    let (mesh, findings) = snapshot(&format!("{pinned}{service}"));
    assert_eq!(only(&mesh, &FROM_WEB), "no_route no_route");
    let said = "IM0106 pinned spec.destination: VirtualService shop/today has the host reviews.shop.svc.cluster.local, too, and takes it alone";
    assert_eq!(findings, [said]);
}

#[test]
fn what_istio_refused_in_a_route_rule_is_refused() {
    for (spec, said) in [
        ("{precedence: 1}", "IM0002 r spec.destination"),
        ("{destination: {namespace: a}}", "IM0002 r spec.destination.name"),
        ("{destination: {name: a, service: b}}", "IM0001 r spec.destination.service"),
        ("{destination: {name: a, labels: {v: v1}}}", "IM0001 r spec.destination.labels"),
        (
            "{destination: {name: reviews}, route: [{weight: 60}, {weight: 50}]}",
            "IM0001 r spec.route",
        ),
        ("{destination: {name: reviews}, route: [{weight: 60}]}", "IM0001 r spec.route"),
        (
            "{destination: {name: reviews}, redirect: {uri: /x}, rewrite: {uri: /y}}",
            "IM0001 r spec.rewrite",
        ),
        (
            "{destination: {name: reviews}, httpFault: {delay: {percent: 101, fixedDelay: 1s}}}",
            "IM0001 r spec.httpFault.delay.percent",
        ),
    ] {
        let (_, findings) = snapshot(&rule("r", spec));
        assert!(findings.iter().any(|f| f.starts_with(said)), "{spec}: {findings:?}");
    }
}

#[test]
fn a_destination_policy_bounds_the_service_or_the_version_that_it_names() {
    let policy = |name: &str, destination: &str, limit: u32| {
        format!(
            "---\napiVersion: config.istio.io/v1alpha2\nkind: DestinationPolicy\n\
             metadata: {{name: {name}, namespace: shop}}\nspec: {{destination: {destination}, \
             circuitBreaker: {{simpleCb: {{maxConnections: {limit}, sleepWindow: 5s, httpConsecutiveErrors: 2}}}}}}\n"
        )
    };
    let half = rule(
        "half",
        "{destination: {name: reviews}, match: {request: {headers: {uri: {exact: /v1}}}}, route: [{labels: {version: v1}}]}",
    );
    let whole = policy("whole", "{name: reviews}", 7);
    let of_v1 = policy("of-v1", "{name: reviews, labels: {version: v1}}", 3);
    let (mesh, findings) = snapshot(&format!("{half}{whole}{of_v1}"));
    assert_eq!(findings, [""; 0]);
    let limit = |target: &'static str| {
        let decision =
            decide_on(&mesh, &mut HashMap::new(), &request(&Asked { target, ..FROM_WEB }), Draw(1));
        let policy = decision.group().unwrap().policy();
        let outlier = policy.traffic.outlier.as_ref().unwrap();
        assert_eq!(outlier.consecutive_5xx, 2);
        assert_eq!(outlier.base_ejection.as_secs(), 5);
        policy.traffic.pool.as_ref().unwrap().connections_max
    };
    assert_eq!(limit("/v1"), Some(3));
    assert_eq!(limit("/"), Some(7));
}

fn split(version: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\n\
         metadata: {{name: split, namespace: shop}}\nspec: {spec}\n"
    )
}

#[test]
fn traffic_splits_go_by_quantities_and_numbers() {
    for (version, weights) in [
        ("v1alpha1", ["900m", "100m"]),
        ("v1alpha1", ["9", "1"]),
        ("v1alpha2", ["90", "10"]),
        ("v1alpha3", ["9000000000", "1G"]),
        ("v1alpha4", ["9", "1"]),
    ] {
        let spec = format!(
            "{{service: reviews, backends: [{{service: ratings, weight: {}}}, {{service: web, weight: {}}}]}}",
            weights[0], weights[1]
        );
        let (mesh, findings) = snapshot(&split(version, &spec));
        assert_eq!(findings, [""; 0]);
        let shares = shares(&mesh, &FROM_WEB);
        assert_eq!(shares.len(), 2, "{shares:?}");
        assert_eq!(shares[0].0, "shop/split#0 ratings.shop.svc.cluster.local");
        assert!((860..=940).contains(&shares[0].1), "{shares:?}");
    }
    let (_, findings) = snapshot(&split(
        "v1alpha2",
        "{service: reviews, backends: [{service: nobody, weight: 1}]}",
    ));
    assert_eq!(
        findings,
        [
            "IM0104 split spec.backends[0].service: no service is called nobody.shop.svc.cluster.local"
        ]
    );
    let (_, findings) =
        snapshot(&split("v1alpha2", "{service: reviews, backends: [{service: web, weight: -1}]}"));
    assert!(
        findings.iter().any(|f| f.starts_with("IM0001 split spec.backends[0].weight")),
        "{findings:?}"
    );
}

#[test]
fn a_traffic_split_with_matches_is_for_the_requests_that_its_groups_take() {
    let spec = "{service: reviews, backends: [{service: ratings, weight: 1}], matches: [{kind: HTTPRouteGroup, name: group}]}";
    let group = |version: &str, body: &str| {
        format!(
            "---\napiVersion: specs.smi-spec.io/{version}\nkind: HTTPRouteGroup\n\
             metadata: {{name: group, namespace: shop}}\n{body}\n"
        )
    };
    let taken = "shop/split#0 ratings.shop.svc.cluster.local";
    let to_service = "default_route reviews.shop.svc.cluster.local";
    for (version, body) in [
        (
            "v1alpha4",
            "spec: {matches: [{name: api, pathRegex: /api/.*, methods: [get, POST]}, {name: beta, headers: {x-beta: yes|true}}]}",
        ),
        (
            "v1alpha2",
            "matches: [{name: api, pathRegex: /api/.*, methods: ['*']}, {name: beta, headers: [{X-Beta: yes|true}]}]",
        ),
    ] {
        let (mesh, findings) =
            snapshot(&format!("{}{}", split("v1alpha4", spec), group(version, body)));
        assert_eq!(findings, [""; 0], "{version}");
        assert_eq!(only(&mesh, &Asked { target: "/api/x", ..FROM_WEB }), taken, "{version}");
        assert_eq!(only(&mesh, &Asked { headers: &[("x-beta", "true")], ..FROM_WEB }), taken);
        assert_eq!(only(&mesh, &Asked { headers: &[("x-beta", "no")], ..FROM_WEB }), to_service);
        assert_eq!(only(&mesh, &FROM_WEB), to_service);
    }
    let (mesh, findings) = snapshot(&split("v1alpha4", spec));
    assert_eq!(only(&mesh, &FROM_WEB), to_service);
    assert!(
        findings.contains(
            &"IM0111 split spec.matches: there is no HTTPRouteGroup shop/group".to_owned()
        ),
        "{findings:?}"
    );
}

#[test]
fn kinds_of_mixer_have_one_finding_each_and_nothing_of_traffic_targets_is_dropped() {
    let object = |group: &str, kind: &str| {
        let value = serde_json::json!({
            "apiVersion": group, "kind": kind, "metadata": {"name": "x", "namespace": "shop"},
            "spec": {"a": [1]},
        });
        let findings = ironmesh_dialects::validate(&Object::new(value).unwrap());
        findings.into_iter().map(|f| (f.code, f.path)).collect::<Vec<_>>()
    };
    for kind in ["rule", "denier", "memquota", "attributemanifest", "stdio", "prometheus"] {
        let expected = [(FindingCode::NotPartHere, String::new())];
        assert_eq!(object("config.istio.io/v1alpha2", kind), expected, "{kind}");
    }
    let expected = [(FindingCode::UnknownKind, String::new())];
    assert_eq!(object("access.smi-spec.io/v1alpha3", "TrafficTarget"), expected);
}

/// Mutual TLS of pods of `reviews` at two of their ports, as their callers speak to them.
#[test]
fn a_policy_for_a_port_goes_before_one_for_the_service_and_may_be_for_some_of_its_pods() {
    let policy = |name: &str, year: u16, spec: &str| {
        format!(
            "---\napiVersion: authentication.istio.io/v1alpha1\nkind: Policy\n\
             metadata: {{name: {name}, namespace: shop, creationTimestamp: \"{year}-01-01T00:00:00Z\"}}\nspec: {spec}\n"
        )
    };
    let mutual = |more: &str| {
        let (snapshot, findings) = snapshot(more);
        assert_eq!(findings, [""; 0]);
        [1, 2].map(|pod: u8| {
            let ip = [10, 77, 0, pod].into();
            let subscriber = Subscriber {
                namespace: "shop".into(),
                labels: Labels::default(),
                addresses: Vec::new(),
            };
            match snapshot.resource(&ResourceKey::Workload(ip), &subscriber) {
                Some(Resource::Workload(Some(workload))) => {
                    [9080, 9090].map(|port| workload.tls_at(port).expected().is_some())
                }
                other => panic!("{other:?}"),
            }
        })
    };
    let off = policy("whole", 2018, "{targets: [{name: reviews}]}");
    assert_eq!(mutual(&off), [[false, false], [false, false]]);
    let on = "{targets: [{name: reviews, ports: [{number: 9080}]}], peers: [{mtls: {}}]}";
    let on = policy("part", 2019, on);
    assert_eq!(mutual(&format!("{off}{on}")), [[true, false], [true, false]]);
    let on = "{targets: [{name: reviews, labels: {version: v2}, ports: [{name: http}]}], peers: [{mtls: {}}]}";
    let on = policy("part", 2019, on);
    assert_eq!(mutual(&format!("{off}{on}")), [[false, false], [true, false]]);
    let on = "{targets: [{name: reviews, labels: {version: v2}}], peers: [{mtls: {}}]}";
    let on = policy("part", 2017, on);
    assert_eq!(mutual(&format!("{off}{on}")), [[false, false], [true, true]]);
}
