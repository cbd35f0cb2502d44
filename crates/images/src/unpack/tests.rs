use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use tar::{Builder, Header};

use super::*;

type Tar = Builder<Vec<u8>>;

fn tar(fill: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().unwrap()
}

/// Adds an entry whose name is taken as it is.
fn add(tar: &mut Tar, kind: EntryType, name: &str, target: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    of_root(&mut header, content.len() as u64);
    tar.append(&header, content).unwrap();
}

/// Completes a head.
fn of_root(header: &mut Header, size: u64) {
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
}

fn file(tar: &mut Tar, name: &str, content: &str) {
    add(tar, EntryType::Regular, name, "", content.as_bytes());
}

fn link(tar: &mut Tar, name: &str, target: &str) {
    add(tar, EntryType::Symlink, name, target, b"");
}

fn hard_link(tar: &mut Tar, name: &str, target: &str) {
    add(tar, EntryType::Link, name, target, b"");
}

/// A folder with layers in it and something beside them that is not to be touched.
struct World {
    folder: tempfile::TempDir,
    layers: Vec<String>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("outside"), "untouched").unwrap();
        Self { folder, layers: Vec::new() }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    fn layer_within(&mut self, tar: &[u8], limits: &ImageLimits) -> Result<Unpacked, ImageError> {
        let name = format!("layer-{}", self.layers.len());
        fs::create_dir(self.path(&name)).unwrap();
        let open = |name: &String| OwnedFd::from(File::open(self.path(name)).unwrap());
        let below: Vec<OwnedFd> = self.layers.iter().rev().map(open).collect();
        let root = open(&name);
        self.layers.push(name);
        let outcome = unpack(tar, root, &below, self.layers.len(), &mut Budget::new(limits));
        assert_eq!(fs::read_to_string(self.path("outside")).unwrap(), "untouched");
        let count = fs::read_dir(self.folder.path()).unwrap().count();
        assert_eq!(count, self.layers.len() + 1, "something lies beside the layers");
        outcome
    }

    fn layer(&mut self, fill: impl FnOnce(&mut Tar)) -> Result<Unpacked, ImageError> {
        self.layer_within(&tar(fill), &ImageLimits::default())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

/// What an entry is refused for.
fn refusal(fill: impl FnOnce(&mut Tar)) -> String {
    World::new().layer(fill).unwrap_err().to_string()
}

#[test]
fn a_layer_is_unpacked_as_its_tar_has_it() {
    let mut world = World::new();
    let unpacked = world.layer(|tar| {
        add(tar, EntryType::Directory, "./", "", b"");
        file(tar, "./bin/app", "program");
        file(tar, "/etc/rooted", "inside");
        link(tar, "lib", "usr/lib");
        file(tar, "usr/lib/a", "a");
        file(tar, "lib/b", "through the link");
        link(tar, "run", "/var/run");
        file(tar, "var/run/x", "x");
        file(tar, "run/y", "y");
        hard_link(tar, "bin/again", "bin/app");
        file(tar, "bin/twice", "first");
        file(tar, "bin/twice", "second");
        add(tar, EntryType::Fifo, "pipe", "", b"");
        add(tar, EntryType::Char, "null", "", b"");
    });
    assert_eq!(unpacked.unwrap().devices_left_out, 1);
    assert_eq!(world.read("layer-0/etc/rooted"), "inside");
    assert_eq!(world.read("layer-0/usr/lib/b"), "through the link");
    assert_eq!(world.read("layer-0/var/run/y"), "y");
    assert_eq!(world.read("layer-0/bin/again"), "program");
    assert_eq!(world.read("layer-0/bin/twice"), "second");
    assert!(fs::symlink_metadata(world.path("layer-0/null")).is_err());
    assert_eq!(fs::read_link(world.path("layer-0/lib")).unwrap(), Path::new("usr/lib"));
}

#[test]
fn nothing_leaves_the_root() {
    let leads_out = "leads out of the image";
    assert!(refusal(|tar| file(tar, "../outside", "x")).contains(leads_out));
    assert!(refusal(|tar| file(tar, "a/../../outside", "x")).contains(leads_out));
    assert!(refusal(|tar| file(tar, "/../outside", "x")).contains(leads_out));
    let up = |tar: &mut Tar| {
        link(tar, "up", "..");
        file(tar, "up/outside", "x");
    };
    assert!(refusal(up).contains(leads_out));
    assert!(refusal(|tar| hard_link(tar, "x", "../outside")).contains(leads_out));
    let through = |tar: &mut Tar| {
        link(tar, "up", "..");
        hard_link(tar, "x", "up/outside");
    };
    assert!(refusal(through).contains("through a symlink"));
    assert!(refusal(|tar| file(tar, ".wh...", "")).contains("takes away"));
    assert!(refusal(|tar| file(tar, ".wh..", "")).contains("takes away"));
    assert!(refusal(|tar| file(tar, "a/.wh.", "")).contains("takes away"));
    let circle = |tar: &mut Tar| {
        link(tar, "a", "b");
        link(tar, "b", "a");
        file(tar, "a/x", "x");
    };
    assert!(refusal(circle).contains("too many symlinks"));
    assert!(refusal(|tar| hard_link(tar, "x", "none")).contains("not there"));
    assert!(refusal(|tar| hard_link(tar, "x", "/")).contains("to the root"));
}

#[test]
fn absolute_symlinks_lead_to_the_root_of_the_image() {
    let mut world = World::new();
    let outside = world.path("outside").display().to_string();
    world
        .layer(|tar| {
            link(tar, "evil", &outside);
            link(tar, "root", "/");
            file(tar, "root/etc/x", "inside");
            // The link itself is replaced, not what it leads to.
            file(tar, "evil", "a file of the layer");
        })
        .unwrap();
    assert_eq!(world.read("layer-0/etc/x"), "inside");
    assert_eq!(world.read("layer-0/evil"), "a file of the layer");
}

#[test]
fn links_of_earlier_layers_are_not_followed() {
    let mut world = World::new();
    let folder = world.folder.path().display().to_string();
    world.layer(|tar| link(tar, "etc", &folder)).unwrap();
    world.layer(|tar| file(tar, "etc/outside", "of the layer")).unwrap();
    assert_eq!(world.read("layer-1/etc/outside"), "of the layer");
    let error = world.layer(|tar| hard_link(tar, "x", "etc/../outside")).unwrap_err();
    assert!(error.to_string().contains("leads out"), "{error}");
}

#[test]
fn whiteouts_hide_what_is_below() {
    let mut world = World::new();
    world
        .layer(|tar| {
            file(tar, "a/one", "1");
            file(tar, "b/two", "2");
            file(tar, "c", "3");
        })
        .unwrap();
    world
        .layer(|tar| {
            file(tar, "a/.wh.one", "");
            file(tar, "b/.wh..wh..opq", "");
            file(tar, "b/new", "n");
            file(tar, ".wh.c", "");
            file(tar, ".wh.none", "");
            file(tar, ".wh..wh.plnk", "");
        })
        .unwrap();
    let is_whiteout = |path: &str| {
        let found = fs::symlink_metadata(world.path(path)).unwrap();
        found.mode() & 0o170_000 == 0o020_000 && found.rdev() == 0
    };
    assert!(is_whiteout("layer-1/a/one") && is_whiteout("layer-1/c"));
    assert!(tree::is_opaque(File::open(world.path("layer-1/b")).unwrap()));
    assert!(!world.path("layer-1/.wh..wh.plnk").exists());
    // What comes back after it was taken away does so without what it had.
    world
        .layer(|tar| {
            file(tar, ".wh.a", "");
            file(tar, "a/three", "3");
        })
        .unwrap();
    assert!(tree::is_opaque(File::open(world.path("layer-2/a")).unwrap()));
    let error = world.layer(|tar| hard_link(tar, "x", "a/one")).unwrap_err();
    assert!(error.to_string().contains("not there"), "{error}");
}

#[test]
fn what_is_missing_is_as_the_layers_below_have_it() {
    let mut world = World::new();
    world
        .layer(|tar| {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o1777);
            of_root(&mut header, 0);
            tar.append_data(&mut header, "tmp/", &b""[..]).unwrap();
            file(tar, "bin/app", "program");
        })
        .unwrap();
    world
        .layer(|tar| {
            file(tar, "tmp/x", "x");
            hard_link(tar, "bin/copy", "bin/app");
        })
        .unwrap();
    let mode = |path: &str| fs::metadata(world.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("layer-1/tmp"), 0o1777);
    assert_eq!(world.read("layer-1/bin/copy"), "program");
}

