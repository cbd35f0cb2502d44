//! What of MySQL's protocol the applications need: a login with `mysql_native_password`, and queries
//! whose answers are rows of text, one after the other over a kept connection.
//!
//! Source: MySQL Internals, "Client/Server Protocol".

mod packet;

use std::io;

use aws_lc_rs::digest;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::client::is_quiet;

use packet::{Reader, receive, send};

/// A MySQL or MariaDB server and who logs in there.
#[derive(Debug)]
pub(crate) struct MySql {
    /// `HOST:PORT`.
    pub(crate) server: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    pub(crate) connection: Mutex<Option<BufReader<TcpStream>>>,
}

/// The rows of an answer; a value that is NULL is `None`.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

impl MySql {
    /// Runs a query. It is sent once only: whether one that failed has had its effect is not known.
    pub(crate) async fn query(&self, text: &str) -> io::Result<Rows> {
        let mut kept = self.connection.lock().await;
        let usable = kept.take().filter(|connection| is_quiet(connection.get_ref()));
        let mut connection = match usable {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        send(&mut connection, 0, &[&[COMMAND_QUERY], text.as_bytes()].concat()).await?;
        let answer = read_rows(&mut connection).await?;
        *kept = Some(connection);
        answer.map_err(io::Error::other)
    }

    /// Connects and logs in. The server speaks first.
    async fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.server).await?;
        // If this fails, small requests are merely slower.
        let _ = stream.set_nodelay(true);
        let mut connection = BufReader::new(stream);
        let (_, greeting) = receive(&mut connection).await?;
        if let Some(error) = packet::error(&greeting) {
            return Err(io::Error::other(error));
        }
        let challenge = challenge(&greeting)?;
        let mut login = Vec::new();
        login.extend(CAPABILITIES.to_le_bytes());
        login.extend((PACKET_BYTES_MAX as u32).to_le_bytes());
        login.push(UTF8);
        login.extend([0; 23]);
        login.extend([self.user.as_bytes(), &[0]].concat());
        let proof = native_password(&self.password, &challenge);
        login.push(proof.len() as u8);
        login.extend(proof);
        login.extend([self.database.as_bytes(), &[0], NATIVE.as_bytes(), &[0]].concat());
        send(&mut connection, 1, &login).await?;
        loop {
            let (number, answer) = receive(&mut connection).await?;
            match answer.first() {
                Some(0) => return Ok(connection),
                Some(0xff) => {
                    return Err(io::Error::other(packet::error(&answer).unwrap_or_default()));
                }
                // Another method of login.
                Some(0xfe) if answer.len() > 1 => {
                    let mut reader = Reader(&answer[1..]);
                    let method = String::from_utf8_lossy(reader.until_zero()?).into_owned();
                    if method != NATIVE {
                        let why = format!("the server wants a login by {method}, not {NATIVE}");
                        return Err(io::Error::other(why));
                    }
                    let challenge = reader.0.strip_suffix(&[0]).unwrap_or(reader.0);
                    let proof = native_password(&self.password, challenge);
                    send(&mut connection, number.wrapping_add(1), &proof).await?;
                }
                _ => return Err(packet::broken()),
            }
        }
    }
}

/// Text inside single quotes of a query.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The random bytes of a greeting, against which a password is proved.
fn challenge(greeting: &[u8]) -> io::Result<Vec<u8>> {
    let mut reader = Reader(greeting);
    if reader.take(1)? != [PROTOCOL] {
        return Err(packet::broken());
    }
    reader.until_zero()?;
    reader.take(4)?;
    let mut challenge = reader.take(8)?.to_vec();
    // A filler, capabilities, character set, status, capabilities, length, and ten reserved bytes.
    reader.take(1 + 2 + 1 + 2 + 2 + 1 + 10)?;
    challenge.extend(reader.take(12)?);
    Ok(challenge)
}

