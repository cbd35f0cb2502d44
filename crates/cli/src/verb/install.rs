//! `ironmesh install`: as `istioctl install`, for a mesh of this machine.

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
use crate::charts;
use crate::cli::Context;
use crate::say;
use crate::source;
use crate::verb::settings;

/// Install as istioctl does: start an empty mesh in the background, or set up the one that runs.
///
/// Takes istioctl's profiles, settings and IstioOperator files. What changes nothing here is named.
/// The mesh has its control plane and gateway from its start; Service and pod istiod are there for
/// those who look for them. `ironmesh down` ends the mesh.
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
        for path in &installation.ignored {
            let word = say::severity(Severity::Warning);
            say::notice(&format!("{word} {path}: changes nothing here"));
        }
        if self.dry_run {
            writeln!(stdout(), "would install {}", components(&installation))?;
            return Ok(ExitCode::SUCCESS);
        }
        if !self.skip_confirmation && !is_confirmed(&installation)? {
            writeln!(stdout(), "Cancelled.")?;
            return Ok(ExitCode::FAILURE);
        }
        let (process, code) = (nix::unistd::getpid(), bring(context, &installation)?);
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

/// Sets up the mesh that runs, or starts one. Comes back twice, as `local::up` does.
fn bring(context: &Context, installation: &Installation) -> anyhow::Result<ExitCode> {
    match context.agent() {
        Ok(agent) => {
            drop(agent);
            let api = context.api();
            crate::runtime()?.block_on(async {
                let changes = installation.settings.iter().cloned();
                let changes = changes.map(|(name, value)| (name, Some(value))).collect::<Vec<_>>();
                settings::set(&api, &changes).await?;
                set_up(&api, installation).await
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(ApiError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut given = Settings::default();
    for (name, value) in &installation.settings {
        given.set(name, value)?;
    }
    let (mesh, wanted) = (context.mesh.clone(), installation.clone());
    let hook: Apply = Box::new(move |socket| {
        let api = Api::of_socket(&mesh, socket);
        let done = crate::runtime()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(set_up(&api, &wanted)));
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

/// What the mesh does not have by itself.
async fn set_up(api: &Api, installation: &Installation) -> anyhow::Result<()> {
    if !installation.components().is_empty() {
        charts::install(api, &charts::istiod()).await?;
    }
    set_injection(api, installation.injects_by_label).await
}

/// Whether the labels of namespaces inject.
async fn set_injection(api: &Api, by_label: bool) -> anyhow::Result<()> {
    let switch = charts::injector(by_label);
    let (resource, namespace, name) = charts::identity(&switch);
    let path = resource.path(namespace, Some(name));
    match api.get(&path).await {
        Err(error) if error.is_not_found() && by_label => return Ok(()),
        Err(error) if error.is_not_found() => {}
        found => drop(found?),
    }
    Ok(charts::install(api, &[switch]).await?)
}

/// Asks as istioctl does. Whatever is no yes is a no.
fn is_confirmed(installation: &Installation) -> anyhow::Result<bool> {
    let mut out = stdout().lock();
    write!(
        out,
        "This will install the Istio (ironmesh {}) {} profile with {} components into the cluster. \
         Proceed? (y/N) ",
        env!("CARGO_PKG_VERSION"),
        installation.profile,
        components(installation)
    )?;
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
        match *name {
            "Egress gateways" => writeln!(out, "- {name}: ironmesh has none")?,
            name => writeln!(out, "✔ {name} installed")?,
        }
    }
    writeln!(out, "✔ Installation complete")?;
    writeln!(out, "Making this installation the default for injection and validation.\n")?;
    writeln!(out, "Thank you for installing Istio, as ironmesh {}.", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
