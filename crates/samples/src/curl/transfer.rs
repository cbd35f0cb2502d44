//! One transfer: from a URL to bytes on standard output.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::options::Options;

/// What is known about a transfer, complete or not.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) version: &'static str,
    pub(super) content_type: String,
    pub(super) url: String,
    pub(super) remote: Option<SocketAddr>,
    pub(super) redirects: u32,
    pub(super) body_bytes: u64,
    pub(super) connected: Duration,
    pub(super) answered: Duration,
    pub(super) total: Duration,
}

/// Why a transfer failed, in curl's words and with its exit codes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("Protocol \"{0}\" not supported")]
    Protocol(String),
    #[error("URL using bad/illegal format or missing URL: {0}")]
    Url(String),
    #[error("Could not resolve host: {0}")]
    Resolve(String),
    #[error("Failed to connect to {0} port {1}: {2}")]
    Connect(String, u16, io::Error),
    #[error("The requested URL returned error: {0}")]
    Status(u16),
    #[error("Failed writing body: {0}")]
    Write(#[from] io::Error),
    #[error("Operation timed out after {} milliseconds", .0.as_millis())]
    Timeout(Duration),
    #[error("Maximum ({REDIRECTS_MAX}) redirects followed")]
    Redirects,
    #[error("Empty reply from server")]
    Empty,
    #[error("Recv failure: {0}")]
    Receive(hyper::Error),
}

impl Failure {
    /// curl's exit code for it.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Protocol(_) => 1,
            Self::Url(_) => 3,
            Self::Resolve(_) => 6,
            Self::Connect(..) => 7,
            Self::Status(_) => 22,
            Self::Write(_) => 23,
            Self::Timeout(_) => 28,
            Self::Redirects => 47,
            Self::Empty => 52,
            Self::Receive(_) => 56,
        }
    }
}

/// Fetches one URL, redirects included, within `-m`.
pub(super) async fn run(options: &Options, url: &str) -> (Outcome, Option<Failure>) {
    let mut outcome = Outcome::default();
    let started = Instant::now();
    let fetching = fetch(options, url, started, &mut outcome);
    let result = match options.time_max {
        Some(limit) => {
            let timed = tokio::time::timeout(limit, fetching).await;
            timed.unwrap_or_else(|_| Err(Failure::Timeout(limit)))
        }
        None => fetching.await,
    };
    outcome.total = started.elapsed();
    (outcome, result.err())
}

async fn fetch(
    options: &Options,
    url: &str,
    started: Instant,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut url = parse(url)?;
    loop {
        outcome.url = url.to_string();
        let response = exchange(options, &url, started, outcome).await?;
        let status = response.status();
        outcome.status = status.as_u16();
        outcome.answered = started.elapsed();
        outcome.version = if response.version() == http::Version::HTTP_10 { "1.0" } else { "1.1" };
        let field = |name| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        outcome.content_type = field(CONTENT_TYPE).unwrap_or_default();
        let onward = field(LOCATION).filter(|_| options.follow && status.is_redirection());
        if let Some(location) = onward {
            outcome.redirects += 1;
            if outcome.redirects > REDIRECTS_MAX {
                return Err(Failure::Redirects);
            }
            url = resolve_reference(&url, &location)?;
            continue;
        }
        if options.fail && status.as_u16() >= 400 {
            return Err(Failure::Status(status.as_u16()));
        }
        return write_answer(options, response, outcome).await;
    }
}

/// Connects, sends the request, and reads the head of the response.
async fn exchange(
    options: &Options,
    url: &Uri,
    started: Instant,
    outcome: &mut Outcome,
) -> Result<Response<Incoming>, Failure> {
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(80);
    let proxy = match &options.proxy {
        Some(proxy) => Some(parse(proxy)?),
        None => None,
    };
    let (dial_host, dial_port) = match &proxy {
        Some(proxy) => (proxy.host().unwrap_or_default(), proxy.port_u16().unwrap_or(1080)),
        None => (host, port),
    };
    let connecting = connect(options, dial_host, dial_port);
    let stream = match options.connect_max {
        Some(limit) => tokio::time::timeout(limit, connecting)
            .await
            .unwrap_or_else(|_| Err(Failure::Timeout(limit)))?,
        None => connecting.await?,
    };
    outcome.remote = stream.peer_addr().ok();
    outcome.connected = started.elapsed();
    let request = request(options, url, proxy.is_some())?;
    if options.verbose {
        show_request(&request, dial_host, outcome.remote)?;
    }
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::Receive)?;
    // Its sender reports how it ends.
    tokio::spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await;
    response.map_err(|error| {
        if error.is_incomplete_message() { Failure::Empty } else { Failure::Receive(error) }
    })
}

