//! Manifests as the command line names them: files, directories, URLs, standard input.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use ironmesh_dialects::kinds::{Kind, Resource, split_api_version};
use ironmesh_dialects::manifest::{self, Document, ManifestError};
use ironmesh_model::Severity;
use serde_json::Value;

use crate::api::{Api, ApiError};
use crate::fetch::{fetch, is_url};
use crate::kinds::{self, defined_by};
use crate::say;
use crate::verb::image;

/// Options of the verbs that read manifests.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Files {
    /// File, directory, URL or - (standard input) with manifests; may be given several times.
    #[arg(short, long = "filename", value_name = "FILE|DIR|URL|-")]
    pub(crate) filename: Vec<String>,
    /// Take the directories inside a directory, too.
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Not taken: `kubectl kustomize DIR` makes manifests for -f -.
    #[arg(short = 'k', long, value_name = "DIR", hide = true)]
    kustomize: Option<String>,
}

/// Where objects go that name no namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home<'a> {
    /// The namespace that the command line names: no object may name another one.
    pub(crate) asked: Option<&'a str>,
    /// That one, or what is meant without it.
    pub(crate) otherwise: &'a str,
}

impl<'a> Home<'a> {
    /// A namespace that was asked for, or `default`.
    pub(crate) fn asked_for(asked: Option<&'a str>) -> Self {
        Self { asked, otherwise: asked.unwrap_or("default") }
    }
}

/// Manifests, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The objects, in order.
    pub(crate) objects: Vec<Manifest>,
    /// What could not be read, for people; the objects around it are there.
    pub(crate) problems: Vec<String>,
    /// What was read, but hardly as it was meant, for people.
    pub(crate) warnings: Vec<String>,
}

/// An object of a manifest, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// The file as the user named it; `STDIN` for standard input.
    pub(crate) file: String,
    /// The object, its lines with it.
    pub(crate) document: Document,
    /// Its resource, if a definition adds its kind.
    defined: Option<Resource>,
}

impl Manifest {
    /// The object.
    pub(crate) fn value(&self) -> &Value {
        &self.document.value
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> &str {
        self.value()["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.value()["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its `apiVersion`.
    fn api_version(&self) -> &str {
        self.value()["apiVersion"].as_str().unwrap_or_default()
    }

    /// Its resource.
    pub(crate) fn resource(&self) -> Resource {
        self.defined.clone().unwrap_or_else(|| Resource::of(self.api_version(), self.kind()))
    }

    /// Whether the table of kinds has its kind.
    fn is_of_table(&self) -> bool {
        Kind::of(split_api_version(self.api_version()).0, self.kind()).is_some()
    }

    /// Checks that there is such a kind.
    ///
    /// # Errors
    ///
    /// If there is not, with what may have been meant.
    pub(crate) fn check_kind(&self) -> anyhow::Result<()> {
        let is_known = self.defined.is_some() || self.is_of_table();
        ensure!(is_known, "{}", kinds::no_match(self.api_version(), self.kind()));
        Ok(())
    }

    /// The namespace that it goes to: its own, else that of the home. `None` for objects of the
    /// cluster.
    ///
    /// # Errors
    ///
    /// If its own is not the one that was asked for.
    pub(crate) fn namespace(&self, home: Home<'_>) -> anyhow::Result<Option<String>> {
        if !self.resource().namespaced {
            return Ok(None);
        }
        let own = self.value()["metadata"]["namespace"].as_str().filter(|own| !own.is_empty());
        if let (Some(own), Some(asked)) = (own, home.asked) {
            ensure!(
                own == asked,
                "the namespace from the provided object {own:?} does not match the namespace \
                 {asked:?}. You must pass '--namespace={own}' to perform this operation."
            );
        }
        Ok(Some(own.unwrap_or(home.otherwise).to_owned()))
    }

    /// `FILE:LINE` of a field, or of what stands around it.
    pub(crate) fn place(&self, path: &str) -> String {
        let line = self.document.lines.of(path).unwrap_or(self.document.line);
        format!("{}:{line}", self.file)
    }
}

impl Files {
    /// Whether manifests are named.
    pub(crate) fn are_given(&self) -> bool {
        !self.filename.is_empty() || self.kustomize.is_some()
    }

    /// Reads everything that is named.
    ///
    /// # Errors
    ///
    /// If something cannot be read at all.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        if let Some(folder) = &self.kustomize {
            bail!(
                "-k is not taken: ironmesh does not build kustomizations; pipe them in: \
                 kubectl kustomize {folder} | ironmesh apply -f -"
            );
        }
        ensure!(!self.filename.is_empty(), "must specify one of -f FILE, -f DIR, -f URL or -f -");
        load(&self.filename, self.recursive)
    }

    /// Reads everything that is named, for a verb that is of no use without an object.
    ///
    /// # Errors
    ///
    /// If something cannot be read at all, or there is nothing in what is read.
    pub(crate) fn load_some(&self, verb: &str) -> anyhow::Result<Loaded> {
        let loaded = self.load()?;
        ensure!(
            !loaded.objects.is_empty() || !loaded.problems.is_empty(),
            "no objects passed to {verb}: there is none in {}",
            self.filename.join(", ")
        );
        Ok(loaded)
    }
}

/// Reads files, directories and URLs; `-` is standard input.
pub(crate) fn load(paths: &[String], recursive: bool) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    for text in texts(paths, recursive)? {
        loaded.add_bytes(&text.file, &text.bytes);
    }
    Ok(loaded)
}

