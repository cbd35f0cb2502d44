//! How long a Job waits after pods that failed, as Kubernetes: the first pause doubles with each
//! failure since the last success.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_model::limits::ControlLimits;
use jiff::Timestamp;

use super::tracking;
use crate::object::Object;

/// How long no new pod is made; none if one may be made now.
pub(super) fn pause(
    limits: &ControlLimits,
    pods: &[Arc<Object>],
    now: Timestamp,
) -> Option<Duration> {
    let ended: Vec<_> = pods.iter().filter(|pod| tracking::has_ended(pod)).collect();
    let has_succeeded = |pod: &Object| Pod::of(pod).status().phase() == "Succeeded";
    let ends_where = |succeeded: bool| {
        let of = ended.iter().filter(move |pod| has_succeeded(pod) == succeeded);
        of.filter_map(|pod| ended_at(pod))
    };
    let last_success = ends_where(true).max();
    let failures = || ends_where(false).filter(|end| last_success.is_none_or(|last| *end > last));
    let last = failures().max()?;
    let doublings = u32::try_from(failures().count() - 1).unwrap_or(u32::MAX).min(16);
    let pause = limits.job_pause_min.saturating_mul(1 << doublings).min(limits.job_pause_max);
    let since = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    pause.checked_sub(since).filter(|left| !left.is_zero())
}

/// When the last container of a pod ended.
fn ended_at(pod: &Object) -> Option<Timestamp> {
    let read = Pod::of(pod);
    let containers = read.status().container_statuses();
    let ends = containers.filter_map(|container| container.state().terminated());
    let last = ends.filter_map(|end| end.finished_at().parse().ok()).max();
    last.or_else(|| read.metadata().deletion_timestamp()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pauses_double_with_each_failure_since_the_last_success() {
        let pod = |phase: &str, second: i64| {
            let end = Timestamp::from_second(second).unwrap().to_string();
            Arc::new(json!({"status": {
                "phase": phase,
                "containerStatuses": [{"state": {"terminated": {"finishedAt": end}}}],
            }}))
        };
        let limits = ControlLimits::default();
        let left = |pods: &[Arc<Object>], second| {
            let now = Timestamp::from_second(second).unwrap();
            pause(&limits, pods, now).map(|pause| pause.as_secs())
        };
        let mut pods = vec![pod("Running", 90)];
        assert_eq!(left(&pods, 100), None);
        for (second, expected) in [(100, 10), (101, 20), (102, 40), (103, 80)] {
            pods.push(pod("Failed", second));
            assert_eq!(left(&pods, second), Some(expected));
        }
        assert_eq!(left(&pods, 182), Some(1));
        assert_eq!(left(&pods, 183), None);
        pods.push(pod("Succeeded", 110));
        assert_eq!(left(&pods, 110), None);
        pods.push(pod("Failed", 111));
        assert_eq!(left(&pods, 111), Some(10));
        // The clock may be set back.
        assert_eq!(left(&pods, 50), Some(10));
        for second in 112..140 {
            pods.push(pod("Failed", second));
        }
        assert_eq!(left(&pods, 139), Some(600));
    }
}
