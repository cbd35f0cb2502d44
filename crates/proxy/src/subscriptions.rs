//! What this proxy has asked the control plane for, within limits.

use std::collections::HashSet;

use ironmesh_model::{ResourceKey, View};
use ironmesh_wire::Client;
use tokio::sync::mpsc;

use crate::process::Process;

/// Keys that are subscribed to together.
const KEYS_AT_ONCE: usize = 256;

/// Share of the resolutions that is given up at the limit, so that making room is rare.
const GIVEN_UP_SHARE: usize = 4;

/// Subscribes to what workers ask for, for as long as it is polled.
///
/// Clients choose the hosts and addresses that a proxy asks about, so their number is bounded:
/// at `resolutions_max` those are given up of which the control plane has said that nothing is
/// there. Whoever needs one of them asks again.
pub(crate) async fn run(
    process: &Process,
    client: &Client,
    mut wanted: mpsc::UnboundedReceiver<ResourceKey>,
) {
    let resolutions_max = process.limits.resolutions_max;
    let mut resolutions = HashSet::new();
    let mut keys = Vec::new();
    while wanted.recv_many(&mut keys, KEYS_AT_ONCE).await > 0 {
        for key in &keys {
            if matches!(key, ResourceKey::Resolution(_)) {
                resolutions.insert(key.clone());
            }
        }
        if resolutions.len() > resolutions_max {
            let absent = absent(&process.views.load(), &resolutions, &keys);
            let count = (resolutions_max / GIVEN_UP_SHARE).max(1);
            let given_up: Vec<ResourceKey> = absent.into_iter().take(count).collect();
            tracing::debug!(count = given_up.len(), "absent resolutions given up");
            for key in &given_up {
                resolutions.remove(key);
            }
            client.unsubscribe(given_up);
        }
        if !client.subscribe(keys.drain(..)) {
            tracing::warn!("the limit subscriptions_max is reached");
        }
    }
}

/// Resolutions of which the control plane has said that nothing is there, but for `asked` ones.
fn absent(
    view: &View,
    resolutions: &HashSet<ResourceKey>,
    asked: &[ResourceKey],
) -> Vec<ResourceKey> {
    let is_absent = |key: &ResourceKey| match key {
        ResourceKey::Resolution(resolution) => view.is_absent(resolution),
        _ => false,
    };
    resolutions.iter().filter(|key| is_absent(key) && !asked.contains(key)).cloned().collect()
}
