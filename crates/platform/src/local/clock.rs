//! The wall clock of the local platform: timestamps of statuses and events. Durations are tokio's.

use jiff::{Timestamp, Unit};

/// Now, in whole seconds, as the API writes it (`2024-01-31T12:00:00Z`).
pub(crate) fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}
