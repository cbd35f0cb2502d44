//! What must hold of the HTTP/1 codec for any bytes whatever.
//!
//! Used by the fuzz targets, and by the tests of the proxy over seeds and random changes of them.

use std::fmt::Write as _;

use crate::http1::{
    Asked, BodyDecoder, BodyEncoder, Decoded, Framing, Limits, RequestParser, ResponseParser,
    write_request, write_response,
};
use crate::message::{Fields, RequestHead, ResponseHead};

/// Small limits, so that short inputs reach them.
pub const LIMITS: Limits = Limits {
    head_bytes_max: 2048,
    header_count_max: 24,
    trailer_bytes_max: 256,
    chunk_line_bytes_max: 64,
};

/// A connection with requests: the same whatever the fragmentation; what is accepted means the same
/// when it is written and read again.
pub fn requests(bytes: &[u8]) {
    let whole = read_requests([bytes].into_iter());
    for size in [1, 7, 64] {
        assert_eq!(read_requests(bytes.chunks(size)), whole, "in pieces of {size}");
    }
    let mut head = RequestHead::default();
    let Ok(Some(traits)) = RequestParser::new(LIMITS).parse(bytes, &mut head) else { return };
    let mut written = Vec::new();
    // An HTTP/1.0 request without `host` cannot be written as HTTP/1.1.
    if head.authority().is_empty() || head.method() == "CONNECT" {
        return;
    }
    write_request(&head, &mut written);
    let mut again = RequestHead::default();
    // Writing may be longer (a space after each colon), so the limits are wider.
    let traits_again = RequestParser::new(wide()).parse(&written, &mut again);
    let traits_again = traits_again.expect("written heads parse").expect("written heads end");
    assert_eq!(traits_again.framing, traits.framing);
    assert_eq!(traits_again.head_bytes, written.len());
    assert_eq!(
        (again.method(), again.target(), again.authority()),
        (head.method(), head.target(), head.authority())
    );
    assert_eq!(format!("{:?}", again.fields), format!("{:?}", head.fields));
}

/// A connection with responses.
pub fn responses(bytes: &[u8]) {
    for asked in [Asked::Other, Asked::Head, Asked::Connect] {
        let whole = read_responses([bytes].into_iter(), asked);
        for size in [1, 7, 64] {
            assert_eq!(read_responses(bytes.chunks(size), asked), whole, "in pieces of {size}");
        }
    }
    let mut head = ResponseHead::default();
    let parsed = ResponseParser::new(LIMITS).parse(bytes, Asked::Other, &mut head);
    let Ok(Some(traits)) = parsed else { return };
    let mut written = Vec::new();
    write_response(&head, &mut written);
    let mut again = ResponseHead::default();
    let traits_again = ResponseParser::new(wide()).parse(&written, Asked::Other, &mut again);
    let traits_again = traits_again.expect("written heads parse").expect("written heads end");
    assert_eq!(traits_again.framing, traits.framing);
    assert_eq!(again.status, head.status);
    assert_eq!(format!("{:?}", again.fields), format!("{:?}", head.fields));
}

/// A chunked body: the same when it is encoded and decoded again.
pub fn chunked(bytes: &[u8]) {
    let Some(decoded) = decode(bytes, LIMITS) else { return };
    let mut encoder = BodyEncoder::new(Framing::Chunked);
    let mut encoded = Vec::new();
    for part in decoded.data.chunks(97) {
        encoder.data(part, &mut encoded).expect("a chunked body takes any data");
    }
    encoder.end(decoded.trailers.as_ref(), &mut encoded).expect("a chunked body may end anywhere");
    let again = decode(&encoded, wide()).expect("what was encoded is whole");
    assert_eq!(again.data, decoded.data);
    assert_eq!(format!("{:?}", again.trailers), format!("{:?}", decoded.trailers));
    assert_eq!(again.rest, 0);
}

