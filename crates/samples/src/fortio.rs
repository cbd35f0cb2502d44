//! `fortio`: a load generator over plain HTTP/1.1, with the flags and the summary of the original
//! that workshops and scripts read, and its echo server.

mod options;
mod report;
mod server;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use options::Options;

/// Runs `curl`, `load` or `server`.
pub(crate) async fn run(arguments: &[String]) -> io::Result<ExitCode> {
    let (verb, rest) = match arguments.split_first() {
        Some((verb, rest)) => (verb.as_str(), rest),
        None => ("server", arguments),
    };
    match verb {
        "curl" => curl(rest).await,
        "load" => {
            let options = Options::parse(rest).map_err(io::Error::other)?;
            if options.curl { curl(rest).await } else { load(options).await }
        }
        "server" => server::run(rest).await,
        other => Err(io::Error::other(format!(
            "fortio {other} is not part of this program; there are curl, load and server"
        ))),
    }
}

/// One call, whose response goes to standard output, its head included.
async fn curl(arguments: &[String]) -> io::Result<ExitCode> {
    let options = Options::parse(arguments).map_err(io::Error::other)?;
    let mut caller = Caller::new(Arc::new(options));
    let answer = caller.call().await;
    let mut out = io::stdout();
    match &answer.head {
        Some(head) => {
            out.write_all(head.as_bytes())?;
            out.write_all(&answer.body)?;
            out.flush()?;
            let is_fine = (200..400).contains(&answer.code);
            Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        None => Err(io::Error::other(answer.error.unwrap_or_default())),
    }
}

/// Calls as often and from as many threads as it is asked to, and reports.
async fn load(options: Options) -> io::Result<ExitCode> {
    let options = Arc::new(options);
    if !options.quiet {
        report::begin(&options)?;
    }
    if !options.allow_initial_errors {
        let first = Caller::new(Arc::clone(&options)).call().await;
        if !(200..400).contains(&first.code) {
            let why = first.error.unwrap_or_else(|| format!("code {}", first.code));
            return Err(io::Error::other(format!("aborted, as the first call failed: {why}")));
        }
    }
    let began = Instant::now();
    let left = Arc::new(AtomicU64::new(options.calls.unwrap_or(u64::MAX)));
    let mut threads = JoinSet::new();
    for number in 0..options.threads {
        let (options, left) = (Arc::clone(&options), Arc::clone(&left));
        threads.spawn(async move { thread(options, left, began, number).await });
    }
    let mut tally = Tally::default();
    while let Some(thread) = threads.join_next().await {
        tally.add(thread.map_err(io::Error::other)?);
    }
    report::end(&options, &tally, began.elapsed())?;
    Ok(ExitCode::SUCCESS)
}

/// What the calls came to.
#[derive(Debug, Default)]
struct Tally {
    /// Seconds that each took.
    times: Vec<f64>,
    /// Calls by status; -1 where there was no response.
    codes: BTreeMap<i32, u64>,
    sockets: u64,
    head_bytes: Vec<f64>,
    all_bytes: Vec<f64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        for (code, count) in other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.sockets += other.sockets;
        self.head_bytes.extend(other.head_bytes);
        self.all_bytes.extend(other.all_bytes);
    }
}

/// One of the callers of a load: on its own connection, at its part of the rate.
async fn thread(options: Arc<Options>, left: Arc<AtomicU64>, began: Instant, number: u32) -> Tally {
    let mut tally = Tally::default();
    let pace = options.pace();
    let mut caller = Caller::new(Arc::clone(&options));
    for turn in 0_u64.. {
        if let Some(pace) = pace {
            // Threads are apart by their part of the interval.
            let offset = pace.mul_f64(f64::from(number) / f64::from(options.threads));
            sleep_until(began + offset + pace.mul_f64(turn as f64)).await;
        }
        let is_over = options.calls.is_none() && began.elapsed() >= options.duration;
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if is_over || taken.is_err() || tally.times.len() >= TIMES_MAX {
            break;
        }
        let started = Instant::now();
        let answer = caller.call().await;
        tally.times.push(started.elapsed().as_secs_f64());
        *tally.codes.entry(answer.code).or_default() += 1;
        let head = answer.head.map_or(0, |head| head.len());
        // The original counts the heads of what went well alone.
        tally.head_bytes.push(if answer.code == 200 { head as f64 } else { 0.0 });
        tally.all_bytes.push((head + answer.body.len()) as f64);
        if answer.code != 200 && options.logs_warnings {
            // If standard error is gone there is nowhere to report it.
            let _ = writeln!(io::stderr(), "[W] non ok code {}", answer.code);
        }
    }
    tally.sockets = caller.sockets;
    tally
}

/// A response, or why there is none.
#[derive(Debug)]
struct Answer {
    /// -1 where there is none.
    code: i32,
    head: Option<String>,
    body: Bytes,
    error: Option<String>,
}

/// Calls one URL over a connection that is kept.
struct Caller {
    options: Arc<Options>,
    sender: Option<SendRequest<Full<Bytes>>>,
    sockets: u64,
}

impl Caller {
    fn new(options: Arc<Options>) -> Self {
        Self { options, sender: None, sockets: 0 }
    }

    async fn call(&mut self) -> Answer {
        let failed =
            |error: String| Answer { code: -1, head: None, body: Bytes::new(), error: Some(error) };
        let limit = self.options.timeout;
        match timeout(limit, self.exchange()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.sender = None;
                failed(error.to_string())
            }
            Err(_) => {
                self.sender = None;
                failed(format!("no answer within {limit:?}"))
            }
        }
    }

    async fn exchange(&mut self) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let kept = self.sender.take().filter(|sender| self.options.keeps && !sender.is_closed());
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(&self.options.server).await?;
                // If this fails, small requests are merely slower.
                let _ = stream.set_nodelay(true);
                self.sockets += 1;
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                // Its sender reports how it ends.
                tokio::spawn(async move { drop(connection.await) });
                sender
            }
        };
        sender.ready().await?;
        let response = sender.send_request(self.request()?).await?;
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
        let mut text = format!(
            "HTTP/1.1 {} {}\r\n",
            head.status.as_u16(),
            head.status.canonical_reason().unwrap_or_default()
        );
        for (name, value) in &head.headers {
            text.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
        }
        text.push_str("\r\n");
        self.sender = Some(sender);
        Ok(Answer { code: head.status.as_u16().into(), head: Some(text), body, error: None })
    }

    fn request(&self) -> http::Result<Request<Full<Bytes>>> {
        let options = &self.options;
        let mut request = Request::builder().method(options.method.as_str()).uri(&options.path);
        let given = |name: &str| options.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !given("host") {
            request = request.header("host", &options.authority);
        }
        if !given("user-agent") {
            request = request.header("user-agent", "fortio.org/fortio (ironmesh-samples)");
        }
        if !options.keeps {
            request = request.header("connection", "close");
        }
        for (name, value) in &options.headers {
            request = request.header(name, value);
        }
        request.body(Full::from(options.payload.clone()))
    }
}

/// How long a call may take unless `-timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of a response's body.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Calls of one thread.
const TIMES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests;
