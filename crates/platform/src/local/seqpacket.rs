//! `SOCK_SEQPACKET` sockets with JSON messages and descriptors, as they connect the host side, the
//! agent and the proxies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;

use crate::fds::{recv_with_fds, send_with_fds};

/// One end, on a tokio runtime.
#[derive(Debug)]
pub(crate) struct SeqPacket {
    fd: AsyncFd<OwnedFd>,
}

impl SeqPacket {
    /// Takes an end over; it becomes non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        Ok(Self { fd: AsyncFd::register(fd)? })
    }

    /// Sends one message with descriptors.
    ///
    /// # Cancel safety
    ///
    /// Safe: a message is sent as a whole or not at all.
    pub(crate) async fn send<T: Serialize>(
        &self,
        message: &T,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        loop {
            let mut guard = self.fd.writable().await?;
            let sent = guard.try_io(|fd| send_with_fds(fd.get_ref().as_fd(), &bytes, fds));
            match sent {
                Ok(result) => return result.map(drop),
                Err(_would_block) => {}
            }
        }
    }

    /// Receives one message with its descriptors; `None` when the other end is closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: a message is received as a whole or not at all.
    pub(crate) async fn receive<T: DeserializeOwned>(
        &self,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let mut guard = self.fd.readable().await?;
            match guard.try_io(|fd| recv_with_fds(fd.get_ref().as_fd(), &mut bytes)) {
                Ok(Ok((0, _))) => return Ok(None),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(None);
                }
                Ok(Ok((length, fds))) => {
                    return Ok(Some((serde_json::from_slice(&bytes[..length])?, fds)));
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// Makes a descriptor non-blocking.
fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_carry_descriptors_and_the_end_is_seen() {
        let (a, b) = crate::fds::seqpacket_pair().unwrap();
        let (a, b) = (SeqPacket::new(a).unwrap(), SeqPacket::new(b).unwrap());
        let file = tempfile::tempfile().unwrap();
        a.send(&"one", &[file.as_fd(), file.as_fd()]).await.unwrap();
        a.send(&"two", &[]).await.unwrap();
        let (text, fds) = b.receive::<String>().await.unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("one", 2));
        let (text, fds) = b.receive::<String>().await.unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("two", 0));
        drop(a);
        assert!(b.receive::<String>().await.unwrap().is_none());
    }
}