#[test]
fn nothing_gives_rights() {
    let mut world = World::new();
    world
        .layer(|tar| {
            let mut header = Header::new_gnu();
            header.set_mode(0o6755);
            of_root(&mut header, 1);
            tar.append_data(&mut header, "su", &b"x"[..]).unwrap();
            let pax = [("SCHILY.xattr.user.overlay.opaque", &b"y"[..])];
            tar.append_pax_extensions(pax).unwrap();
            add(tar, EntryType::Directory, "folder", "", b"");
        })
        .unwrap();
    assert_eq!(fs::metadata(world.path("layer-0/su")).unwrap().mode() & 0o7000, 0);
    assert!(!tree::is_opaque(File::open(world.path("layer-0/folder")).unwrap()));
}

#[test]
fn limits_end_what_is_too_much() {
    let limited = |limits: ImageLimits, fill: &dyn Fn(&mut Tar)| {
        World::new().layer_within(&tar(|tar| fill(tar)), &limits).unwrap_err().to_string()
    };
    let limits = ImageLimits { unpacked_bytes_max: 1_000, ..ImageLimits::default() };
    let said = limited(limits.clone(), &|tar| file(tar, "a", &"x".repeat(1_001)));
    assert!(said.contains("limits.images.unpacked_bytes_max"), "{said}");
    let said = limited(limits, &|tar| {
        // It says that it is a terabyte, and has next to nothing.
        let mut header = Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_mode(0);
        of_root(&mut header, 1 << 40);
        tar.append(&header, &b"x"[..]).unwrap();
    });
    assert!(said.contains("limits.images.unpacked_bytes_max"), "{said}");
    let limits = ImageLimits { files_max: 10, ..ImageLimits::default() };
    let said = limited(limits, &|tar| (0..11).for_each(|n| file(tar, &format!("f{n}"), "")));
    assert!(said.contains("limits.images.files_max"), "{said}");
    let limits = ImageLimits { depth_max: 10, ..ImageLimits::default() };
    let said = limited(limits.clone(), &|tar| file(tar, &"d/".repeat(11), ""));
    assert!(said.contains("limits.images.depth_max"), "{said}");
    let said = limited(limits, &|tar| {
        file(tar, "1/2/3/4/5/6/x", "");
        link(tar, "deep", "1/2/3/4/5/6");
        file(tar, "deep/7/8/9/10/11/12", "");
    });
    assert!(said.contains("limits.images.depth_max"), "{said}");
}

#[test]
fn long_heads_are_not_read_into_memory() {
    let fill = |tar: &mut Tar| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_path("././@LongLink").unwrap();
        header.set_size(300 << 20);
        header.set_cksum();
        tar.append(&header, io::repeat(b'a').take(300 << 20)).unwrap();
    };
    assert!(refusal(fill).contains("head of an entry is too long"));
}

#[test]
fn what_is_no_tar_is_no_layer() {
    let mut world = World::new();
    assert!(world.layer_within(&[b'x'; 2_000], &ImageLimits::default()).is_err());
    let mut cut = tar(|tar| file(tar, "a", &"x".repeat(2_000)));
    cut.truncate(1_000);
    assert!(world.layer_within(&cut, &ImageLimits::default()).is_err());
}
