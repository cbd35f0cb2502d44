//! A node whose commands are a few words, and whose ports echo.

use std::io;
use std::time::Duration;

use ironmesh_apiserver::node::{Command, Connection, Doing, Input, Node, Process};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// Where nothing listens on a pod of the stub.
pub(crate) const CLOSED: u16 = 9;
/// What greets and then breaks off.
pub(crate) const BREAKS: u16 = 10;

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
