//! `ironmesh settings`: what `up --set` can set, what is set, and to change it while the mesh runs.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_dialects::manifest;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::{self, BadSetting, Setting};
use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::cli::Context;
use crate::output::table::Columns;
use crate::output::yaml::to_yaml;
use crate::say;

/// Show the settings and limits of the mesh, what they are now and by default; or change settings.
///
/// `ironmesh up --set NAME=VALUE` gives a mesh its settings and limits. While it runs settings can be
/// changed, but for trustDomain and rootNamespace; limits cannot. What is changed stands in the
/// ConfigMap `istio` of the root namespace, as MeshConfig under the key `mesh`, and holds before what
/// `up` was given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh settings
  ironmesh settings limits.proxy               those whose name begins so
  ironmesh settings -o wide                    with what each one does
  ironmesh settings --defaults -o json         without a mesh
  ironmesh settings mtlsMode=STRICT accessLogEncoding=JSON
  ironmesh settings mtlsMode-                  as `up` was told")]
pub(crate) struct Settings {
    /// Show only those whose name begins so; or NAME=VALUE to change, NAME- to take a change back.
    #[arg(value_name = "NAME")]
    words: Vec<String>,
    /// Ask no mesh: show what a new one would have.
    #[arg(long)]
    defaults: bool,
    /// wide for what each one does; json for everything.
    #[arg(short, long, value_parser = ["json", "wide"], value_name = "FORMAT")]
    output: Option<String>,
}

