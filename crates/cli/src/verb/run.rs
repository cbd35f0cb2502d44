//! `ironmesh run`: a pod of an image, from the command line.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::api::{Api, JSON, Query};
use crate::cli::Context;
use crate::done::OutputArg;
use crate::say;
use crate::target;
use crate::verb::delete::wait_gone;
use crate::verb::dry_run::DryRunArg;
use crate::verb::exec::Session;
use crate::verb::rollout::parse_duration;
use crate::verb::text;

/// Run an image in a pod.
///
/// What follows -- are arguments of the image's own program, or with --command a program instead of it.
///
/// With -i or -t you get into the pod: the image's `sleep` keeps it, and the command after -- (`sh`, for
/// one) runs in it as by `ironmesh exec`. The exit code is the command's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh run web --image=nginx --port=80
  ironmesh run -it --rm client --image=curlimages/curl -- sh
  ironmesh run -i --rm client --image=curlimages/curl -- curl -s http://web/
  ironmesh run once --image=busybox --restart=Never --attach --rm -- echo hello
  ironmesh run web --image=nginx --dry-run=client -o yaml")]
pub(crate) struct Run {
    /// Name of the pod.
    name: String,
    /// The image.
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// Pass standard input to the command.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal.
    #[arg(short = 't', long)]
    tty: bool,
    /// Print what the pod writes, until it ends.
    #[arg(long)]
    attach: bool,
    /// Delete the pod at the end; with -i, -t or --attach.
    #[arg(long)]
    rm: bool,
    /// What follows -- is the program, not arguments of the image's own.
    #[arg(long)]
    command: bool,
    /// Whether the pod starts again when it has ended.
    #[arg(long, value_name = "Always|OnFailure|Never", default_value = "Always")]
    restart: Restart,
    /// A variable; may be given several times.
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Labels besides run=NAME, or instead of it if they have one.
    #[arg(short, long, value_name = "NAME=VALUE,...", value_delimiter = ',')]
    labels: Vec<String>,
    /// An annotation; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    annotations: Vec<String>,
    /// The port on which the container listens.
    #[arg(long)]
    port: Option<u16>,
    /// Always, IfNotPresent or Never.
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,
    /// How long to wait until the pod runs, with -i, -t or --attach.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    pod_running_timeout: Duration,
    /// Say less.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
    /// Arguments, or with --command the program.
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Run {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        self.check()?;
        let (api, pods) = (context.api(), target::resource("pods")?);
        let pod = self.pod(context.namespace())?;
        let made = match self.dry_run.is_client() {
            true => pod,
            false => {
                let path = self.dry_run.on(pods.path(Some(context.namespace()), None));
                api.post(&path, &pod).await?
            }
        };
        if !(self.is_inside() || self.attach) {
            self.output.say(&pods, &made, "created", self.dry_run)?;
            return Ok(ExitCode::SUCCESS);
        }
        let path = pods.path(Some(context.namespace()), Some(&self.name));
        let code = match await_start(&api, &path, &self.name, self.pod_running_timeout).await {
            Err(error) => Err(error),
            Ok(()) if self.is_inside() => self.enter(context).await,
            Ok(()) => self.follow(&api, &path).await,
        };
        if self.rm {
            // Whatever went before; and of no other pod that has its name by now.
            api.delete(&path).await?;
            wait_gone(&api, &path, Some(text(&made, "/metadata/uid"))).await?;
            if !self.quiet {
                writeln!(stdout(), "pod {:?} deleted", self.name)?;
            }
        }
        code
    }

    /// Whether a command is run in the pod for who called.
    fn is_inside(&self) -> bool {
        self.stdin || self.tty
    }

    fn check(&self) -> anyhow::Result<()> {
        let is_attached = self.is_inside() || self.attach;
        ensure!(!self.image.trim().is_empty(), "--image names no image");
        ensure!(is_attached || !self.rm, "--rm should only be used for attached containers");
        ensure!(
            self.dry_run.is_real() || !is_attached,
            "--dry-run can't be used with attached containers options (--attach, --stdin, or --tty)"
        );
        ensure!(!(self.command && self.arguments.is_empty()), "--command: say which, behind --");
        ensure!(
            !(self.is_inside() && self.arguments.is_empty()),
            "say what is to run in the pod, as in: ironmesh run -it {} --image={} -- sh",
            self.name,
            self.image
        );
        Ok(())
    }