/// What came over a connection of requests, as text: heads, bodies, and how it ended.
pub fn read_requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut parser = RequestParser::new(LIMITS);
    let mut head = RequestHead::default();
    read(pieces, |buffer, out| {
        let traits = parser.parse(buffer, &mut head).map_err(|error| format!("{error:?}"))?;
        let Some(traits) = traits else { return Ok(None) };
        let _ = write!(
            out,
            "{} {} for {:?} {:?} {:?} {traits:?}",
            head.method(),
            head.target(),
            head.authority(),
            head.version,
            head.fields
        );
        Ok(Some((traits.head_bytes, traits.framing)))
    })
}

/// What came over a connection of responses.
pub fn read_responses<'a>(pieces: impl Iterator<Item = &'a [u8]>, asked: Asked) -> String {
    let mut parser = ResponseParser::new(LIMITS);
    let mut head = ResponseHead::default();
    read(pieces, |buffer, out| {
        let traits =
            parser.parse(buffer, asked, &mut head).map_err(|error| format!("{error:?}"))?;
        let Some(traits) = traits else { return Ok(None) };
        let _ = write!(out, "{} {:?} {:?} {traits:?}", head.status, head.version, head.fields);
        Ok(Some((traits.head_bytes, traits.framing)))
    })
}

type Headed = Result<Option<(usize, Framing)>, String>;

fn read<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    mut parse: impl FnMut(&[u8], &mut String) -> Headed,
) -> String {
    let mut out = String::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut body: Option<BodyDecoder> = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if let Err(error) = turn(&mut buffer, &mut body, &mut out, &mut parse) {
            // How much of a body was seen before its error depends on the pieces.
            let _ = write!(out, "\nrefused: {error}");
            return out;
        }
    }
    let _ = write!(out, "\nmore: {}", body.is_some());
    out
}

fn turn(
    buffer: &mut Vec<u8>,
    body: &mut Option<BodyDecoder>,
    out: &mut String,
    parse: &mut impl FnMut(&[u8], &mut String) -> Headed,
) -> Result<(), String> {
    loop {
        let Some(decoder) = body else {
            let Some((taken, framing)) = parse(buffer, out)? else { return Ok(()) };
            buffer.drain(..taken);
            out.push_str("\nbody ");
            if framing == Framing::Tunnel {
                // Nothing after it is HTTP.
                return Err("tunnel".into());
            }
            *body = Some(BodyDecoder::new(framing, LIMITS));
            continue;
        };
        match decoder.next(buffer).map_err(|error| format!("{error:?}"))? {
            Decoded::More => return Ok(()),
            Decoded::Framing(bytes) => drop(buffer.drain(..bytes)),
            Decoded::Data(bytes) => {
                for byte in buffer.drain(..bytes) {
                    let _ = write!(out, "{byte:02x}");
                }
            }
            Decoded::End => {
                let _ = writeln!(out, " trailers {:?}", decoder.take_trailers());
                *body = None;
            }
        }
    }
}

struct WholeBody {
    data: Vec<u8>,
    trailers: Option<Fields>,
    /// Bytes left behind the end.
    rest: usize,
}

/// A whole chunked body.
fn decode(bytes: &[u8], limits: Limits) -> Option<WholeBody> {
    let mut decoder = BodyDecoder::new(Framing::Chunked, limits);
    let mut data = Vec::new();
    let mut rest = bytes;
    loop {
        match decoder.next(rest).ok()? {
            Decoded::More => return None,
            Decoded::Framing(bytes) => rest = &rest[bytes..],
            Decoded::Data(bytes) => {
                data.extend_from_slice(&rest[..bytes]);
                rest = &rest[bytes..];
            }
            Decoded::End => {
                return Some(WholeBody {
                    data,
                    trailers: decoder.take_trailers(),
                    rest: rest.len(),
                });
            }
        }
    }
}

fn wide() -> Limits {
    Limits {
        head_bytes_max: LIMITS.head_bytes_max * 4,
        header_count_max: LIMITS.header_count_max + 1,
        trailer_bytes_max: LIMITS.trailer_bytes_max * 4,
        chunk_line_bytes_max: LIMITS.chunk_line_bytes_max,
    }
}
