//! What Kubernetes does to an object before it is kept, by its table: one form for what can be written
//! in several, and what is left out filled in. Values of other types stay as they are, to be refused.

use serde_json::{Map, Value};

use super::{Message, Type, Typed};

/// Writes a value in one form: Go decodes the empty text, 0 and `null` alike, so where a field cannot be
/// empty or 0 they mean that it is left out, and in a map of texts `null` is the empty one.
pub fn normalize<T: Typed>(value: &mut Value) {
    T::TYPE.walk(value, &|message, fields| message.normalize_fields(fields));
}

/// Fills in what is left out, as far as tables say what it is then.
pub fn fill<T: Typed>(value: &mut Value) {
    T::TYPE.walk(value, &|message, fields| message.fill_fields(fields));
}

impl Message {
    /// See [`normalize`].
    pub fn normalize(&self, value: &mut Value) {
        self.walk(value, &|message, fields| message.normalize_fields(fields));
    }

    /// See [`fill`].
    pub fn fill(&self, value: &mut Value) {
        self.walk(value, &|message, fields| message.fill_fields(fields));
    }

    fn walk(&self, value: &mut Value, change: &dyn Fn(&Self, &mut Map<String, Value>)) {
        let Some(fields) = value.as_object_mut() else { return };
        change(self, fields);
        for field in self.fields {
            if let Some(value) = fields.get_mut(field.name) {
                field.of.walk(value, change);
            }
        }
    }

    fn normalize_fields(&self, fields: &mut Map<String, Value>) {
        fields.retain(|name, value| {
            let field = self.fields.iter().find(|field| field.name == name);
            let Some(field) = field else { return true };
            match (&field.of, &mut *value) {
                (Type::Words { .. }, Value::String(text)) => !text.is_empty(),
                (Type::Text, Value::String(text)) => !(text.is_empty() && field.default.is_some()),
                (Type::Integer(min, _), Value::Number(number)) => {
                    !(number.as_i64() == Some(0) && *min > 0 && field.default.is_some())
                }
                (Type::Map(Type::Text), Value::Object(entries)) => {
                    entries.values_mut().filter(|text| text.is_null()).for_each(|text| {
                        *text = "".into();
                    });
                    true
                }
                (Type::Map(Type::Quantity), Value::Object(entries)) => {
                    entries.retain(|_, amount| !amount.is_null());
                    true
                }
                _ => true,
            }
        });
    }

    fn fill_fields(&self, fields: &mut Map<String, Value>) {
        for field in self.fields {
            if let Some(default) = field.default
                && fields.get(field.name).is_none_or(Value::is_null)
            {
                fields.insert(field.name.to_owned(), default());
            }
        }
    }
}

impl Type {
    fn walk(&self, value: &mut Value, change: &dyn Fn(&Message, &mut Map<String, Value>)) {
        match self {
            Self::Object(message) => message.walk(value, change),
            Self::List(of) => {
                let items = value.as_array_mut().into_iter().flatten();
                items.for_each(|item| of.walk(item, change));
            }
            Self::Map(of) => {
                let entries = value.as_object_mut().into_iter().flatten();
                entries.for_each(|(_, value)| of.walk(value, change));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::kinds::{Deployment, Pod};

    #[test]
    fn what_go_decodes_alike_is_written_alike() {
        let mut pod = json!({
            "metadata": {"labels": {"a": null, "b": "c"}},
            "spec": {
                "restartPolicy": "", "schedulerName": "", "hostname": "", "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "x", "imagePullPolicy": "",
                    "resources": {"limits": {"cpu": null, "memory": "1Gi"}},
                    "readinessProbe": {"periodSeconds": 0, "initialDelaySeconds": 0},
                }, 7],
                "initContainers": "no list",
            },
        });
        normalize::<Pod>(&mut pod);
        let expected = json!({
            "metadata": {"labels": {"a": "", "b": "c"}},
            "spec": {
                "hostname": "", "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "x",
                    "resources": {"limits": {"memory": "1Gi"}},
                    "readinessProbe": {"initialDelaySeconds": 0},
                }, 7],
                "initContainers": "no list",
            },
        });
        assert_eq!(pod, expected);
    }

    #[test]
    fn what_is_left_out_is_filled_in_where_something_is_to_have_it() {
        let mut deployment = json!({"spec": {"replicas": null, "paused": false, "template": {"spec": {
            "containers": [{"ports": [{"containerPort": 1, "protocol": "UDP"}, {"containerPort": 2}]}],
        }}}});
        fill::<Deployment>(&mut deployment);
        let spec = &deployment["spec"];
        assert_eq!((&spec["replicas"], &spec["progressDeadlineSeconds"]), (&json!(1), &json!(600)));
        assert_eq!(spec.get("strategy"), None);
        let pod = &spec["template"]["spec"];
        assert_eq!(
            (&pod["restartPolicy"], &pod["dnsPolicy"]),
            (&json!("Always"), &json!("ClusterFirst"))
        );
        let ports = &pod["containers"][0]["ports"];
        assert_eq!((&ports[0]["protocol"], &ports[1]["protocol"]), (&json!("UDP"), &json!("TCP")));
        assert_eq!(pod["containers"][0].get("readinessProbe"), None);
        let once = deployment.clone();
        fill::<Deployment>(&mut deployment);
        assert_eq!(deployment, once);
    }
}
