//! `PeerAuthentication`.

use std::collections::BTreeMap;

use ironmesh_model::policy::{InboundPart, InboundPolicy, MtlsMode};
use ironmesh_model::snapshot::{InboundFields, InboundPolicySource};
use ironmesh_model::{Finding, Labels};

use super::{WorkloadSelector, labels};
use crate::Object;
use crate::schema::{fields, kind, read, words};
use crate::translate::Part;

pub(crate) fn peer_authentication(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let PeerAuthentication { spec, .. } = read(object, findings)?;
    let selector = Some(labels(&spec.selector.match_labels)).filter(|s| !s.is_empty());
    let parts = match selector {
        Some(_) => ports(&spec),
        // A finding says so, see the validation.
        None => Vec::new(),
    };
    let selectors = selector.map(|selector| vec![selector]);
    Some(Part::InboundPolicy(Box::new(InboundPolicySource {
        policy: InboundPolicy { id: object.id().clone(), mtls: mode(&spec.mtls), parts },
        selectors,
        only_oldest: true,
        found: Vec::new(),
        fields: InboundFields { selector: "spec.selector", ports: Some("spec.portLevelMtls") },
        created: object.created(),
    })))
}

fn mode(mtls: &MutualTls) -> Option<MtlsMode> {
    match mtls.mode {
        MutualTlsMode::Strict => Some(MtlsMode::Strict),
        MutualTlsMode::Permissive => Some(MtlsMode::Permissive),
        MutualTlsMode::Disable => Some(MtlsMode::Disable),
        MutualTlsMode::Unset => None,
    }
}

/// What it says of single ports. One that is UNSET is like the others of its workload.
fn ports(spec: &Spec) -> Vec<InboundPart> {
    let parts = spec.port_level_mtls.iter().filter_map(|(number, mtls)| {
        let workloads = Labels::default();
        Some(InboundPart { workloads, port: Some(port(number)?), mtls: mode(mtls)? })
    });
    let mut parts: Vec<InboundPart> = parts.take(InboundPolicy::PARTS_MAX).collect();
    parts.sort_by_key(|part| part.port);
    parts
}

/// The port that a key names, which is a number without sign and leading zeros, as protobuf's JSON has
/// it; `None`: it names none.
pub(crate) fn port(key: &str) -> Option<u16> {
    let port: u16 = key.parse().ok()?;
    (port > 0 && port.to_string() == key).then_some(port)
}

kind! {
    istio;
    /// Which connections workloads take.
    pub struct PeerAuthentication "PeerAuthentication" {
        /// Which workloads, and which connections.
        honoured spec: Spec,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

fields! {
    istio;
    /// What a `PeerAuthentication` says.
    pub struct Spec "PeerAuthentication.spec" {
        /// The workloads; none: all of the namespace, or of the mesh if that is the root namespace.
        honoured selector: WorkloadSelector,
        /// Which connections they take.
        honoured mtls: MutualTls,
        /// The same for single ports of the workloads (not of their Services), by number; only beside a
        /// selector, and at most 256.
        honoured port_level_mtls "portLevelMtls": BTreeMap<String, MutualTls>,
    }

    /// Which connections are taken.
    pub struct MutualTls "mtls" {
        /// Which; if left out, of a port those of its workload, else those of the namespace or mesh.
        honoured mode: MutualTlsMode,
    }
}

words! {
    /// Which connections are taken.
    pub enum MutualTlsMode {
        /// As the workload, namespace or mesh has it.
        honoured Unset = "UNSET",
        /// Plaintext only.
        honoured Disable = "DISABLE",
        /// Plaintext and mutual TLS.
        honoured Permissive = "PERMISSIVE",
        /// Mutual TLS only.
        honoured Strict = "STRICT",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::translate_one;

    fn of_ports(ports: impl Iterator<Item = String>) -> (InboundPolicySource, Vec<Finding>) {
        let ports: Map<String, Value> = ports.map(|key| (key, json!({"mode": "STRICT"}))).collect();
        let object = Object::new(json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "portLevelMtls": ports},
        }));
        let translated = translate_one(&object.unwrap());
        let Part::InboundPolicy(source) = translated.part else { panic!("{:?}", translated.part) };
        (*source, translated.findings)
    }

    #[test]
    fn each_port_has_its_mode_in_order() {
        let (source, findings) = of_ports(["8080", "80", "65535"].map(str::to_owned).into_iter());
        assert_eq!(findings, []);
        let ports: Vec<_> = source.policy.parts.iter().map(|part| part.port).collect();
        assert_eq!(ports, [Some(80), Some(8080), Some(65_535)]);
        assert!(source.policy.parts.iter().all(|part| part.mtls == MtlsMode::Strict));
    }

    #[test]
    fn of_thousands_of_ports_that_are_none_few_are_kept_and_one_is_said() {
        for ports in [
            Box::new((0..50_000).map(|n: u32| format!("x{n}"))) as Box<dyn Iterator<Item = String>>,
            Box::new((1..=65_535).map(|n: u32| n.to_string())),
            Box::new((70_000..120_000).map(|n: u32| n.to_string())),
        ] {
            let (source, findings) = of_ports(ports);
            assert!(source.policy.parts.len() <= InboundPolicy::PARTS_MAX);
            let said: Vec<_> = findings.iter().map(|f| (&*f.path, &*f.message)).collect();
            assert_eq!(said, [("spec.portLevelMtls", "this takes at most 256 ports")]);
        }
    }
}
