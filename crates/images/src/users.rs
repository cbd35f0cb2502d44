//! The user that an image names, by its own `/etc/passwd` and `/etc/group`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::error::ImageError;
use crate::store::Held;
use crate::tree;

/// Who a container runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Number of the user.
    pub user: u32,
    /// Number of its group.
    pub group: u32,
    /// Its home.
    pub home: String,
}

/// Who the containers of an image run as: `wanted` and `group` are what the manifest says, which goes
/// before the image's `USER`.
///
/// # Errors
///
/// If the image names a user or group that it does not have.
pub fn user(held: &Held, wanted: Option<u32>, group: Option<u32>) -> Result<User, ImageError> {
    let layers = held.layers.iter().map(|path| File::open(path).map(OwnedFd::from));
    let layers: Vec<OwnedFd> = layers.collect::<io::Result<_>>()?;
    let (passwd, groups) = (read(&layers, "passwd")?, read(&layers, "group")?);
    let of_image = &held.image.config.user;
    let text = wanted.map_or_else(|| of_image.clone(), |user| user.to_string());
    find(&text, group, &passwd, &groups)
}

fn find(text: &str, group: Option<u32>, passwd: &str, groups: &str) -> Result<User, ImageError> {
    let (user, its_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // name:password:uid:gid:comment:home:shell
    let rows = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let row = rows.into_iter().find(|row| row.first() == Some(&user) || row.get(2) == Some(&user));
    let field = |index: usize| row.as_ref().and_then(|row| row.get(index).copied());
    let unknown =
        |file: &str, name: &str| ImageError::Invalid(format!("{name:?} is not in its /etc/{file}"));
    let number = user.parse().ok().or_else(|| field(2)?.parse().ok());
    let number = number.ok_or_else(|| unknown("passwd", user))?;
    let group = match (group, its_group) {
        (Some(group), _) => group,
        (None, Some(name)) => {
            let rows = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let row = rows.into_iter().find(|row| row.first() == Some(&name));
            let found = row.and_then(|row| row.get(2)?.parse().ok());
            found.or_else(|| name.parse().ok()).ok_or_else(|| unknown("group", name))?
        }
        (None, None) => field(3).and_then(|group| group.parse().ok()).unwrap_or(0),
    };
    let home = field(5).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(User { user: number, group, home })
}

/// A file of `/etc` of an image; empty if it has none.
fn read(layers: &[OwnedFd], name: &str) -> Result<String, ImageError> {
    let path = [OsString::from("etc"), OsString::from(name)];
    let Some((folder, found)) = tree::find_below(layers, &path)? else { return Ok(String::new()) };
    if tree::kind(&found) != FileType::RegularFile {
        return Ok(String::new());
    }
    let file = tree::open(&folder, Path::new(name), OFlags::RDONLY, Mode::empty())?;
    let mut bytes = Vec::new();
    File::from(file).take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Bytes of such a file that are read.
const BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nann:x:1000:100:Ann:/data/ann:/bin/sh\nbad\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:ann\n";

    fn of(text: &str, group: Option<u32>) -> Option<(u32, u32, String)> {
        let user = find(text, group, PASSWD, GROUP).ok()?;
        Some((user.user, user.group, user.home))
    }

    #[test]
    fn users_are_found_by_name_or_number() {
        let some = |user, group, home: &str| Some((user, group, home.to_owned()));
        assert_eq!(of("", None), some(0, 0, "/root"));
        assert_eq!(of("ann", None), some(1000, 100, "/data/ann"));
        assert_eq!(of("1000", Some(7)), some(1000, 7, "/data/ann"));
        assert_eq!(of("ann:staff", None), some(1000, 50, "/data/ann"));
        assert_eq!(of("4242:43", None), some(4242, 43, "/"));
        assert_eq!(of("4242", None), some(4242, 0, "/"));
        for unknown in ["eve", "ann:none", "-1", "ann:-1"] {
            assert_eq!(of(unknown, None), None, "{unknown}");
        }
    }
}
