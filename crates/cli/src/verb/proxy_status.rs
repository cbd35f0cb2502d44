//! `ironmesh proxy-status`: what each proxy holds, and whether it has acknowledged it.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use ironmesh_control::api::ProxyItem;
use serde_json::Value;

use crate::cli::Context;
use crate::output::table::Columns;
use crate::verb::proxy_config::split;
use crate::verb::{pods_of, text};

/// Show every proxy: resources held and acknowledged, bytes pushed, synced or not.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ps",
    after_help = "Examples:
  ironmesh proxy-status
  ironmesh proxy-status productpage-v1-6b746f74dc-abcde
  ironmesh proxy-status deploy/productpage-v1
  ironmesh proxy-status -o json"
)]
pub(crate) struct ProxyStatus {
    /// Only the proxy of this pod: POD, or POD.NAMESPACE; or those of the pods of KIND/NAME, such as
    /// deploy/productpage-v1.
    pod: Option<String>,
    /// json for everything that is known.
    #[arg(short, long, value_parser = ["json"], value_name = "FORMAT")]
    output: Option<String>,
}

impl ProxyStatus {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let mut named: Vec<String> = self.pod.iter().cloned().collect();
        if let Some(word) = self.pod.as_ref().filter(|word| word.contains('/')) {
            let (word, namespace) = split(word, context);
            let pods = pods_of(&api, &namespace, &word).await?;
            let name = |pod: &Value| format!("{}.{namespace}", text(pod, "/metadata/name"));
            named = pods.iter().map(name).collect();
        }
        let answer = api.get("/ironmesh/proxies").await?;
        let wanted = |proxy: &Value| {
            let (name, namespace) = (text(proxy, "/name"), text(proxy, "/namespace"));
            let is_it = |pod: &String| *pod == name || *pod == format!("{name}.{namespace}");
            self.pod.is_none() || named.iter().any(is_it)
        };
        let proxies: Vec<Value> =
            answer.as_array().into_iter().flatten().filter(|p| wanted(p)).cloned().collect();
        if let (Some(pod), true) = (&self.pod, proxies.is_empty()) {
            bail!("no pod {pod:?} has a proxy; ironmesh proxy-status lists those that have");
        }
        let mut out = stdout().lock();
        if self.output.is_some() {
            writeln!(out, "{:#}", Value::Array(proxies))?;
            return Ok(ExitCode::SUCCESS);
        }
        let proxies: Vec<ProxyItem> = serde_json::from_value(Value::Array(proxies))?;
        write!(out, "{}", table(&proxies))?;
        for proxy in &proxies {
            for error in &proxy.errors {
                let (name, resource, message) = (&proxy.name, &error.resource, &error.message);
                if error.by_control_plane {
                    writeln!(
                        out,
                        "{name} asks for what the control plane does not understand, {resource}: {message}"
                    )?;
                } else {
                    writeln!(out, "{name} could not use {resource}: {message}")?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(proxies: &[ProxyItem]) -> String {
    let mut columns = Columns::default();
    columns.push([
        "NAME",
        "NAMESPACE",
        "KIND",
        "STATE",
        "RESOURCES",
        "ACKNOWLEDGED",
        "PUSHED",
        "IDENTITY",
    ]);
    for proxy in proxies {
        let state = match (proxy.connected, proxy.synced) {
            (false, _) => "disconnected",
            (true, false) => "behind",
            (true, true) => "synced",
        };
        columns.push([
            proxy.name.to_string(),
            proxy.namespace.to_string(),
            format!("{:?}", proxy.kind).to_lowercase(),
            state.to_owned(),
            proxy.resources.to_string(),
            proxy.acknowledged.to_string(),
            format!("{} B", proxy.bytes_pushed),
            proxy.identity.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    columns.take_text()
}
