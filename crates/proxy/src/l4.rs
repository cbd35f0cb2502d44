//! Opaque bytes, both ways at once, with half-close.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::buffer::{Buffer, Buffers};
use crate::stream::Io;

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayEnd {
    /// Both sides closed.
    Closed,
    /// The first side broke off.
    FirstFailed,
    /// The second side broke off.
    SecondFailed,
    /// Nothing was sent by either side for too long.
    Idle,
}

/// Moves bytes between two streams until both directions have ended. What was read from either
/// before comes first. The end of one direction is passed on and the other goes on (half-close).
///
/// # Cancel safety
///
/// Bytes that were read and not yet written are lost.
pub(crate) async fn relay(
    first: (&Io, &mut Buffer),
    second: (&Io, &mut Buffer),
    spare: &Buffers,
    idle_timeout: Duration,
) -> RelayEnd {
    let (first, from_first) = first;
    let (second, from_second) = second;
    let active = Cell::new(Instant::now());
    let forth = direction(first, from_first, second, spare, &active);
    let back = direction(second, from_second, first, spare, &active);
    tokio::select! {
        end = both(forth, back) => end,
        () = silence(&active, idle_timeout) => RelayEnd::Idle,
    }
}

/// Which side of a direction failed.
enum Side {
    From,
    To,
}

async fn direction(
    from: &Io,
    buffer: &mut Buffer,
    to: &Io,
    spare: &Buffers,
    active: &Cell<Instant>,
) -> Result<(), Side> {
    loop {
        if !buffer.is_empty() {
            to.write_both(buffer.unread(), &[]).await.map_err(|_| Side::To)?;
            buffer.consume(buffer.unread().len());
        }
        let count = from.fill(buffer, spare).await.map_err(|_| Side::From)?;
        active.set(Instant::now());
        if count == 0 {
            buffer.rest(spare);
            return to.shutdown().await.or_else(|error| match error.kind() {
                // It has closed already, which is what was wanted.
                io::ErrorKind::NotConnected => Ok(()),
                _ => Err(Side::To),
            });
        }
    }
}

async fn both(
    forth: impl Future<Output = Result<(), Side>>,
    back: impl Future<Output = Result<(), Side>>,
) -> RelayEnd {
    let forth = async {
        forth.await.map_err(|side| match side {
            Side::From => RelayEnd::FirstFailed,
            Side::To => RelayEnd::SecondFailed,
        })
    };
    let back = async {
        back.await.map_err(|side| match side {
            Side::From => RelayEnd::SecondFailed,
            Side::To => RelayEnd::FirstFailed,
        })
    };
    match tokio::try_join!(forth, back) {
        Ok(((), ())) => RelayEnd::Closed,
        Err(end) => end,
    }
}

/// Ends when nothing was active for `idle_timeout`.
async fn silence(active: &Cell<Instant>, idle_timeout: Duration) {
    loop {
        let end = active.get() + idle_timeout;
        sleep_until(end).await;
        if active.get() + idle_timeout <= Instant::now() {
            return;
        }
    }
}
