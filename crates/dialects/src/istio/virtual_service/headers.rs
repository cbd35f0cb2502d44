//! Header operations of rules and destinations.

use std::collections::BTreeMap;

use ironmesh_model::header_value::{self, Part};
use ironmesh_model::operator::{self, Command, Operator};
use ironmesh_model::route::{HeaderOp, HeaderOps};
use ironmesh_model::{FindingCode, Name};

use super::{HeaderOperations, Headers, HttpRoute, HttpRouteDestination, Translator};
use crate::path::{field, item};

/// The message whose headers change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

type Pairs = BTreeMap<String, String>;

/// Header operations as Istio 1.0 wrote them, each with the name of its field.
pub(super) struct OldHeaders<'a> {
    add: Vec<(&'static str, &'a Pairs, Side)>,
    remove: [(&'static str, &'a [String], Side); 2],
}

impl<'a> From<&'a HttpRoute> for OldHeaders<'a> {
    fn from(rule: &'a HttpRoute) -> Self {
        Self {
            add: vec![
                ("appendHeaders", &rule.append_headers, Side::Request),
                ("appendRequestHeaders", &rule.append_request_headers, Side::Request),
                ("appendResponseHeaders", &rule.append_response_headers, Side::Response),
            ],
            remove: [
                ("removeRequestHeaders", &rule.remove_request_headers, Side::Request),
                ("removeResponseHeaders", &rule.remove_response_headers, Side::Response),
            ],
        }
    }
}

impl<'a> From<&'a HttpRouteDestination> for OldHeaders<'a> {
    fn from(given: &'a HttpRouteDestination) -> Self {
        Self {
            add: vec![
                ("appendRequestHeaders", &given.append_request_headers, Side::Request),
                ("appendResponseHeaders", &given.append_response_headers, Side::Response),
            ],
            remove: [
                ("removeRequestHeaders", &given.remove_request_headers, Side::Request),
                ("removeResponseHeaders", &given.remove_response_headers, Side::Response),
            ],
        }
    }
}

impl Translator<'_> {
    /// The operations of the rule or destination at `path`, in today's form and in that of Istio 1.0.
    pub(super) fn headers(
        &mut self,
        given: &Headers,
        old: &OldHeaders<'_>,
        path: &str,
    ) -> HeaderOps {
        let at = field(path, "headers");
        let mut ops = HeaderOps {
            request: self.operations(&given.request, Side::Request, &field(&at, "request")),
            response: self.operations(&given.response, Side::Response, &field(&at, "response")),
        };
        for (name, pairs, side) in &old.add {
            of(*side, &mut ops).add.extend(self.pairs(pairs, *side, &field(path, name)));
        }
        for (name, names, side) in &old.remove {
            of(*side, &mut ops).remove.extend(self.names(names, &field(path, name)));
        }
        ops
    }

    fn operations(&mut self, given: &HeaderOperations, side: Side, path: &str) -> HeaderOp {
        HeaderOp {
            set: self.pairs(&given.set, side, &field(path, "set")),
            add: self.pairs(&given.add, side, &field(path, "add")),
            remove: self.names(&given.remove, &field(path, "remove")),
        }
    }

    /// What is set or added, with names in lower case. What cannot be is reported and left out.
    fn pairs(&mut self, given: &Pairs, side: Side, path: &str) -> Vec<(Name, Name)> {
        let mut pairs = Vec::new();
        for (name, value) in given {
            let at = field(path, name);
            let lower = name.to_ascii_lowercase();
            let authority = side == Side::Request && is_authority(&lower);
            if !authority && !self.may_change(&lower, &at) {
                continue;
            }
            if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                let message = "a header's value is one line without control characters";
                self.report(at, FindingCode::Invalid, message);
                continue;
            }
            if let Some(message) = flaw_of_operators(value) {
                self.report(at, FindingCode::NoEffect, message);
            }
            pairs.push((lower.into(), value.as_str().into()));
        }
        pairs
    }

    /// Reports headers that a rule and its destination both set. The rule comes last, but not behind an only
    /// destination; its word on the authority counts in any case.
    pub(super) fn set_twice(&mut self, given: &HttpRoute, path: &str) {
        type Side = fn(&Headers) -> &HeaderOperations;
        let is_only = given.route.len() == 1;
        let sides: [(&str, Side); 2] =
            [("request", |headers| &headers.request), ("response", |headers| &headers.response)];
        for (at, destination) in given.route.iter().enumerate() {
            let at = item(&field(path, "route"), at);
            for (side, of) in sides {
                for name in of(&destination.headers).set.keys() {
                    let of_rule = &of(&given.headers).set;
                    let Some(twin) = of_rule.keys().find(|n| n.eq_ignore_ascii_case(name)) else {
                        continue;
                    };
                    let is_last = is_only && !is_authority(&name.to_ascii_lowercase());
                    let (lost, at, by) = match is_last {
                        true => (twin, path, "its only destination"),
                        false => (name, &*at, "the rule"),
                    };
                    let message =
                        format!("{by} sets {lost}, too, and comes last: set it in one place");
                    let at = field(&field(&field(at, "headers"), side), "set");
                    self.report(field(&at, lost), FindingCode::NoEffect, message);
                }
            }
        }
    }

    /// Whether this names a header or a method, or is `*` for any; reports it if not.
    pub(super) fn is_name_or_any(&mut self, given: &str, path: &str) -> bool {
        let is_name = !given.is_empty() && given.bytes().all(is_token);
        if !is_name {
            let message = format!("{given:?} is no name of a header or a method");
            self.report(path, FindingCode::Invalid, message);
        }
        is_name
    }

    fn names(&mut self, given: &[String], path: &str) -> Vec<Name> {
        let lower = given.iter().map(|name| name.to_ascii_lowercase()).enumerate();
        let kept = lower.filter(|(at, name)| self.may_change(name, &item(path, *at)));
        kept.map(|(_, name)| name.into()).collect()
    }

    /// Whether a header of this name may be changed; reports it if not.
    fn may_change(&mut self, name: &str, path: &str) -> bool {
        let why = match name {
            "content-length" | "transfer-encoding" | "connection" | "upgrade" => {
                "it frames the message, which is the proxy's own affair"
            }
            _ if is_authority(name) => "only that of a request can be changed, and never removed",
            _ if name.starts_with(':') => "it is no header",
            _ if name.is_empty() || !name.bytes().all(is_token) => {
                let message = format!("{name:?} is no name of a header");
                self.report(path, FindingCode::Invalid, message);
                return false;
            }
            _ => return true,
        };
        self.report(path, FindingCode::NoEffect, format!("{name} stays as it is: {why}"));
        false
    }
}

fn of(side: Side, ops: &mut HeaderOps) -> &mut HeaderOp {
    match side {
        Side::Request => &mut ops.request,
        Side::Response => &mut ops.response,
    }
}

fn is_authority(name: &str) -> bool {
    matches!(name, "host" | ":authority")
}

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What is wrong with the first of Envoy's command operators in a value (`%REQ(x)%`, `%HOSTNAME%`) that
/// stands for nothing, or not for all that it says.
fn flaw_of_operators(value: &str) -> Option<String> {
    header_value::parts(value).find_map(|part| match part {
        Part::Text(_) => None,
        Part::Operator(Operator { name, argument, .. }) => match Command::in_headers(name) {
            None => {
                Some(format!("the proxy does not know Envoy's %{name}%, so nothing stands there"))
            }
            Some(Command::StartTime) => operator::time_notes(argument).next(),
            Some(_) => None,
        },
    })
}
