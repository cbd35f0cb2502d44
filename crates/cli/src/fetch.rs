//! Manifests by URL: `-f https://...`.
//!
//! By plain HTTP only from this machine's own loopback: whoever could change what comes would change
//! the mesh. Certificates are checked against the machine's store, and proxies of the environment
//! (`HTTPS_PROXY`) are used, as by other programs of the user.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Response, Url};

/// Whether a word of the command line is a URL.
pub(crate) fn is_url(word: &str) -> bool {
    let scheme = word.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

/// Reads what is at a URL; blocks.
///
/// # Errors
///
/// If it cannot be had in time, is too long, or is no manifest but a page for browsers.
pub(crate) fn fetch(url: &str) -> anyhow::Result<Vec<u8>> {
    let asked = Url::parse(url).with_context(|| format!("{url:?} is no URL"))?;
    check(&asked)?;
    // The caller may be a task of a runtime, in which no other can be waited for.
    let thread = std::thread::spawn(move || {
        crate::runtime()?.block_on(async {
            let read = tokio::time::timeout(TIME_MAX, read(asked));
            read.await.map_err(|_| anyhow!("not read within {} s", TIME_MAX.as_secs()))?
        })
    });
    let read = thread.join().map_err(|_| anyhow!("the reader failed"))?;
    read.with_context(|| format!("unable to read URL {url:?}"))
}

async fn read(url: Url) -> anyhow::Result<Vec<u8>> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("ironmesh/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIME_MAX)
        .redirect(Policy::custom(follow))
        .build()?;
    let mut response = client.get(url).send().await.map_err(without_url)?;
    let status = response.status();
    ensure!(status.is_success(), "server reported {status}");
    ensure!(!is_page(&response), NO_PAGE);
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(without_url)? {
        ensure!(bytes.len() + chunk.len() <= BYTES_MAX, "longer than {} MiB", BYTES_MAX >> 20);
        bytes.extend_from_slice(&chunk);
    }
    let begin = bytes.trim_ascii_start();
    let begin = begin.get(..PAGE.len()).unwrap_or(begin).to_ascii_lowercase();
    ensure!(begin != PAGE && !begin.starts_with(b"<html"), NO_PAGE);
    Ok(bytes)
}

/// The error without the URL, which the caller names.
fn without_url(error: reqwest::Error) -> reqwest::Error {
    error.without_url()
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error(format!("more than {REDIRECTS_MAX} redirects"));
    }
    let before_is_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    match check(attempt.url()) {
        // What a server elsewhere says does not make this machine ask itself.
        Ok(()) if before_is_secure && attempt.url().scheme() != "https" => {
            attempt.error("it redirects from https to http")
        }
        Ok(()) => attempt.follow(),
        Err(error) => attempt.error(error.to_string()),
    }
}

fn check(url: &Url) -> anyhow::Result<()> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        "http" => bail!(
            "{url}: plain http is read from this machine alone, as anybody on the way could change \
             it; use https"
        ),
        scheme => bail!("{url}: {scheme} is not read; use https"),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn is_page(response: &Response) -> bool {
    let content_type = response.headers().get(reqwest::header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/html"))
}

/// How pages for browsers begin.
const PAGE: &[u8] = b"<!doctype html";
const NO_PAGE: &str = "it is a web page, no manifest; of GitHub take the address of the raw file \
                       (raw.githubusercontent.com)";
/// Time until all has been read.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Time until the server has been reached.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of the longest manifest by URL.
const BYTES_MAX: usize = 16 << 20;
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        let allowed = |url: &str| check(&Url::parse(url).unwrap()).is_ok();
        for good in [
            "https://a.example/x",
            "http://127.0.0.1:8080/x",
            "http://localhost/x",
            "http://[::1]/x",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "http://a.example/x",
            "http://10.0.0.1/",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "ftp://127.0.0.1/",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn words_that_are_urls() {
        assert!(is_url("https://a/b.yaml") && is_url("HTTP://a"));
        assert!(!is_url("a.yaml") && !is_url("./http/a") && !is_url("ftp://a"));
    }
}
