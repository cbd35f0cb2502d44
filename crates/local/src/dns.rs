//! The resolver of the mesh: names of Services and pods, over UDP and TCP.
//!
//! Names outside the mesh do not exist here: pods have no way to the internet but through their
//! proxies, by address.

mod answer;
mod rate;

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use ironmesh_model::limits::PlatformLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use self::rate::Rate;
use ironmesh_fds::slots::{Slot, Slots};

pub(crate) use answer::{Names, PortTarget, Target};

/// Serves the names for ever; must run on a `LocalSet`.
pub(crate) async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    names: Rc<dyn Names>,
    limits: PlatformLimits,
) {
    let rate = Rc::new(RefCell::new(Rate::new(limits.dns_queries_per_second_max)));
    tokio::join!(serve_udp(udp, &*names, &rate), serve_tcp(tcp, &names, &rate, &limits));
}

async fn serve_udp(socket: UdpSocket, names: &dyn Names, rate: &RefCell<Rate>) {
    let mut query = vec![0; UDP_BYTES_MAX];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut query).await else {
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        if !rate.borrow_mut().allows(client.ip(), Instant::now()) {
            continue;
        }
        if let Some(answer) = answer::answer(&query[..length], names, Some(UDP_BYTES_MAX)) {
            // A client that does not take its answer asks again.
            let _ = socket.try_send_to(&answer, client);
        }
    }
}

async fn serve_tcp(
    listener: TcpListener,
    names: &Rc<dyn Names>,
    rate: &Rc<RefCell<Rate>>,
    limits: &PlatformLimits,
) {
    let slots = Slots::new(limits.dns_connections_max, limits.dns_connections_per_peer_max);
    let time_max = limits.dns_connection_time_max;
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            // Out of descriptors: others will be closed.
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        let Some(slot) = slots.take(client.ip()) else { continue };
        let (names, rate) = (Rc::clone(names), Rc::clone(rate));
        spawn_local(async move {
            let serving = serve_connection(stream, client.ip(), &slot, &*names, &rate);
            tokio::select! {
                // The client sees that the connection ends.
                _ = timeout(time_max, serving) => {}
                () = slot.evicted() => {}
            }
        });
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    client: IpAddr,
    slot: &Slot,
    names: &dyn Names,
    rate: &RefCell<Rate>,
) -> io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
        if !rate.borrow_mut().allows(client, Instant::now()) {
            return Ok(());
        }
        slot.use_it();
        let Some(answer) = answer::answer(&query, names, None) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

/// Bytes of a query, and of an answer to who says that he takes longer ones than 512, over UDP: what
/// fits into one packet everywhere.
const UDP_BYTES_MAX: usize = 1232;
/// Pause after an error of a socket.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
