//! `ironmesh proxy-config log`: the levels of a proxy's own log, while it runs.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;

use super::Format;
use super::admin::Proxy;
use crate::cli::Context;

/// Show or set the levels of the log of a pod's proxy, while it runs.
///
/// The log is that of container istio-proxy (`ironmesh logs POD -c istio-proxy`). Levels: trace, debug,
/// info, warning, error, off. They hold until the proxy ends.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh proxy-config log deploy/productpage-v1
  ironmesh proxy-config log deploy/productpage-v1 --level debug
  ironmesh proxy-config log deploy/productpage-v1 --level http:trace,wire:warning
  ironmesh proxy-config log deploy/productpage-v1 --reset")]
pub(crate) struct Log {
    /// POD, POD.NAMESPACE, or KIND/NAME of what has pods.
    pod: String,
    /// LEVEL for all loggers, or LOGGER:LEVEL,... for some of them.
    #[arg(long, value_name = "LEVEL", conflicts_with = "reset")]
    level: Option<String>,
    /// Set the levels to what they were at the proxy's start.
    #[arg(short, long)]
    reset: bool,
    /// How they are shown.
    #[arg(short, long, value_name = "FORMAT", default_value = "short")]
    output: Format,
}

impl Log {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let proxy = Proxy::find(&self.pod, context).await?;
        let told = match &self.level {
            Some(level) => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || ":,=_".contains(c);
                ensure!(
                    !level.is_empty() && level.chars().all(is_plain),
                    "--level {level:?} is neither a level nor a list of LOGGER:LEVEL"
                );
                proxy.post(&format!("/logging?level={level}")).await?
            }
            None if self.reset => proxy.post("/logging?reset").await?,
            None => proxy.get("/logging").await?,
        };
        let told = String::from_utf8_lossy(&told);
        let levels: BTreeMap<&str, &str> =
            told.lines().filter_map(|line| line.trim().split_once(": ")).collect();
        let table = format!("{}.{}:\n{told}", proxy.pod, proxy.namespace);
        self.output.write(&table, &levels)?;
        Ok(ExitCode::SUCCESS)
    }
}
