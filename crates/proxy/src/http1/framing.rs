//! How long a body is, and whether its connection can be used again (RFC 9112, sections 6, 9.3).
//!
//! Whatever two implementations may read differently is an error, never a guess.

use crate::message::{Fields, Version};

use super::error::HeadError;
use super::field::{Line, members};
use super::name::Known;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is no body.
    None,
    /// As many bytes as `Content-Length` says; may be 0.
    Length(u64),
    /// Chunked, perhaps with trailers.
    Chunked,
    /// The end of the connection ends it. Responses only.
    UntilClose,
    /// No message follows: the connection belongs to another protocol (101, or 2xx to CONNECT).
    /// Responses only.
    Tunnel,
}

impl Framing {
    /// Whether there is surely nothing to read.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }

    /// States this framing in the fields of a message to be written, in place of any other. Of no
    /// body, of one until close and of a tunnel nothing is said.
    pub fn state(self, fields: &mut Fields) {
        fields.remove("transfer-encoding");
        match self {
            Self::Length(length) => {
                fields.set("content-length", itoa::Buffer::new().format(length).as_bytes());
            }
            Self::Chunked => {
                fields.remove("content-length");
                fields.push(b"transfer-encoding", b"chunked");
            }
            Self::None | Self::UntilClose | Self::Tunnel => {
                fields.remove("content-length");
            }
        }
    }
}

/// What a response answers, as far as its framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// HEAD: the response has no body whatever it says.
    Head,
    /// CONNECT: a 2xx makes a tunnel.
    Connect,
    /// Anything else.
    Other,
}

impl Asked {
    /// What a method asks for. Methods are case-sensitive.
    pub fn by(method: &str) -> Self {
        match method {
            "HEAD" => Self::Head,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// What the fields of a head say about its connection and body, gathered line by line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stated {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) connection_upgrade: bool,
    pub(super) upgrade: bool,
    pub(super) te_trailers: bool,
    pub(super) hop_by_hop: bool,
}

impl Stated {
    /// Takes note of one field.
    pub(super) fn note(&mut self, line: &Line<'_>) -> Result<(), HeadError> {
        self.hop_by_hop |= line.known.is_hop_by_hop();
        match line.known {
            Known::ContentLength if self.length.is_some() => {
                return Err(HeadError::ContentLengthRepeated);
            }
            Known::ContentLength => self.length = Some(content_length(line.value)?),
            Known::TransferEncoding => self.transfer_encoding(line.value)?,
            Known::Connection => self.connection(line.value),
            Known::Upgrade => self.upgrade |= can_upgrade_to(line.value),
            // `100-continue` is passed on, and answered by the endpoint.
            Known::Expect if !line.value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(HeadError::ExpectationUnknown);
            }
            Known::Te => {
                let trailers = |member: &[u8]| member.eq_ignore_ascii_case(b"trailers");
                self.te_trailers |= members(line.value).any(trailers);
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks what only the whole head tells.
    pub(super) fn check(&self, version: Version) -> Result<(), HeadError> {
        if self.chunked && self.length.is_some() {
            return Err(HeadError::LengthAndCoding);
        }
        if self.chunked && version == Version::Http10 {
            return Err(HeadError::CodingInHttp10);
        }
        Ok(())
    }

    /// Whether the connection persists after this message, as far as its sender says.
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version != Version::Http10)
    }

    pub(super) fn request_framing(&self) -> Framing {
        match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        }
    }

    /// RFC 9112, section 6.3, rules 1, 2, 4, 6 and 8.
    pub(super) fn response_framing(&self, status: u16, asked: Asked) -> Framing {
        match (status, asked) {
            (101, _) | (200..=299, Asked::Connect) => Framing::Tunnel,
            (100..=199 | 204 | 304, _) | (_, Asked::Head) => Framing::None,
            _ if self.chunked => Framing::Chunked,
            _ => self.length.map_or(Framing::UntilClose, Framing::Length),
        }
    }

    /// The word `chunked` alone is what we take. `gzip, chunked` is legal and not known; all else
    /// leaves the end of the body in doubt.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.chunked {
            return Err(HeadError::CodingNotChunked);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let ends_so = members(value).last().is_some_and(is_chunked);
        let once = members(value).filter(|coding| is_chunked(coding)).count() == 1;
        let others = members(value).count() > 1;
        Err(match ends_so && once && others {
            true => HeadError::CodingUnknown,
            false => HeadError::CodingNotChunked,
        })
    }

    fn connection(&mut self, value: &[u8]) {
        for option in members(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }
}

/// Whether an `Upgrade` value names a protocol to which a proxy may switch blindly. Not so h2c
/// (RFC 9113, section 3.1 has removed it): through it requests would pass that no one decides on.
fn can_upgrade_to(value: &[u8]) -> bool {
    let is_http = |protocol: &[u8]| {
        protocol.eq_ignore_ascii_case(b"h2c")
            || protocol.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"http/"))
    };
    members(value).next().is_some() && !members(value).any(is_http)
}

/// RFC 9110, section 8.6: digits only. Limited to 63 bits, since many store it signed.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::ContentLengthInvalid);
    }
    // 19 digits fit into 64 bits.
    let length = value.iter().fold(0_u64, |length, byte| length * 10 + u64::from(byte - b'0'));
    if length > i64::MAX as u64 { Err(HeadError::ContentLengthInvalid) } else { Ok(length) }
}
