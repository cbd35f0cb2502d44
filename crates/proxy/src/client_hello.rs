//! What a TLS client says first, read without taking part in the handshake (RFC 8446, sections 4.1.2
//! and 5.1): which protocols it offers and whom it wants to reach. Never panics, whatever comes.

/// A ClientHello, as far as the mesh looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Protocols offered by ALPN (RFC 7301), in order.
    pub alpn: Vec<Vec<u8>>,
    /// Host name by SNI (RFC 6066, section 3).
    pub server_name: Option<String>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A ClientHello, without its record.
    Hello(ClientHello),
    /// The beginning of one.
    Incomplete,
    /// Something else.
    Malformed,
}

/// Reads a ClientHello of at most `bytes_max` from the first bytes of a connection.
pub fn parse(bytes: &[u8], bytes_max: usize) -> Parsed {
    HelloReader::new(bytes_max).read(bytes)
}

/// Reads a ClientHello from bytes that arrive piece by piece. It remembers the records that it has
/// seen, so that many small ones cost no more than a large one.
#[derive(Debug)]
pub struct HelloReader {
    bytes_max: usize,
    /// The handshake message, as far as whole records have brought it.
    message: Vec<u8>,
    /// Bytes of those records.
    taken: usize,
}

impl HelloReader {
    /// A reader for a new connection.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, message: Vec::new(), taken: 0 }
    }

    /// Looks at all that came so far. Between two calls, bytes are only appended.
    pub fn read(&mut self, bytes: &[u8]) -> Parsed {
        let mut records = Reader(bytes.get(self.taken..).unwrap_or_default());
        loop {
            match hello_of(&self.message, self.bytes_max) {
                Some(hello) => return hello.map_or(Parsed::Malformed, Parsed::Hello),
                None if self.message.len() > self.bytes_max => return Parsed::Malformed,
                None => {}
            }
            match records.record() {
                Some(Ok(fragment)) => self.message.extend_from_slice(fragment),
                Some(Err(())) => return Parsed::Malformed,
                None => return Parsed::Incomplete,
            }
            self.taken = bytes.len() - records.0.len();
        }
    }
}

/// The ClientHello in a handshake message; the outer `None`: it is not complete.
fn hello_of(message: &[u8], bytes_max: usize) -> Option<Option<ClientHello>> {
    let mut reader = Reader(message);
    let kind = reader.number(1)?;
    let length = reader.number(3)?;
    if kind != CLIENT_HELLO || length > bytes_max {
        return Some(None);
    }
    Some(body(reader.bytes(length)?))
}

fn body(bytes: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(bytes);
    reader.bytes(VERSION_AND_RANDOM_BYTES)?;
    let _session_id = reader.vector(1)?;
    let _cipher_suites = reader.vector(2)?;
    let _compression_methods = reader.vector(1)?;
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let value = extensions.vector(2)?;
        match kind {
            SERVER_NAME => hello.server_name = server_name(value)?,
            ALPN => hello.alpn = alpn(value)?,
            _ => {}
        }
    }
    Some(hello)
}

fn alpn(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(Reader(value).vector(2)?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector(1)?.to_vec());
    }
    Some(protocols)
}

fn server_name(value: &[u8]) -> Option<Option<String>> {
    let mut list = Reader(Reader(value).vector(2)?);
    while !list.0.is_empty() {
        let kind = list.number(1)?;
        let name = list.vector(2)?;
        if kind == HOST_NAME {
            return Some(Some(std::str::from_utf8(name).ok()?.to_owned()));
        }
    }
    Some(None)
}

/// Takes pieces off the front; `None` where there is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.bytes(width)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    }

    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.number(width)?;
        self.bytes(length)
    }

    /// The payload of the next record; an error if it is not of a handshake.
    fn record(&mut self) -> Option<Result<&'a [u8], ()>> {
        let (kind, major) = (*self.0.first()?, self.0.get(1).copied());
        if kind != HANDSHAKE || major.is_some_and(|major| major != 3) {
            return Some(Err(()));
        }
        let mut reader = Reader(self.0);
        reader.bytes(3)?;
        let length = reader.number(2)?;
        if length == 0 || length > RECORD_BYTES_MAX {
            return Some(Err(()));
        }
        let fragment = reader.bytes(length)?;
        *self = reader;
        Some(Ok(fragment))
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: usize = 1;
const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;
const ALPN: usize = 16;
const VERSION_AND_RANDOM_BYTES: usize = 34;
const RECORD_BYTES_MAX: usize = 1 << 14;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const BYTES_MAX: usize = 16 << 10;

    fn vector(width: usize, value: &[u8]) -> Vec<u8> {
        let mut out = value.len().to_be_bytes()[8 - width..].to_vec();
        out.extend_from_slice(value);
        out
    }

    /// A ClientHello, without its record.
    pub(crate) fn hello(alpn: &[&[u8]], name: &str) -> Vec<u8> {
        let protocols: Vec<u8> = alpn.iter().flat_map(|p| vector(1, p)).collect();
        let names = [vec![0], vector(2, name.as_bytes())].concat();
        let extensions = [
            vec![0, 16],
            vector(2, &vector(2, &protocols)),
            vec![0, 0],
            vector(2, &vector(2, &names)),
        ]
        .concat();
        let body = [
            vec![3, 3],
            vec![7; 32],
            vector(1, &[]),
            vector(2, &[0x13, 1]),
            vector(1, &[0]),
            vector(2, &extensions),
        ]
        .concat();
        [vec![1], vector(3, &body)].concat()
    }

    /// A handshake record with this in it.
    pub(crate) fn record(payload: &[u8]) -> Vec<u8> {
        [vec![22, 3, 1], vector(2, payload)].concat()
    }

    fn expected() -> Parsed {
        Parsed::Hello(ClientHello {
            alpn: vec![b"istio".to_vec(), b"h2".to_vec()],
            server_name: Some("a.example".to_owned()),
        })
    }

    #[test]
    fn a_hello_is_read_whole_or_in_fragments() {
        let message = hello(&[b"istio", b"h2"], "a.example");
        assert_eq!(parse(&record(&message), BYTES_MAX), expected());
        let (one, two) = message.split_at(9);
        assert_eq!(parse(&[record(one), record(two)].concat(), BYTES_MAX), expected());
    }

    #[test]
    fn every_beginning_is_incomplete_and_every_change_is_survived() {
        let whole = record(&hello(&[b"istio", b"h2"], "a.example"));
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end], BYTES_MAX), Parsed::Incomplete, "{end}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                parse(&changed, BYTES_MAX);
            }
        }
    }

    #[test]
    fn other_things_are_told_apart() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\n", BYTES_MAX), Parsed::Malformed);
        assert_eq!(parse(b"\x16\x02", BYTES_MAX), Parsed::Malformed);
        assert_eq!(parse(&record(&[2, 0, 0, 0]), BYTES_MAX), Parsed::Malformed);
    }
}
