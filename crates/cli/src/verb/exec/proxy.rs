//! Commands that people run in the container of a sidecar to ask its admin API. The proxy has no programs
//! beside it; what such a command asks, the proxy is asked.

use anyhow::{Context as _, bail};
use http::Method;
use ironmesh_model::bootstrap::ADMIN_PORT;

/// What the admin API is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    method: Method,
    path: String,
}

impl Asked {
    /// Reads `pilot-agent request METHOD PATH` or `curl URL`; `None`: it is another command.
    pub(super) fn of(command: &[String]) -> Option<anyhow::Result<Self>> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["pilot-agent" | "/usr/local/bin/pilot-agent", "request", rest @ ..] => {
                Some(Self::of_request(rest))
            }
            ["curl", rest @ ..] => Self::of_curl(rest),
            _ => None,
        }
    }

    pub(super) fn into_parts(self) -> (Method, String) {
        (self.method, self.path)
    }

    fn of_request(words: &[&str]) -> anyhow::Result<Self> {
        let mut words = words.iter().copied();
        let mut named = Vec::new();
        while let Some(word) = words.next() {
            match word {
                "--debug-port" => drop(words.next()),
                _ if word.starts_with("--debug-port=") => {}
                _ if word.starts_with('-') => bail!("pilot-agent request has no flag {word}"),
                _ => named.push(word),
            }
        }
        match named.as_slice() {
            [method, path] => Self::new(method, path),
            _ => bail!("usage: pilot-agent request METHOD PATH, such as GET stats"),
        }
    }

    /// A URL on the port of the admin API; curl's other flags change nothing that is seen here.
    fn of_curl(words: &[&str]) -> Option<anyhow::Result<Self>> {
        let (mut method, mut path) = ("GET", None);
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word {
                "-X" | "--request" => method = words.next()?,
                _ if word.starts_with("-X") => method = &word[2..],
                _ if word.starts_with('-') => {}
                _ => path = Some(admin_path(word)?),
            }
        }
        Some(Self::new(method, path?))
    }

    fn new(method: &str, path: &str) -> anyhow::Result<Self> {
        let method = method.to_ascii_uppercase().parse();
        let method = method.context("the first word is the method, such as GET")?;
        Ok(Self { method, path: format!("/{}", path.trim_start_matches('/')) })
    }
}

/// The path of a URL that names the admin API of the pod.
fn admin_path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = authority.rsplit_once(':')?;
    let is_own = matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0" | "0" | "[::1]");
    (is_own && port.parse() == Ok(ADMIN_PORT)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(command: &str) -> Option<String> {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let asked = Asked::of(&words)?.ok()?;
        Some(format!("{} {}", asked.method, asked.path))
    }

    #[test]
    fn what_people_ask_a_sidecar_is_understood() {
        for (command, expected) in [
            ("pilot-agent request GET stats", "GET /stats"),
            ("pilot-agent request get /stats?filter=x", "GET /stats?filter=x"),
            (
                "pilot-agent request --debug-port 15000 POST logging?level=debug",
                "POST /logging?level=debug",
            ),
            ("curl localhost:15000/stats", "GET /stats"),
            ("curl -sS http://127.0.0.1:15000/stats/prometheus", "GET /stats/prometheus"),
            ("curl -s -X POST localhost:15000/logging?level=info", "POST /logging?level=info"),
            ("curl -XPOST http://localhost:15000/logging?reset", "POST /logging?reset"),
            ("curl localhost:15000", "GET /"),
        ] {
            assert_eq!(asked(command).as_deref(), Some(expected), "{command}");
        }
    }

    /// They are run where they can be, and fail there as they would.
    #[test]
    fn other_commands_are_left_alone() {
        for command in [
            "ls",
            "curl http://reviews:9080/",
            "curl localhost:15020/x",
            "pilot-agent wait",
            "sh -c curl",
        ] {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert!(Asked::of(&words).is_none(), "{command}");
        }
        for bad in
            ["pilot-agent request", "pilot-agent request GET", "pilot-agent request --x GET stats"]
        {
            let words: Vec<String> = bad.split(' ').map(str::to_owned).collect();
            assert!(Asked::of(&words).unwrap().is_err(), "{bad}");
        }
    }
}
