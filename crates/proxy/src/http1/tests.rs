//! The rules of RFC 9112 one by one, then what must hold of any bytes.

use proptest::prelude::*;

use super::*;
use crate::message::{Fields, RequestHead, ResponseHead, Version};

use crate::untrusted::{http1_properties as fuzz, seeds};

mod rules;

fn limits() -> Limits {
    Limits::from(&ironmesh_model::limits::ProxyLimits::default())
}

fn request(bytes: &[u8]) -> Result<Option<(RequestHead, RequestTraits)>, HeadError> {
    let mut head = RequestHead::default();
    let traits = RequestParser::new(limits()).parse(bytes, &mut head)?;
    Ok(traits.map(|traits| (head, traits)))
}

fn response(
    bytes: &[u8],
    asked: Asked,
) -> Result<Option<(ResponseHead, ResponseTraits)>, HeadError> {
    let mut head = ResponseHead::default();
    let traits = ResponseParser::new(limits()).parse(bytes, asked, &mut head)?;
    Ok(traits.map(|traits| (head, traits)))
}

/// How much of `input` is the body's.
fn read_body(decoder: &mut BodyDecoder, input: &[u8]) -> Result<usize, BodyError> {
    let mut read = 0;
    loop {
        match decoder.next(&input[read..])? {
            Decoded::More | Decoded::End => return Ok(read),
            Decoded::Framing(bytes) | Decoded::Data(bytes) => read += bytes,
        }
    }
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in pairs {
        fields.push(name.as_bytes(), value.as_bytes());
    }
    fields
}

#[test]
fn seeds_hold_wherever_they_are_split() {
    for bytes in seeds("http1") {
        let whole = || [&*bytes].into_iter();
        for at in 0..=bytes.len() {
            let (first, second) = bytes.split_at(at);
            let halves = || [first, second].into_iter();
            assert_eq!(fuzz::read_requests(halves()), fuzz::read_requests(whole()));
            for asked in [Asked::Other, Asked::Head] {
                let read = |pieces: &[&[u8]]| fuzz::read_responses(pieces.iter().copied(), asked);
                assert_eq!(read(&[first, second]), read(&[&bytes]));
            }
        }
    }
}

#[test]
fn pipelined_requests_are_told_apart() {
    let bytes = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc\
        POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n\
        \r\nGET /c HTTP/1.1\r\nhost: x\r\n\r\n";
    let (mut at, mut seen) = (0, Vec::new());
    let mut parser = RequestParser::new(limits());
    let mut head = RequestHead::default();
    while let Some(traits) = parser.parse(&bytes[at..], &mut head).unwrap() {
        at += traits.head_bytes;
        let mut body = BodyDecoder::new(traits.framing, limits());
        let length = read_body(&mut body, &bytes[at..]).unwrap();
        assert!(body.is_done());
        seen.push((head.target().to_owned(), length));
        at += length;
    }
    let expected = [("/a".to_owned(), 3), ("/b".to_owned(), 18), ("/c".to_owned(), 0)];
    assert_eq!(seen, expected);
    assert_eq!(at, bytes.len());
}

#[test]
fn bodies_that_end_with_the_connection_are_whole_or_cut_off() {
    let mut body = BodyDecoder::new(Framing::Length(4), limits());
    assert_eq!(read_body(&mut body, b"abc"), Ok(3));
    assert_eq!(body.close(), Err(BodyError::Truncated));
    let mut body = BodyDecoder::new(Framing::Chunked, limits());
    assert_eq!(read_body(&mut body, b"3\r\nabc\r\n0\r\n"), Ok(11));
    assert_eq!(body.close(), Err(BodyError::Truncated));
    let mut body = BodyDecoder::new(Framing::UntilClose, limits());
    assert_eq!(read_body(&mut body, b"abc"), Ok(3));
    assert!(!body.is_done());
    assert_eq!(body.close(), Ok(()));
    assert!(body.is_done());
}

#[test]
fn what_concerns_one_connection_is_not_forwarded() {
    let mut kept = fields(&[
        ("accept", "a"),
        ("Connection", "close, X-Drop, x-forwarded-for, host, Cookie"),
        ("x-drop", "1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("cookie", "c"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMA"),
        ("transfer-encoding", "chunked"),
        ("content-length", "1"),
        ("proxy-authorization", "p"),
    ]);
    remove_hop_by_hop(&mut kept);
    let names: Vec<_> = kept.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
    let expected = ["accept", "x-forwarded-for", "cookie", "content-length", "proxy-authorization"];
    assert_eq!(names, expected);
}

