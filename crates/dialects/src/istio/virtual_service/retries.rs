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
                // It says that the numbers beside it count.
                None if word == "retriable-status-codes" => {}
                None if NOT_HONOURED.contains(&word) => {
                    let message = format!("{word:?} is not honoured yet");
                    self.report(path.clone(), FindingCode::NotHonoured, message);
                }
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
        match on.is_empty() {
            // None of the conditions can be used, so nothing is retried. Which condition it is not
            // retried on does not matter, but for that there is one: the proxy's own rules are for
            // those who say nothing.
            true => Retry { attempts: 0, per_try_timeout, on: DEFAULT.to_vec() },
            false => Retry { attempts, per_try_timeout, on },
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

/// Conditions of Envoy that the proxy cannot tell yet.
const NOT_HONOURED: [&str; 3] =
    ["retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"];
