//! `ironmesh scale`: changes how many replicas run.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::Context;
use crate::target;

/// Change how many replicas of a Deployment, StatefulSet, ReplicaSet or ReplicationController run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh scale deployment/details-v1 --replicas=2
  ironmesh scale deploy details-v1 ratings-v1 --replicas 0")]
pub(crate) struct Scale {
    /// KIND/NAME, or kind and names.
    #[arg(required = true)]
    words: Vec<String>,
    /// How many.
    #[arg(long)]
    replicas: u32,
}

impl Scale {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        for (resource, name) in target::parse_named(&self.words)? {
            let path = resource.path(Some(context.namespace()), Some(&name));
            api.merge(&path, &json!({ "spec": { "replicas": self.replicas } })).await?;
            writeln!(stdout(), "{}/{name} scaled", resource.qualified_singular())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
