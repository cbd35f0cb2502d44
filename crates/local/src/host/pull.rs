//! Pulling an image, in a process of its own: what registries send is read neither by the mesh nor by
//! `ironmesh up` itself, and all that was in memory for it is gone afterwards.
//!
//! The process gets its task as a line on standard input, which stays open as long as its result is
//! wanted, and writes the result to standard output.

use std::io::{BufRead, Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use ironmesh_images::{Pull, Store};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// Name of the stage.
pub(crate) const STAGE: &str = "pull-image";

/// What a pull came to: the bytes of the image.
pub(crate) type Outcome = Result<u64, Failed>;

/// Why a pull failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) why: String,
    pub(crate) cause: Cause,
}

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// The registry does not answer.
    Silence,
    /// The image is not taken.
    Image,
    /// Anything else.
    Other,
}

/// The outcome of a pull that failed for no fault of its registry or image.
pub(crate) fn failed(why: String) -> Outcome {
    Err(Failed { why, cause: Cause::Other })
}

/// The task of the process.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    store: PathBuf,
    pull: Pull,
}

/// Has an image pulled into the store of this user.
pub(super) async fn pull(store: &Path, pull: Pull) -> Outcome {
    // The process ends by itself before.
    let limit = pull.limits.pull_timeout + UNPACK_TIME_MAX;
    let task = Task { store: store.to_owned(), pull };
    let done = tokio::time::timeout(limit, run(&task)).await;
    match done {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => failed(format!("the process that pulls it: {error}")),
        Err(_) => failed(format!("it was not unpacked within {limit:?}")),
    }
}

async fn run(task: &Task) -> std::io::Result<Outcome> {
    let mut child = Command::new("/proc/self/exe")
        .args(["internal", STAGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    };
    let mut line = serde_json::to_vec(task)?;
    line.push(b'\n');
    input.write_all(&line).await?;
    let mut answer = Vec::new();
    output.read_to_end(&mut answer).await?;
    child.wait().await?;
    drop(input);
    serde_json::from_slice(&answer).map_err(|_| std::io::Error::other("it ended without a word"))
}

/// The process: `ironmesh internal pull-image`.
pub(crate) fn stage() -> ExitCode {
    let mut line = String::new();
    if stdin().lock().read_line(&mut line).is_err() {
        return ExitCode::FAILURE;
    }
    // When nobody wants the result any more, nothing goes on.
    std::thread::spawn(|| {
        let _ = stdin().lock().read(&mut [0]);
        std::process::exit(1);
    });
    let outcome = match serde_json::from_str::<Task>(&line) {
        Ok(task) => carry_out(&task),
        Err(error) => failed(error.to_string()),
    };
    let written = serde_json::to_vec(&outcome).map(|bytes| stdout().write_all(&bytes));
    if matches!(written, Ok(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn carry_out(task: &Task) -> Outcome {
    let store = match Store::open(&task.store) {
        Ok(store) => store,
        Err(error) => return failed(error.to_string()),
    };
    match ironmesh_images::pull(&store, &task.pull, &mut |_| ()) {
        Ok(pulled) => Ok(pulled.image.bytes),
        Err(error) => {
            let cause = match &error {
                error if error.is_silence() => Cause::Silence,
                error if error.is_of_image() => Cause::Image,
                _ => Cause::Other,
            };
            Err(Failed { why: error.to_string(), cause })
        }
    }
}

/// Time that may pass after the last byte came.
const UNPACK_TIME_MAX: Duration = Duration::from_secs(600);
