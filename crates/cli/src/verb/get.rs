//! `ironmesh get`: shows objects.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::api::{Api, JSON, Query, TABLE};
use crate::cli::Context;
use crate::output::Output;
use crate::output::table::{Columns, Shown, cell};
use crate::output::yaml::to_yaml;
use crate::say;
use crate::target::{self, Target};
use crate::verb::exit;

/// Show objects: as a table, as YAML or JSON, or fields of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh get pods
  ironmesh get pods -A -o wide
  ironmesh get pods,svc -l app=reviews --show-labels
  ironmesh get virtualservice reviews -o yaml
  ironmesh get deploy/productpage-v1 svc/productpage
  ironmesh get pods -w
  ironmesh get deploy web -w -o name
  ironmesh get svc istio-ingressgateway -n istio-system \\
      -o jsonpath='{.status.loadBalancer.ingress[0].ip}'")]
pub(crate) struct Get {
    /// Kind and names; several kinds with commas; KIND/NAME; all.
    #[arg(required = true)]
    words: Vec<String>,
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
    /// Leave out the head of tables.
    #[arg(long)]
    no_headers: bool,
    /// An object that is not there is no error.
    #[arg(long)]
    ignore_not_found: bool,
    /// After the table, show every change.
    #[arg(short, long)]
    watch: bool,
}

