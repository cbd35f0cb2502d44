//! What a workload's proxy has asked the control plane for, within limits.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ironmesh_model::{ResourceKey, Tick, View};
use ironmesh_wire::Client;

use crate::process::Process;
use crate::workload::LocalWorkload;

/// Subscribes to what workers ask for, for as long as it is polled.
///
/// Clients choose the hosts and addresses that a proxy asks about, so their number is bounded by
/// `resolutions_max` (see [`Asked::give_up`]). Whoever needs one that was given up asks again;
/// requests that were decided by it keep it to their end. Who lives at `own_ip` is kept always: it
/// tells the labels of the proxy's own workload.
pub(crate) async fn run(
    process: &Process,
    workload: &LocalWorkload,
    client: &Client,
    own_ip: IpAddr,
) {
    let Some(mut wanted) = workload.views.take_wanted() else { return };
    let resolutions_max = process.limits.resolutions_max;
    let own = ResourceKey::Workload(own_ip);
    client.subscribe([own.clone()]);
    let mut asked = Asked::but_for(own);
    let mut keys = Vec::new();
    while wanted.recv_many(&mut keys, KEYS_AT_ONCE).await > 0 {
        asked.note(&keys, process.now());
        let given_up = asked.give_up(resolutions_max, &workload.views.load(), &keys);
        if !given_up.is_empty() {
            tracing::debug!(count = given_up.len(), "resolutions given up");
            client.unsubscribe(given_up);
        }
        keys.retain(|key| !client.subscribe([key.clone()]));
        if !keys.is_empty() {
            tracing::warn!("the limit of subscriptions is reached");
            asked.forget(&keys);
            keys.clear();
        }
    }
}

/// The hosts and addresses that were asked about, and when they were asked about last: what is used
/// is not asked about again.
#[derive(Debug)]
pub(crate) struct Asked {
    at: HashMap<ResourceKey, Tick>,
    kept: ResourceKey,
}

impl Asked {
    /// Nothing was asked about yet; `kept` is never given up.
    pub(crate) fn but_for(kept: ResourceKey) -> Self {
        Self { at: HashMap::new(), kept }
    }

    /// Notes what is asked about now.
    pub(crate) fn note(&mut self, keys: &[ResourceKey], now: Tick) {
        let counted = keys.iter().filter(|key| is_asked_by_clients(key) && **key != self.kept);
        self.at.extend(counted.map(|key| (key.clone(), now)));
    }

    /// Forgets what could not be asked about, so that it does not take the room of others.
    pub(crate) fn forget(&mut self, keys: &[ResourceKey]) {
        for key in keys {
            self.at.remove(key);
        }
    }

    /// Makes room if there are more than `max`: first goes that of which the control plane has said
    /// that nothing is there, then the rest, of each what was used the longest time ago: a client
    /// that asks about ever new hosts does not drive out those that are in use. What is not answered
    /// yet stays, since someone waits for it, and so do the keys of `now`.
    pub(crate) fn give_up(
        &mut self,
        max: usize,
        view: &View,
        now: &[ResourceKey],
    ) -> Vec<ResourceKey> {
        if self.at.len() <= max {
            return Vec::new();
        }
        let count = (self.at.len() - max).max(max / GIVEN_UP_SHARE);
        let now: HashSet<&ResourceKey> = now.iter().collect();
        let mut candidates: Vec<_> = self
            .at
            .iter()
            .filter(|(key, _)| !now.contains(key))
            .filter_map(|(key, asked)| {
                let last_use = view.get(key)?.last_use.at().max(*asked);
                Some((!is_absent(view, key), last_use, key))
            })
            .collect();
        // By key in the end, so that it is the same each time.
        candidates.sort();
        let given_up: Vec<ResourceKey> =
            candidates.into_iter().take(count).map(|(.., key)| key.clone()).collect();
        self.forget(&given_up);
        given_up
    }
}

/// Whether clients choose such keys; others the configuration does.
fn is_asked_by_clients(key: &ResourceKey) -> bool {
    matches!(key, ResourceKey::Resolution(_) | ResourceKey::Workload(_))
}

fn is_absent(view: &View, key: &ResourceKey) -> bool {
    match key {
        ResourceKey::Resolution(resolution) => view.is_absent(resolution),
        ResourceKey::Workload(ip) => matches!(view.workload(*ip), Some(None)),
        _ => false,
    }
}

/// Keys that are subscribed to together.
const KEYS_AT_ONCE: usize = 256;

/// Share of the limit that is given up when it is reached, so that making room is rare.
const GIVEN_UP_SHARE: usize = 4;
