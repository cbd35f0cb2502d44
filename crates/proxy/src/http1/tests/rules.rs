//! Every rule on syntax and framing of RFC 9112 (and of RFC 9110 where it says), a row each:
//! section, bytes, verdict.

use super::super::HeadError as E;
use super::*;

fn check_request(section: &str, bytes: &str, verdict: Result<Framing, HeadError>) {
    let got = request(bytes.as_bytes()).map(|parsed| parsed.map(|(_, traits)| traits.framing));
    assert_eq!(got, verdict.map(Some), "section {section}: {bytes:?}");
}

#[test]
fn request_lines() {
    for (section, line, verdict) in [
        ("3", "GET / HTTP/1.1", Ok(Framing::None)),
        ("3.1", "get / HTTP/1.1", Ok(Framing::None)),
        ("3.1", "M-SEARCH / HTTP/1.1", Ok(Framing::None)),
        ("3", "GET  / HTTP/1.1", Err(E::Target)),
        ("3", "GET /  HTTP/1.1", Err(E::Target)),
        ("3", " GET / HTTP/1.1", Err(E::Method)),
        ("3", "GET / HTTP/1.1 ", Err(E::VersionSyntax)),
        ("3", "GET\t/\tHTTP/1.1", Err(E::RequestLine)),
        ("3", "GET /", Err(E::RequestLine)),
        ("3", "GET", Err(E::RequestLine)),
        ("3", "G@T / HTTP/1.1", Err(E::Method)),
        ("3", "G\u{0}T / HTTP/1.1", Err(E::Method)),
        ("3.2", "GET /a b HTTP/1.1", Err(E::Target)),
        ("3.2", "GET /a\tb HTTP/1.1", Err(E::Target)),
        ("3.2", "GET /a\u{0}b HTTP/1.1", Err(E::Target)),
        ("3.2", "GET /a\rb HTTP/1.1", Err(E::Target)),
        ("3.2", "GET /\u{7f} HTTP/1.1", Err(E::Target)),
        ("3.2", "GET /é HTTP/1.1", Err(E::Target)),
        ("3.2.1", "GET /a#b HTTP/1.1", Err(E::Target)),
        ("3.2.1", "GET a HTTP/1.1", Err(E::Target)),
        ("3.2.1", "GET ?a HTTP/1.1", Err(E::Target)),
        ("3.2.1", "GET //a HTTP/1.1", Ok(Framing::None)),
        ("3.2.1", "GET /a?b={|}\"<>^` HTTP/1.1", Ok(Framing::None)),
        ("3.2.2", "GET http://a HTTP/1.1", Ok(Framing::None)),
        ("3.2.2", "GET HTTPS://a:1/b HTTP/1.1", Ok(Framing::None)),
        ("3.2.2", "GET http://a?b HTTP/1.1", Ok(Framing::None)),
        ("3.2.2", "GET http:a/b HTTP/1.1", Err(E::Target)),
        ("3.2.2", "GET http://a\\b/ HTTP/1.1", Err(E::Target)),
        ("3.2.2", "GET http://a,b@c/ HTTP/1.1", Err(E::Target)),
        ("3.2.2", "GET http://a:99999/ HTTP/1.1", Err(E::Target)),
        ("3.2.2", "GET http:///b HTTP/1.1", Err(E::Target)),
        ("3.2.2", "GET http://u@a/b HTTP/1.1", Err(E::Target)),
        ("3.2.2", "GET ftp://a/b HTTP/1.1", Err(E::Target)),
        ("3.2.3", "CONNECT a:443 HTTP/1.1", Ok(Framing::None)),
        ("3.2.3", "CONNECT [::1]:443 HTTP/1.1", Ok(Framing::None)),
        ("3.2.3", "CONNECT a HTTP/1.1", Err(E::Target)),
        ("3.2.3", "CONNECT a: HTTP/1.1", Err(E::Target)),
        ("3.2.3", "CONNECT /a:443 HTTP/1.1", Err(E::Target)),
        ("3.2.3", "GET a:443 HTTP/1.1", Err(E::Target)),
        ("3.2.4", "OPTIONS * HTTP/1.1", Ok(Framing::None)),
        ("3.2.4", "GET * HTTP/1.1", Err(E::Target)),
        ("2.3", "GET / HTTP/1.0", Ok(Framing::None)),
        ("2.3", "GET / HTTP/1.2", Err(E::VersionUnsupported)),
        ("2.3", "GET / HTTP/2.0", Err(E::VersionUnsupported)),
        ("2.3", "GET / HTTP/0.9", Err(E::VersionUnsupported)),
        ("2.3", "GET / http/1.1", Err(E::VersionSyntax)),
        ("2.3", "GET / HTTP/1", Err(E::VersionSyntax)),
        ("2.3", "GET / HTTP/1.10", Err(E::VersionSyntax)),
        ("2.3", "GET / HTTP/11", Err(E::VersionSyntax)),
        ("2.3", "GET / HTTP/1,1", Err(E::VersionSyntax)),
        ("2.3", "GET / XTTP/1.1", Err(E::VersionSyntax)),
    ] {
        check_request(section, &format!("{line}\r\nhost: a\r\n\r\n"), verdict);
    }
}

