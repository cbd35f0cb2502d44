//! Reads what containers and processes of the mesh write, and keeps it in their files: one thread for
//! all, so that neither a slow disk nor a talkative container holds up the agent.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use super::file::{LogFile, older, times_of};

/// What the thread is told; it does one after the other.
#[derive(Debug)]
pub(super) enum Order {
    /// A process is about to write into the pipe with this read end. The one before it that wrote
    /// this log has ended. With `anew` its log is set aside as the previous one.
    Begin { path: PathBuf, anew: bool, output: OwnedFd, done: oneshot::Sender<()> },
    /// The process that writes this log has ended.
    End { path: PathBuf, done: oneshot::Sender<()> },
    /// The logs of this folder are not wanted any more.
    Remove { folder: PathBuf },
}

/// A log that is being written.
struct Run {
    pipe: pipe::Receiver,
    file: RefCell<LogFile>,
}

/// The logs that are being written, each with the task that reads it.
type Runs = HashMap<PathBuf, (Rc<Run>, AbortHandle)>;

/// Starts the thread. It ends when the sender is dropped.
///
/// # Errors
///
/// If the machine has no thread or no descriptors left.
pub(super) fn start(bytes_max: u64) -> io::Result<mpsc::UnboundedSender<Order>> {
    let (sender, orders) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let thread = std::thread::Builder::new().name("logs".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || LocalSet::new().block_on(&runtime, obey(orders, bytes_max)))?;
    Ok(sender)
}

async fn obey(mut orders: mpsc::UnboundedReceiver<Order>, bytes_max: u64) {
    let mut runs = Runs::default();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Begin { path, anew, output, done } => {
                end(&mut runs, &path);
                if anew {
                    set_aside(&path);
                }
                begin(&mut runs, path, output, bytes_max);
                // Who waits may have given up.
                let _ = done.send(());
            }
            Order::End { path, done } => {
                end(&mut runs, &path);
                let _ = done.send(());
            }
            Order::Remove { folder } => {
                let of_folder = |path: &&PathBuf| path.starts_with(&folder);
                let paths: Vec<_> = runs.keys().filter(of_folder).cloned().collect();
                for path in &paths {
                    end(&mut runs, path);
                }
                remove(&folder);
            }
        }
    }
}

fn begin(runs: &mut Runs, path: PathBuf, output: OwnedFd, bytes_max: u64) {
    let pipe = match pipe::Receiver::from_owned_fd(output) {
        Ok(pipe) => pipe,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a log cannot be read");
            return;
        }
    };
    let file = LogFile::with_times(path.clone(), bytes_max).into();
    let run = Rc::new(Run { pipe, file });
    let reading = Rc::clone(&run);
    let task = spawn_local(async move {
        while reading.pipe.readable().await.is_ok()
            && reading.read(READS_AT_ONCE, |buffer| reading.pipe.try_read(buffer))
        {
            // Others have their turn.
            tokio::task::yield_now().await;
        }
    });
    runs.insert(path, (run, task.abort_handle()));
}

/// Reads what is left, and closes the pipe, whoever may still hold its other end.
fn end(runs: &mut Runs, path: &Path) {
    let Some((run, task)) = runs.remove(path) else { return };
    // Past the runtime, which may not have noticed yet that there is something to read.
    run.read(READS_AT_END, |buffer| Ok(nix::unistd::read(&run.pipe, buffer)?));
    task.abort();
    run.file.borrow_mut().finish();
}

impl Run {
    /// Reads what is there, as far as `reads` go; whether there may be more one day.
    fn read(&self, reads: usize, read: impl Fn(&mut [u8]) -> io::Result<usize>) -> bool {
        let mut buffer = [0; READ_BYTES];
        let mut file = self.file.borrow_mut();
        for _ in 0..reads {
            match read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    if let Some(error) = file.append(&buffer[..count]).map(ToString::to_string) {
                        let path = file.path().display();
                        tracing::warn!(%path, error, "lines of a log are being lost");
                    }
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// The log of the run before becomes `CONTAINER.previous.log`, with its older part and its times.
fn set_aside(path: &Path) {
    let previous = path.with_extension("previous.log");
    if let Err(error) = fs::rename(path, &previous)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "the log before is not kept apart");
    }
    let (older, older_previous) = (older(path), older(&previous));
    let pairs = [
        (times_of(path), times_of(&previous)),
        (times_of(&older), times_of(&older_previous)),
        (older, older_previous),
    ];
    for (from, to) in pairs {
        // There may be none; then that of the run before goes with its log.
        if fs::rename(&from, &to).is_err() {
            let _ = fs::remove_file(&to);
        }
    }
}

/// Removes the logs of a folder, and nothing else that is in it.
fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_log(&entry.path()) {
            // What cannot be removed is removed with the next mesh of this name.
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// Whether a file is a log, or an older part of one.
fn is_log(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    [".log", ".log.1", ".log.times", ".log.1.times"].iter().any(|end| name.ends_with(end))
}

/// Bytes that are read at once.
const READ_BYTES: usize = 32 << 10;
/// Reads of one log before others have their turn.
const READS_AT_ONCE: usize = 4;
/// Reads when the writer has ended: as much as the largest pipe holds that a user may make.
const READS_AT_END: usize = (1 << 20) / READ_BYTES;
/// Stack of the thread.
const STACK_BYTES: usize = 256 << 10;
