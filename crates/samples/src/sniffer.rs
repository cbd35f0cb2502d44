//! `sniffer [EXPRESSION]`: prints the packets of its pod that an expression of tcpdump selects; the
//! environment variable `args` may have it, too.
//!
//! It becomes the machine's tcpdump. That gives up its groups before it looks at a packet, which
//! nobody may where a pod has a single user: there, and where there is no tcpdump, packets are read
//! here, and printed as by `tcpdump -nS`.

use std::env;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};

use self::filter::Filter;
use self::packet::Packet;
use crate::clock::time_of_day;
use crate::nginx::has_users;

mod filter;
mod packet;

/// Prints packets until it is ended, or has printed as many as `-c` says.
pub(crate) fn run(arguments: &[String]) -> io::Result<ExitCode> {
    let given = env::var("args").unwrap_or_default();
    let words = arguments.iter().map(String::as_str).chain(given.split_whitespace());
    let words: Vec<&str> = words.collect();
    if has_users() {
        // Each packet is a line of the log at once.
        let error = Command::new("tcpdump").arg("-l").args(&words).exec();
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
    }
    let filter = Filter::parse(&words).map_err(io::Error::other)?;
    let index = |name: &str| {
        if_nametoindex(name).map_err(|error| io::Error::other(format!("interface {name}: {error}")))
    };
    let only = match filter.interface.as_deref() {
        None | Some("any") => None,
        Some(name) => Some(index(name)?),
    };
    // As tcpdump, which takes the first that is not the loopback's.
    let never = if filter.interface.is_none() { index("lo").ok() } else { None };
    let (family, kind) = (AddressFamily::Packet, SockType::Datagram);
    let packets = socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    writeln!(io::stderr(), "listening, without tcpdump: packets of IPv4, as by tcpdump -nS")?;
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let mut printed = 0;
    while filter.count.is_none_or(|count| printed < count) {
        let (length, from) = match recvfrom::<LinkAddr>(packets.as_raw_fd(), &mut buffer) {
            Err(nix::errno::Errno::EINTR) => continue,
            received => received?,
        };
        let interface = from.and_then(|from| u32::try_from(from.ifindex()).ok());
        if interface.is_some() && (interface == never || only.is_some() && interface != only) {
            continue;
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        let Some(packet) = Packet::of(bytes).filter(|packet| filter.takes(packet)) else {
            continue;
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{} {packet}", time_of_day())?;
        if filter.text {
            writeln!(out, "{}", packet.text())?;
        }
        out.flush()?;
        printed += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// The longest IPv4 packet (RFC 791, section 3.1).
const PACKET_BYTES_MAX: usize = 65_535;
