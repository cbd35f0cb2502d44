//! The clock on the wall.

use std::time::{Duration, SystemTime};

/// A time from now, as HTTP writes dates.
#[expect(clippy::disallowed_methods, reason = "this is the module that reads it")]
pub(crate) fn http_date_in(time: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + time)
}

/// The time of day in UTC: hours, minutes, seconds and microseconds.
#[expect(clippy::disallowed_methods, reason = "this is the module that reads it")]
pub(crate) fn time_of_day() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    in_its_day(since)
}

fn in_its_day(since: Duration) -> String {
    let (seconds, micros) = (since.as_secs() % 86_400, since.subsec_micros());
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_its_day() {
        let since = Duration::from_micros(86_400_000_000 * 3 + 45_296_000_007);
        assert_eq!(in_its_day(since), "12:34:56.000007");
    }
}
