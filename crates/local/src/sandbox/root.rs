//! The root directory of a container: the host's tree as it is, but every change stays inside.
//!
//! In a tmpfs of the container's own: its top-level directories, each an overlay whose lower layer
//! is the host's; `/proc`, `/sys`, `/dev`, `/tmp` and `/run` of its own; then its files and volumes.
//! The host's tree is never mounted writable.
//!
//! - The kernel refuses an overlay of a directory with mounts below it in a user namespace, so such a
//!   directory is made anew and its entries are treated one by one.
//! - Overlays need `userxattr`: without it they mount, and then fail to delete.
//! - An unprivileged mesh has a single user, to whom the host's directories do not belong and who
//!   could not create anything in them. A *skeleton* of directories, made once per mesh and laid
//!   over the host's, makes them his.
//! - Where the mesh was started by root, the users of a container are none of the host's: its files
//!   belong to nobody there, so that a container reads what anybody may read, and no more. There is
//!   a skeleton as well, of what anybody may look into, which is shown with the container's owners.
//! - Directories that not anybody may look into are never made the container's: it could look
//!   through them into what lies below.
//! - The container of a real image has the image's layers as the lower ones of a single overlay, and
//!   nothing of the host's tree.
//! - Nothing gives rights: no mount has set-user-id programs, and none but those of the few devices
//!   of `/dev` has devices.

mod host_tree;
mod image_tree;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{AccessFlags, Gid, Uid, access, chdir, fchown, pivot_root};

use super::container::{ContainerSpec, RootFile, Volume, VolumeSource};
use super::error::AtStep;
use super::{SandboxError, beneath, mounts, owners, users};

use host_tree::{MountPoints, follow_symlinks};

/// Where each container mounts its own tmpfs while its root is built. Part of
/// [`super::mesh::RUN_DIRECTORY`].
pub(crate) const STAGING: &str = "/run/ironmesh/staging";

/// Where the skeleton is.
const SKELETON: &str = "/run/ironmesh/skeleton";

/// Users of a container, where it has its own.
#[derive(Debug)]
pub(crate) struct Users {
    /// Their namespace.
    pub(crate) namespace: OwnedFd,
    /// Its root, as seen from outside.
    pub(crate) base: u32,
}

impl Users {
    /// A user of the container, as seen from outside.
    pub(crate) fn outside(&self, user: u32) -> Result<u32, SandboxError> {
        if user < users::USERS_PER_NAMESPACE {
            return Ok(self.base + user);
        }
        let most = users::USERS_PER_NAMESPACE - 1;
        let object = format!("user {user}: a pod has the users 0 to {most}");
        Err(SandboxError::new("become", object, libc::EINVAL))
    }
}

/// Builds the root of a container and makes it this process's. Its mount namespace must be its own,
/// and it must be PID 1 of the container.
///
/// `descriptors` are those of volumes.
pub(crate) fn enter(
    spec: &ContainerSpec,
    users: Option<&Users>,
    descriptors: &[OwnedFd],
) -> Result<(), SandboxError> {
    mounts::make_private()?;
    let mut root = Root::stage(spec, users, descriptors)?;
    match &spec.image {
        Some(image) => root.image_tree(image)?,
        None => root.host_tree()?,
    }
    root.own_directories()?;
    root.hide()?;
    root.remaining_files()?;
    root.volumes()?;
    root.working_directory()?;
    root.pivot()
}

/// Makes the skeleton: directories without content, with the modes of the host's.
///
/// `readable` tells which modes a container may look into. Of what cannot be read nothing is
/// said: nobody in the mesh could use it.
pub(crate) fn write_skeleton(readable: impl Fn(u32) -> bool) -> Result<(), SandboxError> {
    let points = MountPoints::read()?;
    let mut left: Vec<PathBuf> = SKELETON_OF.iter().map(PathBuf::from).collect();
    let mut made = 0;
    while let Some(directory) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&directory) else { continue };
        let is_wanted = metadata.is_dir() && readable(metadata.mode()) && !points.at(&directory);
        if !is_wanted || made == SKELETON_DIRECTORIES_MAX {
            continue;
        }
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        made += 1;
        let copy = below(Path::new(SKELETON), &directory);
        fs::create_dir_all(&copy).step("create", copy.display())?;
        let mode = Permissions::from_mode(metadata.mode() & 0o7777 | 0o700);
        fs::set_permissions(&copy, mode).step("change mode of", copy.display())?;
        left.extend(entries.flatten().map(|entry| entry.path()));
    }
    Ok(())
}

