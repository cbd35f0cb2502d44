//! `ironmesh external`: names that stand for addresses of this machine's network in pods.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;
use ironmesh_local::External;
use ironmesh_local::agent_api::Client;

use crate::cli::Context;
use crate::output::table::Columns;

/// Show or change which names stand for addresses of this machine's network in pods.
///
/// Inside a pod 127.0.0.1 is the pod's own. A name that is given here leads out: its port (80 if none is
/// given) reaches the address. What is changed holds from the next connection on, until the mesh ends, or
/// with `up --state` until it is taken back. `ironmesh up --external` gives it from the start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh external                                      what there is
  ironmesh external hello.example.com=127.131.7.9:80     the gateway of another mesh, say
  ironmesh external db.example.com:5432=127.0.0.1:5432   another port
  ironmesh external hello.example.com-                   no more")]
pub(crate) struct ExternalVerb {
    /// `NAME[:PORT]=ADDRESS:PORT`, or `NAME-` to take a name back.
    #[arg(value_name = "CHANGE")]
    changes: Vec<String>,
}

impl ExternalVerb {
    /// Changes, then shows what there is.
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for change in self.changes {
            match change.strip_suffix('-').filter(|name| !name.contains('=')) {
                Some(name) => remove.push(name.to_owned()),
                None => set.push(change.parse::<External>()?),
            }
        }
        let client: Client = context.agent()?;
        let all = client.external(set, remove)?;
        let mut columns = Columns::default();
        columns.push(["NAME", "PORT", "ADDRESS"]);
        for external in all {
            let (name, port, to) = external.parts();
            columns.push([name.to_owned(), port.to_string(), to.to_string()]);
        }
        write!(stdout(), "{}", columns.take_text())?;
        Ok(ExitCode::SUCCESS)
    }
}
