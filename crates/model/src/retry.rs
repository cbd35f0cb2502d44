//! What is done after an attempt: deliver what came of it, or try again.
//!
//! Deterministic in its arguments, so that `explain` and tests can replay it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::draw::{Draw, Purpose};
use crate::name::Name;

mod asked;
mod grpc_timeout;

pub use asked::{ATTEMPT_COUNT, Asked};
pub use grpc_timeout::{grpc_timeout, grpc_timeout_text};

/// When and how often a request is tried again (`retries` of a `VirtualService`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts after the first.
    pub attempts: u32,
    /// Longest time of one attempt; `None`: only the route's timeout counts.
    pub per_try_timeout: Option<Duration>,
    /// What is tried again.
    pub on: Vec<RetryOn>,
    /// Longest pause before the first retry; doubled with each that follows, up to ten times.
    /// Default: 25 ms, as Envoy.
    pub backoff: Duration,
    /// Whether endpoints that were tried are passed over while there are others
    /// (`retryIgnorePreviousHosts`). Default: they are.
    pub avoids_tried: bool,
    /// Whether, with each second attempt, localities whose endpoints were tried are left for others
    /// while there are others (`retryRemoteLocalities`). Default: they are not.
    pub leaves_localities: bool,
}

impl Default for Retry {
    /// Nothing, with Envoy's pauses.
    fn default() -> Self {
        Self {
            attempts: 0,
            per_try_timeout: None,
            on: Vec::new(),
            backoff: BACKOFF,
            avoids_tried: true,
            leaves_localities: false,
        }
    }
}

impl Retry {
    fn asks_for(&self, condition: RetryCondition) -> bool {
        self.on.contains(&RetryOn::Condition(condition))
    }
}

/// What is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RetryOn {
    /// A condition.
    Condition(RetryCondition),
    /// A status: `retriable-status-codes` with its list, as Istio writes both in one.
    Status(u16),
    /// `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`: this
    /// status of gRPC, if the head of the answer tells it.
    Grpc(u8),
    /// `retriable-headers`: an answer that has this header. Only a request asks for it, by
    /// `x-envoy-retriable-header-names`.
    Header(Name),
}

/// A condition of Envoy's `x-envoy-retry-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RetryCondition {
    /// `5xx`: any answer of 500 to 599, or none at all.
    ServerError,
    /// `gateway-error`: 502, 503 or 504, or none at all.
    GatewayError,
    /// `reset`: the endpoint gave no answer.
    Reset,
    /// `reset-before-request`: the endpoint broke off before the request was sent whole.
    ResetBeforeRequest,
    /// `connect-failure`: no connection to the endpoint could be made.
    ConnectFailure,
    /// `refused-stream`: the endpoint refused the stream unseen.
    RefusedStream,
    /// `retriable-4xx`: 409.
    Retriable4xx,
    /// `retriable-status-codes`: the statuses beside it, and those that a request names in
    /// `x-envoy-retriable-status-codes`.
    StatusCodes,
    /// `retriable-headers`: answers with the headers that a request names in
    /// `x-envoy-retriable-header-names`.
    Headers,
    /// `envoy-ratelimited`: an answer with `x-envoy-ratelimited`, which else is never tried again.
    RateLimited,
    /// `http3-post-connect-failure`: cannot happen, since nobody is spoken to in HTTP/3.
    Http3,
    /// `5xx`, but of requests only that may be sent twice (RFC 9110, section 9.2.2). No word of
    /// `retryOn`: who declares retries and leaves it out has this.
    ServerErrorOfIdempotent,
}

