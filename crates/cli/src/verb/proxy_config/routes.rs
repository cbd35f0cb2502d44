//! `ironmesh proxy-config routes`: the rules of a proxy for requests, in the order in which it tries
//! them.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use ironmesh_model::resource::EVERY_PORT;
use ironmesh_model::route::{Match, Route, Rule};
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::{ListenerKind, ObjectId, Resource, Target};
use ironmesh_proxy::dump::{Dump, HeldApplies, HeldLinked, HeldRule};
use serde::Serialize;

use super::admin::Proxy;
use super::{Format, cluster_name, object_name, tell_left_out};
use crate::cli::Context;
use crate::output::table::Columns;

/// Show the routes of the proxy of a pod: what a request must be, and whose rule it then comes under.
///
/// There are those of the hosts that the workload has called; a host that it never called is not there.
/// At a gateway there are those of the hosts that were asked for. `ironmesh explain` tells which of them
/// a request meets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh proxy-config routes deploy/productpage-v1
  ironmesh proxy-config route deploy/istio-ingressgateway.istio-system --name http.80
  ironmesh proxy-config routes deploy/productpage-v1 --name 9080 -o json")]
pub(crate) struct Routes {
    /// POD, POD.NAMESPACE, or KIND/NAME of what has pods.
    pod: String,
    /// Only those of this name: a port, http.PORT at a gateway, or inbound|PORT||.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How they are shown.
    #[arg(short, long, value_name = "FORMAT", default_value = "short")]
    output: Format,
}

/// What a request may match, as JSON shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    virtual_host: String,
    domain: String,
    #[serde(rename = "match")]
    matches: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_service: Option<String>,
    /// Where it goes if no rule says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// The rule as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule>,
}

impl Routes {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let proxy = Proxy::find(&self.pod, context).await?;
        let dump = proxy.dump(Some("linked,route")).await?;
        let mut entries: Vec<Entry> =
            dump.linked.iter().flat_map(|linked| entries(&dump, linked)).collect();
        entries.retain(|entry| self.name.as_ref().is_none_or(|name| *name == entry.name));
        self.output.write(&table(&entries), &entries)?;
        tell_left_out(&dump);
        Ok(ExitCode::SUCCESS)
    }
}

/// What applies to requests at a host, or at a port of the workload.
fn entries(dump: &Dump, linked: &HeldLinked) -> Vec<Entry> {
    let Some(applies) = &linked.applies else { return Vec::new() };
    let (name, virtual_host, domain) = match (linked.key.listener, &linked.key.target) {
        (ListenerKind::Outbound, Target::Host(host, port)) => {
            (port.to_string(), format!("{host}:{port}"), host.to_string())
        }
        (ListenerKind::Gateway, Target::Host(host, port)) => {
            (format!("http.{port}"), format!("{host}:{port}"), host.to_string())
        }
        (ListenerKind::Inbound, Target::Address(_, port))
            if *port != EVERY_PORT && !applies.protocol.is_opaque() =>
        {
            let virtual_host = format!("inbound|http|{port}");
            (format!("inbound|{port}||"), virtual_host, "*".to_owned())
        }
        _ => return Vec::new(),
    };
    let entry = |matches: String| Entry {
        name: name.clone(),
        virtual_host: virtual_host.clone(),
        domain: domain.clone(),
        matches,
        virtual_service: None,
        cluster: None,
        rule: None,
    };
    if let Some(lacks) = &applies.lacks {
        return vec![entry(format!("! {lacks}"))];
    }
    if applies.rules.is_empty() {
        let cluster = default_cluster(applies);
        return vec![Entry { cluster, ..entry("/*".to_owned()) }];
    }
    let of_rule = |held: &HeldRule| {
        let rule = route(dump, &held.route).and_then(|it| it.rules.get(held.rule as usize));
        let virtual_service = Some(object_name(&held.route));
        let matches = matches(rule, held);
        let entry = &entry;
        matches.into_iter().map(move |matches| Entry {
            virtual_service: virtual_service.clone(),
            rule: rule.cloned(),
            ..entry(matches)
        })
    };
    applies.rules.iter().flat_map(of_rule).collect()
}

