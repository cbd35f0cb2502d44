//! What a decision is about: a connection, or a request on one. Never the body.

use std::fmt;
use std::net::SocketAddr;

use crate::name::{Identity, Labels, Name};
use crate::request::HeaderLookup;
use crate::resource::ListenerKind;

/// What is decided about.
#[derive(Clone, Copy, Debug)]
pub enum Traffic<'a> {
    /// A connection whose bytes are not looked into, or not yet.
    Connection(Connection<'a>),
    /// A request on a connection.
    Request(Connection<'a>, Request<'a>),
}

impl<'a> Traffic<'a> {
    /// The connection.
    pub fn connection(&self) -> &Connection<'a> {
        match self {
            Self::Connection(connection) | Self::Request(connection, _) => connection,
        }
    }
}

/// Something that a connection says of itself, as far as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen<T> {
    /// Nobody has looked yet.
    #[default]
    NotRead,
    /// It says nothing of the kind.
    Absent,
    /// This.
    Is(T),
}

impl<T> Seen<T> {
    /// What was read, if there was something.
    pub fn is(self) -> Option<T> {
        match self {
            Self::Is(read) => Some(read),
            Self::NotRead | Self::Absent => None,
        }
    }
}

/// The workload whose proxy decides: it calls at an outbound listener, is called at an inbound one,
/// and at a gateway it is the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Its namespace.
    pub namespace: Name,
    /// Its labels.
    pub labels: Labels,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Where it entered the proxy.
    pub listener: ListenerKind,
    /// The workload whose proxy decides.
    pub local: &'a Local,
    /// Its original destination; at a gateway only the port counts, and it is the port of the
    /// server.
    pub destination: SocketAddr,
    /// Who called, by mutual TLS of the mesh; absent in plaintext. Not read before it is known how
    /// the connection begins.
    pub peer: Seen<&'a Identity>,
    /// Server name of the application's own TLS (SNI); absent if it speaks no TLS or names nobody.
    pub server_name: Seen<&'a str>,
}

/// One request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Authority as sent, port included; empty if none was.
    pub authority: &'a str,
    /// Normalised path, without query (see [`crate::path::normalize_target`]).
    pub path: &'a str,
    /// Query without the question mark, if there was one.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a dyn HeaderLookup,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.authority, self.path)
    }
}
