//! `Policy` and `MeshPolicy` of `authentication.istio.io`: what PeerAuthentication says since Istio 1.5.

use std::collections::BTreeMap;

use ironmesh_model::policy::{InboundPolicy, MtlsMode};
use ironmesh_model::snapshot::{InboundFields, InboundPolicySource};
use ironmesh_model::{Finding, FindingCode};
use serde_json::Value;

use super::labels;
use crate::Object;
use crate::join::{Late, PortOf, TargetPods};
use crate::path::{field, item};
use crate::schema::{fields, kind, read, words};
use crate::translate::Part;

/// Translates a Policy: of the services that it names, else of its namespace.
pub(crate) fn policy(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Policy { spec, .. } = read(object, findings)?;
    let mut report = |path: &str, code, message: &str| {
        findings.push(Finding::new(object.id(), path, code, message));
    };
    match (spec.targets.is_empty(), **object.name() == *DEFAULT) {
        (true, false) => {
            let message = "a policy for a whole namespace is called default; others have targets";
            report("spec.targets", FindingCode::Missing, message);
        }
        (false, true) => {
            let message = "a policy called default is for its whole namespace and has no targets";
            report("spec.targets", FindingCode::Invalid, message);
        }
        _ => {}
    }
    let mtls = mode(&spec, object, &mut report);
    let source = source(object, mtls);
    let targets = targets(object, &spec, findings)?;
    Some(match targets.is_empty() {
        true => Part::InboundPolicy(Box::new(source)),
        false => Part::Late(Box::new(Late::ToTargets(targets, source))),
    })
}

/// Translates a MeshPolicy, which holds where no Policy does.
pub(crate) fn mesh_policy(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let MeshPolicy { spec, .. } = read(object, findings)?;
    let mut report = |path: &str, code, message: &str| {
        findings.push(Finding::new(object.id(), path, code, message));
    };
    if **object.name() != *DEFAULT {
        let message = "the policy of the mesh is called default";
        report("metadata.name", FindingCode::Invalid, message);
    }
    if !spec.targets.is_empty() {
        let message = "the policy of the mesh is for all and has no targets";
        report("spec.targets", FindingCode::Invalid, message);
    }
    let mtls = mode(&spec, object, &mut report);
    Some(Part::MeshPolicy(Box::new(source(object, mtls))))
}

fn source(object: &Object, mtls: MtlsMode) -> InboundPolicySource {
    InboundPolicySource {
        policy: InboundPolicy { id: object.id().clone(), mtls: Some(mtls), parts: Vec::new() },
        selectors: None,
        only_oldest: false,
        found: Vec::new(),
        fields: InboundFields { selector: "spec.targets", ports: None },
        created: object.created(),
    }
}

/// What a policy is for; `None` if that cannot be told, as it would open or close other ports, too.
fn targets(object: &Object, spec: &Spec, findings: &mut Vec<Finding>) -> Option<Vec<TargetPods>> {
    let before = findings.len();
    let mut refuse = |path: &str, message: String| {
        findings.push(Finding::new(object.id(), path, FindingCode::Invalid, message));
    };
    let ports = spec.targets.iter().map(|target| target.ports.len().max(1)).sum::<usize>();
    if ports > InboundPolicy::PARTS_MAX {
        let most = InboundPolicy::PARTS_MAX;
        refuse("spec.targets", format!("this takes at most {most} ports and services"));
        return None;
    }
    let mut targets = Vec::new();
    for (at, target) in spec.targets.iter().enumerate() {
        let mut named = Vec::new();
        for (p, PortSelector { number, name }) in target.ports.iter().enumerate() {
            match (number, name.as_str()) {
                (Some(number), "") => named.push(PortOf::Number(*number)),
                (None, name) if !name.is_empty() => named.push(PortOf::Name(name.into())),
                _ => {
                    let path = item(&field(&item("spec.targets", at), "ports"), p);
                    let message = "a port has a number or a name";
                    refuse(&path, message.to_owned());
                }
            }
        }
        targets.push(TargetPods {
            service: (object.namespace().clone(), target.name.as_str().into()),
            labels: labels(&target.labels),
            ports: named,
        });
    }
    (findings.len() == before).then_some(targets)
}

