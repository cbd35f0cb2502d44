//! `ironmesh wait`: waits until objects are as they should be.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use serde_json::Value;
use tokio::time::Instant;

use crate::api::{Api, Query};
use crate::cli::Context;
use crate::output::jsonpath::JsonPath;
use crate::output::relaxed_path;
use crate::output::table::cell;
use crate::say;
use crate::source::Files;
use crate::target;
use crate::verb::rollout::parse_duration;
use crate::verb::{exit, text};

/// Wait until objects have a condition or a value, are made, or are gone.
///
/// The objects are those that there are when the command begins.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh wait --for=condition=Ready pod -l app=reviews --timeout=60s
  ironmesh wait --for=condition=Available deployment --all
  ironmesh wait --for=jsonpath='{.status.phase}'=Running pod/mypod
  ironmesh wait --for=delete pod/mypod pod/other
  ironmesh wait --for=create service/web")]
pub(crate) struct Wait {
    /// Kind and names, or KIND/NAME several times.
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// condition=NAME[=STATUS], jsonpath='{PATH}'[=VALUE], create, or delete.
    #[arg(long = "for", value_name = "WHAT", value_parser = parse_goal)]
    goal: Goal,
    /// Only objects with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Only objects with these fields, such as metadata.name=x.
    #[arg(long)]
    field_selector: Option<String>,
    /// All objects of the kind in the namespace.
    #[arg(long)]
    all: bool,
    /// Objects of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// How long to wait; 0s: look once.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
}

/// What is waited for.
#[derive(Clone, Debug)]
enum Goal {
    Made,
    Gone,
    Condition {
        name: String,
        status: String,
    },
    /// A value, or any.
    Field {
        path: JsonPath,
        value: Option<String>,
    },
}

/// An object that is waited for.
#[derive(Debug)]
struct Awaited {
    resource: Resource,
    path: String,
    name: String,
    /// Of an object that was seen: another one of its name is not it.
    uid: Option<String>,
}

