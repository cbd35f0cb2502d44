//! `tcp-echo PORTS PREFIX`: says each line again, with a word before it.

use std::io::{self, Write};
use std::net::Ipv4Addr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::server;

/// Serves ports, with commas between them, until it is told to end.
pub(crate) async fn run(arguments: &[String]) -> io::Result<()> {
    let [ports, prefix, ..] = arguments else {
        return Err(io::Error::other(
            "say which ports, and what to say before each line: 9000 hello",
        ));
    };
    let mut accepting = JoinSet::new();
    for port in ports.split(',') {
        let number = port.parse().map_err(|_| io::Error::other(format!("{port:?} is no port")))?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).await?;
        writeln!(io::stdout(), "listening on port {port}, prefix: {prefix}")?;
        accepting.spawn(accept(listener, prefix.clone()));
    }
    server::told_to_end()?.await;
    Ok(())
}

async fn accept(listener: TcpListener, prefix: String) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(echo(stream, prefix.clone()))),
            // Out of descriptors until other connections close.
            Err(_) => tokio::time::sleep(server::ACCEPT_PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream, prefix: String) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        writer.write_all(&[prefix.as_bytes(), b" ", &line].concat()).await?;
    }
}

/// Bytes of a line; what is longer counts as several.
const LINE_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_comes_back_with_the_prefix() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, "one".to_owned()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"a\nb").await.unwrap();
        client.shutdown().await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "one a\none b");
    }

    #[tokio::test]
    async fn what_is_no_port_is_refused() {
        for arguments in [vec!["x".to_owned(), "one".to_owned()], Vec::new()] {
            assert!(run(&arguments).await.is_err());
        }
    }
}
