//! Tokens of service accounts in containers: for the API, where programs in a cluster look for them, and
//! for others in projected volumes. They are bound to their pod, made before it starts, and renewed when
//! four fifths of their time are over.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ironmesh_dialects::kubernetes::kinds::{Container, ProjectedToken};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::pod::PodState;
use super::volumes;
use crate::node::Node;

/// The tokens of a pod.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    made: RefCell<BTreeMap<Asked, Made>>,
    /// Whether its containers find one for the API.
    mounted: Cell<bool>,
    /// The trust anchors of the API.
    anchors: RefCell<String>,
}

/// What a token is to be like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    /// For whom it is; empty: the API.
    audience: String,
    /// How long it is to be valid, in seconds.
    seconds: i64,
}

#[derive(Debug)]
struct Made {
    token: String,
    renewed_from: Instant,
}

impl Asked {
    fn by(token: &ProjectedToken) -> Self {
        let seconds = token.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        Self { audience: token.audience.clone(), seconds }
    }

    /// The one with which containers come to the API.
    fn for_api() -> Self {
        Self { audience: String::new(), seconds: DEFAULT_SECONDS }
    }
}

impl Tokens {
    /// The token that a volume is to hold; nothing if there is none yet.
    pub(super) fn projected(&self, token: &ProjectedToken) -> Option<String> {
        self.made.borrow().get(&Asked::by(token)).map(|made| made.token.clone())
    }

    /// What containers find for the API: names of files and what they hold; nothing if they are not to.
    pub(super) fn of_api(&self, namespace: &str) -> Option<[(&'static str, String); 3]> {
        let made = self.made.borrow();
        let token = made.get(&Asked::for_api()).filter(|_| self.mounted.get())?;
        Some([
            ("token", token.token.clone()),
            ("ca.crt", self.anchors.borrow().clone()),
            ("namespace", namespace.to_owned()),
        ])
    }

    /// Whether one is to be renewed.
    fn are_due(&self) -> bool {
        self.next_due().is_some_and(|due| due <= Instant::now())
    }

    /// When the next one is to be renewed.
    fn next_due(&self) -> Option<Instant> {
        self.made.borrow().values().map(|made| made.renewed_from).min()
    }
}

/// Makes the tokens of a pod that are missing or to be renewed.
///
/// # Errors
///
/// If the API does not give one, with the reason.
pub(super) async fn renew(state: &PodState) -> Result<(), String> {
    let (namespace, name, account, own, mut asked) = {
        let pod = state.pod.borrow();
        let sources = pod.spec.volumes.iter().filter_map(|volume| volume.projected.as_ref());
        let tokens = sources.flat_map(|projected| &projected.sources);
        let tokens = tokens.filter_map(|source| source.service_account_token.as_ref());
        let account = match pod.spec.service_account_name.as_str() {
            "" => "default".to_owned(),
            name => name.to_owned(),
        };
        let asked: Vec<_> = tokens.map(Asked::by).collect();
        let meta = &pod.metadata;
        let own = pod.spec.automount_service_account_token;
        (meta.namespace.clone(), meta.name.clone(), account, own, asked)
    };
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}");
    let api = &state.node.api;
    let mounted = match own {
        Some(own) => own,
        None => {
            let account = api.get(&path).await.map_err(|error| error.to_string())?;
            account["automountServiceAccountToken"] != false
        }
    };
    state.tokens.mounted.set(mounted);
    if mounted {
        if state.tokens.anchors.borrow().is_empty() {
            let way = api.get("/ironmesh/kubeconfig").await.map_err(|error| error.to_string())?;
            *state.tokens.anchors.borrow_mut() =
                way["anchors"].as_str().unwrap_or_default().to_owned();
        }
        asked.push(Asked::for_api());
    }
    let now = Instant::now();
    let is_fresh = |asked: &Asked| {
        state.tokens.made.borrow().get(asked).is_some_and(|made| made.renewed_from > now)
    };
    asked.retain(|asked| !is_fresh(asked));
    for asked in asked {
        let audiences = if asked.audience.is_empty() { json!([]) } else { json!([asked.audience]) };
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": *state.uid});
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": audiences, "expirationSeconds": asked.seconds, "boundObjectRef": pod,
            },
        });
        let made = api.post(&format!("{path}/token"), &request).await;
        let made = made.map_err(|error| error.to_string())?;
        let token = made.pointer("/status/token").and_then(Value::as_str);
        let token = token.ok_or("the API gave no token")?.to_owned();
        let seconds = made["spec"]["expirationSeconds"].as_u64().unwrap_or_default();
        let renewed_from = now + Duration::from_secs(seconds) * 4 / 5;
        state.tokens.made.borrow_mut().insert(asked, Made { token, renewed_from });
        // Who sleeps until the next one is due may have to wake earlier.
        state.node.configuration.notify_one();
    }
    Ok(())
}

/// How long no token is to be renewed, as far as is known.
pub(super) fn pause(node: &Node) -> Duration {
    let pods = node.pods.borrow();
    let next = pods.values().filter_map(|pod| pod.tokens.next_due()).min();
    let left = next.map(|due| due.saturating_duration_since(Instant::now()));
    left.unwrap_or(LOOK_PAUSE).clamp(RETRY_PAUSE, LOOK_PAUSE)
}

/// Renews the tokens of all pods that are due.
pub(super) async fn renew_due(node: &Node) {
    let pods: Vec<Rc<PodState>> = node.pods.borrow().values().cloned().collect();
    for pod in pods.iter().filter(|pod| pod.tokens.are_due()) {
        match renew(pod).await {
            Ok(()) => volumes::refresh(pod),
            Err(error) => {
                let pod = pod.pod.borrow().metadata.name.clone();
                tracing::warn!(pod, error, "a token is not renewed; tried again");
            }
        }
    }
}

/// Whether a container has something else where it would find what is for the API.
pub(super) fn are_hidden(container: &Container) -> bool {
    container.volume_mounts.iter().any(|mount| mount.mount_path.trim_end_matches('/') == FOLDER)
}

/// Where programs in a cluster look for what they need for the API.
pub(super) const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How often tokens are looked at, at least: one may have been made meanwhile.
const LOOK_PAUSE: Duration = Duration::from_secs(30);
/// Pause before one is asked for again that was not given.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a token is valid if nobody says, in seconds.
const DEFAULT_SECONDS: i64 = 3_600;
