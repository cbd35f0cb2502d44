//! `pods/NAME/eviction`: deletion that PodDisruptionBudgets may refuse, as `kubectl drain` asks for it.

use http::StatusCode;
use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{LabelSelector, Pod};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::options;
use super::request::{ApiRequest, Target};
use crate::context::Context;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::Registry;
use crate::selector::selects;
use crate::store::Collection;

/// Deletes a pod, unless a budget needs it.
///
/// # Errors
///
/// 429 if a budget needs it; as with any deletion.
pub(super) fn evict(
    context: &Context,
    request: &ApiRequest,
    target: &Target,
    name: &str,
) -> Result<Answer, Failure> {
    let eviction = request.json()?;
    if eviction["kind"] != "Eviction" {
        return Err(Failure::bad_request("the body of the request is no Eviction"));
    }
    let named = object::name(&eviction);
    if !named.is_empty() && named != name {
        return Err(Failure::bad_request(format!(
            "the name of the Eviction ({named}) does not match the name on the URL ({name})"
        )));
    }
    let nothing = json!({});
    let options = eviction.get("deleteOptions").filter(|options| !options.is_null());
    let options = options::of_options(request, options.unwrap_or(&nothing))?;
    let key = target.key(name);
    let pod = context.registry.object(&target.resource, &key)?;
    let read = Pod::of(&pod);
    // What does not run, or not any more, no budget counts.
    if !read.is_finished() && read.status().phase() != "Pending" && !object::is_terminating(&pod) {
        check_budgets(&context.registry, &pod)?;
    }
    context.registry.delete(&Resource::of("v1", "Pod"), &key, &options)?;
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    Ok(answer::json(StatusCode::CREATED, &status))
}

/// That the budgets that select a pod allow one less.
fn check_budgets(registry: &Registry, pod: &Object) -> Result<(), Failure> {
    let namespace = object::namespace(pod);
    let store = registry.store();
    let labels = Pod::of(pod).metadata().labels();
    let (budgets, _) =
        store.list(&Collection::new("policy", "poddisruptionbudgets"), Some(namespace));
    for budget in budgets {
        let nothing = Value::Null;
        let selector = budget.pointer("/spec/selector").unwrap_or(&nothing);
        if !selects(LabelSelector::of(selector), labels) {
            continue;
        }
        let (pods, _) = store.list(&Collection::core("pods"), Some(namespace));
        let counted = pods.iter().filter(|other| {
            let other = Pod::of(other);
            !other.is_finished() && selects(LabelSelector::of(selector), other.metadata().labels())
        });
        let (mut expected, mut healthy) = (0, 0);
        for other in counted {
            expected += 1;
            healthy += i64::from(Pod::of(other).is_ready());
        }
        let needed = needed(&budget, expected);
        // A pod that is not ready makes nothing worse, where enough others are.
        let enough = if Pod::of(pod).is_ready() { healthy > needed } else { healthy >= needed };
        if !enough {
            return Err(Failure::disruption(object::name(&budget), needed, healthy));
        }
    }
    Ok(())
}

/// How many healthy pods a budget needs of so many.
fn needed(budget: &Object, expected: i64) -> i64 {
    let spec = &budget["spec"];
    // Percentages are rounded up, in favour of the application (disruption controller).
    let number = |value: &Value| match value {
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            Some((expected.saturating_mul(percent).saturating_add(99)) / 100)
        }
        other => other.as_i64(),
    };
    if let Some(most) = number(&spec["maxUnavailable"]) {
        return expected.saturating_sub(most).max(0);
    }
    number(&spec["minAvailable"]).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_numbers_or_percentages() {
        for (spec, expected, wanted) in [
            (json!({"minAvailable": 2}), 5, 2),
            (json!({"minAvailable": "50%"}), 5, 3),
            (json!({"maxUnavailable": 1}), 5, 4),
            (json!({"maxUnavailable": "34%"}), 3, 1),
            (json!({"maxUnavailable": 9}), 3, 0),
            (json!({}), 3, 1),
            (json!({"minAvailable": "much"}), 3, 1),
            (json!({"minAvailable": i64::MAX}), 3, i64::MAX),
            (json!({"maxUnavailable": i64::MIN}), 3, i64::MAX),
        ] {
            assert_eq!(needed(&json!({"spec": spec}), expected), wanted, "{spec}");
        }
    }
}
