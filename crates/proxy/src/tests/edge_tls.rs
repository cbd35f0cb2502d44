//! TLS of clients at a gateway.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ironmesh_model::credential::CredentialSource;
use ironmesh_model::listeners::{ClientCertificate, GatewayProtocol, TlsVersion};
use ironmesh_model::route::{ConnectionMatch, ConnectionRule};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::{GatewayServer, GatewaySource, GatewayTls, GatewayTlsMode, Objects};
use ironmesh_model::{ListenerKind, ObjectId, ResourceKey};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::world::*;

/// An authority that clients and servers trust.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn secret(&self, name: &str, host: &str) -> CredentialSource {
        let (certificate, key) = self.sign(host);
        CredentialSource {
            id: ObjectId::new("Secret", "default", name),
            certificate: Some(certificate.into()),
            key: Some(key.into()),
            trusted: Some(self.0.pem().into()),
            revoked: None,
            flaw: None,
        }
    }
}

fn server(hosts: &[&str], secret: &str, client: ClientCertificate) -> GatewayServer {
    GatewayServer {
        port: 443,
        name: "https".into(),
        protocol: GatewayProtocol::Tls,
        hosts: hosts.iter().map(|host| (None, (*host).into())).collect(),
        tls: Some(Box::new(GatewayTls {
            mode: GatewayTlsMode::Terminate(client),
            http: true,
            certificates: vec![("spec".into(), secret.into())],
            also_in: None,
            trusted: None,
            names: Vec::new(),
            key_hashes: Vec::new(),
            certificate_hashes: Vec::new(),
            versions: (TlsVersion::V12, TlsVersion::V13),
        })),
        redirects: false,
    }
}

fn objects_of(app: &App, servers: Vec<GatewayServer>, secrets: Vec<CredentialSource>) -> Objects {
    let mut attached = route(vec![rule(&[("", 1)], None)]);
    attached.hosts = vec!["*".into()];
    attached.gateways = vec!["default/edge".into()];
    Objects {
        services: vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])],
        gateways: vec![GatewaySource {
            id: ObjectId::new("Gateway", "default", "edge"),
            selector: [("app", "client")].into_iter().collect(),
            servers,
            created: 0,
        }],
        routes: vec![attached],
        credentials: secrets,
        ..Objects::default()
    }
}

fn start(objects: Objects) -> Proxy {
    let server: SocketAddr = "10.77.0.2:443".parse().unwrap();
    let proxy = Proxy::start(ListenerKind::Gateway, server, objects);
    proxy.workload.views.want(ResourceKey::Listeners);
    eventually("the listeners", || !proxy.workload.views.load().listeners().listeners.is_empty());
    proxy
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A handshake with a name; `None` if it fails.
fn dial(
    proxy: &Proxy,
    name: &str,
    trusted: &Authority,
    own: Option<(String, String)>,
) -> Option<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = PemObject::from_pem_slice(chain.as_bytes()).unwrap();
            let key = PemObject::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let tcp = TcpStream::connect(proxy.address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(connection, tcp);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).ok()?;
    }
    Some(tls)
}

