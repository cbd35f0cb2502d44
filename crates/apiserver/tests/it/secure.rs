//! The API over TLS: who may do what there.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::{Api, World, eventually};

/// A client over TLS, with a token or without.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    token: Option<String>,
}

impl Client {
    /// The administrator, as the API says how to come.
    pub(crate) async fn administrator(world: &World) -> Self {
        let way = world.api().get("/ironmesh/kubeconfig").await;
        let [address, _] = world.secure();
        assert_eq!(way["server"], format!("https://{address}"));
        let mut roots = RootCertStore::empty();
        let anchors = way["anchors"].as_str().unwrap();
        roots.add(CertificateDer::from_pem_slice(anchors.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let token = way["token"].as_str().map(str::to_owned);
        Self { address, config: Arc::new(config), token }
    }

    /// The same with another token, by the door of pods.
    fn with(&self, world: &World, token: Option<&str>) -> Self {
        let [_, address] = world.secure();
        Self { address, token: token.map(str::to_owned), ..self.clone() }
    }

    /// A connection.
    pub(crate) async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(self.config.clone()).connect(name, stream).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// The head of a request.
    pub(crate) fn head(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// One request; the answer as JSON.
    async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask_as(None, method, path, body).await
    }

    async fn ask_as(
        &self,
        user: Option<&str>,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request = self.head(method, path);
        if let Some(user) = user {
            request = request.header("impersonate-user", user);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = self.connect().await.send_request(request).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "c"}]},
    })
}

#[tokio::test]
async fn who_has_no_token_is_told_nothing() {
    let world = World::start();
    let administrator = Client::administrator(&world).await;
    let (status, _) = administrator.ask(Method::GET, "/api/v1/namespaces", Value::Null).await;
    assert_eq!(status, 200);
    for token in [None, Some("guessed"), Some("a.b.c"), Some("")] {
        for path in ["/api/v1/pods", "/version", "/healthz", "/", "/ironmesh/kubeconfig"] {
            for client in [
                administrator.with(&world, token),
                Client { token: token.map(str::to_owned), ..administrator.clone() },
            ] {
                let (status, answer) = client.ask(Method::GET, path, Value::Null).await;
                assert_eq!(status, 401, "{path}: {answer}");
                assert_eq!(answer["reason"], "Unauthorized");
                assert_eq!(answer["kind"], "Status");
            }
        }
    }
    // Without TLS there is nothing to hear.
    let mut plain = TcpStream::connect(world.secure()[0]).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    // It may be reset.
    let _ = plain.read_to_end(&mut heard).await;
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
}

#[tokio::test]
async fn the_token_of_the_administrator_outlives_the_process() {
    let mut world = World::start();
    let before = Client::administrator(&world).await;
    world.restart();
    let (status, _) = before.ask(Method::GET, "/api/v1/pods", Value::Null).await;
    assert_eq!(status, 200);
    let other = World::start();
    let foreign = Client::administrator(&other).await;
    let foreign = Client { token: before.token.clone(), ..foreign };
    let (status, _) = foreign.ask(Method::GET, "/api/v1/pods", Value::Null).await;
    assert_eq!(status, 401);
}

/// Waits until the account is there that pods have.
async fn default_account(api: &Api) {
    let path = "/api/v1/namespaces/default/serviceaccounts/default";
    eventually(async || api.try_get(path).await).await;
}