/// A file as it is.
#[derive(Debug)]
pub(crate) struct Text {
    /// The file as the user named it; `STDIN` for standard input.
    pub(crate) file: String,
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
}

/// The files and URLs that are named, those of directories in order of their names; `-` is standard
/// input.
pub(crate) fn texts(paths: &[String], recursive: bool) -> anyhow::Result<Vec<Text>> {
    let mut texts = Vec::new();
    for path in paths {
        if path == "-" {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).context("reading standard input")?;
            texts.push(Text { file: "STDIN".to_owned(), bytes });
            continue;
        }
        if is_url(path) {
            texts.push(Text { file: path.clone(), bytes: fetch(path)? });
            continue;
        }
        let is_directory = fs::metadata(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => anyhow::anyhow!("the path {path:?} does not exist"),
                _ => anyhow::anyhow!("the path {path:?} cannot be read: {error}"),
            })?
            .is_dir();
        if is_directory {
            let before = texts.len();
            add_directory(&mut texts, Path::new(path), recursive)?;
            ensure!(
                texts.len() > before,
                "there are no manifests in {path:?}: recognized file extensions are .yaml, .yml and \
                 .json{}",
                if recursive { "" } else { " (-R takes the directories inside it, too)" }
            );
        } else {
            texts.push(file(Path::new(path))?);
        }
    }
    Ok(texts)
}

fn file(path: &Path) -> anyhow::Result<Text> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Text { file: path.display().to_string(), bytes })
}

fn add_directory(texts: &mut Vec<Text>, path: &Path, recursive: bool) -> anyhow::Result<()> {
    let mut entries = fs::read_dir(path)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .with_context(|| format!("reading the directory {}", path.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            if recursive {
                add_directory(texts, &path, true)?;
            }
        } else if matches!(extension, Some("yaml" | "yml" | "json")) && !image::is_mappings(&path) {
            texts.push(file(&path)?);
        }
    }
    Ok(())
}

impl Loaded {
    /// Finds the kinds that definitions add: those of the mesh, and those among the objects.
    ///
    /// # Errors
    ///
    /// If the mesh cannot be asked, which it is only if there are such kinds.
    pub(crate) async fn learn_kinds(&mut self, api: &Api) -> Result<(), ApiError> {
        if self.objects.iter().all(Manifest::is_of_table) {
            return Ok(());
        }
        let mut defined = kinds::defined(api).await?;
        defined.extend(self.objects.iter().filter_map(|manifest| defined_by(manifest.value())));
        for manifest in self.objects.iter_mut().filter(|manifest| !manifest.is_of_table()) {
            manifest.defined = kinds::find(&defined, manifest.api_version(), manifest.kind());
        }
        Ok(())
    }

    /// Says what is wrong with the manifests, and that what could not be read is not `done`. Returns
    /// whether something could not be read.
    pub(crate) fn say_problems(&self, done: &str) -> bool {
        for warning in &self.warnings {
            say::notice(warning);
        }
        for problem in &self.problems {
            let (what, excerpt) = problem.split_at(problem.find('\n').unwrap_or(problem.len()));
            say::notice(&format!("{what}; the object is not {done}{excerpt}"));
        }
        !self.problems.is_empty()
    }

    /// Adds the objects of a text.
    pub(crate) fn add(&mut self, file: &str, text: &str) {
        self.add_without(file, text, &[]);
    }

    /// Adds the objects of a file, but for those with bytes that are no UTF-8: nobody knows what they
    /// were meant to say.
    fn add_bytes(&mut self, file: &str, bytes: &[u8]) {
        let mut bad_lines: Vec<usize> = Vec::new();
        let lines = bytes.split(|byte| *byte == b'\n').zip(1..);
        for (content, line) in lines {
            let Err(error) = std::str::from_utf8(content) else { continue };
            let at = error.valid_up_to();
            let column = String::from_utf8_lossy(&content[..at]).chars().count() + 1;
            let byte = content[at];
            self.problems
                .push(format!("{file}:{line}:{column}: the byte 0x{byte:02x} is not UTF-8"));
            bad_lines.push(line);
        }
        self.add_without(file, &String::from_utf8_lossy(bytes), &bad_lines);
    }

