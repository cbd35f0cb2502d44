//! Digests: what content is called, and what it is checked against.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

/// The SHA-256 of some content, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that is no [`Digest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no digest: only sha256 with 64 hexadecimal digits is known")]
pub struct NoDigest(String);

impl Digest {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(digest(&SHA256, bytes).as_ref())
    }

    /// The hexadecimal digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    fn from_hash(hash: &[u8]) -> Self {
        let hex = hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self(PREFIX.to_owned() + &hex)
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let hex = text.strip_prefix(PREFIX).filter(|hex| hex.len() == HEX_DIGITS);
        let is_hex = |hex: &&str| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.filter(is_hex).map(|_| Self(text.to_owned())).ok_or_else(|| NoDigest(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a digest of what comes bit by bit.
pub(crate) struct Hasher(Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_hash(self.0.finish().as_ref())
    }
}

/// Counts and hashes what is read through it, up to a number of bytes.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    left: u64,
    what: &'static str,
}

impl<R: Read> Hashing<R> {
    /// More than `bytes_max` bytes are an error that says `what` is too long.
    pub(crate) fn new(inner: R, bytes_max: u64, what: &'static str) -> Self {
        Self { inner, hasher: Hasher::default(), left: bytes_max, what }
    }

    /// Reads the rest; the digest of all.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hasher.finish())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("{} is too long", self.what))
        })?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

const PREFIX: &str = "sha256:";
const HEX_DIGITS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha256_is_a_digest() {
        let of_nothing = Digest::of(b"");
        assert!(of_nothing.hex().starts_with("e3b0c44298fc1c14"));
        assert_eq!(of_nothing.to_string().parse(), Ok(of_nothing));
        let sixty_four = "a".repeat(64);
        for bad in ["", "sha256:", "sha256:../x", &format!("md5:{sixty_four}")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(format!("sha256:{}", sixty_four.to_uppercase()).parse::<Digest>().is_err());
    }

    #[test]
    fn what_is_too_long_is_not_read_to_its_end() {
        let zeros = io::repeat(0);
        let error = Hashing::new(zeros, 1_000, "it").finish().unwrap_err();
        assert_eq!(error.to_string(), "it is too long");
        let exact = Hashing::new(&b"abc"[..], 3, "it").finish().unwrap();
        assert_eq!(exact, Digest::of(b"abc"));
    }
}
