//! The resolver of the mesh: names of Services and pods, over UDP and TCP.
//!
//! Names outside the mesh do not exist here: pods have no way to the internet but through their
//! proxies, by address.

mod answer;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

pub(crate) use answer::{Names, Target};

/// Serves the names for ever; must run on a `LocalSet`.
pub(crate) async fn serve(udp: UdpSocket, tcp: TcpListener, names: Rc<dyn Names>) {
    tokio::join!(serve_udp(udp, &*names), serve_tcp(tcp, &names));
}

async fn serve_udp(socket: UdpSocket, names: &dyn Names) {
    let mut query = vec![0; UDP_BYTES_MAX];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut query).await else { continue };
        if let Some(answer) = answer::answer(&query[..length], names, Some(UDP_BYTES_MAX)) {
            // A client that does not take its answer asks again.
            let _ = socket.try_send_to(&answer, client);
        }
    }
}

async fn serve_tcp(listener: TcpListener, names: &Rc<dyn Names>) {
    let connections = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let names = Rc::clone(names);
        spawn_local(async move {
            let _permit = permit;
            // The client sees that the connection ends.
            let _ = timeout(TCP_TIME_MAX, serve_connection(stream, &*names)).await;
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

/// Bytes of a query or an answer over UDP.
const UDP_BYTES_MAX: usize = 1232;
/// Concurrent connections over TCP; more wait in the accept queue.
const TCP_CONNECTIONS_MAX: usize = 256;
/// How long a connection may last.
const TCP_TIME_MAX: Duration = Duration::from_secs(30);
