//! Outlier detection: what attempts say about an endpoint, and which endpoints get no requests for a
//! while. As Envoy counts, with time as an argument: an ejection lapses by comparison.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{EndpointState, Group, Member, Members, Tick};
use crate::policy::OutlierDetection;

/// What an attempt says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It answered, and not with an error of its own; or took an opaque connection.
    Success,
    /// It answered with another 5xx than 502, 503 and 504.
    ServerError,
    /// It answered 502, 503 or 504.
    GatewayError,
    /// It gave no answer: it could not be reached, broke off, or took too long.
    NoAnswer,
}

impl Noted {
    /// What an answer of this status says. Of gRPC's statuses those count that Envoy takes for a
    /// status of 5xx.
    pub fn answer(status: u16, grpc_status: Option<u8>) -> Self {
        match (status, grpc_status) {
            (502..=504, _) | (_, Some(4 | 14)) => Self::GatewayError,
            (500.., _) | (_, Some(2 | 12 | 13 | 15)) => Self::ServerError,
            _ => Self::Success,
        }
    }
}

impl Group {
    /// Notes what came of an attempt at an endpoint, and ejects the endpoint if that was one failure
    /// too many.
    pub fn note(&self, member: &Member, noted: Noted, now: impl FnOnce() -> Tick) {
        let state = &member.state;
        if noted != Noted::Success {
            state.failed.fetch_add(1, Ordering::Relaxed);
        }
        let policy = self.policy.load();
        let Some(outlier) = &policy.traffic.outlier else { return };
        if noted == Noted::Success {
            state.restart();
            return;
        }
        let now = now();
        // What had begun before an ejection makes it no longer, and says nothing about the time after.
        if state.is_ejected(now) {
            return;
        }
        let is_too_many = match (noted, outlier.consecutive_local) {
            (Noted::NoAnswer, Some(most)) => is_too_many(&state.local_failures, most),
            (noted, split) => {
                if split.is_some() {
                    restart(&state.local_failures);
                }
                let gateway = if noted == Noted::ServerError {
                    restart(&state.gateway_failures);
                    false
                } else {
                    is_too_many(&state.gateway_failures, outlier.consecutive_gateway)
                };
                is_too_many(&state.failures, outlier.consecutive_5xx) || gateway
            }
        };
        if is_too_many {
            self.eject(state, outlier, now);
        }
    }

    /// Ejects an endpoint, unless too many others are: as Envoy counts, those with it may be no more
    /// than the share that the policy allows. Each ejection lasts longer by the base, and each
    /// interval that the endpoint does well takes one off.
    fn eject(&self, state: &EndpointState, outlier: &OutlierDetection, now: Tick) {
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_ejected(now) {
            return;
        }
        state.restart();
        let members = self.members.load();
        let (ejected, all) = members.ejected(now);
        let share_max = usize::from(outlier.max_ejection_percent.min(100));
        if (ejected + 1) * 100 > share_max * all {
            return;
        }
        let interval = milliseconds(outlier.interval).max(1);
        let well_since = state.ejected_until.load(Ordering::Relaxed);
        let well_for = u32::try_from((now.0 - well_since) / interval).unwrap_or(u32::MAX);
        let times = state.ejections.load(Ordering::Relaxed).saturating_sub(well_for) + 1;
        let longest = outlier.base_ejection.max(EJECTION_MAX);
        let lasts = outlier.base_ejection.saturating_mul(times).min(longest);
        // It comes back when it is looked at.
        let until = now.after(lasts).0.checked_next_multiple_of(interval).unwrap_or(u64::MAX);
        state.ejected_until.store(until, Ordering::Relaxed);
        self.ejects_until.fetch_max(until, Ordering::Relaxed);
        state.ejections.store(times, Ordering::Relaxed);
    }

    /// Whether a member is passed over since it is ejected.
    pub fn is_ejected(&self, member: &Member, now: Tick) -> bool {
        let policy = self.policy.load();
        let passes = |outlier| self.members.load().passes_over_ejected(outlier, now);
        member.state.is_ejected(now) && policy.traffic.outlier.as_ref().is_some_and(passes)
    }
}

impl EndpointState {
    /// Begins all counts anew.
    fn restart(&self) {
        restart(&self.failures);
        restart(&self.gateway_failures);
        restart(&self.local_failures);
    }
}

impl Members {
    /// Whether those that are ejected are passed over: not where too few others are left.
    pub(super) fn passes_over_ejected(&self, outlier: &OutlierDetection, now: Tick) -> bool {
        let percent_min = usize::from(outlier.min_health_percent);
        if percent_min == 0 {
            return true;
        }
        let (ejected, all) = self.ejected(now);
        (all - ejected) * 100 >= percent_min * all
    }

    /// How many are ejected, and of how many: those that take requests.
    fn ejected(&self, now: Tick) -> (usize, usize) {
        let ready = self.ready.iter().filter_map(|index| self.all.get(*index as usize));
        let ejected = ready.filter(|member| member.state.is_ejected(now)).count();
        (ejected, self.ready.len())
    }
}

/// Counts one more failure, and says whether that is one too many; 0: none is.
fn is_too_many(count: &AtomicU32, most: u32) -> bool {
    let failures = count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    most > 0 && failures >= most
}

/// Begins a count anew. Seldom there is anything to write.
fn restart(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Envoy's default of `max_ejection_time`, unless the base is longer.
const EJECTION_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
