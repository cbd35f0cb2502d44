//! What the mesh changes in heads: at entry, by the winning rule, and on the way back.

use std::fmt::Write as _;

use ironmesh_model::route::{Action, HeaderOp};
use ironmesh_model::text_match::Matcher;
use ironmesh_model::{Decision, ListenerKind};

use crate::connection::Connection;
use crate::http::local::{NOT_DELIVERED, REASON};
use crate::message::{Fields, RequestHead, ResponseHead};
use crate::random::Random;

/// Removes what the client may not say, and adds what every request of the mesh carries.
pub(crate) fn at_entry(head: &mut RequestHead, connection: &Connection, random: &Random) {
    let trusted = connection.is_trusted();
    head.fields.retain(|name, _| {
        name.first() != Some(&b'x')
            || !(name.starts_with(b"x-ironmesh-")
                || (!trusted && name.starts_with(b"x-envoy-"))
                || name == b"x-forwarded-client-cert")
    });
    match (connection.kind, &connection.peer_identity) {
        (ListenerKind::Gateway, None) => {
            head.fields.append("x-forwarded-for", connection.peer.ip().to_string().as_bytes());
            head.fields.set("x-forwarded-proto", b"http");
            head.fields.remove("x-request-id");
        }
        (ListenerKind::Inbound, Some(peer)) => {
            let by = connection.workload.credentials.load();
            let by = by.as_ref().map(|own| own.identity().to_string()).unwrap_or_default();
            let value = format!("By={by};URI={peer}");
            head.fields.push(b"x-forwarded-client-cert", value.as_bytes());
        }
        _ if !head.fields.contains("x-forwarded-proto") => {
            head.fields.push(b"x-forwarded-proto", b"http");
        }
        _ => {}
    }
    if !head.fields.contains("x-request-id") {
        head.fields.push(b"x-request-id", request_id(random).as_bytes());
    }
    let traced = ["traceparent", "b3", "x-b3-traceid"];
    if !traced.iter().any(|name| head.fields.contains(name)) {
        begin_trace(&mut head.fields, random);
    }
}

/// A random UUID (RFC 9562, version 4).
fn request_id(random: &Random) -> String {
    let (high, low) = (random.next(), random.next());
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0xc << 60)) | (0x8 << 60);
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}

/// Trace context in both forms (W3C Trace Context; B3). No id is all zeros.
fn begin_trace(fields: &mut Fields, random: &Random) {
    let (high, low, span) = (random.next() | 1, random.next() | 1, random.next() | 1);
    let sampled = random.next().is_multiple_of(TRACES_PER_SAMPLE);
    let flag = u8::from(sampled);
    let mut text = String::with_capacity(64);
    // Writing to a String never fails.
    let _ = write!(text, "00-{high:016x}{low:016x}-{span:016x}-{flag:02x}");
    fields.push(b"traceparent", text.as_bytes());
    fields.push(b"x-b3-traceid", &text.as_bytes()[3..35]);
    fields.push(b"x-b3-spanid", &text.as_bytes()[36..52]);
    fields.push(b"x-b3-sampled", if sampled { b"1" } else { b"0" });
}

/// One trace in so many is sampled, as Istio's default of 1 %.
const TRACES_PER_SAMPLE: u64 = 100;

/// What a rewrite makes of a request; `None`: it stays.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) target: Option<String>,
    pub(crate) authority: Option<String>,
}

/// Rewrites by the winning rule.
pub(crate) fn rewritten(head: &RequestHead, decision: &Decision) -> Rewritten {
    let rewrite = decision.winning_rule().and_then(|rule| rule.rule.rewrite.as_ref());
    let Some(rewrite) = rewrite else { return Rewritten::default() };
    let prefix = match decision.winning_match().and_then(|m| m.path.as_ref()) {
        Some(Matcher::Prefix(prefix)) => Some(&**prefix),
        _ => None,
    };
    Rewritten {
        target: rewrite.path.as_deref().map(|by| replace_path(head.target(), prefix, by)),
        authority: rewrite.authority.as_deref().map(str::to_owned),
    }
}

