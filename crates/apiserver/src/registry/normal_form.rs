//! One form for what Kubernetes takes in several: old API versions, and the ways to write that a
//! field is not set (`null`, the empty text, 0), which Go decodes as one. Pure functions; fields of
//! wrong types stay as they are, to be refused.

use ironmesh_dialects::kinds::{Kind, Resource};
use ironmesh_dialects::kubernetes::kinds::AnyObject;
use ironmesh_dialects::schema;

use crate::object::Object;

/// Writes an object in the form of today.
pub(crate) fn normalize(resource: &Resource, object: &mut Object) {
    // That the form is old, whoever sent it says: the store has the new form alone.
    drop(ironmesh_dialects::object::normalize(object));
    match Kind::of_path(&resource.group, &resource.plural).and_then(|kind| kind.fields) {
        // Istio's kinds are protobuf, which has rules of its own.
        Some(fields) if !fields.protobuf => fields.normalize(object),
        _ => schema::normalize::<AnyObject>(object),
    }
    for spec in ["/spec", "/spec/template/spec"] {
        let grace = object.pointer_mut(&format!("{spec}/terminationGracePeriodSeconds"));
        if let Some(grace) = grace.filter(|grace| grace.as_i64().is_some_and(|n| n < 0)) {
            *grace = 1.into();
        }
    }
}