impl RetryOn {
    /// Reads one word of Istio's `retryOn`. `None`: there is no such condition.
    pub fn parse(word: &str) -> Option<Self> {
        let named = NAMES.iter().find(|(name, _)| *name == word);
        if let Some((_, condition)) = named {
            return Some(Self::Condition(*condition));
        }
        if let Some((_, status)) = GRPC_NAMES.iter().find(|(name, _)| *name == word) {
            return Some(Self::Grpc(*status));
        }
        let is_number = word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit());
        let status: u16 = is_number.then(|| word.parse().ok()).flatten()?;
        (100..=599).contains(&status).then_some(Self::Status(status))
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition(RetryCondition::ServerErrorOfIdempotent) => {
                f.write_str("5xx of idempotent methods")
            }
            Self::Condition(own) => {
                let named = NAMES.iter().find(|(_, condition)| condition == own);
                f.write_str(named.map_or("", |(name, _)| name))
            }
            Self::Grpc(own) => match GRPC_NAMES.iter().find(|(_, status)| status == own) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "gRPC status {own}"),
            },
            Self::Status(status) => write!(f, "{status}"),
            Self::Header(name) => write!(f, "header {name}"),
        }
    }
}

/// Envoy's names of conditions.
const NAMES: [(&str, RetryCondition); 11] = [
    ("5xx", RetryCondition::ServerError),
    ("gateway-error", RetryCondition::GatewayError),
    ("reset", RetryCondition::Reset),
    ("reset-before-request", RetryCondition::ResetBeforeRequest),
    ("connect-failure", RetryCondition::ConnectFailure),
    ("refused-stream", RetryCondition::RefusedStream),
    ("retriable-4xx", RetryCondition::Retriable4xx),
    ("retriable-status-codes", RetryCondition::StatusCodes),
    ("retriable-headers", RetryCondition::Headers),
    ("envoy-ratelimited", RetryCondition::RateLimited),
    ("http3-post-connect-failure", RetryCondition::Http3),
];

/// Those that stand for a status of gRPC.
const GRPC_NAMES: [(&str, u8); 5] = [
    ("cancelled", 1),
    ("deadline-exceeded", 4),
    ("resource-exhausted", 8),
    ("internal", 13),
    ("unavailable", 14),
];

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// No connection to the endpoint could be made.
    NotConnected,
    /// The endpoint, or its proxy, said that it has not seen the request.
    Refused,
    /// The connection ended without an answer.
    Reset {
        /// Whether the whole request had been sent.
        request_sent: bool,
        /// Whether the connection had been kept from before, so that the endpoint had most likely
        /// closed it before the request came.
        kept_connection: bool,
    },
    /// The endpoint did not answer within the time of one attempt.
    TimedOut,
    /// The head of an answer came.
    Answered {
        /// Its status.
        status: u16,
        /// The status of gRPC in it.
        grpc_status: Option<u8>,
    },
}

/// An attempt, and what is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Attempts that were made, this one included.
    pub made: u32,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// Whether what was sent can be sent again.
    pub is_whole: bool,
    /// Whether the method is idempotent (RFC 9110, section 9.2.2).
    pub is_idempotent: bool,
    /// Whether one attempt was made already by a fresh connection after a kept one had died.
    pub is_fresh: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Give the client what came of it.
    Deliver,
    /// The same, of what would be tried again, if as many attempts had not been made as are allowed.
    Exhausted,
    /// The same, if as many retries are under way as the policy of the destination allows.
    Overflow,
    /// Try once more after this pause, at another endpoint if there is one.
    Retry {
        /// How long to wait before.
        after: Duration,
    },
    /// Try once more at once, by a new connection and not by one that was kept: the attempt does
    /// not count, since the endpoint has most likely not seen it.
    Again,
}

/// Decides what is done after an attempt. `retry`: `None`, if nobody has configured it: then what
/// Istio does by default, up to `attempts_max` attempts (1: none is followed by another).
/// `answer_has`: whether the answer, if there is one, has a header of this lower-case name.
pub fn after_attempt(
    retry: Option<&Retry>,
    attempt: &Attempt,
    attempts_max: u32,
    draw: Draw,
    answer_has: impl Fn(&str) -> bool,
) -> Next {
    if !attempt.is_whole {
        return Next::Deliver;
    }
    if let AttemptOutcome::Reset { kept_connection: true, .. } = attempt.outcome
        && attempt.is_idempotent
        && !attempt.is_fresh
    {
        return Next::Again;
    }
    let Some(retry) = retry else { return by_default(attempt, attempts_max, draw, answer_has) };
    if retry.attempts == 0 || !is_configured(retry, attempt, &answer_has) {
        return Next::Deliver;
    }
    if attempt.made > retry.attempts {
        return Next::Exhausted;
    }
    Next::Retry { after: pause(retry.backoff, attempt.made, draw) }
}

