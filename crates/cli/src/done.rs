//! What is said of an object that was changed: a line in kubectl's words, or the object itself where
//! `-o` asks for it.

use std::io::{Write, stdout};

use ironmesh_dialects::kinds::Resource;
use serde_json::Value;

use crate::output::Output;
use crate::verb::dry_run::DryRunArg;
use crate::verb::get::print_objects;
use crate::verb::text;

/// `-o`, for the verbs that change objects.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct OutputArg {
    /// Print the object instead: yaml, json, name, jsonpath=TEMPLATE.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
}

impl OutputArg {
    /// Says that something was done with an object.
    pub(crate) fn say(
        &self,
        resource: &Resource,
        object: &Value,
        done: &str,
        dry_run: DryRunArg,
    ) -> anyhow::Result<()> {
        let name = text(object, "/metadata/name");
        match &self.output {
            None => {
                let (kind, suffix) = (resource.qualified_singular(), dry_run.suffix());
                writeln!(stdout(), "{kind}/{name} {done}{suffix}")?;
            }
            Some(output) => print_objects(vec![object.clone()], true, output)?,
        }
        Ok(())
    }
}