/// Replaces the matched prefix, or the whole path if it was not matched by prefix. Between the
/// two parts stands one slash where both bring one, as in Istio: `/ratings` to `/` makes `/1` of
/// `/ratings/1`.
fn replace_path(target: &str, prefix: Option<&str>, by: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let rest = prefix.and_then(|prefix| path.get(prefix.len()..)).unwrap_or_default();
    let rest = if by.ends_with('/') { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let slash = if by.starts_with('/') { "" } else { "/" };
    format!("{slash}{by}{rest}{query}")
}

/// Header operations of the winning rule, then of the chosen backend.
pub(crate) fn request_fields(head: &mut RequestHead, decision: &Decision) {
    for ops in operations(decision) {
        for (name, value) in &ops.request.set {
            if matches!(&**name, "host" | ":authority") {
                head.set_authority(value);
            }
        }
        apply(&ops.request, &mut head.fields);
    }
}

/// Changes the head of an answer. `false`: it is a proxy's word that the request was not delivered,
/// which the client must not see.
pub(crate) fn response(
    head: &mut ResponseHead,
    kind: ListenerKind,
    decision: &Decision,
    from_member: bool,
) -> bool {
    let from_mesh = from_member && kind != ListenerKind::Inbound;
    if from_mesh && head.status == 503 && head.fields.contains(NOT_DELIVERED) {
        return false;
    }
    // What anyone but a member's proxy says about the mesh is not to be believed.
    head.fields.retain(|name, _| {
        !name.starts_with(b"x-ironmesh-") || (from_mesh && name == REASON.as_bytes())
    });
    for ops in operations(decision) {
        apply(&ops.response, &mut head.fields);
    }
    true
}

fn operations(decision: &Decision) -> impl Iterator<Item = &ironmesh_model::route::HeaderOps> {
    let rule = decision.winning_rule().map(|compiled| &compiled.rule);
    let backend = rule.zip(decision.backend_index()).and_then(|(rule, index)| {
        let Action::Forward(backends) = &rule.action;
        backends.get(index as usize)
    });
    rule.map(|rule| &rule.headers)
        .into_iter()
        .chain(backend.map(|backend| &backend.headers))
        .filter(|ops| !ops.is_empty())
}

fn apply(op: &HeaderOp, fields: &mut Fields) {
    for name in &op.remove {
        fields.remove(name);
    }
    for (name, value) in op.set.iter().filter(|(name, _)| is_field(name)) {
        fields.set(name, value.as_bytes());
    }
    for (name, value) in op.add.iter().filter(|(name, _)| is_field(name)) {
        fields.push(name.as_bytes(), value.as_bytes());
    }
}

/// Whether a rule may write this field: not what addresses or frames the message.
fn is_field(name: &str) -> bool {
    !name.starts_with(':')
        && !matches!(name, "host" | "content-length" | "transfer-encoding" | "connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_replaced_with_one_slash() {
        for (target, prefix, by, expected) in [
            ("/product", None, "/productpage", "/productpage"),
            ("/product?u=1", None, "/productpage", "/productpage?u=1"),
            ("/ratings/1", Some("/ratings"), "/", "/1"),
            ("/ratings/1", Some("/ratings/"), "/", "/1"),
            ("/ratings", Some("/ratings"), "/", "/"),
            ("/v1/a?x=/", Some("/v1"), "/v2", "/v2/a?x=/"),
            ("/v1a", Some("/v1"), "/v2", "/v2a"),
            ("/a", Some("/"), "/b/", "/b/a"),
        ] {
            assert_eq!(replace_path(target, prefix, by), expected, "{target} {prefix:?} {by}");
        }
    }

    #[test]
    fn request_ids_are_uuids() {
        let id = request_id(&Random::new());
        let form: String =
            id.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
        assert_eq!(form, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
