//! Request ids and the headers that tie the spans of a trace together: W3C Trace Context and B3.
//! Created at the edge and propagated inside the mesh. Random bits are arguments.

use data_encoding::HEXLOWER;
use ironmesh_model::HeaderLookup;

/// A new trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// Its first span; never 0.
    pub span_id: u64,
    /// Whether spans are to be recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// A new trace from random bits.
    pub fn new(trace_bits: u128, span_bits: u64, sampled: bool) -> Self {
        // 0 means "none" in both formats.
        Self { trace_id: trace_bits.max(1), span_id: span_bits.max(1), sampled }
    }

    /// The value of `traceparent` (W3C Trace Context, section 3.2).
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        HEXLOWER.encode_append(&self.trace_id.to_be_bytes(), &mut text);
        text.push('-');
        HEXLOWER.encode_append(&self.span_id.to_be_bytes(), &mut text);
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }
}

/// Whether a client that started no trace wants the request to be sampled, by `x-b3-flags: 1`
/// (debug) or `x-b3-sampled`. `None`: it leaves the choice to us.
pub fn b3_sampled(headers: &dyn HeaderLookup) -> Option<bool> {
    if headers.value("x-b3-flags").is_some_and(|flags| flags == "1") {
        return Some(true);
    }
    match &*headers.value("x-b3-sampled")? {
        "1" | "true" | "d" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// A request id (`x-request-id`) from random bits: a UUID of version 4, as Envoy makes them.
pub fn request_id(bits: u128) -> String {
    let version = bits & !(0xf << 76) | (4 << 76);
    let bytes = (version & !(0b11 << 62) | (0b10 << 62)).to_be_bytes();
    let mut text = String::with_capacity(36);
    for part in [0..4, 4..6, 6..8, 8..10, 10..16] {
        if part.start > 0 {
            text.push('-');
        }
        HEXLOWER.encode_append(&bytes[part], &mut text);
    }
    text
}

#[cfg(test)]
mod tests;
