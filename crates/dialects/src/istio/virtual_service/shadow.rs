//! Rules and alternatives that no request reaches, by what those before them match.

use ironmesh_model::FindingCode;
use ironmesh_model::route::{ConnectionMatch, ConnectionRule, Match, Rule};
use ironmesh_model::text_match::TextMatch;

use super::{Spec, Translator};
use crate::path::{field, item};

impl Translator<'_> {
    /// Rules behind one that takes every request, and alternatives behind one that takes all that they
    /// would. Of what a delegate takes its own rules tell.
    pub(super) fn unreachable(&mut self, spec: &Spec, rules: &[Rule]) {
        let delegates = |at: usize| spec.http.get(at).is_some_and(|rule| rule.delegate.is_some());
        let everything = Match::default();
        for (at, rule) in rules.iter().enumerate() {
            let path = item("spec.http", at);
            let before = |wanted: &Match| {
                let earlier = rules[..at].iter().enumerate().filter(|(at, _)| !delegates(*at));
                earlier.into_iter().find_map(|(at, earlier)| {
                    let path = item("spec.http", at);
                    if earlier.matches.is_empty() {
                        return Some(path);
                    }
                    let number = earlier.matches.iter().position(|m| covers(m, wanted))?;
                    Some(item(&field(&path, "match"), number))
                })
            };
            if let Some(taker) = before(&everything) {
                let message = format!("{taker} takes every request");
                self.report(path, FindingCode::Unreachable, message);
                continue;
            }
            for (number, alternative) in rule.matches.iter().enumerate() {
                let own = &rule.matches[..number];
                let own = own.iter().position(|m| covers(m, alternative));
                let own = own.map(|number| item(&field(&path, "match"), number));
                if let Some(taker) = before(alternative).or(own) {
                    let message = format!("{taker} takes all that this would");
                    let place = item(&field(&path, "match"), number);
                    self.report(place, FindingCode::Unreachable, message);
                }
            }
        }
    }
}

impl Translator<'_> {
    /// The same of rules for connections; those of `tls` and of `tcp` stand apart.
    pub(super) fn unreachable_connections(&mut self, rules: &[ConnectionRule]) {
        let everything = ConnectionMatch::default();
        for (at, rule) in rules.iter().enumerate() {
            let list = |rule: &ConnectionRule| rule.place.starts_with("tcp");
            let before = |wanted: &ConnectionMatch| {
                let earlier = rules[..at].iter().filter(|other| list(other) == list(rule));
                earlier.into_iter().find_map(|earlier| {
                    let path = format!("spec.{}", earlier.place);
                    if earlier.matches.is_empty() {
                        return Some(path);
                    }
                    let covers = |m: &ConnectionMatch| covers_connection(m, wanted);
                    let number = earlier.matches.iter().position(covers)?;
                    Some(item(&field(&path, "match"), number))
                })
            };
            let path = format!("spec.{}", rule.place);
            if let Some(taker) = before(&everything) {
                let message = format!("{taker} takes every connection");
                self.report(path, FindingCode::Unreachable, message);
                continue;
            }
            for (number, alternative) in rule.matches.iter().enumerate() {
                let own = &rule.matches[..number];
                let own = own.iter().position(|m| covers_connection(m, alternative));
                let own = own.map(|number| item(&field(&path, "match"), number));
                if let Some(taker) = before(alternative).or(own) {
                    let message = format!("{taker} takes all that this would");
                    let place = item(&field(&path, "match"), number);
                    self.report(place, FindingCode::Unreachable, message);
                }
            }
        }
    }
}

