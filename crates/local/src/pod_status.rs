//! The status of a pod, computed from what its containers do.
//!
//! Pure: what the kubelet observed goes in, the `status` of the Pod object comes out.

use std::collections::BTreeMap;

use ironmesh_dialects::kubernetes::kinds::{Container, Pod, RestartPolicy};
use ironmesh_dialects::schema::Quantity;
use serde_json::{Value, json};

use super::addresses::HOST_IP;

/// What the kubelet knows of a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodRecord {
    /// Address, once there is one.
    pub(crate) ip: Option<String>,
    /// When the kubelet took it.
    pub(crate) start_time: String,
    /// In the order of the manifest.
    pub(crate) init_containers: Vec<ContainerRecord>,
    /// In the order of the manifest.
    pub(crate) containers: Vec<ContainerRecord>,
    /// Whether the init containers are done: those that stay have started, the others ended well.
    /// That stays so if one that stays is restarted.
    pub(crate) initialized: bool,
    /// What the pod waits for before anything is made of it.
    pub(crate) unscheduled: Option<String>,
    /// Set if the pod as a whole cannot run.
    pub(crate) failure: Option<(String, String)>,
}

/// What the kubelet knows of a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerRecord {
    pub(crate) name: String,
    pub(crate) image: String,
    /// What the image is, if it is a real one.
    pub(crate) image_id: String,
    pub(crate) state: State,
    /// How it ended before.
    pub(crate) last: Option<Terminated>,
    /// Whether its startup probe succeeded (or it has none) since it runs.
    pub(crate) started: bool,
    /// Whether its readiness probe holds (or it has none) since it runs.
    pub(crate) ready: bool,
    pub(crate) restart_count: u32,
    /// Its process in the agent's PID namespace, while it runs.
    pub(crate) pid: Option<i32>,
    /// Whether it ends with the last application container, and does not keep the pod alive.
    pub(crate) is_sidecar: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    Waiting { reason: String, message: String },
    Running { since: String },
    Terminated(Terminated),
}

impl Default for State {
    fn default() -> Self {
        Self::waiting("ContainerCreating")
    }
}

impl State {
    pub(crate) fn waiting(reason: &str) -> Self {
        Self::Waiting { reason: reason.to_owned(), message: String::new() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terminated {
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: String,
    pub(crate) finished_at: String,
}

impl PodRecord {
    /// The record of a pod that was just taken.
    pub(crate) fn new(pod: &Pod, start_time: String) -> Self {
        let initializing = !pod.spec.init_containers.is_empty();
        let record = |container: &Container, waiting: &str| ContainerRecord {
            name: container.name.to_string(),
            image: container.image.clone(),
            state: State::waiting(waiting),
            ..ContainerRecord::default()
        };
        let waiting = if initializing { "PodInitializing" } else { "ContainerCreating" };
        Self {
            start_time,
            init_containers: pod
                .spec
                .init_containers
                .iter()
                .map(|container| record(container, "PodInitializing"))
                .collect(),
            containers: pod.spec.containers.iter().map(|c| record(c, waiting)).collect(),
            ..Self::default()
        }
    }

    /// Whether the applications may run: see [`initialized`](Self::initialized).
    pub(crate) fn is_initialized(&self) -> bool {
        self.initialized || self.init_containers.iter().all(ContainerRecord::ended_well)
    }

    /// Whether every container is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.failure.is_none() && self.is_initialized() && self.lasting().all(|c| c.ready)
    }

    /// How many containers are ready, of how many.
    pub(crate) fn ready_count(&self) -> String {
        let ready = self.lasting().filter(|c| c.ready).count();
        format!("{ready}/{}", self.lasting().count())
    }

    /// The containers that run as long as the pod does: the init containers that stay, too.
    fn lasting(&self) -> impl Iterator<Item = &ContainerRecord> {
        self.init_containers.iter().filter(|c| c.is_sidecar).chain(&self.containers)
    }

    /// Restarts of all containers.
    pub(crate) fn restarts(&self) -> u32 {
        self.containers.iter().chain(&self.init_containers).map(|c| c.restart_count).sum()
    }

    /// The phase, by Kubernetes' rules.
    pub(crate) fn phase(&self, policy: RestartPolicy) -> &'static str {
        if self.failure.is_some() {
            return "Failed";
        }
        if !self.is_initialized() {
            let failed = self
                .init_containers
                .iter()
                .any(|c| matches!(&c.state, State::Terminated(end) if end.exit_code != 0));
            return if failed && policy == RestartPolicy::Never { "Failed" } else { "Pending" };
        }
        let applications =
            || self.containers.iter().filter(|c| !c.is_sidecar || self.all_sidecars());
        let never_ran =
            applications().any(|c| matches!(c.state, State::Waiting { .. }) && c.last.is_none());
        if never_ran {
            return "Pending";
        }
        // What stays beside the applications ends after them, and the pod with it.
        let ended = applications().all(|c| matches!(c.state, State::Terminated(_)))
            && self.containers.iter().chain(&self.init_containers).all(|c| c.pid.is_none());
        if !ended || policy == RestartPolicy::Always {
            return "Running";
        }
        let failed = applications()
            .any(|c| matches!(&c.state, State::Terminated(end) if end.exit_code != 0));
        match (failed, policy) {
            (false, _) => "Succeeded",
            (true, RestartPolicy::Never) => "Failed",
            (true, _) => "Running",
        }
    }

    /// The `status` of the Pod object. `before` is the last one, whose transition times are kept
    /// for what has not changed.
    pub(crate) fn status(&self, pod: &Pod, before: &Value, now: &str) -> Value {
        if let Some(message) = &self.unscheduled {
            return json!({
                "phase": "Pending",
                "conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": message, "lastProbeTime": null, "lastTransitionTime": self.start_time,
                }],
                "qosClass": qos_class(pod),
            });
        }
        let phase = self.phase(pod.spec.restart_policy);
        let mut status = json!({
            "phase": phase,
            "conditions": self.conditions(phase, before, now),
            "hostIP": HOST_IP,
            "startTime": self.start_time,
            "qosClass": qos_class(pod),
            "containerStatuses": self.containers.iter().map(|c| c.status(pod)).collect::<Vec<_>>(),
        });
        if let Some(ip) = &self.ip {
            status["podIP"] = ip.as_str().into();
            status["podIPs"] = json!([{"ip": ip}]);
        }
        if !self.init_containers.is_empty() {
            let all: Vec<Value> = self.init_containers.iter().map(|c| c.status(pod)).collect();
            status["initContainerStatuses"] = all.into();
        }
        if let Some((reason, message)) = &self.failure {
            status["reason"] = reason.as_str().into();
            status["message"] = message.as_str().into();
        }
        status
    }

    fn conditions(&self, phase: &str, before: &Value, now: &str) -> Vec<Value> {
        let condition = |kind: &str, holds: bool, why: Option<(&str, String)>| {
            let status = if holds { "True" } else { "False" };
            let since = before["conditions"]
                .as_array()
                .and_then(|all| all.iter().find(|c| c["type"] == kind && c["status"] == status))
                .and_then(|c| c["lastTransitionTime"].as_str())
                .unwrap_or(now);
            let mut condition = json!({
                "type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since,
            });
            if let Some((reason, message)) = why {
                condition["reason"] = reason.into();
                if !message.is_empty() {
                    condition["message"] = message.into();
                }
            }
            condition
        };
        let (initialized, ready) = (self.is_initialized(), self.is_ready());
        let unready = (!ready).then(|| {
            if phase == "Succeeded" {
                return ("PodCompleted", String::new());
            }
            let names = names(self.lasting(), |container| !container.ready);
            ("ContainersNotReady", format!("containers with unready status: [{names}]"))
        });
        let uninitialized = (!initialized).then(|| {
            let names = names(&self.init_containers, |container| !container.ended_well());
            ("ContainersNotInitialized", format!("containers with incomplete status: [{names}]"))
        });
        vec![
            condition("Initialized", initialized, uninitialized),
            condition("Ready", ready, unready.clone()),
            condition("ContainersReady", ready, unready),
            condition("PodScheduled", true, None),
        ]
    }

    /// Whether all containers are the mesh's own, as in a gateway's pod.
    fn all_sidecars(&self) -> bool {
        self.containers.iter().all(|c| c.is_sidecar)
    }
}

