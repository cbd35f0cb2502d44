use super::*;

fn retry(attempts: u32, on: &[&str]) -> Retry {
    let on = on.iter().map(|word| RetryOn::parse(word).unwrap()).collect();
    Retry { attempts, on, ..Retry::default() }
}

fn attempt(outcome: AttemptOutcome) -> Attempt {
    Attempt { made: 1, outcome, is_whole: true, is_idempotent: true, is_fresh: false }
}

/// What comes after an attempt whose answer, if there is one, has no headers to speak of.
fn next_of(retry: &Retry, attempt: &Attempt, draw: Draw) -> Next {
    after_attempt(Some(retry), attempt, 3, draw, |_| false)
}

fn retries(on: &[&str], outcome: AttemptOutcome) -> bool {
    let next = next_of(&retry(1, on), &attempt(outcome), Draw(1));
    matches!(next, Next::Retry { .. })
}

const RESET: AttemptOutcome = AttemptOutcome::Reset { request_sent: true, kept_connection: false };

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
        ("gateway-error", vec![answer(502), answer(504), RESET], vec![answer(500), answer(505)]),
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
            let next = next_of(&retry, &attempt, Draw(draw));
            let Next::Retry { after } = next else { panic!("{made}: {next:?}") };
            assert!(after < BACKOFF * (1 << (made - 1)), "{made}: {after:?}");
        }
    }
    let last = Attempt { made: 4, ..attempt(answered) };
    assert_eq!(next_of(&retry, &last, Draw(0)), Next::Exhausted);
    assert!(pause(BACKOFF, u32::MAX, Draw(u64::MAX)) <= BACKOFF * 10);
    // Nothing overflows, however long the pauses are.
    assert!(pause(Duration::MAX, u32::MAX, Draw(u64::MAX)) <= Duration::MAX);
}

/// Drawn from all of what Envoy's backoff allows: 25 ms, doubled each time, 250 ms at most.
#[test]
fn pauses_are_spread_over_what_envoy_allows() {
    for (made, longest) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (99, 250)] {
        let longest = Duration::from_millis(longest);
        let drawn: Vec<Duration> =
            (0..1_000).map(|draw| pause(BACKOFF, made, Draw(draw))).collect();
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
        let asked =
            outcomes.map(|outcome| is_configured(&retry(1, &[on]), &attempt(outcome), |_| false));
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
            let asked = is_configured(&retry(1, &[on]), &attempt(outcome), |_| false);
            assert_eq!(asked, statuses.contains(&status), "{on} {status}");
        }
    }
}

#[test]
fn what_may_be_sent_twice_is_tried_again_after_any_error_of_a_server() {
    let on = vec![RetryOn::Condition(RetryCondition::ServerErrorOfIdempotent)];
    let retry = Retry { attempts: 1, on, ..Retry::default() };
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
        assert_eq!(is_configured(&retry, &idempotent, |_| false), again, "{outcome:?}");
        let not = Attempt { is_idempotent: false, ..idempotent };
        assert!(!is_configured(&retry, &not, |_| false), "{outcome:?}");
    }
}

/// Who has said when to try again has said when not to.
#[test]
fn with_a_configuration_only_what_it_names_is_tried_again() {
    let refused = attempt(AttemptOutcome::Refused);
    let next = |retry: &Retry| next_of(retry, &refused, Draw(0));
    assert_eq!(next(&retry(1, &["connect-failure"])), Next::Deliver);
    assert_eq!(next(&retry(0, &["refused-stream"])), Next::Deliver);
    assert!(matches!(next(&retry(1, &["refused-stream"])), Next::Retry { .. }));
    assert_eq!(next(&Retry::default()), Next::Deliver);
}

#[test]
fn a_kept_connection_that_died_counts_as_no_attempt() {
    let outcome = AttemptOutcome::Reset { request_sent: true, kept_connection: true };
    let retry = retry(1, &["reset"]);
    assert_eq!(next_of(&retry, &attempt(outcome), Draw(0)), Next::Again);
    let not_idempotent = Attempt { is_idempotent: false, ..attempt(outcome) };
    let next = next_of(&retry, &not_idempotent, Draw(0));
    assert!(matches!(next, Next::Retry { .. }), "{next:?}");
    let gone = Attempt { is_whole: false, ..attempt(outcome) };
    assert_eq!(next_of(&retry, &gone, Draw(0)), Next::Deliver);
}

