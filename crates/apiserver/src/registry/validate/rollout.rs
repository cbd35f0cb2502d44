//! How a Deployment is rolled out: bounds that make sense.

use serde_json::Value;

use crate::failure::Cause;
use crate::object::{self, Object};

/// Checks strategy and deadlines of a Deployment.
pub(super) fn deployment(object: &Object, causes: &mut Vec<Cause>) {
    let deadline = object::number(object, "/spec/progressDeadlineSeconds");
    let min_ready = object::number(object, "/spec/minReadySeconds").unwrap_or(0);
    if let Some(deadline) = deadline.filter(|deadline| *deadline <= min_ready) {
        let why = "must be greater than minReadySeconds";
        causes.push(Cause::invalid("spec.progressDeadlineSeconds", &deadline.into(), why));
    }
    let kind = object::text(object, "/spec/strategy/type");
    let bounds = object.pointer("/spec/strategy/rollingUpdate").filter(|bounds| !bounds.is_null());
    if kind == "Recreate" && bounds.is_some() {
        let message = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
        let field = "spec.strategy.rollingUpdate".to_owned();
        causes.push(Cause { field, message: message.to_owned() });
    }
    if kind != "RollingUpdate" {
        return;
    }
    let mut bound = |name: &str| {
        let value = object.pointer(&format!("/spec/strategy/rollingUpdate/{name}"))?;
        let (number, why) = read(value);
        if let Some(why) = why {
            causes.push(Cause::invalid(format!("spec.strategy.rollingUpdate.{name}"), value, why));
        }
        number
    };
    let (surge, unavailable) = (bound("maxSurge"), bound("maxUnavailable"));
    if (surge, unavailable) == (Some(0), Some(0)) {
        let field = "spec.strategy.rollingUpdate.maxUnavailable";
        causes.push(Cause::invalid(field, &0.into(), "may not be 0 when `maxSurge` is 0"));
    }
    let share = object.pointer("/spec/strategy/rollingUpdate/maxUnavailable");
    if let Some(share @ Value::String(_)) = share.filter(|_| unavailable.is_some_and(|n| n > 100)) {
        let field = "spec.strategy.rollingUpdate.maxUnavailable";
        causes.push(Cause::invalid(field, share, "must not be greater than 100%"));
    }
}

/// The number of a bound or of its percentage, or what is wrong with it.
fn read(value: &Value) -> (Option<i64>, Option<&'static str>) {
    match value {
        Value::Number(number) => match number.as_i64() {
            Some(n) if (0..=i64::from(i32::MAX)).contains(&n) => (Some(n), None),
            _ => (None, Some("must be greater than or equal to 0, and fit 32 bits")),
        },
        Value::String(text) => {
            let digits = text.strip_suffix('%').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            match digits.and_then(|digits| digits.parse::<i32>().ok()) {
                Some(percent) => (Some(percent.into()), None),
                None => (None, Some("must be an integer or percentage (e.g '5%')")),
            }
        }
        // Another type is refused with the other types.
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_are_checked_as_kubernetes_does() {
        for (surge, unavailable, texts) in [
            (json!("25%"), json!(0), &[][..]),
            (json!(0), json!("0%"), &["may not be 0"][..]),
            (json!(-1), json!(1), &["greater than or equal to 0"]),
            (json!(9_223_372_036_854_775_807_i64), json!(1), &["fit 32 bits"]),
            (json!("half"), json!("101%"), &["integer or percentage", "100%"]),
            (json!("200%"), json!(200), &[]),
        ] {
            let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
            let strategy = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
            let mut causes = Vec::new();
            deployment(&json!({"spec": {"strategy": strategy}}), &mut causes);
            assert_eq!(causes.len(), texts.len(), "{rolling}: {causes:?}");
            for (cause, text) in causes.iter().zip(texts) {
                assert!(cause.message.contains(text), "{rolling}: {causes:?}");
            }
        }
        let mut causes = Vec::new();
        let strategy = json!({"type": "Recreate", "rollingUpdate": {}});
        deployment(&json!({"spec": {"strategy": strategy}}), &mut causes);
        assert_eq!(causes.pop().unwrap().field, "spec.strategy.rollingUpdate");
        let spec = json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5});
        deployment(&json!({"spec": spec}), &mut causes);
        assert_eq!(causes.len(), 1);
    }
}