impl Get {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let targets = target::parse(&self.words)?;
        let output = self.output.clone().unwrap_or_default();
        match output {
            Output::Table | Output::Wide => self.tables(context, &targets).await,
            output if self.watch => self.watch_objects(context, &targets[0], &output).await,
            output => self.objects(context, &targets, &output).await,
        }
    }

    /// Prints tables, one per kind.
    async fn tables(&self, context: &Context, targets: &[Target]) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let kinds: std::collections::BTreeSet<_> = targets.iter().map(|t| &t.resource).collect();
        let shown = Shown {
            wide: matches!(self.output, Some(Output::Wide)),
            namespace: self.all_namespaces,
            labels: self.show_labels,
            kind: kinds.len() > 1,
        };
        let (mut failed, mut any) = (false, false);
        let mut columns = Columns::default();
        let mut version = String::new();
        for (at, target) in targets.iter().enumerate() {
            let table = match api.table(&self.path(context, target)).await {
                Ok(table) => table,
                Err(error) if error.is_not_found() && self.ignore_not_found => continue,
                Err(error) if error.is_not_found() => {
                    say::error(&error.into());
                    failed = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            text(&table["metadata"]["resourceVersion"]).clone_into(&mut version);
            let rows = table["rows"].as_array().context("the answer is no table")?;
            if rows.is_empty() {
                continue;
            }
            let shown = Shown { namespace: shown.namespace && target.resource.namespaced, ..shown };
            let begins = at == 0 || targets[at - 1].resource != target.resource || !any;
            if begins {
                if any {
                    writeln!(stdout(), "{}", columns.take_text())?;
                    columns = Columns::default();
                }
                if !self.no_headers {
                    columns.push(shown.head(&table));
                }
            }
            any = true;
            let kind = target.resource.qualified_singular();
            for row in rows {
                columns.push(shown.row(&table, row, &kind));
            }
        }
        write!(stdout(), "{}", columns.take_text())?;
        if !any && !failed && !self.watch && !self.ignore_not_found {
            say::notice(&self.nothing(context, targets));
        }
        if self.watch {
            self.watch(context, &targets[0], shown, columns, &version).await?;
        }
        Ok(exit(failed))
    }

    /// Prints a row for every change, until interrupted.
    async fn watch(
        &self,
        context: &Context,
        target: &Target,
        shown: Shown,
        mut columns: Columns,
        version: &str,
    ) -> anyhow::Result<()> {
        let mut path = self.query(context, target).with("watch", "1");
        if let Some(name) = &target.name {
            path = path.with("fieldSelector", &format!("metadata.name={name}"));
        }
        let path = path.with("resourceVersion", version).build();
        let mut events = context.api().stream(&path, TABLE).await?;
        let kind = target.resource.qualified_singular();
        let mut definitions = Value::Null;
        while let Some(event) = events.next_json().await? {
            let mut table = event["object"].clone();
            if table["kind"] != "Table" {
                continue;
            }
            // Only the first table of a watch has the columns.
            if table["columnDefinitions"].as_array().is_some_and(|columns| !columns.is_empty()) {
                definitions = table["columnDefinitions"].clone();
            } else {
                table["columnDefinitions"] = definitions.clone();
            }
            for row in table["rows"].as_array().into_iter().flatten() {
                columns.push(shown.row(&table, row, &kind));
            }
            let mut out = stdout();
            write!(out, "{}", columns.take_text())?;
            out.flush()?;
        }
        Ok(())
    }

    /// Prints objects one by one as they are, and again whenever they change, until interrupted.
    async fn watch_objects(
        &self,
        context: &Context,
        target: &Target,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let mut query = self.query(context, target).with("watch", "1");
        if let Some(name) = &target.name {
            // An object that is not there is an error, as without the watch.
            api.get(&self.path(context, target)).await?;
            query = query.with("fieldSelector", &format!("metadata.name={name}"));
        }
        let mut events = api.stream(&query.build(), JSON).await?;
        let mut first = true;
        while let Some(mut event) = events.next_json().await? {
            if !matches!(text(&event["type"]), "ADDED" | "MODIFIED" | "DELETED") {
                continue;
            }
            if matches!(output, Output::Yaml) && !std::mem::take(&mut first) {
                writeln!(stdout(), "---")?;
            }
            print_objects(vec![event["object"].take()], true, output)?;
            stdout().flush()?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints objects in a form other than tables.
    async fn objects(
        &self,
        context: &Context,
        targets: &[Target],
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let mut failed = false;
        let mut found = Vec::new();
        for target in targets {
            match self.fetch(&api, context, target).await {
                Ok(objects) => found.extend(objects),
                Err(error) if error.is_not_found() && self.ignore_not_found => {}
                Err(error) if error.is_not_found() => {
                    say::error(&error.into());
                    failed = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if found.is_empty() && (failed || self.ignore_not_found) {
            return Ok(exit(failed));
        }
        let single = targets.len() == 1 && targets[0].name.is_some();
        print_objects(found, single, output)?;
        Ok(exit(failed))
    }

    /// The objects of a target, each with kind and version.
    async fn fetch(
        &self,
        api: &Api,
        context: &Context,
        target: &Target,
    ) -> Result<Vec<Value>, crate::api::ApiError> {
        let mut answer = api.get(&self.path(context, target)).await?;
        if target.name.is_some() {
            return Ok(vec![answer]);
        }
        let mut items = match answer["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        for item in &mut items {
            if item["kind"].is_null() {
                item["apiVersion"] = json!(target.resource.api_version());
                item["kind"] = json!(&*target.resource.kind);
            }
        }
        Ok(items)
    }

    fn path(&self, context: &Context, target: &Target) -> String {
        match &target.name {
            Some(name) => target.resource.path(Some(context.namespace()), Some(name)),
            None => self.query(context, target).build(),
        }
    }

    /// The collection of a target, with selectors.
    fn query(&self, context: &Context, target: &Target) -> Query {
        let namespace = (!self.all_namespaces).then(|| context.namespace());
        Query::new(target.resource.path(namespace, None))
            .with_some("labelSelector", self.selector.as_deref())
            .with_some("fieldSelector", self.field_selector.as_deref())
    }

    fn nothing(&self, context: &Context, targets: &[Target]) -> String {
        let namespaced = targets.iter().any(|target| target.resource.namespaced);
        if self.all_namespaces || !namespaced {
            "No resources found".to_owned()
        } else {
            format!("No resources found in {} namespace.", context.namespace())
        }
    }
}

fn print_objects(mut objects: Vec<Value>, single: bool, output: &Output) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    if let Output::Name = output {
        for object in &objects {
            writeln!(out, "{}/{}", qualified_kind(object), text(&object["metadata"]["name"]))?;
        }
        return Ok(());
    }
    if let Output::Columns(wanted) = output {
        let mut columns = Columns::default();
        columns.push(wanted.iter().map(|(name, _)| name.clone()));
        for object in &objects {
            columns.push(wanted.iter().map(|(_, path)| {
                let shown = path.render(object);
                if shown.is_empty() { cell(&Value::Null) } else { shown }
            }));
        }
        write!(out, "{}", columns.take_text())?;
        return Ok(());
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

/// `pod`, `deployment.apps`.
fn qualified_kind(object: &Value) -> String {
    let kind = text(&object["kind"]).to_ascii_lowercase();
    match text(&object["apiVersion"]).split_once('/') {
        Some((group, _)) => format!("{kind}.{group}"),
        None => kind,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