impl Settings {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let changes: Vec<Change> = self.words.iter().filter_map(|word| Change::of(word)).collect();
        if !changes.is_empty() {
            ensure!(changes.len() == self.words.len(), "either show settings, or change them");
            change(&context.api(), &changes).await?;
            let mut out = stdout().lock();
            for Change { name, value } in changes {
                match value {
                    Some(value) => writeln!(out, "{name} is {value:?}")?,
                    None => writeln!(out, "{name} is as the mesh was started")?,
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut rows: Vec<Setting> = if self.defaults {
            let mut rows = settings::Settings::default().rows();
            rows.extend(Limits::default().rows());
            rows
        } else {
            serde_json::from_value(context.api().get("/ironmesh/settings").await?)?
        };
        for name in &self.words {
            let is_any = rows.iter().any(|row| row.name.starts_with(name));
            ensure!(is_any, "no setting has a name that begins with {name:?}");
        }
        let is_wanted = |row: &Setting| self.words.iter().any(|name| row.name.starts_with(name));
        rows.retain(|row| self.words.is_empty() || is_wanted(row));
        let mut out = stdout().lock();
        match self.output.as_deref() {
            Some("json") => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?,
            output => write!(out, "{}", table(&rows, output.is_some()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A change of one setting.
struct Change<'a> {
    name: &'a str,
    /// None: as the mesh was started.
    value: Option<&'a str>,
}

impl<'a> Change<'a> {
    /// Reads NAME=VALUE or NAME-.
    fn of(word: &'a str) -> Option<Self> {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((name, value)), _) => Some(Self { name, value: Some(value) }),
            (None, Some(name)) => Some(Self { name, value: None }),
            (None, None) => None,
        }
    }

    /// Says what is wrong with it before anything is sent.
    fn check(&self) -> anyhow::Result<()> {
        let Self { name, value } = self;
        if settings::Settings::is_fixed(name) || name.starts_with("limits.") {
            bail!(
                "{name} is fixed while the mesh runs; it is given to `ironmesh up --set {name}=...`"
            );
        }
        let mut trial = settings::Settings::default();
        Ok(trial.set(name, value.unwrap_or(&trial.value(name)))?)
    }

    fn apply(&self, config: &mut Map<String, Value>) {
        match self.value {
            Some(value) => {
                let mut at = config;
                let mut names = self.name.split('.').peekable();
                while let Some(name) = names.next() {
                    let inner = at.entry(name).or_insert(Value::Null);
                    if names.peek().is_none() {
                        *inner = value.into();
                        return;
                    }
                    if !inner.is_object() {
                        *inner = json!({});
                    }
                    let Value::Object(fields) = inner else { return };
                    at = fields;
                }
            }
            None => remove(config, self.name),
        }
    }
}

/// Removes a setting, and what is empty without it.
fn remove(config: &mut Map<String, Value>, name: &str) {
    if let Some((outer, rest)) = name.split_once('.') {
        let Some(Value::Object(inner)) = config.get_mut(outer) else { return };
        remove(inner, rest);
        if !inner.is_empty() {
            return;
        }
        config.remove(outer);
    } else {
        config.remove(name);
    }
}

/// What settings are after these changes.
fn changed(rows: &[Setting], changes: &[Change<'_>]) -> anyhow::Result<settings::Settings> {
    let mut settings = settings::Settings::default();
    for row in rows {
        let change = changes.iter().find(|change| change.name == row.name);
        let value: &str = match change {
            Some(Change { value: Some(value), .. }) => value,
            // What it was at the start is not known here, but seldom another than the default.
            Some(_) => &row.default,
            None => &row.value,
        };
        match settings.set(&row.name, value) {
            // Limits are among the rows.
            Ok(()) | Err(BadSetting::Unknown { .. }) => {}
            Err(bad) => return Err(bad.into()),
        }
    }
    Ok(settings)
}

/// Checks what settings must be together, and says what has no effect in them.
pub(crate) fn check(settings: &settings::Settings) -> anyhow::Result<()> {
    settings.check()?;
    for note in settings.access_log_format.notes() {
        say::notice(&format!("accessLogFormat: {note}"));
    }
    Ok(())
}

/// Changes the MeshConfig of the mesh.
async fn change(api: &Api, changes: &[Change<'_>]) -> anyhow::Result<()> {
    for change in changes {
        change.check()?;
    }
    let rows: Vec<Setting> = serde_json::from_value(api.get("/ironmesh/settings").await?)?;
    check(&changed(&rows, changes)?)?;
    let root = rows.iter().find(|row| row.name == "rootNamespace").context("no root namespace")?;
    let maps = format!("/api/v1/namespaces/{}/configmaps", root.value);
    let path = format!("{maps}/istio");
    let found = match api.get(&path).await {
        Err(error) if error.is_not_found() => None,
        found => Some(found?),
    };
    let text = found.as_ref().and_then(|found| found["data"]["mesh"].as_str()).unwrap_or_default();
    let parsed = manifest::parse(text);
    if let Some(error) = parsed.errors.first() {
        bail!("ConfigMap istio, key mesh: {error}");
    }
    let old = parsed.documents.into_iter().next().map(|document| document.value);
    let mut config = match old {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    changes.iter().for_each(|change| change.apply(&mut config));
    let data = json!({"mesh": to_yaml(&Value::Object(config))?});
    match found {
        // Of another who changes it meanwhile one of the two is told.
        Some(found) => {
            let version = &found["metadata"]["resourceVersion"];
            let patch = json!({"metadata": {"resourceVersion": version}, "data": data});
            api.merge(&path, &patch).await?
        }
        None => {
            let metadata = json!({"name": "istio"});
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            api.post(&maps, &map).await?
        }
    };
    Ok(())
}

/// Gives settings of a running mesh these values; none: as it was started. What is as it shall be is
/// left alone, fixed settings among them.
pub(crate) async fn set(api: &Api, values: &[(String, Option<String>)]) -> anyhow::Result<()> {
    let rows: Vec<Setting> = serde_json::from_value(api.get("/ironmesh/settings").await?)?;
    let is_so =
        |name: &str, value: &str| rows.iter().any(|row| row.name == name && row.value == value);
    let changes: Vec<Change> = values
        .iter()
        .map(|(name, value)| Change { name, value: value.as_deref() })
        .filter(|change| !change.value.is_some_and(|value| is_so(change.name, value)))
        .collect();
    if changes.is_empty() { Ok(()) } else { change(api, &changes).await }
}

fn table(rows: &[Setting], wide: bool) -> String {
    let mut columns = Columns::default();
    let mut push = |cells: [&str; 4]| {
        let shown = if wide { 4 } else { 3 };
        columns.push(cells.into_iter().take(shown));
    };
    push(["NAME", "VALUE", "DEFAULT", "ABOUT"]);
    for row in rows {
        // A row is a line.
        let value = row.value.replace('\n', "\\n");
        push([&row.name, &value, &row.default, &row.about]);
    }
    columns.take_text()
}
