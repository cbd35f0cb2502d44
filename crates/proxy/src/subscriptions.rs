//! What a workload's proxy has asked the control plane for, within limits.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;

use ironmesh_model::{ResourceKey, View};
use ironmesh_wire::Client;

use crate::workload::LocalWorkload;

/// Subscribes to what workers ask for, for as long as it is polled.
///
/// Clients choose the hosts and addresses that a proxy asks about, so their number is bounded by
/// `resolutions_max` (see [`Asked::give_up`]). Whoever needs one that was given up asks again;
/// requests that were decided by it keep it to their end. Who lives at `own_ip` is kept always: it
/// tells the labels of the proxy's own workload.
pub(crate) async fn run(
    workload: &LocalWorkload,
    client: &Client,
    own_ip: IpAddr,
    resolutions_max: usize,
) {
    let Some(mut wanted) = workload.views.take_wanted() else { return };
    let own = ResourceKey::Workload(own_ip);
    client.subscribe([own.clone()]);
    let mut asked = Asked::but_for(own);
    let mut keys = Vec::new();
    while wanted.recv_many(&mut keys, KEYS_AT_ONCE).await > 0 {
        asked.note(&keys);
        let given_up = asked.give_up(resolutions_max, &workload.views.load(), &keys);
        if !given_up.is_empty() {
            tracing::debug!(count = given_up.len(), "resolutions given up");
            client.unsubscribe(given_up);
        }
        keys.retain(|key| !client.subscribe([key.clone()]));
        if !keys.is_empty() {
            tracing::warn!("the limit subscriptions_max is reached");
            asked.forget(&keys);
            keys.clear();
        }
    }
}

/// The hosts and addresses that were asked about.
#[derive(Debug)]
pub(crate) struct Asked {
    /// In the order in which they were asked about first.
    order: VecDeque<ResourceKey>,
    known: HashSet<ResourceKey>,
    /// Those that were asked about again after they had been given up, so that they are in use.
    returned: HashSet<ResourceKey>,
    /// Those that were given up last, the newest at the end.
    given_up: VecDeque<ResourceKey>,
}

impl Asked {
    /// Nothing was asked about yet; `kept` is never given up.
    pub(crate) fn but_for(kept: ResourceKey) -> Self {
        Self {
            order: VecDeque::new(),
            known: HashSet::from([kept]),
            returned: HashSet::new(),
            given_up: VecDeque::new(),
        }
    }

    /// Notes what is asked about now.
    pub(crate) fn note(&mut self, keys: &[ResourceKey]) {
        for key in keys.iter().filter(|key| is_asked_by_clients(key)) {
            if self.known.insert(key.clone()) {
                self.order.push_back(key.clone());
                if self.given_up.contains(key) {
                    self.given_up.retain(|given_up| given_up != key);
                    self.returned.insert(key.clone());
                }
            }
        }
    }

    /// Forgets what could not be asked about, so that it does not take the room of others.
    pub(crate) fn forget(&mut self, keys: &[ResourceKey]) {
        for key in keys {
            self.known.remove(key);
            self.returned.remove(key);
        }
        self.order.retain(|key| self.known.contains(key));
    }

    /// Makes room if there are more than `max`: first goes that of which the control plane has said
    /// that nothing is there, then what was asked about longest ago and never came back, then what
    /// came back longest ago: a client that asks about ever new hosts does not drive out those that
    /// are in use. What is not answered yet stays, since someone waits for it, and so do the keys of
    /// `now`.
    pub(crate) fn give_up(
        &mut self,
        max: usize,
        view: &View,
        now: &[ResourceKey],
    ) -> Vec<ResourceKey> {
        if self.order.len() <= max {
            return Vec::new();
        }
        let count = (self.order.len() - max).max(max / GIVEN_UP_SHARE);
        let now: HashSet<&ResourceKey> = now.iter().collect();
        let answered = |key: &&ResourceKey| view.get(key).is_some() && !now.contains(key);
        let mut candidates: Vec<&ResourceKey> = self.order.iter().filter(answered).collect();
        // Stable, so that the oldest stands first among its like.
        candidates.sort_by_key(|key| (!is_absent(view, key), self.returned.contains(*key)));
        let given_up: Vec<ResourceKey> = candidates.into_iter().take(count).cloned().collect();
        self.forget(&given_up);
        self.given_up.extend(given_up.iter().cloned());
        let remembered = self.given_up.len().min(max.min(REMEMBERED_MAX));
        self.given_up.drain(..self.given_up.len() - remembered);
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

/// Keys that were given up and are remembered, to tell which come back.
const REMEMBERED_MAX: usize = 4_096;
