//! `ironmesh delete`: deletes objects, and waits until they are gone.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use serde_json::Value;

use crate::api::{Api, Query};
use crate::cli::Context;
use crate::say;
use crate::source::Files;
use crate::target;
use crate::verb::dry_run::DryRunArg;
use crate::verb::rollout::parse_duration;
use crate::verb::{exit, text};

/// Delete objects, named by manifests, by kind and name, or by labels.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh delete -f samples/bookinfo/bookinfo.yaml
  ironmesh delete pod details-v1-5f4d584748-abcde
  ironmesh delete virtualservice/reviews destinationrule/reviews
  ironmesh delete pods -l app=reviews
  ironmesh delete deploy web --cascade=orphan      leave its pods
  ironmesh delete vs --all
  ironmesh delete ns shop --timeout=30s")]
pub(crate) struct Delete {
    #[command(flatten)]
    files: Files,
    /// Kind and names, or KIND/NAME several times.
    words: Vec<String>,
    /// Only objects with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All objects of the kind in the namespace.
    #[arg(long)]
    all: bool,
    /// Objects of all namespaces, with --all or -l.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these fields, such as metadata.name=x.
    #[arg(long)]
    field_selector: Option<String>,
    /// What becomes of what the objects own: background deletes it afterwards, foreground before the
    /// owner is gone, orphan leaves it.
    #[arg(
        long,
        value_enum,
        value_name = "background|foreground|orphan",
        default_value = "background",
        default_missing_value = "background",
        num_args = 0..=1,
        require_equals = true
    )]
    cascade: Cascade,
    /// An object that is not there is no error.
    #[arg(long)]
    ignore_not_found: bool,
    /// Whether to wait until the objects are gone.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    wait: bool,
    /// Seconds that a pod has for an orderly end.
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// As --grace-period=1.
    #[arg(long)]
    now: bool,
    /// With --grace-period=0: do not wait for the end.
    #[arg(long)]
    force: bool,
    /// How long to wait for each object, such as 90s; 0s: its grace period and two minutes.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    dry_run: DryRunArg,
}

/// What becomes of what an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Cascade {
    #[value(alias = "true")]
    Background,
    Foreground,
    #[value(alias = "false")]
    Orphan,
}

impl Cascade {
    /// As the API writes it.
    fn policy(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// An object to delete.
#[derive(Debug)]
struct Doomed {
    resource: Resource,
    namespace: Option<String>,
    name: String,
    /// The file that names it.
    file: Option<String>,
}

impl Delete {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let (doomed, mut failed) = self.doomed(&api, context).await?;
        let mut going = Vec::new();
        for object in &doomed {
            match self.delete(&api, object).await {
                // Of what is gone already there is no object to answer.
                Ok(Some(answer)) if answer["kind"] == "Status" => {}
                Ok(Some(answer)) => going.push((object, self.timeout_for(&answer))),
                Ok(None) => {}
                Err(error) => {
                    say::error(&error);
                    failed = true;
                }
            }
        }
        let waits = self.wait && !self.force && self.dry_run.is_real();
        for (object, timeout) in going.into_iter().filter(|_| waits) {
            match tokio::time::timeout(timeout, wait_gone(&api, &object.path(), None)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    say::error(&error);
                    failed = true;
                }
                Err(_) => {
                    let (kind, name) = (object.resource.qualified(), &object.name);
                    say::notice(&format!("error: timed out waiting for the end of {kind}/{name}"));
                    failed = true;
                }
            }
        }
        Ok(exit(failed))
    }

