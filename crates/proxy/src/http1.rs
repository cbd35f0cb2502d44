//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112): heads and bodies between bytes and meaning.
//!
//! State machines over buffers: nothing here reads, writes or waits, the proxy does. What two
//! implementations may read differently is refused, never repaired, so that no message means one
//! thing here and another behind us:
//!
//! - lines end in CRLF; LF alone is refused, in requests and responses (RFC 9112, section 2.2
//!   allows to take it);
//! - a body is framed by one `Content-Length` or by `Transfer-Encoding: chunked` alone; both,
//!   several, lists, other codings and `chunked` in HTTP/1.0 are refused, also in responses;
//! - folded lines, whitespace before a colon, control bytes, names that are no tokens, whitespace
//!   or bytes outside ASCII in the target, a missing, repeated or malformed `Host` are refused.
//!
//! The way of a message: [`RequestParser`] or [`ResponseParser`] fills a head and tells its
//! [`Framing`]; [`write_request`] or [`write_response`] writes the head for the other side;
//! [`BodyDecoder`] takes the body out of its framing and [`BodyEncoder`] frames it anew.
//!
//! ```
//! use ironmesh_model::limits::ProxyLimits;
//! use ironmesh_proxy::http1::{BodyDecoder, Framing, Limits, RequestParser, Decoded};
//! use ironmesh_proxy::message::RequestHead;
//!
//! let limits = Limits::from(&ProxyLimits::default());
//! let buffer = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhiGET";
//! let mut head = RequestHead::default();
//! let traits = RequestParser::new(limits).parse(buffer, &mut head)?.expect("a whole head");
//! assert_eq!((head.method(), head.authority()), ("POST", "a"));
//! assert_eq!(traits.framing, Framing::Length(2));
//! let mut body = BodyDecoder::new(traits.framing, limits);
//! assert_eq!(body.next(&buffer[traits.head_bytes..]), Ok(Decoded::Data(2)));
//! assert!(body.is_done());
//! # Ok::<(), ironmesh_proxy::http1::HeadError>(())
//! ```

mod body;
mod chunk;
mod encode;
mod error;
mod field;
mod framing;
mod name;
mod parse;
mod sniff;
mod target;
mod write;

#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, Decoded};
pub use encode::BodyEncoder;
pub use error::{BodyError, HeadError};
pub use field::remove_hop_by_hop;
pub use framing::{Asked, Framing};
pub use parse::{Limits, RequestParser, RequestTraits, ResponseParser, ResponseTraits};
pub use sniff::{Sniffed, Sniffer};
pub use target::{TargetForm, is_authority, is_path};
pub use write::{write_request, write_response};
