//! What the host's directories look like: mount points below them, and where symlinks lead.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::below;
use crate::sandbox::SandboxError;
use crate::sandbox::error::AtStep;

/// Where something is mounted.
#[derive(Debug)]
pub(super) struct MountPoints(BTreeSet<PathBuf>);

impl MountPoints {
    /// Those of this mount namespace.
    pub(super) fn read() -> Result<Self, SandboxError> {
        let table = fs::read("/proc/self/mountinfo").step("read", "/proc/self/mountinfo")?;
        Ok(Self::parse(&table))
    }

    /// Whether something is mounted below this directory.
    pub(super) fn below(&self, directory: &Path) -> bool {
        self.0
            .range(directory.to_owned()..)
            .take_while(|point| point.starts_with(directory))
            .any(|point| point != directory)
    }

    /// Whether something is mounted here.
    pub(super) fn at(&self, directory: &Path) -> bool {
        self.0.contains(directory)
    }

    fn parse(table: &[u8]) -> Self {
        let field = |line: &[u8]| {
            let text = line.split(|byte| *byte == b' ').nth(4)?;
            Some(PathBuf::from(OsString::from_vec(unescape(text))))
        };
        Self(table.split(|byte| *byte == b'\n').filter_map(field).collect())
    }
}

/// The path by which an absolute path is found when every symlink in it is followed, as far as it
/// exists. `..` goes up from where a symlink led.
pub(super) fn follow_symlinks(path: &Path) -> Result<PathBuf, SandboxError> {
    follow_symlinks_in(Path::new("/"), path)
}

/// As [`follow_symlinks`], in a tree whose root is this directory: no symlink leads out of it. The path
/// counts from that root.
pub(super) fn follow_symlinks_in(root: &Path, path: &Path) -> Result<PathBuf, SandboxError> {
    let too_deep = || SandboxError::new("follow symlinks of", path.display(), libc::ELOOP);
    let mut left: Vec<OsString> =
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    let mut found = PathBuf::from("/");
    let mut followed = 0;
    while let Some(part) = left.pop() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => {
                let next = found.join(name);
                let Ok(target) = fs::read_link(below(root, &next)) else {
                    found = next;
                    continue;
                };
                followed += 1;
                if followed > SYMLINKS_MAX {
                    return Err(too_deep());
                }
                left.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
            }
            Some(Component::ParentDir) => {
                found.pop();
            }
            Some(Component::RootDir) => found = PathBuf::from("/"),
            _ => {}
        }
    }
    Ok(found)
}

/// Undoes the octal escapes of the kernel's tables (`\040` is a space).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let code = after.first_chunk::<3>().filter(|_| first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

/// As in the kernel.
const SYMLINKS_MAX: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below_a_directory_are_found() {
        let table = b"22 1 8:1 / / rw - ext4 /dev/sda rw\n\
            23 22 0:21 / /mnt/a\\040b rw - tmpfs tmpfs rw\n\
            24 22 0:22 / /mnt-other rw - tmpfs tmpfs rw\n";
        let points = MountPoints::parse(table);
        assert!(points.below(Path::new("/mnt")));
        assert!(points.at(Path::new("/mnt/a b")));
        assert!(!points.below(Path::new("/mnt/a b")));
        assert!(!points.below(Path::new("/mnt-other")));
        assert!(!points.below(Path::new("/home")));
    }

    #[test]
    fn symlinks_are_followed_inside_the_tree() {
        let directory = tempfile::tempdir().unwrap();
        let base = follow_symlinks(directory.path()).unwrap();
        fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("relative")).unwrap();
        std::os::unix::fs::symlink(base.join("relative"), base.join("absolute")).unwrap();
        let found = follow_symlinks(&base.join("absolute/new/../file")).unwrap();
        assert_eq!(found, base.join("real/file"));
        std::os::unix::fs::symlink("loop", base.join("loop")).unwrap();
        assert_eq!(follow_symlinks(&base.join("loop")).unwrap_err().errno, libc::ELOOP);
        std::os::unix::fs::symlink("../../../real", base.join("up")).unwrap();
        for path in ["/up/file", "/../real/file", "/up/../real/file"] {
            let found = follow_symlinks_in(&base, Path::new(path)).unwrap();
            assert_eq!(found, Path::new("/real/file"), "{path}");
        }
    }
}