/// Asks for a host, and gives all that is answered until the connection ends; empty if nothing is.
fn ask(mut tls: Tls, host: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let _ = tls.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

#[test]
fn the_log_may_name_server_and_version() {
    let authority = Authority::new();
    let app = App::named("a");
    for (version, word) in [(TlsVersion::V12, "TLSv1.2"), (TlsVersion::V13, "TLSv1.3")] {
        let mut server = server(&["a.example"], "a", ClientCertificate::None);
        server.tls.as_mut().unwrap().versions = (version, version);
        let secrets = vec![authority.secret("a", "a.example")];
        let mut objects = objects_of(&app, vec![server], secrets);
        let format = "%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% %REQ(:SCHEME)%";
        objects.settings.set("accessLogFormat", format).unwrap();
        let proxy = start(objects);
        let tls = dial(&proxy, "a.example", &authority, None).unwrap();
        assert!(ask(tls, "a.example").starts_with("HTTP/1.1 200"));
        let line = format!("a.example {word} https\n");
        eventually("the log line", || proxy.lines.text() == line);
    }
}

#[test]
fn a_client_is_served_over_tls_and_hosts_keep_to_their_servers() {
    let (ca, app) = (Authority::new(), App::http(|request| ok(&request.head)));
    let servers = vec![
        server(&["a.test"], "a", ClientCertificate::None),
        server(&["b.test"], "b", ClientCertificate::Required),
        server(&["dead.test"], "missing", ClientCertificate::None),
    ];
    let secrets = vec![ca.secret("a", "a.test"), ca.secret("b", "b.test")];
    let proxy = start(objects_of(&app, servers, secrets));
    let answer = ask(dial(&proxy, "a.test", &ca, None).unwrap(), "a.test");
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
    // The other server asks for a certificate, which no connection to this one has shown.
    let answer = ask(dial(&proxy, "a.test", &ca, None).unwrap(), "b.test");
    assert_eq!(status(&answer), "421", "{answer}");
    let without = dial(&proxy, "b.test", &ca, None).map(|tls| ask(tls, "b.test"));
    assert!(without.is_none_or(|answer| answer.is_empty()), "no certificate was shown");
    let stranger = Authority::new().sign("me.test");
    let with = dial(&proxy, "b.test", &ca, Some(stranger)).map(|tls| ask(tls, "b.test"));
    assert!(with.is_none_or(|answer| answer.is_empty()), "a stranger's was shown");
    let own = ca.sign("me.test");
    let answer = ask(dial(&proxy, "b.test", &ca, Some(own)).unwrap(), "b.test");
    assert_eq!(status(&answer), "200", "{answer}");
    let shown = answer.lines().find_map(|line| line.strip_prefix("x-forwarded-client-cert: Hash="));
    assert!(shown.is_some_and(|shown| shown.ends_with(";DNS=me.test")), "{answer}");
    // Only the server without a certificate is dead, and names of nobody are refused.
    assert!(dial(&proxy, "dead.test", &ca, None).is_none());
    assert!(dial(&proxy, "c.test", &ca, None).is_none());
    assert!(dial(&proxy, "a.test", &ca, None).is_some());
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_a_bad_one_never() {
    let (old, new) = (Authority::new(), Authority::new());
    let app = App::http(|request| ok(&request.head));
    let servers = || vec![server(&["a.test"], "a", ClientCertificate::None)];
    let proxy = start(objects_of(&app, servers(), vec![old.secret("a", "a.test")]));
    let open = dial(&proxy, "a.test", &old, None).unwrap();
    proxy.change(objects_of(&app, servers(), vec![new.secret("a", "a.test")]));
    eventually("the new certificate", || dial(&proxy, "a.test", &new, None).is_some());
    assert!(dial(&proxy, "a.test", &old, None).is_none());
    assert_eq!(status(&ask(open, "a.test")), "200", "an open connection goes on");
    let mut bad = new.secret("a", "a.test");
    bad.certificate = Some("garbage".into());
    proxy.change(objects_of(&app, servers(), vec![bad]));
    let answer = ask(dial(&proxy, "a.test", &new, None).unwrap(), "a.test");
    assert_eq!(status(&answer), "200", "the last good one stays");
    // One that is gone is meant to be.
    proxy.change(objects_of(&app, servers(), Vec::new()));
    assert!(dial(&proxy, "a.test", &new, None).is_none());
}

#[test]
fn tls_is_passed_on_by_its_name() {
    let (ca, app) = (
        Authority::new(),
        App::start(|mut stream| {
            let mut first = [0; 3];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(first, [22, 3, 1], "a ClientHello as it was sent");
            stream.write_all(b"mine").unwrap();
        }),
    );
    let mut passed = server(&["*.test"], "a", ClientCertificate::None);
    passed.tls.as_mut().unwrap().mode = GatewayTlsMode::Passthrough;
    let mut objects = objects_of(&app, vec![passed], Vec::new());
    let backends = rule(&[("", 1)], None).action.backends().to_vec();
    let matches =
        vec![ConnectionMatch { server_names: vec!["p.test".into()], ..ConnectionMatch::default() }];
    objects.routes[0].route.connection_rules =
        vec![ConnectionRule { place: "tls[0]".into(), matches, backends }];
    let proxy = start(objects);
    assert!(dial(&proxy, "p.test", &ca, None).is_none(), "the application speaks no TLS");
    eventually("the application", || app.connections.load(Ordering::SeqCst) == 1);
    assert!(dial(&proxy, "q.test", &ca, None).is_none());
    assert!(dial(&proxy, "p.example", &ca, None).is_none());
    assert_eq!(app.connections.load(Ordering::SeqCst), 1);
}
