//! What the user of `ironmesh up` sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ironmesh_client::{Client, Error as ApiError};
use ironmesh_dialects::istio::gateway::Gateway;
use ironmesh_dialects::istio::settings_with;
use ironmesh_dialects::kubernetes::IngressClasses;
use ironmesh_dialects::kubernetes::kinds::{
    DaemonSet, Deployment, Event, ObjectMeta, Pod, PodStatus, ReplicaSet,
};
use ironmesh_dialects::schema::Fields;
use ironmesh_model::settings::{IngressControl, Settings};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;

use crate::addresses::LOW_PORT_OFFSET;
use crate::agent::{GATEWAYS, INGRESS_CLASSES, INGRESSES};
use crate::agent_api::{self, ExposedService, PublishedPort, Status};
use crate::clock;
use crate::options::UpOptions;

/// Writes a line for the user.
pub(super) fn say(line: &str) {
    // A closed terminal is no reason to end a mesh.
    let _ = writeln!(io::stdout(), "{line}");
}

/// How a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything is ready, but for what cannot be without the user: that was named.
    Ready,
    /// Something was not ready after some time without progress; it was named.
    Stalled,
}

/// Waits until all Deployments and the like are available and all pods ready, and tells as they become it.
/// Returns, too, when what is missing cannot come by itself, or does not come; it is named then.
pub(super) async fn until_ready(api: &Client, progress_timeout: Duration) -> Outcome {
    let mut told = BTreeSet::new();
    let mut stuck_looks = 0;
    let mut seen = Seen::default();
    let mut progress = Instant::now();
    let mut events_seen = Instant::now();
    loop {
        if let Ok(state) = look(api).await {
            for (pod, ready) in &state.pods {
                if *ready && told.insert(pod.clone()) {
                    say(&format!("pod {pod} is ready"));
                }
            }
            stuck_looks = if state.stuck.is_empty() { 0 } else { stuck_looks + 1 };
            if state.waiting == 0 && !(1..STUCK_LOOKS).contains(&stuck_looks) {
                for problem in &state.stuck {
                    say(problem);
                }
                return Outcome::Ready;
            }
            if seen.is_news(&state) {
                progress = Instant::now();
            }
            if events_seen.elapsed() >= EVENTS_INTERVAL {
                let events = api.get("/api/v1/events").await.unwrap_or_default();
                // How long that may take has limits of its own.
                for (pod, message) in pulling(&events, &state.pods) {
                    progress = Instant::now();
                    if told.insert(format!("{pod} {message}")) {
                        say(&format!("pod {pod}: {message}"));
                    }
                }
                events_seen = Instant::now();
            }
        }
        if progress.elapsed() >= progress_timeout {
            say(&format!("no progress for {} s:", progress_timeout.as_secs()));
            for problem in problems(api).await {
                say(&problem);
            }
            return Outcome::Stalled;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The pods for which an image is pulled now, of those that are not ready, and what is said of that.
fn pulling<'a>(events: &'a Value, pods: &'a [(String, bool)]) -> Vec<(&'a str, &'a str)> {
    let mut last = BTreeMap::new();
    for event in items(events).map(Event::of) {
        // Times are in seconds, too coarse to tell what came last.
        let version: u64 = event.metadata().resource_version().parse().unwrap_or_default();
        let of_pod = last.entry(event.involved_object().uid()).or_insert((version, event));
        if version >= of_pod.0 {
            *of_pod = (version, event);
        }
    }
    let now =
        last.into_values().map(|(_, event)| event).filter(|event| event.reason() == "Pulling");
    now.filter_map(|event| {
        let of = event.involved_object();
        let (pod, _) = pods.iter().find(|(pod, ready)| {
            !ready && pod.split_once('/') == Some((of.namespace(), of.name()))
        })?;
        Some((&**pod, event.message()))
    })
    .collect()
}

/// What is not ready, each with what was last said about it.
async fn problems(api: &Client) -> Vec<String> {
    let list = async |path: &str| api.get(path).await.unwrap_or_default();
    let pods = list("/api/v1/pods").await;
    let events = list("/api/v1/events").await;
    let sets = list("/apis/apps/v1/replicasets").await;
    unready_pods(&pods, &events, clock::timestamp()).chain(failed_sets(&sets)).collect()
}

/// What is not ready, and what runs again after it has crashed a short time ago.
pub(super) async fn troubles(api: &Client) -> Vec<String> {
    let mut troubles = problems(api).await;
    let pods = api.get("/api/v1/pods").await.unwrap_or_default();
    troubles.extend(crashed_pods(&pods, clock::timestamp()));
    troubles
}

fn crashed_pods(pods: &Value, now: Timestamp) -> impl Iterator<Item = String> {
    let runs = move |pod: &Fields<'_, Pod>| pod.status().is_ready() && !has_just_crashed(*pod, now);
    items(pods).map(Pod::of).filter(runs).filter_map(move |pod| {
        let why = last_crash(pod, Some(now))?;
        let name = name(pod.metadata());
        Some(format!("pod {name} runs again: {why}; `ironmesh logs -p` has what it wrote before"))
    })
}

/// How a container of a pod ended that ended with an error before its last start; with `now`, if that is
/// not long ago.
fn last_crash(pod: Fields<'_, Pod>, now: Option<Timestamp>) -> Option<String> {
    pod.status().container_statuses().find_map(|container| {
        let ended = container.last_state().terminated()?;
        let code = ended.exit_code();
        let time = ended.json()["finishedAt"].as_str().unwrap_or_default();
        let is_recent = now.is_none_or(|now| {
            let time = time.parse::<Timestamp>();
            time.is_ok_and(|time| now.duration_since(time) < CRASH_TOLD_FOR)
        });
        (code != 0 && is_recent)
            .then(|| format!("container {} ended with {code} at {time}", container.name()))
    })
}

fn unready_pods(pods: &Value, events: &Value, now: Timestamp) -> impl Iterator<Item = String> {
    let is_unready =
        move |pod: &Fields<'_, Pod>| !is_ready_or_finished(*pod) || has_just_crashed(*pod, now);
    let unready = items(pods).map(Pod::of).filter(is_unready);
    unready.map(|pod| {
        let of_pod = |event: &Fields<'_, Event>| {
            event.of() == "Warning" && event.involved_object().uid() == pod.metadata().uid()
        };
        let warnings = items(events).map(Event::of).filter(of_pod);
        let why = warnings.max_by_key(|event| event.last_timestamp()).map_or_else(
            || {
                let phase = pod.status().phase();
                last_crash(pod, None)
                    .unwrap_or_else(|| format!("{phase}, and nothing was reported of it"))
            },
            |event| format!("{}: {}", event.reason(), event.message()),
        );
        format!("pod {} is not ready: {why}", name(pod.metadata()))
    })
}

/// ReplicaSets whose pods cannot even be made.
fn failed_sets(sets: &Value) -> impl Iterator<Item = String> {
    items(sets).map(ReplicaSet::of).filter_map(|set| {
        let mut conditions = set.status().conditions();
        let failure = conditions.find(|c| c.of() == "ReplicaFailure" && c.status() == "True")?;
        let message = failure.message();
        Some(format!("replicaset {} makes no pods: {message}", name(set.metadata())))
    })
}

/// Waits until the ports that the Gateways and Ingresses name answer, and the gateway has its address: a gateway that
/// has just become ready asks for them in a moment. Not for ever, as no gateway may be there that serves
/// them. Returns what the agent says of them.
pub(super) async fn until_published(api: &Client, options: &UpOptions) -> Status {
    let gateways = api.get(GATEWAYS).await.unwrap_or_default();
    let servers = items(&gateways).flat_map(|gateway| Gateway::of(gateway).spec().servers());
    let mut wanted: BTreeSet<u16> = servers.map(|server| server.port().number()).collect();
    let ingresses = api.get(INGRESSES).await.unwrap_or_default();
    let classes = api.get(INGRESS_CLASSES).await.unwrap_or_default();
    let classes = IngressClasses::of(items(&classes));
    let control = ingress_control(api, &options.settings).await;
    wanted.extend(items(&ingresses).flat_map(|ingress| classes.ports(ingress, &control)));
    let has_gateway = api.get(GATEWAY_SERVICE).await.is_ok();
    let begun = Instant::now();
    loop {
        let status = status(&options.mesh).await;
        let open: BTreeSet<u16> = status.urls.iter().map(|url| url.port).collect();
        let is_there = wanted.is_subset(&open) && has_gateway == gateway_address(&status).is_some();
        if is_there || begun.elapsed() >= PUBLISH_TIME_MAX {
            return status;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// What MeshConfig says of Ingresses.
async fn ingress_control(api: &Client, settings: &Settings) -> IngressControl {
    let path = format!("/api/v1/namespaces/{}/configmaps/istio", settings.root_namespace);
    let config = api.get(&path).await.unwrap_or_default();
    settings_with(config["data"]["mesh"].as_str().unwrap_or_default(), settings).ingress
}

/// What the agent says; nothing if it does not answer.
async fn status(mesh: &str) -> Status {
    let (uid, mesh) = (nix::unistd::geteuid().as_raw(), mesh.to_owned());
    let ask = tokio::task::spawn_blocking(move || agent_api::Client::connect(uid, &mesh)?.status());
    ask.await.ok().and_then(Result::ok).unwrap_or_default()
}

/// The address of the ingress gateway's Service.
fn gateway_address(status: &Status) -> Option<Ipv4Addr> {
    let is_it = |service: &&ExposedService| {
        service.namespace == "istio-system" && service.name == "istio-ingressgateway"
    };
    status.services.iter().find(is_it)?.address
}

/// Writes where the mesh is reached, and how it is.
pub(super) fn say_urls(status: &Status, options: &UpOptions, outcome: Outcome) {
    for url in &status.urls {
        let path = if url.port == 443 { "/" } else { &options.page };
        say(&format!("{}{path}", url.url()));
    }
    for note in &status.notes {
        say(&format!("not at {note}"));
    }
    if let Some(address) = gateway_address(status)
        && status.urls.is_empty()
    {
        let port = if status.lowest_port > 80 { 80 + LOW_PORT_OFFSET } else { 80 };
        let address = SocketAddr::from((address, port));
        let url = PublishedPort { port: 80, address }.url();
        say(&format!("{url}/ answers once a Gateway names port 80"));
    }
    match (outcome, options.detach) {
        (Outcome::Ready, true) => {}
        (Outcome::Ready, false) => say("the mesh is up; Ctrl-C ends it"),
        (Outcome::Stalled, true) => {
            say("the mesh runs on without what is not ready; `ironmesh down` ends it");
        }
        (Outcome::Stalled, false) => {
            say("the mesh runs on without what is not ready; Ctrl-C ends it");
        }
    }
}

/// Leaves the terminal to whoever called; what is said from here on is lost.
pub(super) fn leave_terminal() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

#[derive(Debug, Default)]
struct Look {
    /// Pods and whether they are ready.
    pods: Vec<(String, bool)>,
    /// What may still become ready.
    waiting: usize,
    /// What will not by itself.
    stuck: Vec<String>,
}

async fn look(api: &Client) -> Result<Look, ApiError> {
    let mut workloads = Vec::new();
    for (kind, path) in WORKLOADS {
        workloads.push((kind, api.get(path).await?));
    }
    let pods = api.get("/api/v1/pods").await?;
    Ok(judge(&workloads, &pods, clock::timestamp()))
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Seen {
    /// Pods as they were, ready or not.
    pods: BTreeSet<(String, bool)>,
    /// What may still become ready, at its least.
    waiting: Option<usize>,
}

impl Seen {
    /// Whether something has changed for the better, or there are other pods. What comes and goes, as
    /// the readiness of a container that crashes again and again, is news once.
    fn is_news(&mut self, look: &Look) -> bool {
        let pods = self.pods.len();
        self.pods.extend(look.pods.iter().cloned());
        let is_less = self.waiting.is_none_or(|least| look.waiting < least);
        if is_less {
            self.waiting = Some(look.waiting);
        }
        is_less || self.pods.len() > pods
    }
}

fn judge(workloads: &[(&str, Value)], pods: &Value, now: Timestamp) -> Look {
    let mut look = Look::default();
    let mut stuck_owners = BTreeSet::new();
    for pod in items(pods).map(Pod::of) {
        let name = name(pod.metadata());
        let is_unsettled = has_just_crashed(pod, now);
        look.pods.push((name.clone(), pod.status().is_ready() && !is_unsettled));
        if pod.status().phase() == "Failed" {
            look.stuck.push(format!("pod {name} has failed{}", failure(pod.status())));
        }
        if is_ready_or_finished(pod) && !is_unsettled {
            continue;
        }
        match waiting_reason(pod.status()) {
            Some((reason, message)) => {
                look.stuck.push(format!("pod {name} does not come up: {reason}: {message}"));
                stuck_owners.extend(owner_of(pod.metadata()));
            }
            None => look.waiting += 1,
        }
    }
    for (kind, list) in workloads {
        for object in items(list) {
            let metadata = Deployment::of(object).metadata();
            let is_stuck = stuck_owners.contains(&format!("{kind} {}", name(metadata)));
            if !(is_stuck || is_available(kind, object)) {
                look.waiting += 1;
            }
        }
    }
    look
}

/// Whether what was asked for is seen, and all its pods are ready.
fn is_available(kind: &str, object: &Value) -> bool {
    let (ready, wanted) = match kind {
        "DaemonSet" => {
            let status = DaemonSet::of(object).status();
            (status.number_ready(), status.desired_number_scheduled())
        }
        // The others have what a Deployment has.
        _ => {
            let deployment = Deployment::of(object);
            (deployment.status().ready_replicas(), deployment.spec().replicas())
        }
    };
    let observed = Deployment::of(object).status().observed_generation();
    observed == Deployment::of(object).metadata().generation() && ready >= wanted
}

/// Kind and name of what made a pod: of the Deployment that made its ReplicaSet, whose name is the
/// ReplicaSet's without the template's hash.
fn owner_of(pod: Fields<'_, ObjectMeta>) -> Option<String> {
    let owner = pod.controller()?;
    let hash = pod.labels().get("pod-template-hash").filter(|_| owner.kind() == "ReplicaSet");
    let deployment = hash.and_then(|hash| owner.name().strip_suffix(hash)?.strip_suffix('-'));
    let (kind, name) = match deployment {
        Some(deployment) => ("Deployment", deployment),
        None => (owner.kind(), owner.name()),
    };
    Some(format!("{kind} {}/{name}", pod.namespace()))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn is_ready_or_finished(pod: Fields<'_, Pod>) -> bool {
    pod.status().is_ready() || pod.is_finished()
}

fn name(object: Fields<'_, ObjectMeta>) -> String {
    format!("{}/{}", object.namespace(), object.name())
}

/// What a pod that failed says of it, with a colon before.
fn failure(status: Fields<'_, PodStatus>) -> String {
    let codes = status.container_statuses().filter_map(|container| {
        let code = container.state().terminated()?.exit_code();
        (code != 0).then(|| format!(": container {} ended with {code}", container.name()))
    });
    let of_pod = [status.reason(), status.message()].into_iter().filter(|text| !text.is_empty());
    of_pod.map(|text| format!(": {text}")).chain(codes).collect()
}

/// Why a pod waits for what does not come by itself.
fn waiting_reason<'a>(status: Fields<'a, PodStatus>) -> Option<(&'a str, &'a str)> {
    let all = status.init_container_statuses().chain(status.container_statuses());
    let mut waiting = all.filter_map(|container| container.state().waiting());
    waiting
        .find(|waiting| STUCK.contains(&waiting.reason()))
        .map(|waiting| (waiting.reason(), waiting.message()))
}

/// Whether a container of a pod has crashed, and runs again for too short a time to be believed.
fn has_just_crashed(pod: Fields<'_, Pod>, now: Timestamp) -> bool {
    if pod.is_finished() {
        return false;
    }
    pod.status().container_statuses().any(|container| {
        let crashed = container.restart_count() > 0
            && container.last_state().terminated().is_some_and(|ended| ended.exit_code() != 0);
        let since = container.state().running().map(|running| running["startedAt"].as_str());
        let since = since.flatten().and_then(|time| time.parse::<Timestamp>().ok());
        crashed && since.is_none_or(|since| now.duration_since(since) < BELIEVED_AFTER)
    })
}

/// Reasons for which a user has to do something. A container that crashes again and again may wait
/// for another one, and counts as not ready.
const STUCK: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
];
/// For how long a container must run that has crashed, to count as ready.
const BELIEVED_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// For how long it is told of a container that it has crashed, though it runs again.
const CRASH_TOLD_FOR: SignedDuration = SignedDuration::from_mins(10);
/// What has pods that stay: kind and path.
const WORKLOADS: [(&str, &str); 4] = [
    ("Deployment", "/apis/apps/v1/deployments"),
    ("StatefulSet", "/apis/apps/v1/statefulsets"),
    ("DaemonSet", "/apis/apps/v1/daemonsets"),
    ("ReplicationController", "/api/v1/replicationcontrollers"),
];
/// For how many looks a pod must be stuck to be believed so.
const STUCK_LOOKS: u32 = 40;
/// Where the API has the Service of the ingress gateway.
const GATEWAY_SERVICE: &str = "/api/v1/namespaces/istio-system/services/istio-ingressgateway";
/// How long the ports that Gateways name may take to be published.
const PUBLISH_TIME_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether images are being pulled.
const EVENTS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the state is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn judge(workloads: &[(&str, Value)], pods: &Value) -> Look {
        super::judge(workloads, pods, NOW)
    }

    #[test]
    fn a_pod_that_crashes_again_and_again_is_not_ready() {
        let crashed = |since: i64, code: i64| {
            let since = Timestamp::from_second(-since).unwrap();
            let state = json!({"running": {"startedAt": since.to_string()}});
            let mut pod = pod("a", "a", "True", state);
            let status = &mut pod["status"]["containerStatuses"][0];
            status["restartCount"] = 1.into();
            status["lastState"] = json!({"terminated": {"exitCode": code}});
            json!({"items": [pod]})
        };
        let waiting = |pods: &Value| super::judge(&[], pods, NOW).waiting;
        assert_eq!(waiting(&crashed(1, 1)), 1);
        assert_eq!(waiting(&crashed(10, 1)), 0);
        assert_eq!(waiting(&crashed(1, 0)), 0);
        let back_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "soon"}});
        assert_eq!(waiting(&json!({"items": [pod("a", "a", "False", back_off)]})), 1);
        // That it runs for a moment now and then is no progress for ever.
        let mut seen = Seen::default();
        let looks = [judge(&[], &crashed(10, 1)), judge(&[], &crashed(1, 1))];
        let news: Vec<bool> = looks.iter().chain(&looks).map(|look| seen.is_news(look)).collect();
        assert_eq!(news, [true, true, false, false]);
    }

    #[test]
    fn a_pod_whose_image_comes_makes_progress() {
        let event = |pod: &str, reason: &str, version: u64| {
            json!({
                "metadata": {"resourceVersion": version.to_string()}, "reason": reason,
                "message": format!("{reason} {version}"),
                "involvedObject": {"namespace": "n", "name": pod, "uid": format!("uid-{pod}")},
            })
        };
        let events = json!({"items": [
            event("comes", "Pulling", 10), event("comes", "Pulled", 9), event("comes", "Scheduled", 8),
            event("has-come", "Pulling", 11), event("has-come", "Pulled", 12),
            event("fails", "Failed", 14), event("fails", "Pulling", 13),
            event("gone", "Pulling", 15), event("ready", "Pulling", 16),
        ]});
        let pods = [("comes", false), ("has-come", false), ("fails", false), ("ready", true)];
        let pods = pods.map(|(pod, ready)| (format!("n/{pod}"), ready));
        assert_eq!(pulling(&events, &pods), [("n/comes", "Pulling 10")]);
        assert_eq!(pulling(&Value::Null, &pods), []);
    }

    fn pod(name: &str, owner: &str, ready: &str, state: Value) -> Value {
        json!({
            "metadata": {
                "namespace": "n", "name": name, "uid": format!("uid-{name}"),
                "labels": {"pod-template-hash": "77"},
                "ownerReferences": [
                    {"kind": "ReplicaSet", "name": format!("{owner}-77"), "controller": true},
                ],
            },
            "status": {
                "phase": "Pending",
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"state": state}],
            },
        })
    }

    fn deployment(name: &str, ready: u64) -> Value {
        json!({
            "metadata": {"namespace": "n", "name": name, "generation": 1},
            "spec": {"replicas": 1},
            "status": {"observedGeneration": 1, "readyReplicas": ready},
        })
    }

    #[test]
    fn a_pod_without_an_image_does_not_hold_up_the_rest() {
        let bad = json!({"waiting": {"reason": "ErrImagePull", "message": "map it"}});
        let pods =
            json!({"items": [pod("a", "a", "True", json!({})), pod("b", "b", "False", bad)]});
        let deployments = |items: &[Value]| vec![("Deployment", json!({ "items": items }))];
        let look = judge(&deployments(&[deployment("a", 1), deployment("b", 0)]), &pods);
        assert_eq!(look.waiting, 0);
        assert_eq!(look.stuck, ["pod n/b does not come up: ErrImagePull: map it"]);
        // Of a similar name, and not stuck at all.
        let deployments = deployments(&[deployment("b", 0), deployment("b-77", 0)]);
        assert_eq!(judge(&deployments, &pods).waiting, 1);
        let mut failed = pod("f", "f", "False", json!({"terminated": {"exitCode": 3}}));
        failed["status"]["phase"] = "Failed".into();
        failed["status"]["containerStatuses"][0]["name"] = "main".into();
        let told = judge(&[], &json!({"items": [failed]})).stuck;
        assert_eq!(told, ["pod n/f has failed: container main ended with 3"]);
        let coming = pod("c", "c", "False", json!({"waiting": {"reason": "ContainerCreating"}}));
        assert_eq!(judge(&deployments, &json!({"items": [coming]})).waiting, 3);
        let daemons = |ready: u64| {
            let status = json!({
                "observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": ready,
            });
            let set = json!({"metadata": {"generation": 1}, "status": status});
            vec![("DaemonSet", json!({"items": [set]}))]
        };
        let waiting = |ready| judge(&daemons(ready), &json!({})).waiting;
        assert_eq!((waiting(0), waiting(1)), (1, 0));
    }

    #[test]
    fn what_runs_again_after_a_crash_is_told_for_a_while() {
        let crashed = |code: i64, ended: &str, started: &str| {
            let mut pod = pod("a", "a", "True", json!({"running": {"startedAt": started}}));
            let status = &mut pod["status"]["containerStatuses"][0];
            status["name"] = "main".into();
            status["restartCount"] = 1.into();
            status["lastState"] = json!({"terminated": {"exitCode": code, "finishedAt": ended}});
            json!({"items": [pod]})
        };
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let started = "2026-01-01T00:00:31Z";
        let told = |pods: &Value| crashed_pods(pods, now).collect::<Vec<_>>();
        let one = told(&crashed(5, "2026-01-01T00:00:30Z", started));
        assert!(
            one[0].starts_with("pod n/a runs again: container main ended with 5 at "),
            "{one:?}"
        );
        assert!(told(&crashed(0, "2026-01-01T00:00:30Z", started)).is_empty());
        assert!(told(&crashed(5, "2025-12-31T00:00:00Z", started)).is_empty());
        // Of one that runs for a moment only, it is no more than not ready.
        let just = crashed(5, "2026-01-01T00:00:58Z", "2026-01-01T00:00:59Z");
        assert!(told(&just).is_empty());
        let unready: Vec<String> = unready_pods(&just, &Value::Null, now).collect();
        assert_eq!(
            unready,
            ["pod n/a is not ready: container main ended with 5 at 2026-01-01T00:00:58Z"]
        );
    }

    #[test]
    fn what_is_not_ready_is_told_with_its_last_warning() {
        let running = || json!({"running": {}});
        let mut ended = pod("d", "d", "False", json!({}));
        ended["status"]["phase"] = "Succeeded".into();
        let pods = json!({"items": [
            pod("a", "a", "True", running()), pod("b", "b", "False", running()),
            pod("c", "c", "False", running()), ended,
        ]});
        let event = |kind: &str, time: &str, message: &str| {
            json!({
                "type": kind, "reason": "Unhealthy", "message": message, "lastTimestamp": time,
                "involvedObject": {"uid": "uid-b"},
            })
        };
        let events = json!({"items": [
            event("Warning", "2026-01-01T00:00:02Z", "late"),
            event("Warning", "2026-01-01T00:00:01Z", "early"),
            event("Normal", "2026-01-01T00:00:03Z", "good"),
        ]});
        assert_eq!(
            unready_pods(&pods, &events, NOW).collect::<Vec<_>>(),
            [
                "pod n/b is not ready: Unhealthy: late",
                "pod n/c is not ready: Pending, and nothing was reported of it",
            ]
        );
        let condition =
            json!([{"type": "ReplicaFailure", "status": "True", "message": "no quota"}]);
        let sets = json!({"items": [{
            "metadata": {"namespace": "n", "name": "s"}, "status": {"conditions": condition},
        }]});
        assert_eq!(
            failed_sets(&sets).collect::<Vec<_>>(),
            ["replicaset n/s makes no pods: no quota"]
        );
    }
}
