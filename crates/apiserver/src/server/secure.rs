//! The API over TLS, for those who prove by a token who they are.

use std::sync::Arc;

use ironmesh_fds::slots::Slots;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::{ACCEPT_PAUSE, serve_connection};
use crate::access::Door;
use crate::context::Context;

/// Serves the API on a listener until the process ends; a peer has at most so many connections.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>, per_peer_max: usize) {
    let limits = context.registry.limits();
    let slots = Slots::new(limits.api_connections_max, per_peer_max);
    let handshake_timeout = limits.api_handshake_timeout;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "API connection not accepted");
                // Out of descriptors, most likely: others must end first.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Who finds no place sees that the connection is closed.
        let Some(slot) = slots.take(peer.ip()) else { continue };
        let context = context.clone();
        tokio::spawn(async move {
            // Small answers are not to wait for more to come.
            let _ = stream.set_nodelay(true);
            let shaken = tokio::select! {
                shaken = timeout(handshake_timeout, context.access.tls.accept(stream)) => shaken,
                () = slot.evicted() => return,
            };
            match shaken {
                Ok(Ok(stream)) => serve_connection(stream, context, slot, Door::Network).await,
                Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake of the API"),
                Err(_late) => tracing::debug!(%peer, "TLS handshake of the API takes too long"),
            }
        });
    }
}
