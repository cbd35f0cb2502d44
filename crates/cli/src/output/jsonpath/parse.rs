//! From the text of a template to its parts.

use serde_json::Value;

use super::{BadTemplate, Comparison, Operand, Part, Path, Selector};

/// Parses a whole template.
pub(super) fn template(text: &str) -> Result<Vec<Part>, BadTemplate> {
    let mut parser = Parser { text: text.chars().collect(), at: 0 };
    let parts = parser.parts(false).map_err(|what| BadTemplate {
        template: text.to_owned(),
        what,
        at: parser.at,
    })?;
    Ok(parts)
}

type Parsed<T> = Result<T, &'static str>;

struct Parser {
    text: Vec<char>,
    at: usize,
}

impl Parser {
    /// Parts up to the end, or inside a range up to its `{end}`.
    fn parts(&mut self, in_range: bool) -> Parsed<Vec<Part>> {
        let mut parts = Vec::new();
        let mut text = String::new();
        while let Some(symbol) = self.next() {
            if symbol != '{' {
                text.push(symbol);
                continue;
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            self.blanks();
            if self.take_word("end") {
                self.close()?;
                return if in_range { Ok(parts) } else { Err("{end} without {range}") };
            }
            if self.take_word("range") {
                self.blanks();
                let path = self.path()?;
                self.close()?;
                parts.push(Part::Range(path, self.parts(true)?));
                continue;
            }
            self.expressions(&mut parts)?;
        }
        if in_range {
            return Err("{range} without {end}");
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(parts)
    }

    /// Paths and quoted texts up to the closing brace.
    fn expressions(&mut self, parts: &mut Vec<Part>) -> Parsed<()> {
        loop {
            self.blanks();
            match self.peek() {
                Some('}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(quote @ ('"' | '\'')) => parts.push(Part::Text(self.quoted(quote)?)),
                Some('.' | '[' | '$' | '@') => parts.push(Part::Path(self.path()?)),
                Some(_) => return Err("expected a path, a quoted text, range or end"),
                None => return Err("a brace is not closed"),
            }
        }
    }

    fn path(&mut self) -> Parsed<Path> {
        let mut path = Path::default();
        match self.peek() {
            Some('$') => {
                path.from_root = true;
                self.at += 1;
            }
            Some('@') => self.at += 1,
            Some('.' | '[') => {}
            _ => return Err("expected a path"),
        }
        loop {
            match self.peek() {
                Some('.') if self.peek_at(1) == Some('.') => {
                    self.at += 2;
                    path.steps.push(Selector::Descend);
                    match self.peek() {
                        Some('[') => {}
                        Some('*') => {
                            self.at += 1;
                            path.steps.push(Selector::All);
                        }
                        _ => path.steps.push(Selector::Field(self.field()?)),
                    }
                }
                Some('.') => {
                    self.at += 1;
                    match self.peek() {
                        Some('*') => {
                            self.at += 1;
                            path.steps.push(Selector::All);
                        }
                        Some('[') => {}
                        // `{.}` is the value itself.
                        Some('}' | ' ' | ')') | None => {}
                        _ => path.steps.push(Selector::Field(self.field()?)),
                    }
                }
                Some('[') => {
                    self.at += 1;
                    path.steps.push(self.bracket()?);
                }
                _ => return Ok(path),
            }
        }
    }

    /// A name after a dot; a backslash makes the next character part of it.
    fn field(&mut self) -> Parsed<String> {
        let mut name = String::new();
        while let Some(symbol) = self.peek() {
            match symbol {
                '\\' => {
                    self.at += 1;
                    name.push(self.next().ok_or("nothing follows the backslash")?);
                }
                '.' | '[' | ']' | '{' | '}' | ')' | '(' | ' ' | '=' | '!' | '<' | '>' | ',' => {
                    break;
                }
                _ => {
                    name.push(symbol);
                    self.at += 1;
                }
            }
        }
        if name.is_empty() { Err("a name is missing") } else { Ok(name) }
    }

    /// What stands in brackets, the first of which is taken already.
    fn bracket(&mut self) -> Parsed<Selector> {
        self.blanks();
        if self.peek() == Some('?') {
            self.at += 1;
            return self.filter();
        }
        let mut steps = vec![self.selector()?];
        loop {
            self.blanks();
            match self.next() {
                Some(']') => break,
                Some(',') => steps.push(self.selector()?),
                _ => return Err("a bracket is not closed"),
            }
        }
        Ok(if steps.len() == 1 { steps.remove(0) } else { Selector::Union(steps) })
    }

    fn selector(&mut self) -> Parsed<Selector> {
        self.blanks();
        match self.peek() {
            Some('*') => {
                self.at += 1;
                Ok(Selector::All)
            }
            Some(quote @ ('"' | '\'')) => Ok(Selector::Field(self.quoted(quote)?)),
            Some(symbol) if symbol.is_ascii_digit() || symbol == '-' || symbol == ':' => {
                self.index_or_slice()
            }
            _ => Err("expected an index, a quoted name, * or a filter"),
        }
    }

    fn index_or_slice(&mut self) -> Parsed<Selector> {
        let first = self.number()?;
        if self.peek() != Some(':') {
            return first.map(Selector::Index).ok_or("an index is missing");
        }
        self.at += 1;
        let last = self.number()?;
        let mut step = 1;
        if self.peek() == Some(':') {
            self.at += 1;
            step = self.number()?.unwrap_or(1);
        }
        if step < 1 {
            return Err("the step of a slice is less than 1");
        }
        Ok(Selector::Slice(first, last, step))
    }

    fn number(&mut self) -> Parsed<Option<i64>> {
        let mut digits = String::new();
        while let Some(symbol) = self.peek().filter(|c| c.is_ascii_digit() || *c == '-') {
            digits.push(symbol);
            self.at += 1;
        }
        if digits.is_empty() {
            return Ok(None);
        }
        digits.parse().map(Some).map_err(|_| "this is not a number")
    }

    /// `(@.a == "b")]`.
    fn filter(&mut self) -> Parsed<Selector> {
        self.expect('(', "expected ( after ?")?;
        let left = self.operand()?;
        self.blanks();
        let comparison = self.comparison()?;
        let right = match comparison {
            Some(comparison) => Some((comparison, self.operand()?)),
            None => None,
        };
        self.blanks();
        self.expect(')', "a filter is not closed")?;
        self.expect(']', "a bracket is not closed")?;
        Ok(Selector::Filter(left, right))
    }

    fn comparison(&mut self) -> Parsed<Option<Comparison>> {
        let two = (self.peek(), self.peek_at(1));
        let (comparison, length) = match two {
            (Some('='), Some('=')) => (Comparison::Equal, 2),
            (Some('!'), Some('=')) => (Comparison::NotEqual, 2),
            (Some('<'), Some('=')) => (Comparison::LessOrEqual, 2),
            (Some('>'), Some('=')) => (Comparison::GreaterOrEqual, 2),
            (Some('<'), _) => (Comparison::Less, 1),
            (Some('>'), _) => (Comparison::Greater, 1),
            (Some(')'), _) => return Ok(None),
            _ => return Err("expected a comparison"),
        };
        self.at += length;
        Ok(Some(comparison))
    }

    fn operand(&mut self) -> Parsed<Operand> {
        self.blanks();
        match self.peek() {
            Some(quote @ ('"' | '\'')) => Ok(Operand::Value(Value::from(self.quoted(quote)?))),
            Some('@' | '$' | '.') => Ok(Operand::Path(self.path()?)),
            _ => {
                let mut word = String::new();
                while let Some(symbol) =
                    self.peek().filter(|c| c.is_ascii_alphanumeric() || "-+.".contains(*c))
                {
                    word.push(symbol);
                    self.at += 1;
                }
                let value = serde_json::from_str(&word);
                value.map(Operand::Value).map_err(|_| "expected a path or a value")
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Parsed<String> {
        self.at += 1;
        let mut text = String::new();
        while let Some(symbol) = self.next() {
            match symbol {
                '\\' => text.push(match self.next().ok_or("a quote is not closed")? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                }),
                _ if symbol == quote => return Ok(text),
                _ => text.push(symbol),
            }
        }
        Err("a quote is not closed")
    }

    fn close(&mut self) -> Parsed<()> {
        self.blanks();
        self.expect('}', "a brace is not closed")
    }

    fn expect(&mut self, symbol: char, or: &'static str) -> Parsed<()> {
        if self.next() == Some(symbol) { Ok(()) } else { Err(or) }
    }

    /// Takes a word if it stands here, whole.
    fn take_word(&mut self, word: &str) -> bool {
        let end = self.at + word.len();
        let here =
            self.text.get(self.at..end).is_some_and(|text| text.iter().copied().eq(word.chars()));
        let whole = self.text.get(end).is_none_or(|next| !next.is_ascii_alphanumeric());
        if here && whole {
            self.at = end;
        }
        here && whole
    }

    fn blanks(&mut self) {
        while self.peek() == Some(' ') {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<char> {
        let symbol = self.peek()?;
        self.at += 1;
        Some(symbol)
    }

    fn peek(&self) -> Option<char> {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }
}
