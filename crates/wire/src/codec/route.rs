//! Messages of routes.

use std::time::Duration;

use ironmesh_model::Name;
use ironmesh_model::route::{
    Action, Backend, DirectResponse, HeaderOp, HeaderOps, Match, PathRewrite, Rewrite, Route, Rule,
};
use ironmesh_model::text_match::TextMatch;
use prost::{Message, Oneof};

use super::common::{
    LabelsMessage, ObjectIdMessage, PairMessage, labels, labels_message, messages, names,
    nanoseconds, narrow, optional_text, required, text, values,
};
use super::{Coded, DecodeError};

mod beside;
mod connections;

use beside::{CorsMessage, FaultsMessage, MirrorMessage, RedirectMessage};
use connections::ConnectionRuleMessage;
mod retry;

use retry::RetryMessage;

#[derive(Clone, PartialEq, Message)]
pub(super) struct RouteMessage {
    #[prost(message, optional, tag = "1")]
    id: Option<ObjectIdMessage>,
    #[prost(message, repeated, tag = "2")]
    rules: Vec<RuleMessage>,
    #[prost(message, repeated, tag = "3")]
    connection_rules: Vec<ConnectionRuleMessage>,
}

impl Coded for Route {
    type Message = RouteMessage;

    fn message(&self) -> RouteMessage {
        RouteMessage {
            id: Some(self.id.message()),
            rules: messages(&self.rules),
            connection_rules: messages(&self.connection_rules),
        }
    }

    fn value(m: RouteMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            id: required(m.id, "the id of a route")?,
            rules: values(m.rules)?,
            connection_rules: values(m.connection_rules)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RuleMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    matches: Vec<MatchMessage>,
    #[prost(oneof = "ActionMessage", tags = "3, 7, 9")]
    action: Option<ActionMessage>,
    #[prost(uint64, optional, tag = "4")]
    timeout_nanoseconds: Option<u64>,
    #[prost(message, optional, tag = "5")]
    rewrite: Option<RewriteMessage>,
    #[prost(message, optional, tag = "6")]
    headers: Option<HeaderOpsMessage>,
    #[prost(message, optional, tag = "8")]
    retry: Option<RetryMessage>,
    #[prost(message, optional, tag = "10")]
    faults: Option<FaultsMessage>,
    #[prost(message, optional, tag = "11")]
    cors: Option<CorsMessage>,
    #[prost(message, repeated, tag = "12")]
    mirrors: Vec<MirrorMessage>,
    #[prost(string, tag = "13")]
    place: String,
}

#[derive(Clone, PartialEq, Oneof)]
enum ActionMessage {
    #[prost(message, tag = "3")]
    Forward(ForwardMessage),
    #[prost(message, tag = "7")]
    Answer(DirectResponseMessage),
    #[prost(message, tag = "9")]
    Redirect(RedirectMessage),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct DirectResponseMessage {
    #[prost(uint32, tag = "1")]
    status: u32,
    #[prost(bytes = "vec", tag = "2")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ForwardMessage {
    #[prost(message, repeated, tag = "1")]
    backends: Vec<BackendMessage>,
}

impl Coded for Rule {
    type Message = RuleMessage;

    fn message(&self) -> RuleMessage {
        let action = match &self.action {
            Action::Forward(backends) => {
                ActionMessage::Forward(ForwardMessage { backends: messages(backends) })
            }
            Action::Answer(answer) => ActionMessage::Answer(DirectResponseMessage {
                status: u32::from(answer.status),
                body: answer.body.to_vec(),
            }),
            Action::Redirect(redirect) => ActionMessage::Redirect(redirect.message()),
        };
        RuleMessage {
            place: self.place.clone(),
            name: self.name.clone(),
            matches: messages(&self.matches),
            action: Some(action),
            timeout_nanoseconds: self.timeout.map(nanoseconds),
            retry: self.retry.as_ref().map(Coded::message),
            rewrite: self.rewrite.as_ref().map(Coded::message),
            headers: header_ops_message(&self.headers),
            faults: self.faults.as_deref().map(Coded::message),
            cors: self.cors.as_deref().map(Coded::message),
            mirrors: messages(&self.mirrors),
        }
    }

