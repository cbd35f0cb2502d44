//! What a proxy tells about itself and its workload: health, metrics, and on loopback everything
//! that is held.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ironmesh_fds::slots::Slots;
use ironmesh_identity::peer::CertificateFacts;
use ironmesh_model::bootstrap::{ListenerRole, ProxyKind};
use ironmesh_model::{Resource, ResourceKey};
use ironmesh_telemetry::{Page, Registry};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::dump::{self, HeldListener, Parts};
use crate::logging::LogLevel;
use crate::process::Process;
use crate::statistics::{self, ClusterStatistics};
use crate::worker::Workers;
use crate::workload::LocalWorkload;

/// What answers are made of.
#[derive(Debug)]
pub(crate) struct Admin {
    process: Arc<Process>,
    workload: Arc<LocalWorkload>,
    registry: Arc<Registry>,
    log_level: LogLevel,
    kind: ProxyKind,
    /// Those who are asked what is open; `None`: nobody tells.
    workers: Option<Arc<Workers>>,
    /// What was inherited, but for the ports of a gateway, which come and go.
    listeners: Mutex<Vec<HeldListener>>,
}

/// What is shown on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// Everything; for loopback only.
    Admin,
    /// Metrics and health.
    Metrics,
    /// Health.
    Health,
}

/// Serves a port in the background: `admin_connections_max` connections at a time, of one peer
/// `admin_connections_per_peer_max`.
pub(crate) fn serve(admin: &Arc<Admin>, socket: TcpListener, site: Site) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let admin = admin.clone();
    let limits = &admin.process.limits;
    let slots = Slots::new(limits.admin_connections_max, limits.admin_connections_per_peer_max);
    spawn_local(async move {
        loop {
            let Ok((tcp, peer)) = socket.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Some(slot) = slots.take(peer.ip()) else { continue };
            let admin = admin.clone();
            spawn_local(async move {
                let limits = &admin.process.limits;
                let (head, longest) = (limits.admin_head_timeout, limits.admin_connection_time_max);
                let serving = serve_connection(&admin, tcp, site, Some(head), || slot.use_it());
                tokio::select! {
                    // The client sees that it ends.
                    _ = timeout(longest, serving) => {}
                    () = slot.evicted() => {}
                }
            });
        }
    });
    Ok(())
}

/// Answers the questions of who started this proxy whether it is ready, on a connection that nobody
/// else has and so nobody can use up.
pub(crate) fn serve_probes(admin: &Arc<Admin>, probes: OwnedFd) -> io::Result<()> {
    let probes = std::os::unix::net::UnixStream::from(probes);
    probes.set_nonblocking(true)?;
    let probes = tokio::net::UnixStream::from_std(probes)?;
    let admin = admin.clone();
    spawn_local(async move { serve_connection(&admin, probes, Site::Health, None, || ()).await });
    Ok(())
}

