//! `get -w`: what is there, and every change of it, of one kind or of several.

use std::io::{Write, stdout};
use std::process::ExitCode;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Get, Wanted};
use crate::api::{Api, ApiError, JSON, Query, Stream, TABLE};
use crate::output::Output;
use crate::output::table::Columns;
use crate::target::Target;
use crate::verb::{exit, text};

/// What is printed of one target.
struct Shelf<'a> {
    wanted: &'a Wanted,
    columns: Columns,
    /// The columns of its tables: only the first table of a watch has them.
    definitions: Value,
}

impl Get {
    /// Prints what is there, and what changes, until interrupted.
    pub(super) async fn follow(&self, api: &Api, wanted: &[Wanted]) -> anyhow::Result<ExitCode> {
        let output = self.output.clone().unwrap_or_default();
        let is_table = matches!(output, Output::Table | Output::Wide);
        let (mut failed, mut documents) = (false, 0);
        let (mut shelves, mut reading) = (Vec::new(), JoinSet::new());
        let (events, mut coming) = mpsc::channel(EVENTS_WAITING);
        for one in wanted {
            let mut shelf =
                Shelf { wanted: one, columns: Columns::default(), definitions: Value::Null };
            let path = self.path(one);
            let there = if is_table { api.table(&path).await } else { api.get(&path).await };
            // An object that is not there is an error, as without the watch.
            let Some(there) = self.answer(there, &mut failed)? else { continue };
            let begins = shelves
                .last()
                .is_none_or(|last: &Shelf<'_>| last.wanted.target.resource != one.target.resource);
            if is_table {
                if begins && !self.no_headers {
                    shelf.columns.push(self.shown(wanted).of(&one.target.resource).head(&there));
                }
                if !self.watch_only {
                    self.print_rows(wanted, &mut shelf, &there)?;
                }
            } else if !self.watch_only {
                for object in items(&one.target, there.clone()) {
                    self.print_document(object, &output, &mut documents)?;
                }
            }
            let stream = self.watch_of(api, one, &there, is_table).await?;
            reading.spawn(read(shelves.len(), stream, events.clone()));
            shelves.push(shelf);
        }
        drop(events);
        while let Some((at, mut event)) = coming.recv().await {
            let object = event["object"].take();
            if is_table && object["kind"] == "Table" {
                self.print_rows(wanted, &mut shelves[at], &object)?;
            } else if !is_table && matches!(text(&event, "/type"), "ADDED" | "MODIFIED" | "DELETED")
            {
                self.print_document(object, &output, &mut documents)?;
            }
        }
        while let Some(ended) = reading.join_next().await {
            ended??;
        }
        Ok(exit(failed))
    }

    /// The changes of a target from what was seen of it.
    async fn watch_of(
        &self,
        api: &Api,
        one: &Wanted,
        there: &Value,
        is_table: bool,
    ) -> Result<Stream, ApiError> {
        let mut query = self.query(one);
        if let Some(name) = &one.target.name {
            query = Query::new(one.target.resource.path(one.namespace.as_deref(), None))
                .with("fieldSelector", &format!("metadata.name={name}"));
        }
        let version = text(there, "/metadata/resourceVersion");
        let query = query.with("watch", "1").with("resourceVersion", version);
        api.stream(&query.build(), if is_table { TABLE } else { JSON }).await
    }

    fn print_rows(
        &self,
        wanted: &[Wanted],
        shelf: &mut Shelf<'_>,
        table: &Value,
    ) -> anyhow::Result<()> {
        let definitions = &table["columnDefinitions"];
        if definitions.as_array().is_some_and(|columns| !columns.is_empty()) {
            shelf.definitions = definitions.clone();
        }
        let resource = &shelf.wanted.target.resource;
        let (shown, kind) = (self.shown(wanted).of(resource), resource.qualified_singular());
        let columns = json!({ "columnDefinitions": shelf.definitions });
        let mut rows = table["rows"].as_array().cloned().unwrap_or_default();
        if let Some(order) = &self.sort_by {
            order.sort(&mut rows, "/object");
        }
        for row in &rows {
            shelf.columns.push(shown.row(&columns, row, &kind));
        }
        let mut out = stdout();
        write!(out, "{}", shelf.columns.take_text())?;
        Ok(out.flush()?)
    }

    fn print_document(
        &self,
        object: Value,
        output: &Output,
        documents: &mut usize,
    ) -> anyhow::Result<()> {
        if matches!(output, Output::Yaml) && *documents > 0 {
            writeln!(stdout(), "---")?;
        }
        *documents += 1;
        self.print(vec![object], true, output)?;
        Ok(stdout().flush()?)
    }
}

/// The objects of an answer, each with kind and version.
pub(super) fn items(target: &Target, mut answer: Value) -> Vec<Value> {
    if target.name.is_some() {
        return vec![answer];
    }
    let mut items = answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    for item in items.iter_mut().filter(|item| item["kind"].is_null()) {
        item["apiVersion"] = json!(target.resource.api_version());
        item["kind"] = json!(&*target.resource.kind);
    }
    items
}

/// Hands on the events of a watch, with the number of its target.
async fn read(
    at: usize,
    mut stream: Stream,
    events: mpsc::Sender<(usize, Value)>,
) -> Result<(), ApiError> {
    while let Some(event) = stream.next_json().await? {
        if events.send((at, event)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Events that wait to be printed.
const EVENTS_WAITING: usize = 64;
