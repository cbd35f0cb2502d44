//! The resolver of the mesh: names of Services and pods, over UDP and TCP.
//!
//! Names outside the mesh do not exist here: pods have no way to the internet but through their
//! proxies, by address.

mod answer;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::limits::PlatformLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

pub(crate) use answer::{Names, PortTarget, Target};

/// Serves the names for ever; must run on a `LocalSet`.
pub(crate) async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    names: Rc<dyn Names>,
    limits: PlatformLimits,
) {
    tokio::join!(serve_udp(udp, &*names), serve_tcp(tcp, &names, &limits));
}

async fn serve_udp(socket: UdpSocket, names: &dyn Names) {
    let mut query = vec![0; UDP_BYTES_MAX];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut query).await else {
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        if let Some(answer) = answer::answer(&query[..length], names, Some(UDP_BYTES_MAX)) {
            // A client that does not take its answer asks again.
            let _ = socket.try_send_to(&answer, client);
        }
    }
}

async fn serve_tcp(listener: TcpListener, names: &Rc<dyn Names>, limits: &PlatformLimits) {
    let connections = Arc::new(Semaphore::new(limits.dns_connections_max));
    let time_max = limits.dns_connection_time_max;
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others will be closed.
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        let names = Rc::clone(names);
        spawn_local(async move {
            let _permit = permit;
            // The client sees that the connection ends.
            let _ = timeout(time_max, serve_connection(stream, &*names)).await;
        });
    }
}

async fn serve_connection(mut stream: TcpStream, names: &dyn Names) -> io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
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
