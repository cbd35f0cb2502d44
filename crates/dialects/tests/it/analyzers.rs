//! The messages of Istio's analyzers (`istioctl analyze`, IST0001 and on): which finding says the same,
//! or why there is none.

use std::collections::BTreeSet;

use ironmesh_dialects::{Object, manifest, translate};
use ironmesh_model::settings::Settings;
use ironmesh_model::{Finding, Severity, Snapshot};

/// What becomes of a message.
enum Here {
    /// These objects have it in Istio, and a finding of this code here.
    Found(&'static str, &'static str),
    /// It cannot occur, or says nothing that anybody need know, for this reason.
    Never(&'static str),
}

use Here::{Found, Never};

/// Every message, by its code; those that are missing were retired.
const MESSAGES: &[(u16, Here)] = &[
    (1, Never("it tells of the tool itself")),
    (
        2,
        Found(
            "IM0113",
            "{kind: VirtualService, spec: {hosts: [web], http: [{fault: {delay: {percent: 1, fixedDelay: 1s}}, route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (
        101,
        Found(
            "IM0104",
            "{kind: VirtualService, spec: {hosts: [web], http: [{route: [{destination: {host: nobody}}]}]}}",
        ),
    ),
    (
        101,
        Found(
            "IM0103",
            "{kind: VirtualService, spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}}",
        ),
    ),
    (
        101,
        Found(
            "IM0105",
            "{kind: VirtualService, spec: {hosts: [web], gateways: [nobody], http: [{route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (
        101,
        Found(
            "IM0111",
            "{kind: Sidecar, spec: {workloadSelector: {labels: {app: nobody}}, egress: [{hosts: ['./*']}]}}",
        ),
    ),
    (
        101,
        Found(
            "IM0111",
            "{kind: Gateway, spec: {selector: {app: nobody}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}}",
        ),
    ),
    (
        101,
        Found(
            "IM0121",
            "{kind: Gateway, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: nobody}, hosts: ['*']}]}}",
        ),
    ),
    (102, Never("a namespace need not ask for sidecars")),
    (103, Never("only a mesh that runs knows it, which says IM0134")),
    (
        106,
        Found(
            "IM0001",
            "{kind: VirtualService, spec: {hosts: [web], http: [{timeout: soon, route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (106, Found("IM0002", "{kind: VirtualService, spec: {http: [{route: [{destination: {}}]}]}}")),
    (
        107,
        Found(
            "IM0114",
            "{kind: Service, metadata: {annotations: {inject.istio.io/templates: gateway}}}",
        ),
    ),
    (
        107,
        Found("IM0114", "{kind: Deployment, metadata: {annotations: {proxy.istio.io/config: ''}}}"),
    ),
    (
        108,
        Found("IM0003", "{kind: Pod, metadata: {annotations: {sidecar.istio.io/injct: 'true'}}}"),
    ),
    (
        108,
        Found(
            "IM0003",
            "{kind: Deployment, spec: {template: {metadata: {annotations: {networking.istio.io/nothing: 'true'}}}}}",
        ),
    ),
    (
        109,
        Found(
            "IM0106",
            "{kind: VirtualService, spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}}\n---\n{kind: VirtualService, metadata: {name: second}, spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (
        110,
        Found(
            "IM0130",
            "{kind: Sidecar, spec: {workloadSelector: {labels: {app: web}}, egress: [{hosts: ['./*']}]}}\n---\n{kind: Sidecar, metadata: {name: second}, spec: {workloadSelector: {labels: {app: web}}, egress: [{hosts: ['*/*']}]}}",
        ),
    ),
    (
        111,
        Found(
            "IM0130",
            "{kind: Sidecar, spec: {egress: [{hosts: ['./*']}]}}\n---\n{kind: Sidecar, metadata: {name: second}, spec: {egress: [{hosts: ['*/*']}]}}",
        ),
    ),
    (
        112,
        Found(
            "IM0131",
            "{kind: VirtualService, spec: {hosts: [many], http: [{route: [{destination: {host: many}}]}]}}",
        ),
    ),
    (
        116,
        Found(
            "IM0118",
            "{kind: Service, metadata: {name: other}, spec: {clusterIP: 10.96.0.9, selector: {app: web}, ports: [{name: tcp, port: 80, targetPort: 8080}]}}",
        ),
    ),
    (118, Never("a port whose name says no protocol is looked into, in both directions")),
    (
        123,
        Found(
            "IM0114",
            "{kind: Namespace, metadata: {labels: {istio-injection: enabled, istio.io/rev: canary}}}",
        ),
    ),
    (
        125,
        Found(
            "IM0114",
            "{kind: Pod, metadata: {annotations: {traffic.sidecar.istio.io/excludeInboundPorts: many}}}",
        ),
    ),
    (
        125,
        Found("IM0114", "{kind: Pod, metadata: {annotations: {sidecar.istio.io/proxyCPU: much}}}"),
    ),
    (125, Found("IM0114", "{kind: Pod, metadata: {annotations: {proxy.istio.io/config: '['}}}")),
    (
        125,
        Found(
            "IM0003",
            "{kind: Pod, metadata: {annotations: {proxy.istio.io/config: 'concurency: 1'}}}",
        ),
    ),
    (126, Never("there is one network")),
    (
        127,
        Found(
            "IM0111",
            "{kind: PeerAuthentication, apiVersion: security.istio.io/v1, spec: {selector: {matchLabels: {app: nobody}}, mtls: {mode: STRICT}}}",
        ),
    ),
    (128, Never("without caCertificates the authorities of Mozilla are trusted")),
    (129, Never("without caCertificates the authorities of Mozilla are trusted")),
    (
        130,
        Found(
            "IM0109",
            "{kind: VirtualService, spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}, {match: [{uri: {prefix: /a}}], route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (
        131,
        Found(
            "IM0109",
            "{kind: VirtualService, spec: {hosts: [web], http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: web}}]}, {match: [{uri: {prefix: /a}}], route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (
        132,
        Found(
            "IM0117",
            "{kind: VirtualService, spec: {hosts: [elsewhere.com], gateways: [edge], http: [{route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (133, Never("what Istio's validation warns of has findings of other codes")),
    (134, Never("every host gets an address of the mesh")),
    (
        135,
        Found("IM0113", "{kind: Pod, metadata: {annotations: {sidecar.istio.io/inject: 'true'}}}"),
    ),
    (136, Never("that a feature of Istio is young says nothing of what is done here")),
    (
        137,
        Never(
            "two Services may lead to one port by unlike ports: what enters is led by the pod's port",
        ),
    ),
    (138, Never("421 answers what it warns of")),
    (139, Never("injection and admission need no webhooks")),
    (
        140,
        Found(
            "IM0132",
            "{kind: VirtualService, spec: {hosts: [web.com], gateways: [edge], http: [{route: [{destination: {host: web}}]}]}}\n---\n{kind: VirtualService, metadata: {name: second}, spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v1}}]}]}}",
        ),
    ),
    (141, Never("`ironmesh install` makes no objects that one might not make")),
    (142, Never("the API is the mesh's own")),
    (143, Never("what enters a pod is given to what listens on its loopback, too")),
    (144, Never("capture goes by mark, and by a user that no pod can have")),
    (
        145,
        Found(
            "IM0122",
            "{kind: Gateway, metadata: {name: second}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: tcp, protocol: TCP}, hosts: [web.com]}]}}",
        ),
    ),
    (
        146,
        Never(
            "a pod that was not injected names no image: it does not start, and its Event says so",
        ),
    ),
    (
        147,
        Never(
            "a pod that was not injected names no image: it does not start, and its Event says so",
        ),
    ),
    (148, Never("no setting injects namespaces that do not ask for it")),
    (
        149,
        Found(
            "IM0114",
            "{kind: VirtualService, spec: {hosts: [web.com], gateways: [edge], http: [{match: [{headers: {'@request.auth.claims.group': {exact: a}}}], route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (
        149,
        Found(
            "IM0114",
            "{kind: VirtualService, spec: {hosts: [web.com], gateways: [edge], http: [{match: [{withoutHeaders: {'@request.auth.claims.group': {exact: a}}}], route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (150, Never("a port of TCP leads to the name outside for which the Service stands")),
    (151, Never("EnvoyFilters are kept, and nothing acts on them (IM0004)")),
    (152, Never("EnvoyFilters are kept, and nothing acts on them (IM0004)")),
    (153, Never("EnvoyFilters are kept, and nothing acts on them (IM0004)")),
    (154, Never("EnvoyFilters are kept, and nothing acts on them (IM0004)")),
    (155, Never("EnvoyFilters are kept, and nothing acts on them (IM0004)")),
    (156, Never("kinds need no definitions")),
    (157, Never("Telemetry is kept, and nothing acts on it (IM0004)")),
    (158, Never("proxies are the program that runs the mesh")),
    (159, Never("Telemetry is kept, and nothing acts on it (IM0004)")),
    (160, Never("Telemetry is kept, and nothing acts on it (IM0004)")),
    (
        161,
        Found(
            "IM0121",
            "{kind: Gateway, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: empty}, hosts: ['*']}]}}",
        ),
    ),
    (162, Never("the platform publishes the ports that Gateways name")),
    (163, Never("the control plane is on the machine")),
    (164, Never("the control plane is on the machine")),
    (
        165,
        Found(
            "IM0105",
            "{kind: VirtualService, spec: {hosts: [web.com], gateways: [shop/edge~istio-autogenerated-k8s-gateway~http], http: [{route: [{destination: {host: web}}]}]}}",
        ),
    ),
    (166, Never("Gateways of the Gateway API are kept, and nothing acts on them (IM0004)")),
    (167, Never("there is no ambient mode")),
    (168, Never("no default changes between versions")),
    (169, Never("no default changes between versions")),
    (170, Never("there is one cluster")),
    (171, Never("there are no waypoints, of which these conditions tell")),
    (172, Never("kinds need no definitions")),
    (
        173,
        Found(
            "IM0112",
            "{kind: DestinationRule, spec: {host: web, subsets: [{name: v9, labels: {version: v9}}]}}",
        ),
    ),
    (174, Found("IM0116", "{kind: DestinationRule, spec: {host: nobody}}")),
    (174, Found("IM0116", "{kind: DestinationRule, spec: {host: nobody.example.com}}")),
    (175, Never("nothing fetches keys of RequestAuthentications (IM0004)")),
    (176, Never("kinds need no definitions")),
    (
        177,
        Found(
            "IM0135",
            "{kind: ServiceEntry, spec: {hosts: [a.example.com], ports: [{number: 80, name: a, protocol: HTTP}], resolution: DNS}}\n---\n{kind: ServiceEntry, metadata: {name: second}, spec: {hosts: [a.example.com], ports: [{number: 80, name: a, protocol: TCP}], resolution: DNS}}",
        ),
    ),
    (
        177,
        Found(
            "IM0135",
            "{kind: ServiceEntry, spec: {hosts: [a.example.com], ports: [{number: 80, name: a, protocol: HTTP}], resolution: DNS}}\n---\n{kind: ServiceEntry, metadata: {name: second, namespace: other}, spec: {hosts: [a.example.com], ports: [{number: 80, name: a, protocol: GRPC}], resolution: DNS}}",
        ),
    ),
];

/// What a mesh has beside the object in question.
const MESH: &str = r#"
{kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
{kind: Service, metadata: {name: many}, spec: {clusterIP: 10.96.0.2, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: http-b, port: 81, targetPort: 8081}]}}
---
{kind: Gateway, metadata: {name: edge, creationTimestamp: "2026-01-01T00:00:00Z"}, spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [web.com]}]}}
---
{kind: Secret, metadata: {name: empty, namespace: istio-system}, data: {a: ''}}
---
{kind: Secret, metadata: {name: authorities, namespace: istio-system}, data: {ca.crt: QQ==}}
---
{kind: Pod, metadata: {name: gateway, namespace: istio-system, labels: {istio: ingressgateway}}, spec: {containers: [{name: istio-proxy, image: x, args: [proxy, router]}]}, status: {phase: Running, podIP: 10.77.0.9, conditions: [{type: Ready, status: "True"}]}}
---
{kind: Pod, metadata: {name: web, labels: {app: web, version: v1}}, spec: {containers: [{name: web, image: x}]}, status: {phase: Running, podIP: 10.77.0.1, conditions: [{type: Ready, status: "True"}]}}
"#;

/// Objects that leave out what they need not say here: a version, a name, a namespace.
fn objects(text: &str) -> Vec<Object> {
    let parsed = manifest::parse(text);
    assert!(parsed.errors.is_empty(), "{text}: {:?}", parsed.errors);
    let whole = |document: manifest::Document| {
        let mut value = document.value;
        let kind = value["kind"].as_str().unwrap().to_owned();
        let version = match kind.as_str() {
            "Namespace" | "Pod" | "Service" | "Secret" => "v1",
            "Deployment" => "apps/v1",
            "Ingress" => "networking.k8s.io/v1",
            _ => "networking.istio.io/v1",
        };
        let mut set = |pointer: [&str; 2], text: &str| {
            let at = match pointer {
                ["", field] => &mut value[field],
                [of, field] => &mut value[of][field],
            };
            if at.is_null() {
                *at = text.into();
            }
        };
        set(["", "apiVersion"], version);
        set(["metadata", "name"], "x");
        set(["metadata", "creationTimestamp"], "2026-02-01T00:00:00Z");
        if kind != "Namespace" {
            set(["metadata", "namespace"], "shop");
        }
        Object::new(value).unwrap()
    };
    parsed.documents.into_iter().map(whole).collect()
}

/// What is found in these objects, together with the mesh's.
fn found(text: &str) -> Vec<Finding> {
    let own = objects(text);
    let mut all = objects(MESH);
    all.extend(own.iter().cloned());
    let translation = translate(&all, &Settings::default());
    let (_, together) = Snapshot::new(translation.objects);
    let of_own = |finding: &Finding| own.iter().any(|object| *object.id() == finding.object);
    translation.findings.into_iter().chain(together).filter(of_own).collect()
}

#[test]
fn every_message_of_istios_analyzers_has_its_finding_or_a_reason() {
    let mut wrong = Vec::new();
    for (message, here) in MESSAGES {
        match here {
            Never(why) => assert!(!why.is_empty()),
            Found(code, text) => {
                let found = found(text);
                if !found.iter().any(|finding| finding.code.code() == *code) {
                    wrong.push(format!("IST{message:04}: no {code} but {found:?}\n  {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let codes: BTreeSet<u16> = MESSAGES.iter().map(|(code, _)| *code).collect();
    // IST0104, 0105, 0113 to 0115, 0117, 0119 to 0122 and 0124 were retired.
    let retired = [104, 105, 113, 114, 115, 117, 119, 120, 121, 122, 124];
    let all: BTreeSet<u16> = [1, 2].into_iter().chain(101..=177).collect();
    let missing: Vec<_> = all.difference(&codes).filter(|code| !retired.contains(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The mesh itself, of which nothing is wrong.
#[test]
fn what_is_right_has_no_finding() {
    for text in [
        "{kind: VirtualService, spec: {hosts: [web.com], gateways: [edge], http: [{route: [{destination: {host: web}}]}]}}",
        "{kind: Pod, metadata: {labels: {sidecar.istio.io/inject: 'true'}, annotations: {sidecar.istio.io/inject: 'true'}}, spec: {containers: [{name: a, image: x}]}}",
        "{kind: Service, metadata: {name: s, annotations: {networking.istio.io/exportTo: '.'}}, spec: {ports: [{name: http, port: 80}], selector: {app: web}}}",
        "{kind: Pod, metadata: {annotations: {proxy.istio.io/config: '{gatewayTopology: {proxyProtocol: {}, numTrustedProxies: 2}}'}}, spec: {containers: [{name: a, image: x}]}}",
        "{kind: DestinationRule, spec: {host: web, trafficPolicy: {tls: {mode: SIMPLE, credentialName: authorities}}}}",
        "{kind: ServiceEntry, spec: {hosts: [b.example.com], exportTo: [.], ports: [{number: 80, name: a, protocol: HTTP}], resolution: DNS}}\n---\n{kind: ServiceEntry, metadata: {name: second, namespace: other}, spec: {hosts: [b.example.com], exportTo: [.], ports: [{number: 80, name: a, protocol: TCP}], resolution: DNS}}",
        "{kind: ServiceEntry, spec: {hosts: ['*.example.com'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}}\n---\n{kind: DestinationRule, spec: {host: a.example.com}}",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

#[test]
fn secrets_of_destination_rules_are_looked_for_where_they_are_used() {
    let rule = |more: &str, tls: &str| {
        format!(
            "{{kind: DestinationRule, spec: {{host: web, {more} trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, tls: {{{tls}}}}}]}}}}}}"
        )
    };
    let selector = "workloadSelector: {matchLabels: {app: web}},";
    let secret = |namespace: &str, data: &str| {
        format!(
            "\n---\n{{kind: Secret, metadata: {{name: own, namespace: {namespace}}}, data: {{{data}}}}}"
        )
    };
    let (authorities, both) = ("ca.crt: QQ==", "ca.crt: QQ==, tls.crt: QQ==, tls.key: QQ==");
    let (simple, mutual) =
        ("mode: SIMPLE, credentialName: own", "mode: MUTUAL, credentialName: own");
    for (text, said) in [
        (rule(selector, simple), Some("Secret shop/own is not there")),
        (
            rule(selector, simple) + &secret("istio-system", both),
            Some("Secret shop/own is not there"),
        ),
        (rule(selector, simple) + &secret("shop", authorities), None),
        (
            rule(selector, mutual) + &secret("shop", authorities),
            Some("Secret shop/own has no certificate"),
        ),
        (rule(selector, mutual) + &secret("shop", both), None),
        (
            rule(selector, mutual) + &secret("shop", "tls.crt: QQ==, tls.key: QQ=="),
            Some("Secret shop/own has no authorities"),
        ),
        // Without a selector gateways have it.
        (rule("", simple) + &secret("shop", both), Some("Secret istio-system/own is not there")),
        (rule("", mutual) + &secret("istio-system", both), None),
    ] {
        let found = found(&text);
        let own: Vec<&Finding> =
            found.iter().filter(|finding| finding.code.code() == "IM0121").collect();
        match (said, &own[..]) {
            (None, []) => {}
            (Some(said), [one]) => {
                let at = "spec.trafficPolicy.portLevelSettings[0].tls.credentialName";
                assert!(one.message.starts_with(said) && one.path == at, "{text}: {one:?}");
            }
            _ => panic!("{text}: {found:?}"),
        }
    }
}

/// Mistakes that are accepted without a word where nobody looks for them.
#[test]
fn mistakes_that_say_nothing_are_said() {
    let route = "http: [{route: [{destination: {host: web}}]}]";
    let at_gateway = |hosts: &str, more: &str| {
        format!("{{kind: VirtualService, spec: {{hosts: [{hosts}], gateways: [edge], {more}}}}}")
    };
    let gateway = |servers: &str| {
        format!(
            "{{kind: Gateway, spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}}}"
        )
    };
    let server = |name: &str, number: u16| {
        format!("{{port: {{number: {number}, name: {name}, protocol: HTTP}}, hosts: [web.com]}}")
    };
    for refused in [
        gateway(&format!("{}, {}", server("http", 8080), server("http", 8081))),
        at_gateway("'not a host!'", route),
        at_gateway("'http://c'", route),
        at_gateway("web.com, web.com", route),
        at_gateway("web.com", &format!("exportTo: ['*', '.'], {route}")),
        format!("{{kind: VirtualService, spec: {{hosts: [web.com], gateways: [a/b/c], {route}}}}}"),
        at_gateway("web.com", "http: [{rewrite: {}, route: [{destination: {host: web}}]}]"),
        at_gateway(
            "web.com",
            "http: [{match: [{uri: {regex: ''}}], route: [{destination: {host: web}}]}]",
        ),
    ] {
        let found = found(&refused);
        let is_refused = found.iter().any(|f| f.code.severity() == Severity::Error);
        assert!(is_refused, "{refused}: {found:?}");
    }
    let entry = "{kind: ServiceEntry, metadata: {name: any}, spec: {hosts: ['*.example.com'], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}}\n---\n";
    for taken in [
        // Istio takes it where a ServiceEntry has that host.
        format!(
            "{entry}{{kind: VirtualService, spec: {{hosts: ['*.example.com'], http: [{{route: [{{destination: {{host: '*.example.com'}}}}]}}]}}}}"
        ),
        at_gateway(
            "web.com",
            "http: [{match: [{method: {}}], route: [{destination: {host: web}}]}]",
        ),
        // A name of Istio 0.8 for the Gateway of the same namespace.
        at_gateway("web.com", route).replace("[edge]", "[edge.shop.svc.example.org]"),
        "{kind: Sidecar, spec: {ingress: [{port: {number: 9000, protocol: TCP, name: a}, connectionPool: {tcp: {maxConnections: 1}}}]}}".to_owned(),
    ] {
        assert_eq!(found(&taken), [], "{taken}");
    }
    let set_twice = |others: &str, header: &str| {
        let own =
            "{destination: {host: web}, weight: 1, headers: {request: {set: {x-a: b, host: b}}}}";
        at_gateway(
            "web.com",
            &format!(
                "http: [{{headers: {{request: {{set: {{{header}}}}}}}, route: [{own}{others}]}}]"
            ),
        )
    };
    for (text, code, path) in [
        (at_gateway("web.com", "http: [{match: [{headers: {':method': {exact: GET}}}], route: [{destination: {host: web}}]}]"), "IM0114", "spec.http[0].match[0].headers[\":method\"]"),
        (at_gateway("web.com", "http: [{match: [{queryParams: {a: {exact: 'b c'}}}], route: [{destination: {host: web}}]}]"), "IM0114", "spec.http[0].match[0].queryParams.a"),
        (set_twice("", "X-A: a"), "IM0114", "spec.http[0].headers.request.set.X-A"),
        (set_twice("", "host: a"), "IM0114", "spec.http[0].route[0].headers.request.set.host"),
        (set_twice(", {destination: {host: web}, weight: 1}", "x-a: a"), "IM0114", "spec.http[0].route[0].headers.request.set.x-a"),
        (gateway("{port: {number: 80, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ['*']}"), "IM0122", "spec.servers[0].port"),
        ("{kind: Pod, metadata: {annotations: {proxy.istio.io/config: 'gatewayTopology: {numTrustedProxies: -2}'}}}".to_owned(), "IM0114", "metadata.annotations[\"proxy.istio.io/config\"].gatewayTopology.numTrustedProxies"),
        ("{kind: Pod, metadata: {annotations: {proxy.istio.io/config: 'terminationDrainDuration: 1s'}}}".to_owned(), "IM0204", "metadata.annotations[\"proxy.istio.io/config\"].terminationDrainDuration"),
        ("{kind: Pod, metadata: {annotations: {proxy.istio.io/config: 'holdApplicationUntilProxyStarts: true'}}}".to_owned(), "IM0120", "metadata.annotations[\"proxy.istio.io/config\"].holdApplicationUntilProxyStarts"),
        ("{kind: Pod, metadata: {annotations: {proxy.istio.io/config: 'concurrency: 2'}}}".to_owned(), "IM0114", "metadata.annotations[\"proxy.istio.io/config\"].concurrency"),
        ("{kind: Sidecar, spec: {egress: [{port: {number: 9000, protocol: HTTP, name: a}, bind: 'unix:///a', hosts: ['./*']}]}}".to_owned(), "IM0001", "spec.egress[0].bind"),
        ("{kind: Sidecar, spec: {egress: [{bind: 127.0.0.1, port: {number: 9000, protocol: HTTP, name: a}, hosts: ['./*']}]}}".to_owned(), "IM0114", "spec.egress[0].bind"),
        ("{kind: Sidecar, spec: {ingress: [{port: {number: 9000, protocol: HTTP, name: a}, defaultEndpoint: 'unix:///a'}]}}".to_owned(), "IM0114", "spec.ingress[0].defaultEndpoint"),
        (gateway("{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: own, httpsRedirect: true}, hosts: ['*']}"), "IM0114", "spec.servers[0].tls.httpsRedirect"),
        ("{kind: VirtualService, spec: {hosts: [web.com], tls: [{match: [{sniHosts: [web.com, 192.0.2.7]}], route: [{destination: {host: web}}]}]}}".to_owned(), "IM0114", "spec.tls[0].match[0].sniHosts[1]"),
        ("{kind: ServiceEntry, spec: {hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP}], workloadSelector: {labels: {app: web}}}}".to_owned(), "IM0114", "spec.workloadSelector"),
        ("{kind: Sidecar, spec: {ingress: [{port: {number: 9000, protocol: TCP, name: a}, connectionPool: {http: {maxRetries: 1}}}]}}".to_owned(), "IM0114", "spec.ingress[0].connectionPool.http"),
    ] {
        let found = found(&text);
        let is_it = |finding: &Finding| finding.code.code() == code && finding.path == path;
        assert!(found.iter().any(is_it), "{text}: {found:?}");
    }
}

/// Names, texts and numbers of entries that nobody has checked.
#[test]
fn hostile_annotations_and_entries_bring_nothing_down() {
    let long = "x".repeat(100_000);
    for name in [
        long.as_str(),
        "istio.io",
        "/",
        "sidecar.istio.io/",
        "\u{e9}.istio.io/\u{0}",
        &format!("{long}.istio.io/a"),
    ] {
        for value in [
            long.as_str(),
            "",
            "{a: &a [*a]}",
            "[[[[",
            "\u{0}",
            "99999999999999999999",
            ",,,,",
            "- a\n---\n- b",
        ] {
            let annotations = serde_json::json!({name: value, "proxy.istio.io/config": value, "sidecar.istio.io/proxyCPU": value, "traffic.sidecar.istio.io/includeOutboundIPRanges": value});
            let pod = serde_json::json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "x", "namespace": "shop", "annotations": annotations},
            });
            translate(&[Object::new(pod).unwrap()], &Settings::default());
        }
    }
    // A thousand entries of one host, each of which says something else of its port.
    let entries: Vec<Object> = (0..1_000)
        .map(|number| {
            let protocol = ["HTTP", "TCP", "GRPC", "HTTP2"][number % 4];
            Object::new(serde_json::json!({
                "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                "metadata": {"name": format!("e{number}"), "namespace": format!("n{number}")},
                "spec": {
                    "hosts": ["a.example.com"], "resolution": "NONE", "exportTo": [format!("n{}", number / 2)],
                    "ports": [{"number": 80, "name": "a", "protocol": protocol}],
                },
            }))
            .unwrap()
        })
        .collect();
    let translation = translate(&entries, &Settings::default());
    let (_, found) = Snapshot::new(translation.objects);
    assert!(found.iter().any(|finding| finding.code.code() == "IM0135"));
}
