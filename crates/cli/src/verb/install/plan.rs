//! What an install changes in the mesh that runs, so that it is what was asked for afterwards.

use std::fmt::Write as _;

use anyhow::bail;
use ironmesh_control::gateway;
use ironmesh_dialects::install::Installation;
use ironmesh_dialects::manifest;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::{Setting, Settings};
use serde_json::{Value, json};

use crate::api::{Api, ApiError};
use crate::charts;
use crate::verb::settings;

/// What changes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Settings, with what they are and what they are to be.
    settings: Vec<(String, String, String)>,
    /// Whether the labels of namespaces inject, if that changes.
    injects: Option<bool>,
    /// What is to be there.
    wanted: Vec<Value>,
    /// Which of it is there.
    there: Vec<Value>,
    /// What an earlier install made and nobody asks for any more.
    unwanted: Vec<Value>,
    /// Settings that were to change and cannot.
    pub(crate) unmoved: Vec<String>,
}

impl Plan {
    /// What an installation changes where no mesh runs yet.
    pub(crate) fn from_nothing(installation: &Installation) -> Self {
        let rows = Settings::default().rows();
        let (settings, _) = changed(&rows, installation, false).unwrap_or_default();
        let injects = (!installation.injects_by_label).then_some(false);
        let wanted = wanted(installation);
        Self { settings, injects, wanted, ..Self::default() }
    }

    /// What an installation changes in a mesh.
    ///
    /// # Errors
    ///
    /// If it asks for another value of a setting that is fixed while the mesh runs.
    pub(crate) async fn of(api: &Api, installation: &Installation) -> anyhow::Result<Self> {
        let rows: Vec<Setting> = serde_json::from_value(api.get("/ironmesh/settings").await?)?;
        let (settings, unmoved) = changed(&rows, installation, true)?;
        let wanted = wanted(installation);
        let references: Vec<Value> = wanted.iter().map(charts::reference).collect();
        let there = made(api).await?;
        let unwanted =
            there.iter().filter(|object| !references.contains(object)).cloned().collect();
        let injects = injects(api).await?;
        let injects = (injects != installation.injects_by_label).then_some(!injects);
        Ok(Self { settings, injects, wanted, there, unwanted, unmoved })
    }

    /// What takes back all that installs have made and set.
    pub(crate) async fn of_nothing(api: &Api) -> anyhow::Result<Self> {
        let nothing = Installation::of_operator(&json!({"profile": "empty"}))?;
        let plan = Self::of(api, &nothing).await?;
        let injects = injects(api).await?.then_some(false);
        Ok(Self { injects, ..plan })
    }

    /// The changes for people, one a line; empty if nothing changes.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let shown =
            |value: &str| if value.is_empty() { "\"\"".to_owned() } else { value.to_owned() };
        // Writing to a string does not fail.
        for (name, from, to) in &self.settings {
            let _ = writeln!(text, "~ {name}: {} -> {}", shown(from), shown(to));
        }
        if let Some(injects) = self.injects {
            let word = if injects { "inject" } else { "inject nothing" };
            let _ = writeln!(text, "~ labels of namespaces {word} from now on");
        }
        for object in &self.wanted {
            if !self.there.contains(&charts::reference(object)) {
                let _ = writeln!(text, "+ {}", name_of(object));
            }
        }
        for object in &self.unwanted {
            let _ = writeln!(text, "- {}", name_of(object));
        }
        text
    }

    /// What is deleted, for people.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = String> {
        self.unwanted.iter().map(name_of)
    }

    /// Makes it so. What ends halfway can be carried out again.
    pub(crate) async fn carry_out(
        &self,
        api: &Api,
        installation: &Installation,
    ) -> anyhow::Result<()> {
        let set = self.settings.iter().map(|(name, _, to)| (name.clone(), Some(to.clone())));
        settings::set(api, &set.collect::<Vec<_>>()).await?;
        if let Some(injects) = self.injects {
            charts::install(api, &[charts::injector(injects)]).await?;
        }
        // Noted before it is made, and what goes until it is gone.
        let wanted = self.wanted.iter().map(charts::reference);
        let all: Vec<Value> = wanted.clone().chain(self.unwanted.iter().cloned()).collect();
        note(api, &installation.profile, &all).await?;
        charts::install(api, &self.wanted).await?;
        for object in &self.unwanted {
            charts::delete(api, object).await?;
        }
        Ok(note(api, &installation.profile, &wanted.collect::<Vec<_>>()).await?)
    }

    /// Forgets that anything was installed.
    pub(crate) async fn forget(api: &Api) -> Result<(), ApiError> {
        charts::delete(api, &state("", &[])).await
    }
}

