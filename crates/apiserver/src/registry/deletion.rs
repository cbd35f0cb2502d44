//! Deleting: at once, gracefully (pods), after finalizers, or after all content (namespaces).

use std::sync::Arc;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{AnyObject, Pod};
use ironmesh_dialects::schema::Fields;
use serde_json::{Value, json};

use super::{Part, Registry};
use crate::clock;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::store::{Error as StoreError, Key};

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    /// Seconds for a graceful end; `None`: what the object says.
    pub(crate) grace_seconds: Option<i64>,
    /// Whether what it owns stays.
    pub(crate) orphan: bool,
    /// Whether it goes only after what it owns.
    pub(crate) foreground: bool,
    /// The object must be this one.
    pub(crate) uid: Option<String>,
    /// The object must be in this version.
    pub(crate) resource_version: Option<String>,
    /// Whether nothing is to be deleted, only tried.
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Whether a body says `dryRun: [All]`.
    ///
    /// # Errors
    ///
    /// If it says anything else there.
    pub(crate) fn asks_for_dry_run(body: &Value) -> Result<bool, Failure> {
        match object::list(body, "/dryRun") {
            [] => Ok(false),
            words if words.iter().all(|word| word == "All") => Ok(true),
            _ => Err(Failure::bad_request("dryRun: supported values: \"All\"")),
        }
    }

    /// Reads them from a body (`kind: DeleteOptions`, may be empty) and from query parameters,
    /// which win.
    pub(crate) fn read(body: &Value, query: impl Fn(&str) -> Option<String>) -> Self {
        let grace = query("gracePeriodSeconds").and_then(|text| text.parse().ok());
        let policy = query("propagationPolicy")
            .unwrap_or_else(|| object::text(body, "/propagationPolicy").to_owned());
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Self {
            grace_seconds: grace.or_else(|| object::number(body, "/gracePeriodSeconds")),
            orphan: policy == "Orphan" || body.get("orphanDependents") == Some(&Value::Bool(true)),
            foreground: policy == "Foreground",
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: false,
        }
    }
}

/// What came of a deletion.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// The object is gone.
    Gone(Arc<Object>),
    /// It is on its way out.
    Marked(Arc<Object>),
}

impl Registry {
    /// Deletes an object, or begins to.
    ///
    /// # Errors
    ///
    /// If there is none, or it is not the one that the options name.
    pub(crate) fn delete(
        &self,
        resource: &Resource,
        key: &Key,
        options: &DeleteOptions,
    ) -> Result<Deleted, Failure> {
        let object = self.object(resource, key)?;
        check_preconditions(resource, key, &object, options)?;
        if key.collection.is("", "namespaces") && KEPT_NAMESPACES.contains(&&*key.name) {
            return Err(Failure::forbidden(
                resource,
                &key.name,
                "this namespace may not be deleted",
            ));
        }
        self.guard(resource, &object, None)?;
        if options.dry_run {
            return Ok(Deleted::Gone(object));
        }
        if options.orphan {
            self.orphan_dependents(&object)?;
        }
        let is = |plural| resource.group.is_empty() && &*resource.plural == plural;
        let grace = if is("pods") { self.pod_grace(&object, options) } else { 0 };
        let has_finalizers = AnyObject::of(&object).metadata().finalizers().len() > 0;
        let foreground = options.foreground && !is("namespaces");
        if grace == 0 && !has_finalizers && !foreground && !is("namespaces") {
            let removed = self.store.remove(key).map_err(|e| Failure::of_store(&e, resource))?;
            return Ok(Deleted::Gone(removed));
        }
        let marked = self.store.update::<StoreError>(key, |old| {
            let mut new = old.clone();
            mark(&mut new, grace);
            if foreground {
                hold(&mut new, FOREGROUND);
            }
            if is("namespaces") {
                new["status"] = json!({"phase": "Terminating"});
            }
            Ok(new)
        });
        Ok(Deleted::Marked(marked.map_err(|e| Failure::of_store(&e, resource))?))
    }

