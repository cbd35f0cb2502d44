//! Commands and forwarded ports over WebSockets and SPDY.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::Method;
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::secure::Client;
use crate::stub_node::{BREAKS, CLOSED};
use crate::world::{DEADLINE, World};

/// A WebSocket to the API.
struct Socket(WebSocketStream<TokioIo<Upgraded>>);

impl Socket {
    async fn open(client: &Client, path: &str, protocol: &str) -> Result<Self, u16> {
        let request = client
            .head(Method::GET, path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocol)
            .body(Full::default())
            .unwrap();
        let answer = client.connect().await.send_request(request).await.unwrap();
        if answer.status() != 101 {
            return Err(answer.status().as_u16());
        }
        assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
        assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        Ok(Self(WebSocketStream::from_raw_socket(stream, Role::Client, None).await))
    }

    async fn send(&mut self, bytes: impl Into<Bytes>) {
        self.0.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// The next message; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match tokio::time::timeout(DEADLINE, self.0.next()).await.expect("a message")? {
                Ok(Message::Binary(bytes)) => return Some(bytes),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// All that comes of channels 1, 2 and 3.
    async fn rest(&mut self) -> [String; 3] {
        let mut channels = [const { Vec::new() }; 3];
        while let Some(message) = self.next().await {
            channels[usize::from(message[0]) - 1].extend_from_slice(&message[1..]);
        }
        channels.map(|bytes| String::from_utf8(bytes).unwrap())
    }
}

/// A world with a pod that runs.
async fn world() -> (World, Client) {
    let world = World::start();
    let api = world.api();
    api.create(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "c"}]},
    }))
    .await;
    let client = Client::administrator(&world).await;
    (world, client)
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test]
async fn a_command_has_its_channels_and_its_exit_code() {
    let (_world, client) = world().await;
    let path = format!("{POD}/exec?command=say&stdin=true&stdout=true&stderr=true");
    let mut socket = Socket::open(&client, &path, "v5.channel.k8s.io").await.unwrap();
    socket.send(&b"\0hello "[..]).await;
    socket.send(&b"\0world"[..]).await;
    // The end of standard input.
    socket.send(&[255, 0][..]).await;
    let [out, err, status] = socket.rest().await;
    assert_eq!((&*out, &*err), ("hello world", "oops"));
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "3");

    // Whatever keeps its output open.
    let path = format!("{POD}/exec?command=leave&container=c&stdout=1");
    let mut socket = Socket::open(&client, &path, "v4.channel.k8s.io").await.unwrap();
    let [out, _, status] = socket.rest().await;
    assert_eq!((&*out, &*status), ("left", r#"{"metadata":{},"status":"Success"}"#));
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_before_the_connection_is_another() {
    let (_world, client) = world().await;
    for (path, protocol, code) in [
        ("p/exec?command=nothing", "v5.channel.k8s.io", 400),
        ("p/exec", "v5.channel.k8s.io", 400),
        ("p/exec?command=say&container=x", "v5.channel.k8s.io", 400),
        ("p/exec?command=say", "v9.channel.k8s.io", 400),
        ("p/attach", "v5.channel.k8s.io", 400),
        ("p/attach?stdin=true", "v5.channel.k8s.io", 400),
        ("nobody/exec?command=say", "v5.channel.k8s.io", 404),
        ("nobody/portforward", "SPDY/3.1+portforward.k8s.io", 404),
    ] {
        let path = format!("/api/v1/namespaces/default/pods/{path}");
        assert_eq!(Socket::open(&client, &path, protocol).await.err(), Some(code), "{path}");
    }
    // A message beyond the limit ends the session, and nothing else.
    let path = format!("{POD}/exec?command=wait&stdin=true");
    let mut socket = Socket::open(&client, &path, "v5.channel.k8s.io").await.unwrap();
    // It may be cut off in the middle.
    let _ = socket.0.send(Message::Binary(vec![0; 3 << 20].into())).await;
    assert_eq!(socket.next().await, None);
    let path = format!("{POD}/exec?command=leave");
    assert!(Socket::open(&client, &path, "v5.channel.k8s.io").await.is_ok());
}

/// The client's side of SPDY/3.1 in a WebSocket.
struct Ports {
    socket: Socket,
    next: u32,
    buffer: BytesMut,
}

impl Ports {
    async fn open(client: &Client) -> Self {
        let path = format!("{POD}/portforward");
        let socket = Socket::open(client, &path, "SPDY/3.1+portforward.k8s.io").await.unwrap();
        Self { socket, next: 1, buffer: BytesMut::new() }
    }

    /// Opens both streams of a connection; returns those of errors and of data.
    async fn connect(&mut self, port: u16) -> (u32, u32) {
        let first = self.next;
        for (stream, kind) in [(first, "error"), (first + 2, "data")] {
            let (port, number) = (port.to_string(), first.to_string());
            let frame =
                opening(stream, &[("streamtype", kind), ("port", &port), ("requestid", &number)]);
            // As it comes from a network: in pieces.
            let (head, tail) = frame.split_at(5);
            self.socket.send(head.to_vec()).await;
            self.socket.send(tail.to_vec()).await;
        }
        self.next += 4;
        (first, first + 2)
    }

    async fn data(&mut self, stream: u32, bytes: &[u8], last: bool) {
        self.socket.send(data(stream, bytes, last)).await;
    }

    /// The next frame of data: its stream, what it holds, and whether it is the last; none at the end.
    async fn next(&mut self) -> Option<(u32, Vec<u8>, bool)> {
        loop {
            while self.buffer.len() < 8 || self.buffer.len() < 8 + length(&self.buffer) {
                let more = self.socket.next().await?;
                self.buffer.extend_from_slice(&more);
            }
            let frame = self.buffer.split_to(8 + length(&self.buffer));
            if frame[0] & 0x80 == 0 {
                let stream = u32::from_be_bytes(frame[..4].try_into().unwrap());
                return Some((stream, frame[8..].to_vec(), frame[4] & 1 == 1));
            }
        }
    }

    /// All of a stream to its end; what comes of others is not wanted.
    async fn rest(&mut self, stream: u32) -> String {
        let mut all = Vec::new();
        loop {
            let (of, bytes, last) = self.next().await.expect("the end of a stream");
            if of == stream {
                all.extend_from_slice(&bytes);
                if last {
                    return String::from_utf8(all).unwrap();
                }
            }
        }
    }
}

/// The frame that opens a stream; the first of a connection begins what is compressed.
fn opening(stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    block.put_u32(u32::try_from(headers.len()).unwrap());
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        block.put_u32(u32::try_from(text.len()).unwrap());
        block.put_slice(text.as_bytes());
    }
    let mut body = Vec::new();
    body.put_u32(stream);
    body.put_slice(&[0; 6]);
    if stream == 1 {
        body.put_slice(&[0x78, 0x01]);
    }
    let length = u16::try_from(block.len()).unwrap();
    body.put_u8(0);
    body.put_u16_le(length);
    body.put_u16_le(!length);
    body.put_slice(&block);
    body.put_slice(&[0, 0, 0, 0xff, 0xff]);
    let mut frame = Vec::new();
    frame.put_u32(0x8003_0001);
    frame.put_u32(u32::try_from(body.len()).unwrap());
    frame.put_slice(&body);
    frame
}

/// A frame of data.
fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_u32(stream);
    frame.put_u32(u32::from(last) << 24 | u32::try_from(bytes.len()).unwrap());
    frame.put_slice(bytes);
    frame
}

