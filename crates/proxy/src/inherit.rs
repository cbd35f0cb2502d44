//! Descriptors that a process inherits by number.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

/// Takes over a descriptor that who started this process left open for it.
///
/// # Errors
///
/// If no such descriptor is open.
#[expect(unsafe_code, reason = "a number becomes a descriptor")]
pub(crate) fn descriptor(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the bootstrap names each descriptor once, for this process alone, and it is taken
    // over once, before any other code opens or closes descriptors by number. That it is open is
    // checked before it is used; if it is not, closing it again is harmless, as nothing of this
    // process has that number yet.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(error) = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        std::mem::forget(fd);
        return Err(error.into());
    }
    Ok(fd)
}

/// Makes a descriptor non-blocking.
///
/// # Errors
///
/// If the kernel refuses.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
