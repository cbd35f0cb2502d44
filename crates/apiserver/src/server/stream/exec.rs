//! A command in a container, by the channels of `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first
//! byte of each message says what the rest is. The session ends with the command, whatever children of it
//! keep its output open.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::socket::{Left, Reading, Socket, Writing};
use crate::node::{Doing, Input, Process};

/// Runs a session until the command has ended, or the client is gone; then the command is killed.
pub(super) async fn run(socket: Socket, process: Process) {
    let Process { stdin, stdout, stderr, resize, exit } = process;
    let (reading, mut writing) = socket.halves();
    let output = Output { stdout: Some(stdout), stderr };
    tokio::select! {
        sent = output.send(exit, &mut writing) => {
            if sent.is_ok() {
                writing.close().await;
            }
        }
        () = take(reading, stdin, resize) => {}
    }
}

/// Takes what the client sends, until it is gone.
pub(super) async fn take(
    mut reading: Reading,
    mut stdin: Option<Input>,
    resize: Option<Box<dyn Fn(u16, u16) + Send + Sync>>,
) {
    while let Some(message) = reading.next().await {
        let Some((channel, rest)) = message.split_first() else { continue };
        match *channel {
            STDIN => {
                if let Some(input) = &mut stdin
                    && !rest.is_empty()
                    && input.write_all(rest).await.is_err()
                {
                    // It reads no more; what else comes is for nobody.
                    stdin = None;
                }
            }
            RESIZE => {
                if let (Some(resize), Ok(size)) = (&resize, serde_json::from_slice::<Size>(rest)) {
                    resize(size.height, size.width);
                }
            }
            CLOSE if rest.first() == Some(&STDIN) => stdin = None,
            _ => {}
        }
    }
}

/// The size of a terminal, as clients tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// What a command writes.
struct Output {
    stdout: Option<Box<dyn AsyncRead + Unpin + Send>>,
    stderr: Option<Box<dyn AsyncRead + Unpin + Send>>,
}

impl Output {
    /// Sends what comes, and when the command has ended how it did.
    async fn send(mut self, mut exit: Doing<'static, i32>, to: &mut Writing) -> Result<(), Left> {
        let ended = loop {
            tokio::select! {
                message = self.next() => to.send(message).await?,
                ended = &mut exit => break ended,
            }
        };
        // What it has written is in the pipes by now; what its children still write is not waited for.
        let mut left = AFTERWARDS_BYTES_MAX;
        while self.is_open() && left > 0 {
            let Ok(message) = timeout(AFTERWARDS_PAUSE, self.next()).await else { break };
            left = left.saturating_sub(message.len());
            to.send(message).await?;
        }
        to.send(on_channel(ERROR, status(&ended).to_string().as_bytes())).await
    }

    fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// The next message of either; waits for ever when both have ended. Cancel safe.
    async fn next(&mut self) -> Bytes {
        loop {
            let (mut out, mut err) = (BytesMut::new(), BytesMut::new());
            tokio::select! {
                more = read(&mut self.stdout, STDOUT, &mut out) => match more {
                    true => return out.freeze(),
                    false => self.stdout = None,
                },
                more = read(&mut self.stderr, STDERR, &mut err) => match more {
                    true => return err.freeze(),
                    false => self.stderr = None,
                },
            }
        }
    }
}

/// Reads a message of a channel; whether there is one.
async fn read(
    from: &mut Option<Box<dyn AsyncRead + Unpin + Send>>,
    channel: u8,
    into: &mut BytesMut,
) -> bool {
    let Some(from) = from else { return std::future::pending().await };
    into.reserve(READ_BYTES);
    into.put_u8(channel);
    matches!(from.read_buf(into).await, Ok(1..))
}

/// A message of a channel.
pub(super) fn on_channel(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

/// How a command ended, as clients read it.
fn status(ended: &Result<i32, String>) -> Value {
    match ended {
        Ok(0) => success(),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(why) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": why,
        }),
    }
}

/// That all went well.
pub(super) fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Only in the fifth version: the channel that is named next has ended.
const CLOSE: u8 = 255;
/// Bytes that are read and sent at once.
const READ_BYTES: usize = 16 << 10;
/// How long the last output may take from the pipe.
const AFTERWARDS_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that pipes can still hold when a command has ended.
const AFTERWARDS_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_where_clients_look_for_them() {
        assert_eq!(status(&Ok(0))["status"], "Success");
        let failed = status(&Ok(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(status(&Err("no shell".to_owned()))["message"], "no shell");
    }
}
