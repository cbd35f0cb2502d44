//! One pod, from its address to its end.

use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kubernetes::kinds::{Container, Pod};
use ironmesh_dialects::kubernetes::sysctls::safe;
use ironmesh_model::bootstrap::ListenerRole;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Instant;

use super::container::{Kind, Slot, supervise};
use super::handler::ProbeChannel;
use super::tokens::Tokens;
use super::{claims, cordon, host_ports, publish, tokens, volumes};
use crate::addresses::GATEWAY;
use crate::clock;
use crate::events::EventKind;
use crate::images::Image;
use crate::node::Node;
use crate::path_name::PathName;
use crate::pod_status::{ContainerRecord, PodRecord, Terminated};
use crate::sandbox::SandboxError;
use crate::sandbox::container::ProgramLimits;
use crate::sandbox::namespaces::PodUsers;
use crate::sandbox::pod::{PodSandbox, PodSpec};
use crate::sandbox::user_ranges::{UserRange, UserRanges};

/// A pod that is here.
pub(crate) struct PodState {
    pub(crate) node: Rc<Node>,
    pub(crate) uid: PathName,
    /// Its users, where the mesh was started by root.
    pub(crate) users: Option<UserRange>,
    /// The pod as last seen; of its containers only the images change.
    pub(crate) pod: RefCell<Pod>,
    /// The same as the API gave it.
    pub(crate) object: RefCell<Value>,
    pub(crate) record: RefCell<PodRecord>,
    /// Rung when the pod changes.
    updated: watch::Sender<()>,
    /// Rung when the record changes.
    pub(crate) changed: Notify,
    /// Set once the namespaces are made.
    pub(crate) sandbox: OnceCell<Arc<PodSandbox>>,
    /// First processes of the containers that run, by name, for commands inside.
    pub(crate) inits: RefCell<HashMap<String, Inside>>,
    /// What the containers that run read as their standard input, by name, where their manifest has one.
    pub(crate) inputs: RefCell<HashMap<String, Rc<OwnedFd>>>,
    /// Listening sockets of the pod's proxy, made once, so that a restart keeps their queues.
    pub(crate) listeners: RefCell<HashMap<(ListenerRole, u16), TcpListener>>,
    /// To the pod's proxy, to ask whether it is ready; away while it is asked.
    pub(crate) probes: RefCell<Option<ProbeChannel>>,
    /// Those of a gateway's ports, likewise.
    pub(crate) edge_listeners: RefCell<HashMap<u16, TcpListener>>,
    /// Likewise, at the targets to which Services lead them: by target, with the gateway's port.
    pub(crate) edge_targets: RefCell<BTreeMap<u16, (u16, TcpListener)>>,
    /// Rung when ports of a gateway have other sockets, on the host or at the targets of Services.
    pub(crate) ports_moved: Notify,
    /// The seconds of grace, once the pod is told to end.
    deletion: watch::Sender<Option<u64>>,
    /// When that grace is over.
    deadline: Cell<Option<Instant>>,
    /// What is to end because the applications have.
    end: watch::Sender<End>,
    /// Tokens of its service account.
    pub(crate) tokens: Tokens,
    is_published_ready: Cell<bool>,
    follower: RefCell<Option<Value>>,
}

/// What ends after a pod's applications: first the init containers that stay, the last one first, then
/// the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    None,
    /// Those from this index on.
    Staying(Reverse<usize>),
    Proxies,
}

impl End {
    /// From when on a container is to end; none: from when its pod is.
    fn of(slot: Slot) -> Option<Self> {
        match (slot.is_proxy(), slot.stays) {
            (true, _) => Some(Self::Proxies),
            (false, true) => Some(Self::Staying(Reverse(slot.index))),
            (false, false) => None,
        }
    }
}

/// What a command needs that is to run inside a container.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    pub(crate) init: i32,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) limits: ProgramLimits,
    pub(crate) image: Image,
    /// The cgroup that bounds its memory.
    pub(crate) cgroup: Option<Rc<OwnedFd>>,
}

