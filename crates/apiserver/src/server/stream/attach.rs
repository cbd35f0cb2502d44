//! The output of a running container from now on, until it ends, and its standard input.
//!
//! Who is the one that a container takes its input from has its output from the beginning: `kubectl run -i`
//! comes a moment after the container, which may have written something by then.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::channels::{ERROR, Incoming, Outgoing, STDOUT, on_channel};
use super::exec::{end, success, take};
use super::socket::Left;
use crate::context::Context;
use crate::failure::Failure;
use crate::node::Input;
use crate::object::{self, Object};
use crate::server::logs::{Container, LogReader, why_no_log};
use crate::store::Key;

/// The log of a container, and from where on it is sent.
pub(super) struct Log {
    container: Container,
    log: LogReader,
    start: u64,
    parts_max: usize,
}

impl Log {
    /// Opens the log of a container that runs, at its end.
    pub(super) async fn open(
        context: &Arc<Context>,
        key: &Key,
        pod: &Object,
        name: &str,
    ) -> Result<Self, Failure> {
        let container = Container::new(context.clone(), key.clone(), name, object::uid(pod));
        let opened = LogReader::open(container.path()).await;
        let log = opened.map_err(|_none| Failure::bad_request(why_no_log(pod, name, false)))?;
        let start = log.length().await.map_err(|error| Failure::internal(error.to_string()))?;
        Ok(Self { container, log, start, parts_max: context.registry.limits().api_parts_max })
    }

    /// The same from its beginning.
    pub(super) fn whole(self) -> Self {
        Self { start: 0, ..self }
    }
}

/// Sends what comes until the container has ended, or the client is gone; what that sends is for nobody
/// without an input.
pub(super) async fn run(
    (incoming, mut outgoing): (Incoming, Outgoing),
    log: Log,
    input: Option<Input>,
) {
    let Log { container, log, start, parts_max } = log;
    let (sender, parts) = mpsc::channel(parts_max);
    tokio::select! {
        () = async { tokio::join!(container.send(log, start, u64::MAX, true, sender), async {
            if send(parts, &mut outgoing).await.is_ok() {
                end(outgoing).await;
            }
        }); } => {}
        () = take(incoming, input, None) => {}
    }
}

async fn send(mut parts: mpsc::Receiver<Bytes>, to: &mut Outgoing) -> Result<(), Left> {
    while let Some(part) = parts.recv().await {
        to.send(on_channel(STDOUT, &part)).await?;
    }
    to.send(on_channel(ERROR, success().to_string().as_bytes())).await
}
