//! The server behind the measured proxies: it answers every request with the same 200 and body, and
//! does as little as possible, so that it is not what is measured.
//!
//! `bench-backend ADDRESS BODY_BYTES`

use std::fmt::Write as _;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("usage: bench-backend ADDRESS BODY_BYTES")?;
    let body_bytes: usize = arguments.next().context("BODY_BYTES is missing")?.parse()?;
    let response: &'static [u8] = response(body_bytes).leak();
    let listener = TcpListener::bind(&address).await.with_context(|| address.clone())?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A client that goes away ends its own connection only.
            let _ = serve(stream, response).await;
        });
    }
}

/// Answers requests without a body, several at once if they are pipelined.
async fn serve(mut stream: TcpStream, response: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 << 10];
    let (mut filled, mut out) = (0, Vec::new());
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let seen = &buffer[..filled];
        let ends = memchr::memmem::find_iter(seen, b"\r\n\r\n");
        let (count, end) = ends.fold((0, 0), |(count, _), at| (count + 1, at + 4));
        buffer.copy_within(end..filled, 0);
        filled -= end;
        match count {
            0 => {}
            1 => stream.write_all(response).await?,
            _ => {
                out.clear();
                (0..count).for_each(|_| out.extend_from_slice(response));
                stream.write_all(&out).await?;
            }
        }
    }
}

fn response(body_bytes: usize) -> Vec<u8> {
    let mut head = String::from("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n");
    // Writing to a string never fails.
    let _ = write!(head, "content-length: {body_bytes}\r\n\r\n");
    let mut response = head.into_bytes();
    response.extend(std::iter::repeat_n(b'x', body_bytes));
    response
}
