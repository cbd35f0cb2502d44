//! Every manifest of the workshops is read and translated. They are not part of the project: the
//! tests run where `IRONMESH_WORKSHOPS` names their folder.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use ironmesh_dialects::{Object, manifest, object, translate};
use ironmesh_model::settings::Settings;
use ironmesh_model::{Draw, Finding, FindingCode, Severity, Snapshot};
use ironmesh_testkit::deciding::decide_on;
use ironmesh_testkit::naive::Request;
use serde_json::{Value, json};

/// The YAML files of the workshops but for charts' own files, which are no manifests.
fn files() -> Option<Vec<PathBuf>> {
    let Some(root) = std::env::var_os("IRONMESH_WORKSHOPS") else {
        println!(
            "SKIPPED: IRONMESH_WORKSHOPS does not name the folder of the workshops' manifests"
        );
        return None;
    };
    let mut files = Vec::new();
    collect(Path::new(&root), &mut files);
    files.sort();
    assert!(files.len() > 80, "only {} files in {root:?}", files.len());
    Some(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml")
            && !path.components().any(|c| c.as_os_str() == "helm-charts")
        {
            files.push(path);
        }
    }
}

#[test]
fn every_manifest_parses_and_translates() {
    let Some(files) = files() else { return };
    let root = PathBuf::from(std::env::var_os("IRONMESH_WORKSHOPS").unwrap());
    let mut summary = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let parsed = manifest::parse(&text);
        let name = file.display();
        assert!(parsed.errors.is_empty(), "{name}: {}", parsed.errors[0]);
        assert!(!parsed.documents.is_empty(), "{name} is empty");
        let objects: Vec<Object> = parsed
            .documents
            .into_iter()
            // A file for `istioctl install`: no object, and without a name.
            .filter(|document| document.value["kind"] != "IstioOperator")
            .map(|mut document| {
                object::normalize(&mut document.value);
                Object::new(document.value).unwrap_or_else(|e| panic!("{name}: {e}"))
            })
            .collect();
        let translation = translate(&objects, &Settings::default());
        let mut counts: BTreeMap<FindingCode, usize> = BTreeMap::new();
        for finding in &translation.findings {
            assert_ne!(finding.code.severity(), Severity::Error, "{name}: {finding:?}");
            *counts.entry(finding.code).or_default() += 1;
        }
        let counts: Vec<String> = counts.iter().map(|(code, n)| format!(" {code} x{n}")).collect();
        let short = file.strip_prefix(&root).unwrap().display();
        summary.push_str(&format!("{short}:{}\n", counts.concat()));
        Snapshot::new(translation.objects);
    }
    crate::golden::check("workshops.txt", &summary);
}

/// A mesh of some of the manifests.
struct Workshop {
    root: PathBuf,
    namespace: &'static str,
    objects: Vec<Object>,
}

impl Workshop {
    /// `None` where the manifests are not there.
    fn new(folder: &str, namespace: &'static str) -> Option<Self> {
        files()?;
        let root = PathBuf::from(std::env::var_os("IRONMESH_WORKSHOPS")?).join(folder);
        Some(Self { root, namespace, objects: Vec::new() })
    }

    /// Applies a file, later than those before, and runs a pod for each Deployment in it.
    fn apply(mut self, file: &str) -> Self {
        let text = std::fs::read_to_string(self.root.join(file)).unwrap();
        for document in manifest::parse(&text).documents {
            let mut value = document.value;
            object::normalize(&mut value);
            let age = self.objects.len();
            let metadata = &mut value["metadata"];
            metadata["creationTimestamp"] =
                json!(format!("2024-01-01T00:{:02}:{:02}Z", age / 60, age % 60));
            if metadata["namespace"].is_null() {
                metadata["namespace"] = json!(self.namespace);
            }
            if value["kind"] == "Deployment" {
                self.objects.push(Object::new(pod_of(&value, age)).unwrap());
            }
            let object = Object::new(value).unwrap();
            self.objects.retain(|other| other.id() != object.id());
            self.objects.push(object);
        }
        self
    }

    fn snapshot(&self) -> (Snapshot, Vec<Finding>) {
        Snapshot::new(translate(&self.objects, &Settings::default()).objects)
    }

    /// `NAME#RULE SUBSET`, or the reason if no rule won or its backend cannot be used.
    fn outcome(&self, request: &Request) -> String {
        let decision = decide_on(&self.snapshot().0, &mut HashMap::new(), request, Draw(1));
        let reason = decision.reason.code();
        let (Some(route), "route") = (decision.route_name(), reason) else {
            return reason.to_owned();
        };
        let route = route.split_once('/').unwrap().1.to_owned();
        match decision.backend().and_then(|backend| backend.subset.as_deref()) {
            Some(subset) => format!("{route} {subset}"),
            None => route,
        }
    }

    fn at_gateway(&self, authority: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut request = request("istio-system", 80, authority, target, headers);
        request.at_gateway = true;
        request.labels = vec![("istio".into(), "ingressgateway".into())];
        self.outcome(&request)
    }

    fn from(&self, labels: &[(&str, &str)], authority: &str, port: u64) -> String {
        let mut request = request(self.namespace, port, authority, "/", &[]);
        request.labels = labels.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        self.outcome(&request)
    }
}

