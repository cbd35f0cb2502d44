//! `ironmesh settings`: what `up --set` can set, and what is set.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::{self, Setting};

use crate::cli::Context;
use crate::output::table::Columns;

/// Show the settings and limits of the mesh: what they are now, and by default.
///
/// They are given to `ironmesh up` with `--set NAME=VALUE`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh settings
  ironmesh settings limits.proxy               those whose name begins so
  ironmesh settings -o wide                    with what each one does
  ironmesh settings --defaults -o json         without a mesh")]
pub(crate) struct Settings {
    /// Only those whose name begins so.
    #[arg(value_name = "NAME", default_value = "")]
    name: String,
    /// Ask no mesh: show what a new one would have.
    #[arg(long)]
    defaults: bool,
    /// wide for what each one does; json for everything.
    #[arg(short, long, value_parser = ["json", "wide"], value_name = "FORMAT")]
    output: Option<String>,
}

impl Settings {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut rows: Vec<Setting> = if self.defaults {
            let mut rows = settings::Settings::default().rows();
            rows.extend(Limits::default().rows());
            rows
        } else {
            serde_json::from_value(context.api().get("/ironmesh/settings").await?)?
        };
        rows.retain(|row| row.name.starts_with(&self.name));
        if rows.is_empty() {
            anyhow::bail!("no setting has a name that begins with {:?}", self.name);
        }
        let mut out = stdout().lock();
        match self.output.as_deref() {
            Some("json") => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?,
            output => write!(out, "{}", table(&rows, output.is_some()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(rows: &[Setting], wide: bool) -> String {
    let mut columns = Columns::default();
    let mut push = |cells: [&str; 4]| {
        let shown = if wide { 4 } else { 3 };
        columns.push(cells.into_iter().take(shown));
    };
    push(["NAME", "VALUE", "DEFAULT", "ABOUT"]);
    for row in rows {
        push([&row.name, &row.value, &row.default, &row.about]);
    }
    columns.take_text()
}