async fn connect(options: &Options, host: &str, port: u16) -> Result<TcpStream, Failure> {
    let pinned = options.resolve.iter().find_map(|entry| {
        let (entry_host, rest) = entry.split_once(':')?;
        let (entry_port, address) = rest.split_once(':')?;
        (entry_host == host && entry_port.parse() == Ok(port)).then(|| address.to_owned())
    });
    let name = pinned.as_deref().unwrap_or(host).trim_matches(['[', ']']);
    let addresses = tokio::net::lookup_host((name, port))
        .await
        .map_err(|_| Failure::Resolve(host.to_owned()))?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(Failure::Connect(host.to_owned(), port, last))
}

fn request(options: &Options, url: &Uri, absolute: bool) -> Result<Request<Full<Bytes>>, Failure> {
    let illegal = || Failure::Url(url.to_string());
    let mut target = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut data = options.data.clone();
    if options.data_in_query
        && let Some(data) = data.take()
    {
        target = format!("{target}{}{data}", if target.contains('?') { '&' } else { '?' });
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if absolute {
        target = format!("http://{authority}{target}");
    }
    let method = match &options.method {
        Some(method) => Method::from_bytes(method.as_bytes()).map_err(|_| illegal())?,
        None if options.head_only => Method::HEAD,
        None if data.is_some() => Method::POST,
        None => Method::GET,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", authority)
        .header("user-agent", "curl/8.0.0 (ironmesh-samples)")
        .header("accept", "*/*")
        .body(Full::from(data.clone().unwrap_or_default()))
        .map_err(|_| illegal())?;
    let headers = request.headers_mut();
    if data.is_some() {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
    }
    let mut given: Vec<HeaderName> = Vec::new();
    for line in &options.headers {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name: HeaderName = name.trim().parse().map_err(|_| illegal())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| illegal())?;
        if !given.contains(&name) {
            headers.remove(&name);
            given.push(name.clone());
        }
        if !value.is_empty() {
            headers.append(name, value);
        }
    }
    Ok(request)
}

async fn write_answer(
    options: &Options,
    response: Response<Incoming>,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let mut out: Box<dyn Write> = match options.output.as_deref() {
        None | Some("-") => Box::new(io::stdout()),
        Some(path) => Box::new(File::create(path)?),
    };
    let (head, mut body) = response.into_parts();
    if options.verbose || options.show_head {
        let reason = head.status.canonical_reason().unwrap_or_default();
        let mut text = format!("HTTP/{} {} {reason}\r\n", outcome.version, head.status.as_u16());
        for (name, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        if options.verbose {
            for line in text.lines() {
                writeln!(io::stderr(), "< {line}")?;
            }
        }
        if options.show_head {
            out.write_all(text.as_bytes())?;
        }
    }
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(Failure::Receive)?.into_data() {
            outcome.body_bytes += data.len() as u64;
            out.write_all(&data)?;
        }
    }
    Ok(out.flush()?)
}

fn show_request(
    request: &Request<Full<Bytes>>,
    host: &str,
    remote: Option<SocketAddr>,
) -> io::Result<()> {
    let mut err = io::stderr();
    if let Some(remote) = remote {
        writeln!(err, "* Connected to {host} ({}) port {}", remote.ip(), remote.port())?;
    }
    writeln!(err, "> {} {} HTTP/1.1", request.method(), request.uri())?;
    for (name, value) in request.headers() {
        writeln!(err, "> {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
    }
    writeln!(err, "> ")
}

/// A URL; without a scheme it is `http`, as with curl.
fn parse(url: &str) -> Result<Uri, Failure> {
    let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    // A URI of the http crate needs a path; `host?query` has none.
    let (scheme, rest) = whole.split_once("://").unwrap_or(("http", &whole));
    let rest = match rest.find(['/', '?', '#']) {
        Some(at) if rest.as_bytes()[at] != b'/' => format!("{}/{}", &rest[..at], &rest[at..]),
        _ => rest.to_owned(),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    if scheme != "http" {
        return Err(Failure::Protocol(scheme.to_owned()));
    }
    let uri: Uri = format!("http://{rest}").parse().map_err(|_| Failure::Url(url.to_owned()))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(Failure::Url(url.to_owned()));
    }
    Ok(uri)
}

/// The target of a redirect.
fn resolve_reference(from: &Uri, to: &str) -> Result<Uri, Failure> {
    if to.contains("://") {
        return parse(to);
    }
    let authority = from.authority().map_or("", |authority| authority.as_str());
    if to.starts_with('/') {
        return parse(&format!("http://{authority}{to}"));
    }
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    parse(&format!("http://{authority}{folder}/{to}"))
}

/// curl's limit.
const REDIRECTS_MAX: u32 = 50;