impl ContainerRecord {
    /// Whether it ended, with success.
    pub(crate) fn ended_well(&self) -> bool {
        matches!(&self.state, State::Terminated(end) if end.exit_code == 0)
    }

    fn status(&self, pod: &Pod) -> Value {
        let id = |pid: Option<i32>| {
            pid.map_or_else(String::new, |pid| format!("ironmesh://{}/{pid}", pod.metadata.uid))
        };
        let terminated = |end: &Terminated| {
            let mut terminated = json!({
                "exitCode": end.exit_code,
                "reason": end.reason,
                "startedAt": end.started_at,
                "finishedAt": end.finished_at,
            });
            if let Some(signal) = end.signal {
                terminated["signal"] = signal.into();
            }
            if !end.message.is_empty() {
                terminated["message"] = end.message.as_str().into();
            }
            json!({"terminated": terminated})
        };
        let state = match &self.state {
            State::Waiting { reason, message } if message.is_empty() => {
                json!({"waiting": {"reason": reason}})
            }
            State::Waiting { reason, message } => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            State::Running { since } => json!({"running": {"startedAt": since}}),
            State::Terminated(end) => terminated(end),
        };
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": self.image_id,
            "containerID": id(self.pid),
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restart_count,
            "state": state,
            "lastState": self.last.as_ref().map_or_else(|| json!({}), terminated),
        })
    }
}

/// The names of some containers, as Kubernetes lists them.
fn names<'a>(
    containers: impl IntoIterator<Item = &'a ContainerRecord>,
    which: impl Fn(&ContainerRecord) -> bool,
) -> String {
    let containers = containers.into_iter().filter(|c| which(c));
    let names: Vec<&str> = containers.map(|c| c.name.as_str()).collect();
    names.join(" ")
}

/// The quality-of-service class, by Kubernetes' rules.
fn qos_class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in pod.spec.containers.iter().chain(&pod.spec.init_containers) {
        let resources = &container.resources;
        any |= !resources.limits.is_empty() || !resources.requests.is_empty();
        for name in ["cpu", "memory"] {
            let amount = |given: &BTreeMap<String, Quantity>| given.get(name)?.thousandths();
            let limit = amount(&resources.limits);
            let request = amount(&resources.requests).or(limit);
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests;
