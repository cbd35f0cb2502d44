//! The ports that a gateway's listeners name: opened when one names them, closed when none does any
//! more, and tried again with pauses when they could not be opened.

use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::io;
use std::net::TcpListener;
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
use crate::workload::LocalWorkload;

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
        let next = failed.values().map(|failed| failed.again).min();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = until(next) => {}
        }
    }
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
    let sockets = match agent {
        Some(agent) => agent.listen(port).await?,
        None => vec![sockets::listening(port)?],
    };
    let listener = |socket: TcpListener| {
        // One that the agent has kept since the port was closed listens no more.
        SockRef::from(&socket).listen(BACKLOG)?;
        let original = OriginalDestination::Direct { port };
        let kind = ListenerKind::Gateway;
        Ok(Arc::new(Listener::new(kind, workload.clone(), original, socket)))
    };
    sockets.into_iter().map(listener).collect()
}

/// Connections that wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 4_096;
