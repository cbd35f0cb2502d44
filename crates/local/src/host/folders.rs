//! The folders of a mesh on the host: of `--state`, of the logs; and what its containers may not
//! see.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::UpError;

/// The folders of one mesh, which no other mesh may use while this lives.
#[derive(Debug)]
pub(super) struct Folders {
    /// `--state`, with all symlinks followed.
    pub(super) state: Option<PathBuf>,
    /// Where the logs go.
    pub(super) logs: PathBuf,
    /// Held until host side and agent have ended.
    pub(super) lock: File,
}

impl Folders {
    /// Makes and locks the folders: the logs are in the state folder if there is one, else where
    /// the user's programs keep their state, else in the folder for temporary files.
    ///
    /// # Errors
    ///
    /// If a folder cannot be used, or another mesh uses it.
    pub(super) fn new(state: Option<&Path>, mesh: &str, uid: u32) -> Result<Self, UpError> {
        if let Some(state) = state {
            let bad = |source| UpError::Folder { path: state.to_owned(), source };
            private_folder(state, uid).map_err(bad)?;
            let state = state.canonicalize().map_err(bad)?;
            if is_unseen(&state) {
                let why = "the mesh has a /run of its own; choose another folder";
                return Err(bad(io::Error::other(why)));
            }
            let (logs, lock) = in_folder(&state, mesh, uid).map_err(bad)?;
            return Ok(Self { state: Some(state), logs, lock });
        }
        let user = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(|| {
            std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"))
        });
        let user = user.filter(|folder| folder.is_absolute() && !is_unseen(folder));
        let temporary = std::env::temp_dir().join(format!("ironmesh-{uid}"));
        let first = user.map(|user| user.join("ironmesh").join(mesh));
        let made = first.and_then(|folder| {
            private_folder(&folder, uid).and_then(|()| in_folder(&folder, mesh, uid)).ok()
        });
        let (logs, lock) = match made {
            Some(made) => made,
            None => {
                let folder = temporary.join(mesh);
                private_folder(&temporary, uid)
                    .and_then(|()| private_folder(&folder, uid))
                    .and_then(|()| in_folder(&folder, mesh, uid))
                    .map_err(|source| UpError::Folder { path: folder, source })?
            }
        };
        Ok(Self { state: None, logs, lock })
    }
}

/// Folders that containers do not see: homes, of whoever is behind `sudo` too, the mesh's own, and
/// those of other meshes that run now, as far as this user may know them.
pub(super) fn hidden(folders: &Folders) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| home_of(&uid, &passwd()));
    let own = [PathBuf::from("/root"), PathBuf::from("/home")];
    let mut hidden: Vec<PathBuf> = home
        .into_iter()
        .chain(sudo)
        .chain(own)
        .filter(|home| home.is_absolute() && home.parent().is_some())
        .chain(folders.state.clone())
        .chain([folders.logs.clone()])
        .chain(folders_of_meshes(Path::new("/proc")))
        .collect();
    hidden.sort();
    hidden.dedup();
    hidden
}

/// The folders of the meshes that run: a mesh has the lock of its folder open.
fn folders_of_meshes(proc: &Path) -> Vec<PathBuf> {
    let processes = fs::read_dir(proc).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_ours = |process: &PathBuf| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_end() == "ironmesh")
    };
    let open = processes.filter(is_ours).flat_map(|process| fs::read_dir(process.join("fd")));
    let files = open.flatten().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    let locks = files.filter(|file| file.is_absolute() && file.file_name() == Some(LOCK.as_ref()));
    let folders = locks.filter_map(|lock| lock.parent().map(Path::to_owned));
    folders.filter(|folder| folder.parent().is_some()).collect()
}

fn passwd() -> String {
    fs::read_to_string("/etc/passwd").unwrap_or_default()
}

/// The home of a user in the text of `/etc/passwd`.
fn home_of(uid: &str, passwd: &str) -> Option<PathBuf> {
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    users.find_map(|fields| {
        (fields.get(2) == Some(&uid)).then(|| fields.get(5).map(PathBuf::from))?
    })
}

