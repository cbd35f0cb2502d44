//! What a container image is here: a program of this machine that stands for it, or a real image.
//!
//! The name of an image picks a command, which runs in a root made of the machine's own
//! directories. Mappings come first (`--image PATTERN=COMMAND`, `images.yaml`, `ironmesh image map`),
//! then the images of the user's store, then the table of well-known names, [`KNOWN`]; where the
//! original's versions differ by tag alone, so do their commands. What is none of these is pulled.
//! A name whose registry is on this machine's loopback is never another's.

mod known;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use ironmesh_dialects::kubernetes::image::{ImageName, StandIn, stand_in};
use ironmesh_images::{Held, is_loopback};
use ironmesh_model::limits::ImageLimits;
use known::KNOWN;
use tokio::sync::{Mutex, Semaphore, watch};

/// What an image is, or what stands for it: what its Dockerfile would say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    /// `ENTRYPOINT`.
    pub(crate) entrypoint: Vec<String>,
    /// The program of `CMD`: what options alone are given to, as with the images of databases.
    pub(crate) program: Vec<String>,
    /// The rest of `CMD`.
    pub(crate) options: Vec<String>,
    /// `ENV`.
    pub(crate) env: Vec<(String, String)>,
    /// `WORKDIR`, if it has one.
    pub(crate) directory: Option<PathBuf>,
    /// The image itself, if it is a real one.
    pub(crate) real: Option<Rc<Held>>,
    /// Files of the original image for which its program stands.
    names: &'static [&'static str],
    /// Whether any command stands for its program.
    is_stand_in: bool,
    /// Whether its entry point is a script, which runs arguments that name a program.
    runs_programs: bool,
    /// Where a command is looked for first.
    folder: Option<PathBuf>,
}

impl Image {
    /// A real image.
    pub(crate) fn of_real(held: Held) -> Self {
        let config = &held.image.config;
        let variable = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let directory = (!config.working_dir.is_empty()).then(|| config.working_dir.clone().into());
        Self {
            entrypoint: config.entrypoint.clone(),
            options: config.cmd.clone(),
            env: config.variables().map(variable).collect(),
            directory,
            real: Some(Rc::new(held)),
            ..Self::default()
        }
    }

    /// What ironmesh itself answers with.
    fn of_stand_in(known: &StandIn) -> Self {
        let ports: Vec<_> = known.ports.iter().map(u16::to_string).collect();
        let words = [SAMPLES, "stand-in", known.name, known.role.as_str(), &ports.join(",")];
        let entrypoint = words.map(str::to_owned).to_vec();
        Self { entrypoint, is_stand_in: true, ..Self::default() }
    }

    /// The same for a container that declares these ports: ironmesh answers on them, too.
    pub(crate) fn with_ports(mut self, declared: impl Iterator<Item = u16>) -> Self {
        if let Some(ports) = self.entrypoint.last_mut().filter(|_| self.is_stand_in) {
            for port in declared.map(|port| port.to_string()) {
                if !ports.split(',').any(|known| known == port) {
                    ports.push_str(if ports.is_empty() { "" } else { "," });
                    ports.push_str(&port);
                }
            }
        }
        self
    }

    /// The same for a container with these arguments: the script of some images leaves its own program
    /// out where they name another.
    pub(crate) fn with_args(mut self, args: &[String], is_program: impl Fn(&str) -> bool) -> Self {
        if self.runs_programs && args.first().is_some_and(|word| is_program(word)) {
            self.entrypoint.clear();
        }
        self
    }

    /// The command line by Docker's rules: `command` replaces both ENTRYPOINT and CMD, `args`
    /// alone replaces CMD. Where there is no ENTRYPOINT, options alone belong to CMD's program.
    pub(crate) fn command_line(&self, command: &[String], args: &[String]) -> Vec<String> {
        if !command.is_empty() && self.is_stand_in {
            return [&self.entrypoint, command, args].concat();
        }
        if !command.is_empty() {
            return self.own([command, args].concat());
        }
        if args.is_empty() {
            return [&*self.entrypoint, &self.program, &self.options].concat();
        }
        if !self.entrypoint.is_empty() {
            return [&self.entrypoint, args].concat();
        }
        match args[0].starts_with('-') {
            true => [&self.program, args].concat(),
            false => self.own(args.to_vec()),
        }
    }

