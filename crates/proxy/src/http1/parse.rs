//! Heads out of bytes, line by line as they arrive.
//!
//! A parser remembers what it has seen, so that a head which comes byte by byte costs no more than
//! one that comes at once, and gives the same result or the same error.

use ironmesh_model::limits::ProxyLimits;

use crate::message::{RequestHead, ResponseHead, Version};
use crate::words::has_control;

use super::error::HeadError;
use super::field;
use super::framing::{Asked, Framing, Stated};
use super::name::Known;
use super::target::{self, Target, TargetForm, is_authority};

/// Limits of the codec.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`ProxyLimits::head_bytes_max`].
    pub head_bytes_max: usize,
    /// See [`ProxyLimits::header_count_max`].
    pub header_count_max: usize,
    /// See [`ProxyLimits::trailer_bytes_max`].
    pub trailer_bytes_max: usize,
    /// See [`ProxyLimits::chunk_line_bytes_max`].
    pub chunk_line_bytes_max: usize,
}

impl From<&ProxyLimits> for Limits {
    fn from(limits: &ProxyLimits) -> Self {
        Self {
            head_bytes_max: limits.head_bytes_max,
            header_count_max: limits.header_count_max,
            trailer_bytes_max: limits.trailer_bytes_max,
            chunk_line_bytes_max: limits.chunk_line_bytes_max,
        }
    }
}

/// What the codec knows of a request besides its head. Whoever holds one knows that the framing is
/// unambiguous and the authority valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTraits {
    /// Bytes of the head, to be taken off the buffer; the body follows.
    pub head_bytes: usize,
    /// How long the body is; never until close, never a tunnel.
    pub framing: Framing,
    /// Whether the client keeps the connection open for another request.
    pub keep_alive: bool,
    /// Whether the client said `TE: trailers`.
    pub accepts_trailers: bool,
    /// Whether the client asks to switch to the protocols in its `upgrade` field. HTTP itself
    /// (`h2c`) is no such protocol.
    pub upgrade: bool,
    /// In which form the target came.
    pub target_form: TargetForm,
    /// Whether there are fields for [`remove_hop_by_hop`](super::remove_hop_by_hop).
    pub hop_by_hop: bool,
}

/// Parses the heads of the requests of one connection.
#[derive(Debug)]
pub struct RequestParser {
    lines: Lines,
    started: Option<(Version, TargetForm)>,
    host: bool,
    stated: Stated,
}

impl RequestParser {
    /// A parser for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { lines: Lines::new(limits), started: None, host: false, stated: Stated::default() }
    }

    /// Looks for a whole head at the beginning of `buffer` and puts it into `head`; `None` if more
    /// bytes are needed. Until then the caller only appends to the buffer, and gives the same head
    /// again. Then the parser is ready for the next request.
    ///
    /// The authority is that of the target if it has one, else the `host` field, which is never
    /// among the fields (RFC 9112, section 3.3); it is empty only in HTTP/1.0. A target in absolute
    /// form becomes its path.
    ///
    /// # Errors
    /// When the request must be refused ([`HeadError::status`] says with what); nothing can be read
    /// from the connection after that.
    pub fn parse(
        &mut self,
        buffer: &[u8],
        head: &mut RequestHead,
    ) -> Result<Option<RequestTraits>, HeadError> {
        loop {
            let Some(line) = self.lines.next(buffer, self.started.is_some())? else {
                return Ok(None);
            };
            match self.started {
                None if line.is_empty() => self.lines.skip_empty()?,
                None => {
                    head.clear();
                    self.started = Some(request_line(line, head)?);
                }
                Some((version, form)) if line.is_empty() => {
                    return self.finish(version, form, head).map(Some);
                }
                Some((_, form)) => self.field(line, form, head)?,
            }
        }
    }

    fn field(
        &mut self,
        line: &[u8],
        form: TargetForm,
        head: &mut RequestHead,
    ) -> Result<(), HeadError> {
        self.lines.count_field()?;
        let line = field::parse_line(line)?;
        if line.known != Known::Host {
            self.stated.note(&line)?;
            head.fields.push(line.name, line.value);
            return Ok(());
        }
        if std::mem::replace(&mut self.host, true) {
            return Err(HeadError::HostRepeated);
        }
        let host = std::str::from_utf8(line.value).map_err(|_| HeadError::HostInvalid)?;
        if !is_authority(line.value) {
            return Err(HeadError::HostInvalid);
        }
        if matches!(form, TargetForm::Origin | TargetForm::Asterisk) {
            head.set_authority(host);
        }
        Ok(())
    }

    fn finish(
        &mut self,
        version: Version,
        target_form: TargetForm,
        head: &mut RequestHead,
    ) -> Result<RequestTraits, HeadError> {
        let head_bytes = self.lines.restart();
        self.started = None;
        let host = std::mem::take(&mut self.host);
        let stated = std::mem::take(&mut self.stated);
        if !host && version != Version::Http10 {
            return Err(HeadError::HostMissing);
        }
        stated.check(version)?;
        head.version = version;
        let framing = stated.request_framing();
        let is_http11 = version != Version::Http10;
        Ok(RequestTraits {
            head_bytes,
            framing,
            keep_alive: stated.persists(version) && target_form != TargetForm::Authority,
            accepts_trailers: stated.te_trailers,
            upgrade: stated.upgrade && stated.connection_upgrade && is_http11,
            target_form,
            hop_by_hop: stated.hop_by_hop,
        })
    }
}

