//! Whose an Ingress is: its class, the IngressClasses, and what MeshConfig says of both.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ironmesh_model::settings::{IngressControl, IngressMode};
use ironmesh_model::{Finding, FindingCode, Name};
use serde_json::Value;

use super::fields::IngressClass;
use super::{HTTP_PORT, HTTPS_PORT};
use crate::Object;
use crate::kubernetes::read_workload;
use crate::translate::Part;

/// What an Ingress says of its class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClassOfIngress {
    /// By the annotation, which is older and wins, as in Kubernetes.
    annotated: Option<Name>,
    /// The name of an IngressClass.
    named: Option<Name>,
}

impl ClassOfIngress {
    pub(super) fn of(ingress: &Value) -> Self {
        let annotated = ingress["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
        let named = ingress["spec"]["ingressClassName"].as_str().filter(|name| !name.is_empty());
        Self { annotated: annotated.map(Into::into), named: named.map(Into::into) }
    }

    /// Whether it names this IngressClass.
    pub(crate) fn is_named(&self, name: &Name) -> bool {
        self.named.as_ref() == Some(name)
    }

    /// Where it says so.
    pub(crate) fn place(&self) -> &'static str {
        match self.annotated {
            Some(_) => r#"metadata.annotations["kubernetes.io/ingress.class"]"#,
            None => "spec.ingressClassName",
        }
    }
}

/// Which controller each IngressClass names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressClasses(BTreeMap<Name, Name>);

impl IngressClasses {
    /// An IngressClass is this; without a controller that is known: it is gone.
    pub(crate) fn set(&mut self, name: &Name, controller: Option<Name>) {
        match controller {
            Some(controller) => self.0.insert(name.clone(), controller),
            None => self.0.remove(name),
        };
    }

    /// Those of these objects.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let text = |value: &Value| Name::from(value.as_str().unwrap_or_default());
        let class = |object: &Value| {
            (text(&object["metadata"]["name"]), text(&object["spec"]["controller"]))
        };
        Self(objects.into_iter().map(class).collect())
    }

    /// Why an Ingress is not the mesh's to serve; `None`: it is.
    ///
    /// As Istio has it, but that its own class needs no IngressClass.
    pub(crate) fn refusal(&self, of: &ClassOfIngress, control: &IngressControl) -> Option<String> {
        let own = &control.class;
        let write = format!("; the mesh serves `ingressClassName: {own}`");
        let has_any = control.mode == IngressMode::Default;
        if control.mode == IngressMode::Off {
            return Some(
                "MeshConfig turns Ingresses off; write `ingressControllerMode: STRICT` there"
                    .into(),
            );
        }
        if let Some(class) = &of.annotated {
            return (class != own)
                .then(|| format!("nothing here serves the class {class:?}{write}"));
        }
        match &of.named {
            None if has_any => None,
            None => Some(format!("it has no class, so nobody serves it{write}")),
            Some(name) => match self.0.get(name) {
                Some(controller) if **controller == *CONTROLLER => None,
                Some(controller) => Some(format!(
                    "its IngressClass is for the controller {controller:?}, which nothing here is{write}"
                )),
                None if has_any || name == own => None,
                None => Some(format!("nothing here serves the class {name:?}{write}")),
            },
        }
    }

    /// The ports at which gateways serve an Ingress; none if it is not the mesh's.
    pub fn ports(&self, ingress: &Value, control: &IngressControl) -> &'static [u16] {
        let has_tls = ingress["spec"]["tls"].as_array().is_some_and(|tls| !tls.is_empty());
        match self.refusal(&ClassOfIngress::of(ingress), control) {
            Some(_) => &[],
            None if has_tls => &[HTTP_PORT, HTTPS_PORT],
            None => &[HTTP_PORT],
        }
    }
}

/// Translates an IngressClass.
pub(crate) fn ingress_class(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let IngressClass { spec, .. } = read_workload(object, findings)?;
    if spec.controller != CONTROLLER {
        let message =
            format!("nothing here is this controller; Ingresses of the mesh have {CONTROLLER}");
        findings.push(Finding::new(object.id(), "spec.controller", FindingCode::NoEffect, message));
    }
    Some(Part::IngressClass(object.name().clone(), spec.controller.into()))
}

/// Gives a new Ingress that says nothing of its class the default one, if there is one, as Kubernetes
/// does at admission: of several the youngest.
pub fn set_default_class<'a>(ingress: &mut Value, classes: impl IntoIterator<Item = &'a Value>) {
    let own = ClassOfIngress::of(ingress);
    // A name that is empty is one, too, of no class.
    if own.annotated.is_some() || !ingress["spec"]["ingressClassName"].is_null() {
        return;
    }
    let is_default =
        |class: &&Value| class["metadata"]["annotations"][DEFAULT_ANNOTATION] == *"true";
    let defaults = classes.into_iter().filter(is_default);
    let default = defaults.max_by(|one, other| age(one).cmp(&age(other)));
    if let (Some(class), true) = (default, ingress["spec"].is_object()) {
        ingress["spec"]["ingressClassName"] = class["metadata"]["name"].clone();
    }
}

/// When it was made, and its name, of which the first counts.
fn age(class: &Value) -> (&str, Reverse<&str>) {
    let text = |field: &str| class["metadata"][field].as_str().unwrap_or_default();
    (text("creationTimestamp"), Reverse(text("name")))
}

/// The controller of an IngressClass that the mesh is.
const CONTROLLER: &str = "istio.io/ingress-controller";

/// The annotation of an Ingress that names its class, before `ingressClassName`.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The annotation of the IngressClass for Ingresses without one.
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
