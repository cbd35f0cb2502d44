//! The listener of the push protocol.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_fds::slots::{Slot, Slots};
use ironmesh_identity::channel::ControlServer;
use tokio::net::{TcpListener, TcpStream};

use crate::plane::Plane;

/// Serves proxies until the process ends.
pub(crate) async fn serve(listener: TcpListener, tls: ControlServer, plane: Arc<Plane>) {
    let limits = &plane.limits.control;
    let slots = Slots::new(limits.push_connections_max, limits.push_connections_per_peer_max);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(slot) = slots.take(peer.ip()) else { continue };
                let (tls, plane) = (tls.clone(), plane.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve_proxy(stream, peer.ip(), &slot, &tls, &plane) => {}
                        () = slot.evicted() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "proxy not accepted");
                // Out of descriptors, most likely: others must end first.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_proxy(
    stream: TcpStream,
    from: IpAddr,
    slot: &Slot,
    tls: &ControlServer,
    plane: &Plane,
) {
    // Without it small updates wait for acknowledgements; if it fails they do.
    let _ = stream.set_nodelay(true);
    // On the heap, since a task is as large as all that its functions hand on to each other.
    let accepted = Box::pin(tls.accept(stream));
    match tokio::time::timeout(plane.limits.control.push_handshake_timeout, accepted).await {
        Ok(Ok(stream)) => {
            let stream = Box::new(stream);
            let ended = plane.mesh.server.serve_from(stream, from, || slot.use_it()).await;
            tracing::debug!(reason = %ended, "proxy disconnected");
        }
        Ok(Err(error)) => tracing::debug!(%error, "handshake with a proxy failed"),
        Err(_) => tracing::debug!("handshake with a proxy took too long"),
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
