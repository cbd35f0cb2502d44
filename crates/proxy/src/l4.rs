//! Opaque bytes, both ways at once, with half-close.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::buffer::{Buffer, Buffers};
use crate::stream::{Io, Stream};

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
/// Who breaks off is told to the other side as what it is, a reset: an end would say that all bytes
/// have come. If a side takes no more, what it still sends is passed on to its end first.
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
    let end = tokio::select! {
        end = both(forth, back) => end,
        () = silence(&active, idle_timeout) => RelayEnd::Idle,
    };
    match end {
        RelayEnd::Closed | RelayEnd::Idle => {}
        RelayEnd::FirstFailed => reset_on_close(second),
        RelayEnd::SecondFailed => reset_on_close(first),
    }
    end
}

/// Sees to it that the peer gets a reset, not an end, when the stream is dropped.
pub(crate) fn reset_on_close(io: &Io) {
    io.with(Stream::reset_on_close);
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
    let (mut forth, mut back) = (pin!(forth), pin!(back));
    let (forth, back) = tokio::select! {
        ended = &mut forth => match ended {
            // What the second still says has nowhere to go.
            Err(Side::From) => return RelayEnd::FirstFailed,
            ended => (ended, back.await),
        },
        ended = &mut back => match ended {
            Err(Side::From) => return RelayEnd::SecondFailed,
            ended => (forth.await, ended),
        },
    };
    match (forth, back) {
        (Ok(()), Ok(())) => RelayEnd::Closed,
        (Err(Side::To), _) | (_, Err(Side::From)) => RelayEnd::SecondFailed,
        (Err(Side::From), _) | (_, Err(Side::To)) => RelayEnd::FirstFailed,
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