    /// A command line of the original image as one of this machine: its first word is looked for
    /// among the image's own programs, then in the folder of the program that stands for it.
    pub(crate) fn own(&self, argv: Vec<String>) -> Vec<String> {
        let Some(first) = argv.first() else { return argv };
        let rest = || argv[1..].iter().cloned();
        let name = first.rsplit('/').next().unwrap_or(first);
        if self.names.contains(&name) {
            return self.entrypoint.iter().chain(&self.program).cloned().chain(rest()).collect();
        }
        let beside = first.strip_prefix("./").unwrap_or(first);
        let folder = self.folder.as_ref().filter(|_| !beside.contains('/'));
        let file = folder.map(|folder| folder.join(beside));
        match file.filter(|file| file.is_file()).and_then(|file| file.to_str().map(str::to_owned)) {
            Some(file) => std::iter::once(file).chain(rest()).collect(),
            None => argv,
        }
    }
}

/// An image that no program of this machine stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoImage {
    #[error(
        "image \"{0}\" is not known here: say which command stands for it with `ironmesh image map '{1}=COMMAND'`, or load it with `ironmesh image load FILE`"
    )]
    Unknown(String, String),
    #[error(
        "image \"{image}\" stands for the program {program:?}, which this machine does not have: install it (Debian's package {package}), say which command to run instead with `ironmesh image map '{repository}=COMMAND'`, or load the image with `ironmesh image load FILE`"
    )]
    Missing { image: String, program: &'static str, package: &'static str, repository: String },
}

/// A mapping given by the user that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImageMapping {
    /// It has not the form of one.
    #[error(
        "image mapping {0:?} is not PATTERN=COMMAND, such as 'example.com/web:*=/usr/bin/web --port 80'"
    )]
    Form(String),
    /// Its registry is on loopback.
    #[error(
        "image {0:?} has its registry on this machine, which is asked for it: it is never mapped"
    )]
    Loopback(String),
}

/// What a mesh has images from.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// The newest first.
    mapped: RefCell<Vec<Mapping>>,
    /// Where the user's real images are.
    pub(crate) store: PathBuf,
    /// Rung when there are others than before.
    changed: watch::Sender<()>,
    /// Images that are being pulled: one pull of each at a time.
    pub(crate) turns: RefCell<HashMap<String, Rc<Mutex<()>>>>,
    places: OnceCell<Arc<Semaphore>>,
}

/// A command that stands for images.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    pattern: String,
    words: Vec<String>,
}

impl Mapping {
    /// Reads `PATTERN=COMMAND`. A pattern is a name of an image with `*` for any text; it is compared
    /// with the name as written and with the name without registry and tag. The command is split as a
    /// shell does, quotes included; it is the image's ENTRYPOINT, so that a manifest's `args` follow
    /// it.
    fn read(text: &str) -> Result<Self, BadImageMapping> {
        let read = || {
            let (pattern, command) = text.split_once('=')?;
            let words = shlex::split(command)?;
            (!pattern.is_empty() && !words.is_empty())
                .then(|| Self { pattern: pattern.to_owned(), words })
        };
        let mapping = read().ok_or_else(|| BadImageMapping::Form(text.to_owned()))?;
        match is_on_loopback(&mapping.pattern) {
            true => Err(BadImageMapping::Loopback(mapping.pattern)),
            false => Ok(mapping),
        }
    }
}

impl Images {
    /// Reads mappings, `PATTERN=COMMAND` each.
    ///
    /// # Errors
    ///
    /// If one has no pattern or no command, or its pattern names a registry on loopback.
    pub(crate) fn new(mappings: &[String]) -> Result<Self, BadImageMapping> {
        let mapped = mappings.iter().map(|text| Mapping::read(text)).collect::<Result<_, _>>()?;
        Ok(Self { mapped: RefCell::new(mapped), ..Self::default() })
    }

    /// Adds a mapping, which takes the place of another of its pattern.
    pub(crate) fn map(&self, text: &str) -> Result<(), BadImageMapping> {
        let mapping = Mapping::read(text)?;
        self.unmap(&mapping.pattern);
        self.mapped.borrow_mut().insert(0, mapping);
        Ok(())
    }

    /// Takes a mapping back; whether there was one.
    pub(crate) fn unmap(&self, pattern: &str) -> bool {
        let mut mapped = self.mapped.borrow_mut();
        let before = mapped.len();
        mapped.retain(|mapping| mapping.pattern != pattern);
        mapped.len() < before
    }

