//! A record as one JSON object a line: Istio's keys, and what ironmesh knows beside them.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;

use super::pieces::{address, cluster, number};
use super::record::AccessRecord;
use super::time::rfc3339;

/// Appends a line.
pub(super) fn write(out: &mut Vec<u8>, r: &AccessRecord<'_>) {
    out.extend_from_slice(b"{\"start_time\":\"");
    rfc3339(out, r.start);
    out.push(b'"');
    let mut object = Object(out);
    object.text("method", r.method);
    object.text("path", r.path);
    object.text("protocol", r.protocol);
    object.number("response_code", u128::from(r.response_code));
    object.text("response_flags", Some(&r.flags()));
    object.text("response_code_details", r.response_code_details);
    object.text("connection_termination_details", r.connection_termination_details);
    object.text("upstream_transport_failure_reason", r.upstream_transport_failure_reason);
    object.number("bytes_received", u128::from(r.bytes_received));
    object.number("bytes_sent", u128::from(r.bytes_sent));
    object.number("duration", r.duration.as_millis());
    // A header, and so text, as in Envoy.
    let service_time = r.upstream_service_time.map(|time| time.as_millis());
    object.shown("upstream_service_time", service_time.as_ref());
    object.text("x_forwarded_for", r.x_forwarded_for);
    object.text("user_agent", r.user_agent);
    object.text("request_id", r.request_id);
    object.text("authority", r.authority);
    object.address("upstream_host", r.upstream_host);
    object.quoted("upstream_cluster", r.upstream_cluster, |out, it| cluster(out, it, escaped));
    object.address("upstream_local_address", r.upstream_local_address);
    object.address("downstream_local_address", r.downstream_local_address);
    object.address("downstream_remote_address", r.downstream_remote_address);
    object.text("requested_server_name", r.requested_server_name);
    object.text("route_name", r.route);
    object.text("listener", Some(r.listener.word()));
    object.text("route", r.route);
    object.shown("version", r.version.as_ref());
    object.text("subset", r.subset);
    object.address("endpoint", r.upstream_host);
    object.text("reason", Some(r.reason.code()));
    object.shown("draw", r.draw.as_ref());
    object.shown("peer", r.peer);
    object.0.extend_from_slice(b"}\n");
}

/// An object that has a field already.
struct Object<'a>(&'a mut Vec<u8>);

impl Object<'_> {
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn quoted<T>(&mut self, key: &str, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
        self.key(key);
        match value {
            None => self.0.extend_from_slice(b"null"),
            Some(value) => {
                self.0.push(b'"');
                write(self.0, value);
                self.0.push(b'"');
            }
        }
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        self.quoted(key, value, escaped);
    }

    fn address(&mut self, key: &str, value: Option<SocketAddr>) {
        self.quoted(key, value, address);
    }

    /// A value by its `Display` form, for what is rare or short.
    fn shown(&mut self, key: &str, value: Option<&impl Display>) {
        self.quoted(key, value, |out, value| {
            // Writing to a Vec cannot fail.
            let _ = write!(Escaped(out), "{value}");
        });
    }

    fn number(&mut self, key: &str, value: u128) {
        self.key(key);
        number(self.0, u64::try_from(value).unwrap_or(u64::MAX));
    }
}

/// Appends text, but for what must not stand in a JSON string (RFC 8259, section 7).
pub(super) fn escaped(out: &mut Vec<u8>, text: &str) {
    escaped_bytes(out, text.as_bytes());
}

fn escaped_bytes(out: &mut Vec<u8>, text: &[u8]) {
    let is_plain = |byte: &u8| !byte.is_ascii_control() && !matches!(byte, b'"' | b'\\');
    if text.iter().all(is_plain) {
        out.extend_from_slice(text);
        return;
    }
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            byte if byte.is_ascii_control() => {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "\\u{byte:04x}");
            }
            byte => out.push(*byte),
        }
    }
}

/// Escapes what is written through it.
struct Escaped<'a>(&'a mut Vec<u8>);

impl Write for Escaped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        escaped_bytes(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
