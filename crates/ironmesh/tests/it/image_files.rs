//! Images that the tests make: a program of one file, in layers with links, owners and whiteouts.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use flate2::write::GzEncoder;
use ironmesh_images::Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

/// Says who it is, then shows the files that it is told to, then answers on port 8080.
const PROGRAM: &str = r#"package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	folder, _ := os.Getwd()
	fmt.Println("user", os.Getuid(), os.Getgid(), "in", folder, "home", os.Getenv("HOME"))
	fmt.Println("args", os.Args[1:], "color", os.Getenv("COLOR"))
	for _, name := range os.Args[1:] {
		if text, err := os.ReadFile(name); err != nil {
			fmt.Println(name, "is not there")
		} else {
			fmt.Println(name, "says", string(text))
		}
	}
	fmt.Println("written", os.WriteFile("mine", []byte("x"), 0o644) == nil)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello from", os.Getenv("COLOR"))
	})
	fmt.Println(http.ListenAndServe(":8080", nil))
}
"#;

/// The program, built once; `None`, said why, where Go is missing.
pub(crate) fn program() -> Option<&'static [u8]> {
    static BUILT: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("main.go"), PROGRAM).unwrap();
        let build = ["build", "-trimpath", "-ldflags", "-s -w", "-o", "app", "main.go"];
        go(folder.path(), &build)?;
        Some(std::fs::read(folder.path().join("app")).unwrap())
    });
    if built.is_none() {
        println!("SKIPPED: there is no Go to build the program of an image");
    }
    built.as_deref()
}

/// Runs Go in a folder; `None` where it is missing or fails, with what it said.
pub(crate) fn go(folder: &Path, arguments: &[&str]) -> Option<()> {
    let mut command = Command::new("go");
    command.args(arguments).current_dir(folder).env("CGO_ENABLED", "0").env("GOWORK", "off");
    let output = command.output().ok()?;
    if !output.status.success() {
        println!("go {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(())
}

/// A layer that is being made.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Adds an entry of user and group `owner`; the name is taken as it is.
    pub(crate) fn add(
        mut self,
        kind: EntryType,
        (name, target): (&str, &str),
        (mode, owner): (u32, u64),
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.add(EntryType::Regular, (name, ""), (0o755, 0), content)
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, (name, target), (0o777, 0), b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, (name, target), (0o755, 0), b"")
    }

    pub(crate) fn folder(self, name: &str, mode: u32, owner: u64) -> Self {
        self.add(EntryType::Directory, (name, ""), (mode, owner), b"")
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An image: the tars of its layers, and what its configuration says.
pub(crate) struct Files {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Value,
}

impl Files {
    /// One around the program, with a user `ann` and a second layer that takes something away.
    pub(crate) fn of_program(program: &[u8], color: &str) -> Self {
        let passwd = b"root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\n";
        let low = Layer::new()
            .folder("tmp/", 0o1777, 0)
            .file("etc/passwd", passwd)
            .folder("home/ann/", 0o755, 1000)
            .file("usr/bin/app", program)
            .file("data/kept", b"kept")
            .file("data/gone", b"gone")
            .file("old/hidden", b"hidden")
            .link("bin", "usr/bin");
        let high = Layer::new()
            .file("data/.wh.gone", b"")
            .file("old/.wh..wh..opq", b"")
            .file("old/new", b"new")
            .hard_link("data/again", "data/kept")
            .link("data/linked", "/data/kept");
        let config = json!({
            "Entrypoint": ["app"],
            "Cmd": ["/data/kept", "/data/gone", "/old/hidden", "/old/new", "/data/again", "/data/linked"],
            "Env": ["PATH=/bin", format!("COLOR={color}")],
            "User": "ann",
            "WorkingDir": "/home/ann",
        });
        Self { layers: vec![low.tar(), high.tar()], config }
    }

    /// Its configuration as a file of an image.
    pub(crate) fn config_file(&self) -> Vec<u8> {
        let diffs: Vec<_> = self.layers.iter().map(|tar| Digest::of(tar)).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "os": "linux",
            "architecture": architecture,
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diffs },
        });
        config.to_string().into_bytes()
    }

    /// What `docker save` writes of it under this name.
    pub(crate) fn docker_save(&self, name: &str) -> Vec<u8> {
        let config = self.config_file();
        let config_name = format!("{}.json", Digest::of(&config).hex());
        let layers: Vec<_> = (0..self.layers.len()).map(|n| format!("{n}/layer.tar")).collect();
        let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": layers }]);
        let mut tar = Layer::new().file(&config_name, &config);
        for (name, layer) in layers.iter().zip(&self.layers) {
            tar = tar.file(name, layer);
        }
        tar.file("manifest.json", manifest.to_string().as_bytes()).tar()
    }

    /// The parts of its OCI layout by their digests, the manifest first; layers are compressed.
    pub(crate) fn blobs(&self) -> Vec<(Digest, Vec<u8>, &'static str)> {
        let part = |bytes: Vec<u8>, kind| (Digest::of(&bytes), bytes, kind);
        let config = part(self.config_file(), "application/vnd.oci.image.config.v1+json");
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|tar| part(gzip(tar), "application/vnd.oci.image.layer.v1.tar+gzip"))
            .collect();
        let describe = |(digest, bytes, kind): &(Digest, Vec<u8>, &str)| json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe(&config),
            "layers": layers.iter().map(describe).collect::<Vec<_>>(),
        });
        let manifest = part(manifest.to_string().into_bytes(), MANIFEST);
        [manifest, config].into_iter().chain(layers).collect()
    }

    /// Writes its OCI layout into a folder.
    pub(crate) fn write_layout(&self, folder: &Path) {
        let blobs = self.blobs();
        std::fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        for (digest, bytes, _) in &blobs {
            std::fs::write(folder.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        }
        let (digest, bytes, kind) = &blobs[0];
        let manifest = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
        let version = json!({ "imageLayoutVersion": "1.0.0" });
        std::fs::write(folder.join("oci-layout"), version.to_string()).unwrap();
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Media type of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