    /// How long to wait for an object, given what the server said of its deletion.
    fn timeout_for(&self, answer: &Value) -> Duration {
        let grace = answer["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
        if self.timeout.is_zero() { END_TIMEOUT + Duration::from_secs(grace) } else { self.timeout }
    }

    /// What is to be deleted, and whether something could not be read.
    async fn doomed(&self, api: &Api, context: &Context) -> anyhow::Result<(Vec<Doomed>, bool)> {
        if self.files.are_given() {
            ensure!(self.words.is_empty(), "give files or names, not both");
            ensure!(
                self.selector.is_none() && !self.all,
                "-l and --all choose among the objects of a kind, not among those of files"
            );
            return self.doomed_by_files(api, context).await;
        }
        let by_labels = self.selector.is_some() || self.field_selector.is_some();
        let mut doomed = Vec::new();
        for target in target::parse(api, &self.words).await? {
            let namespace = target.resource.namespaced.then(|| context.namespace().to_owned());
            if let Some(name) = target.name {
                doomed.push(Doomed { resource: target.resource, namespace, name, file: None });
                continue;
            }
            if !self.all && !by_labels {
                bail!("resource(s) were provided, but no name was specified; use --all for all");
            }
            let namespace = namespace.filter(|_| !self.all_namespaces);
            let path = Query::new(target.resource.path(namespace.as_deref(), None))
                .with_some("labelSelector", self.selector.as_deref())
                .with_some("fieldSelector", self.field_selector.as_deref());
            let list = api.get(&path.build()).await?;
            for item in list["items"].as_array().context("the list has no items")? {
                let name = text(item, "/metadata/name").to_owned();
                let namespace = item["metadata"]["namespace"].as_str().map(str::to_owned);
                let resource = target.resource.clone();
                doomed.push(Doomed { resource, namespace, name, file: None });
            }
        }
        if doomed.is_empty() {
            say::notice("No resources found");
        }
        Ok((doomed, false))
    }

    async fn doomed_by_files(
        &self,
        api: &Api,
        context: &Context,
    ) -> anyhow::Result<(Vec<Doomed>, bool)> {
        let mut loaded = self.files.load()?;
        loaded.learn_kinds(api).await?;
        let mut failed = loaded.say_problems("deleted");
        let mut doomed = Vec::new();
        for manifest in &loaded.objects {
            match manifest.namespace(context.home()) {
                Ok(namespace) => doomed.push(Doomed {
                    resource: manifest.resource(),
                    namespace,
                    name: manifest.name().to_owned(),
                    file: Some(manifest.file.clone()),
                }),
                Err(error) => {
                    say::error(&error);
                    failed = true;
                }
            }
        }
        if doomed.is_empty() && !failed {
            say::notice("No resources found");
        }
        Ok((doomed, failed))
    }

    /// Deletes one object; what the server said, or none if there was nothing to delete.
    async fn delete(&self, api: &Api, object: &Doomed) -> anyhow::Result<Option<Value>> {
        let grace = self.grace_period.or(self.now.then_some(1));
        let query = Query::new(object.path())
            .with_some("gracePeriodSeconds", grace.map(|g| g.to_string()).as_deref())
            .with("propagationPolicy", self.cascade.policy());
        let path = self.dry_run.parameter(query).build();
        let answer = match self.dry_run.is_client() {
            true => api.get(&object.path()).await,
            false => api.delete(&path).await,
        };
        match answer {
            Ok(answer) => {
                let kind = object.resource.qualified_singular();
                let force = if self.force { " force" } else { "" };
                let suffix = self.dry_run.suffix();
                writeln!(stdout(), "{kind} {:?}{force} deleted{suffix}", object.name)?;
                Ok(Some(answer))
            }
            Err(error) if error.is_not_found() && self.ignore_not_found => Ok(None),
            Err(error) => match (&object.file, error) {
                (Some(file), crate::api::ApiError::Refused { reason, mut message, .. }) => {
                    // The definition of its kind is gone, and it with that.
                    if message == NO_SUCH_RESOURCE {
                        let resource = object.resource.qualified();
                        message = format!("{message} (delete {resource} {})", object.name);
                    }
                    bail!("Error from server ({reason}): error when deleting {file:?}: {message}")
                }
                (_, error) => Err(error.into()),
            },
        }
    }
}

impl Doomed {
    fn path(&self) -> String {
        self.resource.path(self.namespace.as_deref(), Some(&self.name))
    }
}

/// Waits until the object of a path is gone, or another has its name. Without a `uid` it is the one
/// that is there now.
pub(crate) async fn wait_gone(api: &Api, path: &str, uid: Option<&str>) -> anyhow::Result<()> {
    let mut first = uid.map(str::to_owned);
    loop {
        match api.get(path).await {
            Ok(there) => {
                let uid = text(&there, "/metadata/uid");
                if first.get_or_insert_with(|| uid.to_owned()) != uid {
                    return Ok(());
                }
            }
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How long an object may take to be gone beyond its grace period.
pub(crate) const END_TIMEOUT: Duration = Duration::from_secs(120);
/// How often it is looked whether an object is gone.
const POLL: Duration = Duration::from_millis(50);
/// What a server says of a path that it does not serve.
const NO_SUCH_RESOURCE: &str = "the server could not find the requested resource";
