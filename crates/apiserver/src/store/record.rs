//! What stands in the lines of a journal, and how a whole file is read. Pure.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::object::Object;

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Resource version of the change. Each change has that of the one before it plus one.
    pub(super) revision: u64,
    /// Which object; of [`Change::Live`]'s end and of [`Change::Lost`] none.
    #[serde(flatten)]
    pub(super) key: Key,
    /// What happened to it.
    pub(super) change: Change,
}

/// What a record says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// The object is this.
    Put(Arc<Object>),
    /// There is no such object any more.
    Delete,
    /// An object that was there when the journal was compacted. These come first.
    Live(Arc<Object>),
    /// The end of what compaction wrote.
    Compacted {
        /// How many objects it wrote.
        objects: u64,
    },
    /// What happened up to this version and does not stand before it is lost.
    Lost,
}

/// What of a file can be used.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// Where the lines of the records are, without their ends.
    pub(super) lines: Vec<Range<usize>>,
    /// Resource version of the last record.
    pub(super) revision: u64,
    /// Bytes up to the end of the last record.
    pub(super) whole: usize,
    /// Whether the last record lacks the end of its line.
    pub(super) unended: bool,
    /// What is lost, for people.
    pub(super) losses: Vec<String>,
}

/// The records of a file. Only one of them is a value at a time: together they take many times the
/// memory of their text.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) content: Vec<u8>,
    pub(super) lines: Vec<Range<usize>>,
}

impl Records {
    /// The records, each with the length of its line.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Record, u64)> {
        self.lines.iter().filter_map(|line| {
            Some((record_of(&self.content[line.clone()])?, line.len() as u64 + 1))
        })
    }
}

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It begins with this.
    Format(String),
    /// Records are damaged or missing here, and others follow.
    Damaged {
        /// Byte of the file.
        offset: usize,
        /// What is wrong.
        what: String,
    },
}

/// Reads a file.
pub(super) fn parse(content: &[u8]) -> Result<Parsed, Unusable> {
    let mut parsed = Parsed::default();
    if !content.starts_with(HEADER.as_bytes()) {
        if HEADER.as_bytes().starts_with(content) {
            if !content.is_empty() {
                parsed.losses.push("it ends within its first line".to_owned());
            }
            return Ok(parsed);
        }
        let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = &first[..first.len().min(80)];
        return Err(Unusable::Format(String::from_utf8_lossy(first).into_owned()));
    }
    parsed.whole = HEADER.len();
    let mut order = Order::default();
    while parsed.whole < content.len() {
        let at = parsed.whole;
        let rest = &content[at..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        let is_last = end.is_none_or(|end| at + end + 1 == content.len());
        let damaged = |what: String| Unusable::Damaged { offset: at, what };
        let Some(record) = record_of(line) else {
            if !is_last {
                let what = format!("the record{} is damaged", about(line));
                return Err(damaged(what));
            }
            let how = if end.is_some() { "is damaged" } else { "is cut short" };
            parsed.losses.push(format!("its last record, at byte {at}{}, {how}", about(line)));
            break;
        };
        order.next(&record).map_err(damaged)?;
        let bytes = line.len() + 1;
        parsed.lines.push(at..at + line.len());
        parsed.revision = record.revision;
        parsed.unended = end.is_none();
        parsed.whole += bytes - usize::from(parsed.unended);
    }
    if let Some(live) = order.live {
        parsed.losses.push(format!("it ends after {live} of the objects that were compacted"));
    }
    Ok(parsed)
}

/// Whether records follow each other as they were written.
#[derive(Debug, Default)]
struct Order {
    revision: Option<u64>,
    /// Objects since the beginning, where compaction has not ended yet.
    live: Option<u64>,
}

impl Order {
    fn next(&mut self, record: &Record) -> Result<(), String> {
        let Record { revision, change, .. } = record;
        let missing = |from: u64| format!("records are missing: {revision} comes after {from}");
        match (change, self.live) {
            (Change::Live(_), None) if self.revision.is_none() => self.live = Some(1),
            (Change::Live(_), Some(live)) if self.revision == Some(*revision) => {
                self.live = Some(live + 1);
            }
            (Change::Compacted { objects }, live) if live.unwrap_or(0) == *objects => {
                self.live = None;
            }
            (Change::Compacted { objects }, live) => {
                let live = live.unwrap_or(0);
                return Err(format!("records are missing: {live} of {objects} objects are there"));
            }
            (Change::Lost, _) => self.live = None,
            (Change::Put(_) | Change::Delete, None)
                if self.revision.unwrap_or(0) + 1 == *revision => {}
            _ => return Err(missing(self.revision.unwrap_or(0))),
        }
        self.revision = Some(*revision);
        Ok(())
    }
}

/// A record as a line.
pub(super) fn line_of(record: &Record) -> std::io::Result<Vec<u8>> {
    let mut line = vec![b' '; HASH_LENGTH + 1];
    serde_json::to_writer(&mut line, record)?;
    Ok(ended(line))
}

/// What a record says of an object whose JSON is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// As [`Change::Put`].
    Put,
    /// As [`Change::Live`].
    Live,
}

