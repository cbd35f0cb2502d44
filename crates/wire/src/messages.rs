//! What the two sides say to each other. One message is one frame (see [`crate::frame`]).
//!
//! Fields are numbered for evolution as in protobuf: one that is not known is skipped. Keys and
//! resources stand in the messages as bytes, and whoever does not understand all of one says so and
//! goes on (see [`crate::codec::decode`]).

use std::fmt;

use prost::bytes::Bytes;
use prost::{Message, Oneof};

/// Version of the protocol that this build speaks. A server refuses clients of another one.
pub const PROTOCOL_VERSION: u32 = 1;

/// From a proxy to the control plane.
#[derive(Clone, PartialEq, Message)]
pub struct ToServer {
    /// What it says.
    #[prost(oneof = "ClientSays", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub says: Option<ClientSays>,
}

/// What a proxy says.
#[derive(Clone, PartialEq, Oneof)]
pub enum ClientSays {
    /// First of all: who it is.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// What it wants from now on.
    #[prost(message, tag = "2")]
    Subscribe(Subscribe),
    /// What it no longer wants.
    #[prost(message, tag = "3")]
    Unsubscribe(Unsubscribe),
    /// An update was applied.
    #[prost(message, tag = "4")]
    Ack(Ack),
    /// It wants a certificate.
    #[prost(message, tag = "5")]
    Sign(Sign),
    /// Is someone there?
    #[prost(message, tag = "6")]
    Ping(Empty),
    /// Yes.
    #[prost(message, tag = "7")]
    Pong(Empty),
    /// What it was asked.
    #[prost(message, tag = "8")]
    Told(Told),
}

/// From the control plane to a proxy.
#[derive(Clone, PartialEq, Message)]
pub struct ToClient {
    /// What it says.
    #[prost(oneof = "ServerSays", tags = "1, 2, 3, 4, 6, 7, 8")]
    pub says: Option<ServerSays>,
}

/// What the control plane says.
#[derive(Clone, PartialEq, Oneof)]
pub enum ServerSays {
    /// The token was accepted.
    #[prost(message, tag = "1")]
    Welcome(Empty),
    /// Resources that changed.
    #[prost(message, tag = "2")]
    Update(Update),
    /// The answer to a request for a certificate.
    #[prost(message, tag = "3")]
    Signed(Signed),
    /// The connection ends, and why.
    #[prost(message, tag = "4")]
    Failed(Failed),
    /// Is someone there?
    #[prost(message, tag = "6")]
    Ping(Empty),
    /// Yes.
    #[prost(message, tag = "7")]
    Pong(Empty),
    /// A question about the proxy itself.
    #[prost(message, tag = "8")]
    Ask(Ask),
}

/// A message that says all by its kind.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// Who a proxy is.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub struct Hello {
    /// See [`PROTOCOL_VERSION`].
    #[prost(uint32, tag = "1")]
    pub protocol_version: u32,
    /// Proves which workload it serves. Secret.
    #[prost(string, tag = "2")]
    pub token: String,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("protocol_version", &self.protocol_version).finish()
    }
}

/// What a proxy wants from now on.
#[derive(Clone, PartialEq, Message)]
pub struct Subscribe {
    /// The keys, each with what is held under it.
    #[prost(message, repeated, tag = "1")]
    pub wanted: Vec<Wanted>,
    /// Whether this list goes on in the next message.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// One key that a proxy wants, or holds because another refers to it.
#[derive(Clone, PartialEq, Message)]
pub struct Wanted {
    /// The key, as [`crate::codec::key_bytes`] writes it.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Version that is held, if one is. Only said at the beginning of a connection.
    #[prost(fixed64, optional, tag = "2")]
    pub held: Option<u64>,
    /// Whether it is only held: it stays if something wanted refers to it, else the server says to
    /// forget it.
    #[prost(bool, tag = "3")]
    pub only_held: bool,
}

/// What a proxy no longer wants.
#[derive(Clone, PartialEq, Message)]
pub struct Unsubscribe {
    /// The keys, as [`crate::codec::key_bytes`] writes them.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub keys: Vec<Bytes>,
}

/// An update was applied, but for what is listed.
#[derive(Clone, PartialEq, Message)]
pub struct Ack {
    /// Of the update.
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
    /// What could not be used.
    #[prost(message, repeated, tag = "2")]
    pub errors: Vec<ResourceError>,
}

/// A resource, or a part of one, that a proxy cannot use.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceError {
    /// Its key, as it was received.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// What is wrong.
    #[prost(string, tag = "2")]
    pub why: String,
    /// Whether the resource as a whole was refused, so that the proxy still holds the one before.
    #[prost(bool, tag = "3")]
    pub refused: bool,
}

