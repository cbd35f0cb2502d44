//! What is done after an attempt: deliver what came of it, or try again.
//!
//! Deterministic in its arguments, so that `explain` and tests can replay it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::draw::{Draw, Purpose};

/// When and how often a request is tried again (`retries` of a `VirtualService`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts after the first.
    pub attempts: u32,
    /// Longest time of one attempt; `None`: only the route's timeout counts.
    pub per_try_timeout: Option<Duration>,
    /// What is tried again.
    pub on: Vec<RetryOn>,
}

impl Retry {
    /// What is done where nobody configured retries: what no endpoint has seen goes to another one,
    /// as often as the proxy's own limits allow, and nothing else is tried again.
    pub fn unconfigured() -> &'static Self {
        static UNCONFIGURED: Retry = Retry { attempts: 0, per_try_timeout: None, on: Vec::new() };
        &UNCONFIGURED
    }

    fn asks_for(&self, condition: RetryCondition) -> bool {
        self.on.contains(&RetryOn::Condition(condition))
    }
}

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RetryOn {
    /// A condition.
    Condition(RetryCondition),
    /// A status: `retriable-status-codes` with its list, as Istio writes both in one.
    Status(u16),
    /// `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`: this
    /// status of gRPC, if the head of the answer tells it.
    Grpc(u8),
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
    /// `5xx`, but of requests only that may be sent twice (RFC 9110, section 9.2.2). No word of
    /// `retryOn`: who declares retries and leaves it out has this.
    ServerErrorOfIdempotent,
}

impl RetryOn {
    /// Reads one word of Istio's `retryOn`. `None`: there is no such condition, or none that can
    /// happen here.
    pub fn parse(word: &str) -> Option<Self> {
        let named = NAMES.iter().find(|(name, _)| *name == word).map(|(_, condition)| *condition);
        named.or_else(|| {
            let is_number = word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit());
            let status: u16 = is_number.then(|| word.parse().ok()).flatten()?;
            (100..=599).contains(&status).then_some(Self::Status(status))
        })
    }
}

/// Envoy's names of conditions. Those of gRPC stand for its status codes.
const NAMES: [(&str, RetryOn); 12] = {
    use RetryOn::{Condition, Grpc};
    [
        ("5xx", Condition(RetryCondition::ServerError)),
        ("gateway-error", Condition(RetryCondition::GatewayError)),
        ("reset", Condition(RetryCondition::Reset)),
        ("reset-before-request", Condition(RetryCondition::ResetBeforeRequest)),
        ("connect-failure", Condition(RetryCondition::ConnectFailure)),
        ("refused-stream", Condition(RetryCondition::RefusedStream)),
        ("retriable-4xx", Condition(RetryCondition::Retriable4xx)),
        ("cancelled", Grpc(1)),
        ("deadline-exceeded", Grpc(4)),
        ("resource-exhausted", Grpc(8)),
        ("internal", Grpc(13)),
        ("unavailable", Grpc(14)),
    ]
};

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
    /// Try once more after this pause, at another endpoint if there is one.
    Retry {
        /// How long to wait before.
        after: Duration,
    },
    /// Try once more at once, by a new connection and not by one that was kept: the attempt does
    /// not count, since the endpoint has most likely not seen it.
    Again,
}

/// Decides what is done after an attempt. `places_max`: endpoints that are tried, where nobody
/// configured retries, while none has seen the request.
pub fn after_attempt(retry: &Retry, attempt: &Attempt, places_max: u32, draw: Draw) -> Next {
    if !attempt.is_whole {
        return Next::Deliver;
    }
    if let AttemptOutcome::Reset { kept_connection: true, .. } = attempt.outcome
        && attempt.is_idempotent
        && !attempt.is_fresh
    {
        return Next::Again;
    }
    if is_configured(retry, attempt) && attempt.made <= retry.attempts {
        return Next::Retry { after: pause(attempt.made, draw) };
    }
    match attempt.outcome {
        AttemptOutcome::NotConnected | AttemptOutcome::Refused
            if attempt.made < places_max && retry.on.is_empty() =>
        {
            Next::Retry { after: Duration::ZERO }
        }
        _ => Next::Deliver,
    }
}