impl PodState {
    pub(crate) fn new(node: Rc<Node>, pod: Pod, uid: PathName, object: Value) -> Self {
        Self {
            users: node.users.as_ref().and_then(UserRanges::take),
            node,
            uid,
            record: RefCell::new(PodRecord::new(&pod, clock::now())),
            pod: RefCell::new(pod),
            object: RefCell::new(object),
            updated: watch::Sender::new(()),
            changed: Notify::new(),
            sandbox: OnceCell::new(),
            inits: RefCell::default(),
            inputs: RefCell::default(),
            listeners: RefCell::default(),
            probes: RefCell::default(),
            edge_listeners: RefCell::default(),
            edge_targets: RefCell::default(),
            ports_moved: Notify::new(),
            deletion: watch::Sender::new(None),
            deadline: Cell::new(None),
            end: watch::Sender::new(End::None),
            tokens: Tokens::default(),
            is_published_ready: Cell::new(false),
            follower: RefCell::new(None),
        }
    }

    /// Notes a newer state of the same object.
    pub(crate) fn update(&self, pod: Pod, object: Value) {
        let (relabelled, annotated) = {
            let (old, new) = (&self.pod.borrow().metadata, &pod.metadata);
            (old.labels != new.labels, old.annotations != new.annotations)
        };
        *self.pod.borrow_mut() = pod;
        *self.object.borrow_mut() = object;
        self.updated.send_replace(());
        if relabelled {
            self.node.note_topology();
        }
        if relabelled || annotated {
            self.node.configuration.notify_one();
        }
    }

    /// Notes another pod of the same name, which is to begin when this one has ended.
    pub(crate) fn follow_with(&self, object: Value) {
        *self.follower.borrow_mut() = Some(object);
    }

    pub(crate) fn take_follower(&self) -> Option<Value> {
        self.follower.borrow_mut().take()
    }

    /// Ends the pod; a shorter grace than one that was given before wins.
    pub(crate) fn stop(&self, grace_seconds: u64) {
        let is_news = self.deletion.send_if_modified(|grace| {
            let shorter = grace.is_none_or(|before| grace_seconds < before);
            if shorter {
                *grace = Some(grace_seconds);
            }
            shorter
        });
        if is_news {
            let given = Instant::now() + Duration::from_secs(grace_seconds);
            self.deadline.set(self.deadline.get().map_or(given, |before| before.min(given)).into());
            self.node.note_topology();
        }
    }

    /// The seconds of grace, once the pod is told to end; to be watched.
    pub(crate) fn deletion(&self) -> watch::Receiver<Option<u64>> {
        self.deletion.subscribe()
    }

    /// The seconds that an init container that stays has to end after the applications of a pod that is
    /// deleted: what they have left of the grace, but some time at least; none if it is not deleted.
    pub(crate) fn grace_left(&self) -> Option<u64> {
        let given = (*self.deletion.borrow())?;
        let left = self.deadline.get()?.saturating_duration_since(Instant::now());
        Some(grace_after_applications(given, left))
    }

    /// Returns when a container that ends after the applications is to end.
    pub(crate) async fn told_to_end_after(&self, slot: Slot) {
        let at = End::of(slot);
        // It cannot be closed: the state itself holds its sender.
        let _ = self.end.subscribe().wait_for(|end| Some(*end) >= at).await;
    }

    /// Whether a container that ends after the applications is to end; none if it is no such one.
    pub(crate) fn is_told_to_end_after(&self, slot: Slot) -> Option<bool> {
        End::of(slot).map(|at| *self.end.borrow() >= at)
    }

    /// Returns when the pod is told to end.
    pub(crate) async fn told_to_end(&self) {
        // It cannot be closed: the state itself holds its sender.
        let _ = self.deletion().wait_for(Option::is_some).await;
    }