/// Where nobody has configured retries: Istio's `connect-failure,refused-stream,unavailable,cancelled`.
/// What no endpoint has seen goes elsewhere at once.
fn by_default(
    attempt: &Attempt,
    attempts_max: u32,
    draw: Draw,
    answer_has: impl Fn(&str) -> bool,
) -> Next {
    let after = match attempt.outcome {
        AttemptOutcome::NotConnected | AttemptOutcome::Refused => Duration::ZERO,
        AttemptOutcome::Answered { grpc_status: Some(1 | 14), .. } if !answer_has(RATE_LIMITED) => {
            pause(BACKOFF, attempt.made, draw)
        }
        _ => return Next::Deliver,
    };
    match attempts_max {
        0 | 1 => Next::Deliver,
        _ if attempt.made < attempts_max => Next::Retry { after },
        _ => Next::Exhausted,
    }
}

/// Whether the outcome of an attempt is one that the configuration names.
fn is_configured(retry: &Retry, attempt: &Attempt, answer_has: impl Fn(&str) -> bool) -> bool {
    use RetryCondition::{
        ConnectFailure, GatewayError, RefusedStream, Reset, ResetBeforeRequest, Retriable4xx,
        ServerError, ServerErrorOfIdempotent,
    };
    let any = |conditions: &[RetryCondition]| conditions.iter().any(|c| retry.asks_for(*c));
    let is_answer = matches!(attempt.outcome, AttemptOutcome::Answered { .. });
    if is_answer && answer_has(RATE_LIMITED) {
        return retry.asks_for(RetryCondition::RateLimited);
    }
    let is_error = !matches!(attempt.outcome, AttemptOutcome::Answered { status, .. } if !(500..=599).contains(&status));
    if is_error && attempt.is_idempotent && retry.asks_for(ServerErrorOfIdempotent) {
        return true;
    }
    match attempt.outcome {
        AttemptOutcome::NotConnected => {
            any(&[ConnectFailure, ServerError, GatewayError, Reset, ResetBeforeRequest])
        }
        AttemptOutcome::Refused => any(&[RefusedStream, ServerError, GatewayError, Reset]),
        AttemptOutcome::Reset { request_sent, .. } => {
            any(&[Reset, ServerError, GatewayError])
                || (!request_sent && retry.asks_for(ResetBeforeRequest))
        }
        // For Envoy it has reset the stream then.
        AttemptOutcome::TimedOut => any(&[Reset, ServerError, GatewayError]),
        AttemptOutcome::Answered { status, grpc_status } => {
            ((500..=599).contains(&status) && retry.asks_for(ServerError))
                || (matches!(status, 502..=504) && retry.asks_for(GatewayError))
                || (status == 409 && retry.asks_for(Retriable4xx))
                || retry.on.contains(&RetryOn::Status(status))
                || grpc_status.is_some_and(|status| retry.on.contains(&RetryOn::Grpc(status)))
                || retry.on.iter().any(|on| matches!(on, RetryOn::Header(name) if answer_has(name)))
        }
    }
}

/// How long to wait before the attempt behind the first `made`: drawn from 0 to the base doubled
/// with each attempt, up to ten times, as Envoy does.
fn pause(base: Duration, made: u32, draw: Draw) -> Duration {
    let longest = base.saturating_mul(1 << made.saturating_sub(1).min(16));
    let longest = longest.min(base.saturating_mul(10));
    let microseconds = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(draw.choose(Purpose::Backoff, u64::from(made), microseconds))
}

/// Envoy's default `base_interval`.
const BACKOFF: Duration = Duration::from_millis(25);
/// What Envoy's rate limiting says of an answer.
const RATE_LIMITED: &str = "x-envoy-ratelimited";

#[cfg(test)]
mod tests;
