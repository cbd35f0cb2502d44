//! Bodies out of bytes, without copying.

use crate::message::Fields;

use super::chunk;
use super::error::BodyError;
use super::framing::Framing;
use super::parse::Limits;

/// Reads the body of one message, never beyond its end: tells data from framing, and gives the
/// trailers.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    limits: Limits,
    trailers: Option<Box<Trailers>>,
}

/// What stands at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Nothing yet: more bytes are needed.
    More,
    /// So many bytes of framing, to be taken off and dropped.
    Framing(usize),
    /// So many bytes of data, at least one, to be taken off.
    Data(usize),
    /// The end of the body: what stands here belongs to the next message.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

#[derive(Debug, Default)]
struct Trailers {
    fields: Fields,
    bytes: usize,
}

impl BodyDecoder {
    /// A decoder for a body that is framed so.
    pub fn new(framing: Framing, limits: Limits) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) | Framing::Tunnel => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, limits, trailers: None }
    }

    /// Whether the whole body was read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Tells what stands at the beginning of `input`. The caller takes it off and asks again; after
    /// [`Decoded::More`] it first appends to what is left.
    ///
    /// # Errors
    /// When the body must be refused.
    pub fn next(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        match self.state {
            State::Done => Ok(Decoded::End),
            _ if input.is_empty() => Ok(Decoded::More),
            State::UntilClose => Ok(Decoded::Data(input.len())),
            State::Length(left) => Ok(self.data(left, input, State::Length, State::Done)),
            State::ChunkData(left) => Ok(self.data(left, input, State::ChunkData, State::ChunkEnd)),
            State::ChunkEnd => match input {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkSize;
                    Ok(Decoded::Framing(2))
                }
                [b'\r'] => Ok(Decoded::More),
                _ => Err(BodyError::ChunkEnd),
            },
            State::ChunkSize => self.chunk_size(input),
            State::Trailers => self.trailer(input),
        }
    }

    /// The connection has ended; everything read before was given to the decoder.
    ///
    /// # Errors
    /// If the body is not complete.
    pub fn close(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }

    /// Takes the trailers, once the body is done and if there were any.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take_if(|_| self.state == State::Done).map(|trailers| trailers.fields)
    }

    fn data(&mut self, left: u64, input: &[u8], more: fn(u64) -> State, end: State) -> Decoded {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let left = left - here as u64;
        self.state = if left == 0 { end } else { more(left) };
        Decoded::Data(here)
    }

    fn chunk_size(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let max = self.limits.chunk_line_bytes_max;
        let Some(line) = line(input, max, BodyError::ChunkLineTooLarge)? else {
            return Ok(Decoded::More);
        };
        self.state = match chunk::size_line(line)? {
            0 => State::Trailers,
            size => State::ChunkData(size),
        };
        Ok(Decoded::Framing(line.len() + 2))
    }

    fn trailer(&mut self, input: &[u8]) -> Result<Decoded, BodyError> {
        let max = self.limits.trailer_bytes_max;
        let Some(line) = line(input, max, BodyError::TrailersTooLarge)? else {
            return Ok(Decoded::More);
        };
        if line.is_empty() {
            self.state = State::Done;
            return Ok(Decoded::Framing(2));
        }
        let field = chunk::trailer(line)?;
        let bytes = line.len() + 2;
        let section = self.trailers.get_or_insert_default();
        section.bytes += bytes;
        if section.bytes > max || section.fields.len() == self.limits.header_count_max {
            return Err(BodyError::TrailersTooLarge);
        }
        section.fields.push(field.name, field.value);
        Ok(Decoded::Framing(bytes))
    }
}

/// The first line of `input` without its CRLF, if it is complete; it may have `max` bytes with it.
fn line(input: &[u8], max: usize, too_large: BodyError) -> Result<Option<&[u8]>, BodyError> {
    let seen = &input[..input.len().min(max)];
    match memchr::memchr(b'\n', seen) {
        None if seen.len() == max => Err(too_large),
        None => Ok(None),
        Some(end) if end > 0 && seen[end - 1] == b'\r' => Ok(Some(&seen[..end - 1])),
        Some(_) => Err(BodyError::BareLf),
    }
}
