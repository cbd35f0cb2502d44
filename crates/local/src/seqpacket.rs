//! `SOCK_SEQPACKET` sockets with JSON messages and descriptors, as they connect the host side, the
//! agent and the proxies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ironmesh_fds::{recv_with_fds, send_with_fds};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// One end, on a tokio runtime.
#[derive(Debug)]
pub(crate) struct SeqPacket {
    /// Only waited on as a stream: packets are sent and received as such.
    socket: UnixStream,
}

impl SeqPacket {
    /// Takes an end over; it becomes non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(fd);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixStream::from_std(socket)? })
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
        let send = || send_with_fds(self.socket.as_fd(), &bytes, fds);
        self.socket.async_io(Interest::WRITABLE, send).await.map(drop)
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
        let receive = || recv_with_fds(self.socket.as_fd(), &mut bytes);
        match self.socket.async_io(Interest::READABLE, receive).await {
            Ok((0, _)) => Ok(None),
            Ok((length, fds)) => Ok(Some((serde_json::from_slice(&bytes[..length])?, fds))),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_carry_descriptors_and_the_end_is_seen() {
        let (a, b) = ironmesh_fds::seqpacket_pair().unwrap();
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
