//! `fortio server`: tells back what it gets.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};

use crate::server::{self, App};
use crate::{answer, form};

/// The application: any path gives the body back, with `?status=CODE` and after `?delay=SECONDS`;
/// `/debug` tells the request.
#[derive(Debug)]
struct Echo;

/// Serves it on `-http-port`, by default 8080. The original's other servers (gRPC on 8079, its
/// pages) are not part of it.
pub(super) async fn run(arguments: &[String]) -> io::Result<ExitCode> {
    let mut port = 8080;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let flag = word.trim_start_matches('-');
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, words.next().map(String::as_str)),
        };
        if name == "http-port" {
            let value = value.unwrap_or_default();
            let number = value.rsplit(':').next().unwrap_or(value);
            port = number
                .parse()
                .map_err(|_| io::Error::other(format!("-http-port: {value:?} is no port")))?;
        }
    }
    server::run(port, Echo).await?;
    Ok(ExitCode::SUCCESS)
}

impl App for Echo {
    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        if let Some(delay) = form::field(&query, "delay") {
            let seconds = delay.trim_end_matches('s').parse().ok().filter(|s| *s <= DELAY_MAX);
            let Some(seconds) = seconds else {
                return answer::text(StatusCode::BAD_REQUEST, "delay is not in seconds\n");
            };
            tokio::time::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default()).await;
        }
        let status = form::field(&query, "status").and_then(|status| status.parse().ok());
        let status = status.filter(|s| *s >= 200).and_then(|s| StatusCode::from_u16(s).ok());
        let status = status.unwrap_or(StatusCode::OK);
        if request.uri().path().starts_with("/debug") {
            let mut text =
                format!("{} {} HTTP/1.1\n\nheaders:\n\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                let value = String::from_utf8_lossy(value.as_bytes());
                text.push_str(&format!("{name}: {value}\n"));
            }
            return answer::text(status, text);
        }
        answer::text(status, request.into_body())
    }
}

/// Longest delay, in seconds.
const DELAY_MAX: f64 = 60.0;
