use std::time::Duration;

use rustls::NamedGroup;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::ca::Authority;
use crate::clock::{ManualClock, SystemClock};

const ISTIO: Alpn = &[b"istio-http/1.1", b"istio"];
const OPAQUE: Alpn = &[b"istio"];
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A mesh with an authority, and a clock that only the test moves.
struct Mesh {
    authority: Authority,
    clock: Arc<ManualClock>,
}

impl Mesh {
    fn new() -> Self {
        let now = SystemClock.now();
        Self { authority: Authority::create(now).unwrap(), clock: ManualClock::new(now) }
    }

    fn member(&self, account: &str, ttl: Duration) -> Arc<Credentials> {
        let key = KeyPair::generate().unwrap();
        let issued = self
            .authority
            .sign(&key.csr().unwrap(), &identity(account), ttl, self.clock.now())
            .unwrap();
        Credentials::new(&key, &issued.chain, &issued.anchors_pem, self.clock.clone()).unwrap()
    }
}

fn identity(account: &str) -> Identity {
    Identity {
        trust_domain: "cluster.local".into(),
        namespace: "default".into(),
        service_account: account.into(),
    }
}

type Client = client::TlsStream<DuplexStream>;
type Server = server::TlsStream<DuplexStream>;

/// Connects, says `ping` and is answered, so that tickets have arrived as well.
async fn connect(
    client: &Credentials,
    server: &Credentials,
    expected: &Identity,
) -> (io::Result<Client>, io::Result<(Server, Option<Identity>)>) {
    let (near, far) = duplex(64 << 10);
    let serve = async {
        let (mut stream, peer) = server.accept(far, ISTIO, ClientAuth::Optional).await?;
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await?;
        stream.write_all(b"pong").await?;
        stream.flush().await?;
        Ok((stream, peer))
    };
    let call = async {
        let mut stream = client.connect(near, ISTIO, expected, "10.77.0.9").await?;
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut pong = [0; 4];
        stream.read_exact(&mut pong).await?;
        Ok(stream)
    };
    tokio::join!(call, serve)
}

#[tokio::test]
async fn members_learn_who_the_other_is_and_speak_the_mesh_s_cryptography() {
    let mesh = Mesh::new();
    let (client, server) = (mesh.member("productpage", DAY), mesh.member("reviews", DAY));
    let (called, served) = connect(&client, &server, &identity("reviews")).await;
    let (stream, caller) = served.unwrap();
    assert_eq!(caller, Some(identity("productpage")));
    let called = called.unwrap();
    let connection = called.get_ref().1;
    assert_eq!(
        connection.negotiated_cipher_suite().unwrap().suite(),
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
    );
    assert_eq!(
        connection.negotiated_key_exchange_group().unwrap().name(),
        NamedGroup::X25519MLKEM768
    );
    assert_eq!(connection.alpn_protocol(), Some(&b"istio-http/1.1"[..]));
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"istio-http/1.1"[..]));
}

#[tokio::test]
async fn a_server_of_another_identity_is_refused_by_name() {
    let mesh = Mesh::new();
    let (client, server) = (mesh.member("productpage", DAY), mesh.member("ratings", DAY));
    let (called, served) = connect(&client, &server, &identity("reviews")).await;
    let why = peer::untrusted(&called.unwrap_err()).unwrap();
    assert!(why.contains("sa/ratings") && why.contains("sa/reviews"), "{why}");
    assert!(served.is_err());
}

#[tokio::test]
async fn who_has_a_certificate_of_another_mesh_is_refused_on_both_sides() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let (ours, theirs) = (mesh.member("a", DAY), other.member("a", DAY));
    let (called, _) = connect(&ours, &theirs, &identity("a")).await;
    assert!(peer::untrusted(&called.unwrap_err()).is_some());

    // A client that trusts both, and is trusted by none but its own.
    let both = format!("{}{}", mesh.authority.anchors_pem(), other.authority.anchors_pem());
    let key = KeyPair::generate().unwrap();
    let issued =
        other.authority.sign(&key.csr().unwrap(), &identity("a"), DAY, other.clock.now()).unwrap();
    let client = Credentials::new(&key, &issued.chain, &both, other.clock.clone()).unwrap();
    let (_, served) = connect(&client, &ours, &identity("a")).await;
    assert!(peer::untrusted(&served.unwrap_err()).is_some());

    // Anchors are a list: who trusts both reaches both.
    let trusting = other.member("a", DAY);
    assert!(connect(&client, &trusting, &identity("a")).await.0.is_ok());
}

