//! `ironmesh findings`: all that the mesh found in the objects that there are.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;
use ironmesh_control::api::FindingItem;
use serde_json::Value;

use crate::api::Query;
use crate::cli::Context;
use crate::output::table::Columns;
use crate::say;
use crate::verb::finding::word;

/// List what the mesh found in the objects that there are: what is wrong, or not honoured.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh findings                  of the namespace
  ironmesh findings -A               of all
  ironmesh findings -A -o json
  ironmesh finding IM0103            what such a finding means")]
pub(crate) struct Findings {
    /// Those of all namespaces, and of objects that are in none.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// json for everything that is known.
    #[arg(short, long, value_parser = ["json"], value_name = "FORMAT")]
    output: Option<String>,
}

impl Findings {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let namespace = (!self.all_namespaces).then(|| context.namespace());
        let path = Query::new("/ironmesh/findings").with_some("namespace", namespace).build();
        let answer: Value = context.api().get(&path).await?;
        let mut out = stdout().lock();
        if self.output.is_some() {
            writeln!(out, "{answer:#}")?;
            return Ok(ExitCode::SUCCESS);
        }
        let findings: Vec<FindingItem> = serde_json::from_value(answer)?;
        if findings.is_empty() {
            let place = namespace.map(|n| format!(" in {n} namespace")).unwrap_or_default();
            say::notice(&format!("No findings{place}."));
            return Ok(ExitCode::SUCCESS);
        }
        write!(out, "{}", table(&findings))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn table(findings: &[FindingItem]) -> String {
    let mut columns = Columns::default();
    columns.push(["SEVERITY", "CODE", "OBJECT", "FIELD", "FINDING"]);
    for FindingItem { finding, severity } in findings {
        let object = &finding.object;
        let place = match &*object.namespace {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        };
        columns.push([
            word(*severity).to_owned(),
            finding.code.to_string(),
            format!("{} {place}{}", object.kind, object.name),
            if finding.path.is_empty() { "-".to_owned() } else { finding.path.clone() },
            finding.message.clone(),
        ]);
    }
    columns.take_text()
}
