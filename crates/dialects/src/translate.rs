//! Objects to the model: one by one, then joined.
//!
//! [`translate_one`] depends on its object alone, so that a control plane keeps the result and
//! translates again only what changed; [`join`] puts the parts together.

use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::{
    DestinationPolicySource, GatewaySource, InboundPolicySource, Objects, RouteSource,
};
use ironmesh_model::{Finding, FindingCode, Severity};

use crate::kubernetes::{self, EndpointsPart, PodPart, ServicePart};
use crate::{Object, istio};

/// What was made of one object. Equal parts make an equal mesh, so that a change of an object that
/// the mesh does not see need not be joined again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translated {
    /// What is wrong with it, or not honoured in it. With one of severity error nothing is made.
    pub findings: Vec<Finding>,
    pub(crate) part: Part,
}

/// The part of the model that an object is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Part {
    #[default]
    Nothing,
    Service(Box<ServicePart>),
    Pod(Box<PodPart>),
    Endpoints(Box<EndpointsPart>),
    Route(Box<RouteSource>),
    DestinationPolicy(Box<DestinationPolicySource>),
    InboundPolicy(Box<InboundPolicySource>),
    Gateway(Box<GatewaySource>),
}

/// What was made of all objects.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// The model, for [`ironmesh_model::Snapshot::new`].
    pub objects: Objects,
    /// Findings about single objects; those about objects together come from the snapshot.
    pub findings: Vec<Finding>,
}

/// Translates one object. Never fails: the findings say what is wrong.
pub fn translate_one(object: &Object) -> Translated {
    let mut findings = Vec::new();
    kubernetes::metadata(object, &mut findings);
    let part = match (object.group(), object.kind()) {
        ("", "Service") => kubernetes::service(object, &mut findings),
        ("", "Pod") => kubernetes::pod(object, &mut findings),
        ("", "Endpoints") => kubernetes::endpoints(object, &mut findings),
        ("discovery.k8s.io", "EndpointSlice") => kubernetes::endpoint_slice(object, &mut findings),
        ("networking.istio.io", "VirtualService") => istio::virtual_service(object, &mut findings),
        ("networking.istio.io", "DestinationRule") => {
            istio::destination_rule(object, &mut findings)
        }
        ("networking.istio.io", "Gateway") => istio::gateway(object, &mut findings),
        ("security.istio.io", "PeerAuthentication") => {
            istio::peer_authentication(object, &mut findings)
        }
        (group, kind) => {
            if !kubernetes::check_fields(object, group, kind, &mut findings) {
                findings.extend(kubernetes::unserved(object, group, kind));
            }
            None
        }
    };
    let refused = findings.iter().any(|finding| finding.code.severity() == Severity::Error);
    findings.sort();
    Translated { findings, part: part.filter(|_| !refused).unwrap_or_default() }
}

/// What an admission check has to say about an object: one finding of severity error, and it is
/// refused.
pub fn validate(object: &Object) -> Vec<Finding> {
    translate_one(object).findings
}

/// Joins what was made of single objects. Order does not matter.
pub fn join<'a>(
    parts: impl IntoIterator<Item = &'a Translated>,
    settings: &Settings,
) -> Translation {
    let mut translation = Translation::default();
    let Translation { objects, findings } = &mut translation;
    let (mut services, mut pods, mut endpoints) = (Vec::new(), Vec::new(), Vec::new());
    for Translated { findings: own, part } in parts {
        findings.extend_from_slice(own);
        match part {
            Part::Nothing => {}
            Part::Service(service) => services.push(&**service),
            Part::Pod(pod) => pods.push(&**pod),
            Part::Endpoints(part) => endpoints.push(&**part),
            Part::Route(route) => objects.routes.push((**route).clone()),
            Part::DestinationPolicy(policy) => {
                objects.destination_policies.push((**policy).clone());
            }
            Part::InboundPolicy(policy) => objects.inbound_policies.push((**policy).clone()),
            Part::Gateway(gateway) => objects.gateways.push((**gateway).clone()),
        }
    }
    kubernetes::join(&services, &pods, &endpoints, settings, objects);
    objects.settings = settings.clone();
    findings.sort();
    translation
}

/// Translates objects all at once.
pub fn translate(objects: &[Object], settings: &Settings) -> Translation {
    let parts: Vec<Translated> = objects.iter().map(translate_one).collect();
    join(&parts, settings)
}

/// A finding about a whole object.
pub(crate) fn whole(object: &Object, code: FindingCode, message: impl Into<String>) -> Finding {
    Finding::new(object.id(), "", code, message)
}
