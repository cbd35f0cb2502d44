//! `grpc-timeout`: how long a caller of gRPC waits (gRPC over HTTP/2, "Requests").

use std::time::Duration;

/// Reads the header; `None`: it is none of gRPC's. What is less than a millisecond counts as one, and
/// only 0 as no time at all.
pub fn grpc_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    let is_number =
        (1..=DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number: u64 =
        is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()?;
    let milliseconds = match unit {
        b'H' => number * 3_600_000,
        b'M' => number * 60_000,
        b'S' => number * 1_000,
        b'm' => number,
        b'u' => number.div_ceil(1_000),
        b'n' => number.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(milliseconds))
}

/// Writes the header, in the smallest unit from milliseconds on in which it has its eight digits.
pub fn grpc_timeout_text(timeout: Duration) -> String {
    let mut number = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    for (unit, of_next) in [('m', 1_000), ('S', 60), ('M', 60)] {
        if number <= NUMBER_MAX {
            return format!("{number}{unit}");
        }
        number /= of_next;
    }
    format!("{}H", number.min(NUMBER_MAX))
}

/// Digits that the header may have.
const DIGITS_MAX: usize = 8;
/// The largest number of so many digits.
const NUMBER_MAX: u64 = 99_999_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_in_each_unit() {
        for (text, milliseconds) in [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("3S", 3_000),
            ("250m", 250),
            ("1u", 1),
            ("1500u", 2),
            ("1n", 1),
            ("0m", 0),
            ("99999999H", 99_999_999 * 3_600_000),
        ] {
            assert_eq!(
                grpc_timeout(text.as_bytes()),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for bad in
            ["", "m", "1", "1x", "-1m", "+1m", "1.5S", " 1m", "100000000m", "1mm", "\u{661}m"]
        {
            assert_eq!(grpc_timeout(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn the_header_is_written_so_that_it_fits() {
        for (milliseconds, text) in [
            (0, "0m"),
            (700, "700m"),
            (99_999_999, "99999999m"),
            (100_000_000, "100000S"),
            (99_999_999_000 + 1_000, "1666666M"),
            (u64::MAX, "99999999H"),
        ] {
            let written = grpc_timeout_text(Duration::from_millis(milliseconds));
            assert_eq!(written, text);
            assert!(grpc_timeout(written.as_bytes()).is_some());
        }
    }
}
