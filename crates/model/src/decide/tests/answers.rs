//! What rules answer by themselves, delays and copies.

use std::time::Duration;

use super::*;
use crate::draw::Share;
use crate::route::{
    Abort, AbortStatus, Cors, Delay, Faults, Mirror, Redirect, RedirectPath, RedirectPort,
};

/// What a request to `app` is decided to be, and where it is sent to if elsewhere.
fn ask(rules: Vec<Rule>, request: Request<'_>, draw: Draw) -> (Decision, Option<String>) {
    let mut proxy = sidecar(rules);
    let local = proxy.local();
    let connection = connection(&local);
    let decision = proxy.decide(&Traffic::Request(connection, request), draw, &mut Silent);
    let location = decision.location(&request, 9080);
    (decision, location)
}

fn faults(delay: f64, abort: f64, with: AbortStatus) -> Option<Box<Faults>> {
    let by = Duration::from_secs(7);
    Some(Box::new(Faults {
        delay: Some(Delay { by, share: Share::of_percent(delay) }),
        abort: Some(Abort { with, share: Share::of_percent(abort) }),
    }))
}

#[test]
fn aborts_and_delays_are_drawn_apart() {
    let headers = Vec::new();
    let faulty =
        Rule { faults: faults(50.0, 50.0, AbortStatus::Http(555)), ..to(vec![prefix("/x")], "v1") };
    let mut counts = [0; 4];
    for draw in 0..1_000 {
        let rules = vec![faulty.clone(), to(Vec::new(), "v2")];
        let draw = Draw(draw);
        let (decision, _) = ask(rules, request(&headers, "app", "/x/y"), draw);
        let delayed = decision.delay(draw).is_some();
        let aborted = decision.plan == Plan::Answer(555);
        assert_eq!(decision.abort().is_some(), aborted);
        assert_eq!(decision.reason == Reason::FaultAbort, aborted);
        counts[usize::from(delayed) * 2 + usize::from(aborted)] += 1;
    }
    // Binomial(1 000, 1/4): six sigma are 82.
    assert!(counts.iter().all(|count| 250_i32.abs_diff(*count) < 82), "{counts:?}");
}

#[test]
fn faults_keep_to_their_rule_and_come_before_all_else() {
    let headers = Vec::new();
    let body: Arc<[u8]> = b"teapot".as_slice().into();
    let teapot = Rule {
        matches: vec![exact("/tea")],
        action: Action::Answer(crate::route::DirectResponse { status: 418, body }),
        faults: faults(100.0, 100.0, AbortStatus::Grpc(14)),
        ..Rule::default()
    };
    let rules = || vec![teapot.clone(), to(Vec::new(), "v1")];
    let (decision, _) = ask(rules(), request(&headers, "app", "/tea"), Draw(1));
    assert_eq!((&decision.plan, decision.reason), (&Plan::Answer(200), Reason::FaultAbort));
    assert_eq!(decision.abort().map(|abort| abort.with), Some(AbortStatus::Grpc(14)));
    assert_eq!(decision.direct_response(), None);
    assert_eq!(decision.delay(Draw(1)), Some(Duration::from_secs(7)));
    let (other, _) = ask(rules(), request(&headers, "app", "/"), Draw(1));
    assert_eq!((&other.plan, other.delay(Draw(1))), (&Plan::Forward, None));
    assert!(other.abort().is_none());
    let never = Rule { faults: faults(0.0, 0.0, AbortStatus::Http(500)), ..teapot.clone() };
    let (decision, _) = ask(vec![never], request(&headers, "app", "/tea"), Draw(1));
    assert_eq!((decision.reason, decision.delay(Draw(1))), (Reason::DirectResponse, None));
}

