//! Events (`kind: Event`) are kept for a while, and only so many.

use jiff::Timestamp;

use crate::clock;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::Registry;
use crate::store::Collection;

/// Removes Events that are too old or too many, the oldest first.
pub(super) fn sweep(registry: &Registry) -> Result<(), Failure> {
    let collection = Collection::core("events");
    let (mut events, _) = registry.store().list(&collection, None);
    events.sort_by_key(|event| last_seen(event));
    let limits = registry.limits();
    let surplus = events.len().saturating_sub(limits.events_max);
    let ttl = i64::try_from(limits.event_ttl.as_secs()).unwrap_or(i64::MAX);
    let oldest = clock::now().as_second().saturating_sub(ttl);
    for (index, event) in events.iter().enumerate() {
        if index >= surplus && last_seen(event) >= oldest {
            break;
        }
        registry.store().remove(&collection.key(object::namespace(event), object::name(event)))?;
    }
    Ok(())
}

/// Seconds since the Unix epoch.
fn last_seen(event: &Object) -> i64 {
    ["/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .iter()
        .find_map(|pointer| object::text(event, pointer).parse::<Timestamp>().ok())
        .map_or(0, Timestamp::as_second)
}
