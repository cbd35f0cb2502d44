//! The ports that a gateway's listeners name: opened when one names them, closed when none does any
//! more, and tried again with pauses when they could not be opened.

use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::{ListenerKind, Resource, ResourceKey, View};
use socket2::SockRef;
use tokio::time::{Instant, sleep_until};

use crate::agent_channel::EdgePorts;
use crate::destination::OriginalDestination;
use crate::process::Process;
use crate::sockets;
use crate::worker::{Listener, Workers};
use crate::workload::{EdgeAddresses, LocalWorkload};

pub(crate) mod tls;

/// The listeners by port. A port may have several: in the pod, and on the host.
pub(crate) type EdgeListeners = HashMap<u16, Vec<Arc<Listener>>>;

/// Keeps those ports open that the view names, for as long as it is polled. `open` are open already.
/// Connections to a port that is closed are served on.
pub(crate) async fn keep_open(
    process: &Process,
    workload: &Arc<LocalWorkload>,
    workers: &Workers,
    agent: Option<&EdgePorts>,
    mut open: EdgeListeners,
) {
    let mut changes = workload.views.changes();
    let mut failed: HashMap<u16, Failed> = HashMap::new();
    loop {
        let named = named(&workload.views.load());
        if let Some(named) = named {
            failed.retain(|port, _| named.contains(port));
            open.retain(|port, listeners| {
                let kept = named.contains(port);
                if !kept {
                    listeners.iter().for_each(|listener| listener.close());
                    tracing::info!(port, "listening no more");
                }
                kept
            });
            for port in named {
                let waits = failed.get(&port).is_some_and(|failed| Instant::now() < failed.again);
                if waits || open.contains_key(&port) {
                    continue;
                }
                match listeners(workload, agent, port).await {
                    Ok(listeners) => {
                        listeners.iter().for_each(|listener| workers.listen(listener));
                        open.insert(port, listeners);
                        failed.remove(&port);
                        tracing::info!(port, "listening");
                    }
                    Err(error) => {
                        let again = Failed::after(failed.get(&port), process);
                        tracing::warn!(%error, port, pause = ?again.pause, "cannot listen");
                        failed.insert(port, again);
                    }
                }
            }
        }
        workload.edge_ports.store(Arc::new(addresses(&open)));
        let next = failed.values().map(|failed| failed.again).min();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = until(next) => {}
            () = moved(agent) => {
                for (port, listeners) in &mut open {
                    if let Err(error) = renew(workload, workers, agent, *port, listeners).await {
                        tracing::warn!(%error, port, "the port stays where it is");
                    }
                }
            }
        }
    }
}

fn addresses(open: &EdgeListeners) -> EdgeAddresses {
    let of = |listener: &Arc<Listener>| listener.socket().local_addr().ok();
    open.iter().map(|(port, own)| (*port, own.iter().filter_map(of).collect())).collect()
}

async fn moved(agent: Option<&EdgePorts>) {
    match agent {
        Some(agent) => agent.moved().await,
        None => pending().await,
    }
}

/// Listens where an open port is now: on new sockets, too, and no more on those that it has lost. The
/// others are left alone, with the connections that wait there.
async fn renew(
    workload: &Arc<LocalWorkload>,
    workers: &Workers,
    agent: Option<&EdgePorts>,
    port: u16,
    open: &mut Vec<Arc<Listener>>,
) -> io::Result<()> {
    let sockets = sockets(agent, port).await?;
    let numbers = sockets.iter().map(number).collect::<io::Result<BTreeSet<u64>>>()?;
    let mut kept = BTreeSet::new();
    open.retain(|listener| {
        let number = number(listener.socket());
        let is_kept = number.is_ok_and(|number| numbers.contains(&number) && kept.insert(number));
        if !is_kept {
            listener.close();
        }
        is_kept
    });
    for socket in sockets {
        if kept.insert(number(&socket)?) {
            let listener = listener(workload, port, socket)?;
            workers.listen(&listener);
            open.push(listener);
        }
    }
    tracing::info!(port, sockets = open.len(), "listening elsewhere");
    Ok(())
}

/// What a socket is known by, however many descriptors it has.
fn number(socket: &impl AsFd) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(socket)?.st_ino)
}

/// A port that could not be opened.
struct Failed {
    again: Instant,
    pause: Duration,
}

impl Failed {
    fn after(before: Option<&Self>, process: &Process) -> Self {
        let limits = &process.limits;
        let pause = before.map_or(limits.listen_retry_pause_min, |before| {
            (before.pause * 2).min(limits.listen_retry_pause_max)
        });
        Self { again: Instant::now() + pause, pause }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// The ports that the listeners name; `None` before the control plane has told.
fn named(view: &View) -> Option<BTreeSet<u16>> {
    match &view.get(&ResourceKey::Listeners)?.resource {
        Some(Resource::Listeners(listeners)) => {
            Some(listeners.listeners.iter().map(|listener| listener.port).collect())
        }
        Some(_) | None => Some(BTreeSet::new()),
    }
}

/// Opens a port.
async fn listeners(
    workload: &Arc<LocalWorkload>,
    agent: Option<&EdgePorts>,
    port: u16,
) -> io::Result<Vec<Arc<Listener>>> {
    let sockets = sockets(agent, port).await?;
    sockets.into_iter().map(|socket| listener(workload, port, socket)).collect()
}

async fn sockets(agent: Option<&EdgePorts>, port: u16) -> io::Result<Vec<TcpListener>> {
    match agent {
        Some(agent) => agent.listen(port).await,
        None => Ok(vec![sockets::listening(port)?]),
    }
}

fn listener(
    workload: &Arc<LocalWorkload>,
    port: u16,
    socket: TcpListener,
) -> io::Result<Arc<Listener>> {
    // One that the agent has kept since the port was closed listens no more.
    SockRef::from(&socket).listen(BACKLOG)?;
    let original = OriginalDestination::Direct { port };
    Ok(Arc::new(Listener::new(ListenerKind::Gateway, workload.clone(), original, socket)))
}

/// Connections that wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 4_096;
