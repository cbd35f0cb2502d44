//! Tunnels by HTTP's CONNECT (RFC 9110, section 9.3.6), through which opaque connections go on.

use std::io;

use bytes::{Buf, BytesMut};
use ironmesh_model::Reason;
use ironmesh_model::policy::Tunnel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::failure::{Failure, Stage};
use crate::stream::Stream;
use crate::worker::Worker;
use crate::workload::LocalWorkload;

/// Asks the proxy at the other side of a connection for a tunnel; gives what comes through it.
pub(crate) async fn open(
    worker: &Worker,
    workload: &LocalWorkload,
    stream: Stream,
    tunnel: &Tunnel,
) -> Result<Stream, Failure> {
    let longest = workload.views.load().settings().connect_timeout;
    let head_bytes_max = worker.process.limits.head_bytes_max;
    let opened = timeout(longest, ask(stream, tunnel, head_bytes_max)).await;
    opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
        tracing::debug!(%error, host = %tunnel.host, port = tunnel.port, "no tunnel");
        Failure::upstream(Reason::ConnectFailed, Stage::NotSent)
    })
}

async fn ask(mut stream: Stream, tunnel: &Tunnel, head_bytes_max: usize) -> io::Result<Stream> {
    let Tunnel { host, port } = tunnel;
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut read = BytesMut::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if read.len() > head_bytes_max {
            return Err(io::Error::other("the head of the answer is too long"));
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let status = read.strip_prefix(b"HTTP/1.1 ").or_else(|| read.strip_prefix(b"HTTP/1.0 "));
    if !status.is_some_and(|status| status.starts_with(b"2")) {
        let line = read[..end].split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Err(io::Error::other(String::from_utf8_lossy(line).into_owned()));
    }
    read.advance(end);
    Ok(stream.beginning_with(read))
}