fn request(
    namespace: &str,
    port: u64,
    authority: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Request {
    Request {
        at_gateway: false,
        namespace: namespace.to_owned(),
        labels: Vec::new(),
        port,
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        authority: authority.to_owned(),
        target: target.to_owned(),
        headers: headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
    }
}

fn pod_of(deployment: &Value, number: usize) -> Value {
    let metadata = &deployment["metadata"];
    let template = &deployment["spec"]["template"];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{}-0", metadata["name"].as_str().unwrap()),
            "namespace": metadata["namespace"],
            "labels": template["metadata"]["labels"],
        },
        "spec": template["spec"],
        "status": {
            "podIP": format!("10.77.1.{number}"),
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

const S0: &str = "000-istio1.11-linkerd2.10/Istio/Examples";

#[test]
fn aks_workshop_gateway_routes_rewrites_and_reports_subsets_that_nobody_defines() {
    let Some(mesh) = Workshop::new(S0, "primary") else { return };
    let mesh = mesh
        .apply("BookInfo/bookinfo.yaml")
        .apply("BlueGreen/podinfo-blue.yaml")
        .apply("Gateways/primary-gateway.yaml");
    let at = |path| mesh.at_gateway("203.0.113.1", path, &[]);
    assert_eq!(at("/product"), "primary-virtual-service#2");
    assert_eq!(at("/static/x?v=1"), "primary-virtual-service#3");
    assert_eq!(at("/api/v1/products/0"), "primary-virtual-service#3");
    assert_eq!(at("/podinfo/version"), "no_route");
    assert_eq!(at("/podinfo"), "undefined_subset");
    let mesh = mesh.apply("Gateways/podinfo-destination-rule.yaml");
    assert!(mesh.at_gateway("x", "/podinfo", &[]).starts_with("primary-virtual-service#0 v"));
}

#[test]
fn aks_workshop_two_sites_on_one_gateway_join_by_age() {
    let rest = |first: &str, second: &str| {
        let mesh = Workshop::new(S0, "primary")?.apply(first).apply(second);
        let mesh = mesh.apply("BookInfo/bookinfo.yaml");
        Some(mesh.at_gateway("x", "/product", &[]))
    };
    let (primary, ratings) = ("Gateways/primary-gateway.yaml", "Gateways/ratings-gateway.yaml");
    let Some(first) = rest(primary, ratings) else { return };
    assert_eq!(first, "primary-virtual-service#2");
    let swallowed = rest(ratings, primary).unwrap();
    assert_eq!(swallowed, "unknown_destination", "the older regex takes everything");
}

#[test]
fn canary_by_cookie() {
    let Some(mesh) = Workshop::new("003-istio1.0", "default") else { return };
    let mesh = mesh.apply("canary.yaml").apply("canaryCookie.yaml");
    let with = |cookie: &str| {
        let headers = [("cookie", cookie)];
        mesh.outcome(&request("default", 80, "myweb-service", "/", &headers))
    };
    assert!(with("usertype=tester").ends_with("#0 v2"), "{}", with("usertype=tester"));
    assert!(with("usertype=other").ends_with("#1 v1"), "{}", with("usertype=other"));
}

#[test]
fn a_route_that_names_no_gateway_is_attached_by_its_host_and_a_finding_says_so() {
    let Some(mesh) = Workshop::new("003-istio1.0", "default") else { return };
    let mesh = mesh.apply("canary.yaml").apply("gateway.yaml");
    let found = mesh.at_gateway("myweb-service.domain.com", "/", &[]);
    assert!(found.starts_with("gateway-service#0"), "{found}");
    assert_eq!(mesh.at_gateway("another.domain.com", "/", &[]), "no_route");
    let (_, findings) = mesh.snapshot();
    assert!(findings.iter().any(|f| f.code == FindingCode::AttachedByHost), "{findings:?}");
}

#[test]
fn voting_app_is_routed_by_cookie_and_caller() {
    let Some(mesh) = Workshop::new("004-istio1.3-voting", "voting") else { return };
    let mesh = mesh
        .apply("kubernetes/step-1-create-voting-app.yaml")
        .apply("istio/step-1-create-voting-app-gateway.yaml")
        .apply("kubernetes/step-2-update-voting-analytics-to-1.1.yaml")
        .apply("istio/step-2-update-and-add-routing-for-all-components.yaml")
        .apply("istio/step-3-add-routing-for-2.0-components.yaml");
    let feature = [("cookie", "a=b; featureflag=on")];
    assert_eq!(mesh.at_gateway("x", "/", &feature), "voting-app#0 v2-0");
    assert_eq!(mesh.at_gateway("x", "/", &[("cookie", "featureflag=")]), "voting-app#1 v1-0");
    let analytics = |version| {
        mesh.from(&[("app", "voting-app"), ("version", version)], "voting-analytics", 8080)
    };
    assert_eq!(analytics("1.0"), "voting-analytics#0 v1-1");
    assert_eq!(analytics("2.0"), "voting-analytics#1 v2-0");
    assert_eq!(mesh.from(&[("app", "other")], "voting-analytics", 8080), "default_route");
}
