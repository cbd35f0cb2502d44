//! The wall clock of the local platform: timestamps of statuses and events. Durations are tokio's.

use jiff::{Timestamp, Unit};

/// Now, in whole seconds, as the API writes it (`2024-01-31T12:00:00Z`).
pub(crate) fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}

/// Microseconds since 1970: numbers that grow over restarts.
pub(crate) fn micros() -> u64 {
    u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0)
}

/// Now.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::now()
}

/// Milliseconds since 1970.
pub(crate) fn millis() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}