/// A record of an object as a line, the same as [`line_of`] makes of its value.
pub(super) fn line_of_object(
    revision: u64,
    key: &Key,
    says: Says,
    json: &[u8],
) -> std::io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Head<'a> {
        revision: u64,
        #[serde(flatten)]
        key: &'a Key,
    }
    let mut line = vec![b' '; HASH_LENGTH + 1];
    serde_json::to_writer(&mut line, &Head { revision, key })?;
    // The brace that ends it: more follows.
    line.pop();
    let says = match says {
        Says::Put => "put",
        Says::Live => "live",
    };
    line.extend_from_slice(format!(r#","change":{{"{says}":"#).as_bytes());
    line.extend_from_slice(json);
    line.extend_from_slice(b"}}");
    Ok(ended(line))
}

/// A line that has all but its hash and its end.
fn ended(mut line: Vec<u8>) -> Vec<u8> {
    let hash = hash_of(&line[HASH_LENGTH + 1..]);
    line[..HASH_LENGTH].copy_from_slice(hash.as_bytes());
    line.push(b'\n');
    line
}

/// Checksum of a record: 16 hex digits.
pub(super) fn hash_of(record: &[u8]) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(record))
}

fn record_of(line: &[u8]) -> Option<Record> {
    let (hash, record) = line.split_at_checked(HASH_LENGTH + 1)?;
    (&hash[..HASH_LENGTH] == hash_of(record).as_bytes() && hash[HASH_LENGTH] == b' ')
        .then(|| serde_json::from_slice(record).ok())
        .flatten()
}

/// Whom a damaged record is about, as far as its beginning tells.
fn about(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(ABOUT_BYTES)]);
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("\"{name}\":\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    match (field("plural"), field("namespace"), field("name")) {
        (Some(plural), Some(namespace), Some(name)) if namespace.is_empty() => {
            format!(" ({plural} {name})")
        }
        (Some(plural), Some(namespace), Some(name)) => format!(" ({plural} {namespace}/{name})"),
        _ => String::new(),
    }
}

/// First line of a journal.
pub(super) const HEADER: &str = "ironmesh journal 2\n";
const HASH_LENGTH: usize = 16;
/// Bytes of a record in which its key stands.
const ABOUT_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Collection;

    #[test]
    fn a_line_of_text_is_that_of_its_value() {
        let key = Collection::new("apps", "deployments").key("default", "a\"b");
        let object = Arc::new(json!({"kind": "Deployment", "spec": {"text": "\u{1}\\"}}));
        let json = object.to_string();
        for (says, change) in
            [(Says::Put, Change::Put(object.clone())), (Says::Live, Change::Live(object.clone()))]
        {
            let record = Record { revision: 7, key: key.clone(), change };
            let line = line_of_object(7, &key, says, json.as_bytes()).unwrap();
            assert_eq!(line, line_of(&record).unwrap());
        }
    }
}