/// Whether every connection that meets `narrow` surely meets `wide`, too.
fn covers_connection(wide: &ConnectionMatch, narrow: &ConnectionMatch) -> bool {
    let is_named = |name: &ironmesh_model::Name| {
        let names = |own: &ironmesh_model::Name| {
            own == name || own.strip_prefix('*').is_some_and(|suffix| name.ends_with(suffix))
        };
        wide.server_names.iter().any(names)
    };
    let names = wide.server_names.is_empty()
        || !narrow.server_names.is_empty() && narrow.server_names.iter().all(is_named);
    // Whatever else a condition may say one day must be alike.
    #[allow(clippy::needless_update, reason = "there is nothing else yet")]
    let alike = ConnectionMatch {
        server_names: narrow.server_names.clone(),
        source_labels: narrow.source_labels.clone(),
        source_namespace: narrow.source_namespace.clone(),
        gateways: narrow.gateways.clone(),
        port: narrow.port,
        ..wide.clone()
    };
    names
        && wide.source_labels.selects(&narrow.source_labels)
        && (wide.source_namespace.is_none() || wide.source_namespace == narrow.source_namespace)
        && (wide.port.is_none() || wide.port == narrow.port)
        && (wide.gateways.is_empty()
            || !narrow.gateways.is_empty()
                && narrow.gateways.iter().all(|gateway| wide.gateways.contains(gateway)))
        && alike == *narrow
}

/// Whether every request that meets `narrow` surely meets `wide`, too.
fn covers(wide: &Match, narrow: &Match) -> bool {
    let text = |wide: &Option<TextMatch>, narrow: &Option<TextMatch>| match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => text_covers(wide, narrow),
    };
    let named = |wide: &[(ironmesh_model::Name, TextMatch)],
                 narrow: &[(ironmesh_model::Name, TextMatch)]| {
        wide.iter().all(|(name, wide)| {
            narrow.iter().any(|(own, narrow)| own == name && text_covers(wide, narrow))
        })
    };
    let any_path = matches!(&wide.path, None | Some(TextMatch::Prefix(_)))
        && wide.path.as_ref().is_none_or(|path| *path == TextMatch::Prefix("/".into()));
    let same_case = wide.ignore_path_case == narrow.ignore_path_case;
    (any_path || same_case && text(&wide.path, &narrow.path))
        && text(&wide.scheme, &narrow.scheme)
        && text(&wide.method, &narrow.method)
        && text(&wide.authority, &narrow.authority)
        && named(&wide.headers, &narrow.headers)
        && named(&wide.query, &narrow.query)
        && wide.without_headers.iter().all(|pair| narrow.without_headers.contains(pair))
        && wide.source_labels.selects(&narrow.source_labels)
        && (wide.source_namespace.is_none() || wide.source_namespace == narrow.source_namespace)
        && (wide.port.is_none() || wide.port == narrow.port)
        && (wide.gateways.is_empty()
            || !narrow.gateways.is_empty()
                && narrow.gateways.iter().all(|gateway| wide.gateways.contains(gateway)))
}

