//! Project rules that no other tool enforces; see ARCHITECTURE.md, "Invariants".

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use regex::Regex;

/// Which crates of the workspace each crate may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("client", &[]),
    ("fds", &[]),
    ("dialects", &["model"]),
    ("wire", &["model"]),
    ("identity", &["model"]),
    ("telemetry", &["model"]),
    ("proxy", &["fds", "wire", "identity", "telemetry", "model"]),
    ("control", &["dialects", "fds", "wire", "identity", "telemetry", "model"]),
    ("capture", &[]),
    ("local", &["capture", "client", "dialects", "fds", "identity", "model"]),
    ("samples", &[]),
];

/// Crates that may use any other.
const MAY_USE_ALL: &[&str] = &["cli", "testkit"];

/// Folders whose code does no IO, reads no clock and draws no random numbers.
const PURE: &[&str] = &["model/src", "dialects/src", "wire/src/codec"];

/// What each crate reaches through one module only, so that it can be simulated or reviewed: the
/// pattern that reaches it, and the modules that may.
const SEAMS: &[(&str, &str, &[&str])] = &[
    (
        "wall time",
        r"\b(Timestamp|Zoned|SystemTime)::now\(",
        &[
            "cli/src/clock.rs",
            "control/src/clock.rs",
            "identity/src/clock.rs",
            "local/src/clock.rs",
        ],
    ),
    (
        "randomness",
        r"\bRandomState::new\(|\brand::fill\(|\bgetrandom\b",
        &["identity/src/random.rs", "proxy/src/random.rs", "samples/src/httpbin.rs"],
    ),
    (
        "sockets",
        r"\b(TcpListener|UdpSocket|UnixListener|UnixDatagram)::bind|\b(TcpStream|UnixStream)::connect|\b(Tcp)?Socket::new|\bsocket\(AddressFamily",
        &[
            "client/src/lib.rs",
            "cli/src/verb/status.rs",
            "capture/src/netlink.rs",
            "local/src/",
            "proxy/src/sockets.rs",
            "samples/src/",
        ],
    ),
];

/// Lines of the longest source file, tests not counted.
const FILE_LINES_MAX: usize = 600;

/// Checks every rule and prints each violation.
///
/// # Errors
///
/// If a rule is violated.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let sources = sources(root)?;
    let mut breaches = Vec::new();
    directions(root, &mut breaches)?;
    sizes(&sources, &mut breaches);
    one_decide(&sources, &mut breaches)?;
    purity(&sources, &mut breaches)?;
    sources_only(&sources, &mut breaches)?;
    seams(&sources, &mut breaches)?;
    no_ignored_tests(&sources, &mut breaches);
    no_paths_of_a_machine(root, &mut breaches)?;
    for breach in &breaches {
        println!("tidy: {breach}");
    }
    if !breaches.is_empty() {
        bail!("{} rules of ARCHITECTURE.md are broken", breaches.len());
    }
    println!("tidy: {} files keep the rules", sources.len());
    Ok(())
}

/// Every Rust file of the workspace, by its path from the root.
fn sources(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path: PathBuf = entry?.path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("fuzz") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root)?.display().to_string();
                found.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(found)
}

/// The control plane proper knows its source, and nothing of the store and API of one machine.
fn sources_only(
    sources: &BTreeMap<String, String>,
    breaches: &mut Vec<String>,
) -> anyhow::Result<()> {
    let local = Regex::new(
        r"crate::(api::kinds|builtin|context|controllers|failure|local_source|patch|registry|selector|server|store|table)\b",
    )?;
    for (name, text) in sources {
        let file = name.strip_prefix("crates/control/src/").unwrap_or_default();
        let is_plane = ["plane", "mesh", "explain", "source"].iter().any(|module| {
            file.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        });
        if let Some(found) = local.find(text).filter(|_| is_plane) {
            breaches.push(format!("{name}: the control plane proper uses {}", found.as_str()));
        }
    }
    Ok(())
}

fn directions(root: &Path, breaches: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if MAY_USE_ALL.contains(&&*name) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(krate, _)| *krate == name) else {
            breaches.push(format!("crates/{name}: a new crate needs a row in xtask's MAY_USE"));
            continue;
        };
        let manifest = fs::read_to_string(root.join("crates").join(&name).join("Cargo.toml"))?;
        for used in used_crates(&manifest) {
            if !allowed.contains(&&*used) {
                breaches.push(format!("crates/{name}: may not depend on {used}"));
            }
        }
    }
    Ok(())
}

/// Our own crates among the normal dependencies of a manifest. Tests may use more.
fn used_crates(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut used = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && let Some(name) = line.strip_prefix("ironmesh-")
        {
            let end = name.find(['.', ' ', '=']).unwrap_or(name.len());
            used.push(name[..end].to_owned());
        }
    }
    used
}