    /// Removes an object that only waited for its last finalizer.
    pub(super) fn finish_deletion(&self, key: &Key, object: &Object) -> Result<(), Failure> {
        let metadata = AnyObject::of(object).metadata();
        let waits = metadata.deletion_grace_period_seconds().unwrap_or(0) > 0
            || key.collection.is("", "namespaces")
            || metadata.finalizers().len() > 0;
        if object::is_terminating(object) && !waits {
            self.store.remove(key)?;
        }
        Ok(())
    }

    /// Takes a finalizer from an object, which goes if it is deleted and that was the last. One that has
    /// gone needs nothing; of one that changes meanwhile its next change tells.
    ///
    /// # Errors
    ///
    /// If the object cannot be stored.
    pub(crate) fn release(
        &self,
        resource: &Resource,
        key: &Key,
        finalizer: &str,
    ) -> Result<(), Failure> {
        let released = self.update(resource, key, Part::Main, |old| {
            let mut new = old.clone();
            if let Some(list) = object::metadata_mut(&mut new)["finalizers"].as_array_mut() {
                list.retain(|other| other != finalizer);
            }
            Ok(new)
        });
        match released {
            Err(failure) if matches!(failure.code, 404 | 409) => Ok(()),
            released => released.map(drop),
        }
    }

    /// Seconds that a pod has for its end.
    fn pod_grace(&self, pod: &Object, options: &DeleteOptions) -> i64 {
        let spec = Pod::of(pod).spec();
        // Of one that has ended nothing is to end any more.
        if spec.node_name().is_empty() || Pod::of(pod).is_finished() {
            return 0;
        }
        let own = || spec.termination_grace_period_seconds().0;
        let max = i64::try_from(self.limits.grace_period_max.as_secs()).unwrap_or(i64::MAX);
        options.grace_seconds.unwrap_or_else(own).clamp(0, max)
    }

    /// Takes an object out of the owners of what it owns, so that this stays.
    fn orphan_dependents(&self, owner: &Object) -> Result<(), Failure> {
        for (key, dependent) in self.store.owned_by(object::uid(owner)) {
            self.update(&resource_of(&dependent), &key, Part::Main, |old| {
                let mut new = old.clone();
                let owners = AnyObject::of(old).metadata().owner_references();
                let others = owners.filter(|other| other.uid() != object::uid(owner));
                let kept: Vec<_> = others.map(Fields::json).collect();
                object::metadata_mut(&mut new)["ownerReferences"] = json!(kept);
                Ok(new)
            })?;
        }
        Ok(())
    }
}

/// The resource of a stored object.
pub(crate) fn resource_of(object: &Object) -> Resource {
    Resource::of(object::text(object, "/apiVersion"), object::text(object, "/kind"))
}

/// Sets the end of an object. A second deletion may only bring it nearer.
fn mark(object: &mut Object, grace: i64) {
    let earlier = AnyObject::of(object).metadata().deletion_grace_period_seconds();
    let terminating = object::is_terminating(object);
    let metadata = object::metadata_mut(object);
    if terminating && earlier.is_none_or(|earlier| earlier <= grace) {
        return;
    }
    let end = clock::now() + jiff::SignedDuration::from_secs(grace);
    metadata["deletionTimestamp"] = clock::rfc3339(end).into();
    metadata["deletionGracePeriodSeconds"] = grace.into();
}

/// Makes an object wait, once it is deleted, until a finalizer is [released](Registry::release).
pub(crate) fn hold(object: &mut Object, finalizer: &str) {
    let finalizers = &mut object::metadata_mut(object)["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|other| other == finalizer) => {}
        Some(list) => list.push(finalizer.into()),
        None => *finalizers = json!([finalizer]),
    }
}

/// What holds an object that is to go after what it owns.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Namespaces that Kubernetes does not delete.
const KEPT_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];

fn check_preconditions(
    resource: &Resource,
    key: &Key,
    object: &Object,
    options: &DeleteOptions,
) -> Result<(), Failure> {
    let version = AnyObject::of(object).metadata().resource_version();
    for (what, wanted, found) in [
        ("UID", &options.uid, object::uid(object)),
        ("ResourceVersion", &options.resource_version, version),
    ] {
        if let Some(wanted) = wanted
            && wanted != found
        {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            return Err(Failure::conflict(resource, &key.name, &why));
        }
    }
    Ok(())
}
