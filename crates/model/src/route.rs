//! Routes: one per user's route object, a list of rules tried in order.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::draw::Share;
use crate::name::{Labels, Name, ObjectId};
use crate::network::Network;
use crate::retry::Retry;
use crate::text_match::TextMatch;

mod cors;
mod fault;
mod redirect;

pub use cors::Cors;
pub use fault::{Abort, AbortStatus, Delay, Faults};
pub use redirect::{Redirect, RedirectPath, RedirectPort};

/// The rules of one route object (a `VirtualService`, an `HTTPRoute`, ...).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The object it was made from.
    pub id: ObjectId,
    /// Rules for requests, in the user's order.
    pub rules: Vec<Rule>,
    /// Rules for connections whose requests are not looked at, in the order in which they are tried.
    pub connection_rules: Vec<ConnectionRule>,
}

impl Route {
    /// The backends of all rules, those of copies included.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let of_requests = self.rules.iter().flat_map(|rule| {
            rule.action.backends().iter().chain(rule.mirrors.iter().map(|mirror| &mirror.to))
        });
        of_requests.chain(self.connection_rules.iter().flat_map(|rule| &rule.backends))
    }
}

/// A rule for connections (`tls` and `tcp` of a `VirtualService`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRule {
    /// Where it stands in its object: `tcp[0]`.
    pub place: Name,
    /// Alternatives, of which one must match. None at all matches every connection.
    pub matches: Vec<ConnectionMatch>,
    /// Where the connection goes, by weight. A single backend takes all whatever its weight.
    pub backends: Vec<Backend>,
}

/// Conditions on a connection, of which all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionMatch {
    /// Server names of its TLS (names or `*.suffix`, in lower case), of which one must be named;
    /// empty: not looked at.
    pub server_names: Vec<Name>,
    /// As in [`Match`].
    pub source_labels: Labels,
    /// As in [`Match`].
    pub source_namespace: Option<Name>,
    /// As in [`Match`].
    pub gateways: Vec<Name>,
    /// As in [`Match`].
    pub port: Option<u16>,
    /// Networks of which the original destination is in one; empty: not looked at. At a gateway they
    /// are not looked at either, since callers dial the gateway itself (as in Istio).
    pub destinations: Vec<Network>,
}

/// One rule: what it matches and what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where it stands, as the access log writes it; empty: at its number in its route. Of a rule that
    /// came by delegation `RULE:NAMESPACE/NAME#RULE`.
    pub place: OptionalName,
    /// Name that the user gave it; empty if none.
    pub name: OptionalName,
    /// Alternatives, of which one must match. None at all matches every request.
    pub matches: Vec<Match>,
    /// What happens to a request that matches.
    pub action: Action,
    /// Longest time from the request's last byte to the answer's end; `None`: no limit.
    pub timeout: Option<Duration>,
    /// When it is tried again; `None`: as [`after_attempt`](crate::retry::after_attempt) says.
    pub retry: Option<Retry>,
    /// Rewrite of path and authority before the request is sent on.
    pub rewrite: Option<Rewrite>,
    /// Header operations for every backend of this rule.
    pub headers: HeaderOps,
    /// Failures on purpose.
    pub faults: Option<Box<Faults>>,
    /// What pages of other origins may ask; `None`: the endpoint's own affair.
    pub cors: Option<Box<Cors>>,
    /// Where copies of the requests go.
    pub mirrors: Vec<Mirror>,
}

/// A name that may be empty.
pub type OptionalName = String;

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Send the request to one of these, by weight. A single backend takes all whatever its weight.
    Forward(Vec<Backend>),
    /// Answer it without sending it anywhere.
    Answer(DirectResponse),
    /// Send the client elsewhere.
    Redirect(Box<Redirect>),
}

impl Action {
    /// Where requests go; nowhere if they are answered.
    pub fn backends(&self) -> &[Backend] {
        match self {
            Self::Forward(backends) => backends,
            Self::Answer(_) | Self::Redirect(_) => &[],
        }
    }
}

/// An answer that a rule gives by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectResponse {
    /// Status: 200 to 599.
    pub status: u16,
    /// Body; may be empty.
    pub body: Arc<[u8]>,
}

impl Default for Action {
    fn default() -> Self {
        Self::Forward(Vec::new())
    }
}

