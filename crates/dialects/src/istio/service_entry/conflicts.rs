//! ServiceEntries that give one port of a host unlike protocols (Istio's analyzer, IST0177).

use std::collections::{BTreeMap, BTreeSet};

use ironmesh_model::{Finding, FindingCode, Name, ObjectId};

use super::EntryPart;

/// What was found, by entry and host.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    found: BTreeMap<ObjectId, BTreeMap<Name, Finding>>,
    /// The entries of a host about which something was found.
    by_host: BTreeMap<Name, BTreeSet<ObjectId>>,
}

impl Conflicts {
    /// Looks at the entries of a host. Returns those about which something else was found before.
    pub(super) fn look(&mut self, hostname: Name, parts: &[&EntryPart]) -> BTreeSet<ObjectId> {
        let groups = groups(parts);
        let now: BTreeMap<ObjectId, Finding> =
            parts.iter().filter_map(|part| conflict(&hostname, part, &groups)).collect();
        let before = self.by_host.remove(&hostname).unwrap_or_default();
        if !now.is_empty() {
            self.by_host.insert(hostname.clone(), now.keys().cloned().collect());
        }
        let mut moved = BTreeSet::new();
        for (id, finding) in &now {
            let of_entry = self.found.entry(id.clone()).or_default();
            if of_entry.insert(hostname.clone(), finding.clone()).as_ref() != Some(finding) {
                moved.insert(id.clone());
            }
        }
        for id in before.into_iter().filter(|id| !now.contains_key(id)) {
            if let Some(of_entry) = self.found.get_mut(&id) {
                of_entry.remove(&hostname);
                if of_entry.is_empty() {
                    self.found.remove(&id);
                }
            }
            moved.insert(id);
        }
        moved
    }

    /// What is found about an entry.
    pub(super) fn about(&self, id: &ObjectId) -> Vec<Finding> {
        self.found.get(id).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }
}

/// The unlike protocols that entries say of a port, each with who sees it and with the first that says so.
type Groups<'a> = BTreeMap<u16, BTreeMap<(&'static str, &'a [Name]), &'a EntryPart>>;

fn groups<'a>(parts: &[&'a EntryPart]) -> Groups<'a> {
    let mut groups = Groups::new();
    for part in parts {
        for port in &part.ports {
            let said = groups.entry(port.service.number).or_default();
            if said.len() < SAYINGS_MAX {
                said.entry((port.service.protocol.word(), &part.export_to[..])).or_insert(part);
            }
        }
    }
    groups
}

/// The first port of an entry of which another one that the same callers see says something else.
fn conflict(hostname: &Name, part: &EntryPart, groups: &Groups<'_>) -> Option<(ObjectId, Finding)> {
    let mut ports = part.ports.iter().enumerate();
    let (at, own, other, protocol) = ports.find_map(|(at, port)| {
        let own = &port.service;
        groups.get(&own.number)?.iter().find_map(|((protocol, export_to), other)| {
            let is_other = *protocol != own.protocol.word() && share(export_to, &part.export_to);
            is_other.then_some((at, own, *other, *protocol))
        })
    })?;
    let given = own.protocol.word();
    let message = format!(
        "port {} of {hostname} is {given} here, and {protocol} in {}",
        own.number,
        match other.id == part.id {
            true => "another port of this object".to_owned(),
            false => format!("ServiceEntry {}/{}", other.id.namespace, other.id.name),
        }
    );
    let path = format!("spec.ports[{at}].protocol");
    let code = FindingCode::EntriesConflict;
    Some((part.id.clone(), Finding::new(&part.id, path, code, message)))
}

/// Whether some namespace sees both.
fn share(one: &[Name], other: &[Name]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|namespace| other.contains(namespace))
}

/// How many unlike sayings of one port are told apart; a conflict with a later one is found from its
/// side.
const SAYINGS_MAX: usize = 32;