/// A root that is being built.
struct Root<'a> {
    spec: &'a ContainerSpec,
    users: Option<&'a Users>,
    points: MountPoints,
    /// The root itself, and beside it the layers of its overlays.
    new: PathBuf,
    overlays: u32,
    /// What still is to be put into place, by path in the root with symlinks followed.
    files: Vec<(PathBuf, &'a RootFile)>,
    volumes: Vec<VolumeMount>,
    hidden: BTreeSet<PathBuf>,
}

/// A volume that is to be mounted.
struct VolumeMount {
    /// Where, with symlinks of the host followed.
    at: PathBuf,
    /// What: a mount that is not attached yet.
    tree: OwnedFd,
    is_directory: bool,
}

impl VolumeMount {
    fn new(
        volume: &Volume,
        descriptors: &[OwnedFd],
        users: Option<&Users>,
    ) -> Result<Self, SandboxError> {
        let tree = match &volume.source {
            VolumeSource::Path(source) => {
                mounts::clone_tree(source).step("clone the mount of", source.display())?
            }
            VolumeSource::Descriptor(index) => {
                let missing = || SandboxError::new("find volume number", index, libc::EBADF);
                let tree = descriptors.get(*index).ok_or_else(missing)?;
                tree.try_clone().step("copy volume number", index)?
            }
        };
        mounts::set_safe(&tree).step("take rights from", volume.target.display())?;
        if let Some(users) = users.filter(|_| volume.mapped)
            && mounts::map(&tree, users.namespace.as_fd()).is_err()
        {
            // Not every file system can do this: its files are given to the container then.
            owners::give(&tree, users.base).step("give files of", volume.target.display())?;
        }
        if volume.read_only {
            mounts::set_read_only(&tree).step("make read-only", volume.target.display())?;
        }
        let kind = fstat(&tree).step("look at volume for", volume.target.display())?.st_mode;
        let is_directory = kind & libc::S_IFMT == libc::S_IFDIR;
        Ok(Self { at: follow_symlinks(&volume.target)?, tree, is_directory })
    }
}

impl<'a> Root<'a> {
    fn stage(
        spec: &'a ContainerSpec,
        users: Option<&'a Users>,
        descriptors: &[OwnedFd],
    ) -> Result<Self, SandboxError> {
        let staging = Path::new(STAGING);
        let options = format!("mode=0755,size={}", spec.writable_bytes_max);
        mounts::fresh("tmpfs", staging, mounts::SAFE, &options)?;
        let new = staging.join("root");
        let followed = |path: &Path| follow_symlinks(path);
        let files = spec.files.iter().map(|file| Ok((followed(&file.path)?, file)));
        let volumes =
            spec.volumes.iter().map(|volume| VolumeMount::new(volume, descriptors, users));
        let hidden = spec.hidden.iter().map(|path| followed(path));
        let mut root = Self {
            spec,
            users,
            points: MountPoints::read()?,
            new,
            overlays: 0,
            files: files.collect::<Result<_, SandboxError>>()?,
            volumes: volumes.collect::<Result<_, SandboxError>>()?,
            hidden: hidden.collect::<Result<_, SandboxError>>()?,
        };
        // The outer ones first, so that inner ones are not covered.
        root.volumes.sort_by_key(|volume| volume.at.components().count());
        let new = root.new.clone();
        root.directory(&new, 0o755)?;
        // Only a mount point can become the root.
        mounts::bind(&new, &new)?;
        Ok(root)
    }

    /// Everything of the host that is to be seen.
    fn host_tree(&mut self) -> Result<(), SandboxError> {
        for entry in read_directory(Path::new("/"))? {
            if !OWN_DIRECTORIES.contains(&&*entry.to_string_lossy()) {
                self.entry(&entry)?;
            }
        }
        Ok(())
    }

