//! Messages of what a rule does beside forwarding: faults, redirects, cross-origin answers, copies.

use std::time::Duration;

use ironmesh_model::Name;
use ironmesh_model::draw::Share;
use ironmesh_model::route::{
    Abort, AbortStatus, Cors, Delay, Faults, Mirror, Redirect, RedirectPath, RedirectPort,
};
use prost::{Message, Oneof};

use super::{BackendMessage, TextMatchMessage};
use crate::codec::common::{messages, nanoseconds, narrow, optional_text, required, text, values};
use crate::codec::{Coded, DecodeError};

#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::codec) struct FaultsMessage {
    #[prost(message, optional, tag = "1")]
    delay: Option<DelayMessage>,
    #[prost(message, optional, tag = "2")]
    abort: Option<AbortMessage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct DelayMessage {
    #[prost(uint64, tag = "1")]
    nanoseconds: u64,
    #[prost(uint32, tag = "2")]
    millionths: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct AbortMessage {
    #[prost(oneof = "AbortStatusMessage", tags = "1, 2")]
    with: Option<AbortStatusMessage>,
    #[prost(uint32, tag = "3")]
    millionths: u32,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum AbortStatusMessage {
    #[prost(uint32, tag = "1")]
    Http(u32),
    #[prost(uint32, tag = "2")]
    Grpc(u32),
}

impl Coded for Faults {
    type Message = FaultsMessage;

    fn message(&self) -> FaultsMessage {
        let delay = self.delay.map(|Delay { by, share }| DelayMessage {
            nanoseconds: nanoseconds(by),
            millionths: share.millionths(),
        });
        let abort = self.abort.map(|Abort { with, share }| {
            let with = match with {
                AbortStatus::Http(status) => AbortStatusMessage::Http(u32::from(status)),
                AbortStatus::Grpc(status) => AbortStatusMessage::Grpc(u32::from(status)),
            };
            AbortMessage { with: Some(with), millionths: share.millionths() }
        });
        FaultsMessage { delay, abort }
    }

    fn value(m: FaultsMessage) -> Result<Self, DecodeError> {
        let delay = m.delay.map(|m| Delay {
            by: Duration::from_nanos(m.nanoseconds),
            share: Share::of_millionths(m.millionths),
        });
        Ok(Self { delay, abort: m.abort.map(abort).transpose()? })
    }
}

fn abort(m: AbortMessage) -> Result<Abort, DecodeError> {
    let with = match m.with.ok_or(DecodeError::Missing("the status of an abort"))? {
        AbortStatusMessage::Http(status) => {
            AbortStatus::Http(narrow(status, "the status of an abort")?)
        }
        AbortStatusMessage::Grpc(status) => {
            let out_of_range = |_| DecodeError::OutOfRange("the gRPC status of an abort");
            AbortStatus::Grpc(u8::try_from(status).map_err(out_of_range)?)
        }
    };
    Ok(Abort { with, share: Share::of_millionths(m.millionths) })
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::codec) struct RedirectMessage {
    #[prost(uint32, tag = "1")]
    status: u32,
    #[prost(string, optional, tag = "2")]
    scheme: Option<String>,
    #[prost(string, optional, tag = "3")]
    authority: Option<String>,
    #[prost(oneof = "RedirectPortMessage", tags = "4, 5")]
    port: Option<RedirectPortMessage>,
    #[prost(oneof = "RedirectPathMessage", tags = "6, 7")]
    path: Option<RedirectPathMessage>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum RedirectPortMessage {
    #[prost(uint32, tag = "4")]
    Number(u32),
    #[prost(bool, tag = "5")]
    Dialled(bool),
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum RedirectPathMessage {
    #[prost(string, tag = "6")]
    Full(String),
    #[prost(string, tag = "7")]
    Prefix(String),
}

impl Coded for Redirect {
    type Message = RedirectMessage;

    fn message(&self) -> RedirectMessage {
        RedirectMessage {
            status: u32::from(self.status),
            scheme: optional_text(self.scheme.as_ref()),
            authority: optional_text(self.authority.as_ref()),
            port: self.port.map(|port| match port {
                RedirectPort::Number(port) => RedirectPortMessage::Number(u32::from(port)),
                RedirectPort::Dialled => RedirectPortMessage::Dialled(true),
            }),
            path: self.path.as_ref().map(|path| match path {
                RedirectPath::Full(path) => RedirectPathMessage::Full(text(path)),
                RedirectPath::Prefix(path) => RedirectPathMessage::Prefix(text(path)),
            }),
        }
    }

    fn value(m: RedirectMessage) -> Result<Self, DecodeError> {
        let port = m.port.map(|port| match port {
            RedirectPortMessage::Number(port) => {
                narrow(port, "the port of a redirect").map(RedirectPort::Number)
            }
            RedirectPortMessage::Dialled(_) => Ok(RedirectPort::Dialled),
        });
        Ok(Self {
            status: narrow(m.status, "the status of a redirect")?,
            scheme: m.scheme.map(Name::from),
            authority: m.authority.map(Name::from),
            port: port.transpose()?,
            path: m.path.map(|path| match path {
                RedirectPathMessage::Full(path) => RedirectPath::Full(path.into()),
                RedirectPathMessage::Prefix(path) => RedirectPath::Prefix(path.into()),
            }),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::codec) struct CorsMessage {
    #[prost(message, repeated, tag = "1")]
    allow_origins: Vec<TextMatchMessage>,
    #[prost(string, optional, tag = "2")]
    allow_methods: Option<String>,
    #[prost(string, optional, tag = "3")]
    allow_headers: Option<String>,
    #[prost(string, optional, tag = "4")]
    expose_headers: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    max_age: Option<u64>,
    #[prost(bool, tag = "6")]
    allow_credentials: bool,
    #[prost(bool, tag = "7")]
    answers_unmatched: bool,
}

impl Coded for Cors {
    type Message = CorsMessage;

    fn message(&self) -> CorsMessage {
        CorsMessage {
            allow_origins: messages(&self.allow_origins),
            allow_methods: optional_text(self.allow_methods.as_ref()),
            allow_headers: optional_text(self.allow_headers.as_ref()),
            expose_headers: optional_text(self.expose_headers.as_ref()),
            max_age: self.max_age,
            allow_credentials: self.allow_credentials,
            answers_unmatched: self.answers_unmatched,
        }
    }

    fn value(m: CorsMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            allow_origins: values(m.allow_origins)?,
            allow_methods: m.allow_methods.map(Name::from),
            allow_headers: m.allow_headers.map(Name::from),
            expose_headers: m.expose_headers.map(Name::from),
            max_age: m.max_age,
            allow_credentials: m.allow_credentials,
            answers_unmatched: m.answers_unmatched,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::codec) struct MirrorMessage {
    #[prost(message, optional, tag = "1")]
    to: Option<BackendMessage>,
    #[prost(uint32, tag = "2")]
    millionths: u32,
    #[prost(string, tag = "3")]
    place: String,
}

impl Coded for Mirror {
    type Message = MirrorMessage;

    fn message(&self) -> MirrorMessage {
        MirrorMessage {
            to: Some(self.to.message()),
            millionths: self.share.millionths(),
            place: text(&self.place),
        }
    }

    fn value(m: MirrorMessage) -> Result<Self, DecodeError> {
        let share = Share::of_millionths(m.millionths);
        let to = required(m.to, "the destination of a copy")?;
        Ok(Self { place: m.place.into(), to, share })
    }
}
