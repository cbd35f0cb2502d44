//! One log on the disk, which never outgrows its limit and whose writing never fails: what cannot be
//! written is lost, counted, and said in the log as soon as it can be written to again.

mod times;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ironmesh_model::log_times;

use self::times::Times;

/// A log file. What is older than its limit is in one more file of that size, `NAME.log.1`.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    /// None while it cannot be opened.
    file: Option<File>,
    length: u64,
    bytes_max: u64,
    /// Whether the last line is complete.
    is_line_complete: bool,
    lost: Option<Lost>,
    /// When its lines were written, if that is kept.
    times: Option<Times>,
}

/// What could not be written, and why.
#[derive(Debug)]
struct Lost {
    bytes: u64,
    why: io::Error,
}

impl LogFile {
    /// A log that goes on where the file ends.
    pub(crate) fn new(path: PathBuf, bytes_max: u64) -> Self {
        let mut log = Self {
            path,
            file: None,
            length: 0,
            bytes_max,
            is_line_complete: true,
            lost: None,
            times: None,
        };
        if let Err(why) = log.open() {
            log.lost = Some(Lost { bytes: 0, why });
        }
        log
    }

    /// The same, with a file beside it that says when its lines were written.
    pub(crate) fn with_times(path: PathBuf, bytes_max: u64) -> Self {
        let times = Some(Times::new(times_of(&path)));
        Self { times, ..Self::new(path, bytes_max) }
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes bytes, or loses them. Says why when a loss begins.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Option<&io::Error> {
        if self.lost.is_some() && self.tell_loss().is_err() {
            self.lose(bytes.len(), None);
            return None;
        }
        match self.write(bytes) {
            Ok(()) => None,
            Err((left, why)) => {
                self.lose(left, Some(why));
                self.lost.as_ref().map(|lost| &lost.why)
            }
        }
    }

    /// Says in the log what was lost of it, if anything was and the log can be written to.
    pub(crate) fn finish(&mut self) {
        // If it cannot be said, it is because nothing can be written.
        let _ = self.tell_loss();
    }

    fn lose(&mut self, bytes: usize, why: Option<io::Error>) {
        let why = why.unwrap_or_else(|| io::ErrorKind::StorageFull.into());
        self.lost.get_or_insert(Lost { bytes: 0, why }).bytes += bytes as u64;
    }

    fn tell_loss(&mut self) -> io::Result<()> {
        let Some(lost) = self.lost.take() else { return Ok(()) };
        let before = self.length;
        let result = self.open().and_then(|()| {
            if lost.bytes == 0 {
                return Ok(());
            }
            let begin = if self.is_line_complete { "" } else { "\n" };
            let line = format!(
                "{begin}ironmesh: {} bytes of this log were lost: {}\n",
                lost.bytes, lost.why
            );
            self.write(line.as_bytes()).map_err(|(_, why)| why)
        });
        if result.is_err() {
            // Half of the line would stay in the way of the next attempt.
            if let Some(file) = &self.file
                && self.length > before
                && file.set_len(before).is_ok()
            {
                self.length = before;
            }
            self.lost = Some(lost);
        }
        result
    }

    /// Writes all, in files of at most `bytes_max`, a new one at the end of a line where possible. If
    /// it fails, says how many bytes were left.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        while !bytes.is_empty() {
            let room = self.bytes_max.saturating_sub(self.length);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let end = match bytes.get(..room) {
                None => bytes.len(),
                Some(fitting) => match memchr::memrchr(b'\n', fitting) {
                    Some(newline) => newline + 1,
                    None if self.length > 0 && self.is_line_complete => 0,
                    None => room,
                },
            };
            let (piece, rest) = bytes.split_at(end);
            self.write_piece(piece).map_err(|(left, why)| (left + rest.len(), why))?;
            if !rest.is_empty() {
                self.rotate().map_err(|why| (rest.len(), why))?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn write_piece(&mut self, mut piece: &[u8]) -> Result<(), (usize, io::Error)> {
        if let Some(times) = &mut self.times {
            times.note(self.length);
        }
        let closed = || io::Error::from(io::ErrorKind::NotFound);
        while !piece.is_empty() {
            let written = match &mut self.file {
                Some(file) => file.write(piece),
                None => Err(closed()),
            };
            match written {
                Ok(0) => return Err((piece.len(), io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.length += count as u64;
                    self.is_line_complete = piece[count - 1] == b'\n';
                    piece = &piece[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((piece.len(), error)),
            }
        }
        Ok(())
    }

    /// Opens the file, if it is not open.
    fn open(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).mode(0o644).open(&self.path)?;
            self.length = file.metadata()?.len();
            self.file = Some(file);
        }
        Ok(())
    }

    /// Moves the file aside and begins another.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if fs::rename(&self.path, older(&self.path)).is_err() {
            // The limit counts for more than what is in the file.
            fs::remove_file(&self.path)?;
        }
        self.is_line_complete = true;
        if let Some(times) = &mut self.times {
            times.begin_anew(&times_of(&older(&self.path)));
        }
        self.open()
    }
}

/// For a log of this process's own, which cannot say more if a line is lost.
impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the times of a log are.
pub(super) fn times_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(log_times::EXTENSION);
    PathBuf::from(name)
}

