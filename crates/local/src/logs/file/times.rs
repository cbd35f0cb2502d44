//! When the lines of a log were written, in a file beside it. What cannot be written of it is left out.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ironmesh_model::log_times::{INTERVAL_MILLIS, LogTimes, Record};

use crate::clock;

/// The times of one log.
#[derive(Debug)]
pub(super) struct Times {
    path: PathBuf,
    /// None while nothing was written.
    file: Option<File>,
    bytes: u64,
    /// How far records are apart at least, in milliseconds.
    interval_millis: u64,
    last_millis: u64,
}

impl Times {
    /// Times that go on where the file ends.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, bytes: 0, interval_millis: INTERVAL_MILLIS, last_millis: 0 }
    }

    /// Notes that more is about to be written to a log that has so many bytes.
    pub(super) fn note(&mut self, offset: u64) {
        let now = clock::millis();
        if now.saturating_sub(self.last_millis) < self.interval_millis {
            return;
        }
        if self.bytes >= BYTES_MAX {
            self.thin();
        }
        if self.file.is_none() {
            self.open();
        }
        let record = Record { offset, unix_millis: now }.to_bytes();
        // A log without its times is a log.
        if let Some(file) = &mut self.file
            && file.write_all(&record).is_ok()
        {
            self.bytes += record.len() as u64;
            self.last_millis = now;
        }
    }

    /// The log has been begun anew: the times until now are those of the older file.
    pub(super) fn begin_anew(&mut self, older: &Path) {
        if fs::rename(&self.path, older).is_err() {
            self.forget();
            // There may be none. Those of another file would be wrong.
            let _ = fs::remove_file(older);
        }
        *self = Self::new(std::mem::take(&mut self.path));
    }

    fn forget(&mut self) {
        // There may be none.
        let _ = fs::remove_file(&self.path);
        *self = Self::new(std::mem::take(&mut self.path));
    }

    fn open(&mut self) {
        let mut options = OpenOptions::new();
        self.file = options.append(true).create(true).mode(0o644).open(&self.path).ok();
        let length = self.file.as_ref().and_then(|file| file.metadata().ok());
        self.bytes = length.map_or(0, |metadata| metadata.len());
    }

    /// Leaves every second record, and makes new ones half as often.
    fn thin(&mut self) {
        let thinned = LogTimes::parse(&fs::read(&self.path).unwrap_or_default()).thinned();
        let mut new = self.path.as_os_str().to_owned();
        new.push(".log");
        self.file = None;
        self.interval_millis = self.interval_millis.saturating_mul(2);
        if fs::write(&new, thinned).and_then(|()| fs::rename(&new, &self.path)).is_err() {
            self.forget();
        }
    }
}

/// Bytes of the times of one log.
const BYTES_MAX: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_records_are_thinned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.log.times");
        let mut times = Times { interval_millis: 0, ..Times::new(path.clone()) };
        let records = BYTES_MAX / 16 + 10;
        for offset in 0..records {
            times.note(offset);
        }
        assert!(fs::metadata(&path).unwrap().len() <= BYTES_MAX / 2 + 160);
        let kept = LogTimes::parse(&fs::read(&path).unwrap());
        assert!(kept.at(0).is_some() && kept.at(records) >= kept.at(0));
    }
}
