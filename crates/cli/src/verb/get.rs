//! `ironmesh get`: shows objects.

mod sort;
mod watch;

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::api::{Api, ApiError, Query};
use crate::cli::Context;
use crate::output::Output;
use crate::output::table::{Columns, Shown, cell};
use crate::output::yaml::to_yaml;
use crate::source::Files;
use crate::target::{self, Target};
use crate::verb::{exit, text};
use crate::{output, say};
use sort::SortBy;

/// Show objects: as a table, as YAML or JSON, or fields of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh get pods
  ironmesh get pods -A -o wide
  ironmesh get pods,svc -l app=reviews --show-labels
  ironmesh get pods -L app,version --sort-by=.metadata.creationTimestamp
  ironmesh get virtualservice reviews -o yaml
  ironmesh get -f my.yaml
  ironmesh get deploy/productpage-v1 svc/productpage
  ironmesh get pods,svc -w
  ironmesh get pods -o custom-columns=NAME:.metadata.name,IP:.status.podIP
  ironmesh get svc istio-ingressgateway -n istio-system \\
      -o jsonpath='{.status.loadBalancer.ingress[0].ip}'")]
pub(crate) struct Get {
    /// Kind and names; several kinds with commas; KIND/NAME; all.
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// wide, yaml, json, name, jsonpath=TEMPLATE, custom-columns=NAME:PATH,...
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
    /// Objects of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Only objects with these fields, such as metadata.name=x.
    #[arg(long)]
    field_selector: Option<String>,
    /// Show the labels in a last column.
    #[arg(long)]
    show_labels: bool,
    /// Show these labels in columns of their own; with commas, or several times.
    #[arg(short = 'L', long, value_name = "LABEL", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// The order: by a field, such as .metadata.creationTimestamp.
    #[arg(long, value_name = "PATH")]
    sort_by: Option<SortBy>,
    /// Put the kind before each name.
    #[arg(long)]
    show_kind: bool,
    /// Leave out the head of tables.
    #[arg(long)]
    no_headers: bool,
    /// An object that is not there is no error.
    #[arg(long)]
    ignore_not_found: bool,
    /// Leave metadata.managedFields in what is printed.
    #[arg(long)]
    show_managed_fields: bool,
    /// Print what the API has at a path, as it is.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["output", "filename", "watch"])]
    raw: Option<String>,
    /// After what is there, show every change.
    #[arg(short, long)]
    watch: bool,
    /// Show changes only, and not what is there.
    #[arg(long)]
    watch_only: bool,
}

/// A target and the namespace in which it is; none: in all.
#[derive(Clone, Debug)]
struct Wanted {
    target: Target,
    namespace: Option<String>,
}

impl Get {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        if let Some(path) = &self.raw {
            ensure!(path.starts_with('/'), "--raw {path:?} is no path: it begins with '/'");
            writeln!(stdout(), "{}", api.get(path).await?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let wanted = self.wanted(&api, context).await?;
        if self.watch || self.watch_only {
            return self.follow(&api, &wanted).await;
        }
        match self.output.clone().unwrap_or_default() {
            Output::Table | Output::Wide => self.tables(&api, context, &wanted).await,
            output => self.objects(&api, &wanted, &output).await,
        }
    }

    async fn wanted(&self, api: &Api, context: &Context) -> anyhow::Result<Vec<Wanted>> {
        if self.files.are_given() {
            ensure!(self.words.is_empty(), "give files or names, not both");
            let mut loaded = self.files.load_some("get")?;
            loaded.learn_kinds(api).await?;
            ensure!(!loaded.say_problems("shown"), "some manifests cannot be read");
            let wanted = loaded.objects.iter().map(|manifest| {
                manifest.check_kind()?;
                let namespace = manifest.namespace(context.home())?;
                let name = Some(manifest.name().to_owned());
                Ok(Wanted { target: Target { resource: manifest.resource(), name }, namespace })
            });
            return wanted.collect();
        }
        let targets = target::parse(api, &self.words).await?;
        if self.all_namespaces && targets.iter().any(|target| target.name.is_some()) {
            bail!("a resource cannot be retrieved by name across all namespaces");
        }
        let namespace = (!self.all_namespaces).then(|| context.namespace().to_owned());
        let wanted = |target| Wanted { target, namespace: namespace.clone() };
        Ok(targets.into_iter().map(wanted).collect())
    }

    /// Prints tables, one per kind.
    async fn tables(
        &self,
        api: &Api,
        context: &Context,
        wanted: &[Wanted],
    ) -> anyhow::Result<ExitCode> {
        let shown = self.shown(wanted);
        let (mut failed, mut any) = (false, false);
        let mut columns = Columns::default();
        let mut last = None;
        for one in wanted {
            let Some(table) = self.answer(api.table(&self.path(one)).await, &mut failed)? else {
                continue;
            };
            let mut rows = table["rows"].as_array().context("the answer is no table")?.clone();
            if rows.is_empty() {
                continue;
            }
            if let Some(order) = &self.sort_by {
                order.sort(&mut rows, "/object");
            }
            let resource = &one.target.resource;
            let shown = shown.of(resource);
            if last != Some(resource) {
                if any {
                    writeln!(stdout(), "{}", columns.take_text())?;
                    columns = Columns::default();
                }
                if !self.no_headers {
                    columns.push(shown.head(&table));
                }
            }
            (any, last) = (true, Some(resource));
            let kind = resource.qualified_singular();
            for row in &rows {
                columns.push(shown.row(&table, row, &kind));
            }
        }
        write!(stdout(), "{}", columns.take_text())?;
        if !any && !failed && !self.ignore_not_found {
            say::notice(&self.nothing(context, wanted));
        }
        Ok(exit(failed))
    }

