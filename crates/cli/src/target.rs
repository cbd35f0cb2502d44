//! Which objects a command line names: `pods`, `pods,svc`, `all`, `pod NAME ...`, `pod/NAME ...`.

use anyhow::{Context, bail, ensure};
use ironmesh_dialects::kinds::{ALL, Resource};

/// A resource, and one of its objects if one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The resource.
    pub(crate) resource: Resource,
    /// The object.
    pub(crate) name: Option<String>,
}

/// Reads the words that name resources and objects.
pub(crate) fn parse(words: &[String]) -> anyhow::Result<Vec<Target>> {
    let (first, names) =
        words.split_first().context("say which resource, such as: pods, deployment/NAME, all")?;
    if words.iter().any(|word| word.contains('/')) {
        return words.iter().map(|word| named(word)).collect();
    }
    let mut resources = Vec::new();
    for word in first.split(',').filter(|word| !word.is_empty()) {
        if word == "all" {
            for word in ALL {
                resources.push(resource(word)?);
            }
        } else {
            resources.push(resource(word)?);
        }
    }
    if names.is_empty() {
        return Ok(resources.into_iter().map(|resource| Target { resource, name: None }).collect());
    }
    ensure!(
        resources.len() == 1,
        "names can follow one resource only; write KIND/NAME for several"
    );
    let target =
        |name: &String| Target { resource: resources[0].clone(), name: Some(name.clone()) };
    Ok(names.iter().map(target).collect())
}

/// Reads words that name objects, none of them a whole collection.
pub(crate) fn parse_named(words: &[String]) -> anyhow::Result<Vec<(Resource, String)>> {
    parse(words)?
        .into_iter()
        .map(|target| {
            let name = target.name.context("say which object: KIND NAME or KIND/NAME")?;
            Ok((target.resource, name))
        })
        .collect()
}

/// The resource that a word means.
pub(crate) fn resource(word: &str) -> anyhow::Result<Resource> {
    Resource::by_word(word)
        .with_context(|| format!("the server doesn't have a resource type {word:?}"))
}

fn named(word: &str) -> anyhow::Result<Target> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
            Ok(Target { resource: resource(kind)?, name: Some(name.to_owned()) })
        }
        _ => bail!("{word:?} is not KIND/NAME, as the other words are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_kubectl_takes_them() {
        for (line, expected) in [
            ("pods", "pods"),
            ("po,svc", "pods services"),
            ("pod a b", "pods/a pods/b"),
            ("pod/a svc/b", "pods/a services/b"),
            (
                "all",
                "pods replicationcontrollers services daemonsets.apps deployments.apps replicasets.apps statefulsets.apps jobs.batch",
            ),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let show = |target: &Target| match &target.name {
                Some(name) => format!("{}/{name}", target.resource.qualified()),
                None => target.resource.qualified(),
            };
            let shown: Vec<String> = parse(&words).unwrap().iter().map(show).collect();
            assert_eq!(shown.join(" "), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, error) in [
            ("nonsense", "the server doesn't have a resource type \"nonsense\""),
            ("pods,svc a", "names can follow one resource only; write KIND/NAME for several"),
            ("pod/a b", "\"b\" is not KIND/NAME, as the other words are"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(parse(&words).unwrap_err().to_string(), error);
        }
    }
}
