//! `podinfo`: tells where it runs, in which version and colour.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Client;
use crate::server::{self, App};
use crate::{answer, form, headers};

/// The application. `/` (JSON, or a page for browsers), `/version`, `/healthz`, `/readyz`,
/// `/status/{code}`, `/delay/{seconds}`, `/headers`, `/env`, `POST /echo`, `/metrics`;
/// `POST /readyz/enable` and `/readyz/disable`.
#[derive(Debug)]
struct PodInfo {
    version: String,
    hostname: String,
    color: String,
    message: String,
    /// Where `/echo` sends what it gets, as URLs; nowhere: back.
    backends: Vec<String>,
    client: Client,
    is_ready: AtomicBool,
    requests: AtomicU64,
}

/// Serves it. The first argument is the version; options are the original's `--port`,
/// `--port-metrics`, `--ui-color`, `--ui-message` and `--backend-url`, each also as a variable such as
/// `PODINFO_UI_COLOR`. Others are ignored. Behind the version, `check http|tcp ADDRESS` is the image's
/// other program, `podcli`: it asks, and fails where there is no answer.
pub(crate) async fn run(arguments: &[String]) -> io::Result<()> {
    let version = arguments.first().map_or("latest", String::as_str);
    if let [_, check, kind, address, ..] = arguments
        && check == "check"
    {
        return self::check(kind, address).await;
    }
    let option = |name: &str| option(arguments, name, |variable| env::var(variable).ok());
    let port = |name: &str| match option(name) {
        Some(port) => {
            port.parse().map(Some).map_err(|_| io::Error::other(format!("{port:?} is no port")))
        }
        None => Ok(None),
    };
    let (own, metrics) = (port("port")?.unwrap_or(9898), port("port-metrics")?);
    let backends = option("backend-url").unwrap_or_default();
    let app = PodInfo {
        hostname: server::hostname()?,
        color: option("ui-color").unwrap_or_else(|| "blue".to_owned()),
        message: option("ui-message")
            .unwrap_or_else(|| format!("greetings from podinfo v{version}")),
        version: version.to_owned(),
        backends: backends.split([',', ' ']).filter(|b| !b.is_empty()).map(str::to_owned).collect(),
        client: Client::default(),
        is_ready: AtomicBool::new(true),
        requests: AtomicU64::new(0),
    };
    server::run_at(std::iter::once(own).chain(metrics.filter(|port| *port != own)), app).await
}

/// What `podcli check` does.
async fn check(kind: &str, address: &str) -> io::Result<()> {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let (server, path) = match address.split_once('/') {
        Some((server, path)) => (server, format!("/{path}")),
        None => (address, "/".to_owned()),
    };
    match kind {
        "tcp" => timeout(CHECK_TIMEOUT, TcpStream::connect(server)).await?.map(drop),
        "http" => {
            let (client, headers) = (Client::default(), HeaderMap::new());
            let answer = client.get(server, &path, &headers, CHECK_TIMEOUT).await;
            let status = answer.map_err(io::Error::other)?.status;
            match status.is_success() {
                true => Ok(()),
                false => Err(io::Error::other(format!("{address} answers {status}"))),
            }
        }
        other => Err(io::Error::other(format!("{other:?} cannot be checked: http or tcp can"))),
    }
}

/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The value of `--name=VALUE`, `--name VALUE`, or `PODINFO_NAME`.
fn option(
    arguments: &[String],
    name: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(rest) = word.trim_start_matches('-').strip_prefix(name) else { continue };
        match rest.strip_prefix('=') {
            Some(value) => return Some(value.to_owned()),
            None if rest.is_empty() => return words.next().cloned(),
            None => {}
        }
    }
    variable(&format!("PODINFO_{}", name.to_uppercase().replace('-', "_")))
}

