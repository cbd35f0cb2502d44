//! Pods without a sidecar in namespaces that ask for one (Istio's analyzer, IST0103).

use std::collections::BTreeMap;
use std::sync::Arc;

use ironmesh_dialects::Object;
use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_model::{Finding, FindingCode, Name, ObjectId};
use serde_json::Value;

use crate::inject::{Wish, has_sidecar};

/// The namespaces, and the pods without a sidecar.
#[derive(Debug, Default)]
pub(super) struct Bare {
    namespaces: BTreeMap<Name, Arc<Value>>,
    pods: BTreeMap<ObjectId, Wish>,
}

impl Bare {
    /// An object came or changed.
    pub(super) fn put(&mut self, object: &Object) {
        let (id, value) = (object.id(), object.value());
        match object.kind() {
            "Namespace" => {
                self.namespaces.insert(id.name.clone(), value.clone());
            }
            "Pod" if has_sidecar(value) || has_ended(value) => {
                self.pods.remove(id);
            }
            "Pod" => {
                self.pods.insert(id.clone(), Wish::of(value));
            }
            _ => {}
        }
    }

    /// An object is gone.
    pub(super) fn take(&mut self, id: &ObjectId) {
        match &*id.kind {
            "Namespace" => {
                self.namespaces.remove(&id.name);
            }
            "Pod" => {
                self.pods.remove(id);
            }
            _ => {}
        }
    }

    /// The pods that would get a sidecar if they were made now.
    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        self.pods.iter().filter_map(|(id, wish)| self.finding(id, wish))
    }

    /// Whether a pod is one of them.
    pub(super) fn about(&self, id: &ObjectId) -> Option<Finding> {
        self.finding(id, self.pods.get(id)?)
    }

    fn finding(&self, id: &ObjectId, wish: &Wish) -> Option<Finding> {
        let namespace = self.namespaces.get(&id.namespace)?;
        let message = || format!("it has no sidecar, which namespace {} asks for", id.namespace);
        wish.is_granted(namespace)
            .then(|| Finding::new(id, "", FindingCode::NotInjected, message()))
    }
}

fn has_ended(pod: &Value) -> bool {
    let phase = Pod::of(pod).status().phase();
    matches!(phase, "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, more: &Value) -> Object {
        let mut value = json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
        });
        if kind == "Namespace" {
            value["metadata"] = json!({"name": name});
        }
        for (field, of) in more.as_object().into_iter().flatten() {
            match field.as_str() {
                "labels" => value["metadata"]["labels"] = of.clone(),
                _ => value[field] = of.clone(),
            }
        }
        Object::new(value).unwrap()
    }

    fn found(bare: &Bare) -> Vec<String> {
        bare.findings().map(|finding| finding.object.name.to_string()).collect()
    }

    #[test]
    fn pods_from_before_the_label_are_found_until_they_are_made_again() {
        let mut bare = Bare::default();
        let spec = |names: &[&str]| {
            let containers: Vec<Value> =
                names.iter().map(|name| json!({"name": name, "image": "a"})).collect();
            json!({"containers": containers})
        };
        let pod = |name: &str, labels: Value, spec: Value| {
            object("Pod", name, &json!({"labels": labels, "spec": spec}))
        };
        bare.put(&pod("old", json!({}), spec(&["app"])));
        bare.put(&pod("new", json!({}), spec(&["app", "istio-proxy"])));
        bare.put(&pod("aside", json!({"sidecar.istio.io/inject": "false"}), spec(&["app"])));
        let ended = json!({"spec": spec(&["app"]), "status": {"phase": "Succeeded"}});
        bare.put(&object("Pod", "ended", &ended));
        assert_eq!(found(&bare), [""; 0]);
        let on = json!({"labels": {"istio-injection": "enabled"}});
        bare.put(&object("Namespace", "shop", &on));
        assert_eq!(found(&bare), ["old"]);
        let off = json!({"labels": {"istio-injection": "disabled"}});
        bare.put(&object("Namespace", "shop", &off));
        assert_eq!(found(&bare), [""; 0]);
        bare.put(&object("Namespace", "shop", &on));
        bare.take(&ObjectId::new("Pod", "shop", "old"));
        assert_eq!(found(&bare), [""; 0]);
    }
}
