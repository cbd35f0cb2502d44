//! Descriptors between processes: sockets passed by `SCM_RIGHTS`, documents in a memfd, and what a
//! child inherits under an agreed number.
//!
//! Everything made here is close-on-exec; only [`crate::sandbox`] hands descriptors to a child, and
//! only those it names.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Descriptors in one message, at most. (The kernel's limit is 253.)
pub const FDS_PER_MESSAGE_MAX: usize = 64;

/// Bytes of a document that a process is started with, at most.
pub const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// Sends `bytes` and `fds` in one message over a unix socket, and says how many bytes went.
///
/// The descriptors go with the first byte, so `bytes` may not be empty.
///
/// # Errors
///
/// As `sendmsg(2)`; `EINVAL` for no bytes or more than [`FDS_PER_MESSAGE_MAX`] descriptors.
pub fn send_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if bytes.is_empty() || fds.len() > FDS_PER_MESSAGE_MAX {
        return Err(nix::Error::EINVAL.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(sent)
}

/// Receives one message of a unix socket: how many bytes came into `buffer` (0: the peer closed),
/// and the descriptors that came with them.
///
/// # Errors
///
/// As `recvmsg(2)`; `EMSGSIZE` when a packet or its descriptors did not fit.
pub fn recv_with_fds(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; FDS_PER_MESSAGE_MAX]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = item {
            fds.extend(received.into_iter().map(own_received));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(nix::Error::EMSGSIZE.into());
    }
    Ok((message.bytes, fds))
}

/// An anonymous file with these bytes, read from its start.
///
/// # Errors
///
/// As `memfd_create(2)` and `write(2)`.
pub fn memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// An anonymous file with this document as JSON.
///
/// # Errors
///
/// As [`memfd`]; `InvalidData` when the document cannot be JSON.
pub fn json_memfd<T: Serialize>(name: &str, document: &T) -> io::Result<OwnedFd> {
    memfd(name, &serde_json::to_vec(document)?)
}

/// Reads the JSON document of a descriptor to its end, at most [`DOCUMENT_BYTES_MAX`] bytes.
///
/// # Errors
///
/// As `read(2)`; `InvalidData` when it is no such document.
pub fn read_json<T: DeserializeOwned>(fd: OwnedFd) -> io::Result<T> {
    let mut bytes = Vec::new();
    File::from(fd).take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Takes a descriptor that this process was started with, and makes it close-on-exec.
///
/// Each number may be taken once; the caller must know that it was inherited for this purpose.
///
/// # Errors
///
/// `EBADF` when there is no such descriptor.
#[expect(unsafe_code, reason = "an inherited descriptor is known by its number alone")]
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is only looked at here: `fcntl` fails with EBADF if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and by this function's contract nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes every descriptor from this number on close-on-exec. Makes a system call only, so that it
/// may be called between fork and exec.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.11.
#[expect(unsafe_code, reason = "close_range has no wrapper")]
pub fn close_on_exec_from(first: RawFd) -> nix::Result<()> {
    // SAFETY: descriptors stay open; only what a program executed later inherits changes.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    nix::Error::result(result).map(drop)
}

/// A pipe: its read end and its write end.
///
/// # Errors
///
/// As `pipe2(2)`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// A connected pair of unix sockets that keep packets apart.
///
/// # Errors
///
/// As `socketpair(2)`.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SockType::SeqPacket;
    Ok(socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?)
}

#[expect(unsafe_code, reason = "nix gives received descriptors as numbers")]
fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_travel_with_their_packet() {
        let (left, right) = seqpacket_pair().unwrap();
        let document = memfd("test", b"hello").unwrap();
        send_with_fds(left.as_fd(), b"take", &[document.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let (count, mut fds) = recv_with_fds(right.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"take");
        let mut text = String::new();
        File::from(fds.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), fds.len()), ("hello", 0));
        drop(left);
        assert_eq!(recv_with_fds(right.as_fd(), &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn documents_come_back_as_they_were() {
        let fd = json_memfd("test", &vec![1, 2, 3]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(fd).unwrap(), [1, 2, 3]);
    }
}
