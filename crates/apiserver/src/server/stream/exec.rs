//! A command in a container, by its channels. The session ends with the command, whatever children of it
//! keep its output open.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::channels::{
    CLOSE, ERROR, Incoming, Outgoing, RESIZE, STDERR, STDIN, STDOUT, on_channel,
};
use super::socket::Left;
use crate::node::{Doing, Input, Process};

/// Runs a session until the command has ended, or the client is gone; then the command is killed.
pub(super) async fn run((incoming, mut outgoing): (Incoming, Outgoing), process: Process) {
    let Process { stdin, stdout, stderr, resize, exit } = process;
    let output = Output { stdout: Some(stdout), stderr };
    tokio::select! {
        () = async {
            if output.send(exit, &mut outgoing).await.is_ok() {
                end(outgoing).await;
            }
        } => {}
        () = take(incoming, stdin, resize) => {}
    }
}

/// Ends a session in order. Closed with something unread, a connection is reset, and what the client has
/// not read yet is lost: so that it has a moment to leave first, while what it sends is taken.
pub(super) async fn end(mut outgoing: Outgoing) {
    outgoing.close().await;
    sleep(LINGER).await;
}

/// Takes what the client sends, until it is gone.
pub(super) async fn take(
    mut incoming: Incoming,
    mut stdin: Option<Input>,
    resize: Option<Box<dyn Fn(u16, u16) + Send + Sync>>,
) {
    while let Some(message) = incoming.next().await {
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
    async fn send(mut self, mut exit: Doing<'static, i32>, to: &mut Outgoing) -> Result<(), Left> {
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

/// Bytes that are read and sent at once.
const READ_BYTES: usize = 16 << 10;
/// How long the last output may take from the pipe.
const AFTERWARDS_PAUSE: Duration = Duration::from_millis(50);
/// How long a client may take to leave once it has been told the end.
const LINGER: Duration = Duration::from_secs(2);
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