    /// The pod.
    fn pod(&self, namespace: &str) -> anyhow::Result<Value> {
        let mut container = json!({ "name": self.name, "image": self.image });
        if self.is_inside() {
            container["command"] = json!(KEEP);
        } else if !self.arguments.is_empty() {
            let field = if self.command { "command" } else { "args" };
            container[field] = json!(self.arguments);
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{ "containerPort": port }]);
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        let variables = pairs("--env", &self.env)?;
        if !variables.is_empty() {
            let variable = |(name, value): (&String, &Value)| json!({"name": name, "value": value});
            container["env"] = variables.iter().map(variable).collect();
        }
        let mut labels = pairs("--labels", &self.labels)?;
        if labels.is_empty() {
            labels.insert("run".to_owned(), json!(self.name));
        }
        let mut metadata = json!({"name": self.name, "namespace": namespace, "labels": labels});
        let annotations = pairs("--annotations", &self.annotations)?;
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        let restart = match self.restart {
            Restart::Always => "Always",
            Restart::OnFailure => "OnFailure",
            Restart::Never => "Never",
        };
        Ok(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"containers": [container], "restartPolicy": restart},
        }))
    }

    /// Runs the command in the pod.
    async fn enter(&self, context: &Context) -> anyhow::Result<ExitCode> {
        if self.tty && !self.quiet {
            say::notice("If you don't see a command prompt, try pressing enter.");
        }
        let command = self.arguments.clone();
        let session = Session { command, stdin: self.stdin, tty: self.tty };
        let code = session.run(context, &self.name, &self.name).await;
        if !self.rm && !self.quiet {
            let (name, namespace) = (&self.name, context.namespace());
            say::notice(&format!(
                "Session ended, resume using 'ironmesh -n {namespace} exec -it {name} -c {name} -- \
                 COMMAND' while the pod is running"
            ));
        }
        code
    }

    /// Prints what the pod writes until it ends; its exit code.
    async fn follow(&self, api: &Api, path: &str) -> anyhow::Result<ExitCode> {
        let log =
            Query::new(format!("{path}/log")).with("container", &self.name).with("follow", "true");
        let mut stream = api.stream(&log.build(), JSON).await?;
        while let Some(bytes) = stream.next_bytes().await? {
            let mut out = stdout().lock();
            out.write_all(&bytes)?;
            out.flush()?;
        }
        let pod = api.get(path).await?;
        let state = state(&pod, &self.name);
        let code = state["terminated"]["exitCode"].as_i64().unwrap_or(0);
        if code != 0 {
            let reason = text(&state["terminated"], "/reason");
            writeln!(stderr(), "pod {} ended with code {code} ({reason})", self.name)?;
        }
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
    }
}

/// `NAME=VALUE`s.
fn pairs(option: &str, words: &[String]) -> anyhow::Result<Map<String, Value>> {
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), json!(value))),
        _ => bail!("{option} {word:?} is not NAME=VALUE"),
    };
    words.iter().map(pair).collect()
}

/// The state of a container.
fn state<'a>(pod: &'a Value, container: &str) -> &'a Value {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let mut statuses = statuses.into_iter().flatten();
    statuses
        .find(|status| status["name"] == container)
        .map_or(&Value::Null, |found| &found["state"])
}

/// Waits until the container of a pod runs, or has run.
async fn await_start(
    api: &Api,
    path: &str,
    container: &str,
    timeout: Duration,
) -> anyhow::Result<()> {
    let starts = async {
        loop {
            let pod = api.get(path).await?;
            let state = state(&pod, container);
            if state["running"].is_object() || state["terminated"].is_object() {
                return Ok(());
            }
            let reason = text(&state["waiting"], "/reason");
            if STUCK.contains(&reason) {
                let message = text(&state["waiting"], "/message");
                bail!("pod {container} does not start: {reason}: {message}");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    match tokio::time::timeout(timeout, starts).await {
        Ok(started) => started,
        Err(_) => bail!(
            "pod {container} does not run after {} s (--pod-running-timeout); `ironmesh describe pod \
             {container}` tells more",
            timeout.as_secs()
        ),
    }
}

/// What keeps a pod while somebody is in it: as long as `sleep` of any image can count.
const KEEP: [&str; 2] = ["sleep", "2147483647"];
/// Reasons for which a container does not start by itself.
const STUCK: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CrashLoopBackOff",
];
/// How often the pod is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn run(line: &str) -> Run {
        let words = std::iter::once("run").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}")).run
    }

    #[test]
    fn a_pod_is_what_the_line_says() {
        let pod = run("web --image=nginx --port=80 -e A=b=c --labels=app=x,v=1 -- -g daemon");
        let pod = pod.pod("shop").unwrap();
        assert_eq!(pod["metadata"]["labels"], json!({"app": "x", "v": "1"}));
        let container = json!({
            "name": "web", "image": "nginx", "args": ["-g", "daemon"],
            "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b=c"}],
        });
        assert_eq!(pod["spec"]["containers"][0], container);
        let pod = run("once --image=b --restart=Never --command -- echo hi").pod("n").unwrap();
        assert_eq!(pod["metadata"]["labels"], json!({"run": "once"}));
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["containers"][0]["command"], json!(["echo", "hi"]));
        let inside = run("-it --rm c --image=b -- sh -c true").pod("n").unwrap();
        assert_eq!(inside["spec"]["containers"][0]["command"], json!(KEEP));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, why) in [
            ("a --image=b --rm", "--rm should only be used"),
            ("-it a --image=b", "-- sh"),
            ("a --image=b --command", "behind --"),
            ("-i a --image=b --dry-run=client -- sh", "--dry-run can't be used"),
        ] {
            let refused = run(line).check().unwrap_err().to_string();
            assert!(refused.contains(why), "{line}: {refused}");
        }
        assert!(run("a --image=b -e =x").pod("n").is_err());
        assert!(run("a --image=b --labels=x").pod("n").is_err());
        for line in ["a", "--image=b", "a --image=b --restart=Sometimes"] {
            assert!(Line::try_parse_from(format!("run {line}").split_whitespace()).is_err());
        }
    }
}
