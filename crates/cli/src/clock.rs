//! The one place where this crate reads the wall clock.

use jiff::Timestamp;

/// Now, to the second, as Kubernetes writes times.
pub(crate) fn now() -> String {
    timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How long ago a time of Kubernetes was, in `kubectl`'s short form (`5m`, `3h20m`); empty if it is
/// none.
pub(crate) fn age(time: &str) -> String {
    let Ok(then) = time.parse::<Timestamp>() else { return String::new() };
    short(timestamp().as_second() - then.as_second())
}

/// A time of Kubernetes as `kubectl describe` writes it, in UTC: `Tue, 06 Aug 2019 17:38:46 +0000`. What
/// is no time stays as it is.
pub(crate) fn in_words(time: &str) -> String {
    let at = time.parse::<Timestamp>();
    at.map_or_else(|_| time.to_owned(), |at| at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

/// Now, in seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> i64 {
    timestamp().as_second()
}

/// A time in seconds since the Unix epoch, as Kubernetes writes times; empty if it is out of reach.
pub(crate) fn of_unix_seconds(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds);
    time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn timestamp() -> Timestamp {
    Timestamp::now()
}

/// Seconds in the two largest units that matter.
fn short(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        assert_eq!(in_words("2019-08-06T17:38:46Z"), "Tue, 06 Aug 2019 17:38:46 +0000");
        assert_eq!(in_words("soon"), "soon");
    }

    #[test]
    fn ages_as_kubectl_writes_them() {
        for (seconds, text) in [
            (-5, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (3600, "60m"),
            (12_000, "3h20m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ] {
            assert_eq!(short(seconds), text, "{seconds}");
        }
    }
}
