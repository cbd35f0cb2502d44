//! Conditions of a rule.

use std::collections::BTreeMap;

use ironmesh_model::route::Match;
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::{FindingCode, Name};

use super::{HttpMatch, StringMatch, Translator, gateway_name};
use crate::istio::labels;
use crate::path::{field, item};

/// What `{}` means where a text is matched.
#[derive(Clone, Copy)]
enum Empty {
    /// The header or parameter is there.
    Present,
    /// Nothing.
    Invalid,
}

impl Translator<'_> {
    pub(super) fn matches(&mut self, given: &[HttpMatch], path: &str) -> Vec<Match> {
        let path = field(path, "match");
        given.iter().enumerate().map(|(at, m)| self.one(m, &item(&path, at))).collect()
    }

    fn one(&mut self, given: &HttpMatch, path: &str) -> Match {
        let object = self.object;
        Match {
            name: given.name.clone(),
            path: self.part(given.uri.as_ref(), path, "uri"),
            ignore_path_case: given.ignore_uri_case,
            scheme: self.part(given.scheme.as_ref(), path, "scheme"),
            method: self.part(given.method.as_ref(), path, "method"),
            authority: self.part(given.authority.as_ref(), path, "authority"),
            headers: self.named(&given.headers, path, "headers", str::to_ascii_lowercase),
            without_headers: self.named(
                &given.without_headers,
                path,
                "withoutHeaders",
                str::to_ascii_lowercase,
            ),
            query: self.named(&given.query_params, path, "queryParams", str::to_owned),
            source_labels: labels(&given.source_labels),
            source_namespace: (!given.source_namespace.is_empty())
                .then(|| given.source_namespace.as_str().into()),
            gateways: given.gateways.iter().map(|name| gateway_name(name, object)).collect(),
            port: given.port,
        }
    }

    fn part(&mut self, given: Option<&StringMatch>, path: &str, name: &str) -> Option<TextMatch> {
        let given = given?;
        // As in Istio, `{}` asks for nothing.
        let says_something =
            given.exact.is_some() || given.prefix.is_some() || given.regex.is_some();
        says_something.then(|| self.string_match(given, &field(path, name)))?
    }

    /// A text that is matched as a whole, and must say how.
    pub(super) fn string_match(&mut self, given: &StringMatch, path: &str) -> Option<TextMatch> {
        self.text(given, path, Empty::Invalid)
    }

    fn named(
        &mut self,
        given: &BTreeMap<String, StringMatch>,
        path: &str,
        of: &str,
        canonical: fn(&str) -> String,
    ) -> Vec<(Name, TextMatch)> {
        let path = field(path, of);
        let pairs = given.iter().filter_map(|(name, text)| {
            match of {
                "queryParams" => self.no_parameter(name, text, &field(&path, name)),
                _ => self.no_header(name, &field(&path, name), of == "headers"),
            }
            // No expression, but Istio's word for a header that is there.
            let text = match text.regex.as_deref() {
                Some("*") if of == "withoutHeaders" => TextMatch::Present,
                _ => self.text(text, &field(&path, name), Empty::Present)?,
            };
            Some((canonical(name).into(), text))
        });
        pairs.collect()
    }

    /// Conditions on what no request has as a header.
    fn no_header(&mut self, name: &str, path: &str, must_match: bool) {
        let outcome = if must_match { "it never matches" } else { "it always holds" };
        let why = if name.starts_with("@request.auth.claims") {
            "no RequestAuthentication verifies tokens here, so that no request has claims"
        } else if name.starts_with(':') {
            "this is no header; uri, method, scheme and authority stand beside headers"
        } else {
            return;
        };
        self.report(path, FindingCode::NoEffect, format!("{why}: {outcome}"));
    }

    /// Conditions on what no query has, which is compared as it was sent.
    fn no_parameter(&mut self, name: &str, given: &StringMatch, path: &str) {
        let texts = [Some(name), given.exact.as_deref(), given.prefix.as_deref()];
        let is_never_sent =
            |text: &str| text.bytes().any(|b| b == b'&' || !(b'!'..=b'~').contains(&b));
        if texts.into_iter().flatten().any(is_never_sent) {
            let message = "a query is compared as it was sent, without blanks, letters outside ASCII and &: \
                           it never matches; write %20 and the like";
            self.report(path, FindingCode::NoEffect, message);
        }
    }

    fn text(&mut self, given: &StringMatch, path: &str, empty: Empty) -> Option<TextMatch> {
        let text = match (&given.exact, &given.prefix, &given.regex) {
            (Some(exact), None, None) => TextMatch::Exact(exact.as_str().into()),
            (None, Some(prefix), None) => TextMatch::Prefix(prefix.as_str().into()),
            (None, None, Some(regex)) => TextMatch::Regex(regex.as_str().into()),
            (None, None, None) if matches!(empty, Empty::Present) => TextMatch::Present,
            _ => {
                let message = "this takes exactly one of exact, prefix, regex";
                self.report(path, FindingCode::Invalid, message);
                return None;
            }
        };
        // The part stays, so that the rule is dead and does not match more than it was meant to.
        if let Err(bad) = text.compile() {
            self.report(field(path, "regex"), FindingCode::BadRegex, bad.to_string());
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::translate::Part;
    use crate::{Object, translate_one};

    /// A star alone is no expression, but Istio takes it for a header that is there.
    #[test]
    fn a_header_of_any_value_is_one_that_is_there() {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "v", "namespace": "shop"},
            "spec": {"hosts": ["web"], "http": [{
                "match": [{"withoutHeaders": {"X-A": {"regex": "*"}}}],
                "route": [{"destination": {"host": "web"}}],
            }]},
        });
        let translated = translate_one(&Object::new(object).unwrap());
        assert_eq!(translated.findings, []);
        let Part::Route(route) = translated.part else { panic!("{:?}", translated.part) };
        let without = &route.route.rules[0].matches[0].without_headers;
        assert_eq!(without[..], [("x-a".into(), TextMatch::Present)]);
    }
}