/// A request for a certificate.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Sign {
    /// Comes back with the answer.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// PKCS #10 in DER.
    #[prost(bytes = "vec", tag = "2")]
    pub csr: Vec<u8>,
}

/// The answer to [`Sign`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Signed {
    /// Of the request.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The certificate, unless it was refused.
    #[prost(message, optional, tag = "2")]
    pub certificate: Option<Certificate>,
    /// Why it was refused.
    #[prost(string, tag = "3")]
    pub refused: String,
}

/// A certificate that the control plane signed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Certificate {
    /// DER, leaf first.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain: Vec<Vec<u8>>,
    /// Trust anchors by which to verify others, in PEM.
    #[prost(string, tag = "2")]
    pub anchors_pem: String,
    /// When it expires, in seconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub not_after: u64,
}

/// Resources that changed, in one or several messages of one nonce. They are applied together.
#[derive(Clone, PartialEq, Message)]
pub struct Update {
    /// To acknowledge it by.
    #[prost(uint64, tag = "1")]
    pub nonce: u64,
    /// What changed.
    #[prost(message, repeated, tag = "2")]
    pub changes: Vec<Changed>,
    /// Whether it goes on in the next message.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// One resource that changed.
#[derive(Clone, PartialEq, Message)]
pub struct Changed {
    /// Its key, as [`crate::codec::key_bytes`] writes it, or as the proxy did.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Its version.
    #[prost(fixed64, tag = "2")]
    pub version: u64,
    /// What it is now.
    #[prost(oneof = "State", tags = "3, 4, 5, 6")]
    pub state: Option<State>,
}

/// What a resource is now.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum State {
    /// This, encoded by [`crate::codec::encode`].
    #[prost(bytes = "bytes", tag = "3")]
    Is(Bytes),
    /// There is none under this key; it stays subscribed.
    #[prost(message, tag = "4")]
    Nothing(Empty),
    /// No longer to be held.
    #[prost(message, tag = "5")]
    Forget(Empty),
    /// The control plane does not answer for this key, and why: it does not know what the key says, or
    /// the proxy may not ask for that.
    #[prost(string, tag = "6")]
    Refused(String),
}

/// A question about the proxy itself, which it answers by [`Told`]. One of a build that knows no
/// questions skips it.
#[derive(Clone, PartialEq, Message)]
pub struct Ask {
    /// Comes back with the answer.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is asked. A proxy that does not know it refuses to answer.
    #[prost(oneof = "About", tags = "2")]
    pub about: Option<About>,
}

/// What a proxy is asked about.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum About {
    /// Its groups, with all that it knows of their endpoints.
    #[prost(message, tag = "2")]
    Groups(GroupsOf),
}

/// Which groups are asked about.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GroupsOf {
    /// Those of the services with these hosts; of all if there is none.
    #[prost(string, repeated, tag = "1")]
    pub hosts: Vec<String>,
}

/// A part of the answer to [`Ask`].
#[derive(Clone, PartialEq, Message)]
pub struct Told {
    /// Of the question.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Groups, as [`crate::codec::report_bytes`] writes them. One with many endpoints stands in
    /// several pieces, one after the other.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub groups: Vec<Bytes>,
    /// Endpoints for which there was no room.
    #[prost(uint64, tag = "3")]
    pub left_out: u64,
    /// Whether the answer goes on in another message.
    #[prost(bool, tag = "4")]
    pub more: bool,
    /// Why there is no answer, if there is none.
    #[prost(string, tag = "5")]
    pub refused: String,
}

/// Why a connection ends.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Failed {
    /// In words.
    #[prost(string, tag = "1")]
    pub why: String,
}
