//! `explain --draw` agrees with the access log.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::http::request;
use super::mesh::{Mesh, Stage, wait_for};
use super::{Options, ensure, fact};

const REQUESTS: u64 = 500;

/// An undefined subset gives 503 with its reason and an unmatched path 404. With 24 rules, `explain`
/// agrees with the log on route, subset and reason of each of 500 random requests.
pub(super) fn agrees(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let mesh = stage.up(&["--set", "accessLogEncoding=JSON"])?;
    mesh.wait_ready("default", 6)?;
    stage.apply(super::routing::SUBSETS)?;
    stage.apply(&rules())?;
    wait_for("the rules", Duration::from_secs(20), || {
        let answer = request(mesh.gateway, "GET", "/void", &host())?;
        Ok((answer.header("x-ironmesh-reason") == Some("undefined_subset")).then_some(()))
    })?;
    let void = request(mesh.gateway, "GET", "/void", &host())?;
    ensure(void.status == 503, || format!("an undefined subset gave {}", void.status))?;
    let none = request(mesh.gateway, "GET", "/no/such/path", &host())?;
    ensure(none.status == 404, || format!("an unmatched path gave {}", none.status))?;
    fact("undefined subset: 503 undefined_subset; unmatched path: 404");

    let mut random = Random(0x1234_5678);
    let requests: Vec<Request> = (0..REQUESTS).map(|n| Request::random(n, &mut random)).collect();
    for r in &requests {
        request(mesh.gateway, r.method, &r.target, &r.headers)?;
    }
    let logged = wait_for("500 lines of the access log", Duration::from_secs(20), || {
        let logged = read_log(&mesh)?;
        Ok((logged.len() as u64 == REQUESTS).then_some(logged))
    })?;
    let mut reasons: HashMap<String, usize> = HashMap::new();
    for (n, r) in requests.iter().enumerate() {
        let line = &logged[&n];
        let said = ask(&mesh, r, line["draw"].as_str().context("no draw in the log")?)?;
        for field in ["route", "subset", "reason"] {
            // Only requests that no route served have no route and no subset.
            let there = line[field].is_string() || line["reason"] != "route";
            ensure(there && said[field] == line[field], || {
                format!("{field} of {r:?}:\n  log {line}\n  explain {said}")
            })?;
        }
        *reasons.entry(line["reason"].to_string()).or_default() += 1;
    }
    fact(format!("explain agrees on {REQUESTS} requests; reasons: {reasons:?}"));
    ensure(reasons.len() >= 3, || "the requests were all of one kind".to_owned())?;
    mesh.stop()
}

fn host() -> Vec<(String, String)> {
    vec![("host".to_owned(), "rules.example.com".to_owned())]
}

#[derive(Debug)]
struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn random(n: u64, random: &mut Random) -> Self {
        let path = match random.below(8) {
            0 => "/void".to_owned(),
            1 => "/weighted".to_owned(),
            2 => format!("/exact/{}", random.below(6)),
            3 => format!("/prefix/{}/deep", random.below(6)),
            4 => format!("/regex/{}", random.below(3_000)),
            5 => "/header".to_owned(),
            6 => "/query".to_owned(),
            _ => format!("/other/{}", random.below(4)),
        };
        let mut headers = host();
        if random.below(2) == 0 {
            headers.push(("x-tier".to_owned(), random.pick(&["gold", "silver", "tin"]).to_owned()));
        }
        if random.below(3) == 0 {
            headers
                .push(("cookie".to_owned(), format!("a=b; user={}", random.pick(&["eve", "bob"]))));
        }
        let flag = random.pick(&["on", "off", ""]);
        Self {
            method: random.pick(&["GET", "POST", "DELETE"]),
            target: format!("{path}?n={n}&flag={flag}"),
            headers,
        }
    }
}

