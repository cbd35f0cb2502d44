//! What the mesh found in objects that a command has just brought, for people.
//!
//! Findings of one kind and code are one line with a count, so that a large manifest does not bury
//! what matters; `-v` shows each.

use std::collections::BTreeMap;

use ironmesh_dialects::object::normalize;
use ironmesh_dialects::{Object, translate_one};
use ironmesh_model::{Finding, FindingCode, Name};

use super::{findings, sentence};
use crate::api::Api;
use crate::say;
use crate::source::{Home, Manifest};
use crate::verb::dry_run::DryRunArg;

/// The objects that findings are shown of.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    manifests: Vec<&'a Manifest>,
    pods_change: bool,
    verbose: bool,
}

/// A finding and where it stands.
#[derive(Debug)]
struct Placed {
    place: String,
    finding: Finding,
}

impl Placed {
    /// Of what it is one of several: of its kind, or of the whole file where the kinds of it are for a
    /// part that the mesh does not have.
    fn of(&self) -> Name {
        match self.finding.code {
            FindingCode::NotPartHere => {
                self.place.rsplit_once(':').map_or(&*self.place, |(file, _)| file).into()
            }
            _ => self.finding.object.kind.clone(),
        }
    }
}

impl<'a> Report<'a> {
    /// A report of nothing yet; a verbose one shows all that is found.
    pub(crate) fn new(verbose: bool) -> Self {
        Self { manifests: Vec::new(), pods_change: false, verbose }
    }

    /// Adds an object that was taken. Of one that was there as it is, nothing is repeated.
    pub(crate) fn add(&mut self, manifest: &'a Manifest, has_changed: bool) {
        if has_changed || self.verbose {
            self.manifests.push(manifest);
            self.pods_change |= has_changed && concerns_pods(manifest.kind());
        }
    }

    /// Prints the findings. If pods change, what is found about pods that are missing is not yet
    /// true, and not printed. A dry run, after which the mesh has no such objects, shows what each
    /// object says by itself.
    pub(crate) async fn print(
        &self,
        api: &Api,
        home: Home<'_>,
        dry_run: DryRunArg,
    ) -> anyhow::Result<()> {
        if self.manifests.is_empty() {
            return Ok(());
        }
        let all = if dry_run.is_real() { Some(findings(api, "").await?) } else { None };
        let mut placed = Vec::new();
        for manifest in &self.manifests {
            let own = manifest.namespace(home)?.unwrap_or_default();
            let found = match &all {
                Some(all) => about(all, manifest, &own),
                None => by_itself(manifest, &own),
            };
            // The store has the new form only, so that the mesh does not know.
            let old_form = normalize(&mut manifest.value().clone());
            placed.extend(old_form.into_iter().chain(found).filter_map(|finding| {
                let place = manifest.place(&finding.path);
                self.shows(&finding).then_some(Placed { place, finding })
            }));
        }
        for line in lines(&placed, self.verbose) {
            say::notice(&line);
        }
        Ok(())
    }

    fn shows(&self, finding: &Finding) -> bool {
        self.verbose || is_worth_saying(finding.code, self.pods_change)
    }
}

/// Whether a finding is worth a line unasked for, where pods are about to change or not.
pub(crate) fn is_worth_saying(code: FindingCode, pods_change: bool) -> bool {
    let is_noise = matches!(code, FindingCode::NotBoundedHere | FindingCode::NotNeeded);
    !(is_noise || pods_change && settles(code))
}

/// What the mesh found about the object of a manifest.
fn about(all: &[Finding], manifest: &Manifest, namespace: &str) -> Vec<Finding> {
    let is_it = |finding: &&Finding| {
        *finding.object.kind == *manifest.kind()
            && *finding.object.name == *manifest.name()
            && *finding.object.namespace == *namespace
    };
    all.iter().filter(is_it).cloned().collect()
}

/// What is found about an object that the mesh does not have.
pub(super) fn by_itself(manifest: &Manifest, namespace: &str) -> Vec<Finding> {
    let mut value = manifest.value().clone();
    normalize(&mut value);
    if !namespace.is_empty() {
        value["metadata"]["namespace"] = namespace.into();
    }
    Object::new(value).map(|object| translate_one(&object).findings).unwrap_or_default()
}

