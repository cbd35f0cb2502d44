//! Startup, readiness and liveness probes of a running container.

use std::rc::Rc;
use std::time::Duration;

use ironmesh_dialects::kubernetes::kinds::{Container, Probe};
use tokio::time::Instant;

use super::container::Slot;
use super::handler;
use super::pod::PodState;
use crate::events::EventKind;

/// Runs the probes of a container that began at a time; returns when it must be restarted, else
/// never.
pub(super) async fn run_all(
    state: &Rc<PodState>,
    slot: Slot,
    container: &Container,
    began: Instant,
) {
    let follow = async |kind: &str, probe: &Probe, until: Until, tell: &dyn Fn(bool)| {
        // The delay counts from the container's start, whatever was waited for since.
        let delay = Duration::from_secs(probe.initial_delay_seconds.get().into());
        tokio::time::sleep_until(began + delay).await;
        follow(state, container, kind, probe, until, tell).await
    };
    if let Some(probe) = &container.startup_probe {
        if follow("Startup", probe, Until::Success, &|_| {}).await == Verdict::Failed {
            return;
        }
        state.change(slot, |record| {
            record.started = true;
            record.ready = container.readiness_probe.is_none();
        });
    }
    let readiness = async {
        if let Some(probe) = &container.readiness_probe {
            let set = |ready| state.change(slot, |record| record.ready = ready);
            // A gateway's or sidecar's health is asked for often until it is ready for the first
            // time, as everything waits for it. An application is asked a few times more than its
            // period says, so that it need not wait a whole period because it began to listen just
            // after the first question. Kubernetes allows that ("Configure Probes", periodSeconds).
            if slot.is_proxy() {
                let first = first_success(state, container, probe, EAGER_TIME);
                tokio::pin!(first);
                let time = state.node.limits.platform.proxy_restart_timeout;
                if tokio::time::timeout(time, &mut first).await.is_err() {
                    set(false);
                    first.await;
                }
                set(true);
            } else {
                let first = first_success(state, container, probe, Duration::ZERO);
                let _ready_or_not = tokio::time::timeout(period(probe), first).await;
            }
            follow("Readiness", probe, Until::Ever, &set).await;
        }
        std::future::pending::<()>().await;
    };
    let liveness = async {
        match &container.liveness_probe {
            Some(probe) => {
                follow("Liveness", probe, Until::Failure, &|_| {}).await;
                let message = format!(
                    "Container {} failed liveness probe, will be restarted",
                    container.name
                );
                state.event(Some(&container.name), EventKind::Normal, "Killing", message);
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = readiness => {}
        () = liveness => {}
    }
}

/// When a probe needs no more asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// It held, or failed, for as often as its thresholds say.
    Success,
    /// It failed for as often as its threshold says.
    Failure,
    /// Never.
    Ever,
}

/// What a probe says, by its thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    Failed,
}

/// Asks again and again; tells each verdict, and returns the last.
async fn follow(
    state: &Rc<PodState>,
    container: &Container,
    kind: &str,
    probe: &Probe,
    until: Until,
    tell: &dyn Fn(bool),
) -> Verdict {
    let period = period(probe);
    let (mut successes, mut failures) = (0_u32, 0_u32);
    loop {
        let began = Instant::now();
        match ask(state, container, probe).await {
            Ok(()) => {
                (successes, failures) = (successes.saturating_add(1), 0);
                if successes >= probe.success_threshold.get() {
                    tell(true);
                    if until == Until::Success {
                        return Verdict::Holds;
                    }
                }
            }
            Err(error) => {
                let message = format!("{kind} probe failed: {error}");
                state.event(Some(&container.name), EventKind::Warning, "Unhealthy", message);
                (successes, failures) = (0, failures.saturating_add(1));
                if failures >= probe.failure_threshold.get() {
                    tell(false);
                    if until != Until::Ever {
                        return Verdict::Failed;
                    }
                }
            }
        }
        tokio::time::sleep(period.saturating_sub(began.elapsed())).await;
    }
}

/// Asks until the probe succeeds, with pauses that double once the eager time is over. Failures are
/// neither counted nor told.
async fn first_success(
    state: &Rc<PodState>,
    container: &Container,
    probe: &Probe,
    eager: Duration,
) {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE_MIN;
    while ask(state, container, probe).await.is_err() {
        tokio::time::sleep(pause).await;
        if began.elapsed() > eager {
            pause = (pause * 2).min(FIRST_PAUSE_MAX);
        }
    }
}

fn period(probe: &Probe) -> Duration {
    Duration::from_secs(probe.period_seconds.get().into())
}

async fn ask(state: &Rc<PodState>, container: &Container, probe: &Probe) -> Result<(), String> {
    let time = Duration::from_secs(probe.timeout_seconds.get().into());
    handler::run(state, container, probe.into(), time).await
}

/// Pauses between the questions to a container that has not been ready yet: to a proxy the shortest
/// for as long as a start usually takes, then doubled each time.
const EAGER_TIME: Duration = Duration::from_secs(1);
const FIRST_PAUSE_MIN: Duration = Duration::from_millis(10);
const FIRST_PAUSE_MAX: Duration = Duration::from_millis(500);