    /// One file or directory of the host.
    fn entry(&mut self, path: &Path) -> Result<(), SandboxError> {
        let target = below(&self.new, path);
        let Ok(metadata) = fs::symlink_metadata(path) else {
            // Gone since the directory was read, or not for us to see.
            return Ok(());
        };
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let to = fs::read_link(path).step("read", path.display())?;
            symlink(to, &target).step("create", target.display())?;
            return self.own(&target);
        }
        if kind.is_dir() {
            let hidden = self.hidden.remove(path);
            let seen = !hidden && self.may_look_into(path, metadata.mode());
            let mode = if seen { metadata.mode() & 0o7777 } else { 0o700 };
            self.directory(&target, mode)?;
            if !seen {
                return Ok(());
            }
            if self.points.below(path) {
                return self.split(path, &target);
            }
            return self.overlay(path, &target, mode);
        }
        if self.files.iter().any(|(at, _)| at == path) {
            // It gets one of its own.
            return Ok(());
        }
        if kind.is_file() {
            fs::write(&target, "").step("create", target.display())?;
            mounts::bind(path, &target)?;
            return mounts::make_harmless(&target, false);
        }
        // Sockets, pipes and devices of the host are nothing to a container.
        Ok(())
    }

    /// Whether the users of the container may look into a directory of the host.
    fn may_look_into(&self, path: &Path, mode: u32) -> bool {
        match self.users {
            // They are others to all of it, while this process may still do anything.
            Some(_) => is_open_to_others(mode),
            None => access(path, AccessFlags::R_OK | AccessFlags::X_OK).is_ok(),
        }
    }

    /// A directory that cannot be one overlay: its entries one by one.
    fn split(&mut self, path: &Path, target: &Path) -> Result<(), SandboxError> {
        let entries = read_directory(path)?;
        if entries.len() > SPLIT_ENTRIES_MAX {
            mounts::bind_recursive(path, target)?;
            return mounts::make_harmless(target, true);
        }
        entries.iter().try_for_each(|entry| self.entry(entry))
    }

    /// A directory of the host under a layer of the container's own.
    fn overlay(&mut self, path: &Path, target: &Path, mode: u32) -> Result<(), SandboxError> {
        let layers = Path::new(STAGING).join(self.overlays.to_string());
        self.overlays += 1;
        let (upper, work) = (layers.join("upper"), layers.join("work"));
        self.directory(&layers, 0o755)?;
        self.directory(&work, 0o755)?;
        // The merged directory has the owner and the mode of its uppermost layer.
        self.directory(&upper, mode | 0o700)?;
        self.place_in_upper(path, &upper)?;
        let mut lower = Vec::new();
        let skeleton = below(Path::new(SKELETON), path);
        if skeleton.is_dir() {
            lower.push(self.own_skeleton(&skeleton, &layers.join("skeleton"))?);
        }
        lower.push(path.to_owned());
        let lower: Vec<String> = lower.iter().map(|layer| escape(layer)).collect();
        let (lower, upper, work) = (lower.join(":"), escape(&upper), escape(&work));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr");
        match mounts::fresh("overlay", target, mounts::SAFE, &options) {
            // Some file systems cannot be a lower layer. Seen, but not changed, is the next best.
            Err(_) if mounts::bind_recursive(path, target).is_ok() => {
                mounts::make_harmless(target, true)
            }
            outcome => outcome,
        }
    }

    /// A directory of the skeleton, shown at `mapped` as the container's own.
    fn own_skeleton(&self, path: &Path, mapped: &Path) -> Result<PathBuf, SandboxError> {
        let Some(users) = self.users else { return Ok(path.to_owned()) };
        match mounts::clone_mapped(path, users.namespace.as_fd()) {
            Ok(tree) => {
                fs::create_dir(mapped).step("create", mapped.display())?;
                mounts::attach(&tree, mapped)?;
                Ok(mapped.to_owned())
            }
            // Before Linux 6.3: then it can create nothing there, but where the root is its own.
            Err(_) => Ok(path.to_owned()),
        }
    }

    /// Puts files, and the mount points of volumes, into the upper layer of a directory before it is
    /// mounted: through the overlay a single user may not create them in directories of others.
    fn place_in_upper(&mut self, path: &Path, upper: &Path) -> Result<(), SandboxError> {
        let (here, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.files).into_iter().partition(|(at, _)| at.starts_with(path));
        self.files = later;
        for (at, file) in here {
            let relative = at.strip_prefix(path).unwrap_or(&at);
            self.parents(path, upper, relative)?;
            self.write(&upper.join(relative), &file.content)?;
        }
        for volume in &self.volumes {
            let Ok(relative) = volume.at.strip_prefix(path) else { continue };
            if relative.as_os_str().is_empty() {
                continue;
            }
            self.parents(path, upper, relative)?;
            let target = upper.join(relative);
            if fs::symlink_metadata(&target).is_err() {
                match volume.is_directory {
                    true => self.directory(&target, 0o755)?,
                    false => self.write(&target, "")?,
                }
            }
        }
        Ok(())
    }

    /// Directories above `relative` in `upper`, with the modes of the host's. They are the
    /// container's, so of a directory that it may not look into nothing is seen.
    fn parents(&self, path: &Path, upper: &Path, relative: &Path) -> Result<(), SandboxError> {
        let above: Vec<&Path> = relative.ancestors().skip(1).collect();
        for part in above.into_iter().rev().filter(|part| !part.as_os_str().is_empty()) {
            let made = upper.join(part);
            if !made.is_dir() {
                let of_host = path.join(part);
                let mode = fs::symlink_metadata(&of_host).map_or(0o755, |m| m.mode() & 0o7777);
                self.directory(&made, mode | 0o700)?;
                if of_host.exists() && !self.may_look_into(&of_host, mode) {
                    mounts::make_opaque(&made).step("hide what is below", made.display())?;
                }
            }
        }
        Ok(())
    }

    /// Covers what is not to be seen, where it is part of an overlay.
    fn hide(&self) -> Result<(), SandboxError> {
        for (number, path) in self.hidden.iter().enumerate() {
            let target = below(&self.new, path);
            if target.is_dir() {
                let empty = Path::new(STAGING).join(format!("hidden-{number}"));
                self.directory(&empty, 0o700)?;
                mounts::bind(&empty, &target)?;
            }
        }
        Ok(())
    }

    /// `/proc`, `/sys`, `/dev`, `/tmp`, `/run`.
    fn own_directories(&self) -> Result<(), SandboxError> {
        for (name, mode) in [("proc", 0o555), ("sys", 0o555), ("run", 0o755), ("tmp", 0o1777)] {
            self.top_directory(name, mode)?;
        }
        let proc = self.new.join("proc");
        if mounts::fresh("proc", &proc, mounts::HARDENED, "").is_err() {
            // Where the surrounding /proc is masked the kernel allows no new one.
            mounts::bind_recursive(Path::new("/proc"), &proc)?;
        }
        self.mask(&proc)?;
        for name in READ_ONLY_IN_PROC {
            let path = proc.join(name);
            // Some are there only on some machines.
            if fs::symlink_metadata(&path).is_ok() {
                mounts::bind(&path, &path)?;
                mounts::make_read_only(&path, true)?;
            }
        }
        let sys = self.new.join("sys");
        // It shows the machine's devices, which few programs miss where it is not allowed.
        let _ = mounts::fresh("sysfs", &sys, mounts::HARDENED | MsFlags::MS_RDONLY, "");
        self.devices()
    }

    /// Covers what tells of the whole machine.
    fn mask(&self, proc: &Path) -> Result<(), SandboxError> {
        let empty = Path::new(STAGING).join("masked");
        self.directory(&empty, 0o555)?;
        for path in MASKED_IN_PROC.map(|name| proc.join(name)) {
            // Some are there only on some machines.
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => mounts::bind(&empty, &path)?,
                Ok(_) => mounts::bind(Path::new("/dev/null"), &path)?,
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn devices(&self) -> Result<(), SandboxError> {
        let dev = self.new.join("dev");
        self.devices_directory(&dev)?;
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            let target = dev.join(name);
            fs::write(&target, "").step("create", target.display())?;
            mounts::bind(&Path::new("/dev").join(name), &target)?;
        }
        for (name, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            let link = dev.join(name);
            symlink(to, &link).step("create", link.display())?;
        }
        let (terminals, shared) = (dev.join("pts"), dev.join("shm"));
        self.directory(&terminals, 0o755)?;
        let no_programs = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mounts::fresh("devpts", &terminals, no_programs, "newinstance,ptmxmode=0666,mode=0620")?;
        self.directory(&shared, 0o1777)
    }

    /// Files outside every overlay.
    fn remaining_files(&self) -> Result<(), SandboxError> {
        for (at, file) in &self.files {
            let target = below(&self.new, at);
            self.directories_to(&target)?;
            self.write(&target, &file.content)?;
        }
        Ok(())
    }

    /// Mounts the volumes, the outer ones first. A container that shares an outer one may put
    /// symlinks into it, so that paths are looked up without following any, and used by descriptor.
    fn volumes(&self) -> Result<(), SandboxError> {
        for volume in &self.volumes {
            let at = volume.at.display();
            let target = self.mount_target(&volume.at, volume.is_directory)?;
            mounts::attach_to(&volume.tree, &target).step("mount the volume at", at)?;
        }
        Ok(())
    }

    /// What a volume is mounted on, made if it is missing.
    fn mount_target(&self, at: &Path, directory: bool) -> Result<OwnedFd, SandboxError> {
        let relative = at.strip_prefix("/").unwrap_or(at);
        let new = File::open(&self.new).step("open", self.new.display())?;
        let (above, name) = match (relative.parent(), relative.file_name()) {
            (Some(above), Some(name)) => (above, Path::new(name)),
            _ => return Err(SandboxError::new("mount a volume at", at.display(), libc::EBUSY)),
        };
        let made = |made: &OwnedFd| self.own_opened(made);
        let mode = Mode::from_bits_truncate(0o755);
        let outcome = beneath::make_directories(&new, above, mode, made).and_then(|above| {
            match beneath::find(&above, name) {
                Err(Errno::ENOENT) if directory => {
                    beneath::make_directories(&above, name, mode, made)?;
                }
                Err(Errno::ENOENT) => {
                    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                    self.own_opened(&openat(
                        &above,
                        name,
                        flags,
                        Mode::from_bits_truncate(0o644),
                    )?)?;
                }
                found => return found,
            }
            beneath::find(&above, name)
        });
        outcome.step("make the mount point", at.display())
    }

    fn working_directory(&self) -> Result<(), SandboxError> {
        let Some(directory) = &self.spec.directory else { return Ok(()) };
        // As container runtimes do; what is there already stays as it is.
        let followed = self.followed(directory)?;
        let new = File::open(&self.new).step("open", self.new.display())?;
        let relative = followed.strip_prefix("/").unwrap_or(&followed);
        let mode = Mode::from_bits_truncate(0o755);
        match beneath::make_directories(&new, relative, mode, |made| self.own_opened(made)) {
            // A symlink in a volume leads where the program finds out; a file, nowhere.
            Ok(_) | Err(Errno::ELOOP | Errno::ENOTDIR) => Ok(()),
            Err(errno) => Err(errno).step("make the working directory", directory.display()),
        }
    }

    /// Makes the new root this process's root, and lets go of the old one.
    fn pivot(&self) -> Result<(), SandboxError> {
        chdir(&self.new).step("change to directory", self.new.display())?;
        pivot_root(".", ".").step("make root of", self.new.display())?;
        umount2(".", MntFlags::MNT_DETACH).step("detach", "the host's root")?;
        chdir("/").step("change to directory", "/")
    }

    /// Makes what is missing of the directories above a path in the root.
    fn directories_to(&self, target: &Path) -> Result<(), SandboxError> {
        let above: Vec<&Path> = target.ancestors().skip(1).collect();
        for directory in above.into_iter().rev().filter(|path| path.starts_with(&self.new)) {
            if fs::symlink_metadata(directory).is_err() {
                self.directory(directory, 0o755)?;
            }
        }
        Ok(())
    }

    fn directory(&self, path: &Path, mode: u32) -> Result<(), SandboxError> {
        DirBuilder::new().mode(mode).create(path).step("create", path.display())?;
        self.own(path)
    }

    fn write(&self, path: &Path, content: &str) -> Result<(), SandboxError> {
        // What is there may be a symlink into nowhere.
        let _ = fs::remove_file(path);
        fs::write(path, content).step("write", path.display())?;
        fs::set_permissions(path, Permissions::from_mode(0o644))
            .step("change mode of", path.display())?;
        self.own(path)
    }

    /// As [`own`](Self::own), of what is open.
    fn own_opened(&self, file: &OwnedFd) -> nix::Result<()> {
        let Some(users) = self.users else { return Ok(()) };
        fchown(file, Some(Uid::from_raw(users.base)), Some(Gid::from_raw(users.base)))
    }

    /// Gives a file to the container's root.
    fn own(&self, path: &Path) -> Result<(), SandboxError> {
        let Some(users) = self.users else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(users.base), Some(users.base))
            .step("change owner of", path.display())
    }
}

