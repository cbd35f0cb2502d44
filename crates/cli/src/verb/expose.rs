//! `ironmesh expose`: makes a Service for what has pods.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use serde_json::{Map, Value, json};

use crate::cli::Context;
use crate::done::OutputArg;
use crate::target;
use crate::verb::dry_run::DryRunArg;

/// Make a Service for the pods of a Deployment, a ReplicaSet, another Service or a pod.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh expose deployment web --port=80 --target-port=8080
  ironmesh expose deploy/web --type=LoadBalancer --name=web-public --port=80")]
pub(crate) struct Expose {
    /// KIND/NAME, or kind and name.
    #[arg(required = true, num_args = 1..=2)]
    words: Vec<String>,
    /// Port of the Service; default: that of the containers.
    #[arg(long)]
    port: Option<u16>,
    /// Port of the containers, by number or name; default: as --port.
    #[arg(long, value_name = "PORT")]
    target_port: Option<String>,
    /// TCP or UDP.
    #[arg(long, default_value = "TCP")]
    protocol: String,
    /// Name of the Service; default: that of the object.
    #[arg(long)]
    name: Option<String>,
    /// ClusterIP, NodePort or LoadBalancer.
    #[arg(long = "type", value_name = "TYPE")]
    of: Option<String>,
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
}

impl Expose {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let namespace = Some(context.namespace());
        let objects = target::parse_named(&api, &self.words).await?;
        let [(resource, name)] = &objects[..] else { anyhow::bail!("expose one object") };
        let object = api.get(&resource.path(namespace, Some(name))).await?;
        let selector = selector(resource, &object)?;
        let ports = self.ports(&object)?;
        let name = self.name.as_deref().unwrap_or(name);
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": context.namespace() },
            "spec": { "selector": selector, "ports": ports },
        });
        if let Some(labels) = object.pointer("/metadata/labels") {
            service["metadata"]["labels"] = labels.clone();
        }
        if let Some(of) = &self.of {
            service["spec"]["type"] = json!(of);
        }
        let services = target::resource("services")?;
        let path = self.dry_run.on(services.path(namespace, None));
        let made = match self.dry_run.is_client() {
            true => service,
            false => api.post(&path, &service).await?,
        };
        self.output.say(&services, &made, "exposed", self.dry_run)?;
        Ok(ExitCode::SUCCESS)
    }

    fn ports(&self, object: &Value) -> anyhow::Result<Vec<Value>> {
        let target = |port: &Value| match &self.target_port {
            Some(text) => text.parse::<u16>().map_or_else(|_| json!(text), |number| json!(number)),
            None => port.clone(),
        };
        let port = |port: Value, protocol: &str| json!({ "port": port, "protocol": protocol, "targetPort": target(&port) });
        if let Some(number) = self.port {
            return Ok(vec![port(json!(number), &self.protocol)]);
        }
        let containers = ["/spec/template/spec/containers", "/spec/containers"];
        let containers = containers.iter().find_map(|pointer| object.pointer(pointer)?.as_array());
        let declared = containers
            .into_iter()
            .flatten()
            .flat_map(|container| container["ports"].as_array().into_iter().flatten());
        let mut ports: Vec<Value> = declared
            .map(|declared| {
                let protocol = declared["protocol"].as_str().unwrap_or("TCP");
                port(declared["containerPort"].clone(), protocol)
            })
            .collect();
        if ports.len() > 1 {
            // Ports of a Service need names if there are several.
            for (port, number) in ports.iter_mut().zip(1..) {
                port["name"] = json!(format!("port-{number}"));
            }
        }
        ensure!(!ports.is_empty(), "couldn't find port via --port flag or introspection");
        Ok(ports)
    }
}

/// The labels by which the pods of an object are found.
fn selector(resource: &Resource, object: &Value) -> anyhow::Result<Map<String, Value>> {
    let spec = &object["spec"];
    let labels = match &*resource.kind {
        "Pod" => &object["metadata"]["labels"],
        "Service" | "ReplicationController" => &spec["selector"],
        "Deployment" | "ReplicaSet" => {
            ensure!(
                spec["selector"]["matchExpressions"].as_array().is_none_or(Vec::is_empty),
                "couldn't convert expressions of the selector to a Service's labels"
            );
            &spec["selector"]["matchLabels"]
        }
        kind => anyhow::bail!("cannot expose a {kind}"),
    };
    let labels = labels.as_object().filter(|labels| !labels.is_empty());
    labels.cloned().context("it has no labels by which a Service would find pods")
}
