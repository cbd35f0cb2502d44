//! The client's side of a command with a terminal of its own: bytes both ways, and the size.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The master of a command's terminal, for a runtime. Clones are the same terminal.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_truncate(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        #[expect(unsafe_code, reason = "registers a descriptor with the runtime")]
        // SAFETY: the descriptor is owned, so it is the same one and open as long as this is.
        let master = unsafe { AsyncFd::register(master) }?;
        Ok(Self(Arc::new(master)))
    }

    /// Says how many rows and columns are shown.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(self.0.get_ref(), Some((rows, columns)));
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let into = buffer.initialize_unfilled();
            match guard.try_io(|master| Ok(read(master, into)?)) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // How a terminal says that nobody has it open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|master| Ok(write(master, bytes)?)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Rows and columns of a terminal; `None` if it is none.
pub(super) fn size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    #[expect(unsafe_code, reason = "ioctl")]
    // SAFETY: TIOCGWINSZ writes one winsize to the address that it is given.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

/// Relays between the client's terminal and the command's until the command has closed its own. The
/// size of the command's terminal follows the client's.
pub(super) fn relay(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    master: &OwnedFd,
) -> io::Result<()> {
    use std::os::fd::AsFd;
    let mut known_size = size(input);
    let mut input_open = true;
    let mut buffer = [0; 16 << 10];
    loop {
        let input_events = if input_open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut polled =
            [PollFd::new(master.as_fd(), PollFlags::POLLIN), PollFd::new(input, input_events)];
        match poll(
            &mut polled[..if input_open { 2 } else { 1 }],
            PollTimeout::from(SIZE_INTERVAL_MS),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready =
            |polled: &PollFd<'_>| polled.revents().is_some_and(|events| !events.is_empty());
        let (from_command, from_client) = (is_ready(&polled[0]), is_ready(&polled[1]));
        if from_command {
            match read(master, &mut buffer) {
                // EIO is how a terminal says that nobody has it open any more.
                Ok(0) | Err(Errno::EIO) => return Ok(()),
                Ok(length) => write_all(output, &buffer[..length])?,
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if from_client && input_open {
            match read(input, &mut buffer) {
                Ok(0) | Err(Errno::EIO) => input_open = false,
                Ok(length) => write_all(master.as_fd(), &buffer[..length])?,
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let now = size(input);
        if now != known_size {
            known_size = now;
            resize(master, now);
        }
    }
}

fn resize(master: &OwnedFd, size: Option<(u16, u16)>) {
    let Some((ws_row, ws_col)) = size else { return };
    let size = libc::winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    #[expect(unsafe_code, reason = "ioctl")]
    // SAFETY: TIOCSWINSZ reads one winsize from the address that it is given.
    unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size);
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// How often the size of the client's terminal is looked at.
const SIZE_INTERVAL_MS: u8 = 200;