/// Where the older part of a log is.
pub(super) fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_log_stays_below_its_limit_and_is_parted_between_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n_p/c.log");
        let mut log = LogFile::new(path.clone(), 10);
        log.append(b"one\ntwo\nthree\n");
        assert_eq!((text(&older(&path)), text(&path)), ("one\ntwo\n".into(), "three\n".into()));
        log.append(b"four\n");
        assert_eq!((text(&older(&path)), text(&path)), ("three\n".into(), "four\n".into()));
        // A line that is longer than the limit is parted, too.
        log.append(&[b'x'; 25]);
        assert_eq!((text(&older(&path)).len(), text(&path).len()), (10, 5));
        drop(log);
        LogFile::new(path.clone(), 10).append(b"y\n");
        assert_eq!(text(&path), "xxxxxy\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.log");
        let mut log = LogFile::new(path.clone(), 1000);
        log.append(b"one\nhalf a li");
        log.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let why = log.append(b"ne\nlost\n").unwrap().to_string();
        assert!(why.contains("No space left"), "{why}");
        assert!(log.append(b"lost, too\n").is_none(), "a loss is told once");
        assert_eq!(text(&path), "one\nhalf a li");
        log.file = None;
        log.append(b"three\n");
        let told = text(&path);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!((lines[1], lines[3]), ("half a li", "three"));
        assert!(
            lines[2].starts_with("ironmesh: 18 bytes of this log were lost: No space"),
            "{told}"
        );
    }

    #[test]
    fn times_follow_the_log_and_stay_bounded() {
        use ironmesh_model::log_times::LogTimes;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.log");
        let begun = crate::clock::millis();
        let mut log = LogFile::with_times(path.clone(), 10);
        let times = || LogTimes::parse(&fs::read(times_of(&path)).unwrap_or_default());
        log.append(b"one\n");
        assert!(times().at(0).is_some_and(|at| at >= begun));
        // In another file bytes are counted anew.
        log.append(b"two\nthree\n");
        assert_eq!(text(&path), "three\n");
        assert_eq!(times().since(begun), Some(0));
        // A folder in the way costs the times, and no line.
        drop(log);
        fs::remove_file(times_of(&path)).unwrap();
        fs::create_dir(times_of(&path)).unwrap();
        LogFile::with_times(path.clone(), 10).append(b"!\n");
        assert_eq!(text(&path), "three\n!\n");
    }

    #[test]
    fn a_log_that_cannot_be_made_is_made_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n_p/c.log");
        fs::write(folder.path().join("n_p"), "in the way").unwrap();
        let mut log = LogFile::new(path.clone(), 1000);
        log.append(b"lost\n");
        fs::remove_file(folder.path().join("n_p")).unwrap();
        log.finish();
        assert!(text(&path).starts_with("ironmesh: 5 bytes of this log were lost"));
    }
}