fn read_directory(path: &Path) -> Result<Vec<PathBuf>, SandboxError> {
    let entries = fs::read_dir(path).step("read", path.display())?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// An absolute path, seen from a directory other than the root.
fn below(directory: &Path, path: &Path) -> PathBuf {
    directory.join(path.strip_prefix("/").unwrap_or(path))
}

/// A path as part of overlay's options.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for character in path.to_string_lossy().chars() {
        if matches!(character, ':' | ',' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// Whether anybody may list a directory and go through it.
pub(crate) fn is_open_to_others(mode: u32) -> bool {
    mode & 0o005 == 0o005
}

/// What of `/proc` is not to be read, as container runtimes have it.
const MASKED_IN_PROC: [&str; 8] =
    ["acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"];
/// What of `/proc` reaches the whole machine, as container runtimes have it.
const READ_ONLY_IN_PROC: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];
/// Top-level directories that every container has for itself.
const OWN_DIRECTORIES: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];
/// What the skeleton covers: where programs create files.
const SKELETON_OF: [&str; 5] = ["/etc", "/opt", "/srv", "/usr/local", "/var"];
/// Directories of a skeleton.
const SKELETON_DIRECTORIES_MAX: u32 = 20_000;
/// Entries of a directory that is split; larger ones are shown read-only.
const SPLIT_ENTRIES_MAX: usize = 1_000;
