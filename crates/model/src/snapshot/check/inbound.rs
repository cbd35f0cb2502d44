//! Findings about inbound policies: workloads and ports that they are for.

use std::collections::BTreeSet;

use crate::finding::{Finding, FindingCode};
use crate::name::Labels;
use crate::policy::Policy;
use crate::snapshot::index::InboundPolicyEntry;
use crate::snapshot::reader::Reader;

pub(super) fn policy(reader: &Reader<'_>, entry: &InboundPolicyEntry, out: &mut Vec<Finding>) {
    out.extend(entry.found.iter().cloned());
    if selector(reader, entry, out) {
        older(reader, entry, out);
        ports(reader, entry, out);
    }
}

/// A selector that matches no workload, or stands where it has no effect. Returns whether there is
/// nothing wrong.
fn selector(reader: &Reader<'_>, entry: &InboundPolicyEntry, out: &mut Vec<Finding>) -> bool {
    let Some(selectors) = &entry.selectors else { return true };
    let id = entry.policy.id();
    let (code, message) = if id.namespace == *reader.root_namespace() {
        let message = format!(
            "in {}, the root namespace, a policy is for the whole mesh and has no selector; \
             put it into the namespace of its workloads",
            id.namespace
        );
        (FindingCode::NoEffect, message)
    } else if !selectors.iter().any(|selector| reader.is_selected_in(&id.namespace, selector)) {
        let texts: Vec<String> = selectors.iter().map(Labels::to_string).collect();
        if texts.is_empty() {
            // It has been found why.
            return false;
        }
        let message = format!("no workload of {} has {}", id.namespace, texts.join(" or "));
        (FindingCode::NothingSelected, message)
    } else {
        return true;
    };
    out.push(Finding::new(id, entry.fields.selector, code, message));
    false
}

/// An older policy for the same workloads, where of several the oldest counts alone.
fn older(reader: &Reader<'_>, entry: &InboundPolicyEntry, out: &mut Vec<Finding>) {
    if !entry.only_oldest {
        return;
    }
    let id = entry.policy.id();
    let by_both =
        |one: &Labels, other: &Labels| reader.is_selected_by_both(&id.namespace, one, other);
    let is_for_same = |other: &&InboundPolicyEntry| match (&entry.selectors, &other.selectors) {
        (Some(own), Some(others)) => own.iter().any(|one| others.iter().any(|o| by_both(one, o))),
        (own, others) => own.is_none() && others.is_none(),
    };
    let mut older = reader
        .inbound_policies_in(&id.namespace)
        .take_while(|other| other.policy.id() != id)
        .filter(|other| other.only_oldest);
    if let Some(older) = older.find(is_for_same) {
        let (older, at) = (older.policy.id(), entry.fields.selector);
        let at = if entry.selectors.is_some() { at } else { "" };
        let message =
            format!("{older} is older and for the same workloads, so this has no effect for them");
        out.push(Finding::new(id, at, FindingCode::NoEffect, message));
    }
}

/// Ports that are those of a service, where ports of the workloads are asked for.
fn ports(reader: &Reader<'_>, entry: &InboundPolicyEntry, out: &mut Vec<Finding>) {
    let (Policy::Inbound(policy), Some(selectors)) = (&*entry.policy, &entry.selectors) else {
        return;
    };
    let Some(path) = entry.fields.ports.filter(|_| !policy.parts.is_empty()) else { return };
    let ports: BTreeSet<u16> = policy.parts.iter().filter_map(|part| part.port).collect();
    let namespace = &policy.id.namespace;
    let services =
        reader.services().into_iter().filter(|own| own.service.id.namespace == *namespace);
    // Of each port: that it is one of theirs, or else the service whose port it is, and theirs.
    let mut theirs = BTreeSet::new();
    let mut meant = Vec::new();
    for service in services {
        let endpoints = reader.all_endpoints(service);
        let selected = endpoints
            .iter()
            .filter(|own| selectors.iter().any(|selector| selector.selects(&own.labels)));
        for map in selected.flat_map(|own| &own.ports) {
            theirs.insert(map.target);
            if ports.contains(&map.service) {
                meant.push((map.service, map.target, &service.service.name));
            }
        }
    }
    for port in ports.difference(&theirs) {
        let Some((_, target, service)) = meant.iter().find(|(own, ..)| own == port) else {
            continue;
        };
        let message = format!(
            "{port} is the port of service {service}, behind which the workloads have {target}; \
             ports here are theirs"
        );
        let path = format!("{path}.{port}");
        out.push(Finding::new(&policy.id, path, FindingCode::NoEffect, message));
    }
}
