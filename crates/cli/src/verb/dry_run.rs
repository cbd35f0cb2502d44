//! `--dry-run`: say what would be done, and do nothing.

use crate::api::Query;

/// The option, for the verbs that change objects.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct DryRunArg {
    /// Only say what would be done: client does not ask the server, server lets it check.
    #[arg(
        long,
        value_enum,
        value_name = "none|client|server",
        default_value = "none",
        default_missing_value = "client",
        num_args = 0..=1,
        require_equals = true
    )]
    dry_run: DryRun,
}

/// Who tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum DryRun {
    /// Nobody: it is done.
    #[default]
    None,
    /// This command, without sending anything.
    Client,
    /// The server, which stores nothing.
    Server,
}

impl DryRunArg {
    /// Whether nothing is sent.
    pub(crate) fn is_client(self) -> bool {
        self.dry_run == DryRun::Client
    }

    /// Whether something is done.
    pub(crate) fn is_real(self) -> bool {
        self.dry_run == DryRun::None
    }

    /// A path for a request that changes something, which the server only tries if asked to.
    pub(crate) fn on(self, path: String) -> String {
        self.parameter(Query::new(path)).build()
    }

    /// As [`DryRunArg::on`], for a path that has other parameters, too.
    pub(crate) fn parameter(self, query: Query) -> Query {
        query.with_some("dryRun", (self.dry_run == DryRun::Server).then_some("All"))
    }

    /// What messages end with, as `kubectl`'s.
    pub(crate) fn suffix(self) -> &'static str {
        match self.dry_run {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}
