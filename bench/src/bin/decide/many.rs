//! Decisions by the first and by the last of thousands of rules.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::request::NoHeaders;
use ironmesh_model::resource::Version;
use ironmesh_model::route::{Action, Backend, Match, Route, Rule};
use ironmesh_model::snapshot::{GatewayServer, GatewaySource, Objects, RouteFields, RouteSource};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{
    Connection, HeaderLookup, ListenerKind, Local, ObjectId, Request, Resource, ResourceKey, Seen,
    Traffic,
};

use crate::{ADDRESS, HOST, Headers, Proxy, labels, objects};

/// Where there are thousands of rules.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    /// One route with exact paths.
    Exact,
    /// One route with prefixes.
    Prefixes,
    /// One route with paths of every kind but regexes, and other conditions.
    Mixed,
    /// Many routes for one host of a gateway.
    Routes,
    /// Many hosts of a gateway with a route each.
    Hosts,
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "exact" => Self::Exact,
            "prefixes" => Self::Prefixes,
            "mixed" => Self::Mixed,
            "routes" => Self::Routes,
            "hosts" => Self::Hosts,
            _ => anyhow::bail!("no case {word:?}: exact, prefixes, mixed, routes, hosts"),
        })
    }
}

const RULES: usize = 5_000;
/// The last one of the first one's kind.
const LAST: usize = RULES - 4;

/// Decides by the first rule, and by the last.
pub(crate) fn run(case: Case, first: u64, last: u64) -> anyhow::Result<()> {
    let at_gateway = matches!(case, Case::Routes | Case::Hosts);
    let (namespace, app) =
        if at_gateway { ("istio-system", "gateway") } else { ("default", "client") };
    let mut proxy = Proxy::new(configuration(case), namespace, labels(app))?;
    let local = proxy.local.clone();
    let headers = Headers(vec![("end-user".to_owned(), "jason".to_owned())]);
    let connection = match at_gateway {
        true => connection(&local, ListenerKind::Gateway, 80),
        false => connection(&local, ListenerKind::Outbound, 9080),
    };
    for (number, count) in [(0, first), (LAST, last)] {
        let (authority, path) = (host(case, number), path(case, number));
        let request = request(&authority, &path, &headers);
        let traffic = Traffic::Request(connection, request);
        let wins = match case {
            Case::Exact | Case::Prefixes | Case::Mixed => (0, number),
            Case::Routes => (number, 0),
            Case::Hosts => (0, 0),
        };
        for count in 0..=count {
            let won = proxy.decide(&traffic, count).context("no rule wins")?;
            anyhow::ensure!(won == (wins.0 as u32, wins.1 as u32), "{won:?} wins, not {wins:?}");
        }
    }
    Ok(())
}

/// Applies so many changes of one route, in the view of a gateway with so many hosts that are all in
/// use.
pub(crate) fn change(hosts: usize, count: u64) -> anyhow::Result<()> {
    let mut objects = configuration(Case::Hosts);
    objects.routes.truncate(hosts);
    let route = objects.routes[hosts / 2].route.clone();
    let key = ResourceKey::Route(route.id.clone());
    let mut proxy = Proxy::new(objects, "istio-system", labels("gateway"))?;
    let local = proxy.local.clone();
    for number in 0..hosts {
        let (authority, path) = (host(Case::Hosts, number), path(Case::Hosts, number));
        let request = request(&authority, &path, &NoHeaders);
        let traffic = Traffic::Request(connection(&local, ListenerKind::Gateway, 80), request);
        proxy.decide(&traffic, 0).context("no rule wins")?;
    }
    for number in 0..count {
        let body = Body::Is(Resource::Route(Arc::new(route.clone())));
        let change = Change { key: key.clone(), version: Version(number), body };
        proxy.view = proxy.view.apply([change]).0;
    }
    Ok(())
}

fn connection(local: &Local, listener: ListenerKind, port: u16) -> Connection<'_> {
    Connection {
        listener,
        local,
        destination: SocketAddr::from((ADDRESS, port)),
        peer: Seen::Absent,
        server_name: Seen::Absent,
    }
}

fn request<'a>(authority: &'a str, path: &'a str, headers: &'a dyn HeaderLookup) -> Request<'a> {
    Request { method: "GET", scheme: "http", authority, path, query: None, headers }
}

/// The host of the request that a rule is for.
fn host(case: Case, number: usize) -> String {
    match case {
        Case::Exact | Case::Prefixes | Case::Mixed => "reviews:9080".to_owned(),
        Case::Routes => "shop.example.com".to_owned(),
        Case::Hosts => format!("host-{number:04}.example.com"),
    }
}

/// The path of the request that a rule is for.
fn path(case: Case, number: usize) -> String {
    match case {
        Case::Prefixes | Case::Mixed => format!("/prefix/{number:04}/more"),
        Case::Exact | Case::Routes | Case::Hosts => format!("/exact/{number:04}"),
    }
}

fn condition(case: Case, number: usize) -> Match {
    let exact = || Some(TextMatch::Exact(path(case, number).into()));
    let prefix = |word: &str| Some(TextMatch::Prefix(format!("/{word}/{number:04}/").into()));
    let get = || Some(TextMatch::Exact("GET".into()));
    let m = Match::default();
    match case {
        Case::Exact | Case::Routes | Case::Hosts => Match { path: exact(), ..m },
        Case::Prefixes => Match { path: prefix("prefix"), ..m },
        Case::Mixed => match number % 4 {
            0 => Match { path: prefix("prefix"), method: get(), ..m },
            1 => Match { path: prefix("Prefix"), ignore_path_case: true, ..m },
            2 => Match { path: exact(), source_labels: labels("client"), ..m },
            _ => Match { path: exact(), method: get(), port: Some(9080), ..m },
        },
    }
}

fn configuration(case: Case) -> Objects {
    let rules = (0..RULES).map(|number| rule(condition(case, number)));
    let routes = match case {
        Case::Exact | Case::Prefixes | Case::Mixed => {
            vec![route("reviews", HOST, "mesh", rules.collect())]
        }
        Case::Routes | Case::Hosts => rules
            .enumerate()
            .map(|(number, rule)| {
                let name = format!("route-{number:04}");
                route(&name, &host(case, number), "default/gateway", vec![rule])
            })
            .collect(),
    };
    let gateway = GatewaySource {
        id: ObjectId::new("Gateway", "default", "gateway"),
        selector: labels("gateway"),
        servers: vec![GatewayServer {
            port: 80,
            name: "http".into(),
            protocol: GatewayProtocol::Http,
            hosts: vec![(None, "*".into())],
            tls: None,
            redirects: false,
        }],
        created: 0,
    };
    Objects { routes, gateways: vec![gateway], ..objects() }
}

fn rule(condition: Match) -> Rule {
    let action = Action::Forward(vec![Backend::to(HOST, Some(9080))]);
    Rule { matches: vec![condition], action, ..Rule::default() }
}

fn route(name: &str, host: &str, gateway: &str, rules: Vec<Rule>) -> RouteSource {
    RouteSource {
        route: Route {
            id: ObjectId::new("VirtualService", "default", name),
            rules,
            connection_rules: Vec::new(),
        },
        hosts: vec![host.into()],
        gateways: vec![gateway.into()],
        export_to: Vec::new(),
        delegations: Vec::new(),
        created: 0,
        precedence: None,
        found: Vec::new(),
        fields: RouteFields::VIRTUAL_SERVICE,
    }
}