/// As in Istio: the answer comes in place of the one that the chosen destination would have given.
#[test]
fn an_abort_has_the_headers_of_the_destination_that_would_have_answered() {
    let headers = Vec::new();
    let mut both = rule(Vec::new(), &[(APP, "v1", 50), (APP, "v2", 50)]);
    let Action::Forward(backends) = &mut both.action else { unreachable!() };
    for backend in backends {
        let name = backend.subset.clone().unwrap();
        backend.headers.response.set = vec![("x-version".into(), name)];
    }
    let failing = Rule { faults: faults(0.0, 100.0, AbortStatus::Http(555)), ..both.clone() };
    for draw in (0..20).map(Draw) {
        let version = |rule: &Rule| {
            let (decision, _) = ask(vec![rule.clone()], request(&headers, "app", "/"), draw);
            let said = decision.header_ops().next().unwrap().response.set[0].1.clone();
            (said, decision.plan)
        };
        let (aborted, forwarded) = (version(&failing), version(&both));
        assert_eq!((&aborted.0, aborted.1), (&forwarded.0, Plan::Answer(555)), "{draw:?}");
    }
}

fn redirect() -> Redirect {
    Redirect { status: 301, scheme: None, authority: None, port: None, path: None }
}

#[test]
fn redirects_keep_what_they_do_not_say() {
    let full = |path: &str| Some(RedirectPath::Full(path.into()));
    let cut = |path: &str| Some(RedirectPath::Prefix(path.into()));
    let number = |port| Some(RedirectPort::Number(port));
    let to_host = |host: &str| Redirect { authority: Some(host.into()), ..redirect() };
    let https = || Redirect { scheme: Some("https".into()), ..redirect() };
    for (redirect, authority, expected) in [
        (redirect(), "app", "http://app/old/a?q=1"),
        (to_host("new.example"), "app", "http://new.example/old/a?q=1"),
        (Redirect { path: full("/n"), ..redirect() }, "app", "http://app/n?q=1"),
        (Redirect { path: full("/n?own=2"), ..redirect() }, "app", "http://app/n?own=2"),
        (Redirect { path: cut("/new"), ..redirect() }, "app", "http://app/new/a?q=1"),
        (redirect(), "app:80", "http://app:80/old/a?q=1"),
        (https(), "app", "https://app/old/a?q=1"),
        (https(), "app:80", "https://app/old/a?q=1"),
        (https(), "app:9080", "https://app:9080/old/a?q=1"),
        (Redirect { port: number(8443), ..https() }, "app:9080", "https://app:8443/old/a?q=1"),
        (Redirect { port: number(443), ..https() }, "app:80", "https://app/old/a?q=1"),
        (Redirect { port: number(80), ..redirect() }, "app", "http://app/old/a?q=1"),
        (Redirect { port: number(81), ..redirect() }, "[::1]:80", "http://[::1]:81/old/a?q=1"),
        (Redirect { port: number(81), ..redirect() }, "::1", "http://::1:81/old/a?q=1"),
        (
            Redirect { port: Some(RedirectPort::Dialled), ..redirect() },
            "app:1",
            "http://app:9080/old/a?q=1",
        ),
        (Redirect { port: number(81), ..to_host("h:90") }, "app", "http://h:90:81/old/a?q=1"),
    ] {
        let rule = Rule {
            matches: vec![prefix("/old")],
            action: Action::Redirect(Box::new(redirect.clone())),
            ..Rule::default()
        };
        let hosts = [APP, "[::1]", "::1"];
        let mut objects = mesh(vec![rule]);
        objects.routes[0].hosts = hosts.map(Into::into).into();
        let mut proxy = Proxy::sidecar(objects, "default", &[]);
        let (local, headers) = (proxy.local(), Vec::new());
        let query = Some("q=1");
        let request = Request { query, ..request(&headers, authority, "/old/a") };
        let traffic = Traffic::Request(connection(&local), request);
        let decision = proxy.decide(&traffic, Draw(0), &mut Silent);
        assert_eq!(decision.plan, Plan::Answer(301), "{redirect:?} {authority}");
        assert_eq!(decision.reason, Reason::Redirect);
        assert_eq!(decision.location(&request, 9080).as_deref(), Some(expected));
    }
}