/// Whether the outcome of an attempt is one that the configuration names.
fn is_configured(retry: &Retry, attempt: &Attempt) -> bool {
    use RetryCondition::{
        ConnectFailure, GatewayError, RefusedStream, Reset, ResetBeforeRequest, Retriable4xx,
        ServerError, ServerErrorOfIdempotent,
    };
    let any = |conditions: &[RetryCondition]| conditions.iter().any(|c| retry.asks_for(*c));
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
        }
    }
}

/// How long to wait before the attempt behind the first `made`: drawn from 0 to the base doubled
/// with each attempt, as Envoy's default is.
fn pause(made: u32, draw: Draw) -> Duration {
    let longest = PAUSE_BASE.saturating_mul(1 << made.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let drawn = draw.choose(Purpose::Backoff, u64::from(made), longest.as_micros() as u64);
    Duration::from_micros(drawn)
}

/// Envoy's default `base_interval`.
const PAUSE_BASE: Duration = Duration::from_millis(25);
/// Envoy's default `max_interval`: ten times the base.
const PAUSE_MAX: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(attempts: u32, on: &[&str]) -> Retry {
        let on = on.iter().map(|word| RetryOn::parse(word).unwrap()).collect();
        Retry { attempts, per_try_timeout: None, on }
    }

    fn attempt(outcome: AttemptOutcome) -> Attempt {
        Attempt { made: 1, outcome, is_whole: true, is_idempotent: true, is_fresh: false }
    }

    fn retries(on: &[&str], outcome: AttemptOutcome) -> bool {
        let next = after_attempt(&retry(1, on), &attempt(outcome), 3, Draw(1));
        matches!(next, Next::Retry { .. })
    }

    const RESET: AttemptOutcome =
        AttemptOutcome::Reset { request_sent: true, kept_connection: false };

    #[test]
    fn each_condition_names_its_outcomes() {
        let answer = |status| AttemptOutcome::Answered { status, grpc_status: None };
        let grpc = |status| AttemptOutcome::Answered { status: 200, grpc_status: Some(status) };
        let early = AttemptOutcome::Reset { request_sent: false, kept_connection: false };
        for (on, again, not) in [
            (
                "5xx",
                vec![answer(500), answer(599), RESET, AttemptOutcome::TimedOut],
                vec![answer(499), answer(200)],
            ),
            (
                "gateway-error",
                vec![answer(502), answer(504), RESET],
                vec![answer(500), answer(505)],
            ),
            (
                "reset",
                vec![RESET, early, AttemptOutcome::NotConnected, AttemptOutcome::TimedOut],
                vec![answer(503)],
            ),
            ("reset-before-request", vec![early], vec![RESET, answer(503)]),
            ("connect-failure", vec![AttemptOutcome::NotConnected], vec![RESET, answer(503)]),
            (
                "refused-stream",
                vec![AttemptOutcome::Refused],
                vec![RESET, AttemptOutcome::NotConnected],
            ),
            ("retriable-4xx", vec![answer(409)], vec![answer(404), answer(503)]),
            ("418", vec![answer(418)], vec![answer(419), RESET]),
            ("unavailable", vec![grpc(14)], vec![grpc(13), grpc(0), answer(503)]),
            ("cancelled", vec![grpc(1)], vec![grpc(4)]),
        ] {
            for outcome in again {
                assert!(retries(&[on], outcome), "{on} {outcome:?}");
            }
            for outcome in not {
                assert!(!retries(&[on], outcome), "{on} {outcome:?}");
            }
        }
    }

    #[test]
    fn attempts_are_counted_and_pauses_grow_within_their_bounds() {
        let answered = AttemptOutcome::Answered { status: 503, grpc_status: None };
        let retry = retry(3, &["5xx"]);
        for made in 1..=3 {
            let attempt = Attempt { made, ..attempt(answered) };
            for draw in 0..100 {
                let next = after_attempt(&retry, &attempt, 3, Draw(draw));
                let Next::Retry { after } = next else { panic!("{made}: {next:?}") };
                assert!(after < PAUSE_BASE * (1 << (made - 1)), "{made}: {after:?}");
            }
        }
        let last = Attempt { made: 4, ..attempt(answered) };
        assert_eq!(after_attempt(&retry, &last, 3, Draw(0)), Next::Deliver);
        assert!(pause(u32::MAX, Draw(u64::MAX)) <= PAUSE_MAX);
    }

    /// Drawn from all of what Envoy's backoff allows: 25 ms, doubled each time, 250 ms at most.
    #[test]
    fn pauses_are_spread_over_what_envoy_allows() {
        for (made, longest) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (99, 250)] {
            let longest = Duration::from_millis(longest);
            let drawn: Vec<Duration> = (0..1_000).map(|draw| pause(made, Draw(draw))).collect();
            assert!(drawn.iter().all(|pause| *pause < longest), "{made}");
            let sum: Duration = drawn.iter().sum();
            // The mean of 1 000 even draws is off by more than 6 % once in 10^10 times.
            let mean = sum / 1_000;
            assert!(mean.abs_diff(longest / 2) < longest / 16, "{made}: {mean:?}");
        }
    }

    #[test]
    fn without_an_answer_each_condition_that_covers_it_asks_for_another_attempt() {
        let unsent = AttemptOutcome::Reset { request_sent: false, kept_connection: false };
        let outcomes = [
            AttemptOutcome::NotConnected,
            AttemptOutcome::Refused,
            unsent,
            RESET,
            AttemptOutcome::TimedOut,
        ];
        for (on, expected) in [
            ("5xx", [true, true, true, true, true]),
            ("gateway-error", [true, true, true, true, true]),
            ("reset", [true, true, true, true, true]),
            ("reset-before-request", [true, false, true, false, false]),
            ("connect-failure", [true, false, false, false, false]),
            ("refused-stream", [false, true, false, false, false]),
            ("retriable-4xx", [false, false, false, false, false]),
            ("503", [false, false, false, false, false]),
            ("unavailable", [false, false, false, false, false]),
        ] {
            let asked = outcomes.map(|outcome| is_configured(&retry(1, &[on]), &attempt(outcome)));
            assert_eq!(asked, expected, "{on}");
        }
        for (on, statuses) in [
            ("5xx", 500..=599),
            ("gateway-error", 502..=504),
            ("retriable-4xx", 409..=409),
            ("404", 404..=404),
        ] {
            for status in 100..=600 {
                let outcome = AttemptOutcome::Answered { status, grpc_status: None };
                let asked = is_configured(&retry(1, &[on]), &attempt(outcome));
                assert_eq!(asked, statuses.contains(&status), "{on} {status}");
            }
        }
    }

    #[test]
    fn what_may_be_sent_twice_is_tried_again_after_any_error_of_a_server() {
        let on = vec![RetryOn::Condition(RetryCondition::ServerErrorOfIdempotent)];
        let retry = Retry { attempts: 1, per_try_timeout: None, on };
        let answer = |status| AttemptOutcome::Answered { status, grpc_status: None };
        for (outcome, again) in [
            (AttemptOutcome::NotConnected, true),
            (AttemptOutcome::Refused, true),
            (RESET, true),
            (AttemptOutcome::TimedOut, true),
            (answer(500), true),
            (answer(599), true),
            (answer(200), false),
            (answer(409), false),
            (answer(499), false),
        ] {
            let idempotent = attempt(outcome);
            assert_eq!(is_configured(&retry, &idempotent), again, "{outcome:?}");
            let not = Attempt { is_idempotent: false, ..idempotent };
            assert!(!is_configured(&retry, &not), "{outcome:?}");
        }
    }

    /// Who has said when to try again has said when not to.
    #[test]
    fn with_a_configuration_only_what_it_names_is_tried_again() {
        let refused = attempt(AttemptOutcome::Refused);
        let next = |retry: &Retry| after_attempt(retry, &refused, 3, Draw(0));
        assert_eq!(next(&retry(1, &["connect-failure"])), Next::Deliver);
        assert_eq!(next(&retry(0, &["refused-stream"])), Next::Deliver);
        assert!(matches!(next(&retry(1, &["refused-stream"])), Next::Retry { .. }));
        let switched_off = Retry { attempts: 0, ..Retry::unconfigured().clone() };
        assert_eq!(next(&switched_off), Next::Retry { after: Duration::ZERO });
    }

    #[test]
    fn a_kept_connection_that_died_counts_as_no_attempt() {
        let outcome = AttemptOutcome::Reset { request_sent: true, kept_connection: true };
        let retry = retry(1, &["reset"]);
        assert_eq!(after_attempt(&retry, &attempt(outcome), 3, Draw(0)), Next::Again);
        let not_idempotent = Attempt { is_idempotent: false, ..attempt(outcome) };
        let next = after_attempt(&retry, &not_idempotent, 3, Draw(0));
        assert!(matches!(next, Next::Retry { .. }), "{next:?}");
        let gone = Attempt { is_whole: false, ..attempt(outcome) };
        assert_eq!(after_attempt(&retry, &gone, 3, Draw(0)), Next::Deliver);
    }

    #[test]
    fn what_cannot_be_sent_again_is_not() {
        let attempt = Attempt { is_whole: false, ..attempt(RESET) };
        assert_eq!(
            after_attempt(&retry(9, &["5xx", "reset"]), &attempt, 9, Draw(0)),
            Next::Deliver
        );
    }

    #[test]
    fn without_configuration_only_what_nobody_has_seen_goes_elsewhere() {
        let next = |outcome, made| {
            let attempt = Attempt { made, ..attempt(outcome) };
            after_attempt(Retry::unconfigured(), &attempt, 3, Draw(0))
        };
        let elsewhere = Next::Retry { after: Duration::ZERO };
        assert_eq!(next(AttemptOutcome::NotConnected, 2), elsewhere);
        assert_eq!(next(AttemptOutcome::NotConnected, 3), Next::Deliver);
        assert_eq!(next(AttemptOutcome::Refused, 1), elsewhere);
        assert_eq!(next(RESET, 1), Next::Deliver);
        assert_eq!(
            next(AttemptOutcome::Answered { status: 503, grpc_status: None }, 1),
            Next::Deliver
        );
    }

    #[test]
    fn an_idempotent_request_on_a_dead_kept_connection_is_sent_again_once() {
        let outcome = AttemptOutcome::Reset { request_sent: true, kept_connection: true };
        let next = |attempt: Attempt| after_attempt(Retry::unconfigured(), &attempt, 3, Draw(0));
        assert_eq!(next(attempt(outcome)), Next::Again);
        assert_eq!(next(Attempt { is_fresh: true, ..attempt(outcome) }), Next::Deliver);
        assert_eq!(next(Attempt { is_idempotent: false, ..attempt(outcome) }), Next::Deliver);
    }

    #[test]
    fn words_that_are_no_conditions_are_known_as_such() {
        for word in ["", "5XX", "99", "600", "0200", "+50", "retriable-status-codes", "5xx "] {
            assert_eq!(RetryOn::parse(word), None, "{word:?}");
        }
        assert_eq!(RetryOn::parse("503"), Some(RetryOn::Status(503)));
    }
}
