//! `ironmesh image`: the images of this user, and the commands that stand for others.

use std::io::{IsTerminal as _, Write, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use ironmesh_images::{ImageName, Loaded, Named, Progress, Store};
use ironmesh_local::{agent_api::ClientError, image_mapping_in, image_store};
use ironmesh_model::limits::Limits;
use serde_json::{Value, json};

use crate::cli::{self, Context};
use crate::output::table::Columns;
use crate::say;

/// Load, pull, list and remove images, and map their names to commands of this machine.
///
/// A container whose image is mapped, or well known, runs a program of this machine. Any other image
/// is a real one: loaded from a file, or pulled from its registry when a pod needs it. Images are the
/// user's, for all meshes: they lie unpacked in ~/.cache/ironmesh/images.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh image load shop.tar                              what `docker save shop:1.0` wrote
  ironmesh image load layout/ --name example.com/shop:1.0   an OCI layout without names
  ironmesh image pull example.com/shop:1.0                  beforehand; for pods it happens by itself
  ironmesh image list
  ironmesh image rm example.com/shop:1.0
  ironmesh image map 'example.com/shop:*=/usr/local/bin/shop --port 80'
  ironmesh image map example.com/shop-                      no more")]
pub(crate) struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Load(Load),
    Pull(Pull),
    #[command(alias = "ls")]
    List(List),
    Rm(Rm),
    Map(Map),
}

/// Load the images of a tar of `docker save`, or of an OCI layout as a folder or a tar.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  docker save shop:1.0 | gzip > shop.tar.gz && ironmesh image load shop.tar.gz
  docker save shop:1.0 | ironmesh image load -
  ironmesh image load layout/ --name example.com/shop:1.0")]
struct Load {
    /// The tar, which may be compressed by gzip or zstd, or the folder; - for a tar on standard input.
    #[arg(value_name = "FILE|DIR")]
    source: PathBuf,
    /// The name of the image, where the archive has none or another.
    #[arg(long, value_name = "NAME:TAG")]
    name: Option<ImageName>,
    /// A limit of images, such as limits.images.unpacked_bytes_max=20GiB; may be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

/// Pull an image from its registry; for pods that happens by itself.
///
/// Registries are asked by HTTPS, one on this machine's loopback by plain HTTP, as the user of
/// ~/.docker/config.json (or of the folder in DOCKER_CONFIG).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh image pull example.com/shop:1.0
  ironmesh image pull localhost:5000/shop@sha256:0123...")]
struct Pull {
    /// Its name; without a tag, latest.
    #[arg(value_name = "NAME")]
    name: ImageName,
    /// A limit of images, such as limits.images.pull_timeout=5m; may be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

/// List the images that were loaded or pulled.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh image list
  ironmesh image list -o json")]
struct List {
    /// json for everything that is known.
    #[arg(short, long, value_parser = ["json"], value_name = "FORMAT")]
    output: Option<String>,
}

/// Remove images by their names. Containers that run keep what they have.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  ironmesh image rm example.com/shop:1.0")]
struct Rm {
    /// Their names, as `ironmesh image list` shows them.
    #[arg(required = true, value_name = "NAME:TAG")]
    names: Vec<ImageName>,
}

/// Show or change which commands stand for images of a mesh that runs.
///
/// `*` in a name stands for any text. What is changed holds from the next start of a container on, until
/// the mesh ends; `ironmesh up --image`, and an images.yaml beside its manifests, give it from the start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh image map                                        what there is
  ironmesh image map 'example.com/shop:*=/usr/local/bin/shop --port 80'
  ironmesh image map 'example.com/shop:*-'                  no more")]
struct Map {
    /// `NAME=COMMAND`, or `NAME-` to take a mapping back.
    #[arg(value_name = "CHANGE")]
    changes: Vec<String>,
    /// json for programs.
    #[arg(short, long, value_parser = ["json"], value_name = "FORMAT")]
    output: Option<String>,
}

impl Image {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Load(verb) => verb.run(context),
            Verb::Pull(verb) => verb.run(context),
            Verb::List(verb) => verb.run(),
            Verb::Rm(verb) => verb.run(),
            Verb::Map(verb) => verb.run(context),
        }
    }
}

impl Load {
    fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let limits = limits(&self.settings)?;
        let store = Store::open(&image_store())?;
        let loaded = self.load(&store, &limits)?;
        let mut out = stdout().lock();
        for image in loaded {
            for name in &image.names {
                writeln!(out, "image/{name} loaded")?;
            }
            say_left_out(image.devices_left_out);
        }
        tell_mesh(context);
        Ok(ExitCode::SUCCESS)
    }
}

