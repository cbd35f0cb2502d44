//! One container: started, watched, restarted by its pod's policy, ended.

use std::rc::Rc;
use std::time::Duration;

use ironmesh_dialects::kubernetes::kinds::{Container, RestartPolicy};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::pod::{PodState, terminated};
use super::{handler, launch, probe, proxy, termination};
use crate::backoff::Backoff;
use crate::clock;
use crate::events::EventKind;
use crate::host_link::MemoryLimit;
use crate::pod_status::{ContainerRecord, State};
use crate::reaper::ExitStatus;

/// Which container of a pod, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) is_init: bool,
    pub(crate) index: usize,
    pub(crate) kind: Kind,
    /// Whether it is an init container with `restartPolicy: Always`: it runs beside the
    /// applications until they have ended.
    pub(crate) stays: bool,
}

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A program of the user's.
    Application,
    /// The init container that installs the capture rules.
    Capture,
    /// The proxy of an injected pod.
    Sidecar,
    /// The proxy of a gateway.
    Gateway,
}

impl Slot {
    pub(crate) fn new(is_init: bool, index: usize, container: &Container) -> Self {
        let is_own = container.image.split(':').next() == Some(OWN_IMAGE);
        let args: Vec<&str> = container.args.iter().map(String::as_str).collect();
        let kind = match (is_own, args.as_slice()) {
            (true, ["capture", ..]) => Kind::Capture,
            (true, ["proxy", "router", ..]) => Kind::Gateway,
            (true, ["proxy", ..]) => Kind::Sidecar,
            _ => Kind::Application,
        };
        let stays = is_init && kind == Kind::Application && container.stays();
        Self { is_init, index, kind, stays }
    }

    /// Whether it is the mesh's own proxy.
    pub(crate) fn is_proxy(self) -> bool {
        matches!(self.kind, Kind::Sidecar | Kind::Gateway)
    }
}

/// A container whose program runs.
pub(crate) struct Running {
    /// Its process in the agent's PID namespace; its end is the container's.
    pub(crate) pid: i32,
    pub(crate) ended: oneshot::Receiver<ExitStatus>,
    /// What bounds its memory.
    pub(crate) memory: Option<MemoryLimit>,
    /// What its image is, if it is a real one.
    pub(crate) image_id: String,
}

/// Why a container did not come to run.
#[derive(Clone, Debug)]
pub(crate) enum NotStarted {
    /// Its image cannot be had.
    Image(NoImage),
    /// Something that it refers to is not there.
    Config(String),
    /// The program could not be started.
    Program(String),
}

/// Why there is no image.
#[derive(Clone, Debug)]
pub(crate) struct NoImage {
    /// Kubernetes' word for it.
    pub(crate) reason: &'static str,
    /// And that while it waits for another attempt.
    pub(crate) then: &'static str,
    /// Why.
    pub(crate) message: String,
}

impl From<String> for NoImage {
    fn from(message: String) -> Self {
        Self { reason: "ErrImagePull", then: "ImagePullBackOff", message }
    }
}

/// Runs a container until it ended for good, or its pod told it to end.
pub(crate) async fn supervise(state: Rc<PodState>, slot: Slot) {
    let policy = state.pod.borrow().spec.restart_policy;
    let limits = &state.node.limits.platform;
    let application = Backoff::application(limits);
    let mut backoff = if slot.is_proxy() { Backoff::own_process() } else { application };
    let mut fruitless = application;
    let (mut runs, mut restarts) = (0_u32, 0_u32);
    while !is_told_to_end(&state, slot) {
        if runs > restarts {
            restarts = runs;
            state.change(slot, |record| record.restart_count += 1);
        }
        let since = Instant::now();
        let container = state.container(slot);
        let exit = match launch(&state, slot, &container).await {
            Ok(None) => return done(&state, slot),
            Ok(Some(running)) => watch(&state, slot, &container, running).await,
            Err(NotStarted::Program(message)) => {
                not_run(&state, slot, &message);
                128
            }
            Err(error) => {
                let pause = match &error {
                    NotStarted::Image(_) => {
                        fruitless.pause(Duration::ZERO).max(limits.image_retry_pause)
                    }
                    _ => limits.config_retry_pause,
                };
                tokio::select! {
                    () = wait_fruitless(&state, slot, &error, pause) => {}
                    () = state.image_changes(slot, &container.image) => {}
                    () = state.node.images.change(), if matches!(error, NotStarted::Image(_)) => {}
                }
                continue;
            }
        };
        runs += 1;
        if state.container(slot).image != container.image {
            // Nothing failed: the new one is started at once.
            wait_for_restart(&state, slot, &container, Duration::ZERO).await;
            continue;
        }
        let ends_for_good = match policy {
            _ if slot.is_proxy() || slot.stays => false,
            RestartPolicy::Always => slot.is_init && exit == 0,
            RestartPolicy::OnFailure => exit == 0,
            RestartPolicy::Never => true,
        };
        if ends_for_good || is_told_to_end(&state, slot) {
            return;
        }
        let pause = backoff.pause(since.elapsed());
        tokio::select! {
            () = wait_for_restart(&state, slot, &container, pause) => {}
            () = state.image_changes(slot, &container.image) => {}
        }
    }
}

