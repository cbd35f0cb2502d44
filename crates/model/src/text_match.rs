//! Matching of one piece of text, and the compiled form that the request path uses.

use std::ops::Range;

use regex_syntax::ast::{
    AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetBinaryOp, ClassSetItem, Visitor,
};
use serde::{Deserialize, Serialize};

use crate::limits::{REGEX_BYTES_MAX, REGEX_TABLE_BYTES_MAX};
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
    Regex {
        /// As the user wrote it.
        pattern: Name,
        /// Compiled.
        compiled: regex::Regex,
    },
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
            Self::Regex(pattern) => {
                Matcher::Regex { pattern: pattern.clone(), compiled: compile_regex(pattern)? }
            }
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
    compile(pattern, |ascii| format!("^(?:{ascii})$"))
}

/// Compiles an RE2 pattern that is looked for anywhere in a text.
///
/// # Errors
///
/// As for [`compile_regex`].
pub fn compile_search(pattern: &str) -> Result<regex::Regex, BadPattern> {
    compile(pattern, str::to_owned)
}

fn compile(pattern: &str, wrap: impl Fn(&str) -> String) -> Result<regex::Regex, BadPattern> {
    let bad = |why: &dyn std::fmt::Display| BadPattern {
        pattern: pattern.to_owned(),
        why: brief(&why.to_string()),
    };
    // The pattern must stand alone before it is wrapped: `a)(b` would be valid only inside.
    let parsed = regex_syntax::ast::parse::Parser::new().parse(pattern);
    let ast = parsed.map_err(|error| bad(&error))?;
    let ascii = ascii_classes(pattern, &ast).map_err(|why| bad(&why))?;
    regex::RegexBuilder::new(&wrap(&ascii))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_TABLE_BYTES_MAX)
        .dot_matches_new_line(true)
        .build()
        .map_err(|error| bad(&error))
}

/// The last line of an error, which says what is wrong; those before show the pattern again.
fn brief(text: &str) -> String {
    let last = text.lines().next_back().unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}

/// A pattern with the classes and boundaries that RE2 defines over ASCII written as such: where
/// they are in a pattern for `regex`, they are about all of Unicode, and large.
///
/// `\B` stays: `regex` has it over Unicode only.
///
/// # Errors
///
/// If a class in brackets is written as RE2 reads it otherwise.
fn ascii_classes(pattern: &str, ast: &Ast) -> Result<String, &'static str> {
    let places = regex_syntax::ast::visit(ast, PerlPlaces::default())?;
    let mut out = String::with_capacity(pattern.len());
    let mut copied = 0;
    for (place, ascii) in places {
        out.push_str(&pattern[copied..place.start]);
        out.push_str(ascii);
        copied = place.end;
    }
    out.push_str(&pattern[copied..]);
    Ok(out)
}

/// Where Perl's classes and boundaries stand in a pattern, in order, each with what it is in ASCII.
/// A class in brackets stays valid within others.
#[derive(Default)]
struct PerlPlaces(Vec<(Range<usize>, &'static str)>);

impl PerlPlaces {
    fn class(&mut self, class: &ClassPerl) {
        let ascii = match (&class.kind, class.negated) {
            (ClassPerlKind::Digit, false) => "[0-9]",
            (ClassPerlKind::Digit, true) => "[^0-9]",
            (ClassPerlKind::Space, false) => r"[\t\n\f\r\x20]",
            (ClassPerlKind::Space, true) => r"[^\t\n\f\r\x20]",
            (ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
        };
        self.0.push((class.span.start.offset..class.span.end.offset, ascii));
    }
}

impl Visitor for PerlPlaces {
    type Output = Vec<(Range<usize>, &'static str)>;
    type Err = &'static str;

    fn finish(self) -> Result<Self::Output, Self::Err> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::ClassPerl(class) => self.class(class),
            Ast::Assertion(assertion) if assertion.kind == AssertionKind::WordBoundary => {
                let span = &assertion.span;
                self.0.push((span.start.offset..span.end.offset, r"(?-u:\b)"));
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        match item {
            ClassSetItem::Perl(class) => self.class(class),
            ClassSetItem::Bracketed(_) => return Err(NOT_RE2_CLASS),
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), Self::Err> {
        Err(NOT_RE2_CLASS)
    }
}

const NOT_RE2_CLASS: &str = r"within [ ] RE2 takes a bracket, `&&`, `--` and `~~` as characters; write them as \[, \&, \-, \~";

impl Matcher {
    /// Whether `text` matches.
    #[inline]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Regex { compiled, .. } => compiled.is_match(text),
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
            Self::Regex { .. } | Self::Present => self.matches(text),
        }
    }
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "exactly {text:?}"),
            Self::Prefix(text) => write!(f, "of prefix {text:?}"),
            Self::Regex { pattern, .. } => write!(f, "matched by regex {pattern:?}"),
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
        assert!(compile_regex("a.*").unwrap().is_match("a\nb"), "a query may hold %0A");
    }

    /// RE2's syntax: `\d`, `\s`, `\w` and `\b` are about ASCII.
    #[test]
    fn perl_classes_are_re2s_and_small() {
        for (pattern, text, matches) in [
            (r"/users/\w{1,32}", "/users/tom_7", true),
            (r"/users/\w{1,32}", "/users/jos\u{e9}", false),
            (r"\d+", "123", true),
            (r"\d+", "\u{663}", false),
            (r"\W", "\u{e9}", true),
            (r"[^\w]", "\u{e9}", true),
            (r"[\w.-]+@[\w-]+", "a.b-c@d-e", true),
            (r"[\W\d]+", "1.\u{e9}", true),
            (r"[\W\d]+", "a", false),
            (r"a\sb", "a\tb", true),
            (r"a\sb", "a\u{a0}b", false),
            (r"a\Sb", "a\u{a0}b", true),
            (r".*\bcat\b.*", "a cat", true),
            (r".*\bcat\b.*", "\u{e9}cat", true),
            (r".*\bcat\b.*", "concat", false),
            (r"(?i)\w+", "ABC", true),
            (r"\\w", r"\w", true),
            (r"\p{Greek}", "\u{3b1}", true),
        ] {
            let compiled = compile_regex(pattern).unwrap();
            assert_eq!(compiled.is_match(text), matches, "{pattern} {text:?}");
        }
        let matcher = TextMatch::Regex(r"\d".into()).compile().unwrap();
        assert_eq!(matcher.to_string(), r#"matched by regex "\\d""#, "as the user wrote it");
    }

    #[test]
    fn bad_patterns_are_refused_not_wrapped() {
        for bad in ["*", "a)(b", "(?P<x", "(?=a)", "\\1", "a{5000}{5000}", "[a&&b]", "[a[bc]]"] {
            assert!(compile_regex(bad).is_err(), "{bad} was taken");
        }
    }
}
