//! `retries` of a rule.

use ironmesh_model::FindingCode;
use ironmesh_model::retry::{Retry, RetryCondition, RetryOn};

use super::{Retries, Translator};
use crate::path::field;

impl Translator<'_> {
    /// `retries`. Without `retryOn` there is a default list.
    pub(super) fn retry(&mut self, given: &Retries, path: &str) -> Retry {
        let path = field(&field(path, "retries"), "retryOn");
        let words = given.retry_on.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut on = Vec::new();
        let mut any = false;
        for word in words {
            any = true;
            match RetryOn::parse(word) {
                Some(condition) => on.push(condition),
                None => {
                    let message = format!("{word:?} is no condition for a retry");
                    self.report(path.clone(), FindingCode::Invalid, message);
                }
            }
        }
        if !any {
            on.extend(DEFAULT);
        }
        let attempts = u32::try_from(given.attempts.0).unwrap_or_default();
        let per_try_timeout = given.per_try_timeout.filter(|timeout| !timeout.is_zero());
        Retry {
            attempts,
            per_try_timeout,
            on,
            backoff: given.backoff.unwrap_or(Retry::default().backoff),
            avoids_tried: given.retry_ignore_previous_hosts.unwrap_or(true),
            leaves_localities: given.retry_remote_localities == Some(true),
        }
    }
}

/// What all of Istio's releases try again without `retryOn`: `connect-failure`, `refused-stream`, and of
/// gRPC `unavailable` and `cancelled`. Those up to 1.0 had `5xx` beside it, so that an attempt that
/// took too long was tried again, too, and later ones have 503; from 1.24 on not where the request
/// may do harm when it is sent twice. So it is here, for all of `5xx`.
const DEFAULT: [RetryOn; 5] = [
    RetryOn::Condition(RetryCondition::ConnectFailure),
    RetryOn::Condition(RetryCondition::RefusedStream),
    RetryOn::Grpc(14),
    RetryOn::Grpc(1),
    RetryOn::Condition(RetryCondition::ServerErrorOfIdempotent),
];
