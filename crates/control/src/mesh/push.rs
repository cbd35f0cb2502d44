//! The listener of the push protocol.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_identity::channel::ControlServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::context::Context;

/// Serves proxies until the process ends.
pub(crate) async fn serve(listener: TcpListener, tls: ControlServer, context: Arc<Context>) {
    let permits = Arc::new(Semaphore::new(context.registry.limits().push_connections_max));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (tls, context) = (tls.clone(), context.clone());
                tokio::spawn(async move {
                    serve_proxy(stream, &tls, &context).await;
                    drop(permit);
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

async fn serve_proxy(stream: TcpStream, tls: &ControlServer, context: &Context) {
    // Without it small updates wait for acknowledgements; if it fails they do.
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(context.limits.control.push_handshake_timeout, tls.accept(stream))
        .await
    {
        Ok(Ok(stream)) => {
            let ended = context.mesh.server.serve(stream).await;
            tracing::debug!(reason = %ended, "proxy disconnected");
        }
        Ok(Err(error)) => tracing::debug!(%error, "handshake with a proxy failed"),
        Err(_) => tracing::debug!("handshake with a proxy took too long"),
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
