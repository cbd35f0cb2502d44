//! The command line: every verb, and the options that all of them take.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, FromArgMatches, Parser, Subcommand};

use ironmesh_client::Limits;
use ironmesh_local::agent_api::{Client, ClientError};

use crate::api::{Api, ApiError};
use crate::contexts::{self, Contexts};
use crate::source::Home;
use crate::verb::rollout::parse_duration;
use crate::{help, kubectl, say, verb};

/// A service mesh in one binary.
///
/// `ironmesh up` starts a mesh on this machine; the other verbs work on it, with kubectl's words.
#[derive(Debug, Parser)]
#[command(name = "ironmesh", version, propagate_version = true)]
#[command(after_help = "Examples:
  ironmesh up                                  start a mesh with Bookinfo in it
  ironmesh get pods                            see what runs
  ironmesh apply -f samples/helloworld/        add an application
  ironmesh explain GET http://reviews:9080/    why a request goes where it goes
  ironmesh down                                end it

Exit codes: 0 done; 1 failed, standard error says why; 2 wrong command line.
`exec` ends with the code of the command that it ran.")]
struct Cli {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb is told: which mesh, which namespace.
#[derive(Clone, Debug, Args)]
pub(crate) struct Context {
    /// Name of the mesh; without it IRONMESH_MESH, then what `config use-context` chose.
    #[arg(long = "mesh", global = true, value_name = "NAME")]
    mesh_option: Option<String>,
    /// As --mesh, and beats it: a mesh is a context.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// How long an answer of the mesh may take, such as 5s; 0: as long as it takes [default: 40s].
    #[arg(long, global = true, value_name = "DURATION", value_parser = request_timeout)]
    request_timeout: Option<Duration>,
    /// The mesh that is meant.
    #[arg(skip)]
    pub(crate) mesh: String,
    /// Namespace; `default` if neither this nor a manifest names one.
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// The namespace that `config set-context` chose.
    #[arg(skip)]
    default_namespace: Option<String>,
}

impl Context {
    /// Finds out which mesh and which of its namespaces are meant.
    fn choose(&mut self) -> anyhow::Result<()> {
        let contexts = Contexts::load()?;
        self.mesh = self.chosen(&contexts)?;
        self.default_namespace = contexts.namespaces.get(&self.mesh).cloned();
        Ok(())
    }

    /// The mesh that is meant, of those that were chosen and the command line.
    ///
    /// # Errors
    ///
    /// If it cannot be the name of one.
    pub(crate) fn chosen(&self, contexts: &Contexts) -> anyhow::Result<String> {
        let (context, mesh) = (self.context.as_deref(), self.mesh_option.as_deref());
        let environment = std::env::var("IRONMESH_MESH").ok();
        let name = contexts.choose(context, mesh, environment.as_deref());
        contexts::check_name(&name)?;
        Ok(name)
    }

    /// The API of the mesh.
    pub(crate) fn api(&self) -> Api {
        self.api_of(&self.mesh)
    }

    /// The API of another one.
    pub(crate) fn api_of(&self, mesh: &str) -> Api {
        match self.request_timeout {
            Some(answer_timeout) => {
                Api::of_mesh_within(mesh, Limits { answer_timeout, ..Limits::default() })
            }
            None => Api::of_mesh(mesh),
        }
    }

    /// The agent of the mesh; blocks.
    pub(crate) fn agent(&self) -> Result<Client, ApiError> {
        agent(&self.mesh)
    }

    /// Where objects go that name no namespace.
    pub(crate) fn home(&self) -> Home<'_> {
        Home { asked: self.namespace.as_deref(), otherwise: self.namespace() }
    }

    /// The namespace to work in.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().or(self.default_namespace.as_deref()).unwrap_or("default")
    }
}

/// A bound of waiting as kubectl takes it: 0 is none, and a number alone is in seconds.
fn request_timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0_u64) => Ok(Duration::MAX),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => parse_duration(text),
    }
}

/// The agent of a mesh of the calling user; blocks.
pub(crate) fn agent(mesh: &str) -> Result<Client, ApiError> {
    Client::connect(nix::unistd::geteuid().as_raw(), mesh).map_err(|error| match error {
        ClientError::NotRunning { mesh } => ApiError::NotRunning { mesh },
        ClientError::Io(error) => ApiError::Io(error),
        other => ApiError::Io(std::io::Error::other(other)),
    })
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(verb::up::Up),
    Down(verb::down::Down),
    Status(verb::status::Status),
    Apply(verb::apply::Apply),
    Create(verb::create::Create),
    Replace(verb::replace::Replace),
    Delete(verb::delete::Delete),
    Get(verb::get::Get),
    Describe(verb::describe::Describe),
    Label(verb::label::Label),
    Annotate(verb::label::Annotate),
    Patch(verb::patch::Patch),
    Edit(verb::edit::Edit),
    Set(verb::set::Set),
    Expose(verb::expose::Expose),
    Run(verb::run::Run),
    Exec(verb::exec::Exec),
    Kubeconfig(verb::kubeconfig::Kubeconfig),
    Logs(verb::logs::Logs),
    PortForward(verb::port_forward::PortForward),
    Scale(verb::scale::Scale),
    Rollout(verb::rollout::Rollout),
    Wait(verb::wait::Wait),
    ProxyStatus(verb::proxy_status::ProxyStatus),
    ProxyConfig(verb::proxy_config::ProxyConfig),
    Explain(verb::explain::Explain),
    Finding(verb::finding::Finding),
    Findings(verb::findings::Findings),
    Settings(verb::settings::Settings),
    External(verb::external::ExternalVerb),
    Image(verb::image::Image),
    Config(verb::config::Config),
    Completion(verb::completion::Completion),
    Man(verb::man::Man),
    Inject(verb::inject::Inject),
    Install(verb::install::Install),
    Uninstall(verb::uninstall::Uninstall),
    Precheck(verb::precheck::Precheck),
    Dashboard(verb::dashboard::Dashboard),
    Analyze(verb::analyze::Analyze),
    #[command(name = "x")]
    Experimental(verb::precheck::Experimental),
    Shims(verb::shims::Shims),
    #[command(hide = true)]
    Capture(verb::capture::Capture),
    Version(verb::version::Version),
}