/// Where a copy of a request goes. Nobody waits for it, and its answer is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Where its destination stands in the rule: `mirrors[0].destination`.
    pub place: Name,
    /// Where it goes. The weight says nothing.
    pub to: Backend,
    /// Of how many requests.
    pub share: Share,
}

/// One weighted backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Fully qualified host of the destination.
    pub host: Name,
    /// Port of the service; `None`: the only one, or else the one that the caller dialled.
    pub port: Option<u16>,
    /// Name of the port of the service, where `port` says nothing.
    pub port_name: Option<Name>,
    /// Subset: the name of one that a destination policy defines, or the labels of its endpoints
    /// themselves, as [`Labels`] are written (`version=v1`).
    pub subset: Option<Name>,
    /// Weight relative to the others.
    pub weight: u32,
    /// Header operations for this backend, after those of the rule.
    pub headers: HeaderOps,
}

impl Backend {
    /// All of a host, with weight 1.
    pub fn to(host: impl Into<Name>, port: Option<u16>) -> Self {
        let (host, headers) = (host.into(), HeaderOps::default());
        Self { host, port, port_name: None, subset: None, weight: 1, headers }
    }
}

/// Conditions of which all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Name that the user gave it; empty if none.
    pub name: OptionalName,
    /// Path without query.
    pub path: Option<TextMatch>,
    /// Whether letter case of the path is ignored (exact and prefix only, as Istio).
    pub ignore_path_case: bool,
    /// `http` or `https`.
    pub scheme: Option<TextMatch>,
    /// Method.
    pub method: Option<TextMatch>,
    /// Authority as the client sent it, port included.
    pub authority: Option<TextMatch>,
    /// Headers that must match, by lower-case name.
    pub headers: Vec<(Name, TextMatch)>,
    /// Headers that must not match.
    pub without_headers: Vec<(Name, TextMatch)>,
    /// Query parameters that must match.
    pub query: Vec<(Name, TextMatch)>,
    /// Labels of the calling workload.
    pub source_labels: Labels,
    /// Namespace of the calling workload.
    pub source_namespace: Option<Name>,
    /// What the route must be attached to (see [`crate::resource::Applies::attached_to`]); empty:
    /// anything that the object itself is attached to.
    pub gateways: Vec<Name>,
    /// Port of the original destination, or of the gateway's server.
    pub port: Option<u16>,
}

impl Match {
    /// Whether every request matches, as Istio's merge of gateway routes sees it: no condition but
    /// a path of prefix `/`. (Istio names regex `*`, too, which is no RE2 pattern, so dead.)
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            None => true,
            Some(TextMatch::Prefix(prefix)) => &**prefix == "/",
            Some(_) => false,
        };
        any_path
            && self.is_about_path()
            && self.source_labels.is_empty()
            && self.source_namespace.is_none()
    }

    /// Whether it asks for nothing of the request but perhaps its path.
    pub(crate) fn is_about_path(&self) -> bool {
        self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query.is_empty()
    }

    /// Whether it asks for nothing of the caller.
    pub(crate) fn is_for_everyone(&self) -> bool {
        self.source_labels.is_empty()
            && self.source_namespace.is_none()
            && self.gateways.is_empty()
            && self.port.is_none()
    }
}

/// Change of path and authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// Change of the path.
    pub path: Option<PathRewrite>,
    /// Replaces the authority.
    pub authority: Option<Name>,
}

/// Change of a path. The query stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    /// Replaces the matched prefix if the match was a prefix, or `/` if the path was not asked for;
    /// else the whole path.
    Matched(Name),
    /// Replaces everything that an RE2 pattern finds in the path.
    Regex {
        /// The pattern.
        pattern: Name,
        /// What replaces it: `\0` to `\9` stand for what its groups found.
        by: Name,
    },
}

/// Changes to headers of the request and of the response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderOps {
    /// On the way to the destination.
    pub request: HeaderOp,
    /// On the way back.
    pub response: HeaderOp,
}

impl HeaderOps {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// Changes to one header block, in the order remove, set, add. Names are lower case. `set` or
/// `add` of `host` or `:authority` in a request changes the authority, as in Istio.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderOp {
    /// Replaces all values.
    pub set: Vec<(Name, Name)>,
    /// Appends a value.
    pub add: Vec<(Name, Name)>,
    /// Drops all values.
    pub remove: Vec<Name>,
}

impl HeaderOp {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}
