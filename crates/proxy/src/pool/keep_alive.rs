//! How long an endpoint keeps an idle connection, learned from what it does: HTTP/1 has no word by
//! which a server says that it is about to close one. A request that crosses the close on its way is
//! lost, unless it may be sent twice.

use std::cell::Cell;
use std::time::Duration;

/// Which kept connections a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Any: it may be sent again, should the endpoint close it at this moment.
    Any,
    /// None that the endpoint may be about to close, since it must not be sent twice.
    Lasting,
    /// None at all.
    None,
}

/// The shortest time after which an endpoint was seen to have closed an idle connection.
#[derive(Debug, Default)]
pub(super) struct KeepAlive(Cell<Option<Duration>>);

impl KeepAlive {
    /// Whether anything was learned. Until then no clock needs to be read.
    pub(super) fn is_known(&self) -> bool {
        self.0.get().is_some()
    }

    /// A connection that was idle for so long was closed.
    pub(super) fn closed_after(&self, idle: Duration) {
        self.0.set(Some(self.0.get().map_or(idle, |known| known.min(idle))));
    }

    /// A connection that was idle for so long is open: what closed others earlier was no timeout,
    /// but a restart, for instance.
    pub(super) fn open_after(&self, idle: Duration) {
        self.0.set(self.0.get().map(|known| known.max(idle)));
    }

    /// Whether one that was idle for so long may be about to be closed. The last quarter counts, since
    /// both sides have a clock of their own, and a request takes its time to arrive.
    pub(super) fn may_close_after(&self, idle: Duration) -> bool {
        self.0.get().is_some_and(|known| idle >= known / 4 * 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_last_quarter_of_what_was_seen_is_not_trusted() {
        let keep_alive = KeepAlive::default();
        assert!(!keep_alive.is_known() && !keep_alive.may_close_after(ms(1_000_000)));
        keep_alive.open_after(ms(700));
        assert!(!keep_alive.is_known(), "nothing was ever closed");
        keep_alive.closed_after(ms(300));
        keep_alive.closed_after(ms(200));
        keep_alive.closed_after(ms(900));
        assert!(keep_alive.is_known());
        assert!(!keep_alive.may_close_after(ms(149)) && keep_alive.may_close_after(ms(150)));
    }

    #[test]
    fn a_connection_that_lasts_longer_corrects_it() {
        let keep_alive = KeepAlive::default();
        keep_alive.closed_after(ms(0));
        assert!(keep_alive.may_close_after(ms(0)));
        keep_alive.open_after(ms(400));
        assert!(!keep_alive.may_close_after(ms(299)) && keep_alive.may_close_after(ms(300)));
    }
}
