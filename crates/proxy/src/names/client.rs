//! Asks name servers for the IPv4 addresses of a name: over UDP, and over TCP where the answer does not
//! fit (RFC 1035, section 4.2).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use ironmesh_model::ListenerKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::process::Process;
use crate::random::Random;
use crate::sockets;

/// Asks name servers.
pub(super) struct Client {
    servers: Vec<SocketAddr>,
    process: Arc<Process>,
    random: Random,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// In the order of the answer, each once.
    pub(super) addresses: Vec<IpAddr>,
    /// How long it does.
    pub(super) ttl: Duration,
}

impl Client {
    /// Asks these servers, the first first.
    pub(super) fn new(servers: Vec<SocketAddr>, process: Arc<Process>) -> Self {
        Self { servers, process, random: Random::new() }
    }

    /// What a name stands for; nothing if there is none of that name.
    ///
    /// # Errors
    ///
    /// If no server says so in time (`limits.proxy.dns_timeout`), or it is no name of DNS.
    pub(super) async fn ask(&self, name: &str) -> io::Result<Answer> {
        let mut name = Name::from_ascii(name).map_err(io::Error::other)?;
        name.set_fqdn(true);
        let mut query = Message::query();
        query.metadata.id = self.random.next() as u16;
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name, RecordType::A));
        let bytes = query.to_vec().map_err(io::Error::other)?;
        let deadline = Instant::now() + self.process.limits.dns_timeout;
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for server in &self.servers {
            let asked = timeout_at(deadline, self.ask_server(*server, &query, &bytes)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_server(
        &self,
        server: SocketAddr,
        query: &Message,
        bytes: &[u8],
    ) -> io::Result<Answer> {
        let mut answer = Err(io::Error::from(io::ErrorKind::TimedOut));
        // A datagram may get lost.
        for _ in 0..UDP_ATTEMPTS {
            answer = timeout(UDP_TIME_MAX, ask_by_udp(server, query, bytes))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            if !matches!(&answer, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
                break;
            }
        }
        let answer = match answer? {
            cut if cut.metadata.truncation => self.ask_by_tcp(server, query, bytes).await?,
            whole => whole,
        };
        read(&answer)
    }

    async fn ask_by_tcp(
        &self,
        server: SocketAddr,
        query: &Message,
        bytes: &[u8],
    ) -> io::Result<Message> {
        let (connector, limits) = (&self.process.connector, &self.process.limits);
        let listener = ListenerKind::Outbound;
        let mut stream = connector.connect(listener, server, limits.dns_timeout, None).await?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
        let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut buffer).await?;
        answer_to(query, &buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

async fn ask_by_udp(server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Message> {
    let socket = sockets::datagrams(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let count = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer_to(query, &buffer[..count]) {
            return Ok(answer);
        }
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

/// The addresses of an answer, at the end of whatever chain of aliases. That there is no such name is
/// an answer, too.
fn read(answer: &Message) -> io::Result<Answer> {
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        code => return Err(io::Error::other(format!("the server says {code}"))),
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut ttl = None::<u32>;
    for record in &answer.answers {
        ttl = Some(ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
        if let RData::A(a) = &record.data {
            let ip = IpAddr::V4(a.0);
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
    }
    let ttl = ttl
        .filter(|_| !addresses.is_empty())
        .map_or(NOTHING_FOR, |ttl| Duration::from_secs(u64::from(ttl)));
    Ok(Answer { addresses, ttl })
}

/// Bytes of an answer over UDP.
const UDP_BYTES_MAX: usize = 4 << 10;
/// Questions over UDP to one server.
const UDP_ATTEMPTS: usize = 2;
/// Time for an answer to one.
const UDP_TIME_MAX: Duration = Duration::from_secs(2);
/// How long it is believed that a name stands for nothing.
const NOTHING_FOR: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::CNAME;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn answered(code: ResponseCode, records: Vec<Record>) -> Message {
        let mut answer = Message::response(7, hickory_proto::op::OpCode::Query);
        answer.metadata.response_code = code;
        answer.add_answers(records);
        answer
    }

    #[test]
    fn answers_are_read_through_aliases_and_hold_for_their_shortest_time() {
        let a = |ttl, last| {
            let ip = Ipv4Addr::new(192, 0, 2, last);
            Record::from_rdata(name("b.test."), ttl, RData::A(ip.into()))
        };
        let alias = Record::from_rdata(name("a.test."), 9, RData::CNAME(CNAME(name("b.test."))));
        let answer = answered(ResponseCode::NoError, vec![alias, a(30, 2), a(20, 1), a(20, 2)]);
        let ips = [[192, 0, 2, 2], [192, 0, 2, 1]].map(IpAddr::from).to_vec();
        let seconds = Duration::from_secs;
        assert_eq!(read(&answer).unwrap(), Answer { addresses: ips, ttl: seconds(9) });
        let none = Answer { addresses: Vec::new(), ttl: NOTHING_FOR };
        assert_eq!(read(&answered(ResponseCode::NXDomain, Vec::new())).unwrap(), none);
        assert_eq!(read(&answered(ResponseCode::NoError, Vec::new())).unwrap(), none);
        for code in [ResponseCode::ServFail, ResponseCode::Refused] {
            assert!(read(&answered(code, vec![a(5, 1)])).is_err(), "{code}");
        }
    }

    #[test]
    fn only_the_answer_to_the_query_is_taken() {
        let mut query = Message::query();
        query.metadata.id = 7;
        query.add_query(Query::query(name("a.test."), RecordType::A));
        let mut answer = answered(ResponseCode::NoError, Vec::new());
        answer.add_queries(query.queries.iter().cloned());
        assert!(answer_to(&query, &answer.to_vec().unwrap()).is_some());
        let mut other = answer.clone();
        other.metadata.id = 8;
        assert!(answer_to(&query, &other.to_vec().unwrap()).is_none());
        let mut other = answered(ResponseCode::NoError, Vec::new());
        other.add_query(Query::query(name("b.test."), RecordType::A));
        assert!(answer_to(&query, &other.to_vec().unwrap()).is_none());
        assert!(answer_to(&query, &query.to_vec().unwrap()).is_none());
        assert!(answer_to(&query, b"x").is_none());
    }
}