/// Whether every text that meets `narrow` surely meets `wide`, too. An expression that cannot be used
/// takes nothing.
fn text_covers(wide: &TextMatch, narrow: &TextMatch) -> bool {
    match (wide, narrow) {
        (TextMatch::Present, _) => true,
        (TextMatch::Prefix(start), TextMatch::Exact(text) | TextMatch::Prefix(text)) => {
            text.starts_with(&**start)
        }
        (TextMatch::Regex(_), _) => wide == narrow && wide.compile().is_ok(),
        _ => wide == narrow,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Object, validate};

    fn unreachable(alternatives: &[Value]) -> Vec<String> {
        let rule = |of: &Value| {
            let mut rule = json!({"route": [{"destination": {"host": "a"}}]});
            if !of.is_null() {
                rule["match"] = of.clone();
            }
            rule
        };
        let rules: Vec<Value> = alternatives.iter().map(rule).collect();
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "v", "namespace": "n"},
            "spec": {"hosts": ["a.com"], "http": rules},
        });
        let findings = validate(&Object::new(object).unwrap());
        findings.into_iter().map(|f| format!("{} {}: {}", f.code, f.path, f.message)).collect()
    }

    #[test]
    fn what_an_earlier_rule_takes_is_found_by_what_it_matches() {
        let uri = |kind: &str, text: &str| json!([{"uri": {kind: text}}]);
        for (first, second) in [
            (uri("prefix", "/a"), uri("prefix", "/a")),
            (uri("prefix", "/a"), uri("exact", "/ab")),
            (uri("regex", "/a.*"), uri("regex", "/a.*")),
            (
                json!([{"headers": {"x": {}}}]),
                json!([{"headers": {"x": {"exact": "1"}}, "port": 80}]),
            ),
            (
                json!([{"sourceLabels": {"a": "b"}}]),
                json!([{"sourceLabels": {"a": "b", "c": "d"}}]),
            ),
        ] {
            let said =
                "IM0109 spec.http[1].match[0]: spec.http[0].match[0] takes all that this would";
            assert_eq!(unreachable(&[first.clone(), second.clone()]), [said], "{first} {second}");
        }
        for (first, second) in [
            (uri("prefix", "/ab"), uri("prefix", "/a")),
            (uri("exact", "/a"), uri("prefix", "/a")),
            (uri("prefix", "/a"), uri("regex", "/a")),
            (json!([{"uri": {"prefix": "/a"}, "port": 80}]), uri("prefix", "/a")),
            (json!([{"withoutHeaders": {"x": {}}}]), uri("prefix", "/a")),
            (json!([{"uri": {"prefix": "/a"}, "ignoreUriCase": true}]), uri("exact", "/A")),
            (json!([{"gateways": ["g"]}]), uri("prefix", "/a")),
        ] {
            assert_eq!(unreachable(&[first.clone(), second.clone()]), [""; 0], "{first} {second}");
        }
    }

    #[test]
    fn of_connections_the_same_is_found() {
        let found = |list: &str, alternatives: &[Value]| {
            let rule = |of: &Value| match of {
                Value::Null => json!({"route": [{"destination": {"host": "a"}}]}),
                of => json!({"match": [of], "route": [{"destination": {"host": "a"}}]}),
            };
            let rules: Vec<Value> = alternatives.iter().map(rule).collect();
            let object = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                "metadata": {"name": "v", "namespace": "n"},
                "spec": {"hosts": ["a.com", "*.b.com"], list: rules},
            });
            let findings = validate(&Object::new(object).unwrap()).into_iter();
            findings.map(|f| format!("{} {}: {}", f.code, f.path, f.message)).collect::<Vec<_>>()
        };
        let port = |port: u16| json!({"port": port});
        let same = "IM0109 spec.tcp[1].match[0]: spec.tcp[0].match[0] takes all that this would";
        assert_eq!(found("tcp", &[port(80), port(80), Value::Null]), [same]);
        let all = "IM0109 spec.tcp[1]: spec.tcp[0] takes every connection";
        assert_eq!(found("tcp", &[Value::Null, port(80)]), [all]);
        let narrower = json!({"port": 80, "sourceLabels": {"a": "b"}});
        assert_eq!(found("tcp", &[narrower, port(80), port(81)]), [""; 0]);
        let sni = |name: &str| json!({"sniHosts": [name]});
        let wide = "IM0109 spec.tls[1].match[0]: spec.tls[0].match[0] takes all that this would";
        assert_eq!(found("tls", &[sni("*.b.com"), sni("x.b.com")]), [wide]);
        assert_eq!(found("tls", &[sni("x.b.com"), sni("*.b.com"), sni("a.com")]), [""; 0]);
    }

    #[test]
    fn what_stands_behind_everything_is_one_finding() {
        let everything = "IM0109 spec.http[1]: spec.http[0] takes every request";
        let two = json!([{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}]);
        assert_eq!(unreachable(&[Value::Null, two.clone()]), [everything]);
        let root = json!([{"uri": {"prefix": "/"}}]);
        let by_root = "IM0109 spec.http[1]: spec.http[0].match[0] takes every request";
        assert_eq!(unreachable(&[root, two]), [by_root]);
        let twice = json!([{"uri": {"prefix": "/a"}}, {"uri": {"exact": "/a"}}]);
        let own = "IM0109 spec.http[0].match[1]: spec.http[0].match[0] takes all that this would";
        assert_eq!(unreachable(&[twice]), [own]);
    }
}