/// The lines of findings, in the order of the objects.
fn lines(placed: &[Placed], verbose: bool) -> Vec<String> {
    let line = |Placed { place, finding }: &Placed| format!("{place}: {}", sentence(finding));
    if verbose {
        return placed.iter().map(line).collect();
    }
    let mut groups: BTreeMap<(Name, FindingCode), Vec<&Placed>> = BTreeMap::new();
    for one in placed {
        groups.entry((one.of(), one.finding.code)).or_default().push(one);
    }
    let mut lines = Vec::new();
    for one in placed {
        let group = &groups[&(one.of(), one.finding.code)];
        // Of a single object each field is worth a line.
        let is_single = group.iter().all(|other| other.finding.object == one.finding.object);
        if is_single && group.len() <= FIELDS_SHOWN {
            lines.push(line(one));
        } else if std::ptr::eq(one, group[0]) {
            let (more, of, code) = (group.len() - 1, one.of(), one.finding.code);
            lines.push(format!("{} (and {more} more {code} of {of}: -v shows all)", line(one)));
        }
    }
    lines
}

/// Whether a change of a kind may change which pods there are, or who selects them.
pub(crate) fn concerns_pods(kind: &str) -> bool {
    matches!(
        kind,
        "Pod"
            | "Deployment"
            | "ReplicaSet"
            | "ReplicationController"
            | "StatefulSet"
            | "DaemonSet"
            | "Job"
            | "Service"
    )
}

/// Whether a finding is true only until the pods run, which an apply has just asked for.
fn settles(code: FindingCode) -> bool {
    matches!(code, FindingCode::NothingSelected | FindingCode::EmptySubset)
}

/// Findings of one code in one object that have a line each.
const FIELDS_SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use ironmesh_model::ObjectId;

    use super::*;

    fn placed(name: &str, path: &str, code: FindingCode) -> Placed {
        let object = ObjectId::new("RouteRule", "n", name);
        Placed { place: "a.yaml:1".to_owned(), finding: Finding::new(&object, path, code, "text") }
    }

    #[test]
    fn kinds_of_what_the_mesh_does_not_have_are_one_line_for_the_whole_file() {
        let of = |kind: &str, file: &str| {
            let object = ObjectId::new(kind, "n", "a");
            let finding = Finding::new(&object, "", FindingCode::NotPartHere, "no Mixer");
            Placed { place: format!("{file}:7"), finding }
        };
        let all = [of("rule", "a.yaml"), of("stdio", "a.yaml"), of("quota", "a.yaml")];
        let lines = lines(&all, false);
        assert_eq!(
            lines,
            [
                "a.yaml:7: info IM0140 rule n/a: no Mixer (and 2 more IM0140 of a.yaml: -v shows all)"
            ]
        );
        assert_eq!(super::lines(&all, true).len(), 3);
    }

    #[test]
    fn findings_of_one_kind_and_code_are_one_line() {
        let all: Vec<Placed> = (0..12)
            .map(|at| placed(&format!("r{at}"), "", FindingCode::UnknownKind))
            .chain([placed("r0", "spec", FindingCode::NotHonoured)])
            .collect();
        let shown = lines(&all, false);
        assert_eq!(
            shown,
            [
                "a.yaml:1: warning IM0004 RouteRule n/r0: text (and 11 more IM0004 of RouteRule: -v shows all)",
                "a.yaml:1: warning IM0101 RouteRule n/r0 spec: text",
            ]
        );
        assert_eq!(lines(&all, true).len(), 13);
    }

    #[test]
    fn the_fields_of_a_single_object_have_a_line_each() {
        let fields = |count: usize| -> Vec<Placed> {
            (0..count).map(|at| placed("r", &format!("f{at}"), FindingCode::NotHonoured)).collect()
        };
        assert_eq!(lines(&fields(3), false).len(), 3);
        assert_eq!(lines(&fields(9), false).len(), 1);
    }
}
