//! The tree of an image: its layers as the lower ones of an overlay, whose upper one is the
//! container's own.
//!
//! Where the machine allows no overlay of them, or cannot show them with the container's users, the
//! container has a copy in its own memory, which counts as what it writes.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::chdir;

use super::host_tree::{follow_symlinks, follow_symlinks_in};
use super::{Root, STAGING, escape};
use crate::sandbox::container::ImageRoot;
use crate::sandbox::error::AtStep;
use crate::sandbox::{SandboxError, mounts};

impl Root<'_> {
    /// Makes the image's tree the root's.
    pub(super) fn image_tree(&mut self, image: &ImageRoot) -> Result<(), SandboxError> {
        if self.overlay_of_image(image).is_err() {
            let base = self.users.map(|users| users.base);
            ironmesh_images::copy_layers(&image.layers, &self.new, base)
                .map_err(|error| not_copied(&error))?;
        }
        // Where symlinks of the image lead is known only now.
        let new = self.new.clone();
        for (at, file) in &mut self.files {
            *at = follow_symlinks_in(&new, &file.path)?;
        }
        for volume in &mut self.volumes {
            volume.at = follow_symlinks_in(&new, &volume.at)?;
        }
        // Nothing of the host is there that would be to hide.
        self.hidden.clear();
        Ok(())
    }

    fn overlay_of_image(&self, image: &ImageRoot) -> Result<(), SandboxError> {
        let staging = Path::new(STAGING);
        let [upper, work, lowers] = ["upper", "work", "l"].map(|name| staging.join(name));
        for folder in [&upper, &work, &lowers] {
            self.directory(folder, 0o755)?;
        }
        let mut lower = Vec::new();
        for (number, layer) in image.layers.iter().enumerate() {
            let tree = match self.users {
                Some(users) => mounts::clone_mapped(layer, users.namespace.as_fd()),
                None => mounts::clone_tree(layer),
            };
            let tree = tree.step("clone the mount of", layer.display())?;
            let name = format!("l/{number}");
            let at = staging.join(&name);
            fs::create_dir(&at).step("create", at.display())?;
            mounts::attach(&tree, &at)?;
            lower.push(name);
        }
        // The options of a mount are a page at most, so that names are to be short.
        chdir(staging).step("change to directory", STAGING)?;
        let (lower, upper, work) = (lower.join(":"), escape(&upper), escape(&work));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr");
        mounts::fresh("overlay", &self.new, mounts::SAFE, &options)
    }

    /// A path in the root with symlinks followed, as far as it exists.
    pub(super) fn followed(&self, path: &Path) -> Result<PathBuf, SandboxError> {
        match self.spec.image {
            Some(_) => follow_symlinks_in(&self.new, path),
            None => follow_symlinks(path),
        }
    }

    /// Makes sure of a directory at the top of the root. What is mounted there goes through no symlink of
    /// an image.
    pub(super) fn top_directory(&self, name: &str, mode: u32) -> Result<(), SandboxError> {
        let path = self.new.join(name);
        match fs::symlink_metadata(&path) {
            Err(_) => self.directory(&path, mode),
            Ok(found) if found.is_dir() || matches!(name, "run" | "tmp") => Ok(()),
            Ok(_) => {
                let object =
                    format!("the image has no directory there, but something else: /{name}");
                Err(SandboxError::new("mount on", object, Errno::ENOTDIR as i32))
            }
        }
    }

    /// Makes sure of an empty directory for devices.
    pub(super) fn devices_directory(&self, dev: &Path) -> Result<(), SandboxError> {
        self.top_directory("dev", 0o755)?;
        if self.spec.image.is_some() {
            let own = Path::new(STAGING).join("dev");
            self.directory(&own, 0o755)?;
            mounts::bind(&own, dev)?;
        }
        Ok(())
    }
}

fn not_copied(error: &std::io::Error) -> SandboxError {
    let errno = error.raw_os_error().unwrap_or_default();
    let object = match errno {
        libc::ENOSPC => "the image: this machine allows no overlay of it, and a copy is more than \
                         limits.platform.writable_bytes_max"
            .to_owned(),
        _ => format!("the image: {error}"),
    };
    SandboxError::new("copy", object, errno)
}
