//! A small HTTP/1.1 server: whole requests in, whole responses out, and a graceful end on SIGTERM.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::answer;

/// An application. Requests may be answered concurrently.
pub(crate) trait App: Send + Sync + 'static {
    /// Answers a request. The peer's address is in the extension [`Peer`].
    fn answer(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send;
}

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves an application on a port of every IPv4 address until SIGTERM or SIGINT.
pub(crate) async fn run(port: u16, app: impl App) -> io::Result<()> {
    run_at(std::iter::once(port), app).await
}

/// The same on several ports.
pub(crate) async fn run_at(ports: impl Iterator<Item = u16>, app: impl App) -> io::Result<()> {
    let app = Arc::new(app);
    let mut served = JoinSet::new();
    for port in ports {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        writeln!(io::stdout(), "listening on port {port}")?;
        served.spawn(serve(listener, Arc::clone(&app), told_to_end()?));
    }
    served.join_all().await;
    Ok(())
}

/// Is ready at SIGTERM or SIGINT.
pub(crate) fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The name of the pod, by `HOSTNAME` or as the kernel knows it.
pub(crate) fn hostname() -> io::Result<String> {
    match std::env::var("HOSTNAME") {
        Ok(name) => Ok(name),
        Err(_) => Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned()),
    }
}

/// Serves until `end`; then accepts nothing more, finishes open requests, and closes.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Arc<impl App>,
    end: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(());
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    tokio::spawn(serve_connection(stream, peer, Arc::clone(&app), stopped.clone()));
                }
                // Out of descriptors until other connections close.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    drop(stopped);
    // Every connection holds a receiver, so this returns when the last one is gone.
    stop.send_replace(());
    let _ = tokio::time::timeout(DRAIN_MAX, stop.closed()).await;
}

async fn serve_connection<A: App>(
    stream: TcpStream,
    peer: SocketAddr,
    app: Arc<A>,
    mut stopped: watch::Receiver<()>,
) {
    // Responses are small; without this each would wait for the peer's acknowledgement. If it fails,
    // they are merely slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(respond(&*app, request, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // Who has nothing more to say still waits for the answer.
        .half_close(true)
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A broken connection is the client's concern, so the results are ignored.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn respond<A: App>(
    app: &A,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    // HEAD is answered like GET; the server leaves the body out.
    if head.method == Method::HEAD {
        head.method = Method::GET;
    }
    let answer = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => {
            let mut request = Request::from_parts(head, body.to_bytes());
            request.extensions_mut().insert(Peer(peer));
            app.answer(request).await
        }
        Err(_) => answer::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
    };
    answer.map(Full::new)
}

/// Pause after a failed `accept`.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long open requests may take after SIGTERM; longer than any of the applications takes.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Serves an application on a free loopback port for as long as the test's runtime lives.
    pub(crate) async fn start(app: impl App) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(app), std::future::pending()));
        address
    }

    /// A request without a body, as an application gets it.
    pub(crate) fn get(path: &str) -> Request<Bytes> {
        request("GET", path, "")
    }

    /// A request with a body.
    pub(crate) fn request(method: &str, path: &str, body: &str) -> Request<Bytes> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap();
        request.extensions_mut().insert(Peer("10.77.0.9:40000".parse().unwrap()));
        request
    }

    /// The body of a response as text.
    pub(crate) fn body(answer: &Response<Bytes>) -> &str {
        std::str::from_utf8(answer.body()).unwrap()
    }

    /// Reports that a request has arrived, and answers when it is allowed to.
    struct Slow {
        begun: tokio::sync::mpsc::Sender<()>,
        release: tokio::sync::Semaphore,
    }

    impl App for Slow {
        async fn answer(&self, _: Request<Bytes>) -> Response<Bytes> {
            self.begun.send(()).await.unwrap();
            self.release.acquire().await.unwrap().forget();
            answer::text(StatusCode::OK, "done")
        }
    }

    struct Fixed;

    impl App for Fixed {
        async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
            assert_eq!(request.method(), Method::GET);
            answer::text(StatusCode::OK, "hello")
        }
    }

    #[tokio::test]
    async fn head_is_get_without_its_body() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let mut stream = TcpStream::connect(start(Fixed).await).await.unwrap();
        let sent = b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(sent).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn a_request_that_has_begun_is_answered_after_the_end() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
        let app = Arc::new(Slow { begun, release: tokio::sync::Semaphore::new(0) });
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, Arc::clone(&app), async {
            let _ = ended.await;
        }));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        has_begun.recv().await.unwrap();
        end.send(()).unwrap();
        // It has stopped accepting once the port refuses.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        app.release.add_permits(1);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("done"), "{answer}");
        server.await.unwrap();
    }
}
