//! What a request itself says about its attempts: Envoy's headers, as applications of the mesh send
//! them. They are taken off, so that the endpoint does not see them.

use std::net::IpAddr;
use std::time::Duration;

use super::{Retry, RetryCondition, RetryOn};
use crate::request::HeaderLookup;

/// What holds for one request instead of what its rule says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Longest time of the request; `None`: as the rule says. Zero: no limit.
    pub timeout: Option<Duration>,
    /// Longest time of one attempt, likewise.
    pub per_try_timeout: Option<Duration>,
    /// When it is tried again; `None`: as the rule says.
    pub retry: Option<Retry>,
}

impl Asked {
    /// Reads the headers of a request. `rule`: what its rule says about retries, to which they add.
    pub fn of(headers: &dyn HeaderLookup, rule: Option<&Retry>) -> Self {
        if !is_from_inside(headers) {
            return Self::default();
        }
        let number = |name: &str| headers.value(name)?.trim().parse::<u64>().ok();
        Self {
            timeout: number(TIMEOUT).map(Duration::from_millis),
            per_try_timeout: number(PER_TRY_TIMEOUT).map(Duration::from_millis),
            retry: retry(headers, rule, number(MAX_RETRIES)),
        }
    }

    /// Whether the header of this lower-case name is for proxies alone.
    pub fn takes(name: &[u8]) -> bool {
        name.starts_with(PREFIX.as_bytes()) && TAKEN.iter().any(|taken| taken.as_bytes() == name)
    }
}

/// Header that tells an endpoint which attempt at a request it gets, from 1 on (Envoy's
/// `include_request_attempt_count`, which Istio sets).
pub const ATTEMPT_COUNT: &str = "x-envoy-attempt-count";

/// Conditions add to those of the rule, or to Istio's default; a number of retries stands for its.
fn retry(headers: &dyn HeaderLookup, rule: Option<&Retry>, max: Option<u64>) -> Option<Retry> {
    let words = |name: &str| {
        let value = headers.value(name).unwrap_or_default().into_owned();
        value.split(',').map(|word| word.trim().to_owned()).filter(|w| !w.is_empty()).collect()
    };
    let (on, grpc): (Vec<String>, Vec<String>) = (words(RETRY_ON), words(RETRY_GRPC_ON));
    let (statuses, names): (Vec<String>, Vec<String>) = (words(STATUS_CODES), words(HEADER_NAMES));
    if max.is_none() && [&on, &grpc, &statuses, &names].iter().all(|words| words.is_empty()) {
        return None;
    }
    let mut retry = match rule {
        // Switched off, which Envoy takes for nothing said: then a request is tried again once.
        Some(Retry { attempts: 0, .. }) => Retry { attempts: 1, on: Vec::new(), ..rule?.clone() },
        Some(rule) => rule.clone(),
        None => Retry { attempts: DEFAULT_ATTEMPTS, on: DEFAULT.to_vec(), ..Retry::default() },
    };
    let conditions = on.iter().filter_map(|word| RetryOn::parse(word));
    retry.on.extend(conditions.filter(|on| matches!(on, RetryOn::Condition(_))));
    let statuses_of_grpc = grpc.iter().filter_map(|word| RetryOn::parse(word));
    retry.on.extend(statuses_of_grpc.filter(|on| matches!(on, RetryOn::Grpc(_))));
    if retry.on.is_empty() {
        return None;
    }
    let counts = |on: &RetryOn| {
        matches!(on, RetryOn::Status(_) | RetryOn::Condition(RetryCondition::StatusCodes))
    };
    if retry.on.iter().any(counts) {
        let statuses = statuses.iter().filter_map(|code| code.parse().ok());
        retry.on.extend(statuses.map(RetryOn::Status));
    }
    if retry.asks_for(RetryCondition::Headers) {
        let names = names.iter().map(|name| name.to_ascii_lowercase());
        retry.on.extend(names.map(|name| RetryOn::Header(name.into())));
    }
    if let Some(max) = max {
        retry.attempts = u32::try_from(max).unwrap_or(u32::MAX);
    }
    Some(retry)
}

/// Whether a request began in the mesh, as far as its headers tell: no address from which it was
/// forwarded is a public one.
fn is_from_inside(headers: &dyn HeaderLookup) -> bool {
    let Some(forwarded) = headers.value("x-forwarded-for") else { return true };
    forwarded.split(',').all(|address| match address.trim().parse() {
        Ok(IpAddr::V4(ip)) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_loopback(),
        Err(_) => false,
    })
}

const PREFIX: &str = "x-envoy-";
const TIMEOUT: &str = "x-envoy-upstream-rq-timeout-ms";
const PER_TRY_TIMEOUT: &str = "x-envoy-upstream-rq-per-try-timeout-ms";
const RETRY_ON: &str = "x-envoy-retry-on";
const RETRY_GRPC_ON: &str = "x-envoy-retry-grpc-on";
const MAX_RETRIES: &str = "x-envoy-max-retries";
const STATUS_CODES: &str = "x-envoy-retriable-status-codes";
const HEADER_NAMES: &str = "x-envoy-retriable-header-names";

