//! What is in a packet of IPv4, in the words of tcpdump.

use std::fmt;
use std::net::Ipv4Addr;

/// A packet, as far as it is looked into.
#[derive(Debug, PartialEq)]
pub(super) struct Packet<'a> {
    pub(super) transport: Transport,
    /// Source and destination.
    pub(super) hosts: [Ipv4Addr; 2],
    /// Likewise; none where the transport has no ports, or in a later fragment.
    pub(super) ports: [Option<u16>; 2],
    pub(super) tcp: Option<Tcp>,
    /// What it carries.
    pub(super) payload: &'a [u8],
}

/// What a packet of IP carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Transport {
    Tcp,
    Udp,
    /// By its number (IANA, "Protocol Numbers").
    Other(u8),
}

/// What a header of TCP says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tcp {
    flags: u8,
    sequence: u32,
    acknowledged: u32,
    window: u16,
}

impl<'a> Packet<'a> {
    /// The packet that these bytes are; none if they are none of IPv4.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header < 20 {
            return None;
        }
        let length = usize::from(word(bytes, 2)?).min(bytes.len());
        let address = |at: usize| Some(Ipv4Addr::from(long(bytes, at)?));
        let hosts = [address(12)?, address(16)?];
        let transport = match *bytes.get(9)? {
            6 => Transport::Tcp,
            17 => Transport::Udp,
            other => Transport::Other(other),
        };
        let mut packet = Self {
            transport,
            hosts,
            ports: [None; 2],
            tcp: None,
            payload: bytes.get(header..length).unwrap_or_default(),
        };
        let is_later_fragment = word(bytes, 6)? & 0x1fff != 0;
        if !is_later_fragment {
            packet.look_inside();
        }
        Some(packet)
    }

    /// Takes the header of the transport off what it carries.
    fn look_inside(&mut self) {
        let inner = self.payload;
        let header = match self.transport {
            Transport::Other(_) => return,
            Transport::Udp => 8,
            Transport::Tcp => {
                let Some(tcp) = Tcp::of(inner) else { return };
                self.tcp = Some(tcp);
                inner.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4)
            }
        };
        self.ports = [word(inner, 0), word(inner, 2)];
        self.payload = inner.get(header..).unwrap_or_default();
    }

    /// What it carries, dots for what cannot be printed.
    pub(super) fn text(&self) -> String {
        let printed = |byte: &u8| match byte {
            b'\n' | b'\t' | b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        self.payload.iter().filter(|byte| **byte != b'\r').map(printed).collect()
    }

    /// The first line of a request or answer of HTTP that it begins with.
    fn http(&self) -> Option<String> {
        HTTP_STARTS.iter().find(|word| self.payload.starts_with(word.as_bytes()))?;
        self.text().lines().next().map(str::to_owned)
    }
}

impl Tcp {
    fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            flags: *bytes.get(13)?,
            sequence: long(bytes, 4)?,
            acknowledged: long(bytes, 8)?,
            window: word(bytes, 14)?,
        })
    }

    /// As tcpdump: a letter for each, the acknowledgement's is a dot.
    fn flags(self) -> String {
        let letters = [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, '.'), (32, 'U')];
        let is_set = |(bit, _): &(u8, char)| self.flags & bit != 0;
        letters.into_iter().filter(is_set).map(|(_, letter)| letter).collect()
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IP ")?;
        for (at, (host, port)) in self.hosts.iter().zip(self.ports).enumerate() {
            let mark = if at == 0 { "" } else { " > " };
            write!(f, "{mark}{host}")?;
            if let Some(port) = port {
                write!(f, ".{port}")?;
            }
        }
        let length = self.payload.len();
        match (self.transport, self.tcp) {
            (Transport::Tcp, Some(tcp)) => {
                write!(f, ": Flags [{}]", tcp.flags())?;
                let end = tcp.sequence.wrapping_add(u32::try_from(length).unwrap_or_default());
                match length {
                    0 if tcp.flags & 0b111 == 0 => {}
                    0 => write!(f, ", seq {}", tcp.sequence)?,
                    _ => write!(f, ", seq {}:{end}", tcp.sequence)?,
                }
                if tcp.flags & 16 != 0 {
                    write!(f, ", ack {}", tcp.acknowledged)?;
                }
                write!(f, ", win {}, length {length}", tcp.window)?;
            }
            (Transport::Tcp, None) => write!(f, ": tcp {length}")?,
            (Transport::Udp, _) => write!(f, ": UDP, length {length}")?,
            (Transport::Other(protocol), _) => {
                write!(f, ": ip-proto-{protocol}, length {length}")?;
            }
        }
        self.http().map_or(Ok(()), |line| write!(f, ": HTTP: {line}"))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// How messages of HTTP/1 begin.
