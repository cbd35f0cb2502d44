//! The journal: one file of lines, appended to before a change is acknowledged.
//!
//! The first line is the format's name and version. Every other is `HASH RECORD`: 16 hex digits of
//! the XXH3 hash of the record, and the record as JSON. Records are numbered without gaps by their
//! resource versions. Compaction writes the live objects, and how many they are, to a second file
//! and renames it over the first, so that at every moment one whole journal exists.
//!
//! Beside it stands the [`mark`](Mark): up to which version the journal reached the disk. So a file
//! that was cut between two records is known to be short. What cannot be used is copied before it is
//! cut off, and what is lost is said ([`Opened::losses`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kept::Kept;
use super::record::{
    Change, HEADER, Record, Records, Says, Unusable, hash_of, line_of, line_of_object, parse,
};
use super::{Collection, Key};

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
    /// The file is none of ours, or of another version.
    #[error("journal {}: its first line is {found:?}, this version reads {HEADER:?}; restore the file, or move it away to begin anew", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it begins with.
        found: String,
    },
    /// A record before the last is damaged.
    #[error("journal {}: damaged at byte {offset}: {what}, and others follow; restore the file, or move it away to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: String,
    },
    /// There are many copies of damaged journals already.
    #[error("journal {}: it is damaged, and there are {COPIES_MAX} copies of damaged ones beside it; move those away", path.display())]
    ManyCopies {
        /// The file.
        path: PathBuf,
    },
}

/// A journal and what was in it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) journal: Journal,
    pub(super) records: Records,
    /// What is lost, for people; empty if the journal was whole.
    pub(super) losses: Vec<String>,
    /// What was marked last.
    pub(super) mark: Mark,
}

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    /// Whether more stands in the file than it should, after a write that failed.
    torn: bool,
    mark: Arc<File>,
    /// On a tmpfs there is nothing that a sync could save.
    on_disk: bool,
}

/// How far the journal had come when it was last synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Resource version of the last change.
    pub(super) revision: u64,
    /// How many objects there were.
    pub(super) objects: usize,
}