/// The verbs in groups, for the list in the help.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "The mesh",
        &[
            "up",
            "down",
            "status",
            "settings",
            "external",
            "image",
            "config",
            "kubeconfig",
            "version",
        ],
    ),
    (
        "Objects",
        &[
            "apply", "create", "replace", "delete", "get", "describe", "label", "annotate",
            "patch", "edit", "set", "expose", "wait",
        ],
    ),
    ("Workloads", &["run", "logs", "exec", "port-forward", "scale", "rollout"]),
    ("Traffic", &["explain", "proxy-status", "proxy-config", "findings", "finding"]),
    ("As istioctl", &["install", "uninstall", "precheck", "inject", "analyze", "dashboard", "x"]),
    ("This command", &["shims", "completion", "man", "help"]),
];

/// The command line as a whole, for its help, its completions and its manual.
pub(crate) fn command() -> clap::Command {
    help::laid_out(<Cli as clap::CommandFactory>::command(), GROUPS)
}

/// Parses the command line and runs its verb.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { mut context, verb } = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            if let Some(verb) = kubectl::unknown_verb(&error) {
                if let Some(code) = kubectl::hand_over(verb)? {
                    return Ok(code);
                }
                if let Some(advice) = kubectl::advice(verb) {
                    say::notice(&advice);
                    return Ok(ExitCode::from(2));
                }
            }
            return help::complain(error);
        }
    };
    let needs_no_mesh = matches!(
        verb,
        Verb::Config(_) | Verb::Completion(_) | Verb::Man(_) | Verb::Inject(_) | Verb::Shims(_)
    );
    if !needs_no_mesh {
        context.choose()?;
    }
    // A process that `up` starts must find one thread and no runtime; so each verb that needs a
    // runtime makes its own.
    match verb {
        Verb::Up(verb) => verb.run(&context),
        Verb::Down(verb) => verb.run(&context),
        Verb::Status(verb) => verb.run(&context),
        Verb::External(verb) => verb.run(&context),
        Verb::Image(verb) => verb.run(&context),
        Verb::Install(verb) => verb.run(&context),
        Verb::Uninstall(verb) => verb.run(&context),
        Verb::Precheck(verb) => verb.run(&context),
        Verb::Experimental(verb) => verb.run(&context),
        Verb::Finding(verb) => verb.run(),
        Verb::Config(verb) => verb.run(&context),
        Verb::Completion(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
        Verb::Inject(verb) => verb.run(),
        Verb::Shims(verb) => verb.run(),
        Verb::Capture(verb) => verb.run(),
        Verb::Apply(verb) => block_on(verb.run(&context)),
        Verb::Create(verb) => block_on(verb.run(&context)),
        Verb::Replace(verb) => block_on(verb.run(&context)),
        Verb::Patch(verb) => block_on(verb.run(&context)),
        Verb::Edit(verb) => block_on(verb.run(&context)),
        Verb::Set(verb) => block_on(verb.run(&context)),
        Verb::Expose(verb) => block_on(verb.run(&context)),
        Verb::Delete(verb) => block_on(verb.run(&context)),
        Verb::Get(verb) => block_on(verb.run(&context)),
        Verb::Describe(verb) => block_on(verb.run(&context)),
        Verb::Findings(verb) => block_on(verb.run(&context)),
        Verb::Label(verb) => block_on(verb.run(&context)),
        Verb::Annotate(verb) => block_on(verb.run(&context)),
        Verb::Run(verb) => block_on(verb.run(&context)),
        Verb::Exec(verb) => block_on(verb.run(&context)),
        Verb::Kubeconfig(verb) => block_on(verb.run(&context)),
        Verb::Logs(verb) => block_on(verb.run(&context)),
        Verb::PortForward(verb) => block_on(verb.run(&context)),
        Verb::Scale(verb) => block_on(verb.run(&context)),
        Verb::Rollout(verb) => block_on(verb.run(&context)),
        Verb::Wait(verb) => block_on(verb.run(&context)),
        Verb::ProxyStatus(verb) => block_on(verb.run(&context)),
        Verb::Explain(verb) => block_on(verb.run(&context)),
        Verb::ProxyConfig(verb) => block_on(verb.run(&context)),
        Verb::Settings(verb) => block_on(verb.run(&context)),
        Verb::Analyze(verb) => block_on(verb.run(&context)),
        Verb::Dashboard(verb) => block_on(verb.run(&context)),
        Verb::Version(verb) => block_on(verb.run(&context)),
    }
}

fn block_on(verb: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    crate::runtime()?.block_on(verb)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_verb_is_in_one_group_and_has_an_example() {
        command().debug_assert();
        let of_groups: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| *verbs).copied().collect();
        let known: BTreeSet<&str> = of_groups.iter().copied().collect();
        assert_eq!(known.len(), of_groups.len());
        let command = command();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(known.contains(verb.get_name()), "{} is in no group", verb.get_name());
            let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example"), "{} has no example", verb.get_name());
        }
    }
}
