//! `Sidecar`: what of the mesh workloads see.

use ironmesh_model::settings::OutboundPolicy;
use ironmesh_model::snapshot::{EgressHosts, SidecarSource};
use ironmesh_model::{Finding, FindingCode, Name};

use super::labels;
use crate::Object;
use crate::path::{field, item};
use crate::schema::read;
use crate::translate::Part;

mod fields;

pub use fields::*;

/// Translates a Sidecar.
pub(crate) fn sidecar(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Sidecar { spec, .. } = read(object, findings)?;
    let listeners = spec.egress.iter().enumerate();
    let egress = listeners.map(|(at, given)| EgressHosts {
        port: given.port.as_ref().map(|port| port.number),
        hosts: hosts(object, &field(&item("spec.egress", at), "hosts"), &given.hosts, findings),
    });
    let egress = egress.collect();
    let selector = labels(&spec.workload_selector.labels);
    Some(Part::Sidecar(Box::new(SidecarSource {
        id: object.id().clone(),
        selector: Some(selector).filter(|selector| !selector.is_empty()),
        egress,
        outbound_policy: spec.outbound_traffic_policy.map(|policy| match policy.mode {
            OutboundMode::AllowAny => OutboundPolicy::AllowAny,
            OutboundMode::RegistryOnly => OutboundPolicy::RegistryOnly,
        }),
        created: object.created(),
    })))
}

/// `NAMESPACE/HOST`: `.` is the Sidecar's own namespace, `*` any, `~` none.
fn hosts(
    object: &Object,
    path: &str,
    given: &[String],
    findings: &mut Vec<Finding>,
) -> Vec<(Option<Name>, Name)> {
    let mut hosts = Vec::new();
    for (at, text) in given.iter().enumerate() {
        let Some((namespace, host)) = text.split_once('/').filter(|(_, host)| !host.is_empty())
        else {
            let message = format!("{text:?} is not NAMESPACE/HOST");
            let path = item(path, at);
            findings.push(Finding::new(object.id(), path, FindingCode::Invalid, message));
            continue;
        };
        let namespace = match namespace {
            "*" => None,
            "." => Some(object.namespace().clone()),
            // `~` is no namespace's name, so that nothing is seen.
            other => Some(other.into()),
        };
        hosts.push((namespace, host.to_ascii_lowercase().into()));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::translate_one;

    fn translated(spec: Value) -> (Part, Vec<(FindingCode, String)>) {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": "s", "namespace": "shop"}, "spec": spec,
        });
        let translated = translate_one(&Object::new(object).unwrap());
        let found = translated.findings.into_iter().map(|f| (f.code, f.path)).collect();
        (translated.part, found)
    }

    #[test]
    fn what_is_seen_is_named_by_namespace_and_host() {
        let (Part::Sidecar(sidecar), found) = translated(json!({
            "workloadSelector": {"labels": {"app": "a"}},
            "egress": [
                {"port": {"number": 80}, "hosts": ["~/*"]},
                {"hosts": ["*/*", "./A.test", "other/*.test"]},
            ],
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        })) else {
            panic!("nothing was made")
        };
        assert_eq!(found, []);
        let name = |text: &str| Some(Name::from(text));
        let all =
            [(None, "*".into()), (name("shop"), "a.test".into()), (name("other"), "*.test".into())];
        assert_eq!(sidecar.egress[1], EgressHosts { port: None, hosts: all.to_vec() });
        let none = vec![(name("~"), "*".into())];
        assert_eq!(sidecar.egress[0], EgressHosts { port: Some(80), hosts: none });
        assert_eq!(sidecar.outbound_policy, Some(OutboundPolicy::RegistryOnly));
        assert!(sidecar.selector.is_some());
    }

    #[test]
    fn what_names_no_host_is_refused_and_what_is_not_done_is_found() {
        for host in ["a.test", "shop/"] {
            let (part, found) = translated(json!({"egress": [{"hosts": [host]}]}));
            let at = "spec.egress[0].hosts[0]".to_owned();
            assert_eq!((part, found), (Part::Nothing, vec![(FindingCode::Invalid, at)]));
        }
        let (_, found) = translated(json!({
            "ingress": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}}],
        }));
        assert_eq!(found, [(FindingCode::NotHonoured, "spec.ingress".to_owned())]);
    }
}
