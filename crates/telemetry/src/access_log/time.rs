//! Time stamps in UTC: as in RFC 3339, to the millisecond, and as in HTTP.

use std::fmt::Write as _;
use std::time::Duration;

use ironmesh_model::operator::{self, TimePart};

use super::pieces::padded;

/// Appends a span since the Unix epoch as a date and time.
pub(super) fn rfc3339(out: &mut Vec<u8>, since_epoch: Duration) {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / SECONDS_PER_DAY);
    let of_day = seconds % SECONDS_PER_DAY;
    padded::<4>(out, year);
    out.push(b'-');
    padded::<2>(out, month);
    out.push(b'-');
    padded::<2>(out, day);
    out.push(b'T');
    padded::<2>(out, of_day / 3600);
    out.push(b':');
    padded::<2>(out, of_day / 60 % 60);
    out.push(b':');
    padded::<2>(out, of_day % 60);
    out.push(b'.');
    padded::<3>(out, u64::from(since_epoch.subsec_millis()));
    out.push(b'Z');
}

/// A span since the Unix epoch as `START_TIME` of Envoy writes it: by this format of strftime's, of which
/// [`operator::TIME_DIRECTIVES`] are known; empty: as `2026-11-28T22:00:00.000Z`.
pub fn time_text(format: &str, since_epoch: Duration) -> String {
    if format.is_empty() {
        let mut out = Vec::new();
        rfc3339(&mut out, since_epoch);
        return String::from_utf8(out).unwrap_or_default();
    }
    let mut text = String::new();
    for part in operator::time_parts(format) {
        match part {
            TimePart::Text(own) | TimePart::Unknown(own) => text.push_str(own),
            TimePart::Directive(letter) => directive(&mut text, letter, since_epoch),
            TimePart::Fraction(digits) => {
                let all = format!("{:09}", since_epoch.subsec_nanos());
                text.push_str(&all[..digits.min(operator::FRACTION_DIGITS_MAX)]);
            }
        }
    }
    text
}

