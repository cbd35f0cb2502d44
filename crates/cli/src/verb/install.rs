//! `ironmesh install`: as `istioctl install`, for a mesh of this machine.

pub(super) mod plan;

use std::io::{IsTerminal, Write, stdin, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use ironmesh_dialects::install::{Installation, assign, operator_spec, overlay};
use ironmesh_dialects::manifest;
use ironmesh_local::{self as local, Apply, UpOptions};
use ironmesh_model::Severity;
use ironmesh_model::settings::Settings;
use serde_json::json;

use crate::api::{Api, ApiError};
use crate::cli::Context;
use crate::say;
use crate::source;
use crate::verb::settings::check;
use plan::Plan;

/// Install as istioctl does: start an empty mesh in the background, or set up the one that runs.
///
/// Takes istioctl's profiles, settings and IstioOperator files. What Istio knows and changes nothing
/// here is named; what Istio does not know is refused.
///
/// It is declarative: afterwards the mesh is what the files and --set say. A setting that they leave out
/// goes back to its default, whoever set it before, and what an earlier install made and they no longer
/// ask for is deleted. All that changes is shown first.
///
/// The mesh has its control plane and gateway from its start; Service and pod istiod are there for
/// those who look for them. `ironmesh uninstall --purge` takes an install back, `ironmesh down` ends the
/// mesh.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh install
  ironmesh install --set profile=demo -y
  ironmesh install --set meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY -y
  ironmesh install -f operator.yaml -y")]
pub(crate) struct Install {
    /// A value of the IstioOperator, such as profile=demo; may be given several times.
    #[arg(long = "set", short = 's', value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// File with an IstioOperator, or - for standard input; may be given several times.
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: Vec<String>,
    /// Do not ask.
    #[arg(short = 'y', long, visible_alias = "yes")]
    skip_confirmation: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

impl Install {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let installation = self.installation()?;
        let warn = |text: &str| {
            say::notice(&format!("{} {text}", say::severity(Severity::Warning)));
        };
        for path in &installation.ignored {
            warn(&format!("{path}: changes nothing here"));
        }
        if !installation.has_gateway() {
            let profile = &installation.profile;
            warn(&format!("profile {profile}: the ingress gateway is part of the mesh, and stays"));
        }
        let api = running(context)?;
        let plan = match &api {
            Some(api) => crate::runtime()?.block_on(Plan::of(api, &installation))?,
            None => Plan::from_nothing(&installation),
        };
        plan.unmoved.iter().for_each(|text| warn(text));
        write!(stdout(), "{}", plan.text())?;
        if self.dry_run {
            writeln!(stdout(), "would install {}", components(&installation))?;
            return Ok(ExitCode::SUCCESS);
        }
        if !self.skip_confirmation && !is_confirmed(&question(&installation))? {
            writeln!(stdout(), "Cancelled.")?;
            return Ok(ExitCode::FAILURE);
        }
        let process = nix::unistd::getpid();
        let code = match api {
            Some(api) => {
                crate::runtime()?.block_on(plan.carry_out(&api, &installation))?;
                ExitCode::SUCCESS
            }
            None => start(context, &installation)?,
        };
        // The process that stays as the mesh comes here, too, at its end.
        if nix::unistd::getpid() == process && code == ExitCode::SUCCESS {
            say_done(&installation)?;
        }
        Ok(code)
    }

    /// What files and values ask for.
    fn installation(&self) -> anyhow::Result<Installation> {
        let mut spec = json!({});
        for text in source::texts(&self.filename, false)? {
            let file = &text.file;
            let utf8 =
                std::str::from_utf8(&text.bytes).with_context(|| format!("{file} is no UTF-8"))?;
            let parsed = manifest::parse(utf8);
            if let Some(error) = parsed.errors.first() {
                bail!("{file}: {error}");
            }
            for document in parsed.documents {
                let read = operator_spec(&document.value);
                overlay(&mut spec, read.with_context(|| format!("{file}:{}", document.line))?);
            }
        }
        for text in &self.set {
            assign(&mut spec, text)?;
        }
        Ok(Installation::of_operator(&spec)?)
    }
}

/// The API of the mesh, if it runs.
pub(super) fn running(context: &Context) -> anyhow::Result<Option<Api>> {
    match context.agent() {
        Ok(agent) => {
            drop(agent);
            Ok(Some(context.api()))
        }
        Err(ApiError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Starts a mesh. Comes back twice, as `local::up` does.
fn start(context: &Context, installation: &Installation) -> anyhow::Result<ExitCode> {
    let mut given = Settings::default();
    for (name, value) in &installation.settings {
        given.set(name, value)?;
    }
    check(&given)?;
    let (mesh, wanted) = (context.mesh.clone(), installation.clone());
    let hook: Apply = Box::new(move |socket| {
        let api = Api::of_socket(&mesh, socket);
        let set_up = async {
            let plan = Plan::of(&api, &wanted).await?;
            plan.carry_out(&api, &wanted).await
        };
        let done = crate::runtime()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(set_up));
        done.map_err(|error| format!("{error:#}"))
    });
    let mesh = context.mesh.clone();
    let options = UpOptions {
        mesh,
        settings: given,
        detach: true,
        apply: Some(hook),
        ..UpOptions::default()
    };
    Ok(local::up(options)?)
}

fn question(installation: &Installation) -> String {
    format!(
        "This will install the Istio (ironmesh {}) {} profile with {} components into the cluster. \
         Proceed? (y/N) ",
        env!("CARGO_PKG_VERSION"),
        installation.profile,
        components(installation)
    )
}

/// Asks as istioctl does. Whatever is no yes is a no.
pub(super) fn is_confirmed(question: &str) -> anyhow::Result<bool> {
    let mut out = stdout().lock();
    write!(out, "{question}")?;
    out.flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    if !stdin().is_terminal() {
        writeln!(out)?;
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// The components as istioctl lists them.
fn components(installation: &Installation) -> String {
    let names: Vec<String> =
        installation.components().iter().map(|name| format!("{name:?}")).collect();
    format!("[{}]", names.join(" "))
}

fn say_done(installation: &Installation) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    for name in installation.components() {
        writeln!(out, "✔ {name} installed")?;
    }
    writeln!(out, "✔ Installation complete")?;
    writeln!(out, "Making this installation the default for injection and validation.\n")?;
    writeln!(out, "Thank you for installing Istio, as ironmesh {}.", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