    fn shown(&self, wanted: &[Wanted]) -> Shown<'_> {
        let kinds: std::collections::BTreeSet<_> =
            wanted.iter().map(|one| &one.target.resource).collect();
        Shown {
            wide: matches!(self.output, Some(Output::Wide)),
            namespace: self.all_namespaces,
            label_columns: &self.label_columns,
            labels: self.show_labels,
            kind: kinds.len() > 1 || self.show_kind,
        }
    }

    /// An answer, or nothing where an object is not there, which is said.
    fn answer<T>(
        &self,
        answer: Result<T, ApiError>,
        failed: &mut bool,
    ) -> anyhow::Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_not_found() && self.ignore_not_found => Ok(None),
            Err(error) if error.is_not_found() => {
                say::error(&error.into());
                *failed = true;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Prints objects in a form other than tables.
    async fn objects(
        &self,
        api: &Api,
        wanted: &[Wanted],
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let mut failed = false;
        let mut found = Vec::new();
        for one in wanted {
            if let Some(objects) = self.answer(self.fetch(api, one).await, &mut failed)? {
                found.extend(objects);
            }
        }
        if found.is_empty() && (failed || self.ignore_not_found) {
            return Ok(exit(failed));
        }
        if let Some(order) = &self.sort_by {
            order.sort(&mut found, "");
        }
        let single = wanted.len() == 1 && wanted[0].target.name.is_some();
        self.print(found, single, output)?;
        Ok(exit(failed))
    }

    fn print(&self, mut objects: Vec<Value>, single: bool, output: &Output) -> anyhow::Result<()> {
        if !self.show_managed_fields {
            for metadata in objects.iter_mut().filter_map(|o| o["metadata"].as_object_mut()) {
                metadata.shift_remove("managedFields");
            }
        }
        match output {
            Output::Columns(_) if self.no_headers => print_cells(&objects, output, false),
            _ => print_objects(objects, single, output),
        }
    }

    /// The objects of a target, each with kind and version.
    async fn fetch(&self, api: &Api, one: &Wanted) -> Result<Vec<Value>, ApiError> {
        let answer = api.get(&self.path(one)).await?;
        Ok(watch::items(&one.target, answer))
    }

    fn path(&self, one: &Wanted) -> String {
        let query = match &one.target.name {
            Some(name) => {
                let path = one.target.resource.path(one.namespace.as_deref(), Some(name));
                Query::new(path)
            }
            None => self.query(one),
        };
        // Whoever sorts rows looks into the objects.
        query.with_some("includeObject", self.sort_by.as_ref().map(|_| "Object")).build()
    }

    /// The collection of a target, with selectors.
    fn query(&self, one: &Wanted) -> Query {
        Query::new(one.target.resource.path(one.namespace.as_deref(), None))
            .with_some("labelSelector", self.selector.as_deref())
            .with_some("fieldSelector", self.field_selector.as_deref())
    }

    fn nothing(&self, context: &Context, wanted: &[Wanted]) -> String {
        let namespaced = wanted.iter().any(|one| one.target.resource.namespaced);
        if self.all_namespaces || !namespaced {
            "No resources found".to_owned()
        } else {
            format!("No resources found in {} namespace.", context.namespace())
        }
    }
}

/// Prints objects; a single one as itself, others as a list.
pub(crate) fn print_objects(
    mut objects: Vec<Value>,
    single: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match output {
        Output::Name => {
            for object in &objects {
                writeln!(out, "{}/{}", qualified_kind(object), text(object, "/metadata/name"))?;
            }
            return Ok(());
        }
        Output::Columns(_) => return print_cells(&objects, output, true),
        // Of a single object there is no table that the server has not made.
        Output::Table | Output::Wide => {
            bail!(
                "-o wide is of tables; of changed objects there are yaml, json, name and jsonpath"
            )
        }
        Output::Yaml | Output::Json | Output::JsonPath(_) => {}
    }
    let whole = if single {
        objects.remove(0)
    } else {
        json!({
            "apiVersion": "v1",
            "kind": "List",
            "metadata": { "resourceVersion": "" },
            "items": objects,
        })
    };
    match output {
        Output::Json => writeln!(out, "{whole:#}")?,
        Output::JsonPath(template) => {
            write!(out, "{}", template.render(&whole))?;
            out.flush()?;
        }
        _ => write!(out, "{}", to_yaml(&whole)?)?,
    }
    Ok(())
}

/// Prints the fields of objects that `-o custom-columns` names.
fn print_cells(objects: &[Value], output: &Output, with_head: bool) -> anyhow::Result<()> {
    let Output::Columns(wanted) = output else { return Ok(()) };
    let mut columns = Columns::default();
    if with_head {
        columns.push(wanted.iter().map(|(name, _)| name.clone()));
    }
    for object in objects {
        columns.push(wanted.iter().map(|(_, path)| {
            let values = path.values(object);
            let shown: Vec<String> = values.iter().map(|value| cell(value)).collect();
            if shown.is_empty() { output::table::NONE.to_owned() } else { shown.join(",") }
        }));
    }
    write!(stdout(), "{}", columns.take_text())?;
    Ok(())
}

/// `pod`, `deployment.apps`.
fn qualified_kind(object: &Value) -> String {
    let kind = text(object, "/kind").to_ascii_lowercase();
    match text(object, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind,
    }
}
