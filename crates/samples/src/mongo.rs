//! What of MongoDB's protocol the applications need: commands and their answers as JSON, one after the
//! other over a kept connection, without a login.
//!
//! Source: MongoDB Wire Protocol, OP_MSG.

mod bson;

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::client::is_quiet;

/// A MongoDB server and a database of it.
#[derive(Debug)]
pub(crate) struct Mongo {
    /// `HOST:PORT`.
    server: String,
    database: String,
    connection: Mutex<Option<TcpStream>>,
}

impl Mongo {
    /// From `mongodb://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?OPTIONS]`. User and options are not
    /// used: the servers of the samples ask for no login.
    pub(crate) fn new(uri: &str, database: &str) -> Self {
        let rest = uri.strip_prefix("mongodb://").unwrap_or(uri);
        let rest = rest.split('?').next().unwrap_or(rest);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = host.rsplit('@').next().unwrap_or(host);
        // Of a replica set the first.
        let host = host.split(',').next().unwrap_or(host);
        let server = if host.contains(':') { host.to_owned() } else { format!("{host}:27017") };
        let database = if path.is_empty() { database } else { path };
        Self { server, database: database.to_owned(), connection: Mutex::default() }
    }

    /// Runs a command of the database; what it answers. It is sent once only: whether one that failed
    /// has had its effect is not known.
    pub(crate) async fn command(&self, mut command: Value) -> io::Result<Value> {
        command["$db"] = json!(self.database);
        let mut kept = self.connection.lock().await;
        let mut connection = match kept.take().filter(is_quiet) {
            Some(connection) => connection,
            None => TcpStream::connect(&self.server).await?,
        };
        connection.write_all(&message(&command)?).await?;
        let answer = receive(&mut connection).await?;
        *kept = Some(connection);
        let failed =
            |text: Option<&str>| io::Error::other(text.unwrap_or("the command failed").to_owned());
        match answer["ok"].as_f64() {
            Some(1.0) if answer["writeErrors"].is_null() => Ok(answer),
            Some(1.0) => Err(failed(answer["writeErrors"][0]["errmsg"].as_str())),
            _ => Err(failed(answer["errmsg"].as_str())),
        }
    }

    /// All documents of a collection.
    pub(crate) async fn find(&self, collection: &str) -> io::Result<Vec<Value>> {
        let command =
            json!({ "find": collection, "batchSize": DOCUMENTS_MAX, "singleBatch": true });
        let answer = self.command(command).await?;
        Ok(answer["cursor"]["firstBatch"].as_array().cloned().unwrap_or_default())
    }
}

/// A command as a message.
fn message(command: &Value) -> io::Result<Vec<u8>> {
    let document = bson::encode(command)?;
    let length = HEAD_BYTES + 5 + document.len();
    let mut message = Vec::with_capacity(length);
    for number in [length as u32, 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(BODY);
    message.extend(document);
    Ok(message)
}

async fn receive(connection: &mut TcpStream) -> io::Result<Value> {
    let mut head = [0; HEAD_BYTES];
    connection.read_exact(&mut head).await?;
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = number(0) as usize;
    if number(12) != OP_MSG || !(HEAD_BYTES + 5..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(bson::broken());
    }
    let mut rest = vec![0; length - HEAD_BYTES];
    connection.read_exact(&mut rest).await?;
    match rest.get(4..) {
        Some([BODY, document @ ..]) => bson::decode(document),
        _ => Err(bson::broken()),
    }
}

const HEAD_BYTES: usize = 16;
const OP_MSG: u32 = 2013;
/// Kind of a section: the document itself.
const BODY: u8 = 0;
/// Bytes of a message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Documents of an answer.
const DOCUMENTS_MAX: usize = 10_000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers each command by a function of it.
    pub(crate) async fn server(answer: fn(&Value) -> Value) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    while let Ok(command) = receive(&mut stream).await {
                        stream.write_all(&message(&answer(&command)).unwrap()).await.unwrap();
                    }
                });
            }
        });
        format!("mongodb://user:secret@{address}/shop?x=y")
    }

    #[tokio::test]
    async fn commands_name_their_database_and_errors_are_the_servers() {
        let uri = server(|command| match command["ping"].as_i64() {
            Some(1) => json!({ "ok": 1.0, "database": command["$db"] }),
            Some(2) => json!({ "ok": 1.0, "writeErrors": [{ "errmsg": "twice" }] }),
            _ => json!({ "ok": 0.0, "errmsg": "no such command" }),
        });
        let mongo = Mongo::new(&uri.await, "test");
        assert_eq!(mongo.command(json!({ "ping": 1 })).await.unwrap()["database"], "shop");
        for (command, why) in [(2, "twice"), (3, "no such command")] {
            let error = mongo.command(json!({ "ping": command })).await.unwrap_err();
            assert_eq!(error.to_string(), why);
        }
    }

    #[test]
    fn addresses() {
        for (uri, server, database) in [
            ("mongodb://mongodb:27017/test", "mongodb:27017", "test"),
            ("mongodb://u:p@db.db/ratingsdb", "db.db:27017", "ratingsdb"),
            ("mongodb://a:1,b:2/?replicaSet=x", "a:1", "default"),
        ] {
            let mongo = Mongo::new(uri, "default");
            assert_eq!((&*mongo.server, &*mongo.database), (server, database));
        }
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_are_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mongo = Mongo::new(&listener.local_addr().unwrap().to_string(), "test");
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                // What comes is not read before the answer is.
                let _ = stream.read(&mut [0; 512]).await;
            }
        });
        assert!(mongo.command(json!({ "ping": 1 })).await.is_err());
    }
}
