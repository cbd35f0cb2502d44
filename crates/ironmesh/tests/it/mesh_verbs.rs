use crate::mesh::Mesh;

const BOOKINFO: &str = include_str!("../../../../samples/bookinfo/bookinfo.yaml");
const GATEWAY: &str = include_str!("../../../../samples/bookinfo/gateway.yaml");
const RULES: &str = include_str!("../../../../samples/bookinfo/destination-rules.yaml");
const HALF: &str = include_str!("../../../../samples/bookinfo/routing/reviews-50-50.yaml");

#[test]
fn findings_have_file_line_and_code() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", BOOKINFO).ok();
    mesh.write(
        "routes.yaml",
        "# A comment.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts:
  - reviews
  http:
  - fault:
      {delay: {exponentialDelay: 1s, fixedDelay: 1s, percentage: {value: 1}}}
    route:
    - destination: {host: reviews, subset: v9}
",
    );
    let said = mesh.run("apply -f routes.yaml");
    assert_eq!(
        (said.code, &*said.out),
        (0, "virtualservice.networking.istio.io/reviews created\n")
    );
    let wanted = [
        "routes.yaml:11: warning IM0114 VirtualService default/reviews spec.http[0].fault.delay.exponentialDelay",
        "routes.yaml:13: warning IM0103 VirtualService default/reviews spec.http[0].route[0].destination.subset",
    ];
    for line in wanted {
        assert!(said.err.lines().any(|said| said.starts_with(line)), "no {line} in\n{}", said.err);
    }
    let described = mesh.run("describe vs reviews").ok();
    assert!(described.contains("Findings:\n  warning IM0114"), "{described}");
}

#[test]
fn a_virtual_service_shows_its_findings_in_its_status() {
    let mut mesh = Mesh::start();
    let route = |to: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews}}\n\
             spec: {{hosts: [reviews], http: [{{route: [{{destination: {{host: {to}}}}}]}}]}}\n"
        )
    };
    mesh.run_with("apply -f -", BOOKINFO).ok();
    mesh.run_with("apply -f -", &route("missing")).ok();
    let until = |mesh: &Mesh, name: &str, field: &str, value: &str| {
        mesh.until(&format!("get vs {name} -o jsonpath={{{field}}}"), value);
    };
    until(&mesh, "reviews", ".status.validationMessages[0].type.code", "IM0104");
    let shown = mesh.run("get vs reviews -o yaml").ok();
    let shown = &shown[shown.find("status:").unwrap()..];
    assert_eq!(
        shown,
        "status:
  observedGeneration: 1
  validationMessages:
  - level: WARNING
    message: \"spec.http[0].route[0].destination.host: no service is called missing.default.svc.cluster.local\"
    type:
      code: IM0104
      name: UnknownDestination
"
    );
    let generation =
        "get vs reviews -o jsonpath={.metadata.generation}/{.metadata.resourceVersion}";
    let before = mesh.run(generation).ok();
    assert!(before.starts_with("1/"), "{before}: a status is no new generation");
    // One control plane after the other says the same, and writes nothing.
    mesh.restart();
    mesh.run_with("apply -f -", &route("missing").replace("reviews", "another")).ok();
    until(&mesh, "another", ".status.observedGeneration", "1");
    assert_eq!(mesh.run(generation).ok(), before);
    mesh.run_with("apply -f -", &route("missing").replace("missing", "ratings")).ok();
    until(&mesh, "reviews", ".status", "{}");
}

#[test]
fn our_samples_have_no_findings() {
    let mesh = Mesh::start();
    // At once: what is found about pods is not yet true when they are to come.
    let said = mesh.run_with("apply -f -", &[BOOKINFO, GATEWAY, RULES, HALF].join("\n---\n"));
    assert_eq!((said.code, &*said.err), (0, ""), "{said:?}");
}

#[test]
fn explain_shows_rules_weights_and_outcome() {
    let mesh = Mesh::start();
    for text in [BOOKINFO, GATEWAY, RULES, HALF] {
        mesh.run_with("apply -f -", text).ok();
    }
    let text = mesh.run("explain GET http://127.0.0.1:8080/nothing").ok();
    assert!(text.contains("  -  default/bookinfo#0"), "{text}");
    assert!(text.contains("answered here: 404, reason no_route, flag NR"), "{text}");
    let json = mesh.run("explain GET http://127.0.0.1:8080/productpage -o json").ok();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["hops"][0]["route"], "default/bookinfo#0", "{json}");
    let bad = mesh.run("explain GET http://a/ -H nonsense");
    assert_eq!(bad.err, "error: header \"nonsense\" is not 'NAME: VALUE'\n");
}

#[test]
fn proxies_that_are_not_connected_are_listed_as_such() {
    let mesh = Mesh::start();
    let table = mesh.run("proxy-status").ok();
    assert!(table.starts_with("NAME "), "{table}");
    assert!(mesh.run("ps").ok().starts_with("NAME "), "as istioctl shortens it");
    let json: serde_json::Value =
        serde_json::from_str(&mesh.run("proxy-status -o json").ok()).unwrap();
    assert!(json.is_array(), "{json}");
}

#[test]
fn settings_of_a_mesh_and_of_none() {
    let mesh = Mesh::start();
    let table = mesh.run("settings limits.wire.frame").ok();
    assert_eq!(
        table,
        "NAME                          VALUE     DEFAULT\n\
                       limits.wire.frame_bytes_max   4194304   4194304\n"
    );
    let json = mesh.run("settings --defaults -o json mtls").ok();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["name"], "mtlsMode");
    assert_eq!(rows[0]["value"], "PERMISSIVE");
    let said = mesh.run("settings nosuch");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("no setting has a name that begins with \"nosuch\""), "{}", said.err);
}

