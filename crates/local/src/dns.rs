//! The resolver of the mesh: names of Services and pods, over UDP and TCP. Names outside are resolved as
//! on the host; in a mesh without egress there are none.

mod answer;
mod outside;
mod rate;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ironmesh_model::limits::PlatformLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use self::rate::Rate;
use ironmesh_fds::slots::{Slot, Slots};

use self::answer::{Asked, Resolved};

pub(crate) use answer::{Names, PortTarget, Target};
pub(crate) use outside::Outside;

/// Who knows names.
#[derive(Clone)]
pub(crate) struct Resolver {
    pub(crate) names: Rc<dyn Names>,
    /// The way to names outside the mesh; none: there are none.
    pub(crate) outside: Option<Rc<Outside>>,
    /// Whether workloads ask: names that the mesh gives addresses of its own have those for them. For
    /// their proxies, who are to go further, they stand for what they stand for outside.
    pub(crate) for_workloads: bool,
}

impl Resolver {
    /// What the mesh knows.
    fn known(&self, asked: &Asked, client: IpAddr) -> Resolved {
        asked.resolve(&*self.names, self.for_workloads.then_some(client))
    }

    /// Answers a query.
    async fn answer(
        &self,
        asked: Asked,
        client: IpAddr,
        bytes_max: Option<usize>,
    ) -> Option<Vec<u8>> {
        let mut resolved = self.known(&asked, client);
        if let Some((name, outside)) = resolved.outside.take().zip(self.outside.as_ref()) {
            let found = outside.resolve(&name, asked.query_type()).await;
            resolved = resolved.with(found);
        }
        asked.answer(resolved, bytes_max)
    }
}

/// Serves the names for ever; must run on a `LocalSet`.
pub(crate) async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    resolver: Resolver,
    limits: PlatformLimits,
) {
    let rate = Rc::new(RefCell::new(Rate::new(limits.dns_queries_per_second_max)));
    tokio::join!(serve_udp(udp, &resolver, &rate), serve_tcp(tcp, &resolver, &rate, &limits));
}

async fn serve_udp(socket: UdpSocket, resolver: &Resolver, rate: &RefCell<Rate>) {
    let socket = Rc::new(socket);
    let mut query = vec![0; UDP_BYTES_MAX];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut query).await else {
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        if !rate.borrow_mut().allows(client.ip(), Instant::now()) {
            continue;
        }
        let Some(asked) = Asked::read(&query[..length]) else { continue };
        let (socket, resolver) = (Rc::clone(&socket), resolver.clone());
        answer_by_udp(socket, resolver, asked, client);
    }
}

/// Answers at once what the mesh knows, and the rest when it is known outside; how many of those there
/// are at a time is bounded there.
fn answer_by_udp(socket: Rc<UdpSocket>, resolver: Resolver, asked: Asked, client: SocketAddr) {
    let resolved = resolver.known(&asked, client.ip());
    if resolved.outside.is_none() || resolver.outside.is_none() {
        send(&socket, asked.answer(resolved, Some(UDP_BYTES_MAX)), client);
        return;
    }
    spawn_local(async move {
        send(&socket, resolver.answer(asked, client.ip(), Some(UDP_BYTES_MAX)).await, client);
    });
}

fn send(socket: &UdpSocket, answer: Option<Vec<u8>>, client: SocketAddr) {
    if let Some(answer) = answer {
        // A client that does not take its answer asks again.
        let _ = socket.try_send_to(&answer, client);
    }
}

async fn serve_tcp(
    listener: TcpListener,
    resolver: &Resolver,
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
        let (resolver, rate) = (resolver.clone(), Rc::clone(rate));
        spawn_local(async move {
            let serving = serve_connection(stream, client.ip(), &slot, &resolver, &rate);
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
    resolver: &Resolver,
    rate: &RefCell<Rate>,
) -> io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
        if !rate.borrow_mut().allows(client, Instant::now()) {
            return Ok(());
        }
        slot.use_it();
        let Some(asked) = Asked::read(&query) else { return Ok(()) };
        let Some(answer) = resolver.answer(asked, client, None).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

/// Bytes of a query, and of an answer to who says that he takes longer ones than 512, over UDP: what
/// fits into one packet everywhere.
const UDP_BYTES_MAX: usize = 1232;
/// Pause after an error of a socket.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
