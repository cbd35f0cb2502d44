//! A node whose commands are a few words, and whose ports echo.

use std::io;
use std::time::Duration;

use ironmesh_apiserver::node::{Command, Connection, Doing, Input, Node, Process, Taken, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Where nothing listens on a pod of the stub.
pub(crate) const CLOSED: u16 = 9;
/// What greets and then breaks off.
pub(crate) const BREAKS: u16 = 10;

/// What speaks HTTP, and says in its answer what it was asked.
pub(crate) const HTTP: u16 = 8080;

#[derive(Debug)]
pub(crate) struct StubNode;

impl Node for StubNode {
    fn exec(&self, command: Command) -> Doing<'_, Process> {
        Box::pin(async move {
            let (stdin, mut input) = duplex(1 << 10);
            let (stdout, mut out) = duplex(1 << 10);
            let (stderr, mut err) = duplex(1 << 10);
            let word = command.words[0].clone();
            let exit: Doing<'static, i32> = match &*word {
                // Reads all, says it again, and what was an error; fails.
                "say" => Box::pin(async move {
                    let mut text = Vec::new();
                    input.read_to_end(&mut text).await.unwrap();
                    out.write_all(&text).await.unwrap();
                    err.write_all(b"oops").await.unwrap();
                    Ok(3)
                }),
                // Ends, but something of it keeps its output open.
                "leave" => Box::pin(async move {
                    out.write_all(b"left").await.unwrap();
                    std::mem::forget(out);
                    Ok(0)
                }),
                // Goes on until nobody wants it any more.
                "wait" => Box::pin(std::future::pending()),
                other => return Err(format!("cannot run {other:?}")),
            };
            Ok(Process {
                stdin: command.stdin.then(|| Box::new(stdin) as _),
                stdout: Box::new(stdout),
                stderr: Some(Box::new(stderr)),
                resize: None,
                exit,
            })
        })
    }

    fn input<'a>(&'a self, _: &'a str, _: &'a str, container: &'a str) -> Doing<'a, Input> {
        Box::pin(async move { Err(format!("container {container} has no standard input")) })
    }

    fn usage(&self) -> Doing<'_, Usage> {
        let taken = |millis, memory_bytes| Taken {
            cpu_per_second: Duration::from_millis(millis),
            memory_bytes,
        };
        let of = |pod: &str, taken| {
            let key = ("default".to_owned(), pod.to_owned());
            (key, [("c".to_owned(), taken)].into())
        };
        let usage = Usage {
            window: Duration::from_secs(1),
            all: taken(1500, 1 << 30),
            containers: [of("p", taken(250, 3 << 20)), of("gone", taken(1, 1))].into(),
        };
        Box::pin(async { Ok(usage) })
    }

    fn connect<'a>(
        &'a self,
        _namespace: &'a str,
        _pod: &'a str,
        port: u16,
    ) -> Doing<'a, Box<dyn Connection>> {
        Box::pin(async move {
            if port == CLOSED {
                return Err("connection refused".to_owned());
            }
            let (ours, mut theirs) = duplex(1 << 10);
            if port == HTTP {
                tokio::spawn(speak_http(theirs));
                return Ok(Box::new(ours) as Box<dyn Connection>);
            }
            tokio::spawn(async move {
                theirs.write_all(format!("port {port}\n").as_bytes()).await?;
                if port == BREAKS {
                    return Ok(());
                }
                let (mut reading, mut writing) = tokio::io::split(theirs);
                tokio::io::copy(&mut reading, &mut writing).await?;
                writing.shutdown().await?;
                // Held a moment longer than the end of what it says.
                tokio::time::sleep(Duration::from_millis(1)).await;
                io::Result::Ok(())
            });
            Ok(Box::new(ours) as Box<dyn Connection>)
        })
    }
}

async fn speak_http(mut stream: DuplexStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let answer = match head.split(' ').nth(1).unwrap_or_default() {
        "/redirect" => {
            "HTTP/1.0 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n".to_owned()
        }
        "/cut" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n".to_owned(),
        "/switch" => "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_owned(),
        "/silent" => return std::future::pending().await,
        _ => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len()),
    };
    stream.write_all(answer.as_bytes()).await
}