/// Answers the requests of a connection; calls `asked` for each.
async fn serve_connection<IO: AsyncRead + AsyncWrite + Unpin + 'static>(
    admin: &Admin,
    io: IO,
    site: Site,
    head_timeout: Option<Duration>,
    asked: impl Fn(),
) {
    let answer = service_fn(|request| {
        asked();
        async move { Ok::<_, Infallible>(admin.answer(&request, site).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(io), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "admin connection failed");
    }
}

impl Admin {
    pub(crate) fn new(
        process: Arc<Process>,
        workload: Arc<LocalWorkload>,
        registry: Arc<Registry>,
        log_level: LogLevel,
        kind: ProxyKind,
        workers: Option<Arc<Workers>>,
    ) -> Arc<Self> {
        let listeners = Mutex::default();
        Arc::new(Self { process, workload, registry, log_level, kind, workers, listeners })
    }

    /// Notes that the proxy listens there.
    pub(crate) fn note_listener(&self, role: ListenerRole, address: SocketAddr) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(HeldListener { role, address });
    }

    async fn answer(&self, request: &Request<Incoming>, site: Site) -> Response<Body> {
        let (path, query) = (request.uri().path(), request.uri().query());
        match (path, site) {
            ("/stats" | "/clusters", Site::Admin) => {
                let clusters = self.clusters().await;
                let written = match path {
                    "/stats" => statistics::text(&clusters, query),
                    _ => Ok(statistics::endpoints(&clusters)),
                };
                match written {
                    Ok(all) => text(StatusCode::OK, "text/plain", all),
                    Err(error) => text(StatusCode::BAD_REQUEST, "text/plain", format!("{error}\n")),
                }
                .map(Either::Left)
            }
            ("/stats/prometheus" | "/metrics", Site::Admin | Site::Metrics) => {
                let more = match site {
                    Site::Admin => statistics::prometheus(&self.clusters().await),
                    // Prometheus itself gets them not, as by default in Istio: there are many.
                    _ => Vec::new(),
                };
                let page = Metrics { page: self.registry.page(), more: more.into(), rests: false };
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                response(StatusCode::OK, content_type, Either::Right(page))
            }
            _ => self.answer_whole(request, site).map(Either::Left),
        }
    }

    /// What is known of each group that its workload uses.
    async fn clusters(&self) -> Vec<ClusterStatistics> {
        let longest = self.process.limits.admin_head_timeout;
        statistics::of(&self.process, &self.workload, self.workers.as_deref(), longest).await
    }

    /// What is answered in one piece.
    fn answer_whole(&self, request: &Request<Incoming>, site: Site) -> Response<Full<Bytes>> {
        match (request.uri().path(), site) {
            ("/healthz/ready" | "/ready", _) => self.ready(),
            ("/config_dump", Site::Admin) => self.config_dump(request.uri().query()),
            ("/versions", Site::Admin) => as_json(&self.versions()),
            ("/certs", Site::Admin) => as_json(&self.certificates()),
            ("/endpoints", Site::Admin) => as_json(&self.endpoints()),
            ("/logging", Site::Admin) => self.logging(request),
            _ => text(StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
        }
    }

    /// What it lacks to serve requests; nothing if it is ready.
    fn lacks(&self) -> Option<&'static str> {
        let view = self.workload.views.load();
        let holds = |key: ResourceKey| view.get(&key).is_some();
        if self.workload.is_leaving() {
            Some("draining")
        } else if !holds(ResourceKey::Settings) {
            Some("no settings from the control plane")
        } else if self.workload.credentials.load().is_none() {
            Some("no certificate from the control plane")
        } else if self.kind == ProxyKind::Gateway && !holds(ResourceKey::Listeners) {
            Some("no listeners from the control plane")
        } else {
            None
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match self.lacks() {
            None => text(StatusCode::OK, "text/plain", "ready\n".to_owned()),
            Some(why) => {
                let why = format!("not ready: {why}\n");
                text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", why)
            }
        }
    }

    fn config_dump(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let view = self.workload.views.load();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        listeners.extend(self.workload.edge_ports.load().keys().map(|port| HeldListener {
            role: ListenerRole::Gateway(*port),
            address: (Ipv4Addr::UNSPECIFIED, *port).into(),
        }));
        let bytes_max = self.process.limits.dump_bytes_max;
        let dump = dump::write(&view, &listeners, &Parts::of_query(query), bytes_max);
        response(StatusCode::OK, "application/json", Full::from(dump))
    }

    fn versions(&self) -> Value {
        let view = self.workload.views.load();
        view.held()
            .map(|(key, held)| (key.to_string(), held.version.to_string()))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_iter()
            .map(|(key, version)| (key, Value::String(version)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Names, numbers and validity of what is proven and trusted; never a key.
    fn certificates(&self) -> Value {
        let credentials = self.workload.credentials.load();
        let certificates: Vec<Value> = credentials
            .iter()
            .map(|credentials| {
                json!({
                    "identity": credentials.identity().to_string(),
                    "serial": credentials.serial(),
                    "not_before": credentials.not_before().unix_seconds(),
                    "not_after": credentials.not_after().unix_seconds(),
                    "chain": credentials.chain().iter().map(|der| facts(der)).collect::<Vec<_>>(),
                    "trust_roots":
                        credentials.anchors().iter().map(|der| facts(der)).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({ "certificates": certificates })
    }

    fn endpoints(&self) -> Value {
        let view = self.workload.views.load();
        let mut endpoints = Vec::new();
        for (_, held) in view.held() {
            let Some(Resource::Endpoints(chunk)) = &held.resource else { continue };
            for endpoint in &chunk.endpoints {
                endpoints.push(json!({
                    "service": chunk.service.to_string(),
                    "workload": &*endpoint.workload.name,
                    "address": ironmesh_model::group::ip(endpoint).map(|ip| ip.to_string()),
                    "ports": endpoint
                        .ports
                        .iter()
                        .map(|map| json!({ "service": map.service, "target": map.target }))
                        .collect::<Vec<_>>(),
                    "ready": endpoint.ready,
                    "identity": endpoint.identity().map(ToString::to_string),
                }));
            }
        }
        json!({ "endpoints": endpoints })
    }

    fn logging(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let query = request.uri().query();
        let changed = match (request.method(), query) {
            (&Method::GET, None) => Ok(()),
            (&Method::POST | &Method::PUT, Some("reset")) => self.log_level.reset(),
            (&Method::POST | &Method::PUT, Some(query)) if query.starts_with("level=") => {
                self.log_level.set(query.trim_start_matches("level="))
            }
            _ => {
                let usage = "POST /logging?level=LEVEL, /logging?level=LOGGER:LEVEL,... or \
                             /logging?reset; or GET /logging\n";
                return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", usage.to_owned());
            }
        };
        if let Err(error) = changed {
            return text(StatusCode::BAD_REQUEST, "text/plain", format!("{error}\n"));
        }
        if let Some(query) = query {
            tracing::info!(query, "log level changed");
        }
        text(StatusCode::OK, "text/plain", self.log_level.show())
    }
}

/// A certificate, as it is told.
fn facts(der: &[u8]) -> Value {
    let pem = pem(der);
    match CertificateFacts::of(der) {
        Some(facts) => json!({
            "subject": facts.subject,
            "issuer": facts.issuer,
            "names": facts.names,
            "serial": facts.serial,
            "not_before": facts.not_before.unix_seconds(),
            "not_after": facts.not_after.unix_seconds(),
            "pem": pem,
        }),
        None => json!({ "pem": pem }),
    }
}

/// A certificate as programs read it (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

fn as_json(value: &Value) -> Response<Full<Bytes>> {
    text(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    response(status, content_type, Full::from(body))
}

fn response<B>(status: StatusCode, content_type: &'static str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let value = http::HeaderValue::from_static(content_type);
    response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    response
}

type Body = Either<Full<Bytes>, Metrics>;

/// The metrics, made as they are sent. All else that the control thread does has its turn after each
/// piece.
struct Metrics {
    page: Page,
    /// What follows the page.
    more: VecDeque<String>,
    rests: bool,
}

impl hyper::body::Body for Metrics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.rests = !self.rests;
        if self.rests {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let this = &mut *self;
        let piece = this.page.next().or_else(|| this.more.pop_front());
        Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}

/// Pause after an error that would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;
    use ironmesh_model::Reason;
    use ironmesh_telemetry::metrics::{Reporter, RequestProtocol, Security};
    use ironmesh_telemetry::{PartyId, RequestKey, RequestMeasures, ServiceLabelsId};

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_between_the_pieces_of_a_page() {
        let registry = Registry::new(1_000);
        let mut worker = registry.worker();
        for response_code in 200..600 {
            let key = RequestKey {
                reporter: Reporter::Source,
                source: PartyId::UNKNOWN,
                destination: PartyId::UNKNOWN,
                service: ServiceLabelsId::UNKNOWN,
                protocol: RequestProtocol::Http,
                response_code,
                grpc_status: None,
                reason: Reason::Route,
                security: Security::None,
            };
            worker.request(&key, RequestMeasures::default());
        }
        let turns = Arc::<AtomicUsize>::default();
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut body = Metrics { page: registry.page(), more: VecDeque::new(), rests: false };
        let (mut pieces, mut text) = (0, String::new());
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(turns.swap(0, Ordering::Relaxed) > 0, "before piece {pieces}");
            text.push_str(std::str::from_utf8(&piece).unwrap());
            pieces += 1;
        }
        other.abort();
        assert_eq!(text, registry.render());
        assert!(pieces > 100, "{pieces}");
    }
}
