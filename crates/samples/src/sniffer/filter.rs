//! Which packets are printed: the part of tcpdump's expressions and options that texts use.

use std::net::Ipv4Addr;

use super::packet::{Packet, Transport};

/// What the arguments say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Filter {
    /// `-i`.
    pub(super) interface: Option<String>,
    /// `-c`: how many packets; none: no end.
    pub(super) count: Option<u64>,
    /// `-A`: what packets carry is printed, too.
    pub(super) text: bool,
    /// All of them hold for a packet that is printed.
    conditions: Vec<Condition>,
}

/// A primitive of an expression, negated or not.
#[derive(Debug, PartialEq)]
struct Condition {
    not: bool,
    test: Test,
}

#[derive(Debug, PartialEq)]
enum Test {
    Ip,
    Of(Transport),
    Port(Side, u16),
    Host(Side, Ipv4Addr),
}

/// Which end of a packet is meant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Either,
    Source,
    Destination,
}

impl Filter {
    /// Reads options and an expression: primitives joined by `and`.
    ///
    /// # Errors
    ///
    /// What it does not know.
    pub(super) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut filter = Self::default();
        let mut words = words.iter().copied().peekable();
        let mut not = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} takes a value"));
            let test = match word {
                "-A" => {
                    filter.text = true;
                    continue;
                }
                "-i" => {
                    filter.interface = Some(value()?.to_owned());
                    continue;
                }
                "-c" => {
                    let count = value()?;
                    filter.count = Some(count.parse().map_err(|_| unknown(count))?);
                    continue;
                }
                "-l" | "-n" | "-nn" | "-S" | "-U" | "-q" | "-v" | "-vv" | "-vvv" => continue,
                "and" | "&&" => continue,
                "not" | "!" => {
                    not = !not;
                    continue;
                }
                "ip" => Test::Ip,
                "tcp" => Test::Of(Transport::Tcp),
                "udp" => Test::Of(Transport::Udp),
                "port" => Test::Port(Side::Either, port(value()?)?),
                "host" => Test::Host(Side::Either, host(value()?)?),
                "src" | "dst" => {
                    let side = if word == "src" { Side::Source } else { Side::Destination };
                    match value()? {
                        "port" => Test::Port(side, port(value()?)?),
                        "host" => Test::Host(side, host(value()?)?),
                        address => Test::Host(side, host(address)?),
                    }
                }
                word => return Err(unknown(word)),
            };
            filter.conditions.push(Condition { not, test });
            not = false;
        }
        Ok(filter)
    }

    /// Whether a packet is printed.
    pub(super) fn takes(&self, packet: &Packet<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.test.holds(packet) != condition.not)
    }
}

impl Test {
    fn holds(&self, packet: &Packet<'_>) -> bool {
        match self {
            Self::Ip => true,
            Self::Of(transport) => packet.transport == *transport,
            Self::Port(side, port) => side.any(packet.ports, |own| own == Some(*port)),
            Self::Host(side, host) => side.any(packet.hosts, |own| own == *host),
        }
    }
}

impl Side {
    fn any<T>(self, [source, destination]: [T; 2], is: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Either => is(source) || is(destination),
            Self::Source => is(source),
            Self::Destination => is(destination),
        }
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("{text:?} is no number of a port"))
}

fn host(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address of IPv4"))
}

fn unknown(word: &str) -> String {
    format!(
        "{word:?}: without tcpdump an expression has ip, tcp, udp, [src|dst] port NUMBER and [src|dst] \
         host ADDRESS, each with \"not\" or without, joined by \"and\"; options are -A, -c and -i"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(expression: &str, packet: &Packet<'_>) -> bool {
        let words: Vec<&str> = expression.split_whitespace().collect();
        Filter::parse(&words).unwrap().takes(packet)
    }

    #[test]
    fn an_expression_selects_packets() {
        let packet = Packet {
            transport: Transport::Tcp,
            hosts: [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()],
            ports: [Some(1234), Some(80)],
            tcp: None,
            payload: &[],
        };
        for (expression, is_taken) in [
            ("", true),
            ("tcp port 80", true),
            ("-A -i eth0 -nn tcp port 1234", true),
            ("tcp and not port 80", false),
            ("udp port 80", false),
            ("tcp port 81", false),
            ("dst port 80 and src host 10.0.0.1", true),
            ("src port 80", false),
            ("dst 10.0.0.1", false),
            ("host 10.0.0.2 && ! udp", true),
        ] {
            assert_eq!(takes(expression, &packet), is_taken, "{expression}");
        }
    }

    #[test]
    fn what_it_does_not_know_is_named() {
        for (expression, flaw) in [
            ("tcp or udp", "\"or\""),
            ("tcp port", "port takes a value"),
            ("port http", "\"http\""),
            ("host example.com", "\"example.com\""),
            ("-w file", "\"-w\""),
            ("-c many", "\"many\""),
        ] {
            let words: Vec<&str> = expression.split_whitespace().collect();
            let error = Filter::parse(&words).unwrap_err();
            assert!(error.contains(flaw), "{expression}: {error}");
        }
    }
}
