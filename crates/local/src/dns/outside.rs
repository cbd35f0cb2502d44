//! Names outside the mesh, resolved as on the host: by its /etc/hosts, then by its name servers.
//!
//! Questions leave by sockets of the host's network, each from a port of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ironmesh_model::limits::PlatformLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{Resolved, TTL_SECONDS};
use crate::externals::Externals;
use crate::host_link::{HostLink, Transport};

/// The way to names outside.
pub(crate) struct Outside {
    host: HostLink,
    externals: Rc<Externals>,
    /// What the host's files said, and when that was.
    files: RefCell<Option<(Instant, Rc<HostNames>)>>,
    places: Semaphore,
    answer_timeout: Duration,
}

impl Outside {
    pub(crate) fn new(host: HostLink, externals: Rc<Externals>, limits: &PlatformLimits) -> Self {
        Self {
            host,
            externals,
            files: RefCell::default(),
            places: Semaphore::new(limits.dns_forwards_max),
            answer_timeout: limits.dns_forward_timeout,
        }
    }

    /// What is known outside of a name that the mesh does not know. What cannot be asked, or is not
    /// answered, is SERVFAIL, as with any resolver.
    pub(super) async fn resolve(&self, name: &Name, query_type: RecordType) -> Resolved {
        let text = name.to_ascii().to_ascii_lowercase();
        let text = text.trim_end_matches('.');
        if let Some(address) = self.externals.address(text) {
            return addresses(name, query_type, vec![address]);
        }
        // More at a time are not kept waiting: who asks asks again.
        let Ok(_place) = self.places.try_acquire() else { return failure() };
        let files = self.files().await;
        if let Some(found) = files.hosts.get(text) {
            let of_mesh = |ip: &Ipv4Addr| self.externals.of_mesh(text, *ip).unwrap_or(*ip);
            return addresses(name, query_type, found.iter().map(of_mesh).collect());
        }
        // A name of one label is no name of DNS, and there is no IPv6 in pods.
        if name.num_labels() < 2 {
            return Resolved::of(ResponseCode::NXDomain);
        }
        if query_type == RecordType::AAAA {
            return Resolved::of(ResponseCode::NoError);
        }
        let deadline = Instant::now() + self.answer_timeout;
        for server in &files.servers {
            let asked = timeout_at(deadline, self.ask(*server, name, query_type)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(resolved) => return resolved,
                Err(error) => tracing::debug!(%server, %name, %error, "no answer"),
            }
        }
        failure()
    }

    async fn files(&self) -> Rc<HostNames> {
        let known = self.files.borrow().clone();
        if let Some((since, names)) = known
            && since.elapsed() < FILES_KEPT
        {
            return names;
        }
        let files = self.host.name_files().await.unwrap_or_default();
        let names = Rc::new(HostNames::read(files));
        self.files.replace(Some((Instant::now(), Rc::clone(&names))));
        names
    }

