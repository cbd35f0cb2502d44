//! The registry: what happens to an object between a request and the store. Names, defaults,
//! checks, admission, scheduling and addresses; the API and the controllers go through it alike.
//!
//! Everything here is done in one step without waiting, so that no other request comes between.

use std::sync::Arc;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::kubernetes::{MADE_BY_MESH, set_default_class};
use ironmesh_model::Severity;
use ironmesh_model::limits::ControlLimits;
use serde_json::json;

use crate::failure::{Cause, Failure};
use crate::object::{self, Object, entry, set_default};
use crate::store::{Collection, Error as StoreError, Key, Store};
use crate::{clock, custom};

pub(crate) mod addresses;
pub(crate) mod defaults;
mod deletion;
mod normal_form;
mod services;
mod validate;

pub(crate) use validate::{is_label, is_subdomain, labels, replica_set_of};

pub(crate) use deletion::{DeleteOptions, Deleted, FOREGROUND, hold, resource_of};

/// Which part of an object a request changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Main,
    /// The status only.
    Status,
}

/// Takes objects in and changes them, as Kubernetes' API server does.
#[derive(Debug)]
pub(crate) struct Registry {
    store: Store,
    network: addresses::Network,
    limits: ControlLimits,
    admit_pod: Option<AdmitPod>,
    guard: Option<crate::Guard>,
}

