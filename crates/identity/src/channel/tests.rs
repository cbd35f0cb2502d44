use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::clock::{ManualClock, SystemClock};

fn istiod() -> Identity {
    Identity {
        trust_domain: "cluster.local".into(),
        namespace: "istio-system".into(),
        service_account: "istiod".into(),
    }
}

async fn greet(client: &ControlClient, server: &ControlServer) -> io::Result<()> {
    let (near, far) = duplex(64 << 10);
    let serve = async {
        let mut stream = server.accept(far).await?;
        stream.write_all(b"hi").await?;
        stream.flush().await
    };
    let call = async {
        let mut stream = client.connect(near).await?;
        stream.read_exact(&mut [0; 2]).await.map(|_| ())
    };
    let (called, _) = tokio::join!(call, serve);
    called
}

#[tokio::test]
async fn a_proxy_knows_the_control_plane_by_the_mesh_s_anchors_alone() {
    let clock = ManualClock::new(SystemClock.now());
    let authority = Arc::new(Authority::create(clock.now()).unwrap());
    let other = Arc::new(Authority::create(clock.now()).unwrap());
    let client = ControlClient::new(authority.anchors_pem(), clock.clone()).unwrap();
    let server = ControlServer::new(authority.clone(), istiod(), clock.clone()).unwrap();
    greet(&client, &server).await.unwrap();

    let impostor = ControlServer::new(other, istiod(), clock.clone()).unwrap();
    assert!(greet(&client, &impostor).await.is_err());

    // A workload of the mesh is not the control plane.
    let key = KeyPair::generate().unwrap();
    let workload = Identity { service_account: "reviews".into(), ..istiod() };
    let csr = key.csr().unwrap();
    let issued = authority.sign(&csr, &workload, LIFETIME, clock.now()).unwrap();
    let credentials =
        crate::Credentials::new(&key, &issued.chain, &issued.anchors_pem, clock.clone()).unwrap();
    let config = credentials.server_config(&[], crate::ClientAuth::Optional);
    assert!(greet(&client, &ControlServer(config)).await.is_err());
}

#[tokio::test]
async fn the_control_plane_s_certificate_is_renewed_before_it_expires() {
    let clock = ManualClock::new(SystemClock.now());
    let authority = Arc::new(Authority::create(clock.now()).unwrap());
    let client = ControlClient::new(authority.anchors_pem(), clock.clone()).unwrap();
    let server = ControlServer::new(authority, istiod(), clock.clone()).unwrap();
    for _ in 0..10 {
        clock.advance(Duration::from_secs(20 * 3600));
        greet(&client, &server).await.unwrap();
    }
}

#[test]
fn anchors_that_are_none_are_refused() {
    for bad in ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(ControlClient::new(bad, Arc::new(SystemClock)).is_err(), "{bad:?} was taken");
    }
}
