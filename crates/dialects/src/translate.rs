//! Objects to the model, one by one. What is made of several together comes from a [`crate::Join`].

use ironmesh_model::credential::CredentialSource;
use ironmesh_model::route::Match;
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::{
    DestinationPolicySource, GatewaySource, InboundPolicySource, Objects, RouteSource,
    SidecarSource,
};
use ironmesh_model::{Finding, FindingCode, Name, Severity};

use crate::istio::{EntryPart, MeshConfig};
use crate::join::{Late, Place};
use crate::kinds::{Kind, Treatment};
use crate::kubernetes::{self, EndpointsPart, IngressPart, NodePart, PodPart, ServicePart};
use crate::{Join, Object, Status, istio};

/// What was made of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translated {
    /// What is wrong with it, or not honoured in it. With one of severity error nothing is made.
    pub findings: Vec<Finding>,
    /// What its status is made from; nothing if the mesh writes none for its kind.
    pub status: Option<Status>,
    pub(crate) part: Part,
}

impl Translated {
    /// The certificate that was made of it, if one was, so that it can be looked at by who knows about
    /// certificates.
    pub fn credential_mut(&mut self) -> Option<&mut CredentialSource> {
        match &mut self.part {
            Part::Credential(part) => Some(part),
            _ => None,
        }
    }
}

/// The part of the model that an object is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Part {
    #[default]
    Nothing,
    Service(Box<ServicePart>),
    Pod(Box<PodPart>),
    Node(Box<NodePart>),
    Endpoints(Box<EndpointsPart>),
    Entry(Box<EntryPart>),
    Route(Box<RouteSource>),
    /// Of which others say a part.
    Late(Box<Late>),
    DestinationPolicy(Box<DestinationPolicySource>),
    InboundPolicy(Box<InboundPolicySource>),
    /// Of the root namespace, whichever that is.
    MeshPolicy(Box<InboundPolicySource>),
    /// Conditions to which others refer by this name.
    Conditions(Place, Vec<Match>),
    Gateway(Box<GatewaySource>),
    Sidecar(Box<SidecarSource>),
    MeshConfig(Box<MeshConfig>),
    Credential(Box<CredentialSource>),
    Ingress(Box<IngressPart>),
    /// A class of Ingresses, and its controller.
    IngressClass(Name, Name),
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
    kubernetes::annotations(object, "metadata", &mut findings);
    let kind = Kind::of(object.group(), object.kind());
    let treatment = kind.map_or(Treatment::Kept, |kind| kind.treatment);
    if kind.is_none_or(|kind| kind.fields.is_none()) {
        kubernetes::metadata(object, &mut findings);
    }
    let part = match treatment {
        Treatment::Model(translate) => translate(object, &mut findings),
        Treatment::Checked(check) => {
            check(object, &mut findings);
            None
        }
        Treatment::NotRun => {
            let message = format!("no pod is made from a {}", object.kind());
            findings.push(whole(object, FindingCode::NotRunHere, message));
            None
        }
        Treatment::Unneeded(_) if kubernetes::is_own_volume(object) => None,
        Treatment::Unneeded(why) => {
            findings.push(whole(object, FindingCode::NotNeeded, why));
            None
        }
        Treatment::NotPart(why) => {
            findings.push(whole(object, FindingCode::NotPartHere, why));
            None
        }
        Treatment::Kept => {
            let group = if object.group().is_empty() { "core" } else { object.group() };
            let message =
                format!("{} ({group}) is kept, but nothing acts on it yet", object.kind());
            findings.push(whole(object, FindingCode::UnknownKind, message));
            None
        }
    };
    let refused = findings.iter().any(|finding| finding.code.severity() == Severity::Error);
    // What Istio refuses is refused at admission; from elsewhere it is only said.
    istio::validation::refusals(object, &mut findings);
    findings.sort();
    let status = Status::of(object, kind.and_then(|kind| kind.status));
    Translated { findings, status, part: part.filter(|_| !refused).unwrap_or_default() }
}

/// What an admission check has to say about an object: one finding of severity error, and it is
/// refused.
pub fn validate(object: &Object) -> Vec<Finding> {
    translate_one(object).findings
}

/// Translates objects all at once.
pub fn translate(objects: &[Object], settings: &Settings) -> Translation {
    let mut translation = Translation::default();
    let (mut join, mut edits) = Join::new(settings.clone());
    for (number, object) in objects.iter().enumerate() {
        let mut translated = translate_one(object);
        translation.findings.append(&mut translated.findings);
        edits.extend(join.put(number, translated));
    }
    translation.findings.sort();
    for edit in edits {
        translation.objects.edit(edit);
    }
    translation
}

/// A finding about a whole object.
fn whole(object: &Object, code: FindingCode, message: impl Into<String>) -> Finding {
    Finding::new(object.id(), "", code, message)
}