impl App for PodInfo {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path();
        if let Some(code) = path.strip_prefix("/status/") {
            return status(code);
        }
        if let Some(seconds) = path.strip_prefix("/delay/") {
            return delay(seconds).await;
        }
        match (request.method(), path) {
            (&Method::POST, "/echo" | "/api/echo") => self.echo(&request).await,
            (&Method::POST, "/readyz/enable") => self.set_ready(true),
            (&Method::POST, "/readyz/disable") => self.set_ready(false),
            (&Method::GET, "/") => self.index(request.headers()),
            (&Method::GET, "/version") => {
                document(&json!({ "version": self.version, "commit": REVISION }))
            }
            (&Method::GET, "/healthz") => document(&json!({ "status": "OK" })),
            (&Method::GET, "/readyz") if self.is_ready.load(Ordering::Relaxed) => {
                document(&json!({ "status": "OK" }))
            }
            (&Method::GET, "/readyz") => {
                let mut answer = document(&json!({ "status": "not ready" }));
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                answer
            }
            (&Method::GET, "/headers") => document(&all_headers(request.headers())),
            (&Method::GET, "/env") => {
                let variables = env::vars_os().map(|(name, value)| {
                    format!("{}={}", name.to_string_lossy(), value.to_string_lossy())
                });
                document(&variables.collect())
            }
            (&Method::GET, "/metrics") => {
                let requests = self.requests.load(Ordering::Relaxed);
                answer::text(
                    StatusCode::OK,
                    format!("# TYPE http_requests_total counter\nhttp_requests_total {requests}\n"),
                )
            }
            (&Method::GET, _) => answer::not_found(),
            _ => answer::method_not_allowed(),
        }
    }
}

impl PodInfo {
    fn index(&self, headers: &HeaderMap) -> Response<Bytes> {
        let Self { version, hostname, color, message, .. } = self;
        let agent = headers.get(USER_AGENT).map(|agent| agent.as_bytes());
        if agent.is_some_and(|agent| agent.starts_with(b"Mozilla")) {
            let [version, hostname, color, message] =
                [version, hostname, color, message].map(|text| form::html(text));
            return answer::html(format!(
                "<!DOCTYPE html>\n<title>{hostname}</title>\n<body style=\"background:{color};\
                 color:white;font-family:sans-serif;text-align:center\">\n<h1>{message}</h1>\n\
                 <p>Served by {hostname}, version {version}</p>\n</body>\n"
            ));
        }
        document(&json!({
            "hostname": hostname,
            "version": version,
            "revision": REVISION,
            "color": color,
            "message": message,
            "goos": env::consts::OS,
            "goarch": match env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
            "runtime": "ironmesh-samples",
        }))
    }

    fn set_ready(&self, is_ready: bool) -> Response<Bytes> {
        self.is_ready.store(is_ready, Ordering::Relaxed);
        answer::text(StatusCode::ACCEPTED, "")
    }

    /// What came, or what every backend answers to it.
    async fn echo(&self, request: &Request<Bytes>) -> Response<Bytes> {
        if self.backends.is_empty() {
            return answer::text(StatusCode::ACCEPTED, request.body().clone());
        }
        let mut answers = Vec::new();
        for backend in &self.backends {
            let url = backend.strip_prefix("http://").unwrap_or(backend);
            let (server, path) = url.split_at(url.find('/').unwrap_or(url.len()));
            let mut call = Request::new(request.body().clone());
            *call.method_mut() = Method::POST;
            *call.headers_mut() = headers::propagated(request.headers());
            let path = if path.is_empty() { "/" } else { path };
            let Ok(uri) = path.parse() else {
                answers.push(json!(format!("{backend} is no URL")));
                continue;
            };
            *call.uri_mut() = uri;
            answers.push(match self.client.send(server, call, BACKEND_TIMEOUT).await {
                Ok(answer) => json!(String::from_utf8_lossy(&answer.body)),
                Err(error) => json!(format!("backend {backend}: {error}")),
            });
        }
        document(&Value::Array(answers))
    }
}

fn status(code: &str) -> Response<Bytes> {
    let code = code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
    match code.filter(|code| code.as_u16() >= 200) {
        Some(code) => {
            let mut answer = document(&json!({ "status": code.as_u16() }));
            *answer.status_mut() = code;
            answer
        }
        None => answer::text(StatusCode::BAD_REQUEST, "invalid status code\n"),
    }
}

