//! Connections that become something else: commands in containers (`exec`), their output (`attach`), and
//! ports of pods (`portforward`). Clients come by WebSocket, in which those that forward ports speak
//! SPDY/3.1, as `kubectl` does; older ones speak SPDY/3.1 without it.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use ironmesh_dialects::kinds::Resource;
use ironmesh_fds::slots::Busy;

use super::answer::{Answer, AnswerBody};
use super::logs::container_of;
use super::request::{decode, parse_query};
use crate::access::{Action, User};
use crate::context::Context;
use crate::failure::Failure;
use crate::node::{Command, Input};
use crate::object::{Object, list as list_of};
use crate::store::{Collection, Key};

mod attach;
mod channels;
mod exec;
mod forward;
mod socket;
mod spdy;

use channels::{ERROR, Incoming, Outgoing, RESIZE, STDERR, STDIN, STDOUT};

/// What is wanted of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    namespace: String,
    pod: String,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Exec,
    Attach,
    PortForward,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }
}

/// What a path wants, if it is one of these.
pub(super) fn wanted(path: &str) -> Option<Wanted> {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let ["api", "v1", "namespaces", namespace, "pods", pod, what] = words[..] else { return None };
    let what = [What::Exec, What::Attach, What::PortForward]
        .into_iter()
        .find(|other| other.word() == what)?;
    let (namespace, pod) = (decode(namespace, false).ok()?, decode(pod, false).ok()?);
    Some(Wanted { namespace, pod, what })
}

/// Begins what is wanted, if the request is as it must be.
///
/// # Errors
///
/// If the caller may not do it, there is no such pod, or the client speaks no protocol that is known here.
pub(super) async fn begin(
    context: &Arc<Context>,
    user: &User,
    wanted: Wanted,
    mut request: Request<body::Incoming>,
    place: Arc<Busy>,
) -> Result<Answer, Failure> {
    let Wanted { namespace, pod: name, what } = wanted;
    // As Kubernetes has it since 1.35: whatever the method, something is done in the pod.
    user.check(&Action::Resource {
        verb: "create",
        group: "",
        resource: "pods",
        subresource: what.word(),
        namespace: &namespace,
    })?;
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(Failure::method_not_allowed());
    }
    let key = Collection::core("pods").key(&namespace, &name);
    let pod = context.registry.object(&Resource::of("v1", "Pod"), &key)?;
    let query = parse_query(request.uri().query().unwrap_or_default())?;
    check_input(what, &pod, &query)?;
    let upgrade = Upgrade::of(request.headers(), what)?;
    let upgraded = hyper::upgrade::on(&mut request);
    let answer = upgrade.answer();
    let session = Session {
        context: context.clone(),
        key,
        _place: place,
        is_socket: matches!(upgrade, Upgrade::Socket { .. }),
        wanted: wanted_channels(&query),
    };
    match what {
        What::PortForward => {
            let uid = crate::object::uid(&pod).to_owned();
            tokio::spawn(async move {
                let Ok(stream) = upgraded.await else { return };
                let stream = TokioIo::new(stream);
                let (context, key) = (session.context.clone(), session.key.clone());
                let forwarding = forward::Forwarding { context, key, uid };
                if session.is_socket {
                    let (reading, writing) = session.socket(stream).await.split();
                    forwarding.run(reading.bytes(), writing).await;
                } else {
                    let (reading, writing) = tokio::io::split(stream);
                    forwarding.run(spdy::Bytes::Plain(reading), spdy::Sink::Plain(writing)).await;
                }
            });
        }
        What::Exec => {
            let command = command(&session.key, &pod, &query)?;
            // Before the client is told that all is well: else nobody tells it what is wrong.
            let process = context.node.exec(command).await.map_err(Failure::bad_request)?;
            tokio::spawn(async move {
                if let Some(channels) = session.channels(upgraded).await {
                    exec::run(channels, process).await;
                }
            });
        }
        What::Attach => {
            let (log, input) = ends_of(context, &session.key, &pod, &query).await?;
            tokio::spawn(async move {
                if let Some(channels) = session.channels(upgraded).await {
                    attach::run(channels, log, input).await;
                }
            });
        }
    }
    Ok(answer)
}

/// What a connection that becomes something else needs.
struct Session {
    context: Arc<Context>,
    key: Key,
    /// Held to the end.
    _place: Arc<Busy>,
    is_socket: bool,
    /// The channels that the client has said it opens.
    wanted: Vec<u8>,
}

impl Session {
    async fn socket(&self, stream: TokioIo<Upgraded>) -> socket::Socket {
        let message_bytes_max = self.context.registry.limits().api_message_bytes_max;
        socket::Socket::server(stream, message_bytes_max).await
    }

