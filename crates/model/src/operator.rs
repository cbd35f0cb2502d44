//! Envoy's command operators (`%REQ(x)%`), which stand for what is known of a request or a connection:
//! how they are written, and which there are. Values of header operations and lines of the access log
//! have them.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An operator as it is written: `%NAME%`, `%NAME(ARGUMENT)%`, `%NAME(ARGUMENT):LENGTH%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is between the parentheses; empty without.
    pub argument: &'a str,
    /// Characters of what it stands for; the rest is left out.
    pub length_max: Option<usize>,
}

impl<'a> Operator<'a> {
    /// The operator that a text begins with, and what follows it.
    pub fn at_start(text: &'a str) -> Option<(Self, &'a str)> {
        let inside = text.strip_prefix('%')?;
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let (name, rest) = inside.split_at(inside.find(|c| !is_name(c))?);
        if name.is_empty() {
            return None;
        }
        let Some(inner) = rest.strip_prefix('(') else {
            let (length_max, rest) = end(rest)?;
            return Some((Self { name, argument: "", length_max }, rest));
        };
        // As in Envoy the argument ends where the operator can.
        inner.match_indices(')').find_map(|(at, _)| {
            let (length_max, rest) = end(&inner[at + 1..])?;
            Some((Self { name, argument: &inner[..at], length_max }, rest))
        })
    }
}

/// The end of an operator, `%` or `:LENGTH%`, and what follows it.
fn end(text: &str) -> Option<(Option<usize>, &str)> {
    let Some(text) = text.strip_prefix(':') else { return Some((None, text.strip_prefix('%')?)) };
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    Some((Some(digits.parse().ok()?), rest.strip_prefix('%')?))
}

/// What an operator stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A number.
    Number(u64),
    /// An address and port.
    Address(SocketAddr),
    /// An address.
    Ip(IpAddr),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<Value<'_>> for String {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Text(text) => text.into_owned(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Ip(ip) => write!(f, "{ip}"),
        }
    }
}

/// What is between the parentheses of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Nothing.
    None,
    /// The name of a header, or several, of which the first counts that is there: `X?Y`.
    Header,
    /// How a time is written, see [`TIME_DIRECTIVES`]; may be left out.
    Time,
    /// One of these words, or nothing.
    Word(&'static [&'static str]),
}

