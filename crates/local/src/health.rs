//! Probes of workloads that are none of the platform's: WorkloadEntries of a WorkloadGroup with a probe.
//! What they tell is the condition `Healthy` of the entry, where Istio has it, too; the control plane
//! goes by that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ironmesh_dialects::istio::workload_group::{
    HealthCheck, HealthChecks, is_known, with_condition,
};
use ironmesh_model::Name;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep};

use crate::clock;
use crate::egress::dial_workload;
use crate::kubelet::handler::probe_by;
use crate::node::Node;
use crate::reflector::{Change, follow};

/// Follows groups and entries and probes these, for ever.
pub(crate) async fn run(node: Rc<Node>) {
    let waiting_max = node.limits.platform.changes_waiting_max;
    let (sender, mut groups) = mpsc::channel(waiting_max);
    spawn_local(follow(node.api.clone(), GROUPS, sender));
    let (sender, mut entries) = mpsc::channel(waiting_max);
    spawn_local(follow(node.api.clone(), ENTRIES, sender));
    let mut checks = HealthChecks::default();
    let (mut has_groups, mut has_entries) = (false, false);
    let mut running = Running {
        turns: Rc::new(Semaphore::new(node.limits.platform.health_checks_at_once_max)),
        node,
        probes: BTreeMap::new(),
    };
    loop {
        tokio::select! {
            Some(change) = groups.recv() => match change {
                Change::Is(group) => checks.put_group(&group),
                Change::Gone((namespace, name)) => checks.take_group(&namespace, &name),
                Change::Synced => has_groups = true,
            },
            Some(change) = entries.recv() => match change {
                Change::Is(entry) => checks.put_entry(&entry),
                Change::Gone((namespace, name)) => checks.take_entry(&namespace, &name),
                Change::Synced => has_entries = true,
            },
            else => return,
        }
        // Until all are known, one without a group may have one.
        if has_groups && has_entries && groups.is_empty() && entries.is_empty() {
            running.settle(&checks);
        }
    }
}

/// The probes that run.
struct Running {
    node: Rc<Node>,
    turns: Rc<Semaphore>,
    probes: BTreeMap<(Name, Name), (HealthCheck, AbortHandle)>,
}

impl Running {
    /// Begins the probes that are wanted, and ends the others.
    fn settle(&mut self, checks: &HealthChecks) {
        let mut wanted = checks.checks();
        self.probes.retain(|key, (check, probe)| {
            let stays = wanted.get(key) == Some(check);
            if stays {
                wanted.remove(key);
            } else {
                probe.abort();
            }
            stays
        });
        for (key, check) in wanted {
            let (node, turns) = (Rc::clone(&self.node), Rc::clone(&self.turns));
            let probe = spawn_local(probe(node, turns, key.clone(), check.clone()));
            self.probes.insert(key, (check, probe.abort_handle()));
        }
        for (namespace, name) in checks.left_over() {
            let node = Rc::clone(&self.node);
            spawn_local(async move { tell(&node, &namespace, &name, None).await });
        }
    }
}

/// Probes one workload for ever, and tells each verdict.
async fn probe(
    node: Rc<Node>,
    turns: Rc<Semaphore>,
    (namespace, name): (Name, Name),
    check: HealthCheck,
) {
    let HealthCheck { address, probe } = &check;
    tell_first(&node, &namespace, &name).await;
    let mut told: Option<(bool, String)> = None;
    sleep(Duration::from_secs(probe.initial_delay_seconds.get().into())).await;
    let period = Duration::from_secs(probe.period_seconds.get().into());
    let (mut successes, mut failures) = (0_u32, 0_u32);
    loop {
        let began = Instant::now();
        let dial = async |port| {
            let to = SocketAddr::new(*address, port);
            let dialled = dial_workload(&node, to).await;
            dialled.map_err(|error| format!("dial tcp {to}: {error}"))
        };
        let turn = turns.acquire().await;
        let asked = probe_by(probe, dial).await;
        drop(turn);
        let verdict = match &asked {
            Ok(()) => {
                (successes, failures) = (successes.saturating_add(1), 0);
                (successes >= probe.success_threshold.get()).then_some((true, "it answers"))
            }
            Err(error) => {
                (successes, failures) = (0, failures.saturating_add(1));
                (failures >= probe.failure_threshold.get()).then_some((false, error.as_str()))
            }
        };
        if let Some((is_healthy, message)) = verdict
            && told.as_ref().is_none_or(|told| (told.0, &*told.1) != (is_healthy, message))
            && tell(&node, &namespace, &name, Some((is_healthy, message))).await
        {
            told = Some((is_healthy, message.to_owned()));
        }
        sleep(period.saturating_sub(began.elapsed())).await;
    }
}

/// An entry that nobody has asked yet takes no requests.
async fn tell_first(node: &Node, namespace: &str, name: &str) {
    let Ok(entry) = node.api.get(&path(namespace, name)).await else { return };
    if !is_known(&entry["status"]) {
        tell(node, namespace, name, Some((false, "it has not been asked yet"))).await;
    }
}

/// Writes the condition of an entry, or takes it away. Whether that was done; if not, it is tried again
/// with the next answer.
async fn tell(node: &Node, namespace: &str, name: &str, healthy: Option<(bool, &str)>) -> bool {
    let path = path(namespace, name);
    let told = async {
        let mut entry = node.api.get(&path).await?;
        entry["status"] = with_condition(&entry["status"], healthy, &clock::now());
        node.api.put(&format!("{path}/status"), &entry).await
    };
    match told.await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(namespace, name, %error, "the health of a workload was not written");
            false
        }
    }
}

fn path(namespace: &str, name: &str) -> String {
    format!("{NAMESPACES}/{namespace}/workloadentries/{name}")
}

/// Where the API has them.
const GROUPS: &str = "/apis/networking.istio.io/v1/workloadgroups";
const ENTRIES: &str = "/apis/networking.istio.io/v1/workloadentries";
const NAMESPACES: &str = "/apis/networking.istio.io/v1/namespaces";
