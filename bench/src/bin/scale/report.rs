//! The figures.

use std::io::{self, Write};
use std::time::Duration;

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    what: String,
    figure: String,
    limit: Option<(String, bool)>,
}

impl Report {
    /// A figure without a limit.
    pub(crate) fn fact(&mut self, what: &str, figure: impl Into<String>) {
        self.add(Line { what: what.to_owned(), figure: figure.into(), limit: None });
    }

    /// A time, which must not be longer than `limit`.
    pub(crate) fn time(&mut self, what: &str, time: Duration, limit: Duration) {
        let limit = Some((milliseconds(limit), time <= limit));
        self.add(Line { what: what.to_owned(), figure: milliseconds(time), limit });
    }

    /// A number, which must not be larger than `limit`.
    pub(crate) fn number(&mut self, what: &str, number: f64, limit: f64) {
        let limit = Some((format!("{limit:.2}"), number <= limit));
        self.add(Line { what: what.to_owned(), figure: format!("{number:.2}"), limit });
    }

    /// An amount of memory, which must not be larger than `limit`.
    pub(crate) fn memory(&mut self, what: &str, bytes: u64, limit: u64) {
        let limit = Some((megabytes(limit), bytes <= limit));
        self.add(Line { what: what.to_owned(), figure: megabytes(bytes), limit });
    }

    /// Whether no figure is beyond its limit.
    pub(crate) fn is_within_limits(&self) -> bool {
        self.lines.iter().all(|line| line.limit.as_ref().is_none_or(|(_, holds)| *holds))
    }

    /// Notes a figure, and prints it: the next may take a while.
    fn add(&mut self, line: Line) {
        // Whoever closes the output does not want it.
        let _ = line.print(&mut io::stdout());
        self.lines.push(line);
    }
}

impl Line {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { what, figure, limit } = self;
        let (limit, mark) = match limit {
            None => (String::new(), ""),
            Some((limit, true)) => (format!("limit {limit}"), "ok"),
            Some((limit, false)) => (format!("limit {limit}"), "ABOVE"),
        };
        writeln!(out, "{what:<58} {figure:>12}  {limit:<16} {mark}")
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
