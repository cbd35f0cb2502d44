//! `rollout history` and `rollout undo`: the templates that a workload had before.

use std::io::{Write, stdout};

use anyhow::{Context as _, bail, ensure};
use ironmesh_dialects::kinds::Resource;
use serde_json::{Value, json};

use crate::api::{Api, JSON_PATCH, Query};
use crate::cli::Context;
use crate::done::OutputArg;
use crate::target;
use crate::verb::describe::template;
use crate::verb::dry_run::DryRunArg;
use crate::verb::text;

/// A template that a workload has or had.
#[derive(Debug)]
struct Revision {
    number: i64,
    /// Annotation `kubernetes.io/change-cause`: why it was changed.
    cause: String,
    template: Value,
}

/// Prints the revisions of a workload, or the template of one.
pub(super) async fn show(
    api: &Api,
    context: &Context,
    resource: &Resource,
    name: &str,
    number: Option<i64>,
) -> anyhow::Result<()> {
    let object = api.get(&resource.path(Some(context.namespace()), Some(name))).await?;
    let revisions = revisions(api, resource, &object).await?;
    let kind = resource.qualified_singular();
    let mut out = stdout().lock();
    if let Some(number) = number.filter(|number| *number != 0) {
        let revision = find(&revisions, number)?;
        writeln!(out, "{kind}/{name} with revision #{number}")?;
        write!(out, "{}", template(&revision.template))?;
        return Ok(());
    }
    writeln!(out, "{kind}/{name} ")?;
    // kubectl has these columns nearer to each other than those of its other tables.
    writeln!(out, "REVISION  CHANGE-CAUSE")?;
    for revision in &revisions {
        let cause = if revision.cause.is_empty() { "<none>" } else { &revision.cause };
        writeln!(out, "{:<8}  {cause}", revision.number)?;
    }
    writeln!(out)?;
    Ok(())
}

/// How to go back.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Rollback {
    /// The revision to go back to; 0: the one before.
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    to_revision: i64,
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
}

impl Rollback {
    /// Gives a workload a template that it had before.
    pub(super) async fn run(
        &self,
        api: &Api,
        context: &Context,
        resource: &Resource,
        name: &str,
    ) -> anyhow::Result<()> {
        let path = resource.path(Some(context.namespace()), Some(name));
        let object = api.get(&path).await?;
        if object["spec"]["paused"] == true {
            bail!(
                "you cannot rollback a paused deployment; resume it first with: ironmesh rollout \
                 resume {}/{name}",
                resource.kind.to_ascii_lowercase()
            );
        }
        let revisions = revisions(api, resource, &object).await?;
        let wanted = if self.to_revision != 0 {
            find(&revisions, self.to_revision)?
        } else {
            let before = revisions.len().checked_sub(2).and_then(|at| revisions.get(at));
            before.with_context(|| {
                format!("no rollout history found for {} {name:?}", resource.kind.to_lowercase())
            })?
        };
        let now = &object["spec"]["template"];
        if stripped(now) == wanted.template {
            let number = wanted.number;
            let why =
                format!("skipped rollback (current template already matches revision {number})");
            return self.output.say(resource, &object, &why, self.dry_run);
        }
        let mut patch = vec![
            json!({ "op": "test", "path": "/spec/template", "value": now }),
            json!({ "op": "replace", "path": "/spec/template", "value": wanted.template }),
        ];
        let annotations = object["metadata"]["annotations"].as_object();
        let cause = annotations.and_then(|annotations| annotations.get(CHANGE_CAUSE));
        let cause_path = "/metadata/annotations/kubernetes.io~1change-cause";
        match (cause, wanted.cause.is_empty(), annotations) {
            (_, false, Some(_)) => {
                patch.push(json!({ "op": "add", "path": cause_path, "value": wanted.cause }));
            }
            (Some(_), true, _) => patch.push(json!({ "op": "remove", "path": cause_path })),
            _ => {}
        }
        let after = match self.dry_run.is_client() {
            true => object,
            false => api.patch(&self.dry_run.on(path), JSON_PATCH, &json!(patch)).await?,
        };
        self.output.say(resource, &after, "rolled back", self.dry_run)
    }
}

fn find(revisions: &[Revision], number: i64) -> anyhow::Result<&Revision> {
    let found = revisions.iter().find(|revision| revision.number == number);
    found.with_context(|| format!("unable to find specified revision {number} in history"))
}

/// The revisions of a workload, the oldest first.
async fn revisions(
    api: &Api,
    resource: &Resource,
    object: &Value,
) -> anyhow::Result<Vec<Revision>> {
    let holders = match &*resource.kind {
        "Deployment" => "replicasets",
        "DaemonSet" | "StatefulSet" => "controllerrevisions",
        _ => bail!(
            "no history of {}: there is one of a Deployment, a DaemonSet, a StatefulSet",
            resource.qualified()
        ),
    };
    let namespace = Some(text(object, "/metadata/namespace"));
    let query = Query::new(target::resource(holders)?.path(namespace, None));
    let list = api.get(&query.build()).await?;
    let uid = text(object, "/metadata/uid");
    let is_owner = |owner: &Value| owner["uid"] == uid && owner["controller"] == true;
    let owned = list["items"].as_array().context("the list has no items")?.iter().filter(|item| {
        let owners = item["metadata"]["ownerReferences"].as_array();
        owners.into_iter().flatten().any(is_owner)
    });
    let mut revisions: Vec<Revision> = owned.filter_map(revision).collect();
    revisions.sort_by_key(|revision| revision.number);
    ensure!(!revisions.is_empty(), "no rollout history found for {}", resource.qualified());
    Ok(revisions)
}

/// The revision that a ReplicaSet or ControllerRevision keeps.
fn revision(holder: &Value) -> Option<Revision> {
    let annotations = &holder["metadata"]["annotations"];
    let cause = annotations[CHANGE_CAUSE].as_str().unwrap_or_default().to_owned();
    let number = match holder["revision"].as_i64() {
        Some(number) => number,
        None => annotations["deployment.kubernetes.io/revision"].as_str()?.parse().ok()?,
    };
    let template =
        holder.pointer("/data/spec/template").or_else(|| holder.pointer("/spec/template"))?;
    Some(Revision { number, cause, template: stripped(template) })
}

/// A template without what was added for the pods of one revision.
fn stripped(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(fields) = template.as_object_mut() {
        fields.shift_remove("$patch");
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.shift_remove("pod-template-hash");
    }
    template
}

const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_holders_of_revisions() {
        let template =
            json!({ "metadata": { "labels": { "app": "a", "pod-template-hash": "x" } } });
        let set = json!({
            "metadata": { "annotations": {
                "deployment.kubernetes.io/revision": "3", CHANGE_CAUSE: "because",
            } },
            "spec": { "template": template },
        });
        let of_set = revision(&set).unwrap();
        assert_eq!((of_set.number, &*of_set.cause), (3, "because"));
        assert_eq!(of_set.template, json!({ "metadata": { "labels": { "app": "a" } } }));
        let mut controller = json!({ "revision": 2, "data": { "spec": { "template": template } } });
        controller["data"]["spec"]["template"]["$patch"] = json!("replace");
        assert_eq!(revision(&controller).unwrap().template, of_set.template);
        assert!(revision(&json!({ "spec": { "template": {} } })).is_none());
    }
}