const HTTP_STARTS: &[&str] =
    &["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "PATCH ", "OPTIONS ", "CONNECT ", "HTTP/1."];

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet from 10.0.0.1 to 10.0.0.2.
    fn ip(protocol: u8, fragment: u16, inner: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + inner.len()).unwrap().to_be_bytes();
        let mut bytes = vec![0x45, 0, length[0], length[1], 0, 0];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(inner);
        bytes
    }

    fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![4, 210, 0, 80, 0, 0, 0, 5, 0, 0, 0, 9, 0x50, flags, 0, 64, 0, 0, 0, 0];
        bytes.extend(payload);
        bytes
    }

    fn shown(bytes: &[u8]) -> String {
        Packet::of(bytes).unwrap().to_string()
    }

    #[test]
    fn packets_are_lines_as_tcpdump_has_them() {
        let request = b"GET /?failRate=1 HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(
            shown(&ip(6, 0, &tcp(0x18, request))),
            "IP 10.0.0.1.1234 > 10.0.0.2.80: Flags [P.], seq 5:43, ack 9, win 64, length 38: HTTP: GET \
             /?failRate=1 HTTP/1.1"
        );
        assert_eq!(
            shown(&ip(6, 0, &tcp(2, b""))),
            "IP 10.0.0.1.1234 > 10.0.0.2.80: Flags [S], seq 5, win 64, length 0"
        );
        assert_eq!(
            shown(&ip(6, 0, &tcp(0x10, b""))),
            "IP 10.0.0.1.1234 > 10.0.0.2.80: Flags [.], ack 9, win 64, length 0"
        );
        assert_eq!(
            shown(&ip(17, 0, &[4, 210, 0, 53, 0, 11, 0, 0, 1, 2, 3])),
            "IP 10.0.0.1.1234 > 10.0.0.2.53: UDP, length 3"
        );
        assert_eq!(shown(&ip(1, 0, &[8, 0])), "IP 10.0.0.1 > 10.0.0.2: ip-proto-1, length 2");
        let text = ip(6, 0, &tcp(0x18, b"a\r\nb\x1b[0m\xff"));
        assert_eq!(Packet::of(&text).unwrap().text(), "a\nb.[0m.");
    }

    #[test]
    fn bytes_of_any_length_are_no_harm() {
        let whole = ip(6, 0, &tcp(0x18, b"GET / HTTP/1.1\r\n"));
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap();
            if let Some(packet) = Packet::of(cut) {
                assert!(packet.to_string().starts_with("IP 10.0.0.1"), "{packet}");
            }
        }
        let mut other = whole.clone();
        other[0] = 0x60;
        assert_eq!(Packet::of(&other), None, "of IPv6");
        other[0] = 0x41;
        assert_eq!(Packet::of(&other), None, "a header that is too short");
        other[0] = 0x4f;
        other[2..4].copy_from_slice(&[255, 255]);
        assert!(Packet::of(&other).is_some(), "a header that says too much");
        let later = ip(6, 7, &tcp(0x18, b"GET / HTTP/1.1\r\n"));
        assert_eq!(Packet::of(&later).unwrap().ports, [None; 2], "a later fragment has no ports");
    }
}
