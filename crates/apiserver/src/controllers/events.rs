//! Events (`kind: Event`): what controllers did, written down, kept for a while, and only so many.

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::Event;
use jiff::Timestamp;
use serde_json::json;
use twox_hash::XxHash3_64;

use crate::clock;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{Part, Registry};
use crate::store::Collection;

/// Notes what a controller did with an object: `Normal` as hoped, or a `Warning`. The same again is
/// counted. An Event that cannot be written is lost, and nothing else.
pub(super) fn record(
    registry: &Registry,
    object: &Object,
    kind: &str,
    reason: &str,
    message: &str,
) {
    let namespace = object::namespace(object);
    let about = format!("{}/{reason}/{message}", object::uid(object));
    let of = object::name(object);
    // There is room for the rest of a name.
    let of = of.get(..NAME_BYTES_MAX).unwrap_or(of);
    let name = format!("{of}.{:016x}", XxHash3_64::oneshot(about.as_bytes()));
    let resource = Resource::of("v1", "Event");
    let key = Collection::core("events").key(namespace, &name);
    let now = clock::rfc3339(clock::now());
    let written = if registry.store().object(&key).is_some() {
        registry.update(&resource, &key, Part::Main, |old| {
            let mut again = old.clone();
            again["count"] = (Event::of(old).count().max(1) + 1).into();
            again["lastTimestamp"] = now.clone().into();
            Ok(again)
        })
    } else {
        let component =
            format!("{}-controller", object::text(object, "/kind").to_ascii_lowercase());
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name},
            "involvedObject": {
                "apiVersion": object::text(object, "/apiVersion"),
                "kind": object::text(object, "/kind"),
                "namespace": namespace,
                "name": object::name(object),
                "uid": object::uid(object),
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": component},
            "reportingComponent": component,
        });
        registry.create(&resource, namespace, event)
    };
    if let Err(failure) = written {
        tracing::debug!(%failure, reason, "event not written");
    }
}

/// Whether there are more Events than are kept.
pub(super) fn are_too_many(registry: &Registry) -> bool {
    registry.store().count(&Collection::core("events")) > registry.limits().events_max
}

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
    let event = Event::of(event);
    [event.last_timestamp(), event.event_time(), event.metadata().creation_timestamp()]
        .iter()
        .find_map(|time| time.parse::<Timestamp>().ok())
        .map_or(0, Timestamp::as_second)
}

/// Bytes of an object's name in the names of its events; a name has at most 253.
const NAME_BYTES_MAX: usize = 200;
