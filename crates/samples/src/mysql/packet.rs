//! Packets of MySQL's protocol: three bytes of length, a number, and the payload.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::PACKET_BYTES_MAX;

/// Sends one packet.
pub(super) async fn send(
    connection: &mut BufReader<TcpStream>,
    number: u8,
    payload: &[u8],
) -> io::Result<()> {
    if payload.len() > PACKET_BYTES_MAX {
        return Err(io::Error::other("the query is too large"));
    }
    let mut packet = (payload.len() as u32).to_le_bytes();
    packet[3] = number;
    connection.write_all(&[&packet, payload].concat()).await
}

/// Receives one packet: its number and payload.
pub(super) async fn receive(connection: &mut BufReader<TcpStream>) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    connection.read_exact(&mut head).await?;
    let [a, b, c, number] = head;
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    if length > PACKET_BYTES_MAX {
        return Err(io::Error::other("the answer is too large"));
    }
    let mut payload = vec![0; length];
    connection.read_exact(&mut payload).await?;
    Ok((number, payload))
}

/// The message of an error packet.
pub(super) fn error(payload: &[u8]) -> Option<String> {
    let rest = payload.strip_prefix(&[0xff])?.get(2..)?;
    // A mark and a state of five characters, after the login.
    let text = if rest.first() == Some(&b'#') { rest.get(6..)? } else { rest };
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Bytes that are no packet of the protocol.
pub(super) fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an answer of MySQL")
}

/// What is left of a packet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(broken)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn until_zero(&mut self) -> io::Result<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// A number of one to nine bytes; `None` stands for NULL.
    pub(super) fn length(&mut self) -> io::Result<Option<u64>> {
        let bytes = match self.take(1)?[0] {
            0xfb => return Ok(None),
            0xfc => self.take(2)?,
            0xfd => self.take(3)?,
            0xfe => self.take(8)?,
            small => return Ok(Some(small.into())),
        };
        let mut number = [0; 8];
        number[..bytes.len()].copy_from_slice(bytes);
        Ok(Some(u64::from_le_bytes(number)))
    }

    /// Text with its length before it; `None` is NULL.
    pub(super) fn text(&mut self) -> io::Result<Option<String>> {
        let Some(length) = self.length()? else { return Ok(None) };
        let bytes = self.take(usize::try_from(length).map_err(|_| broken())?)?;
        Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
    }
}