/// See [`crate::Hooks::admit_pod`].
pub(crate) type AdmitPod = fn(&Object, crate::ConfigMaps<'_>, &mut Object);

impl Registry {
    /// A registry over a store; Services get their addresses from `network`.
    pub(crate) fn new(store: Store, network: addresses::Network, limits: ControlLimits) -> Self {
        Self { store, network, limits, admit_pod: None, guard: None }
    }

    /// The same with a hook for new pods.
    pub(crate) fn with_admission(self, admit_pod: Option<AdmitPod>) -> Self {
        Self { admit_pod, ..self }
    }

    /// The same with a hook that keeps objects from changes.
    pub(crate) fn with_guard(self, guard: Option<crate::Guard>) -> Self {
        Self { guard, ..self }
    }

    /// The store, for reading. Changes go through the registry.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The limits.
    pub(crate) fn limits(&self) -> &ControlLimits {
        &self.limits
    }

    /// One object.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn object(&self, resource: &Resource, key: &Key) -> Result<Arc<Object>, Failure> {
        self.store.object(key).ok_or_else(|| Failure::not_found(resource, &key.name))
    }

    /// Whether a namespace is on its way out, so that nothing new comes into it.
    pub(crate) fn is_ending(&self, namespace: &str) -> bool {
        let key = Collection::core("namespaces").key("", namespace);
        self.store.object(&key).is_none_or(|namespace| object::is_terminating(&namespace))
    }

    /// Creates an object in a namespace (for objects of the cluster: empty).
    ///
    /// # Errors
    ///
    /// As Kubernetes: a bad name, a missing or ending namespace, wrong fields, a taken name.
    pub(crate) fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        object: Object,
    ) -> Result<Arc<Object>, Failure> {
        let (mut object, generated) = self.prepare(resource, namespace, object)?;
        if let Some(key) = self.to_adopt(resource, &object) {
            return self.update(resource, &key, Part::Main, |old| Ok(adopted(old, &object)));
        }
        let collection = Collection::from(resource);
        for _ in 0..NAME_ATTEMPTS_MAX {
            let key = collection.key(namespace, object::name(&object));
            match (self.store.create(&key, object.clone()), &generated) {
                (Err(StoreError::Exists(_)), Some(base)) => {
                    object["metadata"]["name"] = generate_name(base).into();
                }
                (result, _) => return result.map_err(|e| Failure::of_store(&e, resource)),
            }
        }
        Err(Failure::already_exists(resource, object::name(&object)))
    }

    /// What [`Registry::create`] would create. Nothing is stored.
    ///
    /// # Errors
    ///
    /// As [`Registry::create`].
    pub(crate) fn would_create(
        &self,
        resource: &Resource,
        namespace: &str,
        object: Object,
    ) -> Result<Arc<Object>, Failure> {
        let (object, _) = self.prepare(resource, namespace, object)?;
        if let Some(key) = self.to_adopt(resource, &object) {
            return self.would_update(resource, &key, Part::Main, |old| Ok(adopted(old, &object)));
        }
        let key = Collection::from(resource).key(namespace, object::name(&object));
        match self.store.object(&key) {
            Some(_) => Err(Failure::already_exists(resource, &key.name)),
            None => Ok(Arc::new(object)),
        }
    }

    /// The namespace of that name, if the mesh has made it for itself and nobody has created it since:
    /// no cluster has it from the start, so whoever creates it is told that it is created.
    fn to_adopt(&self, resource: &Resource, object: &Object) -> Option<Key> {
        let is_namespace = resource.group.is_empty() && &*resource.plural == "namespaces";
        let key =
            is_namespace.then(|| Collection::core("namespaces").key("", object::name(object)))?;
        let old = self.store.object(&key)?;
        old["metadata"]["annotations"].get(MADE_BY_MESH)?;
        (!object::is_terminating(&old)).then_some(key)
    }

    /// A new object as it is to be stored, and the base of its generated name.
    fn prepare(
        &self,
        resource: &Resource,
        namespace: &str,
        mut object: Object,
    ) -> Result<(Object, Option<String>), Failure> {
        let generated = prepare_metadata(resource, namespace, &mut object)?;
        // A refusal shows the base, and no name that is another at each attempt: so that whoever tries
        // again gets the same one.
        let shown = generated.clone().unwrap_or_else(|| object::name(&object).to_owned());
        let namespace_object = self.namespace_for(resource, namespace, &shown)?;
        if has_computed_status(resource)
            && let Some(fields) = object.as_object_mut()
        {
            fields.shift_remove("status");
        }
        complete(resource, &shown, &mut object)?;
        match (&*resource.group, &*resource.plural, namespace_object) {
            ("", "pods", Some(namespace)) => {
                self.take_account(resource, &shown, &mut object)?;
                if let Some(admit) = &self.admit_pod {
                    let maps = Collection::core("configmaps");
                    let config_map =
                        |namespace: &str, name: &str| self.store.object(&maps.key(namespace, name));
                    admit(&namespace, &config_map, &mut object);
                }
                complete_pod(&mut object);
            }
            ("", "services", _) => self.allocate(resource, &mut object)?,
            ("", "persistentvolumeclaims", _) => hold_claim(&mut object),
            ("apiextensions.k8s.io", "customresourcedefinitions", _) => {
                custom::establish(&mut object);
            }
            ("networking.k8s.io", "ingresses", _) => {
                let classes = Resource::of("networking.k8s.io/v1", "IngressClass");
                let classes = self.store.list(&Collection::from(&classes), None).0;
                set_default_class(&mut object, classes.iter().map(|class| &**class));
            }
            _ => {}
        }
        Ok((object, generated))
    }

    /// Refuses what the mesh does not let happen to an object.
    fn guard(
        &self,
        resource: &Resource,
        old: &Object,
        new: Option<&Object>,
    ) -> Result<(), Failure> {
        let Some(guard) = self.guard else { return Ok(()) };
        guard(old, new).map_err(|why| Failure::forbidden(resource, object::name(old), &why))
    }

    /// A pod gets the identity of its service account, so that there must be one. The account
    /// `default` is made with its namespace. With it come the secrets for its images, if the pod names
    /// none (Kubernetes' admission plugin `ServiceAccount`).
    fn take_account(&self, pods: &Resource, shown: &str, pod: &mut Object) -> Result<(), Failure> {
        let namespace = object::namespace(pod);
        let account = Pod::of(pod).spec().service_account();
        let key = Collection::core("serviceaccounts").key(namespace, account);
        let found = self.store.object(&key);
        if account == "default" || found.is_some() {
            let is_some =
                |list: &serde_json::Value| list.as_array().is_some_and(|list| !list.is_empty());
            let secrets = found.map(|account| account["imagePullSecrets"].clone());
            if let Some(secrets) = secrets.filter(is_some)
                && !is_some(&pod["spec"]["imagePullSecrets"])
            {
                entry(pod, "spec")["imagePullSecrets"] = secrets;
            }
            return Ok(());
        }
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        );
        Err(Failure::forbidden(pods, shown, &why))
    }

    /// Changes a part of an object: `change` sees it as it is and makes what it shall be.
    ///
    /// # Errors
    ///
    /// What `change` returns; as Kubernetes: no such object, a version that somebody else has
    /// moved on from, wrong or immutable fields.
    pub(crate) fn update(
        &self,
        resource: &Resource,
        key: &Key,
        part: Part,
        change: impl Fn(&Object) -> Result<Object, Failure>,
    ) -> Result<Arc<Object>, Failure> {
        let (old, new) = self.changed(resource, key, part, change)?;
        let version = text_of_version(&old);
        let updated = self.store.update(key, |current| {
            if text_of_version(current) == version {
                Ok(new)
            } else {
                Err(Failure::conflict(resource, &key.name, MODIFIED))
            }
        })?;
        self.finish_deletion(key, &updated)?;
        Ok(updated)
    }

    /// What [`Registry::update`] would make of an object. Nothing is stored.
    ///
    /// # Errors
    ///
    /// As [`Registry::update`].
    pub(crate) fn would_update(
        &self,
        resource: &Resource,
        key: &Key,
        part: Part,
        change: impl Fn(&Object) -> Result<Object, Failure>,
    ) -> Result<Arc<Object>, Failure> {
        self.changed(resource, key, part, change).map(|(_, new)| Arc::new(new))
    }

    /// An object as it is and as it is to be stored.
    fn changed(
        &self,
        resource: &Resource,
        key: &Key,
        part: Part,
        change: impl Fn(&Object) -> Result<Object, Failure>,
    ) -> Result<(Arc<Object>, Object), Failure> {
        let old = self.object(resource, key)?;
        let mut new = change(&old)?;
        self.prepare_update(resource, &old, &mut new, part)?;
        Ok((old, new))
    }

    /// The namespace in which an object is to be made; none for objects of the cluster.
    fn namespace_for(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Failure> {
        if !resource.namespaced {
            return Ok(None);
        }
        let namespaces = Resource::of("v1", "Namespace");
        let key = Collection::core("namespaces").key("", namespace);
        let found = self.object(&namespaces, &key)?;
        if object::is_terminating(&found) {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(Failure::forbidden(resource, name, &why));
        }
        Ok(Some(found))
    }

    fn prepare_update(
        &self,
        resource: &Resource,
        old: &Object,
        new: &mut Object,
        part: Part,
    ) -> Result<(), Failure> {
        let name = object::name(old);
        check_identity(resource, old, new)?;
        match part {
            Part::Status => {
                let status = new.get("status").cloned();
                *new = old.clone();
                if let Some(status) = status {
                    new["status"] = status;
                }
                return Ok(());
            }
            Part::Main => keep_server_fields(old, new),
        }
        if resource.plural.as_ref() == "services" && resource.group.is_empty() {
            services::keep_addresses(old, new);
        }
        complete(resource, name, new)?;
        self.guard(resource, old, Some(new))?;
        let causes = validate::check_update(resource, old, new);
        if !causes.is_empty() {
            return Err(Failure::invalid(resource, name, causes));
        }
        if resource.plural.as_ref() == "services" && resource.group.is_empty() {
            self.allocate(resource, new)?;
        }
        Ok(())
    }
}

