//! A command line of helm, as far as it has to be understood.

use anyhow::{Context as _, bail};
use ironmesh_dialects::install::{assign_all, overlay};
use ironmesh_dialects::manifest;
use serde_json::{Value, json};

use crate::contexts::{self, Contexts};
use crate::helm::repositories;

/// A command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    words: Vec<String>,
    flags: Vec<(String, String)>,
}

/// A chart of Istio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chart {
    /// `istio`, `istio-init`, `base`, `istiod` or `gateway`.
    pub(super) name: String,
    /// Its version; empty if nothing says it.
    pub(super) version: String,
}

impl Line {
    /// Sorts words from flags.
    pub(super) fn read(arguments: &[String]) -> Self {
        let mut line = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix('-') else {
                line.words.push(argument.clone());
                continue;
            };
            let name = flag.trim_start_matches('-');
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if TAKES_NO_VALUE.contains(&name) => (name, "true".to_owned()),
                None => (name, rest.next().cloned().unwrap_or_default()),
            };
            let name = match name {
                "n" => "namespace",
                "f" => "values",
                "kubecontext" => "kube-context",
                name => name,
            };
            line.flags.push((name.to_owned(), value));
        }
        line
    }

    /// The words that are no flags.
    pub(super) fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// The last value of a flag.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        let mut given = self.flags.iter().rev();
        given.find(|(flag, _)| flag == name).map(|(_, value)| value.as_str())
    }

    /// The mesh that is meant: a context is one.
    pub(super) fn mesh(&self) -> anyhow::Result<String> {
        let environment = std::env::var("IRONMESH_MESH").ok();
        let name =
            Contexts::load()?.choose(self.flag("kube-context"), None, environment.as_deref());
        contexts::check_name(&name)?;
        Ok(name)
    }

    /// Whether it says itself which cluster is meant.
    pub(super) fn names_cluster(&self) -> bool {
        ["kubeconfig", "kube-apiserver"].iter().any(|flag| self.flag(flag).is_some())
    }

    /// Whether it does anything with a cluster.
    pub(super) fn needs_cluster(&self) -> bool {
        let verb = self.words.first().map_or("", String::as_str);
        IN_CLUSTER.contains(&verb)
    }

    /// The namespace that is meant.
    pub(super) fn namespace(&self) -> &str {
        self.flag("namespace").unwrap_or("default")
    }

    /// Name of the release, and its chart, of the words behind install or upgrade; none if the chart
    /// is not Istio's. Helm 2 gives the name by --name, Helm 3 as a word before the chart.
    pub(super) fn chart(&self, words: &[&str]) -> anyhow::Result<Option<(String, Chart)>> {
        let (name, chart) = match (self.flag("name"), words) {
            (Some(name), [chart]) => (Some(name), chart),
            (None, [name, chart]) => (Some(*name), chart),
            (None, [chart]) => (None, chart),
            _ => return Ok(None),
        };
        let Some(mut chart) = Chart::of(chart) else { return Ok(None) };
        if let Some(version) = self.flag("version") {
            chart.version = version.trim_matches('"').to_owned();
        }
        let name = name.unwrap_or(&chart.name).to_owned();
        Ok(Some((name, chart)))
    }

    /// The values of files and of the command line, the later ones over the earlier.
    pub(super) fn values(&self) -> anyhow::Result<Value> {
        let mut values = json!({});
        for (_, file) in self.flags.iter().filter(|(flag, _)| flag == "values") {
            let text = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
            let parsed = manifest::parse(&text);
            if let Some(error) = parsed.errors.first() {
                bail!("{file}: {error}");
            }
            for document in parsed.documents {
                overlay(&mut values, document.value);
            }
        }
        for (_, text) in self.flags.iter().filter(|(flag, _)| flag == "set" || flag == "set-string")
        {
            assign_all(&mut values, text)?;
        }
        Ok(values)
    }
}

