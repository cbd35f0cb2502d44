//! `helm`: Istio's own charts, by the words of Helm 2 and 3. Every other chart and verb is handed to
//! the real helm.

mod command;
mod release;
mod repositories;

use std::ffi::OsString;
use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::bail;

use crate::api::{Api, ApiError};
use crate::{handover, say};
use command::{Chart, Line};
use release::Release;

/// Runs a command line of helm.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let words: Option<Vec<String>> =
        arguments.iter().map(|word| word.to_str().map(str::to_owned)).collect();
    let Some(line) = words.as_deref().map(Line::read) else {
        return real(arguments, &Line::default());
    };
    let api = Api::of_mesh(&line.mesh()?);
    match &*line.words() {
        [] | ["help", ..] => {
            stdout().write_all(HELP.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        // Tiller went with Helm 2.
        ["init", ..] => say("Nothing to initialise.\nHappy Helming!"),
        ["repo", "add", name, url] if Chart::is_repository(name, url) => {
            repositories::add(name, url)?;
            say(&format!("{name:?} has been added to your repositories"))
        }
        ["repo", "update", ..] if handover::find("helm").is_none() => {
            say("Hang tight while we grab the latest from your chart repositories...\n\
                 Update Complete. Happy Helming!")
        }
        ["install" | "upgrade" | "template", rest @ ..] => match line.chart(rest)? {
            Some((name, chart)) if line.words()[0] == "template" => {
                release::print(&chart, &line, &name)
            }
            Some((name, chart)) => {
                crate::runtime()?.block_on(release::install(&api, &line, &name, &chart))
            }
            None => real(arguments, &line),
        },
        [verb @ ("delete" | "uninstall" | "del" | "un" | "status"), names @ ..] => {
            of_releases(&api, verb, names, &line, arguments)
        }
        ["list" | "ls", ..] => {
            let found = crate::runtime()?.block_on(Release::all(&api));
            let found = found.or_else(nothing_without_mesh)?;
            let has_real = handover::find("helm").is_some();
            // One table is enough where only the real helm has releases.
            if !found.is_empty() || !has_real {
                release::list(&found)?;
            }
            if has_real { real(arguments, &line) } else { Ok(ExitCode::SUCCESS) }
        }
        _ => real(arguments, &line),
    }
}

/// Verbs on releases: ours, or those of the real helm.
fn of_releases(
    api: &Api,
    verb: &str,
    names: &[&str],
    line: &Line,
    arguments: &[OsString],
) -> anyhow::Result<ExitCode> {
    let runtime = crate::runtime()?;
    let mut found = Vec::new();
    for name in names {
        match runtime.block_on(Release::find(api, name)) {
            Ok(Some(release)) => found.push(release),
            Ok(None) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if found.is_empty() {
        drop(runtime);
        if handover::find("helm").is_none()
            && let [name, ..] = names
        {
            bail!("release: {name:?} not found");
        }
        return real(arguments, line);
    }
    for release in &found {
        match verb {
            "status" => release.say()?,
            _ => runtime.block_on(release.delete(api))?,
        }
    }
    let missing = names.iter().find(|name| !found.iter().any(|release| release.name == **name));
    if let Some(name) = missing {
        bail!("release: {name:?} not found");
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing_without_mesh(error: ApiError) -> Result<Vec<Release>, ApiError> {
    match error {
        ApiError::NotRunning { .. } => Ok(Vec::new()),
        error => Err(error),
    }
}

fn say(text: &str) -> anyhow::Result<ExitCode> {
    writeln!(stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// Becomes the real helm, for the mesh that is meant.
fn real(arguments: &[OsString], line: &Line) -> anyhow::Result<ExitCode> {
    let Some(helm) = handover::find("helm") else {
        say::notice(
            "error: this helm is ironmesh, which knows Istio's charts; for others it hands over to the \
             helm that comes after it on PATH, and there is none. With Go, this builds one:\n  \
             GOBIN=$HOME/.local/bin go install helm.sh/helm/v3/cmd/helm@latest",
        );
        return Ok(ExitCode::FAILURE);
    };
    // Where none runs some verbs do without.
    let config = match line.names_cluster() {
        true => None,
        false => match handover::kubeconfig(&line.mesh()?, None) {
            Ok(config) => Some(config),
            Err(_) if !line.needs_cluster() => None,
            Err(error) => return Err(error),
        },
    };
    handover::become_program(&helm, arguments, config)
}

const HELP: &str = "\
The charts of Istio, for a mesh of ironmesh. Other charts and verbs go to the helm that comes after
this one on PATH, which works on the mesh, too (on another cluster with --kubeconfig).

  helm repo add istio.io URL          a repository of Istio
  helm install istio.io/istio-init --name istio-init --namespace istio-system --version 1.3.2
  helm install istio.io/istio --name istio --namespace istio-system --set global.mtls.enabled=true
  helm install istiod istio/istiod -n istio-system
  helm template istio install/kubernetes/helm/istio
  helm list | helm status NAME | helm delete NAME --purge
";
