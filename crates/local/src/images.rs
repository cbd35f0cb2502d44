//! Which program of this machine stands for a container image.
//!
//! There are no images on the local platform: the name of an image picks a command, which runs in
//! a root made of the machine's own directories. `--image PATTERN=COMMAND` comes first, then the
//! table of well-known names, [`KNOWN`].

/// What stands for an image: what its Dockerfile would say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// `ENTRYPOINT`.
    pub(crate) entrypoint: Vec<String>,
    /// `CMD`.
    pub(crate) cmd: Vec<String>,
    /// `ENV`.
    pub(crate) env: Vec<(&'static str, &'static str)>,
    /// A program of the original image, which ours stands for where the machine has none.
    pub(crate) replaces: Option<&'static str>,
}

impl Image {
    /// The command line by Docker's rules: `command` replaces both ENTRYPOINT and CMD, `args`
    /// alone replaces CMD. Where there is no ENTRYPOINT, options alone belong to CMD's program, as
    /// with the images of databases.
    pub(crate) fn command_line(&self, command: &[String], args: &[String]) -> Vec<String> {
        if !command.is_empty() {
            return [command, args].concat();
        }
        let cmd = if args.is_empty() { &self.cmd } else { args };
        let has_program =
            !self.entrypoint.is_empty() || !cmd.first().is_some_and(|c| c.starts_with('-'));
        let program = self.cmd.first().filter(|_| !has_program);
        let line = self.entrypoint.iter().chain(program).chain(cmd);
        line.cloned().collect()
    }

    /// A command line of the original image as one that this machine has: `on_machine` tells
    /// whether a program is found on its search path.
    pub(crate) fn localize(
        &self,
        argv: Vec<String>,
        on_machine: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        match (argv.first(), self.replaces) {
            (Some(first), Some(replaced)) if first == replaced && !on_machine(replaced) => {
                self.cmd.iter().cloned().chain(argv.into_iter().skip(1)).collect()
            }
            _ => argv,
        }
    }
}

/// An image that no program of this machine stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoImage {
    #[error(
        "image \"{0}\" is not known here: say which command stands for it with `ironmesh up --image '{1}=COMMAND'`"
    )]
    Unknown(String, String),
    #[error(
        "image \"{0}\" stands for the program {1:?}, which this machine does not have: install it, or say which command to run instead with `ironmesh up --image '{2}=COMMAND'`"
    )]
    Missing(String, &'static str, String),
}

/// A mapping given by the user that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "image mapping {0:?} is not PATTERN=COMMAND, such as 'example.com/web:*=/usr/bin/web --port 80'"
)]
pub struct BadImageMapping(String);

/// The images of a mesh.
#[derive(Clone, Debug, Default)]
pub(crate) struct Images {
    mapped: Vec<(String, Vec<String>)>,
}

impl Images {
    /// Reads the mappings of the command line, `PATTERN=COMMAND` each. A pattern is a name of an
    /// image with `*` for any text; it is compared with the name as written and with the name
    /// without registry and tag. The command is split as a shell does, quotes included; it is the
    /// image's ENTRYPOINT, so that a manifest's `args` follow it. A relative path of the program is
    /// one of the folder where the mesh is started.
    ///
    /// # Errors
    ///
    /// If one has no pattern or no command.
    pub(crate) fn new(mappings: &[String]) -> Result<Self, BadImageMapping> {
        let mapped = mappings
            .iter()
            .map(|mapping| {
                let (pattern, command) = mapping.split_once('=')?;
                let mut words = shlex::split(command)?;
                if let Some(program) = words.first_mut().filter(|word| word.contains('/')) {
                    *program = absolute(program);
                }
                (!pattern.is_empty() && !words.is_empty()).then(|| (pattern.to_owned(), words))
            })
            .zip(mappings)
            .map(|(read, mapping)| read.ok_or_else(|| BadImageMapping(mapping.clone())))
            .collect::<Result<_, _>>()?;
        Ok(Self { mapped })
    }

