//! A record as one JSON object a line: Istio's keys, and what ironmesh knows beside them.

use std::fmt::{self, Display, Write};

use super::record::AccessRecord;
use super::time::Rfc3339;

/// Appends a line.
pub(super) fn write(out: &mut String, r: &AccessRecord<'_>) {
    let mut object = Object { out, first: true };
    object.out.push('{');
    object.text("start_time", Some(&Rfc3339(r.start)));
    object.text("method", r.method.as_ref());
    object.text("path", r.path.as_ref());
    object.text("protocol", r.protocol.as_ref());
    object.number("response_code", u128::from(r.response_code));
    object.text("response_flags", Some(&r.reason.flag()));
    object.text("response_code_details", r.response_code_details.as_ref());
    object.text("connection_termination_details", r.connection_termination_details.as_ref());
    object.text("upstream_transport_failure_reason", r.upstream_transport_failure_reason.as_ref());
    object.number("bytes_received", u128::from(r.bytes_received));
    object.number("bytes_sent", u128::from(r.bytes_sent));
    object.number("duration", r.duration.as_millis());
    let service_time = r.upstream_service_time.map(|time| time.as_millis());
    object.text("upstream_service_time", service_time.as_ref());
    object.text("x_forwarded_for", r.x_forwarded_for.as_ref());
    object.text("user_agent", r.user_agent.as_ref());
    object.text("request_id", r.request_id.as_ref());
    object.text("authority", r.authority.as_ref());
    object.text("upstream_host", r.upstream_host.as_ref());
    object.text("upstream_cluster", r.upstream_cluster.as_ref());
    object.text("upstream_local_address", r.upstream_local_address.as_ref());
    object.text("downstream_local_address", r.downstream_local_address.as_ref());
    object.text("downstream_remote_address", r.downstream_remote_address.as_ref());
    object.text("requested_server_name", r.requested_server_name.as_ref());
    object.text("route_name", r.route.as_ref());
    object.text("listener", Some(&r.listener.word()));
    object.text("route", r.route.as_ref());
    object.text("version", r.version.as_ref());
    object.text("subset", r.subset.as_ref());
    object.text("endpoint", r.upstream_host.as_ref());
    object.text("reason", Some(&r.reason));
    object.text("draw", r.draw.as_ref());
    object.text("peer", r.peer.as_ref());
    object.out.push_str("}\n");
}

struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    fn text(&mut self, key: &str, value: Option<&impl Display>) {
        self.key(key);
        match value {
            None => self.out.push_str("null"),
            Some(value) => {
                self.out.push('"');
                // Writing to a String cannot fail.
                let _ = write!(Escaped(self.out), "{value}");
                self.out.push('"');
            }
        }
    }

    fn number(&mut self, key: &str, value: u128) {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.out, "{value}");
    }
}

/// Escapes what must not stand in a JSON string (RFC 8259, section 7).
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.bytes().any(|byte| byte.is_ascii_control() || matches!(byte, b'"' | b'\\')) {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                c if c.is_ascii_control() => write!(self.0, "\\u{:04x}", u32::from(c))?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}