impl Load {
    fn load(&self, store: &Store, limits: &Limits) -> anyhow::Result<Vec<Loaded>> {
        let (name, limits) = (self.name.as_ref(), &limits.images);
        if self.source != Path::new(STDIN) {
            return ironmesh_images::load(store, &self.source, name, limits)
                .with_context(|| format!("{} is not loaded", self.source.display()));
        }
        if stdin().is_terminal() {
            bail!("standard input is a terminal: `docker save NAME | ironmesh image load -`");
        }
        let source = Path::new("standard input");
        ironmesh_images::load_stream(store, stdin().lock(), source, name, limits)
            .context("standard input is not loaded")
    }
}

/// What stands for standard input in the place of a file.
const STDIN: &str = "-";

impl Pull {
    fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let limits = limits(&self.settings)?.images;
        let store = Store::open(&image_store())?;
        let task = ironmesh_images::Pull { name: self.name, secrets: Vec::new(), limits };
        let mut shown = Shown::default();
        let pulled = ironmesh_images::pull(&store, &task, &mut |progress| shown.show(progress));
        shown.end();
        let pulled = pulled.with_context(|| format!("image {} is not pulled", task.name))?;
        let size = size(pulled.downloaded);
        writeln!(stdout(), "image/{} pulled ({size} downloaded)", task.name)?;
        say_left_out(pulled.devices_left_out);
        tell_mesh(context);
        Ok(ExitCode::SUCCESS)
    }
}

/// The progress of a pull: one line of a terminal; elsewhere, a line for each layer.
#[derive(Default)]
struct Shown {
    last: Option<(usize, u64)>,
}

impl Shown {
    fn show(&mut self, now: Progress) {
        let percent = (now.bytes * 100).checked_div(now.size).unwrap_or(100);
        let is_terminal = stderr().is_terminal();
        let step = (now.layer, if is_terminal { percent } else { 0 });
        if self.last.replace(step) == Some(step) {
            return;
        }
        let (layer, layers, size) = (now.layer, now.layers, size(now.size));
        // That it cannot be shown is no reason not to pull.
        let _ = match is_terminal {
            true => write!(stderr(), "\rlayer {layer} of {layers}: {percent} % of {size}\x1b[K"),
            false => writeln!(stderr(), "layer {layer} of {layers}: {size}"),
        };
    }

