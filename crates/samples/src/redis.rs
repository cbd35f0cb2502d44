//! What of Redis' protocol the applications need: commands whose answers are numbers or strings, one
//! after the other over a kept connection.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::client::is_quiet;

/// A Redis server.
#[derive(Debug)]
pub(crate) struct Redis {
    /// `HOST:PORT`.
    server: String,
    connection: Mutex<Option<BufReader<TcpStream>>>,
}

impl Redis {
    pub(crate) fn new(server: String) -> Self {
        Self { server, connection: Mutex::default() }
    }

    /// `HOST:PORT` of it.
    #[cfg(test)]
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Sends a command; the answer is a number or string as text, or nothing. It is sent once
    /// only: whether a command that failed has had its effect is not known.
    pub(crate) async fn command(&self, words: &[&str]) -> io::Result<Option<String>> {
        let mut kept = self.connection.lock().await;
        // An answer that nobody waits for must not be taken for the next one.
        let usable = kept.take().filter(|connection| is_quiet(connection.get_ref()));
        let mut connection = match usable {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(&self.server).await?),
        };
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        connection.write_all(text.as_bytes()).await?;
        let answer = read(&mut connection).await?;
        *kept = Some(connection);
        answer.map_err(io::Error::other)
    }
}

/// Reads one answer; the inner error is the server's.
async fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Result<Option<String>, String>> {
    let mut line = String::new();
    (&mut *connection).take(LINE_BYTES_MAX).read_line(&mut line).await?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "not an answer of Redis");
    let rest = line.strip_suffix("\r\n").ok_or_else(broken)?;
    let (kind, rest) = rest.split_at_checked(1).ok_or_else(broken)?;
    match kind {
        "+" | ":" => Ok(Ok(Some(rest.to_owned()))),
        "-" => Ok(Err(rest.to_owned())),
        "$" if rest == "-1" => Ok(Ok(None)),
        "$" => {
            let length: usize = rest.parse().map_err(|_| broken())?;
            if length > VALUE_BYTES_MAX {
                return Err(broken());
            }
            let mut value = vec![0; length + 2];
            connection.read_exact(&mut value).await?;
            value.truncate(length);
            Ok(Ok(Some(String::from_utf8(value).map_err(|_| broken())?)))
        }
        _ => Err(broken()),
    }
}

/// Bytes of a line of an answer.
const LINE_BYTES_MAX: u64 = 1 << 10;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Sends each text for one command, on one connection each time that it ends.
    async fn server(answers: &'static [&'static str]) -> Redis {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                assert!(stream.read(&mut [0; 256]).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Redis::new(server)
    }

    #[tokio::test]
    async fn answers_of_every_kind() {
        let redis =
            server(&["+OK\r\n", ":3\r\n", "$-1\r\n", "$4\r\na\r\nb\r\n", "-ERR no\r\n"]).await;
        for expected in [Some("OK"), Some("3"), None, Some("a\r\nb")] {
            assert_eq!(redis.command(&["GET", "x"]).await.unwrap().as_deref(), expected);
        }
        assert_eq!(redis.command(&["GET", "x"]).await.unwrap_err().to_string(), "ERR no");
    }

    #[tokio::test]
    async fn bytes_that_are_no_answer_are_an_error() {
        for answer in [&["HTTP/1.1 400 Bad\r\n"], &["$99999999999\r\n"], &["\r\n"], &["$-2\r\n"]] {
            let redis = server(answer).await;
            assert!(redis.command(&["GET", "x"]).await.is_err(), "{answer:?}");
        }
    }
}