impl Wait {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let deadline = Instant::now() + self.timeout;
        let awaited = self.awaited(&api, context).await?;
        if awaited.is_empty() && !matches!(self.goal, Goal::Gone) {
            bail!("no matching resources found");
        }
        let mut failed = false;
        for object in &awaited {
            match self.reach(&api, object, deadline).await {
                Ok(true) => {
                    let kind = object.resource.qualified_singular();
                    writeln!(stdout(), "{kind}/{} condition met", object.name)?;
                }
                Ok(false) => {
                    let (kind, name) = (&object.resource.plural, &object.name);
                    say::notice(&format!(
                        "error: timed out waiting for the condition on {kind}/{name}"
                    ));
                    failed = true;
                }
                Err(error) => {
                    say::error(&error);
                    failed = true;
                }
            }
        }
        Ok(exit(failed))
    }

    /// The objects that are meant, as they are now.
    async fn awaited(&self, api: &Api, context: &Context) -> anyhow::Result<Vec<Awaited>> {
        let mut all = Vec::new();
        if self.files.are_given() {
            ensure!(self.words.is_empty(), "give files or names, not both");
            let mut loaded = self.files.load_some("wait")?;
            loaded.learn_kinds(api).await?;
            ensure!(!loaded.say_problems("waited for"), "some manifests cannot be read");
            for manifest in &loaded.objects {
                manifest.check_kind()?;
                let namespace = manifest.namespace(context.home())?;
                let (resource, name) = (manifest.resource(), manifest.name());
                all.push(self.one(api, resource, namespace.as_deref(), name).await?);
            }
            return Ok(all.into_iter().flatten().collect());
        }
        for target in target::parse(api, &self.words).await? {
            let namespace = (!self.all_namespaces).then(|| context.namespace());
            if let Some(name) = &target.name {
                all.push(self.one(api, target.resource, namespace, name).await?);
                continue;
            }
            if !self.all && self.selector.is_none() && self.field_selector.is_none() {
                bail!("resource(s) were provided, but no name was specified; use --all for all");
            }
            let query = Query::new(target.resource.path(namespace, None))
                .with_some("labelSelector", self.selector.as_deref())
                .with_some("fieldSelector", self.field_selector.as_deref());
            let list = api.get(&query.build()).await?;
            for item in list["items"].as_array().context("the list has no items")? {
                let namespace = item.pointer("/metadata/namespace").and_then(Value::as_str);
                all.push(Some(Awaited::seen(&target.resource, namespace, item)));
            }
        }
        Ok(all.into_iter().flatten().collect())
    }

    /// A named object; none if it is gone, and that is waited for.
    async fn one(
        &self,
        api: &Api,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> anyhow::Result<Option<Awaited>> {
        let path = resource.path(namespace, Some(name));
        if matches!(self.goal, Goal::Made) {
            return Ok(Some(Awaited { resource, path, name: name.to_owned(), uid: None }));
        }
        match api.get(&path).await {
            Ok(object) => Ok(Some(Awaited::seen(&resource, namespace, &object))),
            Err(error) if error.is_not_found() && matches!(self.goal, Goal::Gone) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for one object; whether the goal was reached in time.
    async fn reach(&self, api: &Api, object: &Awaited, deadline: Instant) -> anyhow::Result<bool> {
        loop {
            let there = match api.get(&object.path).await {
                Ok(there) => Some(there),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            };
            let is_it = |there: &Value| {
                object.uid.as_deref().is_none_or(|uid| text(there, "/metadata/uid") == uid)
            };
            let there = there.filter(is_it);
            let reached = match (&self.goal, &there) {
                (Goal::Gone, there) => there.is_none(),
                (Goal::Made, there) => there.is_some(),
                (Goal::Condition { name, status }, Some(there)) => has(there, name, status),
                (Goal::Field { path, value }, Some(there)) => {
                    is_value(there, path, value.as_deref())
                }
                (_, None) => bail!(
                    "Error from server (NotFound): {} {:?} not found",
                    object.resource.qualified(),
                    object.name
                ),
            };
            if reached || Instant::now() >= deadline {
                return Ok(reached);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Awaited {
    fn seen(resource: &Resource, namespace: Option<&str>, object: &Value) -> Self {
        let name = text(object, "/metadata/name").to_owned();
        Self {
            resource: resource.clone(),
            path: resource.path(namespace, Some(&name)),
            name,
            uid: Some(text(object, "/metadata/uid").to_owned()),
        }
    }
}

fn parse_goal(text: &str) -> Result<Goal, String> {
    let takes = "it takes condition=NAME[=STATUS], jsonpath='{PATH}'[=VALUE], create or delete";
    match text.split_once('=') {
        None if text.eq_ignore_ascii_case("delete") => Ok(Goal::Gone),
        None if text.eq_ignore_ascii_case("create") => Ok(Goal::Made),
        Some(("condition", condition)) => {
            let (name, status) = condition.split_once('=').unwrap_or((condition, "True"));
            Ok(Goal::Condition { name: name.to_owned(), status: status.to_owned() })
        }
        Some(("jsonpath", rest)) => {
            // The path ends with its brace; `=` may stand in it.
            let end = match rest.starts_with('{') {
                true => rest.rfind('}').map(|at| at + 1).ok_or(takes)?,
                false => rest.find('=').unwrap_or(rest.len()),
            };
            let (path, value) = rest.split_at(end);
            let value = match value.strip_prefix('=') {
                Some("") => return Err("jsonpath: the value after '=' is missing".to_owned()),
                Some(value) => Some(value.trim_matches(['"', '\'']).to_owned()),
                None if value.is_empty() => None,
                None => return Err(takes.to_owned()),
            };
            let path = relaxed_path(path).parse().map_err(|error| format!("{error}"))?;
            Ok(Goal::Field { path, value })
        }
        _ => Err(takes.to_owned()),
    }
}

/// Whether an object has a condition with a status; letter case is ignored, as `kubectl` does. What
/// was said of an older generation does not count.
fn has(object: &Value, name: &str, status: &str) -> bool {
    let generation = object["metadata"]["generation"].as_i64();
    let observed = object["status"]["observedGeneration"].as_i64();
    if observed.is_some_and(|observed| generation.is_some_and(|now| observed < now)) {
        return false;
    }
    object["status"]["conditions"].as_array().into_iter().flatten().any(|condition| {
        text(condition, "/type").eq_ignore_ascii_case(name)
            && text(condition, "/status").eq_ignore_ascii_case(status)
    })
}

/// Whether a path leads to a value, or to any if none is named; of several all must be it.
fn is_value(object: &Value, path: &JsonPath, wanted: Option<&str>) -> bool {
    let found = path.values(object);
    let is_wanted = |value: &&Value| wanted.is_none_or(|wanted| cell(value) == wanted);
    !found.is_empty() && found.iter().all(is_wanted)
}

/// How often it is looked.
const POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_at_paths() {
        let pod = json!({ "status": { "phase": "Running", "ips": [1, 1], "ready": true } });
        for (goal, reached) in [
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Running", true),
            ("jsonpath=.status.phase=Running", true),
            ("jsonpath={.status.phase}=Pending", false),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.none}", false),
            ("jsonpath={.status.ready}=true", true),
            ("jsonpath={.status.ips[*]}=1", true),
            ("jsonpath={.status.ips[?(@==1)]}=1", true),
        ] {
            // A shell takes the quotes away.
            let Ok(Goal::Field { path, value }) = parse_goal(&goal.replace('\'', "")) else {
                panic!("{goal}");
            };
            assert_eq!(is_value(&pod, &path, value.as_deref()), reached, "{goal}");
        }
        for bad in ["jsonpath={.a", "jsonpath={.a}=", "jsonpath={.a}x", "condition", "ready", "x=y"]
        {
            assert!(parse_goal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn conditions_of_an_older_generation_do_not_count() {
        let of = |observed: i64| {
            json!({
                "metadata": { "generation": 2 },
                "status": {
                    "observedGeneration": observed,
                    "conditions": [{ "type": "Available", "status": "True" }],
                },
            })
        };
        assert!(has(&of(2), "available", "true") && !has(&of(1), "Available", "True"));
    }
}