    /// The mappings, as they were given.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let text = |mapping: &Mapping| {
            let words = mapping.words.iter().map(String::as_str);
            // A word with a zero byte cannot have been read.
            let command = shlex::try_join(words).unwrap_or_default();
            (mapping.pattern.clone(), command)
        };
        self.mapped.borrow().iter().map(text).collect()
    }

    /// Places for pulls at a time.
    pub(crate) fn places(&self, limits: &ImageLimits) -> Arc<Semaphore> {
        Arc::clone(self.places.get_or_init(|| Arc::new(Semaphore::new(limits.pulls_max))))
    }

    /// Lets it be known that there may be others than before.
    pub(crate) fn note_change(&self) {
        self.changed.send_replace(());
    }

    /// Returns when there may be others than now.
    pub(crate) async fn change(&self) {
        // It cannot be closed: this itself holds its sender.
        let _ = self.changed.subscribe().changed().await;
    }

    /// The command that an image is mapped to.
    pub(crate) fn mapped(&self, image: &str) -> Option<Image> {
        if is_on_loopback(image) {
            return None;
        }
        let ImageName { repository, path, .. } = ImageName::new(image);
        let names = [image, repository, path];
        let mapped = self.mapped.borrow();
        let is_it = |mapping: &&Mapping| names.iter().any(|name| matches(&mapping.pattern, name));
        let Mapping { words, .. } = mapped.iter().find(is_it)?;
        let folder = words.first().map(Path::new).and_then(Path::parent);
        let folder = folder.filter(|folder| folder.is_absolute()).map(Path::to_owned);
        Some(Image { entrypoint: words.clone(), folder, ..Image::default() })
    }
}

/// What of this machine stands for an image. `on_machine` tells whether a program is found on the
/// machine's search path.
pub(crate) fn well_known(image: &str, on_machine: impl Fn(&str) -> bool) -> Result<Image, NoImage> {
    let ImageName { repository, path, tag } = ImageName::new(image);
    let unknown = || NoImage::Unknown(image.to_owned(), repository.to_owned());
    if is_on_loopback(image) {
        return Err(unknown());
    }
    if let Some(known) = stand_in(image) {
        return Ok(Image::of_stand_in(known));
    }
    let known = KNOWN.iter().find(|known| known.patterns.iter().any(|p| matches(p, path)));
    let known = known.ok_or_else(unknown)?;
    if let Some((program, package)) = known.needs.iter().find(|(name, _)| !on_machine(name)) {
        let (image, repository) = (image.to_owned(), repository.to_owned());
        return Err(NoImage::Missing { image, program, package, repository });
    }
    let owned = |words: &[&str]| words.iter().map(|word| word.replace(TAG, tag)).collect();
    let variable = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Ok(Image {
        entrypoint: owned(known.entrypoint),
        program: owned(known.program),
        options: owned(known.options),
        env: known.env.iter().map(variable).collect(),
        names: known.names,
        runs_programs: known.runs_programs,
        ..Image::default()
    })
}

/// The name of an image without tag and digest.
pub(crate) fn repository(image: &str) -> &str {
    ImageName::new(image).repository
}

/// Whether the registry that a name begins with is on this machine's loopback.
fn is_on_loopback(image: &str) -> bool {
    image.split_once('/').is_some_and(|(host, _)| is_loopback(host))
}

/// The program name that stands for our own sample applications, given by descriptor.
pub(crate) const SAMPLES: &str = "ironmesh-samples";

/// The program name that stands for the MongoDB server that is built on this machine.
pub(crate) const FERRETDB: &str = "ferretdb";

/// What the tag of an image takes the place of in a command of the table.
const TAG: &str = "{tag}";

/// A mapping whose program, if it is a relative path, is one of this folder.
///
/// # Errors
///
/// If it has no pattern or no command, or its pattern names a registry on loopback.
pub fn image_mapping_in(folder: &Path, mapping: &str) -> Result<String, BadImageMapping> {
    let Mapping { pattern, mut words } = Mapping::read(mapping)?;
    let mut absolute = || {
        let program = words.first_mut().filter(|word| word.contains('/'))?;
        // `.` in it is left out.
        let path = folder.join(&*program).components().collect::<PathBuf>();
        *program = path.into_os_string().into_string().ok()?;
        let command = shlex::try_join(words.iter().map(String::as_str)).ok()?;
        Some(format!("{pattern}={command}"))
    };
    Ok(absolute().unwrap_or_else(|| mapping.to_owned()))
}