    /// Whether the pod was told to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.deletion.borrow().is_some()
    }

    /// Whether any of its processes runs.
    pub(crate) fn runs(&self) -> bool {
        let record = self.record.borrow();
        record.containers.iter().chain(&record.init_containers).any(|c| c.pid.is_some())
    }

    /// Whether Services send traffic to it.
    pub(crate) fn takes_traffic(&self) -> bool {
        !self.is_ending() && self.record.borrow().is_ready()
    }

    /// Its address, once it has one.
    pub(crate) fn ip(&self) -> Option<Ipv4Addr> {
        self.sandbox.get().map(|sandbox| sandbox.ip())
    }

    /// The manifest of the container of a slot.
    pub(crate) fn container(&self, slot: Slot) -> Container {
        let pod = self.pod.borrow();
        let all = if slot.is_init { &pod.spec.init_containers } else { &pod.spec.containers };
        all.get(slot.index).cloned().unwrap_or_default()
    }

    /// Returns when the image of the container of a slot is another than this one.
    pub(crate) async fn image_changes(&self, slot: Slot, image: &str) {
        // It cannot be closed: the state itself holds its sender.
        let _ = self.updated.subscribe().wait_for(|()| self.container(slot).image != image).await;
    }

    /// Where the log of a container is.
    pub(crate) fn log(&self, container: &str) -> PathBuf {
        let pod = self.pod.borrow();
        self.node.logs.container(&pod.metadata.namespace, &pod.metadata.name, container)
    }

    /// Changes the record of a container, and lets it be known.
    pub(crate) fn change<T>(
        &self,
        slot: Slot,
        change: impl FnOnce(&mut ContainerRecord) -> T,
    ) -> T {
        let mut record = self.record.borrow_mut();
        let all = if slot.is_init { &mut record.init_containers } else { &mut record.containers };
        let result = change(&mut all[slot.index]);
        drop(record);
        self.note_change();
        result
    }

    /// Lets a change of the record be known.
    pub(crate) fn note_change(&self) {
        let ready = self.record.borrow().is_ready();
        if self.is_published_ready.replace(ready) != ready {
            self.node.note_topology();
        }
        self.changed.notify_one();
    }

    /// Records an event of the pod, or of a container.
    pub(crate) fn event(
        &self,
        container: Option<&str>,
        kind: EventKind,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let pod = self.pod.borrow();
        self.node.events.record(&pod.metadata, container, kind, reason, message.into());
    }

    /// Whether its proxy is a gateway.
    pub(crate) fn is_gateway(&self) -> bool {
        self.slots(false).iter().any(|slot| slot.kind == Kind::Gateway)
    }

    pub(crate) fn slots(&self, is_init: bool) -> Vec<Slot> {
        let pod = self.pod.borrow();
        let all = if is_init { &pod.spec.init_containers } else { &pod.spec.containers };
        all.iter().enumerate().map(|(index, c)| Slot::new(is_init, index, c)).collect()
    }
}

/// Runs a pod to its end, and deletes its object once it was told to end.
pub(crate) async fn run(state: Rc<PodState>) {
    let publishing = spawn_local(publish::publish(Rc::clone(&state)));
    state.note_change();
    if state.users.is_none() && state.node.users.is_some() {
        let most = state.node.limits.platform.pods_max;
        let message = format!("the mesh has {most} pods already: raise limits.platform.pods_max");
        state.event(None, EventKind::Warning, "NoUsers", message.clone());
        state.record.borrow_mut().failure = Some(("NoUsers".to_owned(), message));
        state.note_change();
        state.told_to_end().await;
    } else if let Some(ip) = state.node.addresses.take() {
        let prepared = tokio::select! {
            () = prepare(&state, ip) => true,
            () = state.told_to_end() => false,
        };
        if prepared {
            live(&state).await;
        }
        // One that ended by itself stays, as an object, until it is deleted.
        state.told_to_end().await;
        state.node.addresses.give_back(ip);
    } else {
        let failure = ("NoAddress".to_owned(), "all addresses of pods are used".to_owned());
        state.record.borrow_mut().failure = Some(failure);
        state.note_change();
        state.told_to_end().await;
    }
    state.edge_listeners.borrow_mut().clear();
    state.edge_targets.borrow_mut().clear();
    state.node.exposure.changed.notify_one();
    state.node.host_ports.give_back(&state.uid);
    publishing.abort();
    publish::delete(&state).await;
    volumes::remove(&state);
    if !state.node.is_ending.get() {
        let pod = state.pod.borrow();
        state.node.logs.remove(&pod.metadata.namespace, &pod.metadata.name);
    }
}

