//! From the workers' buffers to the output.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ironmesh_model::log_format::Piece;
use ironmesh_model::operator::{Command, Value};
use ironmesh_model::settings::AccessLogEncoding;

use super::record::AccessRecord;
use super::{json, own, text};

/// The access log of a process. Dropping it writes what is left and ends its thread.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    bytes_max: usize,
}

/// The access log of one worker.
#[derive(Debug)]
pub struct WorkerLog {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Shared {
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// Whether there may be lines to write, or it is time to stop.
    work: Mutex<bool>,
    wake: Condvar,
    /// Whether the thread sleeps or is about to, so that a worker must wake it.
    sleeping: AtomicBool,
    stopping: AtomicBool,
    dropped: Arc<AtomicU64>,
}

/// The lines of one worker that wait to be written.
#[derive(Debug, Default)]
struct Lane(Mutex<Vec<u8>>);

impl AccessLog {
    /// Starts a log that is written to `output`. The lines of each worker that wait to be written may
    /// take `bytes_max` bytes (see [`ironmesh_model::limits::ProxyLimits::access_log_bytes_max`]).
    ///
    /// # Errors
    ///
    /// If its thread cannot be started.
    pub fn start(output: impl Write + Send + 'static, bytes_max: usize) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let of_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || of_thread.write_all(output))?;
        Ok(Self { shared, thread: Some(thread), bytes_max })
    }

    /// The log of one more worker.
    pub fn worker(&self) -> WorkerLog {
        let lane = Arc::<Lane>::default();
        locked(&self.shared.lanes).push(lane.clone());
        WorkerLog { shared: self.shared.clone(), lane, bytes_max: self.bytes_max }
    }

    /// The number of lines that were dropped because the output did not take them fast enough, for
    /// [`Registry::single`](crate::Registry::single).
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.shared.dropped.clone()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It panics only if the output does.
            let _ = thread.join();
        }
    }
}

impl WorkerLog {
    /// Writes a line as Istio has it by default, or drops it if too much waits already. Never waits for
    /// the output.
    pub fn write(&mut self, record: &AccessRecord<'_>, encoding: AccessLogEncoding) {
        self.line(|line| match encoding {
            AccessLogEncoding::Text => text::write(line, record),
            AccessLogEncoding::Json => json::write(line, record),
        });
    }

    /// The same in a format of the user's own. `told`: what an operator with this argument stands for;
    /// of each at most [`VALUE_BYTES_MAX`](super::VALUE_BYTES_MAX) bytes are written.
    pub fn write_own<'v>(
        &mut self,
        format: &[Piece],
        told: impl Fn(Command, &str) -> Option<Value<'v>>,
    ) {
        self.line(|line| own::write(line, format, told));
    }

    fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = locked(&self.lane.0);
        if waiting.len() >= self.bytes_max {
            drop(waiting);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write(&mut waiting);
        drop(waiting);
        if self.shared.sleeping.swap(false, Ordering::SeqCst) {
            self.shared.wake();
        }
    }
}

impl Shared {
    fn wake(&self) {
        *locked(&self.work) = true;
        self.wake.notify_one();
    }

    /// Writes lines as they come until the log is dropped. Lines that the output refuses are lost, as
    /// there is nowhere to report it.
    fn write_all(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        loop {
            // Set before looking, so that a line that arrives after the look wakes us.
            self.sleeping.store(true, Ordering::SeqCst);
            let stopping = self.stopping.load(Ordering::SeqCst);
            let lanes = locked(&self.lanes).clone();
            let mut wrote = false;
            for lane in lanes {
                // Swapped, so that neither buffer is allocated again.
                std::mem::swap(&mut *locked(&lane.0), &mut batch);
                if !batch.is_empty() {
                    wrote = true;
                    let _ = output.write_all(&batch);
                    batch.clear();
                }
            }
            if wrote {
                let _ = output.flush();
            } else if stopping {
                return;
            } else {
                self.sleep();
            }
        }
    }

    fn sleep(&self) {
        let work = locked(&self.work);
        let mut work =
            self.wake.wait_while(work, |work| !*work).unwrap_or_else(PoisonError::into_inner);
        *work = false;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
