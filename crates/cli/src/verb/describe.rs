//! `ironmesh describe`: an object for people, with what happened to it and what the mesh found in
//! it.

mod kinds;
mod node;
mod pod;
mod text;

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use ironmesh_model::Finding;
use serde_json::Value;

use crate::api::{Api, Query};
use crate::cli::Context;
use crate::clock;
use crate::output::table::Columns;
use crate::verb::apply::{findings, sentence};
use crate::{say, target, verb};
use text::Sheet;

/// Show everything about objects: fields, events, findings.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh describe pod details-v1-5f4d584748-abcde
  ironmesh describe deploy/productpage-v1 svc/productpage
  ironmesh describe pods -l app=reviews
  ironmesh describe virtualservice reviews")]
pub(crate) struct Describe {
    /// Kind and names, or KIND/NAME several times; a kind alone: all of it.
    #[arg(required = true)]
    words: Vec<String>,
    /// Only objects with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
}

impl Describe {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let mut objects: Vec<(Resource, Value)> = Vec::new();
        for target in target::parse(&api, &self.words).await? {
            let path = target.resource.path(Some(context.namespace()), target.name.as_deref());
            let path = Query::new(path).with_some("labelSelector", self.selector.as_deref());
            let mut answer = api.get(&path.build()).await?;
            if target.name.is_some() {
                objects.push((target.resource, answer));
            } else if let Value::Array(items) = answer["items"].take() {
                objects.extend(items.into_iter().map(|item| (target.resource.clone(), item)));
            }
        }
        if objects.is_empty() {
            say::notice(&format!("No resources found in {} namespace.", context.namespace()));
        }
        for (at, (resource, object)) in objects.iter().enumerate() {
            if at > 0 {
                writeln!(stdout(), "\n")?;
            }
            write!(stdout(), "{}", describe(&api, resource, object).await?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn describe(api: &Api, resource: &Resource, object: &Value) -> anyhow::Result<String> {
    let mut sheet = Sheet::default();
    match &*resource.kind {
        "Pod" => pod::describe(&mut sheet, object),
        "Service" => kinds::service(&mut sheet, object, &endpoints_of(api, object).await?),
        "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" => {
            kinds::workload(&mut sheet, object);
        }
        "DaemonSet" => kinds::daemon_set(&mut sheet, object),
        "Job" => kinds::job(&mut sheet, object),
        "Namespace" => kinds::namespace(&mut sheet, object),
        "Node" => node::describe(&mut sheet, object, &pods_of(api, object).await?),
        _ => kinds::any(&mut sheet, object)?,
    }
    add_findings(&mut sheet, &findings_of(api, resource, object).await?);
    add_events(&mut sheet, &events_of(api, resource, object).await?);
    Ok(sheet.finish())
}

/// A pod template for people.
pub(crate) fn template(template: &Value) -> String {
    let mut sheet = Sheet::default();
    kinds::template(&mut sheet, template);
    sheet.finish()
}

/// The Endpoints of a Service, made from its selector or written by hand; null if there are none.
async fn endpoints_of(api: &Api, service: &Value) -> anyhow::Result<Value> {
    let namespace = verb::text(service, "/metadata/namespace");
    let name = verb::text(service, "/metadata/name");
    match api.get(&target::resource("endpoints")?.path(Some(namespace), Some(name))).await {
        Ok(endpoints) => Ok(endpoints),
        Err(error) if error.is_not_found() => Ok(Value::Null),
        Err(error) => Err(error.into()),
    }
}

/// The pods of a node.
async fn pods_of(api: &Api, node: &Value) -> anyhow::Result<Vec<Value>> {
    let mut list = api.get(&target::resource("pods")?.path(None, None)).await?;
    let items = list["items"].as_array_mut().context("the list of pods has no items")?;
    let mut pods = std::mem::take(items);
    pods.retain(|pod| pod["spec"]["nodeName"] == node["metadata"]["name"]);
    Ok(pods)
}

async fn findings_of(
    api: &Api,
    resource: &Resource,
    object: &Value,
) -> anyhow::Result<Vec<Finding>> {
    let query = Query::new("")
        .with("kind", &resource.kind)
        .with("name", verb::text(object, "/metadata/name"))
        .with_some("namespace", object["metadata"]["namespace"].as_str());
    findings(api, &query.build()).await
}

/// The events about an object, oldest first.
async fn events_of(api: &Api, resource: &Resource, object: &Value) -> anyhow::Result<Vec<Value>> {
    let events = target::resource("events")?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let mut list = api.get(&events.path(Some(namespace), None)).await?;
    let items = list["items"].as_array_mut().context("the list of events has no items")?;
    let mut events = std::mem::take(items);
    let uid = verb::text(object, "/metadata/uid");
    events.retain(|event| {
        let about = &event["involvedObject"];
        match about["uid"].as_str() {
            Some(about) => about == uid,
            None => about["kind"] == *resource.kind && about["name"] == object["metadata"]["name"],
        }
    });
    events.sort_by_key(|event| last_seen(event).to_owned());
    Ok(events)
}

fn add_events(sheet: &mut Sheet, events: &[Value]) {
    if events.is_empty() {
        sheet.field("Events", "<none>");
        return;
    }
    let mut columns = Columns::default();
    columns.push(["Type", "Reason", "Age", "From", "Message"]);
    columns.push(["----", "------", "----", "----", "-------"]);
    for event in events {
        let count = event["count"].as_i64().unwrap_or(1);
        let mut age = clock::age(last_seen(event));
        if count > 1 {
            age = format!("{age} (x{count})");
        }
        let from = match verb::text(event, "/source/component") {
            "" => verb::text(event, "/reportingComponent"),
            component => component,
        };
        columns.push([
            verb::text(event, "/type"),
            verb::text(event, "/reason"),
            &age,
            from,
            verb::text(event, "/message").trim(),
        ]);
    }
    sheet.block("Events", &columns.take_text());
}

fn add_findings(sheet: &mut Sheet, findings: &[Finding]) {
    if !findings.is_empty() {
        let lines: Vec<String> = findings.iter().map(sentence).collect();
        sheet.block("Findings", &lines.join("\n"));
    }
}

fn last_seen(event: &Value) -> &str {
    ["/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .into_iter()
        .map(|pointer| verb::text(event, pointer))
        .find(|time| !time.is_empty())
        .unwrap_or_default()
}
