//! HAProxy's PROXY protocol, both versions: who calls through a load balancer is read in front of a
//! gateway's connections, and told in front of connections to endpoints that want to know.
//!
//! Source: <https://www.haproxy.org/download/2.3/doc/proxy-protocol.txt>.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BytesMut};
use ironmesh_model::Reason;
use ironmesh_model::policy::ProxyProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::failure::{Failure, Stage};
use crate::stream::Stream;
use crate::worker::Worker;

/// What an endpoint is told of the connection for which one to it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    pub(crate) version: ProxyProtocol,
    /// The client, and where it dialled; `None`: the proxy connects of its own accord.
    pub(crate) ends: Option<(&'a SocketAddr, &'a SocketAddr)>,
}

/// The same to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptOrigin(ProxyProtocol, Option<(SocketAddr, SocketAddr)>);

impl Origin<'_> {
    pub(crate) fn kept(self) -> KeptOrigin {
        KeptOrigin(self.version, self.ends.map(|(from, to)| (*from, *to)))
    }
}

impl KeptOrigin {
    pub(crate) fn origin(&self) -> Origin<'_> {
        Origin { version: self.0, ends: self.1.as_ref().map(|(from, to)| (from, to)) }
    }
}

/// Reads the header in front of a connection, and takes the client that it names for the caller.
///
/// # Errors
///
/// If there is none: who could leave it out could pass for the load balancer.
pub(crate) async fn read(
    worker: &Worker,
    connection: &mut Connection,
    mut stream: Stream,
) -> Result<Stream, Failure> {
    let limits = &worker.process.limits;
    let mut first = BytesMut::new();
    let reading = async {
        loop {
            match parse(&first, limits.proxy_header_bytes_max) {
                Header::Complete { length, client } => return Some((length, client)),
                Header::Malformed => return None,
                Header::Incomplete => match stream.read_buf(&mut first).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return None,
                },
            }
        }
    };
    let Ok(Some((length, client))) = timeout(limits.handshake_timeout, reading).await else {
        tracing::debug!(peer = %connection.peer, "no header of the PROXY protocol");
        return Err(Failure::downstream(Reason::HandshakeFailed));
    };
    if let Some(client) = client {
        connection.peer = client;
        connection.client = client.ip().to_string();
    }
    first.advance(length);
    Ok(stream.beginning_with(first))
}

/// Tells an endpoint who calls.
pub(crate) async fn tell(stream: &mut Stream, origin: Origin<'_>) -> Result<(), Failure> {
    let failed = |_| Failure::upstream(Reason::ConnectFailed, Stage::NotSent);
    stream.write_all(&header(&origin)).await.map_err(failed)?;
    stream.flush().await.map_err(failed)
}

/// The header that says this.
fn header(origin: &Origin<'_>) -> Vec<u8> {
    let plain = |address: &SocketAddr| (address.ip().to_canonical(), address.port());
    let ends = origin.ends.map(|(from, to)| (plain(from), plain(to)));
    match origin.version {
        ProxyProtocol::V1 => {
            let text = match ends {
                Some(((from @ IpAddr::V4(_), p), (to @ IpAddr::V4(_), q))) => {
                    format!("PROXY TCP4 {from} {to} {p} {q}\r\n")
                }
                Some(((from @ IpAddr::V6(_), p), (to @ IpAddr::V6(_), q))) => {
                    format!("PROXY TCP6 {from} {to} {p} {q}\r\n")
                }
                _ => "PROXY UNKNOWN\r\n".to_owned(),
            };
            text.into_bytes()
        }
        ProxyProtocol::V2 => {
            let (command, family, addresses) = match ends {
                Some(((IpAddr::V4(from), p), (IpAddr::V4(to), q))) => {
                    (PROXIED, TCP4, [&from.octets()[..], &to.octets(), &ports(p, q)].concat())
                }
                Some(((IpAddr::V6(from), p), (IpAddr::V6(to), q))) => {
                    (PROXIED, TCP6, [&from.octets()[..], &to.octets(), &ports(p, q)].concat())
                }
                _ => (LOCAL, UNSPECIFIED, Vec::new()),
            };
            let mut header = SIGNATURE.to_vec();
            // 36 bytes at most.
            let length = u8::try_from(addresses.len()).unwrap_or(0);
            header.extend([VERSION_2 | command, family, 0, length]);
            header.extend(addresses);
            header
        }
    }
}