/// What the codec knows of a response besides its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTraits {
    /// Bytes of the head, to be taken off the buffer; the body follows.
    pub head_bytes: usize,
    /// How long the body is, with regard to what was asked.
    pub framing: Framing,
    /// Whether the connection can carry another request once the body was read to its end.
    pub keep_alive: bool,
    /// Whether there are fields for [`remove_hop_by_hop`](super::remove_hop_by_hop).
    pub hop_by_hop: bool,
}

/// Parses the heads of the responses of one connection.
#[derive(Debug)]
pub struct ResponseParser {
    lines: Lines,
    started: bool,
    stated: Stated,
}

impl ResponseParser {
    /// A parser for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { lines: Lines::new(limits), started: false, stated: Stated::default() }
    }

    /// Looks for a whole head at the beginning of `buffer` and puts it into `head`; `None` if more
    /// bytes are needed. Until then the caller only appends to the buffer, and gives the same head
    /// again. `asked` is what the response answers. After an informational response
    /// ([`ResponseHead::is_informational`]) the next one follows at once. A `content-length` where
    /// no body may be (1xx, 204) is left out.
    ///
    /// # Errors
    /// When the response must be refused: the client gets 502, the connection is closed.
    pub fn parse(
        &mut self,
        buffer: &[u8],
        asked: Asked,
        head: &mut ResponseHead,
    ) -> Result<Option<ResponseTraits>, HeadError> {
        loop {
            let Some(line) = self.lines.next(buffer, self.started)? else { return Ok(None) };
            if !self.started {
                head.clear();
                status_line(line, head)?;
                self.started = true;
            } else if line.is_empty() {
                return self.finish(asked, head).map(Some);
            } else {
                self.lines.count_field()?;
                let line = field::parse_line(line)?;
                if line.known != Known::Expect {
                    self.stated.note(&line)?;
                }
                head.fields.push(line.name, line.value);
            }
        }
    }

    fn finish(
        &mut self,
        asked: Asked,
        head: &mut ResponseHead,
    ) -> Result<ResponseTraits, HeadError> {
        let head_bytes = self.lines.restart();
        self.started = false;
        let stated = std::mem::take(&mut self.stated);
        stated.check(head.version)?;
        let framing = stated.response_framing(head.status, asked);
        // A body where none may be, but announced: if it comes, it is not the next answer.
        let bodiless = matches!(head.status, 100..=199 | 204);
        let stray = bodiless && (stated.chunked || stated.length.is_some_and(|l| l > 0));
        if bodiless && stated.length.is_some() {
            head.fields.remove("content-length");
        }
        let ends_connection = matches!(framing, Framing::UntilClose | Framing::Tunnel);
        Ok(ResponseTraits {
            head_bytes,
            framing,
            keep_alive: stated.persists(head.version) && !stray && !ends_connection,
            hop_by_hop: stated.hop_by_hop,
        })
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112, section 3), with single spaces.
fn request_line(line: &[u8], head: &mut RequestHead) -> Result<(Version, TargetForm), HeadError> {
    if line == b"PRI * HTTP/2.0" {
        return Err(HeadError::Http2Preface);
    }
    let method_end = line.iter().position(|b| *b == b' ').ok_or(HeadError::RequestLine)?;
    let target_end = line.iter().rposition(|b| *b == b' ').ok_or(HeadError::RequestLine)?;
    let method = &line[..method_end];
    if method.is_empty() || !method.iter().all(|b| field::is_token(*b)) {
        return Err(HeadError::Method);
    }
    if target_end == method_end {
        return Err(HeadError::RequestLine);
    }
    let version = version(&line[target_end + 1..])?;
    let target = &line[method_end + 1..target_end];
    let Target { form, https, authority, path } = target::parse(method, target)?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| HeadError::Target);
    head.set_method(text(method)?);
    head.set_authority(text(&target[authority])?);
    head.set_https(https);
    match text(&target[path])? {
        "" if form == TargetForm::Absolute && method == b"OPTIONS" => head.set_target("*"),
        "" if form == TargetForm::Absolute => head.set_target("/"),
        query if query.starts_with('?') => head.set_target(&format!("/{query}")),
        path => head.set_target(path),
    }
    Ok((version, form))
}

