//! The clock on the wall.

use std::time::{Duration, SystemTime};

/// A time from now, as HTTP writes dates.
#[expect(clippy::disallowed_methods, reason = "this is the module that reads it")]
pub(crate) fn http_date_in(time: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + time)
}
