//! How a Deployment is rolled out: bounds that make sense.

use ironmesh_dialects::kubernetes::kinds::{
    DaemonSetSpec, DeploymentSpec, StrategyType, UpdateType,
};
use ironmesh_dialects::schema::{Fields, IntegerOrText, Typed};

use crate::failure::Cause;

/// Checks strategy and deadlines of a Deployment.
pub(super) fn deployment(spec: Fields<'_, DeploymentSpec>, causes: &mut Vec<Cause>) {
    let deadline = spec.progress_deadline_seconds();
    if deadline <= spec.min_ready_seconds() {
        let why = "must be greater than minReadySeconds";
        let value = deadline.get().into();
        causes.push(Cause::invalid("spec.progressDeadlineSeconds", &value, why));
    }
    let bounds = spec.strategy().rolling_update();
    if spec.strategy().of() == StrategyType::Recreate {
        if bounds.json().is_object() {
            let message = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
            let field = "spec.strategy.rollingUpdate".to_owned();
            causes.push(Cause { field, message: message.to_owned() });
        }
        return;
    }
    let (surge, unavailable) = (bounds.max_surge(), bounds.max_unavailable());
    let mut bound = |name: &str, given: &IntegerOrText| match read(given) {
        Ok(number) => Some(number),
        Err(why) => {
            let field = format!("spec.strategy.rollingUpdate.{name}");
            causes.push(Cause::invalid(field, &given.value(), why));
            None
        }
    };
    let numbers = (bound("maxSurge", &surge), bound("maxUnavailable", &unavailable));
    if numbers == (Some(0), Some(0)) {
        causes.push(Cause::invalid(UNAVAILABLE, &0.into(), "may not be 0 when `maxSurge` is 0"));
    }
    if matches!(unavailable, IntegerOrText::Text(_)) && numbers.1.is_some_and(|n| n > 100) {
        let why = "must not be greater than 100%";
        causes.push(Cause::invalid(UNAVAILABLE, &unavailable.value(), why));
    }
}

/// Checks how a DaemonSet replaces its pods: after the old ones or before, not both.
pub(super) fn daemon_set(spec: Fields<'_, DaemonSetSpec>, causes: &mut Vec<Cause>) {
    let strategy = spec.update_strategy();
    if strategy.of() == UpdateType::OnDelete {
        return;
    }
    let bounds = strategy.rolling_update();
    let mut bound = |name: &str, given: &IntegerOrText| match read(given) {
        Ok(number) => Some(number),
        Err(why) => {
            let field = format!("spec.updateStrategy.rollingUpdate.{name}");
            causes.push(Cause::invalid(field, &given.value(), why));
            None
        }
    };
    let (surge, unavailable) = (bounds.max_surge(), bounds.max_unavailable());
    let why = match (bound("maxSurge", &surge), bound("maxUnavailable", &unavailable)) {
        (Some(0), Some(0)) => "cannot be 0 when `maxSurge` is 0",
        (Some(surge), Some(unavailable)) if surge > 0 && unavailable > 0 => {
            "may not be set when `maxSurge` is set"
        }
        _ => return,
    };
    let field = "spec.updateStrategy.rollingUpdate.maxUnavailable";
    causes.push(Cause::invalid(field, &unavailable.value(), why));
}

/// The number of a bound or of its percentage, or what is wrong with it.
fn read(bound: &IntegerOrText) -> Result<i64, &'static str> {
    match bound {
        IntegerOrText::Integer(number) if (0..=i64::from(i32::MAX)).contains(number) => Ok(*number),
        IntegerOrText::Integer(_) => Err("must be greater than or equal to 0, and fit 32 bits"),
        IntegerOrText::Text(text) => {
            let digits = text.strip_suffix('%').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let percent = digits.and_then(|digits| digits.parse::<i32>().ok());
            percent.map(i64::from).ok_or("must be an integer or percentage (e.g '5%')")
        }
    }
}

const UNAVAILABLE: &str = "spec.strategy.rollingUpdate.maxUnavailable";

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
            deployment(DeploymentSpec::of(&json!({"strategy": strategy})), &mut causes);
            assert_eq!(causes.len(), texts.len(), "{rolling}: {causes:?}");
            for (cause, text) in causes.iter().zip(texts) {
                assert!(cause.message.contains(text), "{rolling}: {causes:?}");
            }
        }
        let mut causes = Vec::new();
        let strategy = json!({"type": "Recreate", "rollingUpdate": {}});
        deployment(DeploymentSpec::of(&json!({"strategy": strategy})), &mut causes);
        assert_eq!(causes.pop().unwrap().field, "spec.strategy.rollingUpdate");
        let spec = json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5});
        deployment(DeploymentSpec::of(&spec), &mut causes);
        assert_eq!(causes.len(), 1);
    }
}