async fn delay(seconds: &str) -> Response<Bytes> {
    match seconds.parse::<u64>() {
        Ok(seconds) if seconds <= DELAY_SECONDS_MAX => {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            document(&json!({ "delay": seconds }))
        }
        _ => answer::text(StatusCode::BAD_REQUEST, "invalid delay\n"),
    }
}

fn all_headers(headers: &HeaderMap) -> Value {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        all.entry(name.as_str()).or_default().push(value);
    }
    json!(all)
}

/// JSON in the original's layout.
fn document(value: &Value) -> Response<Bytes> {
    answer::with_type(StatusCode::OK, "application/json; charset=utf-8", format!("{value:#}"))
}

/// What stands for the commit that the original was built from.
const REVISION: &str = "ironmesh";
const BACKEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait of `/delay`, in seconds.
const DELAY_SECONDS_MAX: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::{body, get, request, start};

    fn app() -> PodInfo {
        PodInfo {
            version: "1.7.1".to_owned(),
            hostname: "podinfo-green-1".to_owned(),
            color: "blue".to_owned(),
            message: "hello <there>".to_owned(),
            backends: Vec::new(),
            client: Client::default(),
            is_ready: AtomicBool::new(true),
            requests: AtomicU64::new(0),
        }
    }

    #[tokio::test]
    async fn programs_get_json_and_browsers_a_page() {
        let app = app();
        let value: Value = serde_json::from_str(body(&app.answer(get("/")).await)).unwrap();
        assert_eq!(value["version"], "1.7.1");
        assert_eq!(
            (&value["color"], &value["hostname"]),
            (&json!("blue"), &json!("podinfo-green-1"))
        );
        let mut browser = get("/");
        browser.headers_mut().insert(USER_AGENT, "Mozilla/5.0".parse().unwrap());
        let page = app.answer(browser).await;
        assert!(body(&page).contains("<h1>hello &lt;there&gt;</h1>"), "{}", body(&page));
        let version = app.answer(get("/version")).await;
        assert!(body(&version).contains("\"version\": \"1.7.1\""), "{}", body(&version));
    }

    #[tokio::test]
    async fn statuses() {
        let app = app();
        for (path, status) in [
            ("/healthz", 200),
            ("/readyz", 200),
            ("/status/503", 503),
            ("/status/100", 400),
            ("/status/x", 400),
            ("/delay/0", 200),
            ("/delay/100000", 400),
            ("/env", 200),
            ("/headers", 200),
            ("/metrics", 200),
            ("/version/x", 404),
        ] {
            assert_eq!(app.answer(get(path)).await.status(), status, "{path}");
        }
        app.answer(request("POST", "/readyz/disable", "")).await;
        assert_eq!(app.answer(get("/readyz")).await.status(), 503);
    }

    #[tokio::test]
    async fn echo_goes_back_or_to_the_backends() {
        let alone = app().answer(request("POST", "/echo", "hi")).await;
        assert_eq!((alone.status().as_u16(), body(&alone)), (202, "hi"));
        let backend = format!("http://{}/echo", start(app()).await);
        let app = PodInfo { backends: vec![backend], ..app() };
        let answer = app.answer(request("POST", "/echo", "hi")).await;
        let value: Value = serde_json::from_str(body(&answer)).unwrap();
        assert_eq!(value, json!(["hi"]));
    }

    #[test]
    fn options_in_both_forms_and_from_the_environment() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let none = |_: &str| None;
        assert_eq!(option(&words("1.7.0 --port=81"), "port", none).as_deref(), Some("81"));
        assert_eq!(option(&words("1.7.0 --port 81"), "port", none).as_deref(), Some("81"));
        assert_eq!(option(&words("1.7.0 --port-metrics=1"), "port", none), None);
        let variable = |name: &str| (name == "PODINFO_UI_COLOR").then(|| "green".to_owned());
        assert_eq!(option(&[], "ui-color", variable).as_deref(), Some("green"));
    }
}
