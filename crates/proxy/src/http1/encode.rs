//! Bodies into bytes.

use std::io::Write as _;

use crate::message::Fields;
use crate::words::{has_control, is_control};

use super::chunk::is_forbidden;
use super::error::BodyError;
use super::framing::Framing;

/// Writes the body of one message, and sees to it that its length is the one that the head said.
#[derive(Clone, Copy, Debug)]
pub struct BodyEncoder {
    left: Left,
}

#[derive(Clone, Copy, Debug)]
enum Left {
    Bytes(u64),
    Chunks,
    Unbounded,
    Nothing,
}

impl BodyEncoder {
    /// An encoder for a message whose head says `framing`.
    pub fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::None => Left::Nothing,
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Chunks,
            Framing::UntilClose | Framing::Tunnel => Left::Unbounded,
        };
        Self { left }
    }

    /// Writes some data. Nothing is written for none.
    ///
    /// # Errors
    /// If it is more than the head announced.
    pub fn data(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.before_data(data.len(), out)?;
        out.extend_from_slice(data);
        self.after_data(data.len(), out);
        Ok(())
    }

    /// Writes what comes before `length` bytes of data, for callers that send the data itself
    /// without copying it here. To be followed by [`after_data`](Self::after_data).
    ///
    /// # Errors
    /// If it is more than the head announced.
    pub fn before_data(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), BodyError> {
        match &mut self.left {
            _ if length == 0 => {}
            Left::Bytes(left) => {
                *left = left.checked_sub(length as u64).ok_or(BodyError::Length)?;
            }
            Left::Chunks => {
                // Writing to a vector never fails.
                let _ = write!(out, "{length:x}\r\n");
            }
            Left::Unbounded => {}
            Left::Nothing => return Err(BodyError::Length),
        }
        Ok(())
    }

    /// Writes what comes after `length` bytes of data.
    pub fn after_data(&self, length: usize, out: &mut Vec<u8>) {
        if length > 0 && matches!(self.left, Left::Chunks) {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Ends the body. Trailers are written if it is chunked, and are lost otherwise, as HTTP/1
    /// has no other place for them; so are those that may not be trailers.
    ///
    /// # Errors
    /// If the head announced more bytes.
    pub fn end(&mut self, trailers: Option<&Fields>, out: &mut Vec<u8>) -> Result<(), BodyError> {
        match std::mem::replace(&mut self.left, Left::Nothing) {
            Left::Bytes(1..) => return Err(BodyError::Length),
            Left::Chunks => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flat_map(Fields::iter) {
                    if !is_forbidden(name) {
                        write_field(out, name, value);
                    }
                }
                out.extend_from_slice(b"\r\n");
            }
            Left::Bytes(0) | Left::Unbounded | Left::Nothing => {}
        }
        Ok(())
    }
}

/// `name: value CRLF`. Control bytes in the value become spaces, so that no value, wherever it came
/// from, can end the line.
pub(super) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    let at = out.len();
    out.extend_from_slice(value);
    if has_control(value) {
        out[at..].iter_mut().filter(|byte| is_control(**byte)).for_each(|byte| *byte = b' ');
    }
    out.extend_from_slice(b"\r\n");
}