fn directive(out: &mut String, letter: char, since_epoch: Duration) {
    let seconds = since_epoch.as_secs();
    let days = seconds / SECONDS_PER_DAY;
    let (year, month, day) = civil(days);
    let of_day = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let of_12 = (hour + 11) % 12 + 1;
    let name = |names: &[&'static str], index: u64| -> &'static str {
        usize::try_from(index).ok().and_then(|at| names.get(at)).copied().unwrap_or_default()
    };
    let (weekday, month_name) = (name(&WEEKDAYS, days % 7), name(&MONTHS, month - 1));
    // Writing to a String cannot fail.
    let _ = match letter {
        'Y' => write!(out, "{year:04}"),
        'y' => write!(out, "{:02}", year % 100),
        'm' => write!(out, "{month:02}"),
        'd' => write!(out, "{day:02}"),
        'e' => write!(out, "{day:2}"),
        'j' => write!(out, "{:03}", days - days_before(year) + 1),
        'H' => write!(out, "{hour:02}"),
        'I' => write!(out, "{of_12:02}"),
        'M' => write!(out, "{minute:02}"),
        'S' => write!(out, "{second:02}"),
        's' => write!(out, "{seconds}"),
        'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
        'a' => write!(out, "{}", &weekday[..3]),
        'A' => write!(out, "{weekday}"),
        'b' => write!(out, "{}", &month_name[..3]),
        'B' => write!(out, "{month_name}"),
        'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
        'R' => write!(out, "{hour:02}:{minute:02}"),
        'F' => write!(out, "{year:04}-{month:02}-{day:02}"),
        'D' => write!(out, "{month:02}/{day:02}/{:02}", year % 100),
        'z' => write!(out, "+0000"),
        'Z' => write!(out, "UTC"),
        other => write!(out, "{other}"),
    };
}

/// Bytes of a date as HTTP writes it.
pub const HTTP_DATE_BYTES: usize = 29;

/// A span since the Unix epoch as an IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`
/// (RFC 9110, section 5.6.7).
pub fn http_date(since_epoch: Duration) -> [u8; HTTP_DATE_BYTES] {
    let seconds = since_epoch.as_secs();
    let days = seconds / SECONDS_PER_DAY;
    let (year, month, day) = civil(days);
    let of_day = seconds % SECONDS_PER_DAY;
    let name = |names: &[u8], index: u64| -> [u8; 3] {
        let at = usize::try_from(index).unwrap_or_default() * 3;
        names.get(at..at + 3).and_then(|name| name.try_into().ok()).unwrap_or_default()
    };
    let mut out = Vec::with_capacity(HTTP_DATE_BYTES);
    out.extend_from_slice(&name(b"ThuFriSatSunMonTueWed", days % 7));
    out.extend_from_slice(b", ");
    padded::<2>(&mut out, day);
    out.push(b' ');
    out.extend_from_slice(&name(b"JanFebMarAprMayJunJulAugSepOctNovDec", month - 1));
    out.push(b' ');
    padded::<4>(&mut out, year);
    out.push(b' ');
    padded::<2>(&mut out, of_day / 3600);
    out.push(b':');
    padded::<2>(&mut out, of_day / 60 % 60);
    out.push(b':');
    padded::<2>(&mut out, of_day % 60);
    out.extend_from_slice(b" GMT");
    out.try_into().unwrap_or([b' '; HTTP_DATE_BYTES])
}

/// Year, month and day of a number of days since 1970-01-01. Years are counted from March, so that
/// the leap day is the last of a year, in eras of 400 years, which all have as many days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to the first of a year, which is 1970 or later.
fn days_before(year: u64) -> u64 {
    let years = year - 1;
    years * 365 + years / 4 - years / 100 + years / 400 - DAYS_BEFORE_EPOCH
}

const SECONDS_PER_DAY: u64 = 86_400;

/// Days from 0001-01-01 to 1970-01-01.
const DAYS_BEFORE_EPOCH: u64 = 719_162;

/// The days of a week, from that of 1970-01-01 on.
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Days of 400 years.
const DAYS_PER_ERA: u64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_as_http_writes_them() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
        ] {
            let written = http_date(Duration::from_secs(seconds));
            assert_eq!(std::str::from_utf8(&written), Ok(date));
        }
    }

    #[test]
    fn times_are_as_strftime_writes_them() {
        let at = Duration::new(1_795_251_845, 12_034_567);
        for (format, expected) in [
            ("", "2026-11-21T09:04:05.012Z"),
            ("%Y-%m-%dT%H:%M:%S.%3fZ", "2026-11-21T09:04:05.012Z"),
            ("%F %T%z %Z", "2026-11-21 09:04:05+0000 UTC"),
            ("%s.%6f %1f %9f %f", "1795251845.012034 0 012034567 012034567"),
            ("%a %A %b %B %e %j %y %D %R", "Sat Saturday Nov November 21 325 26 11/21/26 09:04"),
            ("%I %p %%", "09 AM %"),
            ("%Q %", "%Q %"),
        ] {
            assert_eq!(time_text(format, at), expected, "{format}");
        }
        let noon = Duration::from_secs(951_782_400 + 12 * 3600);
        assert_eq!(time_text("%I%p %j %e", noon), "12PM 060 29");
        assert_eq!(time_text("%I%p %j %e", Duration::ZERO), "12AM 001  1");
        for letter in operator::TIME_DIRECTIVES.chars() {
            // No time makes it panic, and each is known.
            let text = time_text(&format!("%{letter}"), Duration::MAX);
            assert!(letter == '%' || text != letter.to_string(), "{letter}");
        }
    }

    fn text(since_epoch: Duration) -> String {
        let mut out = Vec::new();
        rfc3339(&mut out, since_epoch);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_795_251_845, "2026-11-21T09:04:05.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(text(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(text(Duration::from_millis(7)), "1970-01-01T00:00:00.007Z");
        // No time makes it panic.
        text(Duration::MAX);
    }
}