fn sizes(sources: &BTreeMap<String, String>, breaches: &mut Vec<String>) {
    for (path, text) in sources {
        if is_test(path) {
            continue;
        }
        let code = text.find("#[cfg(test)]\nmod tests {").map_or(&**text, |at| &text[..at]);
        let lines = code.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!("{path}: {lines} lines; at most {FILE_LINES_MAX}, so split it"));
        }
        if path.ends_with("/mod.rs") {
            breaches.push(format!("{path}: name it after its folder, beside it"));
        }
    }
}

/// Routes are matched only in `model`; `testkit` has the oracle.
fn one_decide(
    sources: &BTreeMap<String, String>,
    breaches: &mut Vec<String>,
) -> anyhow::Result<()> {
    let decide = Regex::new(r"pub fn decide\b")?;
    let matching =
        Regex::new(r"\bcompile_regex\(|TextMatch::compile\(|\bCompiledMatch\b.*\.matches\(")?;
    for (path, text) in sources {
        if path.starts_with("crates/model/") || path.starts_with("crates/testkit/") {
            continue;
        }
        if path.starts_with("xtask/") {
            continue;
        }
        if decide.is_match(text) {
            breaches.push(format!("{path}: `decide` belongs in model only"));
        }
        let in_dialects = path.starts_with("crates/dialects/");
        if !in_dialects && !is_test(path) && matching.is_match(text) {
            breaches.push(format!("{path}: routes are matched in model only"));
        }
    }
    Ok(())
}

fn purity(sources: &BTreeMap<String, String>, breaches: &mut Vec<String>) -> anyhow::Result<()> {
    let impure =
        Regex::new(r"\bstd::(fs|net::Tcp|net::Udp|process|thread|env)\b|\btokio\b|::now\(\)")?;
    for (path, text) in sources {
        let pure = PURE.iter().any(|place| path.starts_with(&format!("crates/{place}")));
        if !pure || is_test(path) {
            continue;
        }
        for number in lines_that_match(text, &impure) {
            breaches.push(format!("{path}:{number}: no IO, clock or random numbers here"));
        }
    }
    Ok(())
}

/// Time, random numbers and sockets are reached only where [`SEAMS`] says.
fn seams(sources: &BTreeMap<String, String>, breaches: &mut Vec<String>) -> anyhow::Result<()> {
    for (what, pattern, places) in SEAMS {
        let pattern = Regex::new(pattern)?;
        for (path, text) in sources {
            let Some(inside) = path.strip_prefix("crates/") else { continue };
            let allowed = places.iter().any(|place| inside.starts_with(place));
            if allowed || is_test(path) || inside.starts_with("testkit/") {
                continue;
            }
            for number in lines_that_match(text, &pattern) {
                breaches.push(format!("{path}:{number}: {what} is reached through {places:?}"));
            }
        }
    }
    Ok(())
}

/// The numbers of matching lines, without comments and tests.
fn lines_that_match(text: &str, pattern: &Regex) -> Vec<usize> {
    let code = text.find("#[cfg(test)]\nmod tests").map_or(text, |at| &text[..at]);
    let is_code = |line: &str| !line.trim_start().starts_with("//");
    (1..)
        .zip(code.lines())
        .filter(|(_, line)| is_code(line) && pattern.is_match(line))
        .map(|(number, _)| number)
        .collect()
}

fn no_ignored_tests(sources: &BTreeMap<String, String>, breaches: &mut Vec<String>) {
    let ignore = concat!("#[", "ignore");
    for (path, text) in sources {
        if text.contains(ignore) {
            breaches.push(format!("{path}: tests must not be ignored"));
        }
    }
}

/// Committed files do not name the folder in which they were written.
fn no_paths_of_a_machine(root: &Path, breaches: &mut Vec<String>) -> anyhow::Result<()> {
    let path = Regex::new(&format!(r"{}\b", regex::escape(&root.display().to_string())))?;
    let listed = std::process::Command::new("git").arg("ls-files").current_dir(root).output()?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        if text.lines().any(|line| path.is_match(line)) {
            breaches.push(format!("{name}: contains a path of one machine"));
        }
    }
    Ok(())
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_kept() {
        run(&crate::root()).unwrap();
    }

    #[test]
    fn only_normal_dependencies_count() {
        let manifest = "[dependencies]\nironmesh-model.workspace = true\nserde = \"1\"\n\
                        [dev-dependencies]\nironmesh-testkit.workspace = true\n";
        assert_eq!(used_crates(manifest), ["model"]);
    }
}
