//! A small client: one request per connection, the whole response.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// A response.
pub(super) struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers by lower-case name, in order.
    pub headers: Vec<(String, String)>,
    /// Body, without the chunked coding.
    pub body: String,
}

impl Answer {
    /// The first header of this lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Sends one request to a gateway and waits at most 30 s for the end of the response.
///
/// # Errors
///
/// If the connection cannot be made, breaks, or carries no HTTP.
pub(super) fn request(
    gateway: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(String, String)],
) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(gateway).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut text = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("host: {gateway}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).context("read")?;
    parse(&bytes)
}

/// `GET` without headers.
///
/// # Errors
///
/// As [`request`].
pub(super) fn page(gateway: SocketAddr, target: &str) -> anyhow::Result<Answer> {
    request(gateway, "GET", target, &[])
}

fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").context("no end of the head")?;
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|l| l.split(' ').nth(1)).context("no status line")?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[end + 4..];
    let chunked = headers.iter().any(|(n, v)| n == "transfer-encoding" && v == "chunked");
    let body = if chunked { dechunk(rest)? } else { rest.to_vec() };
    let length = headers.iter().find(|(n, _)| n == "content-length").map(|(_, v)| v.parse());
    if let Some(Ok(length)) = length
        && body.len() < length
    {
        bail!("the body ended after {} of {length} bytes", body.len());
    }
    Ok(Answer {
        status: status.parse()?,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn dechunk(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").context("no end of a chunk size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest.get(end + 2..end + 2 + size).context("a chunk is cut short")?;
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).context("a chunk has no end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_end() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, "abc");
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").is_err());
        assert!(parse(&chunked[..chunked.len() - 7]).is_err());
    }
}