/// Lines of the gateway's access log by the number that each request carried.
fn read_log(mesh: &Mesh) -> anyhow::Result<HashMap<usize, Value>> {
    let gateway = "deploy/istio-ingressgateway";
    let text = mesh.stage.run(&["logs", "-n", "istio-system", gateway, "-c", "istio-proxy"])?;
    let mut logged = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line)?;
        let number = line["path"]
            .as_str()
            .and_then(|path| path.split_once("?n=")?.1.split('&').next()?.parse::<usize>().ok());
        if let Some(number) = number {
            logged.insert(number, line);
        }
    }
    Ok(logged)
}

/// The first hop in the output of `explain`.
fn ask(mesh: &Mesh, request: &Request, draw: &str) -> anyhow::Result<Value> {
    let url = format!("http://rules.example.com{}", request.target);
    let mut args = vec!["explain", "--from", "gateway", "--draw", draw, "-o", "json"];
    let headers: Vec<String> = request
        .headers
        .iter()
        .filter(|(name, _)| name != "host")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    for header in &headers {
        args.extend(["-H", header]);
    }
    args.extend([request.method, &url]);
    let said: Value = serde_json::from_str(&mesh.stage.run(&args)?)?;
    Ok(said["hops"][0].clone())
}

/// 24 rules of every kind.
fn rules() -> String {
    let to = |subset: &str| {
        format!(
            "    route: [{{destination: {{host: reviews, port: {{number: 9080}}, subset: {subset}}}}}]\n"
        )
    };
    let mut http = format!("  - match: [{{uri: {{exact: /void}}}}]\n{}", to("v9"));
    http += "  - match: [{uri: {prefix: /weighted}}]\n    route:\n";
    for (subset, weight) in [("v1", 20), ("v2", 30), ("v3", 50)] {
        http += &format!(
            "    - {{destination: {{host: reviews, port: {{number: 9080}}, subset: {subset}}}, weight: {weight}}}\n"
        );
    }
    for n in 0..5 {
        http += &format!("  - match: [{{uri: {{exact: /exact/{n}}}}}]\n{}", to("v1"));
        http += &format!(
            "  - match: [{{uri: {{prefix: /prefix/{n}/}}, method: {{exact: GET}}}}]\n{}",
            to("v2")
        );
        http += &format!("  - match: [{{uri: {{regex: '/regex/{n}[0-9]+'}}}}]\n{}", to("v3"));
    }
    http += &format!(
        "  - match: [{{uri: {{exact: /header}}, headers: {{x-tier: {{exact: gold}}}}}}]\n{}",
        to("v1")
    );
    http += &format!(
        "  - match: [{{uri: {{exact: /header}}, headers: {{x-tier: {{prefix: sil}}}}}}]\n{}",
        to("v2")
    );
    http += &format!(
        "  - match: [{{uri: {{exact: /header}}, headers: {{cookie: {{regex: '^(.*?; ?)?(user=eve)(;.*)?$'}}}}}}]\n{}",
        to("v3")
    );
    http += &format!(
        "  - match: [{{uri: {{exact: /header}}, withoutHeaders: {{x-tier: {{}}}}}}]\n{}",
        to("v1")
    );
    http += &format!(
        "  - match: [{{uri: {{exact: /query}}, queryParams: {{flag: {{exact: 'on'}}}}}}]\n{}",
        to("v2")
    );
    http += &format!(
        "  - match: [{{uri: {{exact: /other/1}}}}, {{uri: {{exact: /other/2}}, method: {{exact: POST}}}}]\n{}",
        to("v3")
    );
    http += &format!(
        "  - match: [{{uri: {{exact: /other/3}}, authority: {{prefix: rules.}}}}]\n{}",
        to("v1")
    );
    format!(
        "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: rules, namespace: default}}
spec:
  hosts: [rules.example.com]
  gateways: [bookinfo-gateway]
  http:
{http}"
    )
}

/// Xorshift (Marsaglia, 2003), so that a failing run can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn pick(&mut self, of: &[&'static str]) -> &'static str {
        of[self.below(of.len() as u64) as usize]
    }
}
