//! How the objects of kinds are shown in tables, as `kubectl get` prints them: their columns, and what
//! stands in them.

use jiff::Timestamp;
use serde_json::Value;

use crate::kubernetes::kinds::{AnyObject, Condition, ObjectMeta};
use crate::schema::{Entries, Fields, Items};

mod core;
mod kept;
mod mesh;
mod pod;
mod workload;

pub(crate) use self::core::{
    CLAIM, CONFIG_MAP, ENDPOINTS, EVENT, LEASE, NAMESPACE, NODE, SECRET, SERVICE, SERVICE_ACCOUNT,
};
pub(crate) use self::kept::{
    API_GATEWAY, AUTOSCALER, BINDING, CREATED, CRON_JOB, DISRUPTION_BUDGET, ENDPOINT_SLICE,
    GATEWAY_CLASS, HTTP_ROUTE, INGRESS, INGRESS_CLASS, NETWORK_POLICY, OPERATOR, PRIORITY_CLASS,
    STORAGE_CLASS, VOLUME, WEBHOOKS, WORKLOAD_ENTRY,
};
pub(crate) use self::mesh::{
    AUTHORIZATION_POLICY, DESTINATION_RULE, PEER_AUTHENTICATION, SERVICE_ENTRY, VIRTUAL_SERVICE,
};
pub(crate) use self::pod::POD;
pub(crate) use self::workload::{
    CONTROLLER_REVISION, DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, REPLICATION_CONTROLLER,
    STATEFUL_SET,
};

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What stands above it.
    pub name: &'static str,
    /// Whether it is shown only with `-o wide`.
    pub wide: bool,
}

/// A column that is always shown.
const fn column(name: &'static str) -> Column {
    Column { name, wide: false }
}

/// A column of `-o wide`.
const fn wide(name: &'static str) -> Column {
    Column { name, wide: true }
}

/// How the objects of a kind are shown.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// The columns.
    pub all: &'static [Column],
    /// The cells of one object's row, at a time.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// Of kinds that have no columns of their own.
pub const PLAIN: Columns = Columns {
    all: &[column("Name"), column("Age")],
    cells: |object, now| {
        let metadata = AnyObject::of(object).metadata();
        vec![metadata.name().into(), age(metadata, now)]
    },
};

/// A span of time as kubectl shows ages: two units at most, the smaller only while it matters.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// How long ago a time was.
fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => human_duration(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

fn age(metadata: Fields<'_, ObjectMeta>, now: Timestamp) -> Value {
    since(metadata.creation_timestamp(), now).into()
}

/// The text, or what stands for none.
fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// A plain selector, in the order of its keys: `app=reviews,version=v1`.
fn pairs(pairs: Entries<'_, String>) -> Value {
    let mut pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    or_none(&pairs.join(","))
}

/// Whether a condition is `True`.
fn holds(mut conditions: Items<'_, Condition>, condition: &str) -> bool {
    conditions.any(|c| c.of() == condition && c.status() == "True")
}

const NONE: &str = "<none>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_as_kubectl_shows_them() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_400, "3h10m"),
            (100_000, "27h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (700_000, "8d"),
            (70_000_000, "2y80d"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
