//! What the mesh changes in heads: at entry, by the winning rule, and on the way back.

use ironmesh_model::entry::{self, EntryHeaders, Sender};
use ironmesh_model::route::HeaderOp;
use ironmesh_model::{Decision, ListenerKind, Reason};
use ironmesh_telemetry::trace_context::{TraceContext, b3_sampled, request_id};

use crate::connection::Connection;
use crate::http::local::{NOT_DELIVERED, REASON};
use crate::message::{Fields, RequestHead, ResponseHead};
use crate::random::Random;

/// Removes what the client may not say, and adds what every request of the mesh carries.
pub(crate) fn at_entry(head: &mut RequestHead, connection: &Connection, random: &Random) {
    let is_member = connection.peer_identity.is_some();
    let sender = Sender { listener: connection.kind, is_member, text: &connection.client };
    let id = || request_id(random.wide()).to_string();
    entry::at_entry(&mut head.fields, &sender, id, |fields| begin_trace(fields, random));
}

impl EntryHeaders for Fields {
    fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        Self::retain(self, |name, _| keep(name));
    }

    fn contains(&self, name: &str) -> bool {
        Self::contains(self, name)
    }

    fn push(&mut self, name: &str, value: &str) {
        Self::push(self, name.as_bytes(), value.as_bytes());
    }

    fn append(&mut self, name: &str, value: &str) {
        Self::append(self, name, value.as_bytes());
    }
}

/// Begins a trace, in both forms (W3C Trace Context; B3). Whether it is sampled is the client's word,
/// if it has one.
fn begin_trace(fields: &mut Fields, random: &Random) {
    let sampled =
        b3_sampled(fields).unwrap_or_else(|| random.next().is_multiple_of(TRACES_PER_SAMPLE));
    let context = TraceContext::new(random.wide(), random.next(), sampled);
    let traceparent = context.traceparent();
    fields.push(b"traceparent", traceparent.as_bytes());
    // Both forms write the ids alike, so those of the first serve the second.
    fields.push(b"x-b3-traceid", &traceparent.as_bytes()[3..35]);
    fields.push(b"x-b3-spanid", &traceparent.as_bytes()[36..52]);
    fields.set("x-b3-sampled", if sampled { b"1" } else { b"0" });
}

/// One trace in so many is sampled, as Istio's default of 1 %.
const TRACES_PER_SAMPLE: u64 = 100;

/// Header operations of the winning rule, then of the chosen backend.
pub(crate) fn request_fields(head: &mut RequestHead, decision: &Decision) {
    for ops in decision.header_ops() {
        apply(&ops.request, &mut head.fields);
    }
}

/// Changes the head of an answer. `false`: it is a proxy's word that the request was not delivered,
/// which the client must not see.
pub(crate) fn response(
    head: &mut ResponseHead,
    kind: ListenerKind,
    decision: &Decision,
    origin: Option<&str>,
    from_member: bool,
) -> bool {
    let from_mesh = from_member && kind != ListenerKind::Inbound;
    if from_mesh && head.fields.contains(NOT_DELIVERED) {
        return false;
    }
    // What anyone but a member's proxy says about the mesh is not to be believed.
    head.fields.retain(|name, _| {
        !name.starts_with(b"x-ironmesh-") || (from_mesh && name == REASON.as_bytes())
    });
    response_fields(head, decision, origin);
    true
}

/// Header operations on the way back, and what pages of other origins may see. `origin`: the one that
/// the client named, if the winning rule asks for it.
pub(crate) fn response_fields(head: &mut ResponseHead, decision: &Decision, origin: Option<&str>) {
    for ops in decision.header_ops() {
        apply(&ops.response, &mut head.fields);
    }
    let Some(origin) = origin else { return };
    // As in Envoy an abort comes before the cross-origin policy is looked at.
    let fields = match decision.reason {
        Reason::FaultAbort => Vec::new(),
        Reason::Preflight => decision.preflight_fields(origin),
        _ => decision.cors_fields(origin),
    };
    for (name, value) in fields {
        head.fields.set(name, value.as_bytes());
    }
}

fn apply(op: &HeaderOp, fields: &mut Fields) {
    for name in op.remove.iter().filter(|name| is_field(name)) {
        fields.remove(name);
    }
    for (name, value) in op.set.iter().filter(|(name, _)| is_field(name)) {
        fields.set(name, value.as_bytes());
    }
    for (name, value) in op.add.iter().filter(|(name, _)| is_field(name)) {
        fields.push(name.as_bytes(), value.as_bytes());
    }
}

/// Whether a rule may change this field: not what addresses or frames the message.
fn is_field(name: &str) -> bool {
    !name.starts_with(':')
        && !matches!(
            name,
            "host" | "content-length" | "transfer-encoding" | "connection" | "upgrade"
        )
}