/// Which connections are taken. `mtls` without more is STRICT, and without `mtls` there is none.
fn mode(spec: &Spec, object: &Object, report: &mut dyn FnMut(&str, FindingCode, &str)) -> MtlsMode {
    let raw = object.value().pointer("/spec/peers").and_then(Value::as_array);
    let mut mode = MtlsMode::Disable;
    for (at, peer) in spec.peers.iter().enumerate() {
        // `mtls:` with nothing behind it is null, and there all the same.
        let is_there = raw.and_then(|peers| peers.get(at)?.get("mtls")).is_some();
        if !is_there {
            if peer.jwt.is_none() {
                let path = format!("spec.peers[{at}]");
                report(&path, FindingCode::Missing, "a peer has mtls or jwt");
            }
            continue;
        }
        let mtls = peer.mtls.clone().unwrap_or_default();
        let permissive = mtls.mode == PeerMode::Permissive || mtls.allow_tls;
        mode = if permissive || spec.peer_is_optional {
            MtlsMode::Permissive
        } else {
            MtlsMode::Strict
        };
    }
    mode
}

/// The name of policies for a whole namespace or mesh.
const DEFAULT: &str = "default";

kind! {
    istio;
    /// Which connections services of a namespace take, as Istio up to 1.5 had it.
    pub struct Policy "Policy" {
        /// Which services, and which connections.
        honoured spec: Spec,
        /// What controllers have found out about it.
        honoured status: Value,
    }

    /// Which connections the services of the mesh take, as Istio up to 1.5 had it.
    pub struct MeshPolicy "MeshPolicy" {
        /// Which connections.
        honoured spec: Spec,
        /// What controllers have found out about it.
        honoured status: Value,
    }
}

fields! {
    istio;
    /// What a `Policy` or `MeshPolicy` says.
    pub struct Spec "the spec of a policy" {
        /// The services; none: all of the namespace.
        honoured targets: Vec<Target>,
        /// How callers prove who they are; none: not at all.
        honoured peers: Vec<Peer>,
        /// Whether callers without a proof are taken, too.
        honoured peer_is_optional "peerIsOptional": bool,
        /// How the user behind a request is known.
        later origins: Option<Value>,
        /// Whether requests without a user are taken, too.
        later origin_is_optional "originIsOptional": Option<bool>,
        /// Whose name authorization goes by.
        later principal_binding "principalBinding": Option<Value>,
    }

    /// A service.
    pub struct Target "a target" {
        /// Its name.
        required name: String,
        /// Labels of its pods; none: all of them.
        honoured labels: BTreeMap<String, String>,
        /// Its ports; none: all.
        honoured ports: Vec<PortSelector>,
    }

    /// A port of a service: one of the two.
    pub struct PortSelector "a port" {
        /// Its number.
        honoured number: Option<u16>,
        /// Its name.
        honoured name: String,
    }

    /// How callers prove who they are: one of the two.
    pub struct Peer "a peer" {
        /// By mutual TLS.
        honoured mtls: Option<MutualTls>,
        /// By a token.
        later jwt: Option<Value>,
    }

    /// Mutual TLS.
    pub struct MutualTls "mtls" {
        /// Whether TLS without a certificate is taken, too; as PERMISSIVE.
        old("mode: PERMISSIVE") allow_tls "allowTls": bool,
        /// Which connections are taken.
        honoured mode: PeerMode,
    }
}

words! {
    /// Which connections are taken.
    pub enum PeerMode {
        /// Mutual TLS only.
        honoured Strict = "STRICT",
        /// Plaintext and mutual TLS.
        honoured Permissive = "PERMISSIVE",
    }
}
