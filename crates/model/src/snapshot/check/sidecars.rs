//! Findings about Sidecars: whom they select, and who does so already.

use crate::finding::{Finding, FindingCode};
use crate::snapshot::SidecarSource;
use crate::snapshot::reader::Reader;

/// A selector that matches no workload, and workloads for which an older Sidecar holds (Istio's
/// analyzer, IST0101, IST0110 and IST0111).
pub(super) fn sidecar(reader: &Reader<'_>, sidecar: &SidecarSource, out: &mut Vec<Finding>) {
    let id = &sidecar.id;
    let namespace = &id.namespace;
    let path = "spec.workloadSelector";
    let older = reader.sidecars_in(namespace);
    let mut older = older.into_iter().take_while(|other| other.id != *id);
    let Some(selector) = &sidecar.selector else {
        if let Some(other) = older.find(|other| other.selector.is_none()) {
            let message =
                format!("{} is for all workloads of {namespace}, too, and older", other.id);
            out.push(Finding::new(id, path, FindingCode::SidecarTaken, message));
        }
        return;
    };
    if !reader.is_selected_in(namespace, selector) {
        let message = format!("no workload of {namespace} has {selector}");
        out.push(Finding::new(id, path, FindingCode::NothingSelected, message));
        return;
    }
    let selects_too = |other: &&SidecarSource| {
        let own = other.selector.as_ref();
        own.is_some_and(|own| reader.is_selected_by_both(namespace, selector, own))
    };
    if let Some(other) = older.find(selects_too) {
        let message = format!("{} selects some of these workloads, too, and is older", other.id);
        out.push(Finding::new(id, path, FindingCode::SidecarTaken, message));
    }
}
