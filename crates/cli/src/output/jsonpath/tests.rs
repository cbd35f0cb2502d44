use serde_json::json;

use super::*;

fn service() -> Value {
    json!({
        "kind": "Service",
        "metadata": {
            "name": "istio-ingressgateway",
            "labels": { "app.kubernetes.io/name": "gateway", "istio": "ingressgateway" },
        },
        "spec": { "ports": [
            { "name": "status-port", "port": 15021, "nodePort": 1 },
            { "name": "http2", "port": 80, "nodePort": 2 },
            { "name": "https", "port": 443 },
        ] },
        "status": { "loadBalancer": { "ingress": [{ "ip": "127.0.0.1" }] } },
    })
}

#[test]
fn templates_of_the_workshops_and_of_kubectls_manual() {
    for (template, expected) in [
        ("{.status.loadBalancer.ingress[0].ip}", "127.0.0.1"),
        ("{.status.loadBalancer.ingress[0].*}", "127.0.0.1"),
        ("{.status.loadBalancer.ingress[0].hostname}", ""),
        ("{.status.loadBalancer.ingress[7].ip}", ""),
        (r#"{.spec.ports[?(@.name=="http2")].port}"#, "80"),
        ("{.spec.ports[?(@.name=='https')].port}", "443"),
        (r#"{.spec.ports[?(@.name != "http2")].name}"#, "status-port https"),
        ("{.spec.ports[?(@.port>80)].name}", "status-port https"),
        ("{.spec.ports[?(@.port <= 443)].name}", "http2 https"),
        ("{.spec.ports[?(@.nodePort)].name}", "status-port http2"),
        ("{.spec.ports[*].port}", "15021 80 443"),
        ("{.spec.ports[-1].name}", "https"),
        ("{.spec.ports[-1:].name}", "https"),
        ("{.spec.ports[0:2].name}", "status-port http2"),
        ("{.spec.ports[::2].name}", "status-port https"),
        ("{.spec.ports[0,2].name}", "status-port https"),
        ("{.spec.ports[-9].name}", ""),
        (r"{.metadata.labels.app\.kubernetes\.io/name}", "gateway"),
        ("{.metadata.labels['app.kubernetes.io/name']}", "gateway"),
        ("{.metadata['name','labels'].istio}", "ingressgateway"),
        ("{.metadata.labels}", r#"{"app.kubernetes.io/name":"gateway","istio":"ingressgateway"}"#),
        ("{..port}", "15021 80 443"),
        ("{$.kind}", "Service"),
        ("{.kind}:{.metadata.name}", "Service:istio-ingressgateway"),
        (r#"{.kind}{"\t"}{.metadata.name}{"\n"}"#, "Service\tistio-ingressgateway\n"),
        (
            r#"{range .spec.ports[*]}{.name}{"="}{.port}{"\n"}{end}"#,
            "status-port=15021\nhttp2=80\nhttps=443\n",
        ),
        (
            r#"{range .spec.ports[?(@.nodePort)]}{@.name} of {$.metadata.name}, {end}done"#,
            "status-port of istio-ingressgateway, http2 of istio-ingressgateway, done",
        ),
        ("{range .none[*]}x{end}", ""),
        ("{.spec.ports[1]}", r#"{"name":"http2","port":80,"nodePort":2}"#),
        ("plain", "plain"),
        ("", ""),
        ("{@.kind}", "Service"),
        ("{.kind .metadata.name}", "Serviceistio-ingressgateway"),
    ] {
        let parsed: JsonPath = template.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.render(&service()), expected, "{template}");
    }
}

#[test]
fn bad_templates_say_where() {
    for (template, what) in [
        ("{.a", "a brace is not closed"),
        ("{.a[}", "expected an index"),
        ("{.a[0}", "a bracket is not closed"),
        ("{range .a}x", "{range} without {end}"),
        ("x{end}", "{end} without {range}"),
        ("{.a[?(@.b=='c'}", "a filter is not closed"),
        ("{\"a}", "a quote is not closed"),
        ("{a}", "expected a path"),
        ("{.a[::0]}", "less than 1"),
    ] {
        let error = template.parse::<JsonPath>().unwrap_err().to_string();
        assert!(error.contains(what), "{template}: {error}");
    }
}