    /// What stands for an image. `on_machine` tells whether a program is found on the machine's
    /// search path.
    pub(crate) fn resolve(
        &self,
        image: &str,
        on_machine: impl Fn(&str) -> bool,
    ) -> Result<Image, NoImage> {
        let repository = repository(image);
        let path = without_registry(repository);
        for (pattern, words) in &self.mapped {
            if [image, repository, path].into_iter().any(|name| matches(pattern, name)) {
                return Ok(Image { entrypoint: words.clone(), ..Image::default() });
            }
        }
        let last = path.rsplit('/').next().unwrap_or(path);
        let known = KNOWN
            .iter()
            .find(|known| known.patterns.iter().any(|p| matches(p, last)))
            .ok_or_else(|| NoImage::Unknown(image.to_owned(), repository.to_owned()))?;
        if let Some(needs) = known.needs.iter().find(|program| !on_machine(program)) {
            return Err(NoImage::Missing(image.to_owned(), needs, repository.to_owned()));
        }
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Ok(Image {
            entrypoint: owned(known.entrypoint),
            cmd: owned(known.cmd),
            env: known.env.to_vec(),
            replaces: known.replaces,
        })
    }
}

/// The program name that stands for our own sample applications, given by descriptor.
pub(crate) const SAMPLES: &str = "ironmesh-samples";

/// A path from the root.
fn absolute(path: &str) -> String {
    let absolute = std::path::absolute(path).ok();
    absolute.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| path.to_owned())
}

/// An image without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    }
}

/// A repository without the host of its registry.
fn without_registry(repository: &str) -> &str {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => repository,
    }
}

/// Whether a pattern in which `*` stands for any text matches the whole of a name.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(head) else { return false };
    (0..=name.len()).any(|skip| name.is_char_boundary(skip) && matches(rest, &name[skip..]))
}

/// A row of the table of well-known images.
struct Known {
    /// Names, without registry, folder and tag.
    patterns: &'static [&'static str],
    entrypoint: &'static [&'static str],
    cmd: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    /// Programs that the machine must have.
    needs: &'static [&'static str],
    /// A program of the original image that `cmd` stands for.
    replaces: Option<&'static str>,
}

/// One of our sample applications.
const fn sample(
    patterns: &'static [&'static str],
    cmd: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
) -> Known {
    Known { patterns, entrypoint: &[], cmd, env, needs: &[], replaces: None }
}

/// A program of the machine.
const fn program(
    patterns: &'static [&'static str],
    cmd: &'static [&'static str],
    needs: &'static [&'static str],
) -> Known {
    Known { patterns, entrypoint: &[], cmd, env: &[], needs, replaces: None }
}