/// SHA1(password) XOR SHA1(challenge, SHA1(SHA1(password))); nothing for no password.
fn native_password(password: &str, challenge: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let sha1 = |data: &[u8]| digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data);
    let once = sha1(password.as_bytes());
    let twice = sha1(once.as_ref());
    let mask = sha1(&[challenge, twice.as_ref()].concat());
    once.as_ref().iter().zip(mask.as_ref()).map(|(one, other)| one ^ other).collect()
}

/// Reads the answer to a query; the inner error is the server's.
async fn read_rows(connection: &mut BufReader<TcpStream>) -> io::Result<Result<Rows, String>> {
    let (_, first) = receive(connection).await?;
    if let Some(error) = packet::error(&first) {
        return Ok(Err(error));
    }
    if first.first() == Some(&0) {
        return Ok(Ok(Rows::new()));
    }
    let columns = Reader(&first).length()?.ok_or_else(packet::broken)?;
    // The definitions of the columns, and their end.
    for _ in 0..columns.saturating_add(1) {
        receive(connection).await?;
    }
    let mut rows = Rows::new();
    loop {
        let (_, row) = receive(connection).await?;
        if let Some(error) = packet::error(&row) {
            return Ok(Err(error));
        }
        if row.first() == Some(&0xfe) && row.len() < 9 {
            return Ok(Ok(rows));
        }
        if rows.len() == ROWS_MAX {
            return Err(io::Error::other("the answer has too many rows"));
        }
        let mut reader = Reader(&row);
        let values = (0..columns).map(|_| reader.text());
        rows.push(values.collect::<io::Result<_>>()?);
    }
}

const PROTOCOL: u8 = 10;
const NATIVE: &str = "mysql_native_password";
const COMMAND_QUERY: u8 = 3;
/// `utf8_general_ci`.
const UTF8: u8 = 33;
/// LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
const CAPABILITIES: u32 = 1 | 8 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
/// Bytes of a packet.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// Rows of an answer.
const ROWS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A greeting of MariaDB 10.11, captured.
    const GREETING: &[u8] = b"\x0a5.5.5-10.11.6-MariaDB\0\x05\0\0\0abcdefgh\0\xfe\xf7\x21\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0ijklmnopqrst\0mysql_native_password\0";

    #[test]
    fn the_challenge_has_two_parts() {
        assert_eq!(challenge(GREETING).unwrap(), b"abcdefghijklmnopqrst");
        for length in 0..60 {
            assert!(challenge(&GREETING[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn text_of_a_query_cannot_end_it() {
        assert_eq!(quoted("a'; DROP TABLE x; \\'"), "'a''; DROP TABLE x; \\\\'''");
    }

    /// As `SELECT` of two columns in one row, the second of which is NULL.
    #[tokio::test]
    async fn rows_are_read_and_errors_are_the_servers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let answer = b"\x01\0\0\x01\x02\x01\0\0\x02a\x01\0\0\x03b\x05\0\0\x04\xfe\0\0\x02\0\
                       \x03\0\0\x05\x0142\0";
        let mut rows = answer[..answer.len() - 4].to_vec();
        rows.extend(b"\x0242\xfb");
        let at = rows.len() - 8;
        rows[at] = 4;
        rows.extend(b"\x05\0\0\x06\xfe\0\0\x02\0");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut greeting = vec![GREETING.len() as u8, 0, 0, 0];
            greeting.extend(GREETING);
            stream.write_all(&greeting).await.unwrap();
            let mut buffer = [0; 1024];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream.write_all(b"\x07\0\0\x02\0\0\0\x02\0\0\0").await.unwrap();
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream.write_all(&rows).await.unwrap();
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream.write_all(b"\x0c\0\0\x01\xff\x28\x04#42000bad").await.unwrap();
        });
        let [user, password, database] = ["u", "p", "d"].map(str::to_owned);
        let mysql = MySql { server, user, password, database, connection: Mutex::default() };
        let rows = mysql.query("SELECT 1").await.unwrap();
        assert_eq!(rows, [[Some("42".to_owned()), None]]);
        let error = mysql.query("SELEC").await.unwrap_err();
        assert_eq!(error.to_string(), "bad");
    }
}
