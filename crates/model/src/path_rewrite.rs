//! Changes of a path: by the prefix that matched, or by expression.

use regex::{Captures, Regex};

use crate::name::Name;
use crate::path::split_target;
use crate::text_match::{BadPattern, compile_search};

/// An expression and what replaces what it finds (Envoy's `regex_rewrite`).
#[derive(Clone, Debug)]
pub struct PathPattern {
    pattern: Regex,
    by: Vec<Piece>,
}

/// A part of what is put in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// What this group found.
    Group(usize),
}

impl PathPattern {
    /// Compiles both. `by` is text in which `\0` to `\9` stand for the groups of the pattern and
    /// `\\` for a backslash, as RE2 has it.
    ///
    /// # Errors
    ///
    /// If the pattern is bad, or `by` names a group that it does not have.
    pub fn new(pattern: &Name, by: &Name) -> Result<Self, BadPattern> {
        let compiled = compile_search(pattern)?;
        let groups = compiled.captures_len();
        let by = pieces(by, groups).map_err(|why| BadPattern { pattern: by.to_string(), why })?;
        Ok(Self { pattern: compiled, by })
    }

    /// The target with everything replaced that the pattern finds in its path.
    pub fn replace(&self, target: &str) -> String {
        let (path, query) = split_target(target);
        let replaced = self.pattern.replace_all(path, |found: &Captures<'_>| {
            let piece = |piece: &Piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Group(at) => found.get(*at).map_or("", |group| group.as_str()).to_owned(),
            };
            self.by.iter().map(piece).collect::<String>()
        });
        with_query(replaced.into_owned(), query)
    }
}

fn pieces(by: &str, groups: usize) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut characters = by.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('\\') => text.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit as usize - '0' as usize;
                if group >= groups {
                    return Err(format!("\\{group} names a group that the pattern does not have"));
                }
                pieces.extend((!text.is_empty()).then(|| Piece::Text(std::mem::take(&mut text))));
                pieces.push(Piece::Group(group));
            }
            _ => return Err("a backslash stands before a digit or another one".to_owned()),
        }
    }
    pieces.extend((!text.is_empty()).then_some(Piece::Text(text)));
    Ok(pieces)
}

/// Replaces the matched prefix, or the whole path if it was not matched by prefix. The query stays.
///
/// Between the two parts stands one slash where both bring one: `/ratings` to `/` makes `/1` of
/// `/ratings/1`, where Istio makes `//1`, which nobody means.
pub(crate) fn replace_path(target: &str, prefix: Option<&str>, by: &str) -> String {
    let (path, query) = split_target(target);
    let rest = prefix.and_then(|prefix| path.get(prefix.len()..)).unwrap_or_default();
    let rest = if by.ends_with('/') { rest.strip_prefix('/').unwrap_or(rest) } else { rest };
    let slash = if by.starts_with('/') { "" } else { "/" };
    with_query(format!("{slash}{by}{rest}"), query)
}

/// A path and what was behind it. A path always begins with a slash (RFC 9112, section 3.2.1).
pub(crate) fn with_query(path: String, query: Option<&str>) -> String {
    let slash = if path.starts_with('/') { "" } else { "/" };
    match query {
        Some(query) => format!("{slash}{path}?{query}"),
        None if slash.is_empty() => path,
        None => format!("{slash}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_whole_paths_are_replaced() {
        for (target, prefix, by, expected) in [
            ("/ratings/1?a=b", Some("/ratings"), "/", "/1?a=b"),
            ("/ratings", Some("/ratings"), "/", "/"),
            ("/product", None, "/productpage", "/productpage"),
            ("/product/x?q", None, "/productpage", "/productpage?q"),
            ("/a/b", Some("/a"), "/c", "/c/b"),
            ("/a/b", Some("/a/"), "c/", "/c/b"),
            ("/v1/a?x=/", Some("/v1"), "/v2", "/v2/a?x=/"),
            ("/v1a", Some("/v1"), "/v2", "/v2a"),
            ("/a", Some("/"), "/b/", "/b/a"),
        ] {
            assert_eq!(replace_path(target, prefix, by), expected, "{target} {prefix:?} {by}");
        }
    }

    #[test]
    fn what_an_expression_finds_is_replaced_everywhere_but_in_the_query() {
        for (pattern, by, target, expected) in [
            (
                "^/service/([^/]+)(/.*)$",
                r"\2/instance/\1",
                "/service/foo/v1/api",
                "/v1/api/instance/foo",
            ),
            ("one", "two", "/xxx/one/yyy/one/zzz?one", "/xxx/two/yyy/two/zzz?one"),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
            ("^/a", r"\\$1", "/ab", r"/\$1b"),
            ("^/(x)?y", r"/<\1>", "/y", "/<>"),
            ("^/gone", "", "/gone", "/"),
            ("none", "x", "/as/it/is?q", "/as/it/is?q"),
            (".*", r"\0", "/a", "/a"),
        ] {
            let pattern = PathPattern::new(&pattern.into(), &by.into()).unwrap();
            assert_eq!(pattern.replace(target), expected, "{target}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_said() {
        for (pattern, by, why) in [
            ("a", r"\1", "a group that the pattern does not have"),
            ("a(b)", r"\2", "a group that the pattern does not have"),
            ("a", r"x\", "a backslash"),
            ("a", r"\n", "a backslash"),
            ("(", "", "regex"),
        ] {
            let bad = PathPattern::new(&pattern.into(), &by.into()).unwrap_err().to_string();
            assert!(bad.contains(why), "{pattern} {by}: {bad}");
        }
    }
}