fn cors() -> Cors {
    Cors {
        allow_origins: vec![
            TextMatch::Exact("https://a.example".into()),
            TextMatch::Regex(r"https://.*\.b\.example".into()),
        ],
        allow_methods: Some("GET,POST".into()),
        allow_headers: Some("x-own".into()),
        expose_headers: Some("x-shown".into()),
        max_age: Some(86_400),
        allow_credentials: true,
        answers_unmatched: false,
    }
}

/// Outcome of a request with these headers, and what an answer to its origin says.
fn cross_origin(cors: Cors, method: &str, headers: &[(&str, &str)]) -> (Reason, String, String) {
    let rule = Rule { cors: Some(Box::new(cors)), ..to(Vec::new(), "v1") };
    let pairs: Vec<(String, String)> =
        headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let (decision, _) = ask(vec![rule], Request { method, ..request(&pairs, "app", "/") }, Draw(0));
    assert!(decision.has_cors());
    let origin = headers.iter().find(|(name, _)| *name == "origin").map_or("", |(_, value)| value);
    let words = |fields: Vec<(&str, String)>| {
        fields.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>()
    };
    let preflight = match decision.reason {
        Reason::Preflight => words(decision.origin_fields(origin)),
        _ => String::new(),
    };
    (decision.reason, preflight, words(decision.cors_fields(origin)))
}

#[test]
fn preflights_of_allowed_origins_are_answered() {
    let (origin, asks) = ("origin", ("access-control-request-method", "PUT"));
    let allowed = [(origin, "https://a.example"), asks];
    let (reason, preflight, other) = cross_origin(cors(), "OPTIONS", &allowed);
    assert_eq!(reason, Reason::Preflight);
    assert_eq!(
        preflight,
        "access-control-allow-origin=https://a.example access-control-allow-credentials=true \
         access-control-allow-methods=GET,POST access-control-allow-headers=x-own \
         access-control-max-age=86400 access-control-expose-headers=x-shown "
    );
    assert_eq!(
        other,
        "access-control-allow-origin=https://a.example access-control-allow-credentials=true \
         access-control-expose-headers=x-shown "
    );
    let by_regex = [(origin, "https://x.b.example"), asks];
    assert_eq!(cross_origin(cors(), "OPTIONS", &by_regex).0, Reason::Preflight);
    let anyone = Cors { allow_origins: vec![TextMatch::Exact("*".into())], ..Cors::default() };
    let (reason, preflight, _) = cross_origin(anyone, "OPTIONS", &allowed);
    assert_eq!(reason, Reason::Preflight);
    assert_eq!(preflight, "access-control-allow-origin=https://a.example ");
}

/// As in Envoy the route has no say in the answer to a preflight.
#[test]
fn the_answer_to_a_preflight_has_none_of_the_rule_s_headers() {
    let mut rule = Rule { cors: Some(Box::new(cors())), ..to(Vec::new(), "v1") };
    rule.headers.response.set = vec![("x-own".into(), "1".into())];
    let headers = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    for (method, operations) in [("OPTIONS", 0), ("PUT", 1)] {
        let request = Request { method, ..request(&headers, "app", "/") };
        let (decision, _) = ask(vec![rule.clone()], request, Draw(0));
        assert_eq!(decision.header_ops().count(), operations, "{method}: {:?}", decision.reason);
    }
}

/// A browser is told to keep nothing, which is another thing than being told nothing.
#[test]
fn a_preflight_may_be_good_for_no_time_at_all() {
    let headers = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
    let (_, preflight, _) = cross_origin(Cors { max_age: Some(0), ..cors() }, "OPTIONS", &headers);
    assert!(preflight.contains("access-control-max-age=0 "), "{preflight}");
    let (_, preflight, _) = cross_origin(Cors { max_age: None, ..cors() }, "OPTIONS", &headers);
    assert!(!preflight.contains("max-age"), "{preflight}");
}

