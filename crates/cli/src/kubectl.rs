//! Verbs of kubectl that ironmesh does not have: the real kubectl does them, by the API of the mesh.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::contexts::{self, Contexts};
use crate::handover;
use crate::program::Program;

/// The verb that a command line names and nobody here knows.
pub(crate) fn unknown_verb(error: &clap::Error) -> Option<&str> {
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(verb))) => Some(verb),
        _ => None,
    }
}

/// Becomes the real kubectl where this one was called by that name and has no such verb; returns where
/// there is none.
///
/// # Errors
///
/// If no mesh runs: without one, kubectl would go to whatever other cluster it knows.
pub(crate) fn hand_over(verb: &str) -> anyhow::Result<Option<ExitCode>> {
    if Program::called() != Program::Kubectl {
        return Ok(None);
    }
    let Some(kubectl) = handover::find("kubectl") else { return Ok(None) };
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let config = if NEED_NO_CLUSTER.contains(&verb) || names_cluster(&arguments) {
        None
    } else {
        let contexts = Contexts::load()?;
        let environment = std::env::var("IRONMESH_MESH").ok();
        let named = option(&arguments, "--context");
        let mesh = contexts.choose(named.as_deref(), None, environment.as_deref());
        contexts::check_name(&mesh)?;
        let namespace = contexts.namespaces.get(&mesh).map(String::as_str);
        Some(handover::kubeconfig(&mesh, namespace)?)
    };
    handover::become_program(&kubectl, &arguments, config).map(Some)
}

/// What is said of a verb that a real kubectl has, where there is none; nothing of other words.
pub(crate) fn advice(verb: &str) -> Option<String> {
    ONLY_THERE.contains(&verb).then(|| {
        format!(
            "error: ironmesh has no {verb:?}; a real kubectl does that with a mesh, too:\n  \
             ironmesh kubeconfig > mesh.kubeconfig\n  \
             kubectl --kubeconfig mesh.kubeconfig {verb} ..."
        )
    })
}

/// The value of an option, if it is given.
fn option(arguments: &[OsString], name: &str) -> Option<String> {
    let mut words = arguments.iter().map_while(|word| word.to_str()).take_while(|w| *w != "--");
    while let Some(word) = words.next() {
        match word.strip_prefix(name) {
            Some("") => return words.next().map(str::to_owned),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            _ => {}
        }
    }
    None
}

/// Whether a command line itself says which cluster it means.
fn names_cluster(arguments: &[OsString]) -> bool {
    ["--kubeconfig", "--server", "-s"].iter().any(|name| option(arguments, name).is_some())
}

/// Verbs of kubectl that ironmesh does not have.
const ONLY_THERE: &[&str] = &[
    "alpha",
    "api-resources",
    "api-versions",
    "attach",
    "auth",
    "autoscale",
    "certificate",
    "cluster-info",
    "cordon",
    "cp",
    "debug",
    "diff",
    "drain",
    "events",
    "kustomize",
    "options",
    "plugin",
    "proxy",
    "taint",
    "top",
    "uncordon",
];
/// Those of them that ask no cluster anything.
const NEED_NO_CLUSTER: &[&str] = &["kustomize", "options", "plugin"];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_mesh_of_a_command_line_is_found_as_kubectl_finds_its_context() {
        for (line, named) in [
            ("cp a b", None),
            ("--context two cp a b", Some("two")),
            ("cp a b --context=two", Some("two")),
            ("top pods --context", None),
            ("debug p -- sh --context two", None),
            ("cp a b --contexts two", None),
        ] {
            assert_eq!(option(&words(line), "--context").as_deref(), named, "{line}");
        }
        assert!(names_cluster(&words("top nodes --kubeconfig=x")));
        assert!(!names_cluster(&words("top nodes")));
    }

    #[test]
    fn only_verbs_that_are_not_here_are_those_of_the_real_one() {
        let command = crate::cli::command();
        for verb in ONLY_THERE {
            assert!(command.find_subcommand(verb).is_none(), "{verb}");
            assert!(advice(verb).unwrap().contains("kubectl"), "{verb}");
        }
        assert_eq!(advice("gett"), None);
    }
}