/// Locks a folder, and makes or empties its folder of logs.
fn in_folder(folder: &Path, mesh: &str, uid: u32) -> io::Result<(PathBuf, File)> {
    let lock = lock(&folder.join(LOCK), mesh)?;
    let logs = folder.join("logs");
    log_folder(&logs, uid)?;
    Ok((logs, lock))
}

/// Takes the lock of a folder, and notes in it who has it.
fn lock(path: &Path, mesh: &str) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "mesh {mesh:?}, process {}", std::process::id())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Without a name the message is still true.
            let _ = file.take(HOLDER_BYTES_MAX).read_to_string(&mut holder);
            Err(io::Error::other(format!(
                "another mesh uses it ({holder}); end that one or choose another folder"
            )))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A folder for logs: those of an earlier mesh are removed, what is not of a mesh stays.
fn log_folder(path: &Path, uid: u32) -> io::Result<()> {
    private_folder(path, uid)?;
    let mark = path.join(MARK);
    if mark.exists() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    } else if fs::read_dir(path)?.next().is_some() {
        // A folder that was here before: nothing in it is ours to remove.
        return Ok(());
    }
    fs::write(mark, "ironmesh removes what is in this folder when its mesh is started again\n")
}

/// Makes a folder, if there is none, that others cannot look into; it must be this user's.
fn private_folder(path: &Path, uid: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() && metadata.uid() == uid {
        return Ok(());
    }
    Err(io::Error::other("it belongs to another user"))
}

/// Whether a folder of the host is not seen inside the mesh.
fn is_unseen(path: &Path) -> bool {
    path.starts_with("/run")
}

/// The file that is locked, in the folder of `--state` or of the mesh.
const LOCK: &str = "ironmesh.lock";
/// The file that tells a folder of logs that the mesh made.
const MARK: &str = ".ironmesh-logs";
/// Bytes of the lock's text that are shown.
const HOLDER_BYTES_MAX: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(state: &Path) -> Result<Folders, UpError> {
        Folders::new(Some(state), "shop", nix::unistd::geteuid().as_raw())
    }

    #[test]
    fn logs_of_an_earlier_mesh_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folders(folder.path()).unwrap().logs;
        fs::create_dir(logs.join("n_p")).unwrap();
        fs::write(logs.join("n_p/old.log"), "x").unwrap();
        assert_eq!(folders(folder.path()).unwrap().logs, logs);
        assert!(!logs.join("n_p").exists());
    }

    #[test]
    fn a_folder_of_logs_that_was_there_keeps_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let mine = folder.path().join("logs/mine.txt");
        fs::create_dir(folder.path().join("logs")).unwrap();
        fs::write(&mine, "x").unwrap();
        for _ in 0..2 {
            folders(folder.path()).unwrap();
            assert!(mine.exists());
        }
    }

    #[test]
    fn two_meshes_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = folders(folder.path()).unwrap();
        let error = folders(folder.path()).unwrap_err().to_string();
        let holder =
            format!("another mesh uses it (mesh \"shop\", process {})", std::process::id());
        assert!(error.contains(&holder), "{error}");
    }

    #[test]
    fn folders_of_other_meshes_are_known_by_their_open_locks() {
        let folder = tempfile::tempdir().unwrap();
        let process = |id: &str, name: &str, file: &str| {
            let process = folder.path().join(id);
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::write(process.join("comm"), format!("{name}\n")).unwrap();
            std::os::unix::fs::symlink(file, process.join("fd/3")).unwrap();
        };
        process("1", "ironmesh", "/data/state/ironmesh.lock");
        process("2", "ironmesh", "socket:[1]");
        process("3", "cat", "/data/other/ironmesh.lock");
        process("4", "ironmesh", "/ironmesh.lock");
        fs::create_dir(folder.path().join("self")).unwrap();
        assert_eq!(folders_of_meshes(folder.path()), [Path::new("/data/state")]);
    }

    #[test]
    fn the_home_of_who_is_behind_sudo() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbad\nann:x:1000:1000:Ann,,,:/data/ann:/bin/sh\n";
        assert_eq!(home_of("1000", passwd), Some(PathBuf::from("/data/ann")));
        assert_eq!(home_of("1001", passwd), None);
    }
}
