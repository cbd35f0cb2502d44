//! `apply --prune`: deletes what an earlier apply made and the manifests no longer have, by kubectl's
//! rules: of certain kinds, with certain labels, in the namespaces that the manifests are about, and only
//! what an apply has made.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use serde_json::Value;

use super::LAST_APPLIED;
use crate::api::{Api, Query};
use crate::done::OutputArg;
use crate::say;
use crate::verb::dry_run::DryRunArg;
use crate::verb::text;

/// Delete what the manifests no longer have.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Prune {
    /// Delete what an apply has made with the labels of -l, or with --all, and the manifests no longer
    /// have, in the namespaces that they are about.
    #[arg(long)]
    prune: bool,
    /// With --prune: whatever the labels.
    #[arg(long, conflicts_with = "selector")]
    all: bool,
    /// With --prune: delete only of these kinds, instead of Kubernetes' usual ones; may be given several
    /// times.
    #[arg(long, value_name = "GROUP/VERSION/KIND", visible_alias = "prune-whitelist")]
    prune_allowlist: Vec<String>,
}

impl Prune {
    /// Refuses what might delete more than is meant.
    pub(super) fn check(&self, selector: Option<&str>, server_side: bool) -> anyhow::Result<()> {
        let is_selective = selector.is_some_and(|selector| !selector.trim().is_empty());
        ensure!(
            !self.prune || self.all || is_selective,
            "all resources selected for prune without explicitly passing --all. To prune all \
             resources, pass the --all flag. If you did not mean to prune all resources, specify a \
             label selector"
        );
        ensure!(
            !(self.prune && server_side),
            "--prune tells what apply has made by an annotation that --server-side does not write; \
             use one of them"
        );
        ensure!(
            self.prune || !self.all && self.prune_allowlist.is_empty(),
            "--all and --prune-allowlist say what --prune deletes, and there is no --prune"
        );
        self.kinds().map(drop)
    }

    fn kinds(&self) -> anyhow::Result<Vec<Resource>> {
        if self.prune_allowlist.is_empty() {
            return Ok(KINDS.map(|(version, kind)| Resource::of(version, kind)).to_vec());
        }
        self.prune_allowlist.iter().map(|text| kind(text)).collect()
    }
}

/// `GROUP/VERSION/KIND`; the group of Pods and the like is `core`.
fn kind(text: &str) -> anyhow::Result<Resource> {
    let parts: Vec<&str> = text.split('/').collect();
    let [group, version, kind] = parts[..] else {
        bail!("invalid GroupVersionKind format: {text}, please follow <group/version/kind>");
    };
    let api_version = match group {
        "core" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    Ok(Resource::of(&api_version, kind))
}

/// What was applied, so that it stays.
#[derive(Debug, Default)]
pub(super) struct Pruning {
    uids: HashSet<String>,
    namespaces: BTreeSet<String>,
}

impl Pruning {
    /// Notes an object that was applied.
    pub(super) fn keep(&mut self, object: &Value) {
        self.uids.insert(text(object, "/metadata/uid").to_owned());
        let namespace = text(object, "/metadata/namespace");
        if !namespace.is_empty() {
            self.namespaces.insert(namespace.to_owned());
        }
    }

    /// Deletes the rest, if that is asked for; tells whether any of it failed.
    pub(super) async fn prune(
        &self,
        api: &Api,
        how: &Prune,
        selector: &str,
        dry_run: DryRunArg,
        output: &OutputArg,
    ) -> anyhow::Result<bool> {
        let mut failed = false;
        if !how.prune {
            return Ok(failed);
        }
        for resource in how.kinds()? {
            for object in self.leftovers(api, &resource, selector).await? {
                let namespace = resource.namespaced.then(|| text(&object, "/metadata/namespace"));
                let path = resource.path(namespace, Some(text(&object, "/metadata/name")));
                if !dry_run.is_client()
                    && let Err(error) = api.delete(&dry_run.on(path)).await
                    && !error.is_not_found()
                {
                    say::error(&error.into());
                    failed = true;
                    continue;
                }
                output.say(&resource, &object, "pruned", dry_run)?;
            }
        }
        Ok(failed)
    }

    /// What an apply has made of a kind and was not applied now.
    async fn leftovers(
        &self,
        api: &Api,
        resource: &Resource,
        selector: &str,
    ) -> anyhow::Result<Vec<Value>> {
        let mut namespaces: Vec<Option<&str>> =
            self.namespaces.iter().map(|name| Some(name.as_str())).collect();
        if !resource.namespaced {
            namespaces = vec![None];
        }
        let mut all = Vec::new();
        for namespace in namespaces {
            let labels = Some(selector).filter(|selector| !selector.is_empty());
            let query =
                Query::new(resource.path(namespace, None)).with_some("labelSelector", labels);
            let mut list = match api.get(&query.build()).await {
                // Nobody has defined such a kind.
                Err(error) if error.is_not_found() => continue,
                list => list?,
            };
            let items = list["items"].as_array_mut().context("the list has no items")?;
            all.append(items);
        }
        all.retain(|object| {
            object["metadata"]["annotations"][LAST_APPLIED].is_string()
                && object["metadata"]["deletionTimestamp"].is_null()
                && !self.uids.contains(text(object, "/metadata/uid"))
        });
        Ok(all)
    }
}

/// What kubectl prunes if nothing else is said, in its order.
const KINDS: [(&str, &str); 16] = [
    ("v1", "ConfigMap"),
    ("v1", "Endpoints"),
    ("v1", "Namespace"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "PersistentVolume"),
    ("v1", "Pod"),
    ("v1", "ReplicationController"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("networking.k8s.io/v1", "Ingress"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_pruned_by_mistake() {
        let prune = Prune { prune: true, ..Prune::default() };
        let all = Prune { all: true, ..prune.clone() };
        assert!(prune.check(Some("app=a"), false).is_ok() && all.check(None, false).is_ok());
        for selector in [None, Some(""), Some("  ")] {
            let refused = prune.check(selector, false).unwrap_err().to_string();
            assert!(refused.contains("without explicitly passing --all"), "{refused}");
        }
        assert!(prune.check(Some("app=a"), true).is_err(), "nothing tells what was applied");
        assert!(Prune { all: true, ..Prune::default() }.check(None, false).is_err());
        for bad in ["", "v1/Pod", "a/b/c/d"] {
            let bad = Prune { prune_allowlist: vec![bad.to_owned()], ..all.clone() };
            assert!(bad.check(None, false).is_err(), "{bad:?}");
        }
        let kinds =
            Prune { prune_allowlist: vec!["core/v1/Pod".to_owned()], ..all }.kinds().unwrap();
        assert_eq!(kinds, [Resource::of("v1", "Pod")]);
    }
}
