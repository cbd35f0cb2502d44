//! When the lines of a log were written: a file beside the log says which of its bytes were there at
//! which times, so that the log itself stays what was written.
//!
//! Who writes a log adds a record now and then, and who reads it finds the time of a line by the last
//! record at or before its beginning. Times are as exact as records are close together.

/// Extension that the name of a log has in the name of the file with its times.
pub const EXTENSION: &str = "times";

/// Bytes of a record.
pub const RECORD_BYTES: usize = 16;

/// From a byte of the log on, nothing was written before a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where in the log, in bytes.
    pub offset: u64,
    /// When, in milliseconds since 1970.
    pub unix_millis: u64,
}

impl Record {
    /// As it is in the file: both numbers, little-endian.
    pub fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.unix_millis.to_le_bytes());
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (offset, millis) = bytes.split_at_checked(8)?;
        Some(Self {
            offset: u64::from_le_bytes(offset.try_into().ok()?),
            unix_millis: u64::from_le_bytes(millis.try_into().ok()?),
        })
    }
}

/// The times of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTimes(Vec<Record>);

impl LogTimes {
    /// Reads the file; an incomplete record at its end is left out.
    pub fn parse(bytes: &[u8]) -> Self {
        let whole = bytes.chunks_exact(RECORD_BYTES);
        Self(whole.filter_map(Record::of_bytes).collect())
    }

    /// When the line at an offset was written; none if nothing is known of the log.
    pub fn at(&self, offset: u64) -> Option<u64> {
        let next = self.0.partition_point(|record| record.offset <= offset);
        let record = self.0.get(next.saturating_sub(1))?;
        Some(record.unix_millis)
    }

    /// From which byte on all was written at a time or later; what was written shortly before may be
    /// with it. None if nothing was.
    pub fn since(&self, unix_millis: u64) -> Option<u64> {
        let first = self.0.partition_point(|record| record.unix_millis < unix_millis);
        // What follows the record before was written from its time on, perhaps until much later.
        match first.checked_sub(1).and_then(|before| self.0.get(before)) {
            Some(before) if unix_millis - before.unix_millis < INTERVAL_MILLIS => {
                Some(before.offset)
            }
            _ => self.0.get(first).map(|record| record.offset),
        }
    }

    /// Those of a log that goes on in another file: of `older`, which has so many bytes, and then these.
    pub fn behind(self, older: &Self, bytes: u64) -> Self {
        let moved = self
            .0
            .into_iter()
            .map(|record| Record { offset: record.offset.saturating_add(bytes), ..record });
        Self(older.0.iter().copied().chain(moved).collect())
    }

    /// The same with every second record only.
    pub fn thinned(&self) -> Vec<u8> {
        self.0.iter().step_by(2).flat_map(|record| record.to_bytes()).collect()
    }
}

/// How far records are apart at least, in milliseconds.
pub const INTERVAL_MILLIS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_time_of_the_record_before_them() {
        let records = [(0, 1000), (50, 2000), (80, 9000)];
        let records = records.map(|(offset, unix_millis)| Record { offset, unix_millis });
        let mut bytes: Vec<u8> = records.iter().flat_map(|record| record.to_bytes()).collect();
        bytes.extend([1, 2, 3]);
        let times = LogTimes::parse(&bytes);
        for (offset, time) in [(0, 1000), (49, 1000), (50, 2000), (79, 2000), (500, 9000)] {
            assert_eq!(times.at(offset), Some(time), "{offset}");
        }
        for (time, offset) in [
            (0, Some(0)),
            (1001, Some(0)),
            (1500, Some(50)),
            (2050, Some(50)),
            (2100, Some(80)),
            (9001, Some(80)),
            (9200, None),
        ] {
            assert_eq!(times.since(time), offset, "{time}");
        }
        assert_eq!(LogTimes::parse(&times.thinned()).0, [records[0], records[2]]);
        let both = times.clone().behind(&times, 100);
        assert_eq!((both.at(99), both.at(100), both.at(150)), (Some(9000), Some(1000), Some(2000)));
        assert_eq!(LogTimes::default().at(0), None);
        assert_eq!(LogTimes::default().since(0), None);
    }
}