/// Name, value and coming value of each setting that changes, and why others do not.
type Changed = (Vec<(String, String, String)>, Vec<String>);

/// What is not said of goes back to its default.
fn changed(rows: &[Setting], installation: &Installation, runs: bool) -> anyhow::Result<Changed> {
    let (mut changes, mut unmoved) = (Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| !row.name.starts_with(Limits::PREFIX)) {
        let said = installation.setting(&row.name);
        // As the mesh writes it: 1m is 60s.
        let mut as_shown = Settings::default();
        as_shown.set(&row.name, said.unwrap_or(&row.default))?;
        let to = as_shown.value(&row.name);
        if to == row.value {
            continue;
        }
        let Setting { name, value, .. } = row;
        match (runs && Settings::is_fixed(name), said) {
            (false, _) => changes.push((name.clone(), value.clone(), to)),
            (true, Some(_)) => bail!(
                "{name} is {value:?} and fixed while the mesh runs; `ironmesh down`, then install \
                 with {to:?}"
            ),
            (true, None) => unmoved.push(format!(
                "{name} stays {value:?}, though its default is {to:?}: it is fixed while the mesh runs"
            )),
        }
    }
    Ok((changes, unmoved))
}

fn wanted(installation: &Installation) -> Vec<Value> {
    if installation.components().is_empty() {
        return Vec::new();
    }
    let mut wanted = charts::istiod();
    if installation.egress_gateway {
        wanted.extend(gateway::egress());
    }
    wanted.extend(charts::addons(installation, charts::ROOT, "latest"));
    wanted
}

/// What installs have made, as far as it was noted.
async fn made(api: &Api) -> anyhow::Result<Vec<Value>> {
    let noted = state("", &[]);
    let (resource, namespace, name) = charts::identity(&noted);
    match api.get(&resource.path(namespace, Some(name))).await {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        found => {
            let found = found?;
            let text = found["data"]["objects"].as_str().unwrap_or("[]");
            // Anybody may have written it: only what an install can have made is believed.
            let objects: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
            let is_ours = |object: &Value| {
                let (resource, namespace, _) = charts::identity(object);
                namespace == Some(charts::ROOT)
                    && matches!(&*resource.kind, "Deployment" | "Service" | "ServiceAccount")
            };
            Ok(objects.into_iter().filter(is_ours).collect())
        }
    }
}

async fn note(api: &Api, profile: &str, objects: &[Value]) -> Result<(), ApiError> {
    charts::install(api, &[state(profile, objects)]).await
}

/// Where it is noted, by the name of what istioctl notes.
fn state(profile: &str, objects: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "installed-state", "namespace": charts::ROOT},
        "data": {"profile": profile, "objects": Value::from(objects).to_string()},
    })
}

/// Whether the labels of namespaces inject now.
async fn injects(api: &Api) -> Result<bool, ApiError> {
    let off = charts::injector(false);
    let (resource, namespace, name) = charts::identity(&off);
    match api.get(&resource.path(namespace, Some(name))).await {
        Err(error) if error.is_not_found() => Ok(true),
        found => {
            let config = found?["data"]["config"].as_str().unwrap_or_default().to_owned();
            let parsed = manifest::parse(&config);
            Ok(parsed.documents.first().is_none_or(|config| config.value["policy"] != "disabled"))
        }
    }
}

fn name_of(object: &Value) -> String {
    let (resource, namespace, name) = charts::identity(object);
    format!("{} {}/{name}", resource.kind, namespace.unwrap_or_default())
}