#[test]
fn settings_change_while_the_mesh_runs() {
    let mut mesh = Mesh::start();
    let value = |mesh: &Mesh, name: &str| -> String {
        let rows: serde_json::Value =
            serde_json::from_str(&mesh.run(&format!("settings -o json {name}")).ok()).unwrap();
        rows[0]["value"].as_str().unwrap().to_owned()
    };
    mesh.run("settings mtlsMode=STRICT outboundTrafficPolicy.mode=REGISTRY_ONLY").ok();
    mesh.run("settings accessLogFile=").ok();
    let text = mesh.run("get cm istio -n istio-system -o jsonpath={.data.mesh}").ok();
    assert_eq!(
        text,
        "mtlsMode: STRICT\noutboundTrafficPolicy:\n  mode: REGISTRY_ONLY\naccessLogFile: \"\"\n"
    );
    assert_eq!(value(&mesh, "mtlsMode"), "STRICT");
    mesh.restart();
    assert_eq!(value(&mesh, "outboundTrafficPolicy.mode"), "REGISTRY_ONLY");
    mesh.run("settings outboundTrafficPolicy.mode- accessLogFile-").ok();
    let text = mesh.run("get cm istio -n istio-system -o jsonpath={.data.mesh}").ok();
    assert_eq!(text, "mtlsMode: STRICT\n");
    assert_eq!(value(&mesh, "accessLogFile"), "/dev/stdout");
    mesh.run("delete cm istio -n istio-system").ok();
    assert_eq!(value(&mesh, "mtlsMode"), "PERMISSIVE");
    assert_eq!(mesh.run("settings mtlsMode-").code, 0);

    for (change, said) in [
        ("trustDomain=other", "trustDomain is fixed while the mesh runs"),
        ("limits.wire.frame_bytes_max=1", "is fixed while the mesh runs"),
        ("mtlsMode=OFTEN", "is not PERMISSIVE, STRICT or DISABLE"),
        ("accessLogFormat=%RESPONSE_CDE%", "%RESPONSE_CDE%; did you mean %RESPONSE_CODE%?"),
        ("accessLogEncoding=JSON accessLogFormat=text", "must be a JSON object of texts"),
        ("nosuch=1", "no setting is called \"nosuch\""),
        ("mtlsMode=STRICT connectTimeout", "either show settings, or change them"),
    ] {
        let refused = mesh.run(&format!("settings {change}"));
        assert!(refused.code == 1 && refused.err.contains(said), "{change}: {refused:?}");
    }
    // By the API as any object, with what is wrong with it refused, and what is fixed said.
    let config = |mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data:\n  mesh: |\n    {mesh}\n"
        )
    };
    let refused = mesh.run_with("apply -f -", &config("mtlsMode: OFTEN"));
    assert!(refused.code == 1 && refused.err.contains("data.mesh.mtlsMode"), "{refused:?}");
    assert_eq!(value(&mesh, "mtlsMode"), "PERMISSIVE");
    let warned = mesh.run_with("apply -f -", &config("trustDomain: other"));
    assert!(warned.err.contains("IM0119") || warned.out.contains("IM0119"), "{warned:?}");
    assert_eq!(value(&mesh, "trustDomain"), "cluster.local");
}

#[test]
fn finding_explains_a_code_without_a_mesh() {
    let command = |words: &[&str]| {
        let binary = env!("CARGO_BIN_EXE_ironmesh");
        let output = std::process::Command::new(binary).args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = command(&["finding", "im0103"]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("IM0103 (warning)\n"), "{text}");
    assert!(text.contains("What to do: "), "{text}");
    assert_eq!(command(&["finding", "IM9999"]).0, Some(1));
}

#[test]
fn findings_are_listed_and_bounds_are_no_noise_at_apply() {
    let mesh = Mesh::start();
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      hostNetwork: true
      containers: [{name: web, image: shop/web, resources: {limits: {cpu: 0.5}}}]
";
    let said = mesh.run_with("apply -f -", text);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.starts_with("STDIN:9: warning IM0204 Deployment default/web"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    let table = mesh.run("findings").ok();
    assert!(table.starts_with("SEVERITY "), "{table}");
    for code in ["IM0204", "IM0205"] {
        assert_eq!(table.matches(code).count(), 1, "{table}");
    }
    assert!(mesh.run("describe deploy web").ok().contains("IM0205"));
    let json: serde_json::Value =
        serde_json::from_str(&mesh.run("findings -A -o json").ok()).unwrap();
    assert!(json.as_array().is_some_and(|all| all.len() >= 2), "{json}");
    let none = mesh.run("findings -n kube-system");
    assert_eq!((none.code, &*none.err), (0, "No findings in kube-system namespace.\n"));
}

#[test]
fn a_subset_without_pods_is_said_unless_pods_are_to_come() {
    let mesh = Mesh::start();
    let service = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
";
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
";
    let both = mesh.run_with("apply -f -", &format!("{service}---\n{rule}"));
    assert!(!both.err.contains("IM0112"), "{}", both.err);
    let alone = mesh.run_with("apply -f -", &rule.replace("version: v1", "version: v2"));
    assert!(alone.err.contains("IM0112"), "{}", alone.err);
    let unchanged = mesh.run_with("apply -v -f -", &rule.replace("version: v1", "version: v2"));
    assert!(unchanged.err.contains("IM0112"), "{}", unchanged.err);
}

#[test]
fn a_rollout_that_is_late_has_failed() {
    let mesh = Mesh::start();
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  progressDeadlineSeconds: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: shop/web}]}
";
    mesh.run_with("apply -f -", text).ok();
    // Nothing runs pods here.
    let said = mesh.run("rollout status deploy/web");
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.err, "error: deployment \"web\" exceeded its progress deadline\n");
}
