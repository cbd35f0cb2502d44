//! How much HTTP/2 peers may send before it is read: one budget for all connections of a proxy.
//!
//! A connection begins with the window that the protocol gives it, and gets a larger one when it has
//! more streams, if the budget allows. What it was given it may use at any time, so it counts until
//! the connection ends. Only a connection that opens more streams than ever before touches what is
//! shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::process::Process;

/// The window of a connection that was told nothing else (RFC 9113, section 6.9.2).
const FIRST_BYTES: u64 = 65_535;

/// What all connections of a proxy were given together.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    given: AtomicU64,
}

impl Windows {
    /// Takes bytes if no more than `max` are given then.
    fn take(&self, bytes: u64, max: u64) -> bool {
        let more = |given: u64| given.checked_add(bytes).filter(|given| *given <= max);
        self.given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// The window of one connection, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Window {
    process: Arc<Process>,
    bytes: u64,
}

impl Window {
    /// That of a new connection; `None` if the budget is used up.
    pub(crate) fn first(process: &Arc<Process>) -> Option<Self> {
        let max = process.limits.h2_unread_bytes_max;
        let taken = process.windows.take(FIRST_BYTES, max);
        taken.then(|| Self { process: process.clone(), bytes: FIRST_BYTES })
    }

    /// Grows with the streams that are open; the new size, if it has grown.
    pub(crate) fn grow(&mut self, streams: usize) -> Option<u32> {
        let limits = &self.process.limits;
        let of_streams = (streams as u64).saturating_mul(limits.h2_stream_window_bytes.into());
        let most = u64::from(limits.h2_connection_window_bytes).min(WINDOW_BYTES_MAX);
        let wanted = FIRST_BYTES.saturating_add(of_streams).min(most);
        let more = wanted.checked_sub(self.bytes).filter(|more| *more > 0)?;
        if !self.process.windows.take(more, limits.h2_unread_bytes_max / 2) {
            return None;
        }
        self.bytes = wanted;
        u32::try_from(wanted).ok()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.process.windows.given.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The largest window that HTTP/2 knows (RFC 9113, section 6.9.1).
const WINDOW_BYTES_MAX: u64 = i32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Connector;
    use ironmesh_model::limits::ProxyLimits;

    fn process(limits: ProxyLimits) -> Arc<Process> {
        Arc::new(Process::new(limits, Connector::new(Vec::new(), None), 1))
    }

    #[test]
    fn all_windows_together_keep_to_the_budget_and_come_back() {
        let limits = ProxyLimits {
            h2_unread_bytes_max: 20 * FIRST_BYTES,
            h2_stream_window_bytes: 2 * FIRST_BYTES as u32,
            h2_connection_window_bytes: 8 * FIRST_BYTES as u32,
            ..ProxyLimits::default()
        };
        let process = process(limits);
        let given = || process.windows.given.load(Ordering::Relaxed) / FIRST_BYTES;
        let mut greedy = Window::first(&process).unwrap();
        assert_eq!(greedy.grow(0), None);
        assert_eq!(greedy.grow(1), Some(3 * FIRST_BYTES as u32));
        assert_eq!(greedy.grow(1), None, "it has that already");
        assert_eq!(
            greedy.grow(1_000),
            Some(8 * FIRST_BYTES as u32),
            "one has no more than its own"
        );
        let mut second = Window::first(&process).unwrap();
        assert_eq!(second.grow(1), None, "half of it is kept for the first bytes of others");
        let others: Vec<Window> = std::iter::from_fn(|| Window::first(&process)).collect();
        assert_eq!((others.len(), given()), (11, 20));
        drop(greedy);
        assert_eq!(given(), 12);
        drop((others, second));
        assert_eq!(given(), 0, "what is closed is given back");
    }
}