async fn launch(
    state: &Rc<PodState>,
    slot: Slot,
    container: &Container,
) -> Result<Option<Running>, NotStarted> {
    match slot.kind {
        Kind::Application => launch::launch(state, container).await.map(Some),
        Kind::Capture => proxy::capture(state).await.map(|()| None),
        Kind::Sidecar | Kind::Gateway => proxy::launch(state, slot, container).await.map(Some),
    }
}

/// Follows a running container to its end: hook, probes, the pod's end.
async fn watch(
    state: &Rc<PodState>,
    slot: Slot,
    container: &Container,
    mut running: Running,
) -> ExitStatus {
    let (since, began) = (clock::now(), Instant::now());
    let pid = running.pid;
    let memory = running.memory.take();
    state.change(slot, |record| {
        record.state = State::Running { since: since.clone() };
        record.image.clone_from(&container.image);
        record.image_id.clone_from(&running.image_id);
        record.pid = Some(pid);
        record.ready &= slot.is_proxy();
        if container.lifecycle.post_start.is_none() {
            note_start(record, container);
        }
    });
    let name = Some(container.name.as_str());
    state.event(
        name,
        EventKind::Normal,
        "Started",
        format!("Started container {}", container.name),
    );
    let exit = tokio::select! {
        exit = &mut running.ended => exit.unwrap_or(255),
        () = healthy(state, slot, container, began) => {
            let grace = grace(state);
            end(state, slot, container, running, grace).await
        }
        grace = told_to_end(state, slot) => end(state, slot, container, running, grace).await,
        () = state.image_changes(slot, &container.image) => {
            let message = format!("Container {} definition changed, will be restarted", container.name);
            state.event(name, EventKind::Normal, "Killing", message);
            let grace = grace(state);
            end(state, slot, container, running, grace).await
        }
    };
    state.inits.borrow_mut().remove(container.name.as_str());
    state.inputs.borrow_mut().remove(container.name.as_str());
    // Who waits for the end reads all that was written before.
    state.node.logs.end(state.log(&container.name)).await;
    let is_ending = is_told_to_end(state, slot);
    let message = match slot.kind {
        Kind::Application => termination::message(state, container, exit),
        _ => String::new(),
    };
    let had_too_much = exit == KILLED && memory.as_ref().is_some_and(MemoryLimit::has_killed);
    if let Some(memory) = memory {
        state.node.host.unlimit_memory(memory).await;
    }
    state.change(slot, |record| {
        record.pid = None;
        // Connections to a proxy that ended by itself wait in its sockets for the next one, so the
        // pod stays ready for a moment.
        record.ready &= slot.is_proxy() && !is_ending;
        record.started = false;
        let mut end = terminated(exit, since);
        end.message = message;
        if had_too_much {
            OOM_KILLED.clone_into(&mut end.reason);
        }
        record.state = State::Terminated(end);
    });
    exit
}

/// Records what is true of a container from its start on, the hook after it included, if no probe
/// is to say otherwise.
fn note_start(record: &mut ContainerRecord, container: &Container) {
    record.started = container.startup_probe.is_none();
    record.ready |= record.started && container.readiness_probe.is_none();
}

/// Runs the hook after the start, then the probes; returns when the container must be restarted.
async fn healthy(state: &Rc<PodState>, slot: Slot, container: &Container, began: Instant) {
    if let Some(hook) = &container.lifecycle.post_start {
        let time = state.node.limits.platform.hook_timeout;
        if let Err(error) = handler::run(state, container, hook.into(), time).await {
            let message = format!("PostStartHook failed: {error}");
            state.event(Some(&container.name), EventKind::Warning, "FailedPostStartHook", message);
            return;
        }
        state.change(slot, |record| note_start(record, container));
    }
    probe::run_all(state, slot, container, began).await;
}

/// Ends a running container: the hook before the stop, SIGTERM, and SIGKILL after the grace, which
/// the pod may shorten meanwhile.
async fn end(
    state: &Rc<PodState>,
    slot: Slot,
    container: &Container,
    mut running: Running,
    grace: u64,
) -> ExitStatus {
    let name = Some(container.name.as_str());
    state.event(
        name,
        EventKind::Normal,
        "Killing",
        format!("Stopping container {}", container.name),
    );
    state.change(slot, |record| record.ready = false);
    let mut deletion = state.deletion();
    let hook_and_signal = async {
        if let (Some(hook), true) = (&container.lifecycle.pre_stop, grace > 0) {
            let time = Duration::from_secs(grace);
            if let Err(error) = handler::run(state, container, hook.into(), time).await {
                let message = format!("PreStopHook failed: {error}");
                state.event(name, EventKind::Warning, "FailedPreStopHook", message);
            }
        }
        send(running.pid, Signal::SIGTERM);
        std::future::pending::<()>().await;
    };
    // A grace that is given meanwhile counts from then on, and can only shorten the end.
    let deadline = async {
        let mut deadline = Instant::now() + Duration::from_secs(grace);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                // It cannot be closed: the state itself holds its sender.
                _ = deletion.changed() => {
                    let given = deletion.borrow_and_update().unwrap_or(grace);
                    deadline = deadline.min(Instant::now() + Duration::from_secs(given));
                }
            }
        }
    };
    tokio::select! {
        biased;
        exit = &mut running.ended => return exit.unwrap_or(255),
        () = deadline => {}
        () = hook_and_signal => {}
    }
    send(running.pid, Signal::SIGKILL);
    running.ended.await.unwrap_or(255)
}