/// What Envoy's router takes off; attempts are never made beside each other here (hedging).
const TAKEN: [&str; 8] = [
    TIMEOUT,
    PER_TRY_TIMEOUT,
    RETRY_ON,
    RETRY_GRPC_ON,
    MAX_RETRIES,
    STATUS_CODES,
    HEADER_NAMES,
    "x-envoy-hedge-on-per-try-timeout",
];

/// Istio's default list, which stands where nobody has configured retries.
const DEFAULT: [RetryOn; 4] = [
    RetryOn::Condition(RetryCondition::ConnectFailure),
    RetryOn::Condition(RetryCondition::RefusedStream),
    RetryOn::Grpc(14),
    RetryOn::Grpc(1),
];
const DEFAULT_ATTEMPTS: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(rule: Option<&Retry>, headers: &[(&str, &str)]) -> Asked {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers: Vec<(String, String)> = headers.iter().map(owned).collect();
        Asked::of(&headers, rule)
    }

    fn words(retry: &Retry) -> String {
        let words: Vec<String> = retry.on.iter().map(ToString::to_string).collect();
        format!("{} {}", retry.attempts, words.join(","))
    }

    fn rule(attempts: u32, on: &str) -> Retry {
        let on = on.split(',').filter_map(RetryOn::parse).collect();
        Retry { attempts, on, ..Retry::default() }
    }

    #[test]
    fn conditions_add_to_the_rule_and_a_number_stands_for_its() {
        const BY_DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled";
        let by_rule = rule(3, "gateway-error");
        let off = rule(0, "gateway-error");
        for (rule, headers, expected) in [
            (None, vec![(RETRY_ON, "5xx")], format!("2 {BY_DEFAULT},5xx")),
            (None, vec![(MAX_RETRIES, "7")], format!("7 {BY_DEFAULT}")),
            (
                Some(&by_rule),
                vec![(RETRY_ON, "reset, 409,nonsense,unavailable"), (MAX_RETRIES, "1")],
                "1 gateway-error,reset".to_owned(),
            ),
            (
                Some(&by_rule),
                vec![(RETRY_GRPC_ON, "internal,5xx")],
                "3 gateway-error,internal".to_owned(),
            ),
            (Some(&off), vec![(RETRY_ON, "5xx")], "1 5xx".to_owned()),
            (
                Some(&by_rule),
                vec![(RETRY_ON, "retriable-status-codes"), (STATUS_CODES, "418, x,503")],
                "3 gateway-error,retriable-status-codes,418,503".to_owned(),
            ),
            (Some(&by_rule), vec![(STATUS_CODES, "418")], "3 gateway-error".to_owned()),
            (
                Some(&by_rule),
                vec![(RETRY_ON, "retriable-headers"), (HEADER_NAMES, "X-Again")],
                "3 gateway-error,retriable-headers,header x-again".to_owned(),
            ),
            (Some(&by_rule), vec![(MAX_RETRIES, "0")], "0 gateway-error".to_owned()),
        ] {
            let retry = asked(rule, &headers).retry.expect("something is asked");
            assert_eq!(words(&retry), expected, "{headers:?}");
        }
        for nothing in [vec![], vec![(MAX_RETRIES, "many")], vec![(TIMEOUT, "5")]] {
            assert_eq!(asked(Some(&by_rule), &nothing).retry, None, "{nothing:?}");
        }
        assert_eq!(asked(Some(&off), &[(MAX_RETRIES, "5")]).retry, None);
    }

    #[test]
    fn times_are_numbers_of_milliseconds() {
        let times = asked(None, &[(TIMEOUT, "1500"), (PER_TRY_TIMEOUT, " 20 ")]);
        assert_eq!(times.timeout, Some(Duration::from_millis(1_500)));
        assert_eq!(times.per_try_timeout, Some(Duration::from_millis(20)));
        assert_eq!(asked(None, &[(TIMEOUT, "1s"), (PER_TRY_TIMEOUT, "-1")]), Asked::default());
    }

    /// Nobody outside says how often the mesh tries.
    #[test]
    fn what_was_forwarded_from_outside_asks_for_nothing() {
        let from = |address: &str| {
            let asked =
                asked(None, &[("x-forwarded-for", address), (RETRY_ON, "5xx"), (TIMEOUT, "9")]);
            asked != Asked::default()
        };
        assert!(from("10.1.2.3") && from("127.0.0.1, 192.168.0.9") && from("fd00::1"));
        for outside in
            ["203.0.113.7", "203.0.113.7, 10.1.2.3", "10.1.2.3,2001:db8::1", "", "unknown"]
        {
            assert!(!from(outside), "{outside}");
        }
    }

    #[test]
    fn what_is_for_proxies_alone_is_known_by_name() {
        assert!(TAKEN.iter().all(|name| Asked::takes(name.as_bytes())));
        assert!(!Asked::takes(ATTEMPT_COUNT.as_bytes()) && !Asked::takes(b"x-request-id"));
    }
}