    fn end(&self) {
        if self.last.is_some() && stderr().is_terminal() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut all = Store::open(&image_store())?.list()?;
        // Names by digest are for pods that ask so.
        all.retain(|named| !named.name.contains('@'));
        let mut out = stdout().lock();
        if self.output.is_some() {
            let items: Vec<Value> = all.iter().map(as_json).collect();
            writeln!(out, "{:#}", Value::from(items))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut columns = Columns::default();
        columns.push(["NAME", "ID", "SIZE", "FROM"]);
        for Named { name, image } in &all {
            let from = if image.loaded { "file" } else { "registry" };
            let id = image.id.hex()[..ID_DIGITS].to_owned();
            columns.push([name.clone(), id, size(image.bytes), from.to_owned()]);
        }
        write!(out, "{}", columns.take_text())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Rm {
    fn run(self) -> anyhow::Result<ExitCode> {
        let store = Store::open(&image_store())?;
        let mut failed = false;
        for name in &self.names {
            if store.remove(name)? {
                writeln!(stdout(), "image/{name} removed")?;
            } else {
                let hint = "`ironmesh image list` shows what there is";
                say::error(&anyhow::anyhow!("there is no image {name} ({hint})"));
                failed = true;
            }
        }
        Ok(super::exit(failed))
    }
}

impl Map {
    fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (mut map, mut unmap) = (Vec::new(), Vec::new());
        let working = std::env::current_dir()?;
        for change in self.changes {
            match change.strip_suffix('-').filter(|name| !name.contains('=')) {
                Some(name) => unmap.push(name.to_owned()),
                None => map.push(image_mapping_in(&working, &change)?),
            }
        }
        let all = context.agent()?.images(map, unmap)?;
        let mut out = stdout().lock();
        if self.output.is_some() {
            let row = |(name, command)| json!({ "name": name, "command": command });
            let rows: Vec<Value> = all.into_iter().map(row).collect();
            writeln!(out, "{:#}", Value::from(rows))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut columns = Columns::default();
        columns.push(["NAME", "COMMAND"]);
        for (name, command) in all {
            columns.push([name, command]);
        }
        write!(out, "{}", columns.take_text())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The mappings given on a command line, `PATTERN=COMMAND` each, and those of the `images.yaml` beside
/// manifests. Relative paths of programs count from the folder in which one works, and from that of the file.
pub(crate) fn mappings(given: &[String], manifests: &[String]) -> anyhow::Result<Vec<String>> {
    let working = std::env::current_dir()?;
    let given = given.iter().map(|mapping| Ok(image_mapping_in(&working, mapping)?));
    let mut mappings: Vec<String> = given.collect::<anyhow::Result<_>>()?;
    let mut folders: Vec<&Path> = Vec::new();
    for path in manifests.iter().map(Path::new) {
        let folder = if path.is_dir() { Some(path) } else { path.parent() };
        folders.extend(folder.filter(|folder| !folders.contains(folder)));
    }
    let files = folders.iter().map(|folder| folder.join(MAPPINGS));
    for file in files.filter(|file| is_mappings(file)) {
        mappings.extend(read_mappings(&file).with_context(|| file.display().to_string())?);
    }
    Ok(mappings)
}

fn read_mappings(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file)?;
    let form = "it is to be NAME: COMMAND lines";
    let read: Value = serde_saphyr::from_str(&text).context(form)?;
    let folder = std::path::absolute(file)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    let mapping = |(name, command): (&String, &Value)| {
        let command = command.as_str();
        let command = command.with_context(|| format!("the command of {name:?} is no text"))?;
        Ok(image_mapping_in(folder, &format!("{name}={command}"))?)
    };
    read.as_object().context(form)?.iter().map(mapping).collect()
}

/// Whether a file is one of mappings, and no manifest that happens to have its name.
pub(crate) fn is_mappings(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name == MAPPINGS)
        && std::fs::read_to_string(file)
            .is_ok_and(|text| !text.lines().any(|line| line.starts_with("apiVersion:")))
}

/// The limits that `--set` leaves.
fn limits(settings: &[String]) -> anyhow::Result<Limits> {
    let mut limits = Limits::default();
    for setting in settings {
        let (name, value) = setting
            .split_once('=')
            .with_context(|| format!("--set {setting:?} is not NAME=VALUE"))?;
        limits.set(name, value)?;
    }
    Ok(limits)
}

/// Has containers of the mesh that wait for an image look again. That none runs is no failure.
fn tell_mesh(context: &Context) {
    let told = cli::agent(&context.mesh).map(|agent| agent.images(Vec::new(), Vec::new()));
    if let Ok(Err(ClientError::Refused(why))) = told {
        say::notice(&why);
    }
}

fn say_left_out(devices: u64) {
    let what = match devices {
        0 => return,
        1 => "its device is".to_owned(),
        many => format!("its {many} devices are"),
    };
    say::notice(&format!("{what} left out: containers have those of their own /dev"));
}

fn as_json(named: &Named) -> Value {
    let image = &named.image;
    json!({
        "name": named.name,
        "id": image.id,
        "digest": image.digest,
        "bytes": image.bytes,
        "loaded": image.loaded,
        "layers": image.layers,
        "config": image.config,
    })
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes}B"),
        1_000..1_000_000 => format!("{:.1}kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}MB", bytes as f64 / 1e6),
        _ => format!("{:.1}GB", bytes as f64 / 1e9),
    }
}

/// File of mappings beside manifests.
const MAPPINGS: &str = "images.yaml";
/// Digits of an image's id that are shown.
const ID_DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1_500, "1.5kB"),
            (23_456_789, "23.5MB"),
            (3_100_000_000, "3.1GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn mappings_are_read_beside_the_manifests() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.yaml");
        std::fs::write(&file, "").unwrap();
        let text = "shop/*: ./server --port 80\nexample.com/db: /usr/bin/db\n";
        std::fs::write(folder.path().join(MAPPINGS), text).unwrap();
        let paths = [file.display().to_string(), folder.path().display().to_string()];
        let server = format!("shop/*={}/server --port 80", folder.path().display());
        let given = ["cache=/usr/bin/cache".to_owned()];
        assert_eq!(
            mappings(&given, &paths).unwrap(),
            [&given[0], &server, "example.com/db=/usr/bin/db"]
        );
        assert_eq!(mappings(&[], &["-".to_owned()]).unwrap(), Vec::<String>::new());
        std::fs::write(folder.path().join(MAPPINGS), "apiVersion: v1\nkind: Pod\n").unwrap();
        assert_eq!(mappings(&[], &paths).unwrap(), Vec::<String>::new());
        for bad in ["a: [b]", "a: 7", "- a", "{", "a: ''", "localhost:5000/a: /bin/true"] {
            std::fs::write(folder.path().join(MAPPINGS), bad).unwrap();
            let refused = mappings(&[], &paths).unwrap_err();
            assert!(format!("{refused:#}").contains(MAPPINGS), "{bad}");
        }
    }
}