/// Fills in what an object leaves open, and checks it. Types come first: nothing is made of a field of
/// a wrong type. `shown` names it in a refusal.
fn complete(resource: &Resource, shown: &str, object: &mut Object) -> Result<(), Failure> {
    normal_form::normalize(resource, object);
    let refuse = |causes: Vec<Cause>| match causes.is_empty() {
        true => Ok(()),
        false => Err(Failure::invalid(resource, shown, causes)),
    };
    let name = validate::check_name(resource, object::name(object));
    refuse(name.into_iter().chain(refused_by_dialect(object)).collect())?;
    defaults::apply(resource, object);
    refuse(validate::check(resource, object))
}

/// A namespace of the mesh's, as one that was created: with the labels and annotations of both.
fn adopted(old: &Object, created: &Object) -> Object {
    let mut new = old.clone();
    for map in ["labels", "annotations"] {
        let given = created.pointer(&format!("/metadata/{map}")).and_then(|map| map.as_object());
        for (name, value) in given.into_iter().flatten() {
            new["metadata"][map][name] = value.clone();
        }
    }
    if let Some(annotations) = new["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove(MADE_BY_MESH);
    }
    new
}

/// Checks and completes the metadata of a new object. Returns the base of a generated name.
fn prepare_metadata(
    resource: &Resource,
    namespace: &str,
    object: &mut Object,
) -> Result<Option<String>, Failure> {
    if !object.is_object() {
        return Err(Failure::bad_request("the body is no JSON object"));
    }
    let stated = object::namespace(object);
    if resource.namespaced && !stated.is_empty() && stated != namespace {
        return Err(Failure::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request ({stated} and {namespace})"
        )));
    }
    if object.pointer("/metadata/resourceVersion").is_some_and(|v| v != "") {
        return Err(Failure::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let generated = (object::name(object).is_empty())
        .then(|| object::text(object, "/metadata/generateName").to_owned());
    let metadata = object::metadata_mut(object);
    if let Some(base) = &generated {
        if base.is_empty() {
            let cause =
                Cause { field: "metadata.name".to_owned(), message: NAME_REQUIRED.to_owned() };
            return Err(Failure::invalid(resource, "", vec![cause]));
        }
        metadata["name"] = generate_name(base).into();
    }
    if let Some(fields) = metadata.as_object_mut() {
        for key in ["selfLink", "deletionTimestamp", "resourceVersion"] {
            fields.shift_remove(key);
        }
    }
    if resource.namespaced {
        metadata["namespace"] = namespace.into();
    } else if let Some(fields) = metadata.as_object_mut() {
        fields.shift_remove("namespace");
    }
    metadata["uid"] = clock::uid().into();
    metadata["creationTimestamp"] = clock::rfc3339(clock::now()).into();
    metadata["generation"] = 1.into();
    Ok(generated)
}

fn generate_name(base: &str) -> String {
    let kept = base.char_indices().nth(GENERATED_BASE_MAX).map_or(base, |(at, _)| &base[..at]);
    format!("{kept}{}", clock::name_suffix())
}

/// What only a pod gets at its creation: a service account, a node, a first status.
fn complete_pod(pod: &mut Object) {
    let spec = entry(pod, "spec");
    defaults::pod_spec(spec);
    set_default(spec, "serviceAccountName", "default");
    set_default(spec, "serviceAccount", "default");
    set_default(spec, "nodeName", defaults::NODE);
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": clock::rfc3339(clock::now()),
    });
    pod["status"] =
        json!({"phase": "Pending", "conditions": [scheduled], "qosClass": "BestEffort"});
}