/// The well-known images, first match wins.
const KNOWN: &[Known] = &[
    sample(&["*bookinfo-productpage*"], &[SAMPLES, "productpage"], &[]),
    sample(
        &["*bookinfo-details-v2"],
        &[SAMPLES, "details"],
        &[("SERVICE_VERSION", "v2"), ("ENABLE_EXTERNAL_BOOK_SERVICE", "true")],
    ),
    sample(
        &["*bookinfo-details*"],
        &[SAMPLES, "details"],
        &[("SERVICE_VERSION", "v1"), ("ENABLE_EXTERNAL_BOOK_SERVICE", "false")],
    ),
    sample(&["*bookinfo-ratings*"], &[SAMPLES, "ratings"], &[("SERVICE_VERSION", "v1")]),
    sample(
        &["*bookinfo-reviews-v1"],
        &[SAMPLES, "reviews-v1"],
        &[("SERVICE_VERSION", "v1"), ("ENABLE_RATINGS", "false")],
    ),
    sample(
        &["*bookinfo-reviews-v2"],
        &[SAMPLES, "reviews-v2"],
        &[("SERVICE_VERSION", "v2"), ("ENABLE_RATINGS", "true"), ("STAR_COLOR", "black")],
    ),
    sample(
        &["*bookinfo-reviews-v3"],
        &[SAMPLES, "reviews-v3"],
        &[("SERVICE_VERSION", "v3"), ("ENABLE_RATINGS", "true"), ("STAR_COLOR", "red")],
    ),
    sample(&["*helloworld-v1"], &[SAMPLES, "helloworld-v1"], &[("SERVICE_VERSION", "v1")]),
    sample(&["*helloworld-v2"], &[SAMPLES, "helloworld-v2"], &[("SERVICE_VERSION", "v2")]),
    Known { replaces: Some("gunicorn"), ..sample(&["*httpbin"], &[SAMPLES, "httpbin"], &[]) },
    sample(&["sleep", "*-sleep", "curl-ssl"], &["sleep", "infinity"], &[]),
    Known { entrypoint: &["curl"], ..sample(&["curl", "*-curl"], &[], &[]) },
    program(&["redis"], &["redis-server", "--protected-mode", "no"], &["redis-server"]),
    program(
        &["mysql", "mariadb", "*bookinfo-mysqldb"],
        &["mariadbd", "--user=root"],
        &["mariadbd"],
    ),
    program(&["mongo", "mongodb", "*bookinfo-mongodb"], &["mongod", "--bind_ip_all"], &["mongod"]),
    program(&["nginx"], &["nginx", "-g", "daemon off;"], &["nginx"]),
    program(&["busybox", "alpine"], &["/bin/sh"], &[]),
    program(&["ubuntu", "debian"], &["/bin/bash"], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        shlex::split(text).unwrap()
    }

    #[test]
    fn well_known_images_of_any_registry_and_tag() {
        let images = Images::new(&[]).unwrap();
        for (image, command) in [
            ("docker.io/istio/examples-bookinfo-details-v1:1.16.4", "ironmesh-samples details"),
            ("istio/examples-bookinfo-productpage-v1:0.2.3", "ironmesh-samples productpage"),
            ("localhost:5000/examples-bookinfo-ratings-v1", "ironmesh-samples ratings"),
            ("docker.io/kennethreitz/httpbin", "ironmesh-samples httpbin"),
            ("docker.io/istio/examples-helloworld-v2", "ironmesh-samples helloworld-v2"),
            ("curlimages/curl", "curl"),
            ("redis:4.0.10", "redis-server --protected-mode no"),
            ("redis@sha256:00", "redis-server --protected-mode no"),
        ] {
            let image = images.resolve(image, |_| true).unwrap();
            assert_eq!(image.command_line(&[], &[]), words(command));
        }
        let v3 = images.resolve("istio/examples-bookinfo-reviews-v3:1", |_| true).unwrap();
        assert!(v3.env.contains(&("STAR_COLOR", "red")));
    }

    #[test]
    fn an_unknown_image_says_how_to_map_it() {
        let images = Images::new(&[]).unwrap();
        let error = images.resolve("example.com/shop/cart:1.0", |_| true).unwrap_err().to_string();
        assert!(error.contains("--image 'example.com/shop/cart=COMMAND'"), "{error}");
        assert!(images.resolve("acme.com/shop/ratings:3", |_| true).is_err());
        let error = images.resolve("nginx:alpine", |_| false).unwrap_err().to_string();
        assert!(error.contains("\"nginx\", which this machine does not have"), "{error}");
    }

    #[test]
    fn mappings_of_the_user_come_first() {
        let images = Images::new(&[
            "shop/*=/usr/bin/shop --name 'two words' \"a\\\"b\"".to_owned(),
            "redis=my-redis".to_owned(),
        ])
        .unwrap();
        let shop = images.resolve("example.com/shop/cart:1.0", |_| false).unwrap();
        assert_eq!(shop.command_line(&[], &words("--more"))[4..], ["--more"]);
        assert_eq!(shop.entrypoint, ["/usr/bin/shop", "--name", "two words", "a\"b"]);
        assert_eq!(images.resolve("redis:4", |_| false).unwrap().entrypoint, ["my-redis"]);
        let here = Images::new(&["shop=./server".to_owned()]).unwrap();
        let program = &here.resolve("shop", |_| false).unwrap().entrypoint[0];
        assert!(program.starts_with('/') && program.ends_with("/server"), "{program}");
        for bad in ["", "x", "=y", "x=", "x='open"] {
            assert!(Images::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn command_and_args_override_as_in_docker() {
        let image = Image { entrypoint: words("e"), cmd: words("c"), ..Image::default() };
        for (command, args, expected) in
            [("", "", "e c"), ("", "a", "e a"), ("x", "", "x"), ("x y", "a", "x y a")]
        {
            assert_eq!(image.command_line(&words(command), &words(args)), words(expected));
        }
        let images = Images::new(&[]).unwrap();
        let redis = images.resolve("redis", |_| true).unwrap();
        assert_eq!(redis.command_line(&[], &words("--port 80")), words("redis-server --port 80"));
    }

    #[test]
    fn commands_of_original_images_are_ours_where_they_are_missing() {
        let httpbin = Images::new(&[]).unwrap().resolve("httpbin", |_| false).unwrap();
        let argv = words("gunicorn -b 0.0.0.0:8080 httpbin:app");
        let ours = words("ironmesh-samples httpbin -b 0.0.0.0:8080 httpbin:app");
        assert_eq!(httpbin.localize(argv.clone(), |_| false), ours);
        assert_eq!(httpbin.localize(argv.clone(), |_| true), argv);
    }
}