    fn value(m: RuleMessage) -> Result<Self, DecodeError> {
        // An action that this build does not know is not there: such a rule cannot be used.
        let action = match m.action.ok_or(DecodeError::Missing("the action of a rule"))? {
            ActionMessage::Forward(forward) => Action::Forward(values(forward.backends)?),
            ActionMessage::Answer(answer) => Action::Answer(DirectResponse {
                status: narrow(answer.status, "the status of an answer")?,
                body: answer.body.into(),
            }),
            ActionMessage::Redirect(redirect) => {
                Action::Redirect(Box::new(Coded::value(redirect)?))
            }
        };
        let boxed_faults = |m| Coded::value(m).map(Box::new);
        let boxed_cors = |m| Coded::value(m).map(Box::new);
        Ok(Self {
            place: m.place,
            name: m.name,
            matches: values(m.matches)?,
            action,
            timeout: m.timeout_nanoseconds.map(Duration::from_nanos),
            retry: m.retry.map(Coded::value).transpose()?,
            rewrite: m.rewrite.map(Coded::value).transpose()?,
            headers: header_ops(m.headers),
            faults: m.faults.map(boxed_faults).transpose()?,
            cors: m.cors.map(boxed_cors).transpose()?,
            mirrors: values(m.mirrors)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BackendMessage {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(uint32, optional, tag = "2")]
    port: Option<u32>,
    #[prost(string, optional, tag = "3")]
    subset: Option<String>,
    #[prost(uint32, tag = "4")]
    weight: u32,
    #[prost(message, optional, tag = "5")]
    headers: Option<HeaderOpsMessage>,
    #[prost(string, optional, tag = "6")]
    port_name: Option<String>,
}

impl Coded for Backend {
    type Message = BackendMessage;

    fn message(&self) -> BackendMessage {
        BackendMessage {
            host: text(&self.host),
            port: self.port.map(u32::from),
            subset: optional_text(self.subset.as_ref()),
            weight: self.weight,
            headers: header_ops_message(&self.headers),
            port_name: optional_text(self.port_name.as_ref()),
        }
    }

    fn value(m: BackendMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            host: m.host.into(),
            port: m.port.map(|port| narrow(port, "the port of a backend")).transpose()?,
            port_name: m.port_name.map(Name::from),
            subset: m.subset.map(Name::from),
            weight: m.weight,
            headers: header_ops(m.headers),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MatchMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    path: Option<TextMatchMessage>,
    #[prost(bool, tag = "3")]
    ignore_path_case: bool,
    #[prost(message, optional, tag = "4")]
    scheme: Option<TextMatchMessage>,
    #[prost(message, optional, tag = "5")]
    method: Option<TextMatchMessage>,
    #[prost(message, optional, tag = "6")]
    authority: Option<TextMatchMessage>,
    #[prost(message, repeated, tag = "7")]
    headers: Vec<NamedMatchMessage>,
    #[prost(message, repeated, tag = "8")]
    without_headers: Vec<NamedMatchMessage>,
    #[prost(message, repeated, tag = "9")]
    query: Vec<NamedMatchMessage>,
    #[prost(message, optional, tag = "10")]
    source_labels: Option<LabelsMessage>,
    #[prost(string, optional, tag = "11")]
    source_namespace: Option<String>,
    #[prost(string, repeated, tag = "12")]
    gateways: Vec<String>,
    #[prost(uint32, optional, tag = "13")]
    port: Option<u32>,
}

impl Coded for Match {
    type Message = MatchMessage;

    fn message(&self) -> MatchMessage {
        let one = |m: &Option<TextMatch>| m.as_ref().map(Coded::message);
        MatchMessage {
            name: self.name.clone(),
            path: one(&self.path),
            ignore_path_case: self.ignore_path_case,
            scheme: one(&self.scheme),
            method: one(&self.method),
            authority: one(&self.authority),
            headers: messages(&self.headers),
            without_headers: messages(&self.without_headers),
            query: messages(&self.query),
            source_labels: labels_message(&self.source_labels),
            source_namespace: optional_text(self.source_namespace.as_ref()),
            gateways: self.gateways.iter().map(text).collect(),
            port: self.port.map(u32::from),
        }
    }

    fn value(m: MatchMessage) -> Result<Self, DecodeError> {
        let one = |m: Option<TextMatchMessage>| m.map(TextMatch::value).transpose();
        Ok(Self {
            name: m.name,
            path: one(m.path)?,
            ignore_path_case: m.ignore_path_case,
            scheme: one(m.scheme)?,
            method: one(m.method)?,
            authority: one(m.authority)?,
            headers: values(m.headers)?,
            without_headers: values(m.without_headers)?,
            query: values(m.query)?,
            source_labels: labels(m.source_labels),
            source_namespace: m.source_namespace.map(Name::from),
            gateways: names(m.gateways),
            port: m.port.map(|port| narrow(port, "the port of a match")).transpose()?,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TextMatchMessage {
    #[prost(oneof = "TextMatchKind", tags = "1, 2, 3, 4")]
    kind: Option<TextMatchKind>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum TextMatchKind {
    #[prost(string, tag = "1")]
    Exact(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    Regex(String),
    #[prost(bool, tag = "4")]
    Present(bool),
}

impl Coded for TextMatch {
    type Message = TextMatchMessage;

    fn message(&self) -> TextMatchMessage {
        let kind = match self {
            Self::Exact(name) => TextMatchKind::Exact(text(name)),
            Self::Prefix(name) => TextMatchKind::Prefix(text(name)),
            Self::Regex(name) => TextMatchKind::Regex(text(name)),
            Self::Present => TextMatchKind::Present(true),
        };
        TextMatchMessage { kind: Some(kind) }
    }

    fn value(m: TextMatchMessage) -> Result<Self, DecodeError> {
        Ok(match m.kind.ok_or(DecodeError::Missing("the kind of a match"))? {
            TextMatchKind::Exact(text) => Self::Exact(text.into()),
            TextMatchKind::Prefix(text) => Self::Prefix(text.into()),
            TextMatchKind::Regex(text) => Self::Regex(text.into()),
            TextMatchKind::Present(_) => Self::Present,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct NamedMatchMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    matches: Option<TextMatchMessage>,
}

impl Coded for (Name, TextMatch) {
    type Message = NamedMatchMessage;

    fn message(&self) -> NamedMatchMessage {
        NamedMatchMessage { name: text(&self.0), matches: Some(self.1.message()) }
    }

    fn value(m: NamedMatchMessage) -> Result<Self, DecodeError> {
        Ok((m.name.into(), required(m.matches, "the match of a header or parameter")?))
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct RewriteMessage {
    #[prost(oneof = "PathRewriteMessage", tags = "1, 3")]
    path: Option<PathRewriteMessage>,
    #[prost(string, optional, tag = "2")]
    authority: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum PathRewriteMessage {
    #[prost(string, tag = "1")]
    Matched(String),
    #[prost(message, tag = "3")]
    Regex(RegexRewriteMessage),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct RegexRewriteMessage {
    #[prost(string, tag = "1")]
    pattern: String,
    #[prost(string, tag = "2")]
    by: String,
}

impl Coded for Rewrite {
    type Message = RewriteMessage;

    fn message(&self) -> RewriteMessage {
        let path = self.path.as_ref().map(|path| match path {
            PathRewrite::Matched(by) => PathRewriteMessage::Matched(text(by)),
            PathRewrite::Regex { pattern, by } => {
                let (pattern, by) = (text(pattern), text(by));
                PathRewriteMessage::Regex(RegexRewriteMessage { pattern, by })
            }
        });
        RewriteMessage { path, authority: optional_text(self.authority.as_ref()) }
    }

    fn value(m: RewriteMessage) -> Result<Self, DecodeError> {
        let path = m.path.map(|path| match path {
            PathRewriteMessage::Matched(by) => PathRewrite::Matched(by.into()),
            PathRewriteMessage::Regex(RegexRewriteMessage { pattern, by }) => {
                PathRewrite::Regex { pattern: pattern.into(), by: by.into() }
            }
        });
        Ok(Self { path, authority: m.authority.map(Name::from) })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct HeaderOpsMessage {
    #[prost(message, optional, tag = "1")]
    request: Option<HeaderOpMessage>,
    #[prost(message, optional, tag = "2")]
    response: Option<HeaderOpMessage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct HeaderOpMessage {
    #[prost(message, repeated, tag = "1")]
    set: Vec<PairMessage>,
    #[prost(message, repeated, tag = "2")]
    add: Vec<PairMessage>,
    #[prost(string, repeated, tag = "3")]
    remove: Vec<String>,
}

/// Most rules change no header, so that none is no bytes.
fn header_ops_message(ops: &HeaderOps) -> Option<HeaderOpsMessage> {
    let one = |op: &HeaderOp| {
        (!op.is_empty()).then(|| HeaderOpMessage {
            set: messages(&op.set),
            add: messages(&op.add),
            remove: op.remove.iter().map(text).collect(),
        })
    };
    (!ops.is_empty())
        .then(|| HeaderOpsMessage { request: one(&ops.request), response: one(&ops.response) })
}

fn header_ops(message: Option<HeaderOpsMessage>) -> HeaderOps {
    let pairs = |pairs: Vec<PairMessage>| -> Vec<(Name, Name)> {
        pairs.into_iter().map(|pair| (pair.name.into(), pair.value.into())).collect()
    };
    let one = |op: Option<HeaderOpMessage>| {
        let op = op.unwrap_or_default();
        HeaderOp { set: pairs(op.set), add: pairs(op.add), remove: names(op.remove) }
    };
    let message = message.unwrap_or_default();
    HeaderOps { request: one(message.request), response: one(message.response) }
}
