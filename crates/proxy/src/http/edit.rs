//! What the mesh changes in heads: at entry, by the winning rule, and on the way back.

use std::borrow::Cow;

use ironmesh_model::entry::{self, Entered, EntryHeaders, Sender};
use ironmesh_model::header_value::expand;
use ironmesh_model::operator::Operator;
use ironmesh_model::route::HeaderOp;
use ironmesh_model::{Decision, ListenerKind};
use ironmesh_telemetry::trace_context::{TraceContext, b3_sampled, request_id};

use crate::connection::Connection;
use crate::http::exchange::Exchange;
use crate::http::local::{NOT_DELIVERED, REASON};
use crate::http::told::Told;
use crate::message::{Fields, RequestHead, ResponseHead};
use crate::random::Random;

/// Removes what the client may not say, and adds what every request of the mesh carries. Tells whether
/// the client may ask for something, and who it is if others say so.
pub(crate) fn at_entry(
    head: &mut RequestHead,
    connection: &Connection,
    random: &Random,
) -> Entered {
    let is_member = connection.peer_identity.is_some();
    let Connection { kind: listener, https, topology, .. } = *connection;
    let (address, certificate) = (&connection.client, &connection.certificate);
    let sender = Sender { listener, is_member, address, certificate, topology, https };
    let id = || request_id(random.wide());
    entry::at_entry(&mut head.fields, &sender, id, |fields| begin_trace(fields, random))
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
pub(crate) fn request_fields(head: &mut RequestHead, decision: &Decision, told: &Told<'_>) {
    for ops in decision.header_ops() {
        apply(&ops.request, head, |operator, head| told.in_header(operator, head, None));
    }
}

/// Changes the head of an answer. `false`: it is a proxy's word that the request was not delivered,
/// which the client must not see.
pub(crate) fn response(
    head: &mut ResponseHead,
    exchange: &Exchange<'_>,
    decision: &Decision,
    from_member: bool,
) -> bool {
    let from_mesh = from_member && exchange.connection.kind != ListenerKind::Inbound;
    if from_mesh && head.fields.contains(NOT_DELIVERED) {
        return false;
    }
    // What anyone but a member's proxy says about the mesh is not to be believed.
    head.fields.retain(|name, _| {
        !name.starts_with(b"x-ironmesh-") || (from_mesh && name == REASON.as_bytes())
    });
    response_fields(head, exchange, decision);
    true
}

/// Header operations on the way back, and what pages of other origins may see.
pub(crate) fn response_fields(
    head: &mut ResponseHead,
    exchange: &Exchange<'_>,
    decision: &Decision,
) {
    let told = exchange.told(decision);
    for ops in decision.header_ops() {
        apply(&ops.response, head, |operator, head| {
            told.in_header(operator, exchange.head, Some(head))
        });
    }
    let Some(origin) = exchange.origin() else { return };
    for (name, value) in decision.origin_fields(origin) {
        head.fields.set(name, value.as_bytes());
    }
}

/// The head of a message.
trait Head {
    fn fields(&mut self) -> &mut Fields;
}

impl Head for RequestHead {
    fn fields(&mut self) -> &mut Fields {
        &mut self.fields
    }
}

impl Head for ResponseHead {
    fn fields(&mut self) -> &mut Fields {
        &mut self.fields
    }
}

/// Applies operations. `told`: what an operator of Envoy's in a value stands for.
fn apply<H: Head>(op: &HeaderOp, head: &mut H, told: impl Fn(Operator<'_>, &H) -> Option<String>) {
    for name in op.remove.iter().filter(|name| is_field(name)) {
        head.fields().remove(name);
    }
    for (name, value) in op.set.iter().filter(|(name, _)| is_field(name)) {
        if let Some(value) = value_of(value, |operator| told(operator, head)) {
            head.fields().set(name, value.as_bytes());
        }
    }
    for (name, value) in op.add.iter().filter(|(name, _)| is_field(name)) {
        if let Some(value) = value_of(value, |operator| told(operator, head)) {
            head.fields().push(name.as_bytes(), value.as_bytes());
        }
    }
}

/// A value as it is written; `None`: what it stands for is not there, as in Envoy.
fn value_of(value: &str, told: impl Fn(Operator<'_>) -> Option<String>) -> Option<Cow<'_, str>> {
    if !value.contains('%') {
        return Some(Cow::Borrowed(value));
    }
    let value = expand(value, told);
    (!value.is_empty()).then_some(Cow::Owned(value))
}

/// Whether a rule may change this field: not what addresses or frames the message.
fn is_field(name: &str) -> bool {
    !name.starts_with(':')
        && !matches!(
            name,
            "host" | "content-length" | "transfer-encoding" | "connection" | "upgrade"
        )
}