    /// Adds the objects of a text, but for those in which one of these lines stands.
    fn add_without(&mut self, file: &str, text: &str, bad_lines: &[usize]) {
        let mut parsed = manifest::parse(text);
        let starts: Vec<usize> = parsed.documents.iter().map(|document| document.line).collect();
        let mut ends = starts.iter().skip(1).copied().chain([usize::MAX]);
        let mut starts = [0].into_iter().chain(starts.iter().skip(1).copied());
        parsed.documents.retain(|_| {
            let (start, end) = (starts.next().unwrap_or(0), ends.next().unwrap_or(usize::MAX));
            !bad_lines.iter().any(|line| (start..end).contains(line))
        });
        self.problems.extend(parsed.errors.iter().map(|error| placed(file, "", error)));
        let word = format!("{} ", say::severity(Severity::Warning));
        self.warnings.extend(parsed.warnings.iter().map(|warning| placed(file, &word, warning)));
        for document in parsed.documents {
            let manifest = Manifest { file: file.to_owned(), document, defined: None };
            match missing(&manifest) {
                Some(field) => {
                    let place = manifest.place("");
                    self.problems.push(format!("{place}: the object has no {field}"));
                }
                None => self.objects.push(manifest),
            }
        }
    }
}

/// What is wrong at a place of a file, with the line and a mark below it.
fn placed(file: &str, word: &str, error: &ManifestError) -> String {
    let ManifestError { line, column, message, .. } = error;
    // The first line of its own text says the place without the file.
    let text = error.to_string();
    let excerpt: Vec<&str> = text.lines().skip(1).collect();
    format!("{file}:{line}:{column}: {word}{message}\n{}", excerpt.join("\n"))
}

/// The field without which an object cannot be sent.
fn missing(manifest: &Manifest) -> Option<&'static str> {
    let value = manifest.value();
    let absent = |value: &Value| value.as_str().is_none_or(str::is_empty);
    if absent(&value["apiVersion"]) {
        Some("apiVersion")
    } else if absent(&value["kind"]) {
        Some("kind")
    } else if absent(&value["metadata"]["name"]) && absent(&value["metadata"]["generateName"]) {
        Some("metadata.name")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_document_hides_no_other() {
        let mut loaded = Loaded::default();
        loaded.add(
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n---\nkind: x\n---\n\
             # nothing\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: b\n  labels:\n    v: \"1.0\"\n",
        );
        let names: Vec<&str> = loaded.objects.iter().map(Manifest::name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(loaded.problems, ["a.yaml:6: the object has no apiVersion"]);
        assert_eq!(loaded.objects[1].place("metadata.labels.v"), "a.yaml:15");
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_line() {
        let mut loaded = Loaded::default();
        loaded.add(
            "a.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\ndata: {c: d}\n",
        );
        assert_eq!(loaded.objects.len(), 1);
        let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
        assert!(warning.starts_with("a.yaml:5:1: warning "), "{warning}");
        assert!(warning.ends_with("    5 | data: {c: d}\n      | ^"), "{warning}");
        loaded.add("b.yaml", "a: [1\n");
        assert!(loaded.problems[0].contains("\n      | "), "{:?}", loaded.problems);
    }

    #[test]
    fn an_object_with_bytes_that_are_no_utf_8_is_not_applied_and_the_others_are() {
        let mut loaded = Loaded::default();
        loaded.add_bytes(
            "a.yaml",
            b"# first\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n\
              apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {k: gr\xfcn}\n---\n\
              apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {k: gr\xc3\xbcn}\n",
        );
        let names: Vec<&str> = loaded.objects.iter().map(Manifest::name).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(loaded.problems, ["a.yaml:9:13: the byte 0xfc is not UTF-8"]);
        assert!(loaded.say_problems("applied"));
        // UTF-16, and nothing but such bytes.
        for bytes in [&b"\xff\xfek\0i\0n\0d\0"[..], b"\xc3"] {
            let mut loaded = Loaded::default();
            loaded.add_bytes("b.yaml", bytes);
            assert!(loaded.objects.is_empty() && !loaded.problems.is_empty());
        }
    }

    #[test]
    fn a_directory_is_read_in_order_and_not_recursively() {
        let folder = std::env::temp_dir().join(format!("ironmesh-source-{}", std::process::id()));
        fs::create_dir_all(folder.join("extras")).unwrap();
        let object =
            |name: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n");
        for name in ["b.yaml", "a.yml", "readme.md", "extras/c.yaml"] {
            fs::write(folder.join(name), object(&name.replace(['/', '.'], "-"))).unwrap();
        }
        let names = |recursive| {
            let loaded = load(&[folder.display().to_string()], recursive).unwrap();
            loaded.objects.iter().map(|m| m.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["a-yml", "b-yaml"]);
        assert_eq!(names(true), ["a-yml", "b-yaml", "extras-c-yaml"]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_namespace_asked_for_must_not_differ() {
        let mut loaded = Loaded::default();
        loaded.add("a", "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: n}\n");
        loaded.add("a", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
        let [service, namespace] = &loaded.objects[..] else { panic!() };
        assert_eq!(service.namespace(Home::asked_for(None)).unwrap().as_deref(), Some("n"));
        let asked = Home::asked_for(Some("n"));
        assert_eq!(service.namespace(asked).unwrap().as_deref(), Some("n"));
        let other = Home::asked_for(Some("m"));
        assert!(service.namespace(other).is_err());
        assert_eq!(namespace.namespace(other).unwrap(), None);
    }
}
