//! `ironmesh logs`: what containers wrote.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::api::{Api, JSON, Query};
use crate::cli::Context;
use crate::verb::rollout::parse_duration;
use crate::verb::{pods_by_label, pods_of, text};
use crate::{say, target};

/// Print the log of a pod's container.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh logs details-v1-5f4d584748-abcde
  ironmesh logs deploy/productpage-v1 -c istio-proxy --tail 20 -f
  ironmesh logs -l app=reviews --prefix
  ironmesh logs job/migrate --since=5m --timestamps
  ironmesh logs -p web-0                        what it wrote before its last restart
  ironmesh logs -n istio-system deploy/istio-ingressgateway")]
pub(crate) struct Logs {
    /// POD, or KIND/NAME of what has pods (deploy/NAME).
    pod: Option<String>,
    /// The container; as a second word, too.
    #[arg(value_name = "CONTAINER")]
    container_word: Option<String>,
    /// The container; default: the pod's own (not the sidecar).
    #[arg(short, long)]
    container: Option<String>,
    /// All containers of the pod.
    #[arg(long)]
    all_containers: bool,
    /// Pods with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Go on printing as more is written.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    tail: Option<i64>,
    /// The container before its last restart.
    #[arg(short, long)]
    previous: bool,
    /// Put pod and container before each line.
    #[arg(long)]
    prefix: bool,
    /// Put the time before each line: when it was written, to a tenth of a second.
    #[arg(long)]
    timestamps: bool,
    /// Only what was written in this last time, such as 5m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// Only what was written after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since_time: Option<Timestamp>,
    /// Only so many bytes of each log.
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// All pods of a KIND/NAME, with a prefix.
    #[arg(long)]
    all_pods: bool,
    /// A log that cannot be read keeps no other from being followed.
    #[arg(long)]
    ignore_errors: bool,
    /// How many logs may be followed at once.
    #[arg(long, value_name = "LOGS", default_value_t = 5)]
    max_log_requests: usize,
}

impl Logs {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let mut pods = match (&self.selector, &self.pod) {
            (Some(selector), None) => pods_by_label(&api, context.namespace(), selector).await?,
            (None, Some(pod)) => pods_of(&api, context.namespace(), pod).await?,
            _ => anyhow::bail!("say whose log: POD, KIND/NAME, or -l SELECTOR"),
        };
        if self.selector.is_none() && !self.all_pods && pods.len() > 1 {
            say::notice(&format!(
                "Found {} pods, using pod/{}",
                pods.len(),
                text(&pods[0], "/metadata/name")
            ));
            pods.truncate(1);
        }
        if pods.is_empty() {
            say::notice(&format!("No resources found in {} namespace.", context.namespace()));
        }
        let mut logs = Vec::new();
        for pod in &pods {
            for container in self.containers(pod)? {
                logs.push(self.log(pod, container)?);
            }
        }
        if self.follow && logs.len() > 1 {
            ensure!(
                logs.len() <= self.max_log_requests,
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, \
                 use --max-log-requests to increase the limit",
                logs.len(),
                self.max_log_requests
            );
            let mut following = JoinSet::new();
            for log in logs {
                following.spawn(log.print(api.clone()));
            }
            while let Some(ended) = following.join_next().await {
                self.judge(ended?)?;
            }
        } else {
            for log in logs {
                self.judge(log.print(api.clone()).await)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Hands on an error, or only says it.
    fn judge(&self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        match outcome {
            Err(error) if self.ignore_errors && !say::is_read_enough(&error) => {
                say::error(&error);
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn containers<'a>(&'a self, pod: &'a Value) -> anyhow::Result<Vec<&'a str>> {
        let names = container_names(pod);
        if self.all_containers {
            return Ok(names);
        }
        let wanted = self.container.as_deref().or(self.container_word.as_deref());
        if let Some(wanted) = wanted {
            let pod = text(pod, "/metadata/name");
            ensure!(names.contains(&wanted), "container {wanted} is not valid for pod {pod}");
            return Ok(vec![wanted]);
        }
        let default = default_container(pod)?;
        if names.len() > 1 && self.selector.is_none() {
            let all = names.join(", ");
            say::notice(&format!("Defaulted container {default:?} out of: {all}"));
        }
        Ok(vec![default])
    }

    fn log(&self, pod: &Value, container: &str) -> anyhow::Result<Log> {
        let name = text(pod, "/metadata/name");
        let pods = target::resource("pods")?;
        let path = pods.path(Some(text(pod, "/metadata/namespace")), Some(name));
        let tail = match self.tail {
            Some(lines) => (lines >= 0).then_some(lines),
            // As kubectl: of many pods only a little of each.
            None => self.selector.is_some().then_some(10),
        };
        let path = Query::new(format!("{path}/log"))
            .with("container", container)
            .with_some("tailLines", tail.map(|lines| lines.to_string()).as_deref())
            .with_some("follow", self.follow.then_some("true"))
            .with_some("previous", self.previous.then_some("true"))
            .with_some("timestamps", self.timestamps.then_some("true"))
            // In whole seconds, and none of them is none.
            .with_some(
                "sinceSeconds",
                self.since.map(|since| since.as_secs().max(1).to_string()).as_deref(),
            )
            .with_some("sinceTime", self.since_time.map(|time| time.to_string()).as_deref())
            .with_some("limitBytes", self.limit_bytes.map(|bytes| bytes.to_string()).as_deref());
        let prefix = (self.prefix || self.all_pods).then(|| format!("[pod/{name}/{container}] "));
        Ok(Log { path: path.build(), prefix })
    }
}

/// Names of a pod's containers, those that run before the others last, as `kubectl` lists them.
pub(crate) fn container_names(pod: &Value) -> Vec<&str> {
    ["/spec/containers", "/spec/initContainers"]
        .into_iter()
        .filter_map(|list| pod.pointer(list)?.as_array())
        .flatten()
        .map(|container| text(container, "/name"))
        .collect()
}

/// The container that is meant if none is named.
pub(crate) fn default_container(pod: &Value) -> anyhow::Result<&str> {
    let annotations = &pod["metadata"]["annotations"];
    ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"]
        .into_iter()
        .find_map(|name| annotations[name].as_str())
        .or_else(|| container_names(pod).first().copied())
        .context("the pod has no containers")
}

/// One log to print.
#[derive(Debug)]
struct Log {
    path: String,
    prefix: Option<String>,
}

impl Log {
    async fn print(self, api: Api) -> anyhow::Result<()> {
        let mut stream = api.stream(&self.path, JSON).await?;
        let mut line_begins = true;
        while let Some(bytes) = stream.next_bytes().await? {
            let mut out = stdout().lock();
            match &self.prefix {
                None => out.write_all(&bytes)?,
                Some(prefix) => {
                    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                        if line_begins {
                            out.write_all(prefix.as_bytes())?;
                        }
                        out.write_all(line)?;
                        line_begins = line.ends_with(b"\n");
                    }
                }
            }
            out.flush()?;
        }
        Ok(())
    }
}