fn default_cluster(applies: &HeldApplies) -> Option<String> {
    let backend = applies.default_backend.as_ref()?;
    Some(cluster_name(backend.port, backend.subset.as_deref(), &backend.host))
}

fn route<'a>(dump: &'a Dump, id: &ObjectId) -> Option<&'a Arc<Route>> {
    dump.resources.iter().find_map(|resource| match &resource.body {
        Some(Resource::Route(route)) if route.id == *id => Some(route),
        _ => None,
    })
}

/// What a request must be, one text for each alternative.
fn matches(rule: Option<&Rule>, held: &HeldRule) -> Vec<String> {
    if held.alternatives.is_empty() {
        return vec!["/*".to_owned()];
    }
    let alternative = |at: &u32| {
        let found = rule.and_then(|rule| rule.matches.get(*at as usize));
        found.map_or_else(|| format!("rule {}, alternative {at}", held.rule), conditions)
    };
    held.alternatives.iter().map(alternative).collect()
}

/// The conditions of an alternative: the path as istioctl writes it, then all others.
fn conditions(asked: &Match) -> String {
    let mut text = match &asked.path {
        None | Some(TextMatch::Present) => "/*".to_owned(),
        Some(TextMatch::Exact(path)) => path.to_string(),
        Some(TextMatch::Prefix(path)) => format!("{path}*"),
        Some(TextMatch::Regex(pattern)) => format!("regex {pattern}"),
    };
    // Writing to a string does not fail.
    let mut condition = |name: &str, asked: &TextMatch| {
        let _ = match asked {
            TextMatch::Exact(value) => write!(text, " {name}={value}"),
            TextMatch::Prefix(value) => write!(text, " {name}={value}*"),
            TextMatch::Regex(value) => write!(text, " {name}~{value}"),
            TextMatch::Present => write!(text, " {name}"),
        };
    };
    for (name, asked) in
        [("method", &asked.method), ("scheme", &asked.scheme), ("authority", &asked.authority)]
    {
        asked.iter().for_each(|asked| condition(name, asked));
    }
    asked.headers.iter().for_each(|(name, asked)| condition(name, asked));
    asked.without_headers.iter().for_each(|(name, asked)| condition(&format!("!{name}"), asked));
    asked.query.iter().for_each(|(name, asked)| condition(&format!("?{name}"), asked));
    if let Some(port) = asked.port {
        let _ = write!(text, " port={port}");
    }
    if let Some(namespace) = &asked.source_namespace {
        let _ = write!(text, " from-namespace={namespace}");
    }
    for (name, value) in &asked.source_labels.0 {
        let _ = write!(text, " from:{name}={value}");
    }
    text
}

fn table(entries: &[Entry]) -> String {
    let mut columns = Columns::default();
    columns.push(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"]);
    for entry in entries {
        let virtual_service = entry.virtual_service.as_deref().unwrap_or_default();
        columns.push([
            &*entry.name,
            &*entry.virtual_host,
            &*entry.domain,
            &*entry.matches,
            virtual_service,
        ]);
    }
    columns.take_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_in_a_few_words() {
        let asked = Match {
            path: Some(TextMatch::Prefix("/static".into())),
            method: Some(TextMatch::Exact("GET".into())),
            headers: vec![
                ("end-user".into(), TextMatch::Exact("jason".into())),
                ("cookie".into(), TextMatch::Regex("user=.*".into())),
            ],
            without_headers: vec![("x-no".into(), TextMatch::Present)],
            port: Some(80),
            ..Match::default()
        };
        assert_eq!(
            conditions(&asked),
            "/static* method=GET end-user=jason cookie~user=.* !x-no port=80"
        );
        assert_eq!(conditions(&Match::default()), "/*");
    }
}