#[test]
fn lines_end_in_crlf() {
    for (section, bytes, verdict) in [
        ("2.2", "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Ok(Framing::None)),
        ("2.2", "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Ok(Framing::None)),
        ("2.2", "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Err(E::EmptyLines)),
        ("2.2", "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", Err(E::BareLf)),
        ("2.2", "GET / HTTP/1.1\nhost: a\r\n\r\n", Err(E::BareLf)),
        ("2.2", "GET / HTTP/1.1\r\nhost: a\n\r\n", Err(E::BareLf)),
        ("2.2", "GET / HTTP/1.1\r\nhost: a\r\n\n", Err(E::BareLf)),
        ("2.2", "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", Err(E::FieldValue)),
        ("2.2", "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\r\n\r\n", Err(E::FieldValue)),
        ("2.2", "GET / HTTP/1.1\r\nhost: a\r\n\r\r\n", Err(E::FieldName)),
        ("2.2", "GET / HTTP/1.1\r\n x: y\r\nhost: a\r\n\r\n", Err(E::FoldedLine)),
        ("2.3 of RFC 9113", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(E::Http2Preface)),
    ] {
        check_request(section, bytes, verdict);
    }
}

#[test]
fn field_lines() {
    for (section, line, verdict) in [
        ("5", "a:b", Ok(Framing::None)),
        ("5", "a:", Ok(Framing::None)),
        ("5", "a: \t b \t ", Ok(Framing::None)),
        ("5", "!#$%&'*+-.^_`|~9z: b", Ok(Framing::None)),
        ("5", "a", Err(E::FieldName)),
        ("5", ":b", Err(E::FieldName)),
        ("5", "a b: c", Err(E::FieldName)),
        ("5", "a(b): c", Err(E::FieldName)),
        ("5", "a\u{0}: c", Err(E::FieldName)),
        ("5", "é: c", Err(E::FieldName)),
        ("5.1", "a : b", Err(E::SpaceBeforeColon)),
        ("5.1", "a\t: b", Err(E::SpaceBeforeColon)),
        ("5.1", "Transfer-Encoding : chunked", Err(E::SpaceBeforeColon)),
        ("5.2", "a: b\r\n c", Err(E::FoldedLine)),
        ("5.2", "a: b\r\n\tc", Err(E::FoldedLine)),
        ("5.2", "a: b\r\n ", Err(E::FoldedLine)),
        ("5.5 of RFC 9110", "a: b\tc d", Ok(Framing::None)),
        ("5.5 of RFC 9110", "a: é", Ok(Framing::None)),
        ("5.5 of RFC 9110", "a: b\u{0}", Err(E::FieldValue)),
        ("5.5 of RFC 9110", "a: \u{0}", Err(E::FieldValue)),
        ("5.5 of RFC 9110", "a: \u{b}b", Err(E::FieldValue)),
        ("5.5 of RFC 9110", "a: b\u{c}", Err(E::FieldValue)),
        ("5.5 of RFC 9110", "a: b\u{1b}[0m", Err(E::FieldValue)),
        ("5.5 of RFC 9110", "a: b\u{7f}", Err(E::FieldValue)),
    ] {
        check_request(section, &format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n"), verdict);
    }
}

#[test]
fn hosts() {
    for (section, fields, verdict) in [
        ("3.2", "", Err(E::HostMissing)),
        ("3.2", "host: a\r\nHost: a\r\n", Err(E::HostRepeated)),
        ("3.2", "host: a\r\nHost: b\r\n", Err(E::HostRepeated)),
        ("3.2", "host:\r\n", Err(E::HostInvalid)),
        ("3.2", "host: a b\r\n", Err(E::HostInvalid)),
        ("3.2", "host: a,b\r\n", Ok(Framing::None)),
        ("3.2", "host: a/b\r\n", Err(E::HostInvalid)),
        ("3.2", "host: u@a\r\n", Err(E::HostInvalid)),
        ("3.2", "host: a?b\r\n", Err(E::HostInvalid)),
        ("3.2", "host: a#b\r\n", Err(E::HostInvalid)),
        ("3.2", "host: a\\b\r\n", Err(E::HostInvalid)),
        ("3.2", "host: \u{e9}\r\n", Err(E::HostInvalid)),
        ("3.2", "host: a:b\r\n", Err(E::HostInvalid)),
        ("3.2", "host: a:99999\r\n", Err(E::HostInvalid)),
        ("3.2", "host: a:1:2\r\n", Err(E::HostInvalid)),
        ("3.2", "host: :80\r\n", Err(E::HostInvalid)),
        ("3.2", "host: ::1\r\n", Err(E::HostInvalid)),
        ("3.2", "host: [::1\r\n", Err(E::HostInvalid)),
        ("3.2", "host: [a]\r\n", Err(E::HostInvalid)),
        ("3.2", "host: [::1]x\r\n", Err(E::HostInvalid)),
        ("3.2", "host: [::1]:80\r\n", Ok(Framing::None)),
        ("3.2", "host: a_b.c-d.~%41:8080\r\n", Ok(Framing::None)),
        ("3.2", "host: a:\r\n", Ok(Framing::None)),
    ] {
        check_request(section, &format!("GET / HTTP/1.1\r\n{fields}\r\n"), verdict);
    }
    check_request("3.2", "GET / HTTP/1.0\r\n\r\n", Ok(Framing::None));
    check_request("3.2", "GET http://a/ HTTP/1.1\r\n\r\n", Err(E::HostMissing));
    check_request("3.2", "GET / HTTP/1.0\r\nhost: a b\r\n\r\n", Err(E::HostInvalid));
}

#[test]
fn targets_and_authorities() {
    for (section, line, target, authority) in [
        ("3.2.1", "GET /a?b HTTP/1.1", "/a?b", "h:1"),
        ("3.2.2", "GET http://b:2/c?d HTTP/1.1", "/c?d", "b:2"),
        ("3.2.2", "GET http://b HTTP/1.1", "/", "b"),
        ("3.2.2", "GET http://b?c/d HTTP/1.1", "/?c/d", "b"),
        ("3.2.4", "OPTIONS http://b HTTP/1.1", "*", "b"),
        ("3.2.4", "OPTIONS * HTTP/1.1", "*", "h:1"),
        ("3.2.3", "CONNECT b:443 HTTP/1.1", "", "b:443"),
        ("3.2", "GET / HTTP/1.0", "/", "h:1"),
    ] {
        let (head, _) =
            request(format!("{line}\r\nHost: h:1\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!((head.target(), head.authority()), (target, authority), "section {section}");
        assert!(!head.fields.contains("host"));
    }
}

/// Sections 6.1 to 6.3: how long a request's body is.
#[test]
fn request_framing() {
    for (section, fields, verdict) in [
        ("6.3 (7)", "", Ok(Framing::None)),
        ("6.2", "content-length: 0\r\n", Ok(Framing::Length(0))),
        ("6.2", "content-length: 5\r\n", Ok(Framing::Length(5))),
        ("6.2", "content-length: 0005\r\n", Ok(Framing::Length(5))),
        ("6.2", "content-length: 9223372036854775807\r\n", Ok(Framing::Length(i64::MAX as u64))),
        ("6.2", "content-length: 9223372036854775808\r\n", Err(E::ContentLengthInvalid)),
        ("6.2", "content-length: 99999999999999999999\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length:\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length: +5\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length: -5\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length: 0x5\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length: 5 5\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length: 5.0\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length: 5, 5\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length: 5, 6\r\n", Err(E::ContentLengthInvalid)),
        ("6.3 (5)", "content-length: 5\r\ncontent-length: 5\r\n", Err(E::ContentLengthRepeated)),
        ("6.3 (5)", "content-length: 5\r\nContent-Length: 6\r\n", Err(E::ContentLengthRepeated)),
        ("6.1", "transfer-encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("6.1", "Transfer-Encoding: CHUNKED\r\n", Ok(Framing::Chunked)),
        ("6.1", "transfer-encoding: gzip, chunked\r\n", Err(E::CodingUnknown)),
        ("6.1", "transfer-encoding: chunked, chunked\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: chunked, gzip\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: gzip\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: identity\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding:\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: xchunked\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: chunked;q=1\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: \"chunked\"\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: , chunked\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: chunked,\r\n", Err(E::CodingNotChunked)),
        ("6.3 (4)", "transfer-encoding: \u{b}chunked\r\n", Err(E::FieldValue)),
        (
            "6.1",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            Err(E::CodingNotChunked),
        ),
        (
            "6.1",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            Err(E::CodingNotChunked),
        ),
        ("6.3 (3)", "content-length: 5\r\ntransfer-encoding: chunked\r\n", Err(E::LengthAndCoding)),
        ("6.3 (3)", "transfer-encoding: chunked\r\ncontent-length: 0\r\n", Err(E::LengthAndCoding)),
    ] {
        for line in ["GET / HTTP/1.1", "POST / HTTP/1.1"] {
            check_request(section, &format!("{line}\r\nhost: a\r\n{fields}\r\n"), verdict);
        }
    }
    let old = "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
    check_request("6.1", old, Err(E::CodingInHttp10));
    check_request("6.2", "POST / HTTP/1.0\r\ncontent-length: 1\r\n\r\n", Ok(Framing::Length(1)));
}

/// Section 6.3: how long a response's body is.
#[test]
fn response_framing() {
    use Asked::{Connect, Head, Other};
    for (section, line, fields, asked, verdict) in [
        ("6.3 (1)", "200 OK", "content-length: 5\r\n", Head, Ok(Framing::None)),
        ("6.3 (1)", "200 OK", "transfer-encoding: chunked\r\n", Head, Ok(Framing::None)),
        ("6.3 (1)", "100 Continue", "", Other, Ok(Framing::None)),
        ("6.3 (1)", "103 Early Hints", "link: a\r\n", Other, Ok(Framing::None)),
        ("6.3 (1)", "204 No Content", "content-length: 5\r\n", Other, Ok(Framing::None)),
        ("6.3 (1)", "304 Not Modified", "content-length: 5\r\n", Other, Ok(Framing::None)),
        ("6.3 (2)", "200 OK", "content-length: 5\r\n", Connect, Ok(Framing::Tunnel)),
        ("6.3 (2)", "403 No", "content-length: 5\r\n", Connect, Ok(Framing::Length(5))),
        ("7.8 of RFC 9110", "101 S", "upgrade: websocket\r\n", Other, Ok(Framing::Tunnel)),
        ("6.3 (4)", "200 OK", "transfer-encoding: chunked\r\n", Other, Ok(Framing::Chunked)),
        ("6.3 (4)", "200 OK", "transfer-encoding: gzip\r\n", Other, Err(E::CodingNotChunked)),
        ("6.3 (5)", "200 OK", "content-length: 5, 5\r\n", Other, Err(E::ContentLengthInvalid)),
        ("6.3 (6)", "200 OK", "content-length: 5\r\n", Other, Ok(Framing::Length(5))),
        ("6.3 (8)", "200 OK", "", Other, Ok(Framing::UntilClose)),
        ("6.3 (8)", "500 No", "connection: keep-alive\r\n", Other, Ok(Framing::UntilClose)),
        (
            "6.3 (3)",
            "200 OK",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            Other,
            Err(E::LengthAndCoding),
        ),
        (
            "6.3 (5)",
            "200 OK",
            "content-length: 5\r\ncontent-length: 5\r\n",
            Other,
            Err(E::ContentLengthRepeated),
        ),
    ] {
        let bytes = format!("HTTP/1.1 {line}\r\n{fields}\r\n");
        let got = response(bytes.as_bytes(), asked).map(|parsed| parsed.map(|(_, t)| t.framing));
        assert_eq!(got, verdict.map(Some), "section {section}: {bytes:?}");
    }
    let old = b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(response(old, Other).unwrap_err(), E::CodingInHttp10);
}

#[test]
fn status_lines() {
    for (section, line, verdict) in [
        ("4", "HTTP/1.1 200 OK", Ok((200, "OK"))),
        ("4", "HTTP/1.0 404 Not Found", Ok((404, "Not Found"))),
        ("4", "HTTP/1.1 200 ", Ok((200, ""))),
        ("4", "HTTP/1.1 200", Ok((200, ""))),
        ("4", "HTTP/1.1 999 a\tb", Ok((999, "a\tb"))),
        ("4", "HTTP/1.1 200 a\u{0}b", Err(E::StatusLine)),
        ("4", "HTTP/1.1 200 a\rb", Err(E::StatusLine)),
        ("4", "HTTP/1.1 20 OK", Err(E::StatusLine)),
        ("4", "HTTP/1.1 2000 OK", Err(E::StatusLine)),
        ("4", "HTTP/1.1 099 OK", Err(E::StatusLine)),
        ("4", "HTTP/1.1 2x0 OK", Err(E::StatusLine)),
        ("4", "HTTP/1.1  200 OK", Err(E::StatusLine)),
        ("4", "HTTP/1.1", Err(E::StatusLine)),
        ("2.3", "HTTP/2.0 200 OK", Err(E::VersionUnsupported)),
        ("2.3", "ICY 200 OK", Err(E::VersionSyntax)),
    ] {
        let got = response(format!("{line}\r\n\r\n").as_bytes(), Asked::Other);
        let got = got.map(|parsed| parsed.map(|(head, _)| head).expect("a whole head"));
        let got =
            got.map(|head| (head.status, String::from_utf8_lossy(head.reason()).into_owned()));
        let verdict = verdict.map(|(status, reason): (u16, &str)| (status, reason.to_owned()));
        assert_eq!(got, verdict, "section {section}: {line:?}");
    }
}

/// Section 9.3, and what a response leaves behind.
#[test]
fn connections_persist() {
    for (section, version, fields, persists) in [
        ("9.3", "1.1", "", true),
        ("9.3", "1.1", "connection: close\r\n", false),
        ("9.3", "1.1", "Connection: x, Close\r\n", false),
        ("9.3", "1.1", "connection: closed\r\n", true),
        ("9.3", "1.1", "connection: keep-alive\r\nconnection: close\r\n", false),
        ("9.3", "1.0", "", false),
        ("9.3", "1.0", "connection: Keep-Alive\r\n", true),
        ("9.3", "1.0", "connection: keep-alive, close\r\n", false),
        ("C.2.2", "1.0", "proxy-connection: keep-alive\r\n", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nhost: a\r\n{fields}\r\n");
        let (_, traits) = request(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!(traits.keep_alive, persists, "section {section}: {bytes:?}");
        let bytes = format!("HTTP/{version} 200 OK\r\ncontent-length: 0\r\n{fields}\r\n");
        let (_, traits) = response(bytes.as_bytes(), Asked::Other).unwrap().unwrap();
        assert_eq!(traits.keep_alive, persists, "section {section}: {bytes:?}");
    }
    for (section, bytes, persists) in [
        ("6.3 (8)", "HTTP/1.1 200 OK\r\n\r\n", false),
        ("6.3 (1)", "HTTP/1.1 204 No\r\n\r\n", true),
        ("6.3 (1)", "HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", true),
        ("6.3 (1)", "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n", false),
        ("6.3 (1)", "HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n", false),
        ("6.3 (1)", "HTTP/1.1 304 No\r\ncontent-length: 5\r\n\r\n", true),
    ] {
        let (head, traits) = response(bytes.as_bytes(), Asked::Other).unwrap().unwrap();
        assert_eq!(traits.keep_alive, persists, "section {section}: {bytes:?}");
        assert_eq!(head.fields.contains("content-length"), head.status == 304);
    }
}

/// Expect (RFC 9110, section 10.1.1), Upgrade (7.8), TE (10.1.4).
#[test]
fn wishes_of_a_client() {
    let traits = |version: &str, fields: &str| {
        let bytes = format!("PUT / HTTP/{version}\r\nhost: a\r\n{fields}\r\n");
        request(bytes.as_bytes()).map(|parsed| parsed.expect("a whole head").1)
    };
    assert!(traits("1.1", "content-length: 1\r\nexpect: 100-Continue\r\n").is_ok());
    assert_eq!(traits("1.1", "expect: tea\r\n"), Err(E::ExpectationUnknown));

    let upgrade = |version, fields| traits(version, fields).unwrap().upgrade;
    assert!(upgrade("1.1", "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n"));
    assert!(!upgrade("1.1", "upgrade: websocket\r\n"));
    assert!(!upgrade("1.1", "connection: upgrade\r\n"));
    assert!(!upgrade("1.0", "connection: upgrade\r\nupgrade: websocket\r\n"));
    assert!(!upgrade("1.1", "connection: upgrade\r\nupgrade: h2c\r\n"));
    assert!(!upgrade("1.1", "connection: upgrade\r\nupgrade: websocket, HTTP/2.0\r\n"));

    assert!(traits("1.1", "te: gzip, Trailers\r\n").unwrap().accepts_trailers);
    assert!(!traits("1.1", "te: gzip\r\n").unwrap().accepts_trailers);
}

/// Section 7.1: `verdict` is the data, or the error.
#[test]
fn chunks() {
    use BodyError as B;
    for (section, bytes, verdict) in [
        ("7.1", "0\r\n\r\n", Ok("")),
        ("7.1", "3\r\nabc\r\n0\r\n\r\n", Ok("abc")),
        ("7.1", "3\r\nabc\r\n2\r\nde\r\n000\r\n\r\n", Ok("abcde")),
        ("7.1", "00000003\r\nabc\r\n0\r\n\r\n", Ok("abc")),
        ("7.1", "A\r\n0123456789\r\n0\r\n\r\n", Ok("0123456789")),
        ("7.1", "\r\n", Err(B::ChunkSize)),
        ("7.1", "+3\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "-3\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "0x3\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", " 3\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "3 \r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "3\t\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "3_0\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "g\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "3\u{0}\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "3\r\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1", "8000000000000000\r\n", Err(B::ChunkSize)),
        ("7.1", "ffffffffffffffff\r\n", Err(B::ChunkSize)),
        ("7.1", "10000000000000003\r\nabc", Err(B::ChunkSize)),
        ("7.1", "3\nabc\r\n0\r\n\r\n", Err(B::BareLf)),
        ("7.1", "\n", Err(B::BareLf)),
        ("7.1", "3\r\nabc\n0\r\n\r\n", Err(B::ChunkEnd)),
        ("7.1", "3\r\nabc0\r\n\r\n", Err(B::ChunkEnd)),
        ("7.1", "3\r\nabcd\r\n0\r\n\r\n", Err(B::ChunkEnd)),
        ("7.1", "3\r\nabc\rx0\r\n\r\n", Err(B::ChunkEnd)),
        ("7.1", "3\r\nab\r\n0\r\n\r\n", Err(B::ChunkEnd)),
    ] {
        check_chunked(section, bytes, verdict);
    }
}

#[test]
fn chunk_extensions_and_trailers() {
    use BodyError as B;
    for (section, bytes, verdict) in [
        ("7.1.1", "3;a\r\nabc\r\n0;b=c\r\n\r\n", Ok("abc")),
        ("7.1.1", "3 ; a = \"b\\\"c;\t\" ;d\r\nabc\r\n0\r\n\r\n", Ok("abc")),
        ("7.1.1", "3;\r\nabc\r\n0\r\n\r\n", Err(B::ChunkExtension)),
        ("7.1.1", "3;a=\r\nabc\r\n0\r\n\r\n", Err(B::ChunkExtension)),
        ("7.1.1", "3;=b\r\nabc\r\n0\r\n\r\n", Err(B::ChunkExtension)),
        ("7.1.1", "3;a=\"b\r\nabc\r\n0\r\n\r\n", Err(B::ChunkExtension)),
        ("7.1.1", "3;a=\"b\"c\r\nabc\r\n0\r\n\r\n", Err(B::ChunkExtension)),
        ("7.1.1", "3;a\u{0}\r\nabc\r\n0\r\n\r\n", Err(B::ChunkExtension)),
        ("7.1.1", "3;a\rb\r\nabc\r\n0\r\n\r\n", Err(B::ChunkExtension)),
        ("7.1.1", "3;a\nabc\r\n0\r\n\r\n", Err(B::BareLf)),
        ("7.1.1", "3 a\r\nabc\r\n0\r\n\r\n", Err(B::ChunkSize)),
        ("7.1.2", "0\r\na: b\r\nc: d\r\n\r\n", Ok("")),
        ("7.1.2", "0\r\na: b\n\r\n", Err(B::BareLf)),
        ("7.1.2", "0\r\na\r\n\r\n", Err(B::Trailer(E::FieldName))),
        ("7.1.2", "0\r\na : b\r\n\r\n", Err(B::Trailer(E::SpaceBeforeColon))),
        ("7.1.2", "0\r\na: b\r\n c\r\n\r\n", Err(B::Trailer(E::FoldedLine))),
        ("7.1.2", "0\r\na: \u{0}\r\n\r\n", Err(B::Trailer(E::FieldValue))),
        ("6.5.1 of RFC 9110", "0\r\nContent-Length: 1\r\n\r\n", Err(B::TrailerForbidden)),
        ("6.5.1 of RFC 9110", "0\r\ntransfer-encoding: a\r\n\r\n", Err(B::TrailerForbidden)),
        ("6.5.1 of RFC 9110", "0\r\nhost: a\r\n\r\n", Err(B::TrailerForbidden)),
        ("6.5.1 of RFC 9110", "0\r\nauthorization: a\r\n\r\n", Err(B::TrailerForbidden)),
        ("6.5.1 of RFC 9110", "0\r\nX-Forwarded-For: a\r\n\r\n", Err(B::TrailerForbidden)),
        ("6.5.1 of RFC 9110", "0\r\nconnection: a\r\n\r\n", Err(B::TrailerForbidden)),
    ] {
        check_chunked(section, bytes, verdict);
    }
}

fn check_chunked(section: &str, bytes: &str, verdict: Result<&str, BodyError>) {
    let mut decoder = BodyDecoder::new(Framing::Chunked, limits());
    let mut rest = bytes.as_bytes();
    let mut data = Vec::new();
    let got = loop {
        match decoder.next(rest) {
            Err(error) => break Err(error),
            Ok(Decoded::More) => panic!("section {section}: {bytes:?} does not end"),
            Ok(Decoded::End) => break Ok(String::from_utf8(data).unwrap()),
            Ok(Decoded::Framing(n)) => rest = &rest[n..],
            Ok(Decoded::Data(n)) => {
                data.extend_from_slice(&rest[..n]);
                rest = &rest[n..];
            }
        }
    };
    assert_eq!(got.as_deref(), verdict.as_ref().copied(), "section {section}: {bytes:?}");
}

#[test]
fn limits_are_kept_to_the_byte() {
    let small = Limits {
        head_bytes_max: 64,
        header_count_max: 3,
        trailer_bytes_max: 32,
        chunk_line_bytes_max: 16,
    };
    let head = |line: &str, pad: usize| {
        let start = format!("{line}\r\nhost: a\r\nx: ");
        format!("{start}{}\r\n\r\n", "y".repeat(pad - start.len() - 4))
    };
    let parse = |bytes: &str| {
        RequestParser::new(small).parse(bytes.as_bytes(), &mut RequestHead::default()).map(|_| ())
    };
    assert_eq!(parse(&head("GET / HTTP/1.1", 64)), Ok(()));
    assert_eq!(parse(&head("GET / HTTP/1.1", 65)), Err(E::HeadTooLarge));
    assert_eq!(parse(&format!("GET /{}", "a".repeat(70))), Err(E::StartLineTooLarge));
    assert_eq!(parse("GET / HTTP/1.1\r\na:b\r\nhost:c\r\nc:d\r\n\r\n"), Ok(()));
    let four = "GET / HTTP/1.1\r\na:b\r\nhost:c\r\nc:d\r\ne:f\r\n\r\n";
    assert_eq!(parse(four), Err(E::TooManyFields));

    let verify =
        |bytes: &str| read_body(&mut BodyDecoder::new(Framing::Chunked, small), bytes.as_bytes());
    assert_eq!(verify("3;aaaaaaaaaaaa\r\nabc\r\n0\r\n\r\n"), Ok(26));
    assert_eq!(verify("3;aaaaaaaaaaaaa\r\nabc\r\n0\r\n\r\n"), Err(BodyError::ChunkLineTooLarge));
    assert_eq!(verify("3;aaaaaaaaaaaaaa"), Err(BodyError::ChunkLineTooLarge));
    assert_eq!(verify("0\r\na: aaaaaaaaaaa\r\nb: bbbbbbbbbb\r\n\r\n"), Ok(36));
    assert_eq!(
        verify("0\r\na: aaaaaaaaaaa\r\nb: bbbbbbbbbbbb\r\n\r\n"),
        Err(BodyError::TrailersTooLarge)
    );
    assert_eq!(verify("0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n"), Err(BodyError::TrailersTooLarge));
}

#[test]
fn refusals_have_their_status() {
    for (error, status) in [
        (E::BareLf, 400),
        (E::LengthAndCoding, 400),
        (E::StartLineTooLarge, 414),
        (E::ExpectationUnknown, 417),
        (E::HeadTooLarge, 431),
        (E::TooManyFields, 431),
        (E::CodingUnknown, 501),
        (E::VersionUnsupported, 505),
        (E::Http2Preface, 505),
    ] {
        assert_eq!(error.status(), status);
    }
}
