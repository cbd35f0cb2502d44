//! Where pods are: as the labels of their nodes say, or they themselves.

use std::collections::BTreeMap;

use ironmesh_model::place::{Locality, NODE, REGION, SUBZONE, ZONE};
use ironmesh_model::{Finding, Labels, Name};

use super::kinds::Node;
use super::{fields, labels};
use crate::Object;
use crate::translate::Part;

/// Where a workload says that it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Topology {
    /// All of it; empty if it says nothing, or only a part.
    whole: Name,
    parts: [Name; 3],
}

impl Topology {
    /// By one label for all of it, of which dots stand for slashes (Istio, `GetLocalityLabel`).
    pub(crate) fn of_labels(labels: &Labels) -> Self {
        let whole = WHOLE.iter().find_map(|name| labels.value(name)).unwrap_or_default();
        let whole = if whole.contains('/') { whole.into() } else { whole.replace('.', "/") };
        Self { whole: Locality::parse(&whole).text(), parts: Default::default() }
    }

    /// The same of a pod, which may say parts of it as well: by its labels, or by those that its node
    /// is to have. So pods are in different places on one machine, too.
    pub(super) fn of_pod(labels: &Labels, node: &BTreeMap<String, String>) -> Self {
        let asked = |name: &&str| node.get(*name).map(String::as_str);
        let parts = PARTS.map(|names| {
            let own = names.iter().find_map(|name| labels.value(name));
            own.or_else(|| names.iter().find_map(asked)).unwrap_or_default().into()
        });
        Self { parts, ..Self::of_labels(labels) }
    }

    /// What is said by this text, if that says anything.
    pub(crate) fn or(text: &str, labels: &Labels) -> Self {
        match text {
            "" => Self::of_labels(labels),
            _ => Self { whole: Locality::parse(text).text(), parts: Default::default() },
        }
    }

    /// Where it is if it has no node.
    pub(crate) fn alone(&self) -> Name {
        self.on(None)
    }

    /// Where it is if this is its node: as `REGION/ZONE/SUBZONE`.
    pub(super) fn on(&self, node: Option<&NodePart>) -> Name {
        if !self.whole.is_empty() {
            return self.whole.clone();
        }
        let part = |at: usize| {
            let of_node = || node.map_or("", |node| &*node.parts[at]);
            Some(&*self.parts[at]).filter(|part| !part.is_empty()).unwrap_or_else(of_node)
        };
        Locality { region: part(0), zone: part(1), subzone: part(2) }.text()
    }
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodePart {
    pub(crate) name: Name,
    parts: [Name; 3],
}

/// Translates a Node.
pub(crate) fn node(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let node: Node = fields::read_workload(object, findings)?;
    let labels = labels(&node.metadata.labels);
    let part = |names: &[&str]| names.iter().find_map(|name| labels.value(name));
    let parts = PARTS.map(|names| part(&names).unwrap_or_default().into());
    Some(Part::Node(Box::new(NodePart { name: object.name().clone(), parts })))
}

/// Whether a label says where a node is, so that a pod which asks for it is there.
pub(super) fn is_place(label: &str) -> bool {
    label == NODE || PARTS.iter().flatten().any(|name| *name == label)
}

/// Labels of all of it.
const WHOLE: [&str; 2] = ["topology.istio.io/locality", "istio-locality"];

/// Labels of its parts, with their old names.
const PARTS: [[&str; 2]; 3] = [
    [REGION, "failure-domain.beta.kubernetes.io/region"],
    [ZONE, "failure-domain.beta.kubernetes.io/zone"],
    [SUBZONE, SUBZONE],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_where_it_is_and_its_node_says_the_rest() {
        let parts = ["eu".into(), "a".into(), "1".into()];
        let node = NodePart { name: "n".into(), parts };
        let of = |pairs: &[(&str, &str)], asked: &[(&str, &str)]| {
            let labels = pairs.iter().copied().collect();
            let asked = asked.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            Topology::of_pod(&labels, &asked.collect()).on(Some(&node))
        };
        let old = "failure-domain.beta.kubernetes.io/zone";
        for (labels, asked, place) in [
            (&[][..], &[][..], "eu/a/1"),
            (&[(ZONE, "b")], &[(ZONE, "c"), (SUBZONE, "2")], "eu/b/2"),
            (&[], &[(old, "c")], "eu/c/1"),
            (&[("istio-locality", "us.x.y"), (ZONE, "b")], &[], "us/x/y"),
            (&[("istio-locality", "us/x.y")], &[], "us/x.y"),
            (&[("istio-locality", "us"), (WHOLE[0], "asia.")], &[], "asia"),
        ] {
            assert_eq!(&*of(labels, asked), place, "{labels:?} {asked:?}");
        }
        assert_eq!(&*Topology::default().on(None), "");
    }
}