/// Returns when this container is to end, with the seconds that it may take.
async fn told_to_end(state: &Rc<PodState>, slot: Slot) -> u64 {
    if slot.is_proxy() || slot.stays {
        state.told_to_end_after(slot).await;
        let own = grace(state);
        if slot.stays {
            return state.grace_left().unwrap_or(own);
        }
        let given = *state.deletion().borrow();
        let most = state.node.limits.platform.proxy_grace_period.as_secs();
        return given.unwrap_or(own).min(most);
    }
    let mut deletion = state.deletion();
    let grace = deletion.wait_for(Option::is_some).await.map_or(Some(0), |grace| *grace);
    grace.unwrap_or(0)
}

/// The seconds that the end of a container may take, by its pod's manifest.
fn grace(state: &PodState) -> u64 {
    state.pod.borrow().spec.termination_grace_period_seconds.get().into()
}

fn is_told_to_end(state: &PodState, slot: Slot) -> bool {
    state.is_told_to_end_after(slot).unwrap_or_else(|| state.is_ending())
}

/// Records that there was nothing to run.
fn done(state: &PodState, slot: Slot) {
    let now = clock::now();
    state.change(slot, |record| {
        record.ready = true;
        record.state = State::Terminated(terminated(0, now));
    });
}

/// Records that the program did not come to run.
fn not_run(state: &PodState, slot: Slot, message: &str) {
    let mut end = terminated(128, clock::now());
    end.signal = None;
    end.reason = "StartError".to_owned();
    end.message = message.to_owned();
    let name = state.change(slot, |record| {
        record.state = State::Terminated(end);
        record.name.clone()
    });
    state.event(Some(&name), EventKind::Warning, "Failed", format!("Error: {message}"));
}

/// Waits before an image or a reference is looked for again.
async fn wait_fruitless(state: &Rc<PodState>, slot: Slot, error: &NotStarted, pause: Duration) {
    let (first, then, message) = match error {
        NotStarted::Image(NoImage { reason, then, message }) => (*reason, *then, message),
        NotStarted::Config(message) | NotStarted::Program(message) => {
            ("CreateContainerConfigError", "CreateContainerConfigError", message)
        }
    };
    let name = state.change(slot, |record| {
        record.state = State::Waiting { reason: first.to_owned(), message: message.clone() };
        record.name.clone()
    });
    let text = match error {
        NotStarted::Image(NoImage { reason: "ErrImagePull", message, .. }) => {
            format!("Failed to pull image: {message}")
        }
        NotStarted::Image(NoImage { message, .. }) => message.clone(),
        _ => format!("Error: {message}"),
    };
    state.event(Some(&name), EventKind::Warning, "Failed", text);
    let then_wait = async {
        tokio::time::sleep(pause / 2).await;
        state.change(slot, |record| {
            record.state = State::Waiting { reason: then.to_owned(), message: message.clone() };
        });
        tokio::time::sleep(pause / 2).await;
    };
    tokio::select! {
        () = then_wait => {}
        _ = told_to_end(state, slot) => {}
    }
}

/// Waits before a container that ended is started again.
async fn wait_for_restart(
    state: &Rc<PodState>,
    slot: Slot,
    container: &Container,
    pause: Duration,
) {
    let name = &container.name;
    state.change(slot, |record| {
        if let State::Terminated(end) = &record.state {
            record.last = Some(end.clone());
        }
        record.ready &= pause < UNREADY_PAUSE;
        if !pause.is_zero() {
            let message = format!("back-off {pause:?} restarting failed container {name}");
            record.state = State::Waiting { reason: "CrashLoopBackOff".to_owned(), message };
        }
    });
    if pause.is_zero() {
        return;
    }
    let message = format!("Back-off restarting failed container {name}");
    state.event(Some(name), EventKind::Warning, "BackOff", message);
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        _ = told_to_end(state, slot) => {}
    }
}

/// Signals a container that has not been waited for, so that its process id is its own.
fn send(pid: i32, signal: Signal) {
    // One that has just ended needs no signal.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Name, without tag, of the image of the mesh's own containers.
const OWN_IMAGE: &str = "ironmesh/proxy";
/// Exit code of a program that was killed.
const KILLED: ExitStatus = 128 + 9;
/// Why a container ended that had more memory than its limit, as Kubernetes says it.
const OOM_KILLED: &str = "OOMKilled";
/// Pause after which a proxy that ends again and again makes its pod unready.
const UNREADY_PAUSE: Duration = Duration::from_secs(1);
