//! Status as data: what the mesh says about an object in the object's `status`.
//!
//! A dialect says which fields of `status` are the mesh's and what stands in them. What they are made
//! from changes without the object (a Service that was missing comes), so whoever has the findings asks
//! [`Status::change`] when these or the object changed, and writes the answer.

use ironmesh_model::Finding;
use serde_json::{Map, Value};

use crate::{Object, istio};

/// How the objects of a kind say their status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As Istio's kinds: `IstioStatus`.
    Istio,
}

/// What the status of one object is made from, as far as the object says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    form: Form,
    generation: i64,
    /// The fields that are the mesh's, as the object has them.
    present: Map<String, Value>,
}

/// Fields of an object's status that are to have other values.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusChange {
    /// Generation of the object from which this was made.
    pub generation: i64,
    /// The fields; one that is `null` is to go. So it is a merge patch of the status (RFC 7386).
    pub fields: Map<String, Value>,
}

impl Status {
    /// What an object says; nothing if the mesh writes no status for its kind.
    pub(crate) fn of(object: &Object, form: Option<Form>) -> Option<Self> {
        let form = form?;
        let given = object.value().get("status");
        let own = form.fields().iter().filter_map(|field| {
            Some(((*field).to_owned(), given?.get(field).filter(|value| !value.is_null())?.clone()))
        });
        Some(Self { form, generation: object.generation(), present: own.collect() })
    }

    /// What is to change so that the status says these findings, which are all that there are about
    /// the object; nothing if it says them already. Of messages no more than `bytes_max` bytes are
    /// written.
    pub fn change(&self, findings: &[&Finding], bytes_max: usize) -> Option<StatusChange> {
        let wanted = self.form.make(self.generation, findings, bytes_max);
        let change = |field: &&str| {
            let (is, shall_be) = (self.present.get(*field), wanted.get(*field));
            (is != shall_be).then(|| ((*field).to_owned(), shall_be.cloned().unwrap_or_default()))
        };
        let fields: Map<String, Value> = self.form.fields().iter().filter_map(change).collect();
        (!fields.is_empty()).then_some(StatusChange { generation: self.generation, fields })
    }
}

impl StatusChange {
    /// Makes the change in an object.
    pub fn apply(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else { return };
        let status = object.entry("status").or_insert_with(|| Map::new().into());
        if !status.is_object() {
            *status = Map::new().into();
        }
        let Some(status) = status.as_object_mut() else { return };
        for (field, value) in &self.fields {
            if value.is_null() {
                status.shift_remove(field);
            } else {
                status.insert(field.clone(), value.clone());
            }
        }
    }
}

impl Form {
    /// The fields of `status` that are the mesh's.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Istio => istio::status::FIELDS,
        }
    }

    /// What is to stand in them.
    fn make(self, generation: i64, findings: &[&Finding], bytes_max: usize) -> Map<String, Value> {
        match self {
            Self::Istio => istio::status::make(generation, findings, bytes_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use ironmesh_model::FindingCode;
    use serde_json::json;

    use super::*;
    use crate::translate_one;

    fn virtual_service(status: Value) -> Value {
        let spec = json!({"hosts": ["a"], "http": [{"route": [{"destination": {"host": "b"}}]}]});
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "v", "namespace": "n", "generation": 3},
            "spec": spec, "status": status,
        })
    }

    fn status_of(object: &Value) -> Status {
        translate_one(&Object::new(object.clone()).unwrap()).status.unwrap()
    }

    fn finding(object: &Value, number: usize) -> Finding {
        let object = Object::new(object.clone()).unwrap();
        let path = format!("spec.http[{number}]");
        Finding::new(object.id(), path, FindingCode::UnknownDestination, "no service is called b")
    }

    #[test]
    fn an_object_says_what_is_found_and_is_not_written_again() {
        let conditions = json!([{"type": "Reconciled", "status": "True"}]);
        let mut object = virtual_service(json!({"conditions": conditions}));
        let found = finding(&object, 0);
        let change = status_of(&object).change(&[&found], 1_000).unwrap();
        assert_eq!(change.generation, 3);
        change.apply(&mut object);
        let message = json!({
            "type": {"code": "IM0104", "name": "UnknownDestination"}, "level": "WARNING",
            "message": "spec.http[0]: no service is called b",
        });
        let expected = json!({
            "conditions": conditions, "observedGeneration": 3, "validationMessages": [message],
        });
        assert_eq!(object["status"], expected);
        assert_eq!(status_of(&object).change(&[&found], 1_000), None);
        // The next generation with the same fault.
        object["metadata"]["generation"] = 4.into();
        let change = status_of(&object).change(&[&found], 1_000).unwrap();
        assert_eq!(json!(change.fields), json!({"observedGeneration": 4}));
        change.apply(&mut object);
        // Once nothing is wrong nothing is said, and what others wrote stays.
        let change = status_of(&object).change(&[], 1_000).unwrap();
        change.apply(&mut object);
        assert_eq!(object["status"], json!({"conditions": conditions}));
        assert_eq!(status_of(&object).change(&[], 1_000), None);
    }

    #[test]
    fn an_object_of_which_nothing_is_found_gets_no_status_and_other_kinds_never() {
        for status in [Value::Null, json!({}), json!(5), json!({"validationMessages": null})] {
            assert_eq!(status_of(&virtual_service(status)).change(&[], 1_000), None);
        }
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}});
        assert!(translate_one(&Object::new(config).unwrap()).status.is_none());
    }

    #[test]
    fn whatever_stands_in_the_status_is_mended() {
        for status in [json!("x"), json!([1]), json!({"validationMessages": 7}), Value::Null] {
            let mut object = virtual_service(status);
            let found = finding(&object, 0);
            status_of(&object).change(&[&found], 1_000).unwrap().apply(&mut object);
            assert_eq!(object["status"]["validationMessages"].as_array().unwrap().len(), 1);
        }
        let mut object = virtual_service(json!({"validationMessages": [{"level": "ERROR"}]}));
        status_of(&object).change(&[], 1_000).unwrap().apply(&mut object);
        assert_eq!(object["status"], json!({}));
    }

    #[test]
    fn a_status_has_bounded_bytes_and_says_what_is_left_out() {
        let mut object = virtual_service(Value::Null);
        let found: Vec<Finding> = (0..500).map(|number| finding(&object, number)).collect();
        let found: Vec<&Finding> = found.iter().collect();
        status_of(&object).change(&found, 1_000).unwrap().apply(&mut object);
        let messages = object["status"]["validationMessages"].as_array().unwrap();
        assert!((2..50).contains(&messages.len()), "{}", messages.len());
        let last = messages.last().unwrap();
        let left_out = format!("{} more findings are left out", 500 - (messages.len() - 1));
        assert!(last["message"].as_str().unwrap().contains(&left_out), "{last}");
        assert_eq!(status_of(&object).change(&found, 1_000), None);
    }
}
