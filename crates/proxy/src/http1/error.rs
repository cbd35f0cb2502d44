//! Why a message is refused. Each variant is one rule; none carries bytes of the peer.

/// A head (start line and fields) that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// More bytes than `head_bytes_max`, and the request line was complete.
    #[error("head is larger than the limit head_bytes_max")]
    HeadTooLarge,
    /// More bytes than `head_bytes_max` in the start line alone.
    #[error("start line is larger than the limit head_bytes_max")]
    StartLineTooLarge,
    /// More fields than `header_count_max`.
    #[error("head has more fields than the limit header_count_max")]
    TooManyFields,
    /// More than four empty lines before the request line.
    #[error("too many empty lines before the request line")]
    EmptyLines,
    /// A line ends in LF without CR. RFC 9112, section 2.2 allows to take it; it is refused, since
    /// implementations differ.
    #[error("line ends in LF without CR")]
    BareLf,
    /// The preface of HTTP/2 where HTTP/1 is expected.
    #[error("this is the connection preface of HTTP/2")]
    Http2Preface,
    /// The request line is not `method SP target SP version`.
    #[error("request line is not `method target version`")]
    RequestLine,
    /// The method is no token.
    #[error("method is not a token")]
    Method,
    /// Whitespace, a control byte, `#`, or a byte outside ASCII in the target, or a form that does
    /// not fit the method.
    #[error("request target is invalid")]
    Target,
    /// The status line is not `version SP 3DIGIT SP reason`.
    #[error("status line is not `version status reason`")]
    StatusLine,
    /// The version is none of HTTP at all.
    #[error("protocol version is malformed")]
    VersionSyntax,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("protocol version is neither HTTP/1.0 nor HTTP/1.1")]
    VersionUnsupported,
    /// A field line without a colon, or a name that is no token.
    #[error("field name is not a token")]
    FieldName,
    /// `Name : value`. RFC 9112, section 5.1 demands to refuse it.
    #[error("whitespace between field name and colon")]
    SpaceBeforeColon,
    /// A line that begins with whitespace (obs-fold). RFC 9112, section 5.2 allows to refuse it.
    #[error("field line is folded")]
    FoldedLine,
    /// NUL, CR, LF or another control byte in a value.
    #[error("control byte in a field value")]
    FieldValue,
    /// HTTP/1.1 without `Host`.
    #[error("no host field")]
    HostMissing,
    /// `Host` more than once.
    #[error("more than one host field")]
    HostRepeated,
    /// `Host` is no `host[:port]`, or is empty.
    #[error("host field is invalid")]
    HostInvalid,
    /// `Content-Length` is no number that fits into 63 bits, or a list.
    #[error("content-length is invalid")]
    ContentLengthInvalid,
    /// `Content-Length` more than once, even if the values are the same.
    #[error("more than one content-length field")]
    ContentLengthRepeated,
    /// `Content-Length` and `Transfer-Encoding`.
    #[error("both content-length and transfer-encoding")]
    LengthAndCoding,
    /// `Transfer-Encoding` in HTTP/1.0.
    #[error("transfer-encoding in HTTP/1.0")]
    CodingInHttp10,
    /// `Transfer-Encoding` where `chunked` is not last, or is there twice.
    #[error("transfer-encoding does not end in a single `chunked`")]
    CodingNotChunked,
    /// A transfer coding before `chunked` that the proxy does not know (all but none).
    #[error("transfer coding is not known")]
    CodingUnknown,
    /// `Expect` with something else than `100-continue`.
    #[error("expectation is not known")]
    ExpectationUnknown,
}

impl HeadError {
    /// The status with which a request that has this error is answered. The connection is closed
    /// after it. A response with an error makes 502, whatever the error.
    pub fn status(self) -> u16 {
        match self {
            Self::StartLineTooLarge => 414,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::VersionUnsupported | Self::Http2Preface => 505,
            Self::CodingUnknown => 501,
            Self::ExpectationUnknown => 417,
            _ => 400,
        }
    }
}

/// A body that is refused. The message cannot be completed: the connections of both sides are
/// closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// No digits, something else than hex digits, or a number that does not fit into 63 bits.
    #[error("chunk size is invalid")]
    ChunkSize,
    /// The extension of a chunk does not match the grammar of RFC 9112, section 7.1.1.
    #[error("chunk extension is invalid")]
    ChunkExtension,
    /// More bytes than `chunk_line_bytes_max` in a chunk-size line.
    #[error("chunk-size line is larger than the limit chunk_line_bytes_max")]
    ChunkLineTooLarge,
    /// No CRLF after the data of a chunk.
    #[error("no CRLF after the data of a chunk")]
    ChunkEnd,
    /// A chunk-size line or trailer line that ends in LF without CR.
    #[error("line ends in LF without CR")]
    BareLf,
    /// More bytes than `trailer_bytes_max`, or more fields than `header_count_max`.
    #[error("trailer section is larger than its limit")]
    TrailersTooLarge,
    /// A trailer line is malformed.
    #[error("trailer is malformed: {0}")]
    Trailer(HeadError),
    /// A field that may not be a trailer (RFC 9110, section 6.5.1).
    #[error("field is not allowed as a trailer")]
    TrailerForbidden,
    /// The connection ended before the body did.
    #[error("connection ended before the body did")]
    Truncated,
    /// More or fewer bytes to send than `Content-Length` said.
    #[error("body has another length than its content-length")]
    Length,
}
