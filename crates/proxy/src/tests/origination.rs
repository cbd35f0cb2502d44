//! TLS towards endpoints as a policy says it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc;

use ironmesh_identity::{Authority, ClientAuth, Clock, Credentials, KeyPair, SystemClock};
use ironmesh_model::credential::{ClientCredential, CredentialSource};
use ironmesh_model::policy::{ClientTls, MtlsMode, TlsMode, TrafficPolicy};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::{NamedSecret, Objects};
use ironmesh_model::{ListenerKind, ObjectId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::http2::runtime;
use super::mesh::Mesh;
use super::world::*;

/// A server of an authority of its own, which speaks TLS itself: it says the name that it was asked
/// for, and the protocol.
struct TlsApp {
    address: SocketAddr,
    anchors: tempfile::NamedTempFile,
}

const NAME: &str = "spiffe://cluster.local/ns/default/sa/outside";

impl TlsApp {
    fn start() -> Self {
        let authority = Authority::create(SystemClock.now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let (csr, ttl) = (key.csr().unwrap(), std::time::Duration::from_secs(3_600));
        let issued = authority.sign(&csr, &identity("outside"), ttl, SystemClock.now()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let own = Credentials::new(&key, &issued.chain, &issued.anchors_pem, clock).unwrap();
        let anchors = tempfile::NamedTempFile::new().unwrap();
        fs::write(anchors.path(), authority.anchors_pem()).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || runtime().block_on(serve(own, tell)));
        Self { address: told.recv().unwrap(), anchors }
    }

    /// What a policy says that trusts it by its name.
    fn trusting(&self) -> ClientTls {
        ClientTls {
            mode: TlsMode::Simple,
            names: vec![NAME.into()],
            trusted_file: Some(self.anchors.path().to_str().unwrap().into()),
            ..ClientTls::default()
        }
    }
}

async fn serve(own: Arc<Credentials>, tell: mpsc::Sender<SocketAddr>) {
    let socket = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    tell.send(socket.local_addr().unwrap()).unwrap();
    loop {
        let (tcp, _) = socket.accept().await.unwrap();
        let Ok((mut tls, _)) = own.accept(tcp, &[b"h2"], ClientAuth::Optional).await else {
            continue;
        };
        let name = tls.get_ref().1.server_name().unwrap_or("-").to_owned();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && tls.read_buf(&mut head).await.unwrap_or(0) > 0 {}
        let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
        let _ = tls.write_all(ok(&format!("{name} {line}")).as_bytes()).await;
    }
}

fn proxy(protocol: Protocol, address: SocketAddr, mutual: bool, tls: ClientTls) -> Proxy {
    let mut policy = subsets(&[]);
    policy.policy.traffic = Some(TrafficPolicy { tls: Some(tls), ..<_>::default() });
    let objects = Objects {
        services: vec![reviews(protocol, vec![endpoint("v1", address, mutual)])],
        destination_policies: vec![policy],
        ..Objects::default()
    };
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

#[test]
fn requests_in_plaintext_go_on_by_tls() {
    let app = TlsApp::start();
    let proxy = proxy(Protocol::Http, app.address, false, app.trusting());
    let answer = Wire::connect(&proxy).get("/path");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "reviews.default.svc.cluster.local GET /path HTTP/1.1");
    let named = ClientTls { sni: Some("a.example.com".into()), ..app.trusting() };
    let proxy = self::proxy(Protocol::Http, app.address, false, named);
    assert_eq!(Wire::connect(&proxy).get("/").body, "a.example.com GET / HTTP/1.1");
    let opaque = self::proxy(Protocol::Tcp, app.address, false, app.trusting());
    let mut client = Wire::connect(&opaque);
    client.send("PING\r\n\r\n");
    assert!(client.read_response(false).body.ends_with(" PING"));
}

#[test]
fn a_server_that_is_someone_else_gets_no_request() {
    let app = TlsApp::start();
    let other = TlsApp::start();
    let trusting = app.trusting();
    for (tls, flag) in [
        (ClientTls { names: vec!["spiffe://else".into()], ..trusting.clone() }, "UF"),
        (ClientTls { trusted_file: other.trusting().trusted_file, ..trusting.clone() }, "UF"),
        (ClientTls { trusted_file: None, ..trusting.clone() }, "UF"),
        (ClientTls { trusted_file: Some("/nowhere".into()), ..trusting.clone() }, "UF"),
        (ClientTls { trusted_file: Some("/dev/zero".into()), ..trusting.clone() }, "UF"),
        (ClientTls { mode: TlsMode::Mutual, ..trusting }, "UF"),
    ] {
        let shown = format!("{tls:?}");
        let proxy = proxy(Protocol::Http, app.address, false, tls);
        let answer = Wire::connect(&proxy).get("/");
        assert_eq!((answer.status, answer.body.contains("GET")), (503, false), "{shown}");
        eventually("a log line", || proxy.lines.text().contains(flag));
    }
}

/// Names that the service gives itself are asked for where the policy has none.
#[test]
fn a_service_says_whose_certificate_it_has_unless_the_policy_does() {
    let app = TlsApp::start();
    let other = "spiffe://cluster.local/ns/default/sa/else";
    for (of_policy, of_service, status) in [
        (vec![], vec![NAME], 200),
        (vec![], vec![other, NAME], 200),
        (vec![], vec![other], 503),
        (vec![NAME], vec![other], 200),
        (vec![other], vec![NAME], 503),
    ] {
        let shown = format!("{of_policy:?} {of_service:?}");
        let names = |names: Vec<&str>| names.into_iter().map(Into::into).collect();
        let mut policy = subsets(&[]);
        let tls = ClientTls { names: names(of_policy), ..app.trusting() };
        policy.policy.traffic = Some(TrafficPolicy { tls: Some(tls), ..<_>::default() });
        let mut service = reviews(Protocol::Http, vec![endpoint("v1", app.address, false)]);
        service.service.certificate_names = names(of_service);
        let objects = Objects {
            services: vec![service],
            destination_policies: vec![policy],
            ..Objects::default()
        };
        let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
        assert_eq!(Wire::connect(&proxy).get("/").status, status, "{shown}");
    }
}

/// The Secret of a policy stands for files, and one that is not there for nobody.
#[test]
fn a_secret_says_whom_to_trust() {
    let app = TlsApp::start();
    let named = |trusted: Option<&str>| ClientTls {
        trusted_file: None,
        credential: Some(Box::new(ClientCredential {
            name: "own".into(),
            trusted: trusted.map(Into::into),
            ..ClientCredential::default()
        })),
        ..app.trusting()
    };
    let pem = fs::read_to_string(app.anchors.path()).unwrap();
    let own = CredentialSource {
        id: ObjectId::new("Secret", "default", "own"),
        certificate: None,
        key: None,
        trusted: Some(pem.into()),
        revoked: None,
        flaw: None,
    };
    let objects = |secrets: Vec<CredentialSource>| {
        let mut policy = subsets(&[]);
        policy.policy.traffic = Some(TrafficPolicy { tls: Some(named(None)), ..<_>::default() });
        let (name, place) = ("own".into(), "spec".to_owned());
        policy.credentials = vec![NamedSecret { name, place, is_shown: true }];
        policy.selector = Some([("app", "client")].into_iter().collect());
        Objects {
            services: vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])],
            destination_policies: vec![policy],
            credentials: secrets,
            ..Objects::default()
        }
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects(Vec::new()));
    assert_eq!(Wire::connect(&proxy).get("/").status, 503);
    proxy.change(objects(vec![own]));
    eventually("the Secret", || Wire::connect(&proxy).get("/").status == 200);
    proxy.change(objects(Vec::new()));
    eventually("it is gone", || Wire::connect(&proxy).get("/").status == 503);
}

/// Authorities that are replaced hold for the next connection, without another policy.
#[test]
fn files_are_read_again() {
    let (app, other) = (TlsApp::start(), TlsApp::start());
    let tls = ClientTls { trusted_file: other.trusting().trusted_file, ..app.trusting() };
    let proxy = proxy(Protocol::Http, app.address, false, tls);
    assert_eq!(Wire::connect(&proxy).get("/").status, 503);
    fs::copy(app.anchors.path(), other.anchors.path()).unwrap();
    eventually("the file of now holds", || Wire::connect(&proxy).get("/").status == 200);
}

/// Towards a member, too, if that is what the policy says.
#[test]
fn a_policy_turns_mutual_tls_off() {
    let mesh = Mesh::new();
    let app = App::http(|request| ok(&request.head));
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Permissive, "reviews");
    for (mode, mutual) in [(TlsMode::Disable, false), (TlsMode::Mesh, true)] {
        let tls = ClientTls { mode, ..ClientTls::default() };
        let outbound = proxy(Protocol::Http, inbound.address, true, tls);
        mesh.certify(&outbound, "client");
        let seen = Wire::connect(&outbound).get("/").body;
        assert_eq!(seen.contains("x-forwarded-client-cert"), mutual, "{seen}");
    }
}