#[test]
fn what_cannot_be_sent_again_is_not() {
    let attempt = Attempt { is_whole: false, ..attempt(RESET) };
    assert_eq!(next_of(&retry(9, &["5xx", "reset"]), &attempt, Draw(0)), Next::Deliver);
}

#[test]
fn without_configuration_only_what_nobody_has_seen_goes_elsewhere() {
    let next = |outcome, made| {
        let attempt = Attempt { made, ..attempt(outcome) };
        after_attempt(None, &attempt, 3, Draw(0), |_| false)
    };
    let elsewhere = Next::Retry { after: Duration::ZERO };
    assert_eq!(next(AttemptOutcome::NotConnected, 2), elsewhere);
    assert_eq!(next(AttemptOutcome::NotConnected, 3), Next::Exhausted);
    assert_eq!(next(AttemptOutcome::Refused, 1), elsewhere);
    assert_eq!(next(RESET, 1), Next::Deliver);
    assert_eq!(next(AttemptOutcome::Answered { status: 503, grpc_status: None }, 1), Next::Deliver);
}

#[test]
fn an_idempotent_request_on_a_dead_kept_connection_is_sent_again_once() {
    let outcome = AttemptOutcome::Reset { request_sent: true, kept_connection: true };
    let next = |attempt: Attempt| after_attempt(None, &attempt, 3, Draw(0), |_| false);
    assert_eq!(next(attempt(outcome)), Next::Again);
    assert_eq!(next(Attempt { is_fresh: true, ..attempt(outcome) }), Next::Deliver);
    assert_eq!(next(Attempt { is_idempotent: false, ..attempt(outcome) }), Next::Deliver);
}

#[test]
fn words_that_are_no_conditions_are_known_as_such() {
    for word in ["", "5XX", "99", "600", "0200", "+50", "retriable", "5xx "] {
        assert_eq!(RetryOn::parse(word), None, "{word:?}");
    }
    assert_eq!(RetryOn::parse("503"), Some(RetryOn::Status(503)));
}

/// Every word of Envoy's documentation is one, and is written as it is read.
#[test]
fn conditions_are_written_as_they_are_read() {
    for word in NAMES.iter().map(|(name, _)| *name).chain(["unavailable", "internal", "418"]) {
        assert_eq!(RetryOn::parse(word).unwrap().to_string(), word);
    }
}

/// Istio's default list; `5xx` is not on it.
#[test]
fn without_configuration_an_answer_of_grpc_that_says_so_is_asked_for_again() {
    let next = |status, made, limited: bool| {
        let outcome = AttemptOutcome::Answered { status: 200, grpc_status: Some(status) };
        let attempt = Attempt { made, ..attempt(outcome) };
        after_attempt(None, &attempt, 3, Draw(7), |name| limited && name == RATE_LIMITED)
    };
    for status in 0..=16 {
        let is_again =
            matches!(next(status, 2, false), Next::Retry { after } if after < BACKOFF * 2);
        assert_eq!(is_again, matches!(status, 1 | 14), "{status}");
    }
    assert_eq!(next(14, 3, false), Next::Exhausted);
    assert_eq!(next(14, 1, true), Next::Deliver);
    // What comes in, or passes through, has one place to go to.
    let outcome = AttemptOutcome::Answered { status: 200, grpc_status: Some(14) };
    assert_eq!(after_attempt(None, &attempt(outcome), 1, Draw(0), |_| false), Next::Deliver);
}

#[test]
fn headers_of_an_answer_may_ask_for_another_attempt_or_forbid_it() {
    let header = |name: &str| Retry {
        attempts: 1,
        on: vec![RetryOn::Header(name.into())],
        ..Retry::default()
    };
    let answered = attempt(AttemptOutcome::Answered { status: 200, grpc_status: None });
    let next = |retry: &Retry, attempt: &Attempt, has: &str| {
        let next = after_attempt(Some(retry), attempt, 3, Draw(0), |name| name == has);
        matches!(next, Next::Retry { .. })
    };
    assert!(next(&header("x-again"), &answered, "x-again"));
    assert!(!next(&header("x-again"), &answered, "x-other"));
    let failed = attempt(AttemptOutcome::Answered { status: 503, grpc_status: None });
    assert!(next(&retry(1, &["5xx"]), &failed, ""));
    assert!(!next(&retry(1, &["5xx"]), &failed, RATE_LIMITED));
    assert!(next(&retry(1, &["envoy-ratelimited"]), &failed, RATE_LIMITED));
    assert!(next(&retry(1, &["5xx"]), &attempt(RESET), RATE_LIMITED), "there is no answer");
}