fn length(head: &[u8]) -> usize {
    u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize
}

#[tokio::test]
async fn the_end_of_one_forwarded_connection_touches_no_other() {
    let (world, client) = world().await;
    let mut ports = Ports::open(&client).await;
    let (lasting_errors, lasting) = ports.connect(80).await;
    assert_eq!(ports.next().await, Some((lasting, b"port 80\n".to_vec(), false)));
    for (port, said) in [(CLOSED, ""), (BREAKS, "port 10\n"), (CLOSED, "")] {
        let (errors, data) = ports.connect(port).await;
        assert_eq!(ports.rest(data).await, said);
        // kubectl gives up a stream that has ended, and then reads errors: there are none.
        ports
            .socket
            .send(
                [0x80, 3, 0, 3, 0, 0, 0, 8]
                    .into_iter()
                    .chain(data.to_be_bytes())
                    .chain(5u32.to_be_bytes())
                    .collect::<Vec<u8>>(),
            )
            .await;
        if port == BREAKS {
            assert_eq!(ports.rest(errors).await, "");
        }
    }
    let text = "x".repeat(100_000);
    let (errors, other) = ports.connect(81).await;
    ports.data(other, text.as_bytes(), true).await;
    assert_eq!(ports.rest(other).await, format!("port 81\n{text}"));
    assert_eq!(ports.rest(errors).await, "");
    ports.data(lasting, b"still here", true).await;
    assert_eq!(ports.rest(lasting).await, "still here");
    assert_eq!(ports.rest(lasting_errors).await, "");

    // The end of the pod is the end of all.
    let (_, waiting) = ports.connect(82).await;
    assert_eq!(ports.next().await, Some((waiting, b"port 82\n".to_vec(), false)));
    world.api().delete(&format!("{POD}?gracePeriodSeconds=0")).await;
    assert_eq!(ports.next().await, None);
}