macro_rules! commands {
    ($($(#[$doc:meta])* $command:ident, $names:expr, $argument:expr, $in_headers:literal;)*) => {
        /// What an operator stands for that proxies know.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command { $($(#[$doc])* $command,)* }

        /// The names of each, what it takes, and whether header operations know it, too.
        const COMMANDS: &[(Command, &[&str], Argument, bool)] =
            &[$((Command::$command, &$names, $argument, $in_headers),)*];
    };
}

commands! {
    /// A header of the request.
    Request, ["REQ", "REQUEST_HEADER"], Argument::Header, true;
    /// The same, without what follows a `?` in its value.
    RequestWithoutQuery, ["REQ_WITHOUT_QUERY"], Argument::Header, false;
    /// A header of the response.
    Response, ["RESP", "RESPONSE_HEADER"], Argument::Header, true;
    /// When it began.
    StartTime, ["START_TIME"], Argument::Time, true;
    /// Version of HTTP.
    Protocol, ["PROTOCOL"], Argument::None, true;
    /// Status of the response; 0 if there was none.
    ResponseCode, ["RESPONSE_CODE"], Argument::None, true;
    /// Where the response came from.
    ResponseCodeDetails, ["RESPONSE_CODE_DETAILS"], Argument::Word(&["ALLOW_WHITESPACES"]), false;
    /// What was out of the ordinary, in short.
    ResponseFlags, ["RESPONSE_FLAGS"], Argument::None, false;
    /// The same in words.
    ResponseFlagsLong, ["RESPONSE_FLAGS_LONG"], Argument::None, false;
    /// Why the proxy ended the connection.
    TerminationDetails, ["CONNECTION_TERMINATION_DETAILS"], Argument::None, false;
    /// Why TLS with the endpoint failed.
    UpstreamFailure, ["UPSTREAM_TRANSPORT_FAILURE_REASON"], Argument::None, false;
    /// Bytes from the client: of the body, or of the connection.
    BytesReceived, ["BYTES_RECEIVED"], Argument::None, false;
    /// Bytes to the client.
    BytesSent, ["BYTES_SENT"], Argument::None, false;
    /// Milliseconds in all.
    Duration, ["DURATION"], Argument::None, false;
    /// Milliseconds to the first byte of the endpoint's answer.
    ResponseDuration, ["RESPONSE_DURATION"], Argument::None, false;
    /// Milliseconds from there to the end.
    ResponseTxDuration, ["RESPONSE_TX_DURATION"], Argument::None, false;
    /// The status of a gRPC answer.
    GrpcStatus, ["GRPC_STATUS"], Argument::Word(&["CAMEL_STRING", "SNAKE_STRING", "NUMBER"]), false;
    /// The same as a number.
    GrpcStatusNumber, ["GRPC_STATUS_NUMBER"], Argument::None, false;
    /// Attempts that were made.
    Attempts, ["UPSTREAM_REQUEST_ATTEMPT_COUNT"], Argument::None, false;
    /// The endpoint.
    UpstreamAddress, ["UPSTREAM_HOST", "UPSTREAM_REMOTE_ADDRESS"], Argument::None, true;
    /// The endpoint, without its port.
    UpstreamIp, ["UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"], Argument::None, true;
    /// The endpoint's port.
    UpstreamPort, ["UPSTREAM_REMOTE_PORT"], Argument::None, false;
    /// The proxy's address on the connection to the endpoint.
    UpstreamLocalAddress, ["UPSTREAM_LOCAL_ADDRESS"], Argument::None, false;
    /// The same, without the port.
    UpstreamLocalIp, ["UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT"], Argument::None, false;
    /// Its port.
    UpstreamLocalPort, ["UPSTREAM_LOCAL_PORT"], Argument::None, false;
    /// The cluster of the endpoint.
    UpstreamCluster, ["UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW"], Argument::None, true;
    /// The client.
    DownstreamAddress, ["DOWNSTREAM_REMOTE_ADDRESS"], Argument::None, true;
    /// The client, without its port.
    DownstreamIp, ["DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"], Argument::None, true;
    /// The client's port.
    DownstreamPort, ["DOWNSTREAM_REMOTE_PORT"], Argument::None, true;
    /// Who connects, which may be a proxy in front of the client.
    DownstreamDirectAddress, ["DOWNSTREAM_DIRECT_REMOTE_ADDRESS"], Argument::None, true;
    /// The same, without the port.
    DownstreamDirectIp, ["DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT"], Argument::None, true;
    /// Its port.
    DownstreamDirectPort, ["DOWNSTREAM_DIRECT_REMOTE_PORT"], Argument::None, true;
    /// Where the client wanted to go.
    DownstreamLocalAddress, ["DOWNSTREAM_LOCAL_ADDRESS"], Argument::None, true;
    /// The same, without the port.
    DownstreamLocalIp, ["DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT"], Argument::None, true;
    /// Its port.
    DownstreamLocalPort, ["DOWNSTREAM_LOCAL_PORT"], Argument::None, true;
    /// The identity of the client, if mutual TLS proved it.
    DownstreamIdentity, ["DOWNSTREAM_PEER_URI_SAN"], Argument::None, true;
    /// The proxy's own identity towards the client, if it ended mutual TLS.
    DownstreamLocalIdentity, ["DOWNSTREAM_LOCAL_URI_SAN"], Argument::None, false;
    /// Version of the client's TLS.
    DownstreamTlsVersion, ["DOWNSTREAM_TLS_VERSION"], Argument::None, false;
    /// The identity of the endpoint, if mutual TLS proved it.
    UpstreamIdentity, ["UPSTREAM_PEER_URI_SAN"], Argument::None, false;
    /// The proxy's own identity towards the endpoint, likewise.
    UpstreamLocalIdentity, ["UPSTREAM_LOCAL_URI_SAN"], Argument::None, false;
    /// Whom the client's TLS names.
    ServerName, ["REQUESTED_SERVER_NAME"], Argument::Word(&["SNI_ONLY"]), true;
    /// The winning rule.
    Route, ["ROUTE_NAME"], Argument::None, true;
    /// The pod.
    Hostname, ["HOSTNAME"], Argument::None, true;
    /// `DownstreamEnd` for a request, `TcpConnectionEnd` for an opaque connection.
    AccessLogType, ["ACCESS_LOG_TYPE"], Argument::None, false;
    /// The id of the request.
    StreamId, ["STREAM_ID"], Argument::None, false;
    /// The id of the trace.
    TraceId, ["TRACE_ID"], Argument::None, false;
    /// The draw, by which `explain` repeats the decision. No other proxy has it.
    Draw, ["IRONMESH_DRAW"], Argument::None, false;
    /// Why it ended as it did: [`Reason::code`](crate::Reason::code). No other proxy has it.
    Reason, ["IRONMESH_REASON"], Argument::None, false;
}

impl Command {
    /// What an operator of this name stands for, if proxies know it, and what it takes.
    pub fn of(name: &str) -> Option<(Self, Argument)> {
        let row = COMMANDS.iter().find(|row| row.1.contains(&name))?;
        Some((row.0, row.2))
    }

    /// The same, if the values of header operations know it.
    pub fn in_headers(name: &str) -> Option<Self> {
        let row = COMMANDS.iter().find(|row| row.3 && row.1.contains(&name))?;
        Some(row.0)
    }
}

/// Why the proxy has nothing for an operator of Envoy's; `None`: it has, or Envoy has no such operator.
pub fn unfilled(name: &str) -> Option<&'static str> {
    UNFILLED.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| *why)
}

