//! SPDY/3.1, as far as forwarded ports need it: streams that a client opens, their data, and their ends.
//! There is no flow control: `kubectl` has none either.
//!
//! Headers are compressed over all frames with a dictionary (SPDY/3, section 2.6.10). What is sent here is
//! wrapped in the same form without being made smaller.

use bytes::{Buf, BufMut, Bytes as Piece, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::socket::{Left, Reading, Writing};

/// Where frames come from.
pub(super) enum Bytes {
    Socket(Reading, Piece),
    Plain(ReadHalf<TokioIo<Upgraded>>),
}

/// Where frames go.
pub(super) enum Sink {
    Socket(Writing),
    Plain(WriteHalf<TokioIo<Upgraded>>),
}

impl Bytes {
    async fn fill(&mut self, mut into: &mut [u8]) -> Result<(), Broken> {
        match self {
            Self::Plain(stream) => match stream.read_exact(into).await {
                Ok(_) => Ok(()),
                Err(_) => Err(Broken),
            },
            Self::Socket(socket, left) => {
                while !into.is_empty() {
                    if left.is_empty() {
                        *left = socket.next().await.ok_or(Broken)?;
                    }
                    let count = left.len().min(into.len());
                    left.copy_to_slice(&mut into[..count]);
                    into = &mut into[count..];
                }
                Ok(())
            }
        }
    }
}

impl Sink {
    pub(super) async fn send(&mut self, frame: Piece) -> Result<(), Left> {
        match self {
            Self::Socket(socket) => socket.send(frame).await,
            Self::Plain(stream) => {
                stream.write_all(&frame).await.map_err(|_| Left)?;
                stream.flush().await.map_err(|_| Left)
            }
        }
    }
}

/// The connection has ended, or its client does not keep to the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// What comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A stream is opened.
    Open { stream: u32, headers: Vec<(String, String)> },
    /// Data of a stream, in pieces; after the last nothing more comes.
    Data { stream: u32, bytes: Piece, last: bool },
    /// A stream is given up.
    Reset(u32),
    /// To be sent back.
    Ping(u32),
    /// Something else.
    Other,
}

/// Reads frames.
pub(super) struct Frames {
    from: Bytes,
    headers: Inflating,
    /// Of which stream data is being read, how much is left, and whether it is its last.
    data: Option<(u32, usize, bool)>,
}

impl Frames {
    pub(super) fn new(from: Bytes) -> Self {
        Self { from, headers: Inflating::default(), data: None }
    }

    /// The next frame, or piece of one. Not cancel safe.
    pub(super) async fn next(&mut self) -> Result<Frame, Broken> {
        if let Some((stream, left, last)) = self.data {
            return self.piece(stream, left, last).await;
        }
        let mut head = [0; 8];
        self.from.fill(&mut head).await?;
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let is_last = head[4] & FIN != 0;
        if first & CONTROL == 0 {
            return self.piece(first, length, is_last).await;
        }
        if length > CONTROL_BYTES_MAX || first >> 16 != (CONTROL >> 16 | VERSION) {
            return Err(Broken);
        }
        let mut body = vec![0; length];
        self.from.fill(&mut body).await?;
        let number = |at: usize| {
            let bytes = body.get(at..at + 4).ok_or(Broken)?;
            Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & !CONTROL)
        };
        match first & 0xffff {
            SYN_STREAM => {
                let (stream, block) = (number(0)?, body.get(10..).ok_or(Broken)?);
                Ok(Frame::Open { stream, headers: parse(&self.headers.inflate(block)?)? })
            }
            // Not used, but what is compressed later builds on them.
            SYN_REPLY | HEADERS => {
                self.headers.inflate(body.get(4..).ok_or(Broken)?)?;
                Ok(Frame::Other)
            }
            RST_STREAM => Ok(Frame::Reset(number(0)?)),
            PING => Ok(Frame::Ping(number(0)?)),
            _ => Ok(Frame::Other),
        }
    }

    async fn piece(&mut self, stream: u32, left: usize, last: bool) -> Result<Frame, Broken> {
        let count = left.min(PIECE_BYTES);
        let mut bytes = BytesMut::zeroed(count);
        // Not to be read again if this is given up.
        self.data = None;
        self.from.fill(&mut bytes).await?;
        self.data = (left > count).then_some((stream, left - count, last));
        let last = last && self.data.is_none();
        Ok(Frame::Data { stream, bytes: bytes.freeze(), last })
    }
}

/// Inflates what is one stream over many frames.
struct Inflating {
    state: Box<DecompressorOxide>,
    window: Box<[u8]>,
    at: usize,
    has_begun: bool,
}

impl Default for Inflating {
    fn default() -> Self {
        let window = vec![0; WINDOW_BYTES].into_boxed_slice();
        Self { state: Box::default(), window, at: 0, has_begun: false }
    }
}