    /// The channels of a command; none if the client is gone, or does not open what it should.
    async fn channels(&self, upgraded: OnUpgrade) -> Option<(Incoming, Outgoing)> {
        let stream = TokioIo::new(upgraded.await.ok()?);
        if self.is_socket {
            return Some(channels::of_socket(self.socket(stream).await));
        }
        let longest = self.context.registry.limits().api_head_timeout;
        channels::of_spdy(stream, &self.wanted, longest).await
    }
}

/// The channels that a query names; there is always one for the end.
fn wanted_channels(query: &[(String, String)]) -> Vec<u8> {
    let asked =
        [("stdin", STDIN), ("stdout", STDOUT), ("stderr", STDERR), ("tty", RESIZE)].into_iter();
    let asked = asked.filter(|(name, _)| flag(query, name)).map(|(_, channel)| channel);
    asked.chain([ERROR]).collect()
}

/// The value of a query parameter; empty if it is not there.
fn value<'a>(query: &'a [(String, String)], name: &str) -> &'a str {
    query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

fn flag(query: &[(String, String)], name: &str) -> bool {
    matches!(value(query, name), "true" | "1")
}

/// The output of the container to attach to, and its standard input if that is wanted. Who writes the input
/// of one that takes it once has all of the output.
async fn ends_of(
    context: &Arc<Context>,
    key: &Key,
    pod: &Object,
    query: &[(String, String)],
) -> Result<(attach::Log, Option<Input>), Failure> {
    let container = container_of(pod, value(query, "container"))?;
    let log = attach::Log::open(context, key, pod, &container).await?;
    if !flag(query, "stdin") {
        return Ok((log, None));
    }
    let input = context.node.input(&key.namespace, &key.name, &container).await;
    let input = input.map_err(Failure::bad_request)?;
    let is_once = container_says(pod, &container, "stdinOnce");
    Ok((if is_once { log.whole() } else { log }, Some(input)))
}

/// That the manifest of a pod gives a container the standard input that is to be written. This comes before
/// anything is said about protocols: clients that are refused try another one, and tell of that.
fn check_input(what: What, pod: &Object, query: &[(String, String)]) -> Result<(), Failure> {
    if what != What::Attach || !flag(query, "stdin") {
        return Ok(());
    }
    let container = container_of(pod, value(query, "container"))?;
    let has = container_says(pod, &container, "stdin");
    let why = || {
        Failure::bad_request(format!(
            "container {container} has no standard input: its manifest would say stdin: true"
        ))
    };
    has.then_some(()).ok_or_else(why)
}

/// Whether a field of a container in its manifest says yes.
fn container_says(pod: &Object, container: &str, field: &str) -> bool {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let mut all = lists.iter().flat_map(|list| list_of(pod, list));
    all.any(|other| other["name"] == *container && other[field] == true)
}