/// As in Istio's proxies a failure on purpose comes before all that a rule says about origins.
#[test]
fn an_abort_says_nothing_to_pages_of_other_origins() {
    let headers = Vec::new();
    let rule = |share| Rule {
        cors: Some(Box::new(cors())),
        faults: faults(0.0, share, AbortStatus::Http(500)),
        ..to(Vec::new(), "v1")
    };
    let said = |share, origin| {
        let (decision, _) = ask(vec![rule(share)], request(&headers, "app", "/"), Draw(0));
        decision.origin_fields(origin).len()
    };
    assert_eq!(said(100.0, "https://a.example"), 0);
    assert_eq!((said(0.0, "https://a.example"), said(0.0, "https://other.example")), (3, 0));
}

#[test]
fn what_is_no_preflight_or_of_another_origin_is_forwarded() {
    let asks = ("access-control-request-method", "PUT");
    for (method, headers) in [
        ("OPTIONS", vec![("origin", "https://other.example"), asks]),
        ("OPTIONS", vec![("origin", "https://a.example.evil"), asks]),
        ("OPTIONS", vec![("origin", "https://a.example")]),
        ("OPTIONS", vec![("origin", "https://a.example"), (asks.0, "")]),
        ("OPTIONS", vec![asks]),
        ("GET", vec![("origin", "https://a.example"), asks]),
    ] {
        assert_eq!(cross_origin(cors(), method, &headers).0, Reason::Route, "{method} {headers:?}");
    }
    let stranger = [("origin", "https://other.example"), asks];
    let (_, preflight, other) = cross_origin(cors(), "GET", &stranger);
    assert_eq!((&*preflight, &*other), ("", ""));
    let strict = Cors { answers_unmatched: true, ..cors() };
    let (reason, preflight, _) = cross_origin(strict, "OPTIONS", &stranger);
    assert_eq!(reason, Reason::Preflight);
    assert_eq!(
        preflight,
        "access-control-allow-credentials=true access-control-allow-methods=GET,POST \
         access-control-allow-headers=x-own access-control-max-age=86400 "
    );
    let broken = Cors { allow_origins: vec![TextMatch::Regex("(".into())], ..Cors::default() };
    assert_eq!(cross_origin(broken, "OPTIONS", &stranger).0, Reason::Route);
}

#[test]
fn copies_are_drawn_one_by_one() {
    let headers = Vec::new();
    let half = Share::of_percent(50.0);
    let mirror = |subset, share| {
        let to = backend((APP, subset, 0));
        Mirror { place: "mirror".into(), to, share }
    };
    let mirrors = vec![mirror("v2", half), mirror("v2", half), mirror("gone", Share::ALL)];
    let rule = Rule { mirrors, ..to(Vec::new(), "v1") };
    let mut counts = [0; 4];
    for draw in (0..1_000).map(Draw) {
        let (decision, _) = ask(vec![rule.clone()], request(&headers, "app", "/"), draw);
        assert_eq!(outcome(&decision), "default/r#0 v1");
        let copies: Vec<_> = decision.mirrors(draw).collect();
        let [(_, first, one), (_, _, two), (_, undefined, all)] = copies[..] else { panic!() };
        assert_eq!(first.subset.as_deref(), Some("v2"));
        assert!(first.group.is_ok());
        assert_eq!(undefined.group.as_ref().err(), Some(&Reason::UndefinedSubset));
        assert!(all);
        counts[usize::from(one) * 2 + usize::from(two)] += 1;
    }
    assert!(counts.iter().all(|count| 250_i32.abs_diff(*count) < 82), "{counts:?}");
}

#[test]
fn a_path_is_rewritten_by_expression() {
    let pattern = PathRewrite::Regex { pattern: "^/v[0-9]+/(.*)".into(), by: r"/\1/now".into() };
    let rule = Rule {
        rewrite: Some(Rewrite { path: Some(pattern), authority: None }),
        ..to(vec![prefix("/v")], "v1")
    };
    let mut proxy = sidecar(vec![rule]);
    let decision = proxy.get("app", "/v1/a?q");
    assert_eq!(decision.rewritten_target("/v1/a?q").as_deref(), Some("/a/now?q"));
    assert_eq!(decision.rewritten_target("/vx").as_deref(), Some("/vx"));
}