#[tokio::test]
async fn a_client_without_certificate_is_taken_only_where_it_may_have_none() {
    let mesh = Mesh::new();
    let server = mesh.member("reviews", DAY);
    let time = Arc::new(TlsClock(mesh.clock.clone()));
    let verifier = MemberServer {
        roots: peer::roots(mesh.authority.anchors_pem()).unwrap(),
        expected: identity("reviews"),
    };
    let config = Arc::new(
        ClientConfig::builder_with_details(provider(), time)
            .with_protocol_versions(VERSIONS)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth(),
    );
    for (auth, taken) in [(ClientAuth::Optional, true), (ClientAuth::Required, false)] {
        let (near, far) = duplex(64 << 10);
        let name = ServerName::try_from("reviews").unwrap();
        let (called, served) = tokio::join!(
            TlsConnector::from(config.clone()).connect(name, near),
            server.accept(far, OPAQUE, auth)
        );
        // In TLS 1.3 a client is through before the server has looked at it.
        drop(called);
        match served {
            Ok((_, peer)) => assert!(taken && peer.is_none(), "{auth:?}"),
            Err(error) => assert!(!taken, "{auth:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused_in_a_handshake() {
    let mesh = Mesh::new();
    let short = Duration::from_secs(30);
    let (client, server) = (mesh.member("a", DAY), mesh.member("b", short));
    mesh.clock.advance(Duration::from_secs(29));
    assert!(connect(&client, &server, &identity("b")).await.0.is_ok());
    // Another client has no session to resume.
    let stranger = mesh.member("c", DAY);
    mesh.clock.advance(Duration::from_secs(2));
    let (called, _) = connect(&stranger, &server, &identity("b")).await;
    assert!(peer::untrusted(&called.unwrap_err()).is_some());

    let (client, server) = (mesh.member("a", short), mesh.member("b", DAY));
    mesh.clock.advance(Duration::from_secs(31));
    let (_, served) = connect(&client, &server, &identity("b")).await;
    assert!(peer::untrusted(&served.unwrap_err()).is_some());
}

#[tokio::test]
async fn sessions_are_resumed_but_not_beyond_either_certificate() {
    let mesh = Mesh::new();
    let short = Duration::from_secs(30);
    let kind = |stream: &Client| stream.get_ref().1.handshake_kind();

    // Resumed while both certificates are valid; the peer's identity is known all the same.
    let (client, server) = (mesh.member("a", DAY), mesh.member("b", DAY));
    let (called, _) = connect(&client, &server, &identity("b")).await;
    assert_ne!(kind(&called.unwrap()), Some(HandshakeKind::Resumed));
    let (called, served) = connect(&client, &server, &identity("b")).await;
    assert_eq!(kind(&called.unwrap()), Some(HandshakeKind::Resumed));
    assert_eq!(served.unwrap().1, Some(identity("a")));

    // Not where another identity is expected, though the server is the same.
    let (called, _) = connect(&client, &server, &identity("c")).await;
    assert!(called.is_err());

    // Not after the server's certificate expired.
    let server = mesh.member("b", short);
    assert!(connect(&client, &server, &identity("b")).await.0.is_ok());
    mesh.clock.advance(Duration::from_secs(31));
    assert!(connect(&client, &server, &identity("b")).await.0.is_err());

    // Not after the client's certificate expired.
    let (client, server) = (mesh.member("a", short), mesh.member("b", DAY));
    assert!(connect(&client, &server, &identity("b")).await.0.is_ok());
    mesh.clock.advance(Duration::from_secs(31));
    assert!(connect(&client, &server, &identity("b")).await.1.is_err());
}

#[tokio::test]
async fn a_rotation_ends_sessions_and_closes_no_connection() {
    let mesh = Mesh::new();
    let (client, server) = (mesh.member("a", DAY), mesh.member("b", DAY));
    let (called, served) = connect(&client, &server, &identity("b")).await;
    let (mut near, (mut far, _)) = (called.unwrap(), served.unwrap());

    let rotated = mesh.member("b", DAY);
    let (called, _) = connect(&client, &rotated, &identity("b")).await;
    assert_ne!(
        called.unwrap().get_ref().1.handshake_kind(),
        Some(HandshakeKind::Resumed),
        "a ticket of the old certificate was taken"
    );
    drop((client, server));
    near.write_all(b"still").await.unwrap();
    near.flush().await.unwrap();
    let mut text = [0; 5];
    far.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"still");
}

#[tokio::test]
async fn five_minutes_with_certificates_of_30_seconds_lose_nothing() {
    let mesh = Mesh::new();
    let short = Duration::from_secs(30);
    let mut members = ["a", "b"].map(|account| mesh.member(account, short));
    let mut renew = [0, 1].map(|seed| renew_at(mesh.clock.now(), members[0].not_after(), seed));
    let (called, served) = connect(&members[0], &members[1], &identity("b")).await;
    let (mut near, (mut far, _)) = (called.unwrap(), served.unwrap());
    let mut resumed = 0;
    for second in 0..300 {
        for (index, account) in ["a", "b"].into_iter().enumerate() {
            if renew[index] <= mesh.clock.now() {
                members[index] = mesh.member(account, short);
                renew[index] = renew_at(mesh.clock.now(), members[index].not_after(), index as u64);
            }
        }
        let (called, served) = connect(&members[0], &members[1], &identity("b")).await;
        let stream = called.unwrap_or_else(|error| panic!("second {second}: {error}"));
        assert_eq!(served.unwrap().1, Some(identity("a")));
        let kind = stream.get_ref().1.handshake_kind();
        resumed += usize::from(kind == Some(HandshakeKind::Resumed));

        near.write_all(b"still here").await.unwrap();
        near.flush().await.unwrap();
        far.read_exact(&mut [0; 10]).await.unwrap();
        mesh.clock.advance(Duration::from_secs(1));
    }
    assert!(resumed > 200, "{resumed} of 300 connections were resumed");
}

#[test]
fn credentials_of_the_wrong_key_time_or_name_are_not_made() {
    let mesh = Mesh::new();
    let key = KeyPair::generate().unwrap();
    let issued = mesh
        .authority
        .sign(&key.csr().unwrap(), &identity("a"), Duration::from_secs(30), mesh.clock.now())
        .unwrap();
    let make = |key: &KeyPair, chain: &[Vec<u8>], anchors: &str| {
        Credentials::new(key, chain, anchors, mesh.clock.clone()).map(|_| ()).unwrap_err()
    };
    let other = KeyPair::generate().unwrap();
    assert_eq!(make(&other, &issued.chain, &issued.anchors_pem), CredentialsError::NotItsKey);
    assert!(matches!(make(&key, &issued.chain, ""), CredentialsError::Anchors(_)));
    make(&key, &[], &issued.anchors_pem);
    make(&key, &[b"junk".to_vec()], &issued.anchors_pem);
    mesh.clock.advance(Duration::from_secs(31));
    assert!(matches!(
        make(&key, &issued.chain, &issued.anchors_pem),
        CredentialsError::Certificate(PeerError::NotNow { .. })
    ));
}

#[test]
fn certificates_are_renewed_between_half_and_four_fifths_of_their_life() {
    let now = Timestamp::from_unix_seconds(1_000_000);
    for lifetime in [Duration::from_secs(30), DAY] {
        let mut spread = std::collections::BTreeSet::new();
        for seed in 0..1_000 {
            let at = renew_at(now, now.plus(lifetime), seed);
            assert_eq!(at, renew_at(now, now.plus(lifetime), seed));
            let percent = at.since(now).as_secs_f64() / lifetime.as_secs_f64() * 100.0;
            assert!((50.0..=80.01).contains(&percent), "{percent} %");
            spread.insert(percent as u64);
        }
        assert!(spread.len() > 25, "seeds are spread over {} of 31 steps", spread.len());
    }
    // One that has expired already is renewed at once.
    assert_eq!(renew_at(now, now.minus(DAY), 7), now);
}

#[test]
fn a_key_is_never_printed() {
    let mesh = Mesh::new();
    let member = mesh.member("a", DAY);
    assert_eq!(format!("{:?}", KeyPair::generate().unwrap()), "KeyPair(..)");
    assert!(!format!("{member:?}").to_lowercase().contains("key"));
}
