//! Descriptors between processes: sockets passed by `SCM_RIGHTS`, documents in a memfd, and what a
//! child inherits under an agreed number.
//!
//! Everything made or received here is close-on-exec; only the platform's sandbox hands descriptors
//! to a child, and only those it names.

pub mod slots;

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair,
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

/// Receives one message of a unix socket without waiting longer than the socket itself does: how
/// many bytes came into `buffer` (0: the peer closed), and the descriptors that came with them,
/// close-on-exec.
///
/// # Errors
///
/// As `recvmsg(2)`; `EMSGSIZE` when a packet or its descriptors did not fit. Descriptors that came
/// with such a message are closed.
pub fn recv_with_fds(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let (length, flags, fds) = receive(socket, buffer)?;
    if flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(nix::Error::EMSGSIZE.into());
    }
    Ok((length, fds))
}

/// `recvmsg(2)`: the bytes received, the message's flags, and every descriptor that the kernel has
/// made in this process, also for a message that was cut short.
///
/// By the system's own macros, as nix gives no descriptors of a message that was cut short, and so
/// leaks them.
#[expect(unsafe_code, reason = "recvmsg, and a walk over its control messages")]
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, i32, Vec<OwnedFd>)> {
    let mut space = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: zeroes are a valid `msghdr`: no address, no parts, no control messages.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = space.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&space) as _;
    // SAFETY: the header points to `part` and to `space`, which live until after the walk below,
    // and says how long each is.
    let length =
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = nix::Error::result(length)? as usize;
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled the control messages as far as `msg_controllen` now says, which
    // the macros keep to. Each descriptor in them was just made for this process, and nobody else
    // knows its number.
    unsafe {
        let mut item = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(found) = item.as_ref() {
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                #[allow(clippy::unnecessary_cast, reason = "it is narrower in other C libraries")]
                let bytes = found.cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(item).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(first.add(index).read_unaligned()));
                }
            }
            item = libc::CMSG_NXTHDR(&raw const header, item);
        }
    }
    Ok((length, header.msg_flags, fds))
}

/// An anonymous file with these bytes, read from its start. It is sealed: nobody who has it, nor who
/// opens it again by `/proc`, can change it.
///
/// # Errors
///
/// As `memfd_create(2)`, `write(2)` and `fcntl(2)`.
pub fn memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
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
/// Each number may be taken once, before anything else of the process opens or closes descriptors by
/// number; the caller must know that it was inherited for this purpose.
///
/// # Errors
///
/// `EBADF` when there is no such descriptor.
#[expect(unsafe_code, reason = "an inherited descriptor is known by its number alone")]
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(nix::Error::EBADF.into());
    }
    // SAFETY: the number is only looked at here: `fcntl` fails with EBADF if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and by this function's contract nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes a descriptor non-blocking, for all who share it.
///
/// # Errors
///
/// As `fcntl(2)`.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
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

/// Room for the control message with the most descriptors, in words so that it is aligned.
const CONTROL_WORDS: usize = {
    #[expect(unsafe_code, reason = "a macro of the system")]
    // SAFETY: it only computes.
    let bytes = unsafe { libc::CMSG_SPACE((FDS_PER_MESSAGE_MAX * size_of::<RawFd>()) as u32) };
    (bytes as usize).div_ceil(size_of::<u64>())
};

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
    fn a_document_cannot_be_changed_by_who_is_given_it() {
        let document = memfd("test", b"hello").unwrap();
        let path = format!("/proc/self/fd/{}", document.as_raw_fd());
        let refused = |error: io::Error| error.raw_os_error() == Some(libc::EPERM);
        let mut file = File::from(document);
        assert!(refused(file.write_all(b"x").unwrap_err()));
        assert!(refused(file.set_len(0).unwrap_err()));
        let mut again = File::options().write(true).open(path).unwrap();
        assert!(refused(again.write_all(b"x").unwrap_err()));
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    /// Open descriptors of this process that lead to this file.
    fn open_to(file: &File) -> usize {
        let named = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok();
        let wanted = named(file.as_raw_fd());
        let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(|fd| named(*fd) == wanted).count()
    }

    fn file_of_its_own(name: &str) -> File {
        memfd(name, b"x").unwrap().into()
    }

    #[test]
    fn a_packet_that_does_not_fit_leaves_no_descriptors() {
        let file = file_of_its_own("cut-packet");
        let (left, right) = seqpacket_pair().unwrap();
        send_with_fds(left.as_fd(), b"longer than expected", &[file.as_fd(), file.as_fd()])
            .unwrap();
        let error = recv_with_fds(right.as_fd(), &mut [0; 4]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(open_to(&file), 1);
    }

    #[test]
    fn more_descriptors_than_expected_leave_none() {
        let file = file_of_its_own("cut-rights");
        let (left, right) = seqpacket_pair().unwrap();
        // As a peer that does not keep to the limit: two messages' worth in one.
        let many = [file.as_raw_fd(); FDS_PER_MESSAGE_MAX + 10];
        sendmsg::<UnixAddr>(
            left.as_raw_fd(),
            &[IoSlice::new(b"many")],
            &[ControlMessage::ScmRights(&many)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .unwrap();
        let error = recv_with_fds(right.as_fd(), &mut [0; 16]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(open_to(&file), 1);
        // The socket is as good as before.
        send_with_fds(left.as_fd(), b"next", &[file.as_fd()]).unwrap();
        assert_eq!(recv_with_fds(right.as_fd(), &mut [0; 16]).unwrap().1.len(), 1);
    }

    #[test]
    fn what_was_not_inherited_is_not_taken() {
        for number in [-1, 1_000_000] {
            assert_eq!(take_inherited(number).unwrap_err().raw_os_error(), Some(libc::EBADF));
        }
    }

    #[test]
    fn documents_come_back_as_they_were() {
        let fd = json_memfd("test", &vec![1, 2, 3]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(fd).unwrap(), [1, 2, 3]);
    }
}
