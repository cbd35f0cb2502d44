//! Matching of one piece of text, and the compiled form that the request path uses.

use serde::{Deserialize, Serialize};

use crate::limits::REGEX_BYTES_MAX;
use crate::name::Name;

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextMatch {
    /// Exactly this.
    Exact(Name),
    /// Something that begins with this.
    Prefix(Name),
    /// Something that this RE2 pattern matches as a whole.
    Regex(Name),
    /// Anything, if it is there at all.
    Present,
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("regex {pattern:?}: {why}")]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

/// A compiled [`TextMatch`].
#[derive(Clone, Debug)]
pub enum Matcher {
    /// See [`TextMatch::Exact`].
    Exact(Name),
    /// See [`TextMatch::Prefix`].
    Prefix(Name),
    /// See [`TextMatch::Regex`].
    Regex(regex::Regex),
    /// See [`TextMatch::Present`].
    Present,
}

impl TextMatch {
    /// Compiles it.
    ///
    /// # Errors
    ///
    /// If a regex is not RE2 or larger, compiled, than [`REGEX_BYTES_MAX`].
    pub fn compile(&self) -> Result<Matcher, BadPattern> {
        Ok(match self {
            Self::Exact(text) => Matcher::Exact(text.clone()),
            Self::Prefix(text) => Matcher::Prefix(text.clone()),
            Self::Regex(pattern) => Matcher::Regex(compile_regex(pattern)?),
            Self::Present => Matcher::Present,
        })
    }
}

/// Compiles an RE2 pattern that must match a text as a whole, as Envoy's `safe_regex` does.
///
/// # Errors
///
/// If it is not RE2 or larger, compiled, than [`REGEX_BYTES_MAX`].
pub fn compile_regex(pattern: &str) -> Result<regex::Regex, BadPattern> {
    // The pattern must stand alone before it is wrapped: `a)(b` would be valid only inside.
    let bad = |error: regex::Error| BadPattern { pattern: pattern.to_owned(), why: brief(&error) };
    regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(bad)?;
    regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(REGEX_BYTES_MAX)
        .dot_matches_new_line(true)
        .build()
        .map_err(bad)
}

/// The last line of an error, which says what is wrong; those before show the pattern again.
fn brief(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}

impl Matcher {
    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Regex(regex) => regex.is_match(text),
            Self::Present => true,
        }
    }

    /// Whether `text` matches if the case of ASCII letters is ignored; a regex sees it as it is.
    pub fn matches_ignoring_case(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.eq_ignore_ascii_case(text),
            Self::Prefix(prefix) => text
                .as_bytes()
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())),
            Self::Regex(_) | Self::Present => self.matches(text),
        }
    }
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "exactly {text:?}"),
            Self::Prefix(text) => write!(f, "of prefix {text:?}"),
            Self::Regex(regex) => write!(f, "matched by regex {:?}", regex.as_str()),
            Self::Present => f.write_str("present"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regex_matches_as_a_whole_with_lazy_quantifiers() {
        let cookie = compile_regex("^(.*?;)?(usertype=tester)(;.*)?$").unwrap();
        assert!(cookie.is_match("usertype=tester"));
        assert!(cookie.is_match("a=b;usertype=tester;c=d"));
        assert!(!cookie.is_match("a=b; usertype=tester"));
        assert!(!compile_regex("a|b").unwrap().is_match("ab"));
    }

    #[test]
    fn bad_patterns_are_refused_not_wrapped() {
        for bad in ["*", "a)(b", "(?P<x", "(?=a)", "\\1", "a{5000}{5000}"] {
            assert!(compile_regex(bad).is_err(), "{bad} was taken");
        }
    }
}