/// Makes namespaces and volumes; tries again until it works.
async fn prepare(state: &Rc<PodState>, ip: Ipv4Addr) {
    cordon::wait(state).await;
    host_ports::wait(state).await;
    state.event(None, EventKind::Normal, "Scheduled", {
        let pod = state.pod.borrow();
        let meta = &pod.metadata;
        format!("Successfully assigned {}/{} to ironmesh", meta.namespace, meta.name)
    });
    let spec = PodSpec {
        index: u32::from(ip) & 0xffff,
        ip,
        gateway: GATEWAY,
        hostname: state.pod.borrow().hostname().to_owned(),
        sysctls: sysctls(&state.pod.borrow()),
        users: state.users.as_ref().map(|users| PodUsers {
            base: users.base(),
            proxy: users.proxy(),
            processes_max: state.node.limits.platform.processes_max,
        }),
    };
    tokio::join!(make_sandbox(state, &spec), make_tokens(state));
    state.record.borrow_mut().ip = Some(ip.to_string());
    state.note_change();
    // Ports of the node lead to it from now on.
    state.node.note_topology();
    wait_for_claims(state).await;
    loop {
        match volumes::make(state) {
            Ok(()) => return,
            Err(error) => {
                let message = format!("MountVolume.SetUp failed: {error}");
                state.event(None, EventKind::Warning, "FailedMount", message);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// The settings of the kernel that a pod asks for and gets.
fn sysctls(pod: &Pod) -> Vec<(&'static str, String)> {
    let asked = &pod.spec.security_context.sysctls;
    asked.iter().filter_map(|s| Some((safe(&s.name)?, s.value.clone()))).collect()
}

/// Makes the tokens that the pod begins with; tries again until it works.
async fn make_tokens(state: &PodState) {
    while let Err(error) = tokens::renew(state).await {
        let message = format!("MountVolume.SetUp failed: failed to fetch token: {error}");
        state.event(None, EventKind::Warning, "FailedMount", message);
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Makes the namespaces; tries again until it works.
async fn make_sandbox(state: &PodState, spec: &PodSpec) {
    loop {
        let spec = spec.clone();
        match blocking(move || PodSandbox::create(&spec)).await {
            Ok(sandbox) => {
                // It is set here alone, once.
                let _ = state.sandbox.set(Arc::new(sandbox));
                break;
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                state.event(None, EventKind::Warning, "FailedCreatePodSandBox", message);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Waits until the claims of the pod are there; says so if that takes a while.
async fn wait_for_claims(state: &PodState) {
    let mut looks = 0_u32;
    while let Some(claim) = claims::missing(state) {
        looks = looks.saturating_add(1);
        if looks == LOOKS_BEFORE_WORD {
            let message =
                format!("0/1 nodes are available: persistentvolumeclaim \"{claim}\" not found.");
            state.event(None, EventKind::Warning, "FailedScheduling", message);
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Starts everything in order: proxies, init containers, applications; and ends it in order, once
/// the applications ended for good or the pod is told to end.
async fn live(state: &Rc<PodState>) {
    let (own, others): (Vec<Slot>, Vec<Slot>) =
        state.slots(false).into_iter().partition(|slot| slot.is_proxy());
    let mut proxies = JoinSet::new();
    for slot in &own {
        state.change(*slot, |record| record.is_sidecar = true);
        proxies.spawn_local(supervise(Rc::clone(state), *slot));
    }
    if state.pod.borrow().spec.host_network {
        let message = "hostNetwork is not supported here: the pod has a network of its own";
        state.event(None, EventKind::Warning, "HostNetwork", message);
    }
    wait_for_proxies(state, &own).await;
    let mut staying = JoinSet::new();
    if initialize(state, &mut staying).await {
        let mut applications = JoinSet::new();
        for slot in &others {
            applications.spawn_local(supervise(Rc::clone(state), *slot));
        }
        while applications.join_next().await.is_some() {}
        if others.is_empty() {
            // A gateway lives as long as its proxy.
            state.told_to_end().await;
        }
    }
    end_staying(state, staying).await;
    state.end.send_replace(End::Proxies);
    while proxies.join_next().await.is_some() {}
}

/// Ends the init containers that stay, one after the other, in the reverse order of their start.
async fn end_staying(state: &PodState, mut staying: JoinSet<()>) {
    let begun = state.slots(true).into_iter().filter(|slot| slot.stays).take(staying.len());
    for slot in begun.collect::<Vec<_>>().into_iter().rev() {
        state.end.send_replace(End::Staying(Reverse(slot.index)));
        // Those before it do not end yet.
        staying.join_next().await;
    }
}

/// Of a grace of `given` seconds, of which the applications have `left` some, those that the next
/// container has.
fn grace_after_applications(given: u64, left: Duration) -> u64 {
    let left = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    left.max(GRACE_LEFT_SECONDS_MIN).min(given)
}

/// Runs the init containers in order, each to its end or, if it stays, until it has started;
/// whether all went well and the applications may start.
async fn initialize(state: &Rc<PodState>, staying: &mut JoinSet<()>) -> bool {
    for slot in state.slots(true) {
        if slot.stays {
            state.change(slot, |record| record.is_sidecar = true);
            staying.spawn_local(supervise(Rc::clone(state), slot));
            let has_started = || state.record.borrow().init_containers[slot.index].started;
            let started = async {
                while !has_started() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = started => {}
                () = state.told_to_end() => return false,
            }
            continue;
        }
        supervise(Rc::clone(state), slot).await;
        if !state.record.borrow().init_containers[slot.index].ended_well() {
            return false;
        }
    }
    state.record.borrow_mut().initialized = true;
    state.note_change();
    !state.is_ending()
}

/// Waits until the proxies are ready, so that the applications find their network; not for ever,
/// as the control plane may be away.
async fn wait_for_proxies(state: &Rc<PodState>, own: &[Slot]) {
    let ready = async {
        while !own.iter().all(|slot| state.record.borrow().containers[slot.index].ready) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = ready => {}
        () = tokio::time::sleep(state.node.limits.platform.proxy_start_timeout) => {
            let message = "the proxy is not ready; the containers start without it";
            state.event(None, EventKind::Warning, "ProxyNotReady", message);
        }
        () = state.told_to_end() => {}
    }
}

/// Runs blocking work on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| Err(SandboxError::new("finish", error, 0)))
}

/// A process that ended, for a record.
pub(crate) fn terminated(exit_code: i32, started_at: String) -> Terminated {
    let signal = (exit_code > 128 && exit_code <= 128 + 64).then_some(exit_code - 128);
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    Terminated {
        exit_code,
        signal,
        reason: reason.to_owned(),
        message: String::new(),
        started_at,
        finished_at: clock::now(),
    }
}

/// How often it is looked whether what a pod waits for is there.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How often in vain before that is told.
const LOOKS_BEFORE_WORD: u32 = 25;
/// Pause before what could not be made is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Least that is left of a grace for an init container that stays, as Kubernetes has it.
const GRACE_LEFT_SECONDS_MIN: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_last_has_what_is_left_of_the_grace() {
        let left = |given, millis| grace_after_applications(given, Duration::from_millis(millis));
        assert_eq!(left(30, 12_300), 13);
        assert_eq!(left(30, 0), 2);
        assert_eq!(left(1, 0), 1);
        assert_eq!(left(0, 0), 0);
    }
}
