//! Lists of indexes, as fields of Jobs have them.

use std::collections::BTreeSet;
use std::fmt;

/// Some of the indexes of a Job, written as Kubernetes writes them: `0,2-4`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexes(BTreeSet<u32>);

impl Indexes {
    /// Those of a text that are below a count; what is no index is passed over.
    pub(crate) fn parse(text: &str, count: u32) -> Self {
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<u32>()) {
                all.extend((first..=last).take_while(|index| *index < count));
            }
        }
        Self(all)
    }

    /// Whether a text is a list of indexes in ascending order, all below a count.
    pub(crate) fn is_list(text: &str, count: u32) -> bool {
        let mut next = 0;
        text.split(',').all(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
                return false;
            };
            let fits = next <= first && first <= last && last < count;
            next = last.saturating_add(1);
            fits
        })
    }

    pub(crate) fn insert(&mut self, index: u32) {
        self.0.insert(index);
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.0.contains(&index)
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of others are among them.
    pub(crate) fn common(&self, others: &Self) -> u32 {
        u32::try_from(self.0.intersection(&others.0).count()).unwrap_or(u32::MAX)
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut indexes = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = indexes.next() {
            let mut last = first;
            while let Some(next) = indexes.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{comma}{first}")?;
            match last - first {
                0 => {}
                1 => write!(f, ",{last}")?,
                _ => write!(f, "-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_as_kubernetes_writes_them() {
        for text in ["", "0", "0,1", "0-2", "1,3-5,7,8", "2-9"] {
            assert_eq!(Indexes::parse(text, 10).to_string(), text);
        }
        assert_eq!(Indexes::parse("0-4294967295,x,7-3,-1", 3).to_string(), "0-2");
        for (text, fits) in [("0-2,4", true), ("4,0", false), ("1,1", false), ("0-10", false)] {
            assert_eq!(Indexes::is_list(text, 10), fits, "{text}");
        }
        assert!(!Indexes::is_list("", 10) && !Indexes::is_list("a", 10));
    }
}
