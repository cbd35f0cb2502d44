//! Endpoints that are names: kept resolved, as the answers of the name servers change.
//!
//! All of it happens on the control thread, beside the traffic. What was answered last holds until
//! there is another answer: a name server that fails takes nothing away.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use ironmesh_model::group::{Ask, Group};
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::{Member, Name, View};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::names::client::{Answer, Client};
use crate::park;
use crate::process::Process;
use crate::worker::Worker;
use crate::workload::LocalWorkload;

mod asked;
mod client;

pub(crate) use asked::AskedNames;

/// The host that a client names as an endpoint of a group, if its connections go there and it is known at
/// which addresses it is (see [`Group::named`]).
pub(crate) fn member(
    workload: &LocalWorkload,
    group: &Group,
    host: Option<&str>,
    ask: &Ask<'_>,
) -> Option<Arc<Member>> {
    let name = group.named(host)?;
    let view = workload.views.load();
    group.member_named(&name, view.answer(&name)?, ask)
}

/// Keeps the names of a workload's endpoints resolved, for as long as it is polled.
pub(crate) async fn follow(
    process: &Arc<Process>,
    workload: &Arc<LocalWorkload>,
    servers: &[SocketAddr],
) {
    let names_max = process.limits.names_max;
    let asking = Rc::new(Asking {
        client: Client::new(servers.to_vec(), process.clone()),
        places: Semaphore::new(process.limits.dns_queries_max),
    });
    let mut followed: HashMap<Name, Followed> = HashMap::new();
    let mut changes = workload.views.changes();
    loop {
        let view = workload.views.load_full();
        let asked = workload.asked_names.current(Instant::now());
        let names: HashSet<&Name> = view.names().chain(&asked).collect();
        let gone: Vec<Name> =
            followed.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            followed.remove(&name);
            workload.views.replace(workload.views.load().with_answer(&name, None));
        }
        let new: Vec<Name> =
            names.into_iter().filter(|name| !followed.contains_key(*name)).cloned().collect();
        for name in new {
            if followed.len() >= names_max {
                tracing::warn!(%name, names_max, "not resolved: the limit of names is reached");
                break;
            }
            let task = follow_name(name.clone(), asking.clone(), process.clone(), workload.clone());
            let task = tokio::task::spawn_local(task);
            followed.insert(name, Followed(task.abort_handle()));
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = sleep(asked::KEPT_FOR), if !asked.is_empty() => {}
        }
    }
}

/// Has a name resolved that a request names, and waits for what it stands for; `false` if that was known,
/// or is not in time.
pub(crate) async fn learn(worker: &Worker, workload: &LocalWorkload, name: &str) -> bool {
    if workload.views.load().answer(name).is_some()
        || !workload.asked_names.ask(name, worker.process.limits.names_max, Instant::now())
    {
        return false;
    }
    workload.views.touch();
    let look = |view: &View| view.answer(name).map(|_| ()).ok_or(None);
    park::until_found(worker, workload, look).await.is_ok()
}

/// A name that is kept resolved until this is dropped.
struct Followed(AbortHandle);

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the names share.
struct Asking {
    client: Client,
    places: Semaphore,
}

impl Asking {
    async fn ask(&self, name: &str) -> Option<Answer> {
        let _place = self.places.acquire().await.ok()?;
        match self.client.ask(name).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::debug!(name, %error, "no answer");
                None
            }
        }
    }
}

/// Keeps one name resolved.
async fn follow_name(
    name: Name,
    asking: Rc<Asking>,
    process: Arc<Process>,
    workload: Arc<LocalWorkload>,
) {
    let limits = &process.limits;
    let mut failures = 0;
    loop {
        let pause = match asking.ask(&name).await {
            Some(Answer { mut addresses, ttl }) => {
                failures = 0;
                addresses.truncate(limits.dns_addresses_max);
                hold(&workload, &name, &addresses);
                ttl.clamp(limits.dns_ttl_min, limits.dns_ttl_max)
            }
            None => {
                failures += 1;
                // Who waits for an endpoint is to know that there is none.
                if failures == UNANSWERED_MAX && workload.views.load().answer(&name).is_none() {
                    hold(&workload, &name, &[]);
                }
                retry_pause(failures, limits)
            }
        };
        sleep(pause).await;
    }
}

/// Lets a name stand for these addresses, unless it does.
fn hold(workload: &LocalWorkload, name: &Name, addresses: &[IpAddr]) {
    let view = workload.views.load_full();
    let before = view.answer(name);
    let is_same = before.is_some_and(|before| {
        // Name servers take turns in what comes first.
        before.first() == addresses.first() && sorted(before) == sorted(addresses)
    });
    if !is_same {
        tracing::debug!(%name, ?addresses, "resolved");
        workload.views.replace(view.with_answer(name, Some(addresses)));
    }
}

fn sorted(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Twice as long each time.
fn retry_pause(failures: u32, limits: &ProxyLimits) -> Duration {
    let times = 1_u32.checked_shl(failures.min(16).saturating_sub(1)).unwrap_or(u32::MAX);
    RETRY_PAUSE_MIN.saturating_mul(times).min(limits.dns_retry_pause_max)
}

/// Questions without an answer after which a name of which nothing is known stands for nothing.
const UNANSWERED_MAX: u32 = 2;
/// First pause before a name is asked for again.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(250);
