//! A small `curl`, for machines that have none: plain HTTP/1.1, with the options, exit codes and
//! messages that workshops and scripts rely on.

mod options;
mod transfer;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use transfer::{Failure, Outcome};

/// Runs it; the exit code is curl's.
pub(crate) async fn run(arguments: &[String]) -> io::Result<ExitCode> {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(why) => {
            writeln!(io::stderr(), "curl: {why}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let mut code = 0;
    for url in &options.urls {
        let (outcome, error) = with_retries(&options, url).await;
        if let Some(format) = &options.write_out {
            let exit = error.as_ref().map_or(0, Failure::code);
            let mut out = io::stdout();
            out.write_all(write_out(format, &outcome, exit).as_bytes())?;
            out.flush()?;
        }
        if let Some(error) = error {
            code = error.code();
            if !options.silent || options.show_error {
                writeln!(io::stderr(), "curl: ({code}) {error}")?;
            }
        }
    }
    Ok(ExitCode::from(code))
}

/// Fetches one URL, retrying transient errors with curl's back-off: 1 s, doubled each time.
async fn with_retries(options: &Options, url: &str) -> (Outcome, Option<Failure>) {
    let mut pause = Duration::from_secs(1);
    let mut left = options.retries;
    loop {
        let (outcome, error) = transfer::run(options, url).await;
        let may_pass = match &error {
            Some(Failure::Timeout(_)) => true,
            Some(Failure::Connect(..)) => options.retry_refused,
            Some(_) => false,
            None => RETRIED_STATUSES.contains(&outcome.status),
        };
        if left == 0 || !may_pass {
            return (outcome, error);
        }
        left -= 1;
        tokio::time::sleep(options.retry_delay.unwrap_or(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Expands the `%{...}` variables of `-w`. An unknown variable is empty.
fn write_out(format: &str, outcome: &Outcome, exit: u8) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find(['%', '\\']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((name, after)) = rest.strip_prefix("%{").and_then(|r| r.split_once('}')) {
            text.push_str(&variable(name, outcome, exit));
            rest = after;
            continue;
        }
        let (symbol, length) = match rest.get(..2) {
            Some("\\n") => ("\n", 2),
            Some("\\t") => ("\t", 2),
            Some("\\r") => ("\r", 2),
            Some("%%") => ("%", 2),
            _ => (&rest[..1], 1),
        };
        text.push_str(symbol);
        rest = &rest[length..];
    }
    text.push_str(rest);
    text
}

fn variable(name: &str, outcome: &Outcome, exit: u8) -> String {
    match name {
        "http_code" | "response_code" => format!("{:03}", outcome.status),
        "http_version" => outcome.version.to_owned(),
        "size_download" => outcome.body_bytes.to_string(),
        "content_type" => outcome.content_type.clone(),
        "url_effective" => outcome.url.clone(),
        "remote_ip" => outcome.remote.map(|r| r.ip().to_string()).unwrap_or_default(),
        "remote_port" => outcome.remote.map(|r| r.port().to_string()).unwrap_or_default(),
        "num_redirects" => outcome.redirects.to_string(),
        "time_total" => format!("{:.6}", outcome.total.as_secs_f64()),
        "time_connect" => format!("{:.6}", outcome.connected.as_secs_f64()),
        "time_starttransfer" => format!("{:.6}", outcome.answered.as_secs_f64()),
        "exitcode" => exit.to_string(),
        _ => String::new(),
    }
}

/// Statuses that `--retry` treats as transient.
const RETRIED_STATUSES: [u16; 6] = [408, 429, 500, 502, 503, 504];
/// curl's longest back-off.
const PAUSE_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