fn ports(from: u16, to: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
    [a, b, c, d]
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum Header {
    /// There is one.
    Complete {
        /// In bytes.
        length: usize,
        /// Whom it names; none if the balancer itself calls.
        client: Option<SocketAddr>,
    },
    /// Too few to tell.
    Incomplete,
    /// No header, or one that is too long.
    Malformed,
}

/// Reads the header at the beginning of these bytes, which may be followed by others. One of more
/// than `longest` bytes is malformed.
pub fn parse(bytes: &[u8], longest: usize) -> Header {
    let begins = |with: &[u8]| bytes.starts_with(with) || with.starts_with(bytes);
    if begins(&SIGNATURE) {
        return binary(bytes, longest);
    }
    if !begins(b"PROXY ") {
        return Header::Malformed;
    }
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match line.windows(2).position(|two| two == b"\r\n") {
        Some(end) => match text(&line[..end]) {
            Some(client) => Header::Complete { length: end + 2, client },
            None => Header::Malformed,
        },
        None if bytes.len() >= LINE_BYTES_MAX => Header::Malformed,
        None => Header::Incomplete,
    }
}

/// The client of a line; `None`: it is none that the protocol knows.
fn text(line: &[u8]) -> Option<Option<SocketAddr>> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let from: IpAddr = words.next()?.parse().ok()?;
    let to: IpAddr = words.next()?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    let _: u16 = words.next()?.parse().ok()?;
    let of_family = match family {
        "TCP4" => from.is_ipv4() && to.is_ipv4(),
        "TCP6" => from.is_ipv6() && to.is_ipv6(),
        _ => false,
    };
    (of_family && words.next().is_none()).then_some(Some(SocketAddr::new(from, port)))
}

fn binary(bytes: &[u8], longest: usize) -> Header {
    let Some(&[kind, family, high, low]) = bytes.get(12..16) else { return Header::Incomplete };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if kind & 0xf0 != VERSION_2 || length > longest {
        return Header::Malformed;
    }
    let Some(rest) = bytes.get(16..length) else { return Header::Incomplete };
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let client = match (kind & 0x0f, family) {
        (LOCAL, _) | (PROXIED, UNSPECIFIED) => Some(None),
        (PROXIED, TCP4) => rest
            .first_chunk::<4>()
            .zip(port(8))
            .filter(|_| rest.len() >= 12)
            .map(|(from, port)| Some(SocketAddr::new(Ipv4Addr::from(*from).into(), port))),
        (PROXIED, TCP6) => rest
            .first_chunk::<16>()
            .zip(port(32))
            .filter(|_| rest.len() >= 36)
            .map(|(from, port)| Some(SocketAddr::new(Ipv6Addr::from(*from).into(), port))),
        // Datagrams and sockets of one machine are no callers of ours.
        (PROXIED, _) => Some(None),
        _ => None,
    };
    client.map_or(Header::Malformed, |client| Header::Complete { length, client })
}

/// With which a header of the second version begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2: u8 = 0x20;
const LOCAL: u8 = 0;
const PROXIED: u8 = 1;
const UNSPECIFIED: u8 = 0;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// The longest line of the first version, with its end.
const LINE_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 4_096;

    /// What is written is read again, and every part of it is too little.
    #[test]
    fn headers_are_read_as_they_are_written() {
        let v4 = ("192.0.2.1:4000".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
        let v6 = ("[2001:db8::1]:4000".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
        let mapped = ("[::ffff:192.0.2.1]:4000".parse().unwrap(), v4.1);
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            for (told, client) in [
                (Some(v4), Some(v4.0)),
                (Some(v6), Some(v6.0)),
                (Some(mapped), Some(v4.0)),
                (Some((v4.0, v6.1)), None),
                (None, None),
            ] {
                let ends = told.as_ref().map(|(from, to)| (from, to));
                let written = header(&Origin { version, ends });
                let length = written.len();
                for cut in 0..length {
                    assert_eq!(
                        parse(&written[..cut], LONGEST),
                        Header::Incomplete,
                        "{ends:?} {cut}"
                    );
                }
                let followed = [&written[..], b"GET / HTTP/1.1"].concat();
                assert_eq!(
                    parse(&followed, LONGEST),
                    Header::Complete { length, client },
                    "{ends:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        let mut huge = SIGNATURE.to_vec();
        huge.extend([0x21, 0x11, 0xff, 0xff]);
        let mut short = SIGNATURE.to_vec();
        short.extend([0x21, 0x11, 0, 4, 1, 2, 3, 4]);
        let mut version_3 = SIGNATURE.to_vec();
        version_3.extend([0x31, 0x11, 0, 0]);
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4000\r\n",
            b"PROXY TCP4 2001:db8::1 198.51.100.1 4000 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4000 443 5\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 99999 443\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 4000 443\r\n",
            b"PROXY \xff\xff\r\n",
            &long,
            &huge,
            &short,
            &version_3,
        ] {
            assert_eq!(parse(bytes, LONGEST), Header::Malformed, "{bytes:?}");
        }
    }
}
