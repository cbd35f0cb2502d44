//! The journal: one file of lines, appended to before a change is acknowledged.
//!
//! The first line is the format's name and version. Every other is `HASH RECORD`: 16 hex digits of
//! the XXH3 hash of the record, and the record as JSON. Compaction writes the live objects to a
//! second file and renames it over the first, so that at every moment one whole journal exists. A
//! last line that is cut short or does not match its hash was never acknowledged; it is dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::object::Object;

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file system refuses.
    #[error("journal {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is none of ours, or of a later version.
    #[error("journal {}: its first line is {found:?}, this version reads {HEADER:?}; move the file away to begin anew", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it begins with.
        found: String,
    },
    /// A record before the last is damaged.
    #[error("journal {}: the record at byte {offset} is damaged, and others follow it; restore the file or move it away", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: usize,
    },
}

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Resource version of the change.
    pub(super) revision: u64,
    /// Which object; of [`Change::Compacted`] none.
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
    /// All before this are live objects, not changes: the end of what compaction wrote.
    Compacted,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// On a tmpfs there is nothing that a sync could save.
    on_disk: bool,
}

impl Journal {
    /// Opens or makes the journal in a directory. Returns its records with their lengths in bytes.
    pub(super) fn open(directory: &Path) -> Result<(Self, Vec<(Record, u64)>), Error> {
        let path = directory.join(FILE_NAME);
        let failed = |source| Error::Io { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let mut file = private_file(&path, false).map_err(failed)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        let (records, whole) = if content.is_empty() {
            file.write_all(HEADER.as_bytes()).map_err(failed)?;
            (Vec::new(), HEADER.len())
        } else {
            parse(&path, &content)?
        };
        if whole < content.len() {
            let dropped = content.len() - whole;
            tracing::warn!(path = %path.display(), dropped, "unfinished last record dropped");
            file.set_len(whole as u64).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(failed)?;
        let on_disk = nix::sys::statfs::fstatfs(&file)
            .map_or(true, |fs| fs.filesystem_type() != nix::sys::statfs::TMPFS_MAGIC);
        Ok((Self { path, file, bytes: whole as u64, on_disk }, records))
    }

    /// Length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A handle with which what was written so far can be synced; none on a tmpfs.
    pub(super) fn sync_handle(&self) -> Option<File> {
        self.on_disk.then(|| self.file.try_clone().ok()).flatten()
    }

    /// Appends a record and returns its length. If it cannot be written as a whole, the journal
    /// stays as it was.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<u64> {
        let line = line_of(record)?;
        if let Err(error) = self.file.write_all(&line) {
            self.file.set_len(self.bytes)?;
            self.file.seek(SeekFrom::Start(self.bytes))?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        Ok(line.len() as u64)
    }

    /// Replaces the journal by one that holds only the live objects. If it cannot, the journal stays
    /// as it was, and nothing is left beside it.
    pub(super) fn compact(
        &mut self,
        live: &[(&Key, &Arc<Object>)],
        revision: u64,
    ) -> io::Result<()> {
        let next = self.path.with_extension("next");
        match self.write_compacted(&next, live, revision) {
            Ok((file, bytes)) => {
                (self.file, self.bytes) = (file, bytes);
                Ok(())
            }
            Err(error) => {
                // It holds nothing that the journal does not; if it was renamed, it is not there.
                let _ = std::fs::remove_file(&next);
                Err(error)
            }
        }
    }

    fn write_compacted(
        &self,
        next: &Path,
        live: &[(&Key, &Arc<Object>)],
        revision: u64,
    ) -> io::Result<(File, u64)> {
        let mut file = io::BufWriter::new(private_file(next, true)?);
        file.write_all(HEADER.as_bytes())?;
        let mut bytes = HEADER.len() as u64;
        let mut write = |record: &Record| -> io::Result<()> {
            let line = line_of(record)?;
            bytes += line.len() as u64;
            file.write_all(&line)
        };
        for (key, object) in live {
            let change = Change::Put(Arc::clone(object));
            write(&Record { revision, key: (*key).clone(), change })?;
        }
        let no_key = super::Collection::core("").key("", "");
        write(&Record { revision, key: no_key, change: Change::Compacted })?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if self.on_disk {
            file.sync_data()?;
        }
        std::fs::rename(next, &self.path)?;
        // From here on the new file is the journal, whatever happens.
        if self.on_disk
            && let Some(directory) = self.path.parent()
            && let Err(error) = File::open(directory).and_then(|directory| directory.sync_all())
        {
            tracing::warn!(%error, "directory of the journal not synced to disk");
        }
        Ok((file, bytes))
    }
}

fn private_file(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(truncate).mode(0o600).open(path)
}

fn line_of(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = vec![b' '; HASH_LENGTH + 1];
    serde_json::to_writer(&mut line, record)?;
    let hash = hash_of(&line[HASH_LENGTH + 1..]);
    line[..HASH_LENGTH].copy_from_slice(hash.as_bytes());
    line.push(b'\n');
    Ok(line)
}

fn hash_of(record: &[u8]) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(record))
}

/// All whole records, and the length of the file up to their end.
fn parse(path: &Path, content: &[u8]) -> Result<(Vec<(Record, u64)>, usize), Error> {
    if !content.starts_with(HEADER.as_bytes()) {
        // A header cut short is that of a journal without any record.
        if HEADER.as_bytes().starts_with(content) {
            return Ok((Vec::new(), 0));
        }
        let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let found = String::from_utf8_lossy(&first[..first.len().min(80)]).into_owned();
        return Err(Error::Format { path: path.to_owned(), found });
    }
    let mut records = Vec::new();
    let mut at = HEADER.len();
    while at < content.len() {
        let end = content[at..].iter().position(|byte| *byte == b'\n').map(|n| at + n);
        match end.and_then(|end| Some((end, record_of(&content[at..end])?))) {
            Some((end, record)) => {
                records.push((record, (end + 1 - at) as u64));
                at = end + 1;
            }
            // Damage is only then an unfinished write if nothing follows it.
            None if end.is_none_or(|end| end + 1 == content.len()) => break,
            None => return Err(Error::Damaged { path: path.to_owned(), offset: at }),
        }
    }
    Ok((records, at))
}

fn record_of(line: &[u8]) -> Option<Record> {
    let (hash, record) = line.split_at_checked(HASH_LENGTH + 1)?;
    (&hash[..HASH_LENGTH] == hash_of(record).as_bytes())
        .then(|| serde_json::from_slice(record).ok())
        .flatten()
}

const FILE_NAME: &str = "journal";
const HEADER: &str = "ironmesh journal 1\n";
const HASH_LENGTH: usize = 16;