/// Names of all operators, for those who misspell one.
pub fn names() -> impl Iterator<Item = &'static str> {
    let known = COMMANDS.iter().flat_map(|row| row.1);
    known.chain(UNFILLED.iter().flat_map(|(names, _)| *names)).copied()
}

/// A part of how a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimePart<'a> {
    /// As it stands.
    Text(&'a str),
    /// One of [`TIME_DIRECTIVES`].
    Directive(char),
    /// So many digits of a fraction of the second.
    Fraction(usize),
    /// A directive that is not known, which stands as it is written.
    Unknown(&'a str),
}

/// The parts of how a time is written (`%Y-%m-%dT%H:%M:%S.%3fZ`), in order.
pub fn time_parts(format: &str) -> impl Iterator<Item = TimePart<'_>> {
    let mut rest = format;
    std::iter::from_fn(move || {
        let mut chars = rest.chars();
        let (part, end) = match (chars.next()?, chars.next()) {
            ('%', Some('f')) => (TimePart::Fraction(FRACTION_DIGITS_MAX), 2),
            ('%', Some(digit @ '1'..='9')) if chars.next() == Some('f') => {
                (TimePart::Fraction(digit as usize - '0' as usize), 3)
            }
            ('%', Some(letter)) if TIME_DIRECTIVES.contains(letter) => {
                (TimePart::Directive(letter), 2)
            }
            ('%', other) => {
                let end = 1 + other.map_or(0, char::len_utf8);
                (TimePart::Unknown(&rest[..end]), end)
            }
            _ => {
                let end = rest.find('%').unwrap_or(rest.len());
                (TimePart::Text(&rest[..end]), end)
            }
        };
        rest = &rest[end..];
        Some(part)
    })
}

/// What is to be said of how a time is written: a sentence for each directive that is not known.
pub fn time_notes(format: &str) -> impl Iterator<Item = String> {
    time_parts(format).filter_map(|part| match part {
        TimePart::Unknown(directive) => Some(format!(
            "%START_TIME% does not know {directive:?} of strftime, so it stands there as it is written"
        )),
        _ => None,
    })
}

/// What `START_TIME(...)` takes of strftime, each after a `%`. Beside these `%f` and `%1f` to `%9f`, as
/// Envoy has them: digits of the fraction of the second.
pub const TIME_DIRECTIVES: &str = "%YymdejHIMSspaAbBTFDRzZ";

/// Digits of a fraction of a second, down to nanoseconds; also where `%f` says no number.
pub const FRACTION_DIGITS_MAX: usize = 9;

