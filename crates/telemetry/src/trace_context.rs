//! Request ids and the headers that tie the spans of one trace together: W3C Trace Context and B3,
//! in one and in several headers. Made at the edge, passed on within. Random bits are arguments.

use std::fmt;

use ironmesh_model::HeaderLookup;

/// Where a request stands in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span of the caller, or of this hop; never 0.
    pub span_id: u64,
    /// Whether spans are to be recorded; `None`: not decided yet.
    pub sampled: Option<bool>,
}

impl TraceContext {
    /// A new trace from random bits.
    pub fn new(trace_bits: u128, span_bits: u64, sampled: Option<bool>) -> Self {
        // 0 means "none" in both formats.
        Self { trace_id: trace_bits.max(1), span_id: span_bits.max(1), sampled }
    }

    /// The context that a request carries: `traceparent`, else `b3`, else `x-b3-*`.
    pub fn of(headers: &dyn HeaderLookup) -> Option<Self> {
        if let Some(context) = headers.value("traceparent").and_then(|v| Self::of_traceparent(&v)) {
            return Some(context);
        }
        if let Some(context) = headers.value("b3").and_then(|v| Self::of_b3(&v)) {
            return Some(context);
        }
        let sampled = match (headers.value("x-b3-flags"), headers.value("x-b3-sampled")) {
            (Some(flags), _) if flags == "1" => Some(true),
            (_, Some(sampled)) => b3_sampled(&sampled),
            _ => None,
        };
        Some(Self {
            trace_id: b3_trace_id(&headers.value("x-b3-traceid")?)?,
            span_id: hex64(&headers.value("x-b3-spanid")?)?,
            sampled,
        })
    }

    /// The next span of the trace, from random bits.
    #[must_use]
    pub fn child(self, span_bits: u64) -> Self {
        Self { span_id: span_bits.max(1), ..self }
    }

    /// The value of `traceparent` (W3C Trace Context, section 3.2). Not decided counts as not
    /// sampled there.
    pub fn traceparent(&self) -> String {
        let flags = u8::from(self.sampled == Some(true));
        format!("00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }

    /// The values of `x-b3-traceid`, `x-b3-spanid` and, if it is decided, `x-b3-sampled`.
    pub fn b3(&self) -> (String, String, Option<&'static str>) {
        (
            format!("{:032x}", self.trace_id),
            format!("{:016x}", self.span_id),
            self.sampled.map(|sampled| if sampled { "1" } else { "0" }),
        )
    }

    /// Parses `traceparent`. Later versions may have more parts; version `ff` is invalid.
    fn of_traceparent(value: &str) -> Option<Self> {
        let mut parts = value.trim().split('-');
        let version = parts.next().filter(|v| v.len() == 2 && *v != "ff").and_then(hex_lower)?;
        let trace_id = parts.next().filter(|id| id.len() == 32).and_then(hex_lower)?;
        let span_id = parts.next().filter(|id| id.len() == 16).and_then(hex_lower)?;
        let flags = parts.next().filter(|flags| flags.len() == 2).and_then(hex_lower)?;
        let span_id = u64::try_from(span_id).ok()?;
        let valid = trace_id != 0 && span_id != 0 && (version != 0 || parts.next().is_none());
        valid.then_some(Self { trace_id, span_id, sampled: Some(flags & 1 == 1) })
    }

    /// Parses `b3`: `TRACE-SPAN`, `TRACE-SPAN-SAMPLED` or `TRACE-SPAN-SAMPLED-PARENT`.
    fn of_b3(value: &str) -> Option<Self> {
        let mut parts = value.trim().split('-');
        let trace_id = b3_trace_id(parts.next()?)?;
        let span_id = hex64(parts.next()?)?;
        let sampled = parts.next().and_then(b3_sampled);
        Some(Self { trace_id, span_id, sampled })
    }
}

/// A request id (`x-request-id`) from random bits: a UUID of version 4, as Envoy makes them.
pub fn request_id(bits: u128) -> impl fmt::Display {
    struct Uuid(u128);
    impl fmt::Display for Uuid {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let bits = self.0;
            let part = |from: u32, width: u32| (bits >> from) & ((1 << width) - 1);
            write!(
                f,
                "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                part(96, 32),
                part(80, 16),
                part(64, 16),
                part(48, 16),
                part(0, 48)
            )
        }
    }
    let version = bits & !(0xf << 76) | (4 << 76);
    Uuid(version & !(0b11 << 62) | (0b10 << 62))
}

/// Digits of a hexadecimal number, lower case only.
fn hex_lower(text: &str) -> Option<u128> {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if digits { u128::from_str_radix(text, 16).ok() } else { None }
}

/// 16 digits, not all 0.
fn hex64(text: &str) -> Option<u64> {
    let valid = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !valid {
        return None;
    }
    u64::from_str_radix(text, 16).ok().filter(|id| *id != 0)
}

/// 16 or 32 digits, not all 0.
fn b3_trace_id(text: &str) -> Option<u128> {
    let valid = matches!(text.len(), 16 | 32) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !valid {
        return None;
    }
    u128::from_str_radix(text, 16).ok().filter(|id| *id != 0)
}

fn b3_sampled(text: &str) -> Option<bool> {
    match text {
        "1" | "true" | "d" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
