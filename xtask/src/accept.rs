//! The acceptance checks: what a new user is promised, tested from outside with the real binary.
//!
//! Every check starts its own mesh, looks only at what a user can see (HTTP responses, `get`, logs,
//! packets, processes), prints what it measured, and ends what it started.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};

mod bookinfo;
mod config;
mod edits;
mod endings;
mod explain;
mod failure;
mod hostile;
mod http;
mod identity;
mod isolation;
mod large;
mod mesh;
mod routing;

use mesh::{Stage, User};

/// One check.
struct Check {
    number: u32,
    what: &'static str,
    /// It measures, so that nothing else may run beside it.
    alone: bool,
    run: fn(&Stage, &Options) -> anyhow::Result<()>,
}

const CHECKS: &[Check] = &[
    Check { number: 1, what: "up brings Bookinfo, fast and small", alone: true, run: bookinfo::up },
    Check {
        number: 2,
        what: "sidecars encrypt, STRICT refuses",
        alone: false,
        run: identity::encrypted,
    },
    Check {
        number: 3,
        what: "injection by namespace label",
        alone: false,
        run: bookinfo::injection,
    },
    Check {
        number: 4,
        what: "weights split, edits break nothing",
        alone: false,
        run: routing::weights,
    },
    Check {
        number: 5,
        what: "explain agrees with the access log",
        alone: false,
        run: explain::agrees,
    },
    Check {
        number: 6,
        what: "config on demand, certificates rotate",
        alone: false,
        run: config::on_demand,
    },
    Check {
        number: 7,
        what: "deaths are survived or leave nothing",
        alone: false,
        run: failure::deaths,
    },
    Check {
        number: 8,
        what: "pods do not see each other's files",
        alone: false,
        run: isolation::files,
    },
    Check {
        number: 9,
        what: "a large mesh is edited at the cost of the edit",
        alone: true,
        run: large::edits,
    },
    Check {
        number: 10,
        what: "hostile manifests do no harm",
        alone: false,
        run: hostile::manifests,
    },
    Check {
        number: 11,
        what: "edits of every traffic kind lose no request",
        alone: true,
        run: edits::all_kinds,
    },
    Check {
        number: 12,
        what: "however and whenever meshes are ended, they leave nothing",
        alone: false,
        run: endings::random,
    },
];

/// How to run.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Long runs at full length: ten minutes instead of one.
    pub soak: bool,
    /// The workshops' manifests, if available.
    pub workshops: Option<PathBuf>,
    /// The manifests of the samples.
    pub samples: PathBuf,
}

/// Runs the checks that `args` name, by default all.
///
/// # Errors
///
/// If a check fails, or nothing can be run.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let mut options =
        Options { workshops: workshops(root), samples: root.join("samples"), ..Options::default() };
    let (mut wanted, mut user, mut built) = (Vec::new(), None, false);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--soak" => options.soak = true,
            "--no-build" => built = true,
            "--user" => user = Some(words.next().context("--user needs a name")?.clone()),
            number => wanted.push(number.parse::<u32>().context("accept takes numbers 1 to 12")?),
        }
    }
    if !built {
        build(root)?;
    }
    let (users, _made) = users(user)?;
    let wanted = |check: &&Check| wanted.is_empty() || wanted.contains(&check.number);
    let mut results = Vec::new();
    for check in CHECKS.iter().filter(wanted).filter(|check| check.alone) {
        for user in &users {
            results.push(one(root, check, user.as_ref(), &options));
        }
    }
    // The rest mostly waits: the users' meshes run side by side.
    thread::scope(|scope| {
        let running: Vec<_> = users
            .iter()
            .map(|user| {
                scope.spawn(|| {
                    let shared = CHECKS.iter().filter(wanted).filter(|check| !check.alone);
                    shared.map(|c| one(root, c, user.as_ref(), &options)).collect::<Vec<_>>()
                })
            })
            .collect();
        for user in running {
            results.extend(user.join().unwrap_or_else(|_| vec![false]));
        }
    });
    let passed = results.iter().filter(|held| **held).count();
    let failed = results.len() - passed;
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("acceptance checks failed");
    }
    Ok(())
}

thread_local! {
    /// What the check that runs on this thread has found; printed with its verdict.
    static FACTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs one check as one user and prints what it found; true if it held.
fn one(root: &Path, check: &Check, user: Option<&User>, options: &Options) -> bool {
    let began = Instant::now();
    let held = mesh::stage(root, user.cloned()).and_then(|stage| (check.run)(&stage, options));
    let who = user.map_or("the caller", |user| &user.name);
    let mut text =
        format!("--- {} ({who}, {:.0?}): {}\n", check.number, began.elapsed(), check.what);
    for fact in FACTS.take() {
        text.push_str(&format!("    {fact}\n"));
    }
    if let Err(error) = &held {
        text.push_str(&format!("    FAILED: {error:#}\n"));
    }
    print!("{text}");
    held.is_ok()
}

/// Notes one measured fact.
fn fact(text: impl Into<String>) {
    FACTS.with_borrow_mut(|facts| facts.push(text.into()));
}

/// Fails with `otherwise` unless `holds`.
fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> anyhow::Result<()> {
    if holds { Ok(()) } else { bail!(otherwise()) }
}

fn build(root: &Path) -> anyhow::Result<()> {
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--release", "--package", "ironmesh", "--package", "ironmesh-samples"])
        .status()?;
    ensure(status.success(), || "the release build fails".to_owned())
}

/// The workshops' manifests: `IRONMESH_WORKSHOPS`, or their usual place beside a checkout.
fn workshops(root: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("IRONMESH_WORKSHOPS").map(PathBuf::from);
    named.or_else(|| Some(root.join("../shared/manifests"))).filter(|path| path.is_dir())
}

/// The users to run as: the named one; otherwise the caller and, if that is root, an unprivileged
/// user as well.
fn users(named: Option<String>) -> anyhow::Result<(Vec<Option<User>>, Option<MadeUser>)> {
    if let Some(name) = named {
        return Ok((vec![Some(look_up(&name)?)], None));
    }
    if !nix::unistd::geteuid().is_root() {
        return Ok((vec![None], None));
    }
    let name = "ironmesh-accept";
    let made = match look_up(name) {
        Ok(_) => None,
        Err(_) => {
            Command::new("useradd").args(["--create-home", name]).status().context("useradd")?;
            Some(MadeUser(name))
        }
    };
    Ok((vec![None, Some(look_up(name)?)], made))
}

/// A user that the checks created; removed when dropped.
struct MadeUser(&'static str);

impl Drop for MadeUser {
    fn drop(&mut self) {
        let removed = Command::new("userdel").args(["--remove", self.0]).output();
        if !removed.is_ok_and(|output| output.status.success()) {
            println!("user {} could not be removed", self.0);
        }
    }
}

fn look_up(name: &str) -> anyhow::Result<User> {
    let entry = nix::unistd::User::from_name(name)?
        .with_context(|| format!("there is no user {name:?}"))?;
    Ok(User { name: name.to_owned(), uid: entry.uid.as_raw(), gid: entry.gid.as_raw() })
}