/// `HTTP-version SP 3DIGIT SP [reason]` (RFC 9112, section 4). The second space may be missing
/// when there is no reason, as many servers send it.
fn status_line(line: &[u8], head: &mut ResponseHead) -> Result<(), HeadError> {
    let space = line.iter().position(|b| *b == b' ').ok_or(HeadError::StatusLine)?;
    head.version = version(&line[..space])?;
    let (digits, reason) = match &line[space + 1..] {
        [a, b, c] => ([*a, *b, *c], &b""[..]),
        [a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
        _ => return Err(HeadError::StatusLine),
    };
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' || has_control(reason) {
        return Err(HeadError::StatusLine);
    }
    head.status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    head.set_reason(reason);
    Ok(())
}

fn version(text: &[u8]) -> Result<Version, HeadError> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(HeadError::VersionUnsupported)
        }
        _ => Err(HeadError::VersionSyntax),
    }
}

/// Finds lines in a buffer that grows.
#[derive(Debug)]
struct Lines {
    limits: Limits,
    /// Where the current line begins.
    line: usize,
    /// Up to where no end of the current line was found.
    scanned: usize,
    /// Empty lines before the request line.
    empty: usize,
    fields: usize,
}

impl Lines {
    fn new(limits: Limits) -> Self {
        Self { limits, line: 0, scanned: 0, empty: 0, fields: 0 }
    }

    /// The next complete line, without its CRLF.
    fn next<'b>(
        &mut self,
        buffer: &'b [u8],
        after_start_line: bool,
    ) -> Result<Option<&'b [u8]>, HeadError> {
        let max = self.limits.head_bytes_max;
        let seen = buffer.len().min(max);
        let Some(found) = memchr::memchr(b'\n', &buffer[self.scanned..seen]) else {
            self.scanned = seen;
            return match (seen == max, after_start_line) {
                (false, _) => Ok(None),
                (true, false) => Err(HeadError::StartLineTooLarge),
                (true, true) => Err(HeadError::HeadTooLarge),
            };
        };
        let newline = self.scanned + found;
        if newline == self.line || buffer[newline - 1] != b'\r' {
            return Err(HeadError::BareLf);
        }
        let line = &buffer[self.line..newline - 1];
        self.line = newline + 1;
        self.scanned = self.line;
        Ok(Some(line))
    }

    /// RFC 9112, section 2.2: a server ignores at least one empty line before a request line.
    fn skip_empty(&mut self) -> Result<(), HeadError> {
        self.empty += 1;
        if self.empty > EMPTY_LINES_MAX { Err(HeadError::EmptyLines) } else { Ok(()) }
    }

    fn count_field(&mut self) -> Result<(), HeadError> {
        self.fields += 1;
        let too_many = self.fields > self.limits.header_count_max;
        if too_many { Err(HeadError::TooManyFields) } else { Ok(()) }
    }

    /// Ends a head; returns its length.
    fn restart(&mut self) -> usize {
        let end = self.line;
        *self = Self::new(self.limits);
        end
    }
}

/// Empty lines tolerated before a request line: what old clients send after a POST, and some more.
pub(super) const EMPTY_LINES_MAX: usize = 4;
