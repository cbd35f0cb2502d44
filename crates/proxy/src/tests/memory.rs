//! The memory of a proxy under load, measured from outside: the proxy is a process of its own, this
//! program once more.

use std::future::poll_fn;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;
use tokio::task::JoinHandle;

use super::http2::{Http2App, block_on, call};
use super::world::*;

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 64 * MIB;

/// Names the application of a proxy that is a process of its own.
const APP: &str = "IRONMESH_TEST_APP";

/// Is that process, if it was told to be; else there is nothing to test here.
#[test]
fn a_proxy_of_its_own() {
    let Ok(app) = std::env::var(APP) else { return };
    let app: SocketAddr = app.parse().unwrap();
    let services = vec![reviews(Protocol::Http2, vec![endpoint("v1", app, false)])];
    let objects = Objects { services, ..Objects::default() };
    let limits = ProxyLimits { h2_unread_bytes_max: BUDGET, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    println!("\nproxy at {}", proxy.address);
    // Until the other process ends, however it does.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Such a process.
struct Apart {
    child: Child,
    address: SocketAddr,
}

impl Apart {
    fn start(app: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::memory::a_proxy_of_its_own", "--nocapture"])
            .env(APP, app.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            line.strip_prefix("proxy at ").map(|address| address.parse().unwrap())
        });
        Self { child, address: address.expect("it says where it is") }
    }

    /// Bytes of memory that it has (proc(5), `VmRSS`).
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        kib << 10
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It ends with its standard input, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Streams of the application that wait for room.
static STALLED: AtomicUsize = AtomicUsize::new(0);

/// Sends without end, and counts itself as stalled while it has no room.
async fn send_for_ever(mut respond: h2::server::SendResponse<Bytes>) {
    let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
    let piece = Bytes::from(vec![0; 16 << 10]);
    loop {
        send.reserve_capacity(piece.len());
        let mut stalled = None;
        let room = poll_fn(|cx| {
            let room = send.poll_capacity(cx);
            if room.is_pending() {
                stalled.get_or_insert_with(Stalled::new);
            }
            room
        });
        let Some(Ok(room)) = room.await else { return };
        drop(stalled);
        if send.send_data(piece.slice(..room.min(piece.len())), false).is_err() {
            return;
        }
    }
}

struct Stalled;

impl Stalled {
    fn new() -> Self {
        STALLED.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        STALLED.fetch_sub(1, Ordering::SeqCst);
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://reviews:9080{path}")).body(()).unwrap()
}

/// A client's connection, and what moves its frames until it is aborted.
async fn connect(proxy: &Apart) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    // How it ends is of no interest.
    let connection = tokio::spawn(async move { drop(connection.await) });
    // Its worker learns how many streams the application takes at once.
    assert_eq!(call(client.clone(), get("/quick"), Vec::new()).await.0, 200);
    (client, connection)
}

/// Lets many clients ask for what has no end and read none of it until nothing moves any more; gives
/// the memory that the proxy has then.
async fn fill(proxy: &Apart) -> u64 {
    let mut slow = Vec::new();
    for _ in 0..CLIENTS {
        let (mut client, connection) = connect(proxy).await;
        for _ in 0..STREAMS {
            client = client.ready().await.unwrap();
            slow.push((
                client.send_request(get("/endless"), true).unwrap().0,
                connection.abort_handle(),
            ));
        }
    }
    while STALLED.load(Ordering::SeqCst) < CLIENTS * STREAMS {
        tokio::task::yield_now().await;
    }
    // Others are served all the same.
    connect(proxy).await.1.abort();
    let full = proxy.memory();
    slow.iter().for_each(|(_, connection)| connection.abort());
    drop(slow);
    while STALLED.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    full
}

#[test]
fn many_slow_readers_hold_no_more_memory_than_the_budget_and_the_next_use_the_same() {
    let app = Http2App::start(50, |request, mut respond| async move {
        if request.uri().path() == "/quick" {
            // Its client may have left.
            let _ = respond.send_response(Response::new(()), true);
        } else {
            send_for_ever(respond).await;
        }
    });
    let proxy = Apart::start(app.address);
    block_on(async {
        connect(&proxy).await.1.abort();
        let before = proxy.memory();
        // Each of them would hold a window of its own: 200 MiB together.
        // How full the windows are when nothing moves any more differs from time to time; what a round
        // would not give back adds up.
        let mut most = 0;
        for _ in 0..5 {
            let full = fill(&proxy).await;
            assert!(full > before + BUDGET / 8, "{before} bytes were {full} with unread ones");
            assert!(full < before + BUDGET, "{before} bytes became {full}");
            most = most.max(full);
        }
        // They have gone, and so does what they needed, but for what is kept ready.
        while proxy.memory() > before + (most - before) / 4 {
            tokio::task::yield_now().await;
        }
    });
}

const CLIENTS: usize = 40;
const STREAMS: usize = 20;