impl Journal {
    /// Opens or makes the journal in a directory.
    pub(super) fn open(directory: &Path) -> Result<Opened, Error> {
        let path = directory.join(FILE_NAME);
        let failed = |source| Error::Io { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let file = private_file(&path, false).map_err(failed)?;
        let mut content = Vec::new();
        (&file).read_to_end(&mut content).map_err(failed)?;
        let mut parsed = parse(&content).map_err(|unusable| match unusable {
            Unusable::Format(found) => Error::Format { path: path.clone(), found },
            Unusable::Damaged { offset, what } => {
                Error::Damaged { path: path.clone(), offset, what }
            }
        })?;
        let (mark_file, mark) = open_mark(directory, &mut parsed.losses).map_err(failed)?;
        let last = parsed.revision;
        if last < mark.revision {
            let missing = mark.revision - last;
            parsed.losses.push(format!("the last {missing} changes are missing"));
        }
        let on_disk = nix::sys::statfs::fstatfs(&file)
            .map_or(true, |fs| fs.filesystem_type() != nix::sys::statfs::TMPFS_MAGIC);
        let mut journal = Self {
            path,
            file: Arc::new(file),
            bytes: parsed.whole as u64,
            torn: false,
            mark: Arc::new(mark_file),
            on_disk,
        };
        let copied = if parsed.losses.is_empty() { None } else { journal.keep_copy(&content)? };
        journal.mend(&parsed, last.max(mark.revision))?;
        let mut losses = parsed.losses;
        losses.extend(copied.map(|copy| format!("a copy of it is {}", copy.display())));
        let records = Records { content, lines: parsed.lines };
        Ok(Opened { journal, records, losses, mark })
    }

    /// Makes the file end where its records do, and notes what is lost in it, so that the versions
    /// that were given are not given again.
    fn mend(&mut self, parsed: &super::record::Parsed, revision: u64) -> Result<(), Error> {
        let path = self.path.clone();
        let failed = |source| Error::Io { path: path.clone(), source };
        if self.bytes == 0 {
            self.file.set_len(0).map_err(failed)?;
            self.write(HEADER.as_bytes()).map_err(failed)?;
        } else {
            self.file.set_len(self.bytes).map_err(failed)?;
        }
        if parsed.unended {
            self.write(b"\n").map_err(failed)?;
        }
        if !parsed.losses.is_empty() {
            self.append(&Record { revision, key: no_key(), change: Change::Lost })
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Copies a journal that is not whole, before anything in it is changed.
    fn keep_copy(&self, content: &[u8]) -> Result<Option<PathBuf>, Error> {
        if content.is_empty() {
            return Ok(None);
        }
        for number in 1..=COPIES_MAX {
            let copy = self.path.with_extension(format!("damaged.{number}"));
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy);
            match made.and_then(|mut file| {
                file.write_all(content)?;
                file.sync_all()
            }) {
                Ok(()) => return Ok(Some(copy)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::Io { path: copy, source }),
            }
        }
        Err(Error::ManyCopies { path: self.path.clone() })
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it takes to bring the journal to the disk, without holding it.
    pub(super) fn sync(&self, mark: Mark) -> Sync {
        let file = self.on_disk.then(|| self.file.clone());
        Sync { file, mark_file: self.mark.clone(), mark }
    }

    /// Appends a record and returns its length. If it cannot be written as a whole, the journal
    /// stays as it was.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<u64> {
        let line = line_of(record)?;
        self.write(&line)?;
        Ok(line.len() as u64)
    }

    /// As [`Journal::append`], of an object that is put.
    pub(super) fn put(&mut self, revision: u64, key: &Key, object: &Kept) -> io::Result<u64> {
        let line = line_of_object(revision, key, Says::Put, object.json())?;
        self.write(&line)?;
        Ok(line.len() as u64)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.bytes)?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all_at(bytes, self.bytes) {
            // What cannot be cut off now is before the next record is written.
            self.torn = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Begins the journal that is to take the place of this one.
    pub(super) fn begin_next(&self) -> io::Result<Next> {
        let path = self.path.with_extension("next");
        let mut file = io::BufWriter::new(private_file(&path, true)?);
        file.write_all(HEADER.as_bytes())?;
        Ok(Next {
            path,
            file,
            bytes: HEADER.len() as u64,
            objects: 0,
            old: self.file.clone(),
            copied: self.bytes,
            on_disk: self.on_disk,
        })
    }

    /// Puts the next journal in the place of this one; it has all that this one has.
    pub(super) fn replace(&mut self, next: Next) -> io::Result<()> {
        let file = next.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(&next.path, &self.path)?;
        (self.file, self.bytes, self.torn) = (Arc::new(file), next.bytes, false);
        Ok(())
    }

    /// The directory of the journal, where there is a disk to sync it to.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.path.parent().filter(|_| self.on_disk).map(Path::to_owned)
    }
}

/// What is to be synced.
#[derive(Debug)]
pub(super) struct Sync {
    file: Option<Arc<File>>,
    mark_file: Arc<File>,
    mark: Mark,
}

impl Sync {
    /// Brings the journal to the disk, then notes how far it came. Waits for the disk.
    pub(super) fn run(self) -> io::Result<()> {
        if let Some(file) = self.file {
            file.sync_data()?;
        }
        self.mark_file.write_all_at(&mark_line(self.mark), 0)
    }
}

/// A compacted journal that is being written.
#[derive(Debug)]
pub(super) struct Next {
    path: PathBuf,
    file: io::BufWriter<File>,
    bytes: u64,
    objects: u64,
    old: Arc<File>,
    /// Up to where the old journal's records are in this one.
    copied: u64,
    on_disk: bool,
}

impl Next {
    /// Writes an object that was there at `revision`.
    pub(super) fn live(&mut self, revision: u64, key: &Key, object: &Kept) -> io::Result<()> {
        self.objects += 1;
        self.write(&line_of_object(revision, key, Says::Live, object.json())?)
    }

    /// Ends the objects.
    pub(super) fn close(&mut self, revision: u64) -> io::Result<()> {
        let change = Change::Compacted { objects: self.objects };
        self.write(&line_of(&Record { revision, key: no_key(), change })?)
    }

    /// Copies what the old journal got meanwhile, up to its length. Returns how many bytes.
    pub(super) fn catch_up(&mut self, length: u64) -> io::Result<u64> {
        let mut part = vec![0; COPY_BYTES];
        let from = self.copied;
        while self.copied < length {
            let most = part.len().min(usize::try_from(length - self.copied).unwrap_or(usize::MAX));
            self.old.read_exact_at(&mut part[..most], self.copied)?;
            self.file.write_all(&part[..most])?;
            self.copied += most as u64;
            self.bytes += most as u64;
        }
        Ok(length - from)
    }

    /// Brings it to the disk. Waits for that.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        if self.on_disk { self.file.get_ref().sync_data() } else { Ok(()) }
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Where it is, to be removed if it is not finished.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.bytes += line.len() as u64;
        self.file.write_all(line)
    }
}

fn no_key() -> Key {
    Collection::core("").key("", "")
}

fn private_file(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(truncate).mode(0o600).open(path)
}

/// Opens the mark. One that cannot be read marks nothing, which is noted as a loss.
fn open_mark(directory: &Path, losses: &mut Vec<String>) -> io::Result<(File, Mark)> {
    let file = private_file(&directory.join(MARK_NAME), false)?;
    let mut line = Vec::new();
    (&file).take(MARK_BYTES_MAX).read_to_end(&mut line)?;
    if line.is_empty() {
        return Ok((file, Mark::default()));
    }
    let words: Vec<&str> = std::str::from_utf8(&line).unwrap_or_default().split(' ').collect();
    let mark = match words[..] {
        [revision, objects, _] => revision
            .parse()
            .ok()
            .zip(objects.parse().ok())
            .map(|(revision, objects)| Mark { revision, objects })
            .filter(|mark| mark_line(*mark) == line),
        _ => None,
    };
    if mark.is_none() {
        losses.push(format!("whether it is whole is not known: {MARK_NAME} beside it is damaged"));
    }
    Ok((file, mark.unwrap_or_default()))
}

/// The mark as it stands in its file: always of one length, so that it is overwritten as a whole.
fn mark_line(mark: Mark) -> Vec<u8> {
    let text = format!("{:020} {:020}", mark.revision, mark.objects);
    format!("{text} {}\n", hash_of(text.as_bytes())).into_bytes()
}

const FILE_NAME: &str = "journal";
const MARK_NAME: &str = "journal.mark";
/// More than a mark has.
const MARK_BYTES_MAX: u64 = 256;
/// Copies of damaged journals that are kept; then a person is to look.
const COPIES_MAX: u32 = 99;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_write_left_is_cut_off_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let record = |revision| Record {
            revision,
            key: Collection::core("pods").key("default", "a"),
            change: Change::Delete,
        };
        let mut journal = Journal::open(directory.path()).unwrap().journal;
        journal.append(&record(1)).unwrap();
        // A disk that was full in the middle of a record, and did not even let it be cut off.
        journal.file.write_all_at(b"half of a rec", journal.bytes).unwrap();
        journal.torn = true;
        journal.append(&record(2)).unwrap();
        drop(journal);
        let opened = Journal::open(directory.path()).unwrap();
        assert_eq!(opened.losses, Vec::<String>::new());
        assert_eq!(opened.records.iter().count(), 2);
        // A file that takes no writes: nothing of the record is left.
        let mut journal = opened.journal;
        let length = journal.bytes;
        journal.file = Arc::new(File::open(directory.path().join("journal")).unwrap());
        journal.append(&record(3)).unwrap_err();
        assert_eq!(journal.bytes, length);
        assert_eq!(std::fs::metadata(directory.path().join("journal")).unwrap().len(), length);
    }
}
