//! A record in Istio's default text format.

use std::io::Write;
use std::net::SocketAddr;

use super::pieces::{address, cluster, number};
use super::record::AccessRecord;
use super::time::rfc3339;

/// Appends a line, in the order of Istio's format:
/// `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE%
/// %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%
/// "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION%
/// %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%"
/// "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER%
/// %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS%
/// %REQUESTED_SERVER_NAME% %ROUTE_NAME%`
pub(super) fn write(out: &mut Vec<u8>, r: &AccessRecord<'_>) {
    let mut line = Line(out);
    line.fixed("[");
    rfc3339(line.0, r.start);
    line.fixed("] \"").text(r.method).fixed(" ").text(r.path).fixed(" ").text(r.protocol);
    line.fixed("\" ").number(Some(u128::from(r.response_code)));
    line.fixed(" ").fixed(&r.flags());
    line.fixed(" ").text(r.response_code_details);
    line.fixed(" ").text(r.connection_termination_details);
    line.fixed(" \"").text(r.upstream_transport_failure_reason);
    line.fixed("\" ").number(Some(u128::from(r.bytes_received)));
    line.fixed(" ").number(Some(u128::from(r.bytes_sent)));
    line.fixed(" ").number(Some(r.duration.as_millis()));
    line.fixed(" ").number(r.upstream_service_time.map(|time| time.as_millis()));
    line.fixed(" \"").text(r.x_forwarded_for);
    line.fixed("\" \"").text(r.user_agent);
    line.fixed("\" \"").text(r.request_id);
    line.fixed("\" \"").text(r.authority);
    line.fixed("\" \"").address(r.upstream_host).fixed("\" ");
    match r.upstream_cluster {
        Some(name) => cluster(line.0, name, escaped),
        None => line.0.push(b'-'),
    }
    line.fixed(" ").address(r.upstream_local_address);
    line.fixed(" ").address(r.downstream_local_address);
    line.fixed(" ").address(r.downstream_remote_address);
    line.fixed(" ").text(r.requested_server_name);
    line.fixed(" ").text(r.route).fixed("\n");
}

struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn fixed(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None | Some("") => self.0.push(b'-'),
            Some(text) => escaped(self.0, text),
        }
        self
    }

    fn number(&mut self, value: Option<u128>) -> &mut Self {
        match value {
            None => self.0.push(b'-'),
            Some(value) => number(self.0, u64::try_from(value).unwrap_or(u64::MAX)),
        }
        self
    }

    fn address(&mut self, value: Option<SocketAddr>) -> &mut Self {
        match value {
            None => self.0.push(b'-'),
            Some(value) => address(self.0, value),
        }
        self
    }
}

/// Appends text that came from a client. Control characters, which could end the line or confuse a
/// terminal, are escaped; quotes are not, as in Envoy.
pub(super) fn escaped(out: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|byte| byte.is_ascii_control()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        if byte.is_ascii_control() {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        } else {
            out.push(byte);
        }
    }
}
