//! Templates of pods: which are the same, and what they are called by. Pure functions.

use serde_json::Value;
use twox_hash::XxHash3_64;

use crate::clock;
use crate::registry::defaults;

/// Whether two templates mean the same; the hash label is a ReplicaSet's own. One that was kept by an
/// older version may lack defaults of today.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    let read = |template: &Value| {
        let mut template = template.clone();
        defaults::pod_spec(&mut template["spec"]);
        if let Some(labels) =
            template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut)
        {
            labels.shift_remove(HASH_LABEL);
        }
        canonical(&template)
    };
    read(one) == read(other)
}

/// What a template is called by; another at each attempt, as names collide if hashes do.
pub(super) fn hash(template: &Value, attempt: u32) -> String {
    let text = canonical(template).to_string();
    let hash = XxHash3_64::oneshot_with_seed(u64::from(attempt), text.as_bytes());
    clock::safe_digits(hash % 10_000_000_000)
}

/// A value with what means the same written the same: sorted keys, no empty parts.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields
                .iter()
                .map(|(key, value)| (key.clone(), canonical(value)))
                .filter(|(_, value)| !is_empty(value))
                .collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        other => other.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The label with which a ReplicaSet tells its pods from those of other templates.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
/// Names that are tried for one template.
pub(super) const COLLISIONS_MAX: u32 = 8;