#[tokio::test]
async fn who_does_not_keep_to_spdy_is_left() {
    let (_world, client) = world().await;
    for hostile in [
        vec![0x80, 2, 0, 1, 0, 0, 0, 0],
        vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
        vec![0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0],
        [&[0x80, 3, 0, 1, 0, 0, 0, 14][..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]].concat(),
    ] {
        let mut ports = Ports::open(&client).await;
        ports.socket.send(hostile).await;
        assert_eq!(ports.next().await, None);
    }
}

/// The client's side of SPDY/3.1 without a WebSocket.
struct Spdy(TokioIo<Upgraded>);

impl Spdy {
    /// Runs a command, with a stream for each of these.
    async fn exec(client: &Client, query: &str, streams: &[&str]) -> Self {
        let request = client
            .head(Method::POST, &format!("{POD}/exec?{query}"))
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", "v4.channel.k8s.io")
            .header("x-stream-protocol-version", "channel.k8s.io")
            .body(Full::default())
            .unwrap();
        let answer = client.connect().await.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["upgrade"], "SPDY/3.1");
        assert_eq!(answer.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        let mut spdy = Self(TokioIo::new(hyper::upgrade::on(answer).await.unwrap()));
        for (number, &name) in (1..).step_by(2).zip(streams) {
            spdy.send(&opening(number, &[("streamtype", name)])).await;
        }
        spdy
    }

    async fn send(&mut self, frame: &[u8]) {
        self.0.write_all(frame).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// All data of these many streams, once each has ended; less if the connection ends before.
    async fn rest(&mut self, streams: usize) -> Vec<String> {
        let mut found = vec![Vec::new(); streams];
        let mut open = streams;
        while open > 0 {
            let mut head = [0; 8];
            let read = tokio::time::timeout(DEADLINE, self.0.read_exact(&mut head)).await;
            if read.expect("a frame").is_err() {
                break;
            }
            let mut body = vec![0; length(&head)];
            self.0.read_exact(&mut body).await.unwrap();
            if head[0] & 0x80 == 0 {
                let stream = u32::from_be_bytes(head[..4].try_into().unwrap());
                found[stream as usize / 2].extend_from_slice(&body);
                open -= usize::from(head[4] & 1);
            }
        }
        found.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }
}

#[tokio::test]
async fn older_clients_have_a_stream_for_each_channel() {
    let (_world, client) = world().await;
    let query = "command=say&stdin=true&stdout=true&stderr=true";
    let names = ["error", "stdin", "stdout", "stderr"];
    let mut spdy = Spdy::exec(&client, query, &names).await;
    spdy.send(&data(3, b"hello ", false)).await;
    // What is pinged meanwhile, and what is opened beyond, is answered.
    spdy.send(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]).await;
    spdy.send(&opening(9, &[("streamtype", "stdout")])).await;
    spdy.send(&data(3, b"world", true)).await;
    let said = spdy.rest(4).await;
    assert_eq!(said[1..], ["", "hello world", "oops"]);
    let status: Value = serde_json::from_str(&said[0]).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");

    // Who asks for less gets less.
    let mut spdy = Spdy::exec(&client, "command=leave&stdout=1", &["error", "stdout"]).await;
    assert_eq!(spdy.rest(2).await, [r#"{"metadata":{},"status":"Success"}"#, "left"]);
}

#[tokio::test]
async fn who_opens_other_streams_than_it_said_is_left() {
    let (_world, client) = world().await;
    for streams in
        [&["error", "stdin"][..], &["error", "error"], &["error", "else"], &["error", "stderr"]]
    {
        let mut spdy = Spdy::exec(&client, "command=wait&stdout=1", streams).await;
        assert_eq!(spdy.rest(2).await, ["", ""], "{streams:?}");
    }
    let mut spdy = Spdy::exec(&client, "command=wait&stdin=1&stdout=1", &["error"]).await;
    spdy.send(&data(3, b"for what is not open", false)).await;
    assert_eq!(spdy.rest(3).await, ["", "", ""]);
    // Of another's session nothing is lost.
    let mut spdy = Spdy::exec(&client, "command=leave&stdout=1", &["error", "stdout"]).await;
    assert_eq!(spdy.rest(2).await[1], "left");
}
