//! The API: Kubernetes' shape over HTTP/1.1 on inherited unix sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::context::Context;

mod answer;
mod discovery;
mod logs;
mod mesh;
mod openapi;
mod request;
mod resources;
mod strict;
mod watch;

/// Serves the API on a listener until the process ends.
pub(crate) async fn serve(listener: UnixListener, context: Arc<Context>) {
    let permits = Arc::new(Semaphore::new(context.registry.limits().api_connections_max));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if is_trusted(&stream) => {
                let context = context.clone();
                tokio::spawn(async move {
                    serve_connection(stream, context).await;
                    drop(permit);
                });
            }
            Ok(_) => tracing::warn!("API connection of another user refused"),
            Err(error) => {
                tracing::warn!(%error, "API connection not accepted");
                // Out of descriptors, most likely: others must end first.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Only the user who runs the mesh, and root, may speak to it: an abstract socket has no mode.
fn is_trusted(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

async fn serve_connection(stream: UnixStream, context: Arc<Context>) {
    // Also how long a connection may idle, waiting for the head of its next request.
    let head_timeout = context.registry.limits().api_head_timeout;
    let open = Arc::new(AtomicUsize::new(0));
    let counted = open.clone();
    let service = service_fn(move |request| {
        let context = context.clone();
        let open = counted.clone();
        async move {
            open.fetch_add(1, Ordering::Relaxed);
            let answer = request::handle(&context, request).await;
            open.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    match served {
        Err(error) if open.load(Ordering::Relaxed) > 0 => {
            tracing::warn!(%error, "API connection ended before its answer");
        }
        Err(error) => tracing::debug!(%error, "API connection ended"),
        Ok(()) => {}
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
