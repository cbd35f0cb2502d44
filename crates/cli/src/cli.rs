//! The command line: every verb, and the options that all of them take.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use ironmesh_local::agent_api::{Client, ClientError};

use crate::api::{Api, ApiError};
use crate::verb;

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
    /// Name of the mesh.
    #[arg(long, global = true, env = "IRONMESH_MESH", default_value = "default")]
    pub(crate) mesh: String,
    /// Namespace; `default` if neither this nor a manifest names one.
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
}

impl Context {
    /// The API of the mesh.
    pub(crate) fn api(&self) -> Api {
        Api::of_mesh(&self.mesh)
    }

    /// The agent of the mesh; blocks.
    pub(crate) fn agent(&self) -> Result<Client, ApiError> {
        agent(&self.mesh)
    }

    /// The namespace to work in.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
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
    Delete(verb::delete::Delete),
    Get(verb::get::Get),
    Describe(verb::describe::Describe),
    Label(verb::label::Label),
    Annotate(verb::label::Annotate),
    Exec(verb::exec::Exec),
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
    #[command(hide = true)]
    Capture(verb::capture::Capture),
    #[command(hide = true)]
    Version(verb::version::Version),
}

/// Parses the command line and runs its verb.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let Cli { context, verb } = Cli::parse();
    // A process that `up` starts must find one thread and no runtime; so each verb that needs a
    // runtime makes its own.
    match verb {
        Verb::Up(verb) => verb.run(&context),
        Verb::Down(verb) => verb.run(&context),
        Verb::Status(verb) => verb.run(&context),
        Verb::External(verb) => verb.run(&context),
        Verb::Finding(verb) => verb.run(),
        Verb::Capture(verb) => verb.run(),
        Verb::Apply(verb) => block_on(verb.run(&context)),
        Verb::Create(verb) => block_on(verb.run(&context)),
        Verb::Delete(verb) => block_on(verb.run(&context)),
        Verb::Get(verb) => block_on(verb.run(&context)),
        Verb::Describe(verb) => block_on(verb.run(&context)),
        Verb::Findings(verb) => block_on(verb.run(&context)),
        Verb::Label(verb) => block_on(verb.run(&context)),
        Verb::Annotate(verb) => block_on(verb.run(&context)),
        Verb::Exec(verb) => block_on(verb.run(&context)),
        Verb::Logs(verb) => block_on(verb.run(&context)),
        Verb::PortForward(verb) => block_on(verb.run(&context)),
        Verb::Scale(verb) => block_on(verb.run(&context)),
        Verb::Rollout(verb) => block_on(verb.run(&context)),
        Verb::Wait(verb) => block_on(verb.run(&context)),
        Verb::ProxyStatus(verb) => block_on(verb.run(&context)),
        Verb::Explain(verb) => block_on(verb.run(&context)),
        Verb::ProxyConfig(verb) => block_on(verb.run(&context)),
        Verb::Settings(verb) => block_on(verb.run(&context)),
        Verb::Version(verb) => block_on(verb.run(&context)),
    }
}

fn block_on(verb: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    crate::runtime()?.block_on(verb)
}