/// Whether a pattern in which `*` stands for any text matches the whole of a name.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(head) else { return false };
    (0..=name.len()).any(|skip| name.is_char_boundary(skip) && matches(rest, &name[skip..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        shlex::split(text).unwrap()
    }

    #[test]
    fn well_known_images_of_any_registry_and_tag() {
        for (image, command) in [
            ("docker.io/istio/examples-bookinfo-details-v1:1.16.4", "ironmesh-samples details"),
            ("istio/examples-bookinfo-productpage-v1:0.2.3", "ironmesh-samples productpage"),
            ("example.com:5000/examples-bookinfo-ratings-v1", "ironmesh-samples ratings"),
            ("docker.io/kennethreitz/httpbin", "ironmesh-samples httpbin"),
            ("docker.io/istio/examples-helloworld-v2", "ironmesh-samples helloworld-v2"),
            ("curlimages/curl", "curl"),
            ("redis:4.0.10", "redis-server --protected-mode no"),
            ("redis@sha256:00", "redis-server --protected-mode no"),
            ("quay.io/stefanprodan/podinfo:1.7.1", "ironmesh-samples podinfo 1.7.1"),
            ("tkubica/web:2", "ironmesh-samples myweb 2"),
            ("docker.io/tkubica/web", "ironmesh-samples myweb latest"),
        ] {
            let image = well_known(image, |_| true).unwrap();
            assert_eq!(image.command_line(&[], &[]), words(command));
        }
        let v3 = well_known("istio/examples-bookinfo-reviews-v3:1", |_| true).unwrap();
        assert!(v3.env.contains(&("STAR_COLOR".to_owned(), "red".to_owned())));
    }

    #[test]
    fn an_unknown_image_says_how_to_map_it() {
        let error = well_known("example.com/shop/cart:1.0", |_| true).unwrap_err().to_string();
        assert!(error.contains("image map 'example.com/shop/cart=COMMAND'"), "{error}");
        assert!(well_known("acme.com/shop/ratings:3", |_| true).is_err());
        let error = well_known("nginx:alpine", |_| false).unwrap_err().to_string();
        let missing =
            "\"nginx\", which this machine does not have: install it (Debian's package nginx)";
        assert!(error.contains(missing), "{error}");
    }

    #[test]
    fn mappings_of_the_user_come_first() {
        let images = Images::new(&[
            "shop/*=/usr/bin/shop --name 'two words' \"a\\\"b\"".to_owned(),
            "redis=my-redis".to_owned(),
        ])
        .unwrap();
        let shop = images.mapped("example.com/shop/cart:1.0").unwrap();
        assert_eq!(shop.command_line(&[], &words("--more"))[4..], ["--more"]);
        assert_eq!(shop.entrypoint, ["/usr/bin/shop", "--name", "two words", "a\"b"]);
        assert_eq!(images.mapped("redis:4").unwrap().entrypoint, ["my-redis"]);
        let here = image_mapping_in(Path::new("/srv/app"), "shop=./server 'a b'").unwrap();
        let here = Images::new(&[here]).unwrap();
        assert_eq!(here.mapped("shop").unwrap().entrypoint, ["/srv/app/server", "a b"]);
        for bad in ["", "x", "=y", "x=", "x='open"] {
            assert!(Images::new(&[bad.to_owned()]).is_err(), "{bad}");
            assert!(image_mapping_in(Path::new("/"), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mappings_change_while_the_mesh_runs() {
        let images = Images::new(&["shop/*=one".to_owned()]).unwrap();
        images.map("shop/cart=two 'a b'").unwrap();
        assert_eq!(images.mapped("shop/cart:1").unwrap().entrypoint, ["two", "a b"]);
        images.map("shop/cart=three").unwrap();
        let of = |pattern: &str, command: &str| (pattern.to_owned(), command.to_owned());
        assert_eq!(images.all(), [of("shop/cart", "three"), of("shop/*", "one")]);
        assert!(images.unmap("shop/cart") && !images.unmap("shop/cart"));
        assert_eq!(images.mapped("shop/cart:1").unwrap().entrypoint, ["one"]);
    }

    #[test]
    fn a_registry_on_loopback_is_never_mapped() {
        let images = Images::new(&["*=/bin/other".to_owned()]).unwrap();
        for image in ["localhost:5000/redis", "127.0.0.1:5000/a/redis:1", "[::1]:5000/redis"] {
            assert!(images.mapped(image).is_none(), "{image}");
            assert!(matches!(well_known(image, |_| true), Err(NoImage::Unknown(..))), "{image}");
            let error = images.map(&format!("{image}=x")).unwrap_err().to_string();
            assert!(error.contains("never mapped"), "{error}");
        }
        assert!(images.mapped("redis").is_some());
    }

    #[test]
    fn command_and_args_override_as_in_docker() {
        let image = Image { entrypoint: words("e"), program: words("c"), ..Image::default() };
        for (command, args, expected) in
            [("", "", "e c"), ("", "a", "e a"), ("x", "", "x"), ("x y", "a", "x y a")]
        {
            assert_eq!(image.command_line(&words(command), &words(args)), words(expected));
        }
        let redis = well_known("redis", |_| true).unwrap();
        assert_eq!(redis.command_line(&[], &words("--port 80")), words("redis-server --port 80"));
        let web = well_known("tkubica/web:2", |_| true).unwrap();
        let with_options = web.command_line(&[], &words("--port 80"));
        assert_eq!(with_options, words("ironmesh-samples myweb 2 --port 80"));
    }

    #[test]
    fn the_image_of_curl_runs_other_programs_too() {
        let is_program = |word: &str| ["sh", "/bin/sh", "sleep", "curl"].contains(&word);
        for (args, expected) in [
            ("sh", "sh"),
            ("/bin/sh -c id", "/bin/sh -c id"),
            ("sleep 1000", "sleep 1000"),
            ("curl -s reviews:9080", "curl -s reviews:9080"),
            ("-s http://reviews:9080/sh", "curl -s http://reviews:9080/sh"),
            ("reviews", "curl reviews"),
            ("", "curl"),
        ] {
            let args = words(args);
            let curl = well_known("curlimages/curl:8", |_| true).unwrap();
            let line = curl.with_args(&args, is_program).command_line(&[], &args);
            assert_eq!(line, words(expected));
        }
    }

    #[test]
    fn programs_of_original_images_are_looked_for_in_the_image_first() {
        let httpbin = well_known("httpbin", |_| true).unwrap();
        let argv = words("gunicorn -b 0.0.0.0:8080 httpbin:app");
        let ours = words("ironmesh-samples httpbin -b 0.0.0.0:8080 httpbin:app");
        assert_eq!(httpbin.command_line(&argv, &[]), ours);
        assert_eq!(httpbin.command_line(&[], &argv), ours);
        let podinfo = well_known("stefanprodan/podinfo:1.7.0", |_| true).unwrap();
        for program in ["./podinfo", "podinfo", "/home/app/podinfo"] {
            let line = podinfo.command_line(&words(program), &words("--port=9898"));
            assert_eq!(line, words("ironmesh-samples podinfo 1.7.0 --port=9898"));
        }
        let line = podinfo.command_line(&words("./podinfo-of-another"), &[]);
        assert_eq!(line, words("./podinfo-of-another"));
    }

    #[test]
    fn a_command_is_looked_for_beside_the_program_that_was_given() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("podinfo"), "").unwrap();
        let server = format!("{}/server", folder.path().display());
        let images = Images::new(&[format!("podinfo={server}")]).unwrap();
        let image = images.mapped("podinfo:1").unwrap();
        let found = format!("{}/podinfo", folder.path().display());
        assert_eq!(image.command_line(&words("./podinfo --a"), &[]), [found.as_str(), "--a"]);
        for other in ["./none --a", "/bin/sh -c x", "../etc/passwd"] {
            assert_eq!(image.command_line(&words(other), &[]), words(other));
        }
    }

    #[test]
    fn ironmesh_answers_for_programs_on_all_their_ports() {
        let kiali = well_known("quay.io/kiali/kiali:v1.50", |_| false).unwrap();
        let kiali = kiali.with_ports([9090, 80].into_iter());
        let line = kiali.command_line(&words("/opt/kiali/kiali -config x"), &[]);
        let ours = "ironmesh-samples stand-in kiali addon 20001,9090,80 /opt/kiali/kiali -config x";
        assert_eq!(line, words(ours));
        // A command inside it is one of the machine.
        assert_eq!(kiali.own(words("sh -c id")), words("sh -c id"));
        let mapped = Images::new(&["*kiali=/opt/kiali/kiali".to_owned()]).unwrap();
        let real = mapped.mapped("quay.io/kiali/kiali:v1.50").unwrap();
        let real = real.with_ports([80].into_iter());
        assert_eq!(real.entrypoint, ["/opt/kiali/kiali"]);
    }
}