    async fn ask(&self, server: SocketAddr, name: &Name, of: RecordType) -> io::Result<Resolved> {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name.clone(), of));
        let bytes = query.to_vec().map_err(io::Error::other)?;
        let answer = timeout(UDP_TIME_MAX, self.ask_by_udp(server, &query, &bytes)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let answer = match answer.metadata.truncation {
            true => self.ask_by_tcp(server, &query, &bytes).await?,
            false => answer,
        };
        Ok(Resolved { code: answer.metadata.response_code, records: answer.answers, outside: None })
    }

    async fn ask_by_udp(
        &self,
        server: SocketAddr,
        query: &Message,
        bytes: &[u8],
    ) -> io::Result<Message> {
        let socket = self.socket(Transport::Udp, server).await?;
        let socket = UdpSocket::from_std(socket.into())?;
        // Only what comes from there is taken then, and that nobody listens there is told.
        socket.connect(server).await?;
        socket.send(bytes).await?;
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        loop {
            let count = socket.recv(&mut buffer).await?;
            if let Some(answer) = answer_to(query, &buffer[..count]) {
                return Ok(answer);
            }
        }
    }

    async fn ask_by_tcp(
        &self,
        server: SocketAddr,
        query: &Message,
        bytes: &[u8],
    ) -> io::Result<Message> {
        let socket = self.socket(Transport::Tcp, server).await?;
        let mut stream = TcpSocket::from_std_stream(socket.into()).connect(server).await?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
        let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut buffer).await?;
        answer_to(query, &buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    async fn socket(&self, transport: Transport, server: SocketAddr) -> io::Result<OwnedFd> {
        let given = self.host.sockets(transport, 1, server.is_ipv6()).await;
        let given = given.map_err(io::Error::other)?;
        given.into_iter().next().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// The message, if it answers this query.
fn answer_to(query: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let is_it = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == query.metadata.id
        && answer.queries == query.queries;
    is_it.then_some(answer)
}

fn addresses(name: &Name, query_type: RecordType, addresses: Vec<Ipv4Addr>) -> Resolved {
    let mut resolved = Resolved::of(ResponseCode::NoError);
    if query_type == RecordType::A {
        let record =
            |ip: Ipv4Addr| Record::from_rdata(name.clone(), TTL_SECONDS, RData::A(ip.into()));
        resolved.records = addresses.into_iter().map(record).collect();
    }
    resolved
}

fn failure() -> Resolved {
    Resolved::of(ResponseCode::ServFail)
}

/// What the host's files say of names.
#[derive(Debug, Default, PartialEq, Eq)]
struct HostNames {
    hosts: BTreeMap<String, Vec<Ipv4Addr>>,
    servers: Vec<SocketAddr>,
}

impl HostNames {
    /// Reads /etc/resolv.conf and /etc/hosts, given in this order; what is missing is empty.
    fn read(files: Vec<OwnedFd>) -> Self {
        let text = |fd: OwnedFd| {
            let mut bytes = Vec::new();
            // What cannot be read says nothing.
            let _ = File::from(fd).take(FILE_BYTES_MAX).read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut texts = files.into_iter().map(text);
        let (resolv, hosts) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        Self::of(&resolv, &hosts)
    }

    /// By resolv.conf(5) and hosts(5).
    fn of(resolv: &str, hosts: &str) -> Self {
        let words = |line: &str| -> Vec<String> {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        };
        let mut names = Self::default();
        for line in resolv.lines().map(words) {
            if let [keyword, address, ..] = line.as_slice()
                && keyword == "nameserver"
                && let Ok(ip) = address.split('%').next().unwrap_or_default().parse::<IpAddr>()
            {
                names.servers.push(SocketAddr::new(ip, DNS_PORT));
            }
        }
        if names.servers.is_empty() {
            names.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT)));
        }
        names.servers.truncate(SERVERS_MAX);
        for line in hosts.lines().map(words) {
            let Some((address, aliases)) = line.split_first() else { continue };
            let Ok(ip) = address.parse::<IpAddr>() else { continue };
            for alias in aliases {
                let alias = alias.trim_end_matches('.').to_ascii_lowercase();
                let all = names.hosts.entry(alias).or_default();
                // A name with an IPv6 address alone is known, and has no address in pods.
                if let IpAddr::V4(ip) = ip
                    && !all.contains(&ip)
                {
                    all.push(ip);
                }
            }
        }
        names
    }
}

/// Where name servers listen.
const DNS_PORT: u16 = 53;
/// Name servers that are asked, as glibc's resolver does (MAXNS).
const SERVERS_MAX: usize = 3;
/// How long what the host's files said is believed.
const FILES_KEPT: Duration = Duration::from_secs(2);
/// Bytes of such a file that are read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of an answer over UDP.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// Time for an answer over UDP, after which the next server is asked.
const UDP_TIME_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_files_are_read() {
        let resolv = "# a comment\nsearch example.test\nnameserver 192.0.2.53 ; first\n\
                      nameserver fe80::1%eth0\nnameserver x\nnameserver 192.0.2.54\n\
                      nameserver 192.0.2.55\n";
        let hosts = "127.0.0.1 localhost\n192.0.2.9\tDB.test db # ours\n::1 six.test\n\
                     127.130.2.3 db.test\nnonsense\n";
        let names = HostNames::of(resolv, hosts);
        let servers: Vec<String> = names.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.53:53", "[fe80::1]:53", "192.0.2.54:53"]);
        let of = |name: &str| names.hosts.get(name).cloned();
        let db = [[192, 0, 2, 9], [127, 130, 2, 3]].map(Ipv4Addr::from).to_vec();
        assert_eq!(of("db.test"), Some(db));
        assert_eq!(of("db"), Some(vec![[192, 0, 2, 9].into()]));
        assert_eq!((of("six.test"), of("other.test")), (Some(Vec::new()), None));
        let none = HostNames::of("", "");
        assert_eq!(none.servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn only_the_answer_to_the_query_is_taken() {
        let name = Name::from_ascii("a.test.").unwrap();
        let mut query = Message::query();
        query.add_query(Query::query(name.clone(), RecordType::A));
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.add_queries(query.queries.iter().cloned());
        assert!(answer_to(&query, &answer.to_vec().unwrap()).is_some());
        // Of another query, to another question, the query itself, and no message.
        let mut other = answer.clone();
        other.metadata.id = answer.metadata.id.wrapping_add(1);
        assert!(answer_to(&query, &other.to_vec().unwrap()).is_none());
        let mut other = Message::response(query.metadata.id, query.metadata.op_code);
        other.add_query(Query::query(Name::from_ascii("b.test.").unwrap(), RecordType::A));
        assert!(answer_to(&query, &other.to_vec().unwrap()).is_none());
        assert!(answer_to(&query, &query.to_vec().unwrap()).is_none());
        assert!(answer_to(&query, b"x").is_none());
    }
}
