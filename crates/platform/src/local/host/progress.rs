//! What the user of `ironmesh up` sees.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use crate::local::agent_api::PublishedPort;
use crate::local::api_client::{ApiClient, ApiError};
use crate::local::options::UpOptions;

/// Writes a line for the user.
pub(super) fn say(line: &str) {
    // A closed terminal is no reason to end a mesh.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Waits until all Deployments are available and all pods ready, and tells as they become it.
/// Returns, too, when what is missing cannot come by itself; it is named then.
pub(super) async fn until_ready(api: &ApiClient) {
    let mut told = BTreeSet::new();
    let mut stuck_looks = 0;
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
                return;
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Writes where the mesh is reached.
pub(super) fn say_urls(published: &[PublishedPort], options: &UpOptions) {
    for port in published {
        let scheme = if port.port == 443 { "https" } else { "http" };
        let path = if port.port == 443 { "/" } else { &options.page };
        say(&format!("{scheme}://{}{path}", port.address));
    }
    if !options.detach {
        say("the mesh is up; Ctrl-C ends it");
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

async fn look(api: &ApiClient) -> Result<Look, ApiError> {
    let deployments = api.get("/apis/apps/v1/deployments").await?;
    let pods = api.get("/api/v1/pods").await?;
    Ok(judge(&deployments, &pods))
}

fn judge(deployments: &Value, pods: &Value) -> Look {
    let mut look = Look::default();
    let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let mut stuck_owners = BTreeSet::new();
    for pod in items(pods) {
        let name = name(&pod);
        let ready = is_true(&pod, "Ready");
        let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        look.pods.push((name.clone(), ready));
        if ready || finished {
            continue;
        }
        match waiting_reason(&pod) {
            Some((reason, message)) => {
                look.stuck.push(format!("pod {name} does not come up: {reason}: {message}"));
                for owner in pod["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
                    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
                    let owner = owner["name"].as_str().unwrap_or_default();
                    stuck_owners.insert(format!("{namespace}/{owner}"));
                }
            }
            None => look.waiting += 1,
        }
    }
    for deployment in items(deployments) {
        let (wanted, status) =
            (deployment["spec"]["replicas"].as_u64().unwrap_or(1), &deployment["status"]);
        let is_seen = status["observedGeneration"] == deployment["metadata"]["generation"];
        let available = status["readyReplicas"].as_u64().unwrap_or(0) >= wanted;
        let prefix = format!("{}-", name(&deployment));
        let is_stuck = stuck_owners.iter().any(|owner| owner.starts_with(&prefix));
        if !(is_stuck || is_seen && available) {
            look.waiting += 1;
        }
    }
    look
}

fn name(object: &Value) -> String {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

fn is_true(pod: &Value, kind: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == "True"))
}

/// Why a pod waits for what does not come by itself.
fn waiting_reason(pod: &Value) -> Option<(String, String)> {
    let statuses = ["initContainerStatuses", "containerStatuses"];
    let all = statuses.iter().filter_map(|key| pod["status"][key].as_array()).flatten();
    all.filter_map(|status| {
        let waiting = &status["state"]["waiting"];
        let reason = waiting["reason"].as_str()?;
        let text = waiting["message"].as_str().unwrap_or_default();
        STUCK.contains(&reason).then(|| (reason.to_owned(), text.to_owned()))
    })
    .next()
}

/// Reasons for which a user has to do something.
const STUCK: [&str; 4] =
    ["ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff", "CreateContainerConfigError"];
/// For how many looks a pod must be stuck to be believed so.
const STUCK_LOOKS: u32 = 40;
/// How often the state is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_without_an_image_does_not_hold_up_the_rest() {
        let pod = |name: &str, ready: &str, waiting: Value| {
            json!({
                "metadata": {"namespace": "n", "name": name, "ownerReferences": [{"name": format!("{name}-77")}]},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "containerStatuses": [{"state": waiting}],
                },
            })
        };
        let bad = json!({"waiting": {"reason": "ErrImagePull", "message": "map it"}});
        let pods = json!({"items": [pod("a", "True", json!({})), pod("b", "False", bad)]});
        let deployment = |name: &str, ready: u64| {
            json!({
                "metadata": {"namespace": "n", "name": name, "generation": 1},
                "spec": {"replicas": 1},
                "status": {"observedGeneration": 1, "readyReplicas": ready},
            })
        };
        let deployments = json!({"items": [deployment("a", 1), deployment("b", 0)]});
        let look = judge(&deployments, &pods);
        assert_eq!(look.waiting, 0);
        assert_eq!(look.stuck, ["pod n/b does not come up: ErrImagePull: map it"]);
        let coming = pod("c", "False", json!({"waiting": {"reason": "ContainerCreating"}}));
        assert_eq!(judge(&deployments, &json!({"items": [coming]})).waiting, 2);
    }
}
