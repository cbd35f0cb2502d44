//! What a limit can be: a duration, or a number that may have a unit of bytes.

use std::time::Duration;

use crate::settings::{parse_duration, show_duration};

/// Something that a limit can be.
pub(super) trait Limit: Sized {
    /// What values look like.
    const EXPECTED: &'static str;

    fn read(text: &str) -> Option<Self>;

    fn show(&self) -> String;
}

impl Limit for Duration {
    const EXPECTED: &'static str = "a duration such as 30s or 1m30s";

    fn read(text: &str) -> Option<Self> {
        parse_duration(text)
    }

    fn show(&self) -> String {
        show_duration(*self)
    }
}

/// Numbers: plain, or with a unit of bytes.
macro_rules! number {
    ($kind:ty) => {
        impl Limit for $kind {
            const EXPECTED: &'static str = "a whole number above 0, such as 100 or 64KiB";

            fn read(text: &str) -> Option<Self> {
                let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                let (digits, unit) = text.split_at(end);
                let shift = match unit.strip_suffix('B').unwrap_or(unit) {
                    "" => 0,
                    "Ki" => 10,
                    "Mi" => 20,
                    "Gi" => 30,
                    _ => return None,
                };
                let number: u64 = digits.parse().ok()?;
                let bytes = number.checked_mul(1 << shift)?;
                Self::try_from(bytes).ok().filter(|number| *number > 0)
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    };
}

number!(usize);
number!(u32);
number!(u64);