/// The command that a query names.
fn command(key: &Key, pod: &Object, query: &[(String, String)]) -> Result<Command, Failure> {
    let words = query.iter().filter(|(key, _)| key == "command");
    let words: Vec<String> = words.map(|(_, word)| word.clone()).collect();
    if words.is_empty() {
        return Err(Failure::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    Ok(Command {
        namespace: key.namespace.to_string(),
        pod: key.name.to_string(),
        container: container_of(pod, value(query, "container"))?,
        words,
        stdin: flag(query, "stdin"),
        tty: flag(query, "tty"),
    })
}

/// What a client wants its connection to become.
enum Upgrade {
    /// A WebSocket: what its handshake is answered with, and the protocol in it.
    Socket { accept: String, protocol: &'static str },
    /// SPDY/3.1, for this protocol in it.
    Spdy(&'static str),
}

impl Upgrade {
    fn of(headers: &HeaderMap, what: What) -> Result<Self, Failure> {
        let has = |name, word: &str| words(headers, name).any(|w| w.eq_ignore_ascii_case(word));
        if !has("connection", "upgrade") {
            return Err(Failure::bad_request("Upgrade request required"));
        }
        if has("upgrade", "SPDY/3.1") {
            let known: &[&'static str] = match what {
                What::PortForward => &[FORWARD],
                What::Exec | What::Attach => &["v4.channel.k8s.io"],
            };
            let name = "x-stream-protocol-version";
            if what == What::PortForward && !headers.contains_key(name) {
                return Ok(Self::Spdy(FORWARD));
            }
            return choose(headers, name, known).map(Self::Spdy);
        }
        let key = headers.get("sec-websocket-key");
        let (true, true, Some(key)) =
            (has("upgrade", "websocket"), has("sec-websocket-version", "13"), key)
        else {
            return Err(Failure::bad_request(format!(
                "{} is served by WebSocket (RFC 6455) and SPDY/3.1 only",
                what.word()
            )));
        };
        let known: &[&'static str] = if what == What::PortForward {
            &[TUNNEL]
        } else {
            &["v5.channel.k8s.io", "v4.channel.k8s.io"]
        };
        let protocol = choose(headers, "sec-websocket-protocol", known)?;
        Ok(Self::Socket { accept: accept(key.as_bytes()), protocol })
    }

    /// The answer after which the connection is what the client wants.
    fn answer(&self) -> Answer {
        let mut answer =
            Response::new(AnswerBody::new(Empty::new().map_err(|never| match never {})));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        match self {
            Self::Spdy(protocol) => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
                let protocol = HeaderValue::from_static(protocol);
                headers.insert("x-stream-protocol-version", protocol);
            }
            Self::Socket { accept, protocol } => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                if let Ok(accept) = HeaderValue::from_str(accept) {
                    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
                }
                let protocol = HeaderValue::from_static(protocol);
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
            }
        }
        answer
    }
}

/// The first protocol that a client offers and that is known.
fn choose(
    headers: &HeaderMap,
    name: &str,
    known: &[&'static str],
) -> Result<&'static str, Failure> {
    let chosen =
        words(headers, name).find_map(|offered| known.iter().find(|known| **known == offered));
    chosen.copied().ok_or_else(|| {
        let (known, offered) =
            (known.join(", "), words(headers, name).collect::<Vec<_>>().join(", "));
        Failure::bad_request(format!(
            "unable to upgrade: the client offers none of the protocols {known}, but {offered:?}"
        ))
    })
}

/// The words of a header, over all its lines.
fn words<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// What proves that a handshake was understood (RFC 6455, section 4.2.2).
fn accept(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let digest = aws_lc_rs::digest::digest(sha1, &[key, GUID].concat());
    BASE64_STANDARD.encode(digest)
}

const FORWARD: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_answered_as_the_rfc_shows() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn paths_of_streams() {
        let is = |path: &str| wanted(path).map(|wanted| (wanted.pod, wanted.what));
        let base = "/api/v1/namespaces/n/pods/p";
        assert_eq!(is(&format!("{base}/exec")), Some(("p".to_owned(), What::Exec)));
        assert_eq!(is(&format!("{base}/attach")), Some(("p".to_owned(), What::Attach)));
        assert_eq!(is(&format!("{base}/portforward")), Some(("p".to_owned(), What::PortForward)));
        for other in [base, "/api/v1/namespaces/n/services/p/exec", "/apis/v1/x", "/"] {
            assert_eq!(wanted(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_client_offers_decides() {
        let offer = |lines: &[(&'static str, &'static str)], what| {
            let headers =
                lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            match Upgrade::of(&HeaderMap::from_iter(headers), what) {
                Ok(Upgrade::Socket { protocol, .. } | Upgrade::Spdy(protocol)) => Ok(protocol),
                Err(failure) => Err(failure.code),
            }
        };
        let socket = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |protocols| [&socket[..], &[("sec-websocket-protocol", protocols)]].concat();
        let both = with("v5.channel.k8s.io, v4.channel.k8s.io");
        assert_eq!(offer(&both, What::Exec), Ok("v5.channel.k8s.io"));
        assert_eq!(offer(&with("v4.channel.k8s.io"), What::Attach), Ok("v4.channel.k8s.io"));
        assert_eq!(offer(&with(TUNNEL), What::PortForward), Ok(TUNNEL));
        assert_eq!(offer(&with(TUNNEL), What::Exec), Err(400));
        assert_eq!(offer(&with("channel.k8s.io"), What::Exec), Err(400));
        assert_eq!(offer(&socket, What::Exec), Err(400));
        assert_eq!(offer(&both[1..], What::Exec), Err(400));
        let spdy = [
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", FORWARD),
        ];
        assert_eq!(offer(&spdy, What::PortForward), Ok(FORWARD));
        assert_eq!(offer(&spdy, What::Exec), Err(400));
        let command = |protocols| {
            let name = "x-stream-protocol-version";
            offer(&[&spdy[..2], &[(name, protocols)]].concat(), What::Exec)
        };
        assert_eq!(command("v4.channel.k8s.io, channel.k8s.io"), Ok("v4.channel.k8s.io"));
        assert_eq!(command("channel.k8s.io"), Err(400));
        assert_eq!(offer(&spdy[..2], What::PortForward), Ok(FORWARD));
        assert_eq!(offer(&spdy[..2], What::Attach), Err(400));
    }
}