#[test]
fn framing_is_stated_once() {
    let mut fields = fields(&[("content-length", "1"), ("a", "b"), ("transfer-encoding", "x")]);
    Framing::Chunked.state(&mut fields);
    assert_eq!(format!("{fields:?}"), r#"{"a": "b", "transfer-encoding": "chunked"}"#);
    Framing::Length(7).state(&mut fields);
    assert_eq!(format!("{fields:?}"), r#"{"a": "b", "content-length": "7"}"#);
    Framing::None.state(&mut fields);
    assert_eq!(format!("{fields:?}"), r#"{"a": "b"}"#);
}

#[test]
fn bodies_have_the_length_that_was_said() {
    let mut out = Vec::new();
    let mut body = BodyEncoder::new(Framing::Length(3));
    body.data(b"ab", &mut out).unwrap();
    assert_eq!(body.data(b"cd", &mut out), Err(BodyError::Length));
    let mut body = BodyEncoder::new(Framing::Length(3));
    body.data(b"ab", &mut out).unwrap();
    assert_eq!(body.end(None, &mut out), Err(BodyError::Length));
    let mut body = BodyEncoder::new(Framing::None);
    assert_eq!(body.data(b"", &mut out), Ok(()));
    assert_eq!(body.data(b"a", &mut out), Err(BodyError::Length));

    out.clear();
    let mut body = BodyEncoder::new(Framing::Chunked);
    body.data(&[b'x'; 26], &mut out).unwrap();
    body.data(b"", &mut out).unwrap();
    let trailers = fields(&[("grpc-status", "0"), ("Content-Length", "5"), ("x", "a\r\nb: c")]);
    body.end(Some(&trailers), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let x = "x".repeat(26);
    assert_eq!(text, format!("1a\r\n{x}\r\n0\r\ngrpc-status: 0\r\nx: a  b: c\r\n\r\n"));
}

#[test]
fn written_heads_cannot_be_split() {
    let mut head = RequestHead::default();
    head.set_method("GET");
    head.set_target("/a b\r\nx: y/é");
    head.set_authority("a\r\nb: c");
    head.fields.push(b"x", b"1\r\n\r\nGET / HTTP/1.1\0");
    let mut out = Vec::new();
    write_request(&head, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "GET /a%20b%0D%0Ax:%20y/%C3%A9 HTTP/1.1\r\nhost: a  b: c\r\nx: 1    GET / HTTP/1.1 \r\n\r\n"
    );
}

#[test]
fn responses_are_written_with_their_version_and_reason() {
    for (version, status, reason, line) in [
        (Version::Http11, 200, "", "HTTP/1.1 200 OK"),
        (Version::Http2, 404, "", "HTTP/1.1 404 Not Found"),
        (Version::Http10, 503, "busy", "HTTP/1.0 503 busy"),
        (Version::Http11, 599, "", "HTTP/1.1 599 "),
    ] {
        let mut head = ResponseHead::new(status);
        head.version = version;
        head.set_reason(reason.as_bytes());
        let mut out = Vec::new();
        write_response(&head, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{line}\r\n\r\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any message that can be said is read as it was meant, in any pieces.
    #[test]
    fn messages_round_trip(
        method in "[A-Z!#$%&'*+.^_`|~-]{1,8}",
        path in "/[!-\"$-~]{0,30}",
        host in "[a-z0-9.-]{1,20}(:[0-9]{1,4})?",
        pairs in prop::collection::vec(
            ("x[A-Za-z0-9-]{0,10}", "([!-~\u{e9}]([ \t!-~]{0,20}[!-~])?)?"), 0..20),
        body in prop::collection::vec(any::<u8>(), 0..600),
        chunk in 1_usize..80,
        piece in 1_usize..90,
        chunked: bool,
    ) {
        let mut head = RequestHead::default();
        head.set_method(&method);
        head.set_target(&path);
        head.set_authority(&host);
        prop_assume!(method != "CONNECT");
        for (name, value) in &pairs {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        let framing = if chunked { Framing::Chunked } else { Framing::Length(body.len() as u64) };
        framing.state(&mut head.fields);
        let mut bytes = Vec::new();
        write_request(&head, &mut bytes);
        let mut encoder = BodyEncoder::new(framing);
        for part in body.chunks(chunk) {
            encoder.data(part, &mut bytes).unwrap();
        }
        encoder.end(None, &mut bytes).unwrap();

        let mut parser = RequestParser::new(limits());
        let (mut read, mut got, mut buffer) = (RequestHead::default(), Vec::new(), Vec::new());
        let mut decoder = None;
        for part in bytes.chunks(piece) {
            buffer.extend_from_slice(part);
            if decoder.is_none() {
                let Some(traits) = parser.parse(&buffer, &mut read).unwrap() else { continue };
                buffer.drain(..traits.head_bytes);
                prop_assert_eq!(traits.framing, framing);
                decoder = Some(BodyDecoder::new(traits.framing, limits()));
            }
            let Some(decoder) = &mut decoder else { continue };
            loop {
                match decoder.next(&buffer).unwrap() {
                    Decoded::More | Decoded::End => break,
                    Decoded::Framing(n) => drop(buffer.drain(..n)),
                    Decoded::Data(n) => got.extend(buffer.drain(..n)),
                }
            }
        }
        prop_assert!(decoder.is_some_and(|decoder| decoder.is_done()));
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(got, body);
        prop_assert_eq!(read.target(), &path);
        prop_assert_eq!(read.authority(), &host);
        prop_assert_eq!(format!("{:?}", read.fields), format!("{:?}", head.fields));
    }
}