impl Inflating {
    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Broken> {
        if !std::mem::replace(&mut self.has_begun, true) {
            block = self.begin(block)?;
        }
        let mut out = Vec::new();
        loop {
            let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            let (status, read, written) =
                decompress(&mut self.state, block, &mut self.window, self.at, flags);
            out.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW_BYTES;
            block = &block[read..];
            if out.len() > HEADERS_BYTES_MAX {
                return Err(Broken);
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if block.is_empty() => return Ok(out),
                _ => return Err(Broken),
            }
        }
    }

    /// Reads what a zlib stream begins with (RFC 1950, section 2.2).
    fn begin<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], Broken> {
        let [method, flags, rest @ ..] = block else { return Err(Broken) };
        let check = u32::from(*method) * 256 + u32::from(*flags);
        if method & 0x0f != 8 || !check.is_multiple_of(31) {
            return Err(Broken);
        }
        if flags & 0x20 == 0 {
            return Ok(rest);
        }
        self.window[..DICTIONARY.len()].copy_from_slice(DICTIONARY);
        self.at = DICTIONARY.len();
        rest.strip_prefix(&DICTIONARY_ID).ok_or(Broken)
    }
}

/// Reads a block of headers: their number, and names and values with their lengths.
fn parse(mut block: &[u8]) -> Result<Vec<(String, String)>, Broken> {
    let count = block.try_get_u32().map_err(|_| Broken)?;
    if count > HEADERS_MAX {
        return Err(Broken);
    }
    let mut text = || {
        let length = block.try_get_u32().map_err(|_| Broken)? as usize;
        let (bytes, rest) = block.split_at_checked(length).ok_or(Broken)?;
        block = rest;
        String::from_utf8(bytes.to_vec()).map_err(|_| Broken)
    };
    (0..count).map(|_| Ok((text()?.to_ascii_lowercase(), text()?))).collect()
}

/// That a stream is taken. The first of a connection begins what is compressed.
pub(super) fn reply(stream: u32, is_first: bool) -> Piece {
    // No headers, as one stored block and an empty one, which makes readers take it at once.
    let none: &[u8] = &[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let begin: &[u8] = if is_first { &[0x78, 0x01] } else { &[] };
    let mut body = BytesMut::new();
    body.put_u32(stream);
    body.put_slice(begin);
    body.put_slice(none);
    control(SYN_REPLY, &body)
}

/// That a stream is given up.
pub(super) fn reset(stream: u32) -> Piece {
    const CANCEL: u32 = 5;
    control(RST_STREAM, &[stream.to_be_bytes(), CANCEL.to_be_bytes()].concat())
}

/// The answer to a ping.
pub(super) fn ping(id: u32) -> Piece {
    control(PING, &id.to_be_bytes())
}

fn control(kind: u32, body: &[u8]) -> Piece {
    let mut frame = BytesMut::with_capacity(8 + body.len());
    frame.put_u32(CONTROL | VERSION << 16 | kind);
    frame.put_u32(u32::try_from(body.len()).unwrap_or_default());
    frame.put_slice(body);
    frame.freeze()
}

/// Room for a frame of data: [`data`] writes its head.
pub(super) fn room() -> BytesMut {
    let mut frame = BytesMut::with_capacity(8 + PIECE_BYTES);
    frame.put_u64(0);
    frame
}

/// A frame of data from what [`room`] gave, filled behind its head.
pub(super) fn data(mut frame: BytesMut, stream: u32) -> Piece {
    let length = u32::try_from(frame.len() - 8).unwrap_or_default();
    frame[..4].copy_from_slice(&stream.to_be_bytes());
    frame[4..8].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// That nothing more comes of a stream.
pub(super) fn end(stream: u32) -> Piece {
    let mut frame = [0; 8];
    frame[..4].copy_from_slice(&stream.to_be_bytes());
    frame[4] = FIN;
    Piece::copy_from_slice(&frame)
}

/// Marks control frames.
const CONTROL: u32 = 1 << 31;
const VERSION: u32 = 3;
const FIN: u8 = 1;
const SYN_STREAM: u32 = 1;
const SYN_REPLY: u32 = 2;
const RST_STREAM: u32 = 3;
const PING: u32 = 6;
const HEADERS: u32 = 8;
/// Bytes of one control frame: those that are used have less than 200.
const CONTROL_BYTES_MAX: usize = 16 << 10;
/// Bytes of the headers of one frame, and their number.
const HEADERS_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: u32 = 64;
/// Bytes of data that are handed on at once.
const PIECE_BYTES: usize = 16 << 10;
/// What deflate may refer back to (RFC 1951, section 2).
const WINDOW_BYTES: usize = 32 << 10;
/// What headers are compressed with (SPDY/3, section 2.6.10.1), and its Adler-32.
const DICTIONARY: &[u8] = include_bytes!("spdy_dictionary.bin");
const DICTIONARY_ID: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];

#[cfg(test)]
mod tests;
