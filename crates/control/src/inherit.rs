//! Sockets that the agent made and handed down.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use tokio::net::{TcpListener, UnixListener};

/// Takes over a listening unix socket.
///
/// # Errors
///
/// If the descriptor is no socket.
pub(crate) fn unix_listener(fd: i32) -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(owned(fd));
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Takes over a listening TCP socket.
///
/// # Errors
///
/// If the descriptor is no socket.
pub(crate) fn tcp_listener(fd: i32) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(owned(fd));
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn owned(fd: i32) -> OwnedFd {
    #[expect(unsafe_code, reason = "an inherited descriptor is only a number")]
    // SAFETY: the bootstrap says that this descriptor was made for us, and it is taken over once.
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}