/// A claim is held until no pod uses it.
fn hold_claim(claim: &mut Object) {
    hold(claim, CLAIM_FINALIZER);
    claim["status"] = json!({"phase": "Pending"});
}

/// What makes the object unusable for the mesh. What only weakens it is a finding, and no refusal.
fn refused_by_dialect(object: &Object) -> Vec<Cause> {
    let Ok(object) = ironmesh_dialects::Object::new(object.clone()) else { return Vec::new() };
    ironmesh_dialects::validate(&object)
        .into_iter()
        .filter(|finding| finding.code.severity() == Severity::Error)
        .map(|finding| Cause {
            message: format!("{} ({})", finding.message, finding.code),
            field: finding.path,
        })
        .collect()
}

/// Whether the status of a new object is the server's to write.
fn has_computed_status(resource: &Resource) -> bool {
    matches!(&*resource.group, "" | "apps" | "batch") && &*resource.plural != "nodes"
}

/// The changed object must be the same one, in the version that its author saw.
fn check_identity(resource: &Resource, old: &Object, new: &Object) -> Result<(), Failure> {
    let name = object::name(old);
    if object::name(new) != name {
        return Err(Failure::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            object::name(new)
        )));
    }
    let stated = object::namespace(new);
    if !stated.is_empty() && stated != object::namespace(old) {
        return Err(Failure::bad_request(
            "the namespace of the object does not match the namespace on the request",
        ));
    }
    let version = text_of_version(new);
    if !version.is_empty() && version.parse::<u64>().is_err() {
        let why = "must be an unsigned whole number";
        let cause = Cause::invalid("metadata.resourceVersion", &version.into(), why);
        return Err(Failure::invalid(resource, name, vec![cause]));
    }
    if !version.is_empty() && version != text_of_version(old) {
        return Err(Failure::conflict(resource, name, MODIFIED));
    }
    let uid = object::uid(new);
    if !uid.is_empty() && uid != object::uid(old) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(old)
        );
        return Err(Failure::conflict(resource, name, &why));
    }
    Ok(())
}

/// What only the server sets stays as it is.
fn keep_server_fields(old: &Object, new: &mut Object) {
    for pointer in [
        "uid",
        "creationTimestamp",
        "generation",
        "namespace",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        let metadata = object::metadata_mut(new);
        match old["metadata"].get(pointer) {
            Some(value) => metadata[pointer] = value.clone(),
            None => {
                if let Some(fields) = metadata.as_object_mut() {
                    fields.shift_remove(pointer);
                }
            }
        }
    }
    if let Some(fields) = object::metadata_mut(new).as_object_mut() {
        fields.shift_remove("selfLink");
    }
    match (old.get("status"), new.as_object_mut()) {
        (Some(status), Some(new)) => {
            new.insert("status".to_owned(), status.clone());
        }
        (None, Some(new)) => {
            new.shift_remove("status");
        }
        (_, None) => {}
    }
}

fn text_of_version(object: &Object) -> &str {
    object::text(object, "/metadata/resourceVersion")
}

/// What holds a claim that pods use.
pub(crate) const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// Names that are tried before a generated one counts as taken.
const NAME_ATTEMPTS_MAX: usize = 8;
/// Characters of `generateName` that are used, as in Kubernetes.
const GENERATED_BASE_MAX: usize = 58;
const NAME_REQUIRED: &str = "Required value: name or generateName is required";
const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

#[cfg(test)]
mod tests;
