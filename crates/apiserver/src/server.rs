//! The API: Kubernetes' shape over HTTP/1.1 on inherited unix sockets, and over TLS.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ironmesh_fds::slots::{Slot, Slots};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::access::Door;
use crate::context::Context;
use crate::failure::Failure;

mod advice;
mod answer;
mod apply;
mod discovery;
mod eviction;
mod logs;
mod metrics;
mod openapi;
mod options;
pub(crate) mod parts;
mod patient;
mod protobuf;
mod proxied;
mod request;
mod resources;
mod reviews;
mod secure;
mod stream;
mod strict;
mod usage;
mod watch;

pub(crate) use secure::serve as serve_securely;

use patient::Patient;

/// Serves the API on a listener until the process ends.
pub(crate) async fn serve(listener: UnixListener, context: Arc<Context>) {
    let most = context.registry.limits().api_connections_max;
    let slots = Slots::new(most, most);
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_trusted(&stream) => match slots.take(PEER) {
                Some(slot) => {
                    let serving = serve_connection(stream, context.clone(), slot, Door::Trusted);
                    tokio::spawn(serving);
                }
                None => {
                    // Who finds even this full sees that the connection is closed.
                    let Ok(permit) = refusals.clone().try_acquire_owned() else { continue };
                    tokio::spawn(async move {
                        let _ = timeout(REFUSAL_TIME, refuse(stream, most)).await;
                        drop(permit);
                    });
                }
            },
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

async fn serve_connection<S>(stream: S, context: Arc<Context>, slot: Slot, door: Door)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = context.registry.limits();
    // Also how long a connection may idle, waiting for the head of its next request.
    let (head_timeout, stall_timeout) = (limits.api_head_timeout, limits.api_stall_timeout);
    let slot = Arc::new(slot);
    let of_request = slot.clone();
    let service = service_fn(move |request| {
        let context = context.clone();
        let busy = Arc::new(of_request.busy());
        async move {
            // A connection that becomes something else keeps its place until that ends.
            let answer = request::handle(&context, request, door, busy.clone()).await;
            Ok::<_, std::convert::Infallible>(answer.map(|body| answer::held(body, busy)))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream, stall_timeout)), service)
        .with_upgrades();
    tokio::select! {
        served = served => match served {
            Err(error) if slot.is_busy() => {
                tracing::warn!(%error, "API connection ended before its answer");
            }
            Err(error) => tracing::debug!(%error, "API connection ended"),
            Ok(()) => {}
        },
        () = slot.evicted() => tracing::debug!("idle API connection closed for another"),
    }
}

/// Tells a client that there is no room for it.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, most: usize) {
    let service = service_fn(move |_| async move {
        let answer = answer::failure(&Failure::too_many_requests(most));
        Ok::<_, std::convert::Infallible>(answer)
    });
    let refused = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = refused {
        tracing::debug!(%error, "API connection refused");
    }
}

/// All clients of a unix socket are one peer.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that are read or written at once, and of a request's head.
const BUFFER_BYTES: usize = 64 << 10;
/// Clients that are told at a time that there is no room for them.
const REFUSALS_MAX: usize = 32;
/// How long such a client has to say what it wants.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