/// The operators of Envoy (its `substitution_formatter`) for which proxies have nothing, and why.
const UNFILLED: &[(&[&str], &str)] = &[
    (
        &["METADATA", "DYNAMIC_METADATA", "CLUSTER_METADATA", "UPSTREAM_METADATA"],
        "proxies keep no metadata",
    ),
    (
        &["FILTER_STATE", "UPSTREAM_FILTER_STATE", "CUSTOM_FLAGS"],
        "no filters of Envoy run here that could keep a state",
    ),
    (&["CEL", "TYPED_CEL", "COALESCE"], "proxies evaluate no expressions here"),
    (&["ENVIRONMENT"], "proxies read no variables"),
    (
        &["TRAILER", "RESPONSE_TRAILER"],
        "trailers are passed on and not kept; GRPC_STATUS has the status of a gRPC answer",
    ),
    (
        &["PATH", "QUERY_PARAM", "QUERY_PARAMS"],
        "write REQ(X-ENVOY-ORIGINAL-PATH?:PATH), or REQ_WITHOUT_QUERY likewise",
    ),
    (
        &["START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL"],
        "times are those at which a request began, in UTC: START_TIME",
    ),
    (
        &[
            "REQUEST_DURATION",
            "REQUEST_TX_DURATION",
            "ROUNDTRIP_DURATION",
            "COMMON_DURATION",
            "DOWNSTREAM_HANDSHAKE_DURATION",
            "UPSTREAM_CONNECTION_POOL_READY_DURATION",
        ],
        "proxies take the times of DURATION, RESPONSE_DURATION and RESPONSE_TX_DURATION alone",
    ),
    (
        &[
            "REQUEST_HEADERS_BYTES",
            "RESPONSE_HEADERS_BYTES",
            "RESPONSE_TRAILERS_BYTES",
            "BYTES_RETRANSMITTED",
            "PACKETS_RETRANSMITTED",
            "UPSTREAM_WIRE_BYTES_SENT",
            "UPSTREAM_WIRE_BYTES_RECEIVED",
            "UPSTREAM_HEADER_BYTES_SENT",
            "UPSTREAM_HEADER_BYTES_RECEIVED",
            "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
            "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
            "DOWNSTREAM_WIRE_BYTES_SENT",
            "DOWNSTREAM_WIRE_BYTES_RECEIVED",
            "DOWNSTREAM_HEADER_BYTES_SENT",
            "DOWNSTREAM_HEADER_BYTES_RECEIVED",
            "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
            "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
        ],
        "proxies count the bytes of BYTES_RECEIVED and BYTES_SENT alone",
    ),
    (
        &[
            "DOWNSTREAM_PEER_DNS_SAN",
            "DOWNSTREAM_PEER_IP_SAN",
            "DOWNSTREAM_PEER_EMAIL_SAN",
            "DOWNSTREAM_PEER_OTHERNAME_SAN",
            "DOWNSTREAM_PEER_SUBJECT",
            "DOWNSTREAM_PEER_ISSUER",
            "DOWNSTREAM_PEER_ISSUER_SERIAL",
            "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
            "DOWNSTREAM_PEER_SERIAL",
            "DOWNSTREAM_PEER_FINGERPRINT_1",
            "DOWNSTREAM_PEER_FINGERPRINT_256",
            "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
            "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
            "DOWNSTREAM_PEER_CHAIN_SERIALS",
            "DOWNSTREAM_PEER_CERT",
            "DOWNSTREAM_PEER_CERT_V_START",
            "DOWNSTREAM_PEER_CERT_V_END",
        ],
        "of a client's certificate proxies keep the identity: DOWNSTREAM_PEER_URI_SAN, and at a gateway \
         REQ(X-FORWARDED-CLIENT-CERT)",
    ),
    (
        &[
            "DOWNSTREAM_LOCAL_DNS_SAN",
            "DOWNSTREAM_LOCAL_IP_SAN",
            "DOWNSTREAM_LOCAL_EMAIL_SAN",
            "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
            "DOWNSTREAM_LOCAL_SUBJECT",
            "UPSTREAM_LOCAL_DNS_SAN",
            "UPSTREAM_LOCAL_IP_SAN",
            "UPSTREAM_PEER_DNS_SAN",
            "UPSTREAM_PEER_IP_SAN",
            "UPSTREAM_PEER_SUBJECT",
            "UPSTREAM_PEER_ISSUER",
            "UPSTREAM_PEER_CERT",
            "UPSTREAM_PEER_CERT_V_START",
            "UPSTREAM_PEER_CERT_V_END",
        ],
        "of certificates proxies keep the identity with a request: UPSTREAM_PEER_URI_SAN, \
         DOWNSTREAM_LOCAL_URI_SAN; `ironmesh proxy-config secret` shows the proxy's own",
    ),
    (
        &[
            "DOWNSTREAM_TLS_CIPHER",
            "DOWNSTREAM_TLS_GROUP",
            "DOWNSTREAM_TLS_SESSION_ID",
            "UPSTREAM_TLS_VERSION",
            "UPSTREAM_TLS_CIPHER",
            "UPSTREAM_TLS_GROUP",
            "UPSTREAM_TLS_SESSION_ID",
            "UPSTREAM_SERVER_NAME",
            "TLS_JA3_FINGERPRINT",
            "TLS_JA4_FINGERPRINT",
        ],
        "of TLS proxies keep DOWNSTREAM_TLS_VERSION; members of the mesh speak TLS 1.3",
    ),
    (
        &[
            "CONNECTION_ID",
            "UPSTREAM_CONNECTION_ID",
            "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
            "UNIQUE_ID",
            "SPAN_ID",
        ],
        "connections have no numbers; a request has its STREAM_ID and its TRACE_ID",
    ),
    (
        &[
            "UPSTREAM_HOST_NAME",
            "UPSTREAM_HOST_NAME_WITHOUT_PORT",
            "UPSTREAM_HOSTS_ATTEMPTED",
            "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
            "UPSTREAM_HOST_NAMES_ATTEMPTED",
            "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
            "UPSTREAM_PROTOCOL",
            "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
        ],
        "of the endpoint proxies keep the address that was tried last: UPSTREAM_HOST",
    ),
    (
        &[
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
            "DOWNSTREAM_DIRECT_LOCAL_PORT",
            "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
            "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
        ],
        "a connection is known by where the client wanted to go: DOWNSTREAM_LOCAL_ADDRESS",
    ),
    (
        &[
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
            "DOWNSTREAM_LOCAL_CLOSE_REASON",
            "DOWNSTREAM_DETECTED_CLOSE_TYPE",
            "UPSTREAM_LOCAL_CLOSE_REASON",
            "UPSTREAM_DETECTED_CLOSE_TYPE",
        ],
        "why something ended is in RESPONSE_FLAGS and RESPONSE_CODE_DETAILS",
    ),
    (
        &["FILTER_CHAIN_NAME", "VIRTUAL_CLUSTER_NAME"],
        "there are none here; a request has its ROUTE_NAME and UPSTREAM_CLUSTER",
    ),
    (
        &["LOCAL_REPLY_BODY"],
        "bodies are in no log; IRONMESH_REASON says why the mesh answered itself",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_end_where_they_can() {
        let read = |text| {
            let (operator, rest) = Operator::at_start(text)?;
            Some((operator.name, operator.argument, operator.length_max, rest))
        };
        assert_eq!(read("%A_1%b"), Some(("A_1", "", None, "b")));
        assert_eq!(read("%REQ(x?y):3%%"), Some(("REQ", "x?y", Some(3), "%")));
        assert_eq!(read("%T(%Y(%m)%d)%."), Some(("T", "%Y(%m", None, "d)%.")));
        assert_eq!(read("%T(%Y(%m) %d)%."), Some(("T", "%Y(%m) %d", None, ".")));
        for text in ["", "%", "%%", "%A", "A%", "%a%", "%A(%", "%A(x)", "%A(x)y%", "%A:%", "%A:1"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("%A:99999999999999999999999%"), None);
    }

    #[test]
    fn times_have_parts() {
        use TimePart::{Directive, Fraction, Text, Unknown};
        let parts: Vec<_> = time_parts("é%Y-%m.%3f%f %%%Q%é%").collect();
        let expected = [
            Text("é"),
            Directive('Y'),
            Text("-"),
            Directive('m'),
            Text("."),
            Fraction(3),
            Fraction(9),
            Text(" "),
            Directive('%'),
            Unknown("%Q"),
            Unknown("%é"),
            Unknown("%"),
        ];
        assert_eq!(parts, expected);
        assert_eq!(time_parts("%3").collect::<Vec<_>>(), [Unknown("%3")]);
    }

    #[test]
    fn names_are_unlike() {
        let mut all: Vec<&str> = names().collect();
        all.sort_unstable();
        let before = all.len();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