impl Chart {
    /// A chart of Istio's by a name of its repository, or by the folder that its releases have it in.
    fn of(word: &str) -> Option<Self> {
        let word = word.trim_end_matches('/');
        let (before, name) = word.rsplit_once('/')?;
        let is_folder =
            ["install/kubernetes/helm", "manifests/charts", "manifests/charts/istio-control"]
                .iter()
                .any(|folder| before == *folder || before.ends_with(&format!("/{folder}")));
        let is_named = !before.contains('/') && matches!(before, "istio" | "istio.io");
        if !(is_folder || is_named) || !NAMES.contains(&name) {
            return None;
        }
        // `istio-1.0.0-snapshot.1/install/...`
        let of_folder = before.split('/').find_map(|part| {
            part.strip_prefix("istio-")
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        let version = match of_folder {
            Some(version) => version.to_owned(),
            None if is_named => repositories::version(before),
            None => String::new(),
        };
        Some(Self { name: name.to_owned(), version })
    }

    /// Whether a repository is one of Istio's.
    pub(super) fn is_repository(name: &str, url: &str) -> bool {
        matches!(name, "istio" | "istio.io") && url.contains("istio-release")
    }
}

const NAMES: [&str; 5] = ["istio", "istio-init", "base", "istiod", "gateway"];
/// Flags that stand alone.
const TAKES_NO_VALUE: &[&str] = &[
    "purge",
    "wait",
    "atomic",
    "debug",
    "dry-run",
    "force",
    "install",
    "i",
    "create-namespace",
    "devel",
    "no-hooks",
    "skip-crds",
    "h",
    "help",
    "generate-name",
    "all-namespaces",
    "A",
    "short",
    "q",
    "logs",
    "cleanup-on-fail",
    "dependency-update",
    "hide-notes",
    "include-crds",
    "keep-history",
    "render-subchart-notes",
    "replace",
    "reset-values",
    "reuse-values",
    "reset-then-reuse-values",
    "skip-tests",
    "validate",
    "verify",
    "wait-for-jobs",
];
/// Verbs that act on a cluster; the others work without one.
const IN_CLUSTER: &[&str] = &[
    "install",
    "upgrade",
    "uninstall",
    "un",
    "del",
    "delete",
    "list",
    "ls",
    "status",
    "get",
    "history",
    "hist",
    "rollback",
    "test",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_commands_of_texts_are_understood() {
        let chart = |text: &str| {
            let line = line(text);
            let words = line.words();
            let (name, chart) = line.chart(&words[1..]).unwrap()?;
            Some(format!("{name} {} {} {}", chart.name, chart.version, line.namespace()))
        };
        for (text, expected) in [
            (
                "install ./istio-1.0.0-snapshot.1/install/kubernetes/helm/istio --name istio --namespace istio-system --set a=b",
                Some("istio istio 1.0.0-snapshot.1 istio-system"),
            ),
            (
                "install istio.io/istio --name mesh --namespace=istio-system --version 1.3.2 --wait",
                Some("mesh istio 1.3.2 istio-system"),
            ),
            ("install istiod istio/istiod -n istio-system", Some("istiod istiod  istio-system")),
            ("install install/kubernetes/helm/istio-init/", Some("istio-init istio-init  default")),
            ("install ratingsdb bitnami/mongodb -n db", None),
            ("install mine ./charts/istio", None),
            ("install istio", None),
            ("install a b c", None),
        ] {
            assert_eq!(chart(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn values_are_laid_over_one_another() {
        let line = line("install x --set a.b=1,a.c=2 --set a.b=3 --set-string d=x");
        assert_eq!(line.values().unwrap(), json!({"a": {"b": 3, "c": 2}, "d": "x"}));
        assert!(Line::read(&["--set".to_owned(), "a".to_owned()]).values().is_err());
        assert_eq!(Line::read(&["--set".to_owned()]).flag("set"), Some(""));
    }
}
