//! Which objects a command line names: `pods`, `pods,svc`, `all`, `pod NAME ...`, `pod/NAME ...`.

use anyhow::{Context, anyhow, bail, ensure};
use ironmesh_dialects::kinds::{ALL, KINDS, Resource};
use ironmesh_dialects::schema::nearest;

use crate::api::Api;
use crate::{help, kinds};

/// A resource, and one of its objects if one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The resource.
    pub(crate) resource: Resource,
    /// The object.
    pub(crate) name: Option<String>,
}

/// Reads the words that name resources and objects.
///
/// # Errors
///
/// If a word is not understood, or names a kind that there is not.
pub(crate) async fn parse(api: &Api, words: &[String]) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for Named { kind, name } in split(words)? {
        targets.push(Target { resource: kinds::resource(api, &kind).await?, name });
    }
    Ok(targets)
}

/// Reads words that name objects, none of them a whole collection.
///
/// # Errors
///
/// As [`parse`].
pub(crate) async fn parse_named(
    api: &Api,
    words: &[String],
) -> anyhow::Result<Vec<(Resource, String)>> {
    parse(api, words)
        .await?
        .into_iter()
        .map(|target| {
            let name = target.name.context("say which object: KIND NAME or KIND/NAME")?;
            Ok((target.resource, name))
        })
        .collect()
}

/// The resource of the table of kinds that a word means.
///
/// # Errors
///
/// If there is none.
pub(crate) fn resource(word: &str) -> anyhow::Result<Resource> {
    Resource::by_word(word).ok_or_else(|| unknown(word))
}

/// What is said of a word that names no resource.
pub(crate) fn unknown(word: &str) -> anyhow::Error {
    let hint = if help::is_manifest(word) {
        format!("; manifests are named with -f: -f {word}")
    } else {
        // Short names are near to everything.
        let plural = KINDS.iter().map(|k| k.plural);
        let near = nearest(word, plural.chain(KINDS.iter().map(|k| k.kind)));
        let near = near.map(str::to_ascii_lowercase);
        near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
    };
    anyhow!("the server doesn't have a resource type {word:?}{hint}")
}

/// A word for a resource, and the name of one of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    kind: String,
    name: Option<String>,
}

fn split(words: &[String]) -> anyhow::Result<Vec<Named>> {
    let (first, names) =
        words.split_first().context("say which resource, such as: pods, deployment/NAME, all")?;
    if words.iter().any(|word| word.contains('/') && !help::is_manifest(word)) {
        return words.iter().map(|word| named(word)).collect();
    }
    let mut kinds: Vec<&str> = Vec::new();
    for word in first.split(',').filter(|word| !word.is_empty()) {
        let all = if word == "all" { ALL } else { &[word] };
        // A kind that is named twice is meant once.
        kinds.extend(all.iter().filter(|word| !kinds.contains(word)).collect::<Vec<_>>());
    }
    ensure!(!kinds.is_empty(), "say which resource, such as: pods, deployment/NAME, all");
    let of =
        |kind: &str, name: Option<&String>| Named { kind: kind.to_owned(), name: name.cloned() };
    if names.is_empty() {
        return Ok(kinds.into_iter().map(|kind| of(kind, None)).collect());
    }
    let [kind] = kinds[..] else {
        bail!("names can follow one resource only; write KIND/NAME for several");
    };
    Ok(names.iter().map(|name| of(kind, Some(name))).collect())
}

fn named(word: &str) -> anyhow::Result<Named> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
            Ok(Named { kind: kind.to_owned(), name: Some(name.to_owned()) })
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
                "pods replicationcontrollers services daemonsets.apps deployments.apps replicasets.apps statefulsets.apps horizontalpodautoscalers.autoscaling cronjobs.batch jobs.batch",
            ),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let show = |named: &Named| {
                let resource = resource(&named.kind).unwrap().qualified();
                named.name.as_ref().map_or(resource.clone(), |name| format!("{resource}/{name}"))
            };
            let shown: Vec<String> = split(&words).unwrap().iter().map(show).collect();
            assert_eq!(shown.join(" "), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, error) in [
            ("pods,svc a", "names can follow one resource only; write KIND/NAME for several"),
            ("pod/a b", "\"b\" is not KIND/NAME, as the other words are"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(split(&words).unwrap_err().to_string(), error);
        }
        for (word, error) in [
            ("nonsense", "the server doesn't have a resource type \"nonsense\""),
            ("pds", "the server doesn't have a resource type \"pds\"; did you mean \"pods\"?"),
            (
                "a.yaml",
                "the server doesn't have a resource type \"a.yaml\"; manifests are named with -f: -f a.yaml",
            ),
        ] {
            assert_eq!(resource(word).unwrap_err().to_string(), error);
        }
    }
}
