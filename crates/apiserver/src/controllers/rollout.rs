//! The arithmetic of a rolling update, as Kubernetes does it. Pure functions.

use ironmesh_dialects::kubernetes::kinds::RollingUpdate;
use ironmesh_dialects::schema::{Fields, IntegerOrText};

/// What a Deployment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Pods.
    pub(crate) replicas: i64,
    /// Pods above that during an update.
    pub(crate) max_surge: i64,
    /// Pods below that during an update.
    pub(crate) max_unavailable: i64,
}

/// One ReplicaSet of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// Pods that it is told to have.
    pub(crate) replicas: i64,
    /// Pods of it that take requests.
    pub(crate) available: i64,
}

impl Wanted {
    /// Reads replicas and bounds from a Deployment's strategy. Percentages of surge round up, of
    /// unavailability down; if both come to nothing, one may be unavailable.
    pub(crate) fn new(replicas: i64, bounds: Fields<'_, RollingUpdate>) -> Self {
        let max_surge = bound(&bounds.max_surge(), replicas, true);
        let mut max_unavailable = bound(&bounds.max_unavailable(), replicas, false).min(replicas);
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self { replicas, max_surge, max_unavailable }
    }

    /// How many pods the new set shall have next, given all sets.
    pub(crate) fn next_new(self, new: Set, old: &[Set]) -> i64 {
        if new.replicas >= self.replicas {
            return self.replicas;
        }
        let total: i64 = new.replicas + old.iter().map(|set| set.replicas).sum::<i64>();
        let room = (self.replicas + self.max_surge - total).max(0);
        (new.replicas + room).min(self.replicas)
    }

    /// How many pods each old set shall have next, given all sets; oldest first. Pods that do not
    /// take requests go first, for they are no loss.
    pub(crate) fn next_old(self, new: Set, old: &[Set]) -> Vec<i64> {
        let mut next: Vec<i64> = old.iter().map(|set| set.replicas).collect();
        let total: i64 = new.replicas + next.iter().sum::<i64>();
        let minimum = self.replicas - self.max_unavailable;
        let new_unavailable = (new.replicas - new.available).max(0);
        let mut surplus = (total - minimum - new_unavailable).max(0);
        if surplus == 0 {
            return next;
        }
        for (replicas, set) in next.iter_mut().zip(old) {
            let gone = (set.replicas - set.available).clamp(0, surplus);
            *replicas -= gone;
            surplus -= gone;
        }
        let available =
            new.available + old.iter().map(|set| set.available.min(set.replicas)).sum::<i64>();
        let mut spare = (available - minimum).max(0);
        for (replicas, set) in next.iter_mut().zip(old) {
            let gone = (*replicas).min(spare).min(set.available.max(0));
            *replicas -= gone;
            spare -= gone;
        }
        next
    }
}

/// A number, or a percentage of `replicas`.
fn bound(value: &IntegerOrText, replicas: i64, round_up: bool) -> i64 {
    let percentage = |percent: i64| {
        let scaled = replicas * percent;
        if round_up { (scaled + 99) / 100 } else { scaled / 100 }
    };
    match value {
        // What comes from a journal of another version may be out of the bounds of today.
        IntegerOrText::Integer(number) => (*number).clamp(0, BOUND_MAX),
        IntegerOrText::Text(text) => {
            let number = |digits: &str| digits.parse().unwrap_or(0).clamp(0, BOUND_MAX);
            text.strip_suffix('%').map_or_else(|| number(text), |digits| percentage(number(digits)))
        }
    }
}

/// Largest bound, in pods or percent: Kubernetes' are 32-bit numbers.
const BOUND_MAX: i64 = i32::MAX as i64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_round_as_kubernetes() {
        for (replicas, surge, unavailable, expected) in [
            (1, json!("25%"), json!("25%"), (1, 0)),
            (4, json!("25%"), json!("25%"), (1, 1)),
            (10, json!("25%"), json!("25%"), (3, 2)),
            (3, json!(0), json!(0), (0, 1)),
            (3, json!(2), json!(9), (2, 3)),
            (0, json!("25%"), json!("25%"), (0, 1)),
            (1, json!(i64::MAX), json!("9000000000000000000%"), (i64::from(i32::MAX), 1)),
        ] {
            let bounds = json!({"maxSurge": surge, "maxUnavailable": unavailable});
            let wanted = Wanted::new(replicas, RollingUpdate::of(&bounds));
            assert_eq!((wanted.max_surge, wanted.max_unavailable), expected, "{replicas}");
        }
    }

    /// Plays an update to its end; in each step the new pods of the step before become available.
    fn play(wanted: Wanted, mut old: Vec<Set>) -> Vec<(i64, i64)> {
        let mut new = Set { replicas: 0, available: 0 };
        let mut seen = Vec::new();
        for _ in 0..100 {
            new.replicas = wanted.next_new(new, &old);
            let next_old = wanted.next_old(new, &old);
            for (set, next) in old.iter_mut().zip(next_old) {
                set.replicas = next;
                set.available = set.available.min(next);
            }
            let total = new.replicas + old.iter().map(|s| s.replicas).sum::<i64>();
            let available = new.available + old.iter().map(|s| s.available).sum::<i64>();
            seen.push((total, available));
            if new.available == wanted.replicas && old.iter().all(|s| s.replicas == 0) {
                return seen;
            }
            new.available = new.replicas;
        }
        panic!("no end: {seen:?}");
    }

    #[test]
    fn an_update_ends_and_keeps_its_bounds() {
        for replicas in 1..12 {
            let wanted = Wanted::new(replicas, RollingUpdate::of(&json!({})));
            let steps = play(wanted, vec![Set { replicas, available: replicas }]);
            for (total, available) in steps {
                assert!(total <= replicas + wanted.max_surge, "{replicas}: {total}");
                assert!(available >= replicas - wanted.max_unavailable, "{replicas}: {available}");
            }
        }
    }

    #[test]
    fn broken_old_pods_make_room_and_a_broken_new_version_stops() {
        let wanted = Wanted::new(4, RollingUpdate::of(&json!({})));
        let broken = vec![Set { replicas: 4, available: 0 }];
        play(wanted, broken);
        let new = Set { replicas: 2, available: 0 };
        // The status of a set that was just scaled down still counts the pods that go.
        for available in [3, 4] {
            let old = [Set { replicas: 3, available }];
            assert_eq!(wanted.next_new(new, &old), 2);
            assert_eq!(wanted.next_old(new, &old), [3]);
        }
    }

    #[test]
    fn scaling_down_is_at_once() {
        let wanted = Wanted::new(1, RollingUpdate::of(&json!({})));
        assert_eq!(wanted.next_new(Set { replicas: 5, available: 5 }, &[]), 1);
    }
}