/// A token of an account of a namespace, bound to a pod if one is named.
async fn token(administrator: &Client, pod: Option<&str>, audience: &str) -> String {
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let mut spec = json!({"audiences": []});
    if !audience.is_empty() {
        spec["audiences"] = json!([audience]);
    }
    if let Some(pod) = pod {
        spec["boundObjectRef"] = json!({"kind": "Pod", "apiVersion": "v1", "name": pod});
    }
    let (status, made) = administrator.ask(Method::POST, path, json!({"spec": spec})).await;
    assert_eq!(status, 201, "{made}");
    made["status"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn accounts_of_pods_read_what_is_not_secret_and_write_no_workloads() {
    let world = World::start();
    let api = world.api();
    let administrator = Client::administrator(&world).await;
    default_account(&api).await;
    api.create(pod()).await;
    let account = administrator.with(&world, Some(&token(&administrator, Some("p"), "").await));
    for path in ["/api/v1/pods", "/api/v1/namespaces/default/pods/p", "/version", "/apis"] {
        assert_eq!(account.ask(Method::GET, path, Value::Null).await.0, 200, "{path}");
    }
    let of_pods = "/api/v1/namespaces/default/pods";
    for (method, path) in [
        (Method::GET, "/api/v1/secrets"),
        (Method::GET, "/api/v1/secrets?watch=true"),
        (Method::GET, "/api/v1/namespaces/default/secrets/x"),
        (Method::GET, "/api//v1/secrets"),
        (Method::GET, "/api/v1/namespaces/default/%73ecrets/x"),
        (Method::GET, "/api/v1/namespaces/default/configmaps"),
        (Method::GET, "/api/v1/namespaces/default/pods/p/log"),
        (Method::GET, "/api/v1/namespaces/default/pods/p/exec?command=say"),
        (Method::GET, "/api/v1/namespaces/default/pods/p/portforward"),
        (Method::GET, "/ironmesh/kubeconfig"),
        (Method::GET, "/ironmesh/echo"),
        (Method::POST, of_pods),
        (Method::DELETE, "/api/v1/namespaces/default/pods/p"),
        (Method::DELETE, of_pods),
        (Method::PATCH, "/api/v1/namespaces/default/pods/p"),
        (Method::PUT, "/api/v1/namespaces/default/pods/p/status"),
        (Method::POST, "/api/v1/namespaces/default/serviceaccounts/default/token"),
        (Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
    ] {
        let (status, answer) = account.ask(method.clone(), path, pod()).await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
    }
    let pods = "/api/v1/pods";
    let as_another = account.ask_as(Some("ironmesh-admin"), Method::GET, pods, Value::Null).await;
    assert_eq!(as_another.0, 403);
    let as_account = Some("system:serviceaccount:default:default");
    let secrets =
        administrator.ask_as(as_account, Method::GET, "/api/v1/secrets", Value::Null).await;
    assert_eq!(secrets.0, 403);
    // What it may do it is told.
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (verb, resource, allowed) in [("list", "pods", true), ("get", "secrets", false)] {
        let question =
            json!({"spec": {"resourceAttributes": {"verb": verb, "resource": resource}}});
        let (_, answer) = account.ask(Method::POST, path, question.clone()).await;
        assert_eq!(answer["status"]["allowed"], allowed, "{resource}");
        let (_, answer) = administrator.ask(Method::POST, path, question).await;
        assert_eq!(answer["status"]["allowed"], true);
    }
}

#[tokio::test]
async fn a_token_is_worth_nothing_beyond_its_pod_and_its_audience() {
    let world = World::start();
    let api = world.api();
    let administrator = Client::administrator(&world).await;
    default_account(&api).await;
    api.create(pod()).await;
    let of_pod = token(&administrator, Some("p"), "").await;
    let elsewhere = token(&administrator, None, "vault").await;
    let get = async |token: &str| {
        administrator
            .with(&world, Some(token))
            .ask(Method::GET, "/api/v1/pods", Value::Null)
            .await
            .0
    };
    assert_eq!(get(&of_pod).await, 200);
    assert_eq!(get(&elsewhere).await, 401);
    let review = async |token: &str, audiences: Value| {
        let question = json!({"spec": {"token": token, "audiences": audiences}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        administrator.ask(Method::POST, path, question).await.1["status"].clone()
    };
    let said = review(&of_pod, json!([])).await;
    assert_eq!(said["user"]["username"], "system:serviceaccount:default:default");
    assert_eq!(said["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(review(&elsewhere, json!(["vault"])).await["authenticated"], true);
    assert_eq!(review(&elsewhere, json!(["bank"])).await["authenticated"], false);
    assert_eq!(review("nonsense", json!([])).await["authenticated"], false);

    api.delete("/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0").await;
    assert_eq!(get(&of_pod).await, 401);
    // A pod of the same name is another one.
    api.create(pod()).await;
    assert_eq!(get(&of_pod).await, 401);
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = |what: Value| json!({"spec": {"boundObjectRef": what}});
    for (spec, code) in [
        (bound(json!({"kind": "Pod", "name": "nobody"})), 404),
        (bound(json!({"kind": "Pod", "name": "p", "uid": "another"})), 422),
        (bound(json!({"kind": "Node", "name": "p"})), 422),
        (json!({"spec": {"expirationSeconds": 10}}), 422),
    ] {
        let (status, answer) = administrator.ask(Method::POST, path, spec).await;
        assert_eq!(status, code, "{answer}");
    }
}

/// The warnings of a request that is done.
async fn warnings(client: &Client, method: Method, path: &str, body: Value) -> Vec<String> {
    let patch = method == Method::PATCH;
    let kind = if patch { "application/merge-patch+json" } else { "application/json" };
    let request = client.head(method, path).header("content-type", kind);
    let request = request.body(Full::new(body.to_string().into())).unwrap();
    let answer = client.connect().await.send_request(request).await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    let all = answer.headers().get_all("warning").iter();
    all.map(|warning| String::from_utf8_lossy(warning.as_bytes()).into_owned()).collect()
}

#[tokio::test]
async fn what_is_found_about_an_object_is_said_to_who_writes_it() {
    let world = World::start();
    let client = Client::administrator(&world).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |name: &str, findings: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"findings": findings},
        })
    };
    let post = |path: String, map| warnings(&client, Method::POST, path.leak(), map);
    let said = post(format!("{maps}?dryRun=All"), map("a", "one|two")).await;
    assert_eq!(said, ["299 - \"would: one\"", "299 - \"would: two\""]);
    let said = post(maps.to_owned(), map("a", "one|two")).await;
    assert_eq!(said, ["299 - \"one\"", "299 - \"two\""]);
    // Of what is as it was nothing is repeated.
    let a = format!("{maps}/a");
    let patch = |findings: &str| {
        warnings(&client, Method::PATCH, &a, json!({"data": {"findings": findings}}))
    };
    assert!(patch("one|two").await.is_empty());
    assert_eq!(patch("two").await, ["299 - \"two\""]);
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(warnings(&client, Method::PATCH, &a, labelled).await.len(), 1);

    // What manifests say ends no header and fills no answer.
    let said = post(maps.to_owned(), map("b", "a\r\nx: y|\"\\|\u{e4}\u{7f}")).await;
    assert_eq!(said, ["299 - \"a  x: y\"", "299 - \"\\\"\\\\\"", "299 - \"\u{e4} \""]);
    let said = post(maps.to_owned(), map("c", &"x|".repeat(1_000))).await;
    assert_eq!(said.len(), 9);
    assert!(said[8].contains("and 992 more"), "{said:?}");
    let said = post(maps.to_owned(), map("d", &"x".repeat(500_000))).await;
    assert!(said.iter().map(String::len).sum::<usize>() < 10_000);

    // The verbs of ironmesh ask by themselves.
    let (status, _) = world.api().request(Method::POST, maps, &[], Some(&map("e", "one"))).await;
    assert_eq!(status, 201);
    assert!(world.api().warnings(Method::POST, maps, &[], &map("f", "one")).await.is_empty());
}

#[tokio::test]
async fn replicas_choose_their_leader_by_a_lease() {
    let world = World::start();
    let api = world.api();
    let administrator = Client::administrator(&world).await;
    default_account(&api).await;
    let account = administrator.with(&world, Some(&token(&administrator, None, "").await));
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = |holder: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"},
            "spec": {
                "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 0,
                "acquireTime": "2026-01-02T03:04:05.000006Z",
                "renewTime": "2026-01-02T03:04:05.000006Z",
            },
        })
    };
    let (status, mut made) = account.ask(Method::POST, leases, lease("a")).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(account.ask(Method::POST, leases, lease("b")).await.0, 409);
    let path = format!("{leases}/leader");
    made["spec"]["renewTime"] = "2026-01-02T03:04:15.000006Z".into();
    let (status, renewed) = account.ask(Method::PUT, &path, made.clone()).await;
    assert_eq!((status, &renewed["spec"]), (StatusCode::OK, &made["spec"]));
    // Who has not seen that takes it over in vain.
    made["spec"]["holderIdentity"] = "b".into();
    assert_eq!(account.ask(Method::PUT, &path, made).await.0, 409);
    let rows = api.table(leases).await;
    assert_eq!(rows[0][..2], ["leader", "a"]);

    // The node's own says when it came, and nobody else's is written.
    let nodes = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let (_, list) = account.ask(Method::GET, nodes, Value::Null).await;
    let of_node = &list["items"][0];
    assert_eq!(of_node["spec"]["holderIdentity"], of_node["metadata"]["name"]);
    assert!(of_node["spec"]["renewTime"].as_str().unwrap().ends_with('Z'), "{of_node}");
    assert_eq!(account.ask(Method::POST, nodes, lease("a")).await.0, 403);
    let (status, answer) = administrator.ask(Method::DELETE, &path, Value::Null).await;
    assert_eq!(status, 200, "{answer}");

    // What no lease can say is refused.
    for (field, value) in [("leaseDurationSeconds", json!(0)), ("leaseTransitions", json!(-1))] {
        let mut bad = lease("a");
        bad["spec"][field] = value;
        let (status, said) = account.ask(Method::POST, leases, bad).await;
        assert_eq!(status, 422, "{said}");
        assert!(said["message"].as_str().unwrap().contains(field), "{said}");
    }
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    for (namespace, writes) in [("default", true), ("other", false)] {
        let question = json!({"spec": {"namespace": namespace}});
        let (_, answer) = account.ask(Method::POST, rules, question).await;
        let mut rules = answer["status"]["resourceRules"].as_array().unwrap().iter();
        let written =
            rules.any(|rule| rule["resources"][0] == "leases" && rule["verbs"][0] == "create");
        assert_eq!(written, writes, "{namespace}: {answer}");
    }
}
