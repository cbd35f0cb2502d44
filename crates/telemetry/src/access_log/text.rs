//! A record in Istio's default text format.

use std::fmt::{self, Display, Write};

use super::record::AccessRecord;
use super::time::Rfc3339;

/// Appends a line.
pub(super) fn write(out: &mut String, r: &AccessRecord<'_>) {
    // Writing to a String cannot fail.
    let _ = try_write(out, r);
}

/// In the order of Istio's format:
/// `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE%
/// %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%
/// "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION%
/// %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%"
/// "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER%
/// %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS%
/// %REQUESTED_SERVER_NAME% %ROUTE_NAME%`
fn try_write(out: &mut String, r: &AccessRecord<'_>) -> fmt::Result {
    write!(
        out,
        "[{}] \"{} {} {}\" {} {} {} {} \"{}\" {} {} {} {} ",
        Rfc3339(r.start),
        Text(r.method),
        Text(r.path),
        Text(r.protocol),
        r.response_code,
        r.reason.flag(),
        Text(r.response_code_details),
        Text(r.connection_termination_details),
        Text(r.upstream_transport_failure_reason),
        r.bytes_received,
        r.bytes_sent,
        r.duration.as_millis(),
        Other(r.upstream_service_time.map(|time| time.as_millis())),
    )?;
    writeln!(
        out,
        "\"{}\" \"{}\" \"{}\" \"{}\" \"{}\" {} {} {} {} {} {}",
        Text(r.x_forwarded_for),
        Text(r.user_agent),
        Text(r.request_id),
        Text(r.authority),
        Other(r.upstream_host),
        Other(r.upstream_cluster),
        Other(r.upstream_local_address),
        Other(r.downstream_local_address),
        Other(r.downstream_remote_address),
        Text(r.requested_server_name),
        Text(r.route),
    )
}

/// Text of a client; what could end a line or confuse a terminal is escaped. Quotes stand as they
/// are, as in Envoy.
struct Text<'a>(Option<&'a str>);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            None | Some("") => "-",
            Some(text) => text,
        };
        if !text.bytes().any(|byte| byte.is_ascii_control()) {
            return f.write_str(text);
        }
        for c in text.chars() {
            if c.is_ascii_control() {
                write!(f, "\\x{:02x}", u32::from(c))?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Anything else that may be missing.
struct Other<T>(Option<T>);

impl<T: Display> Display for Other<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}
