//! Project rules that no other tool enforces; see ARCHITECTURE.md, "Invariants".

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use regex::Regex;
use serde_json::Value;

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
    // It runs as it is on Kubernetes: it has its objects from a source, and knows no API server.
    ("control", &["dialects", "fds", "wire", "identity", "telemetry", "model"]),
    ("apiserver", &["dialects", "fds", "identity", "model"]),
    ("capture", &[]),
    ("images", &["model"]),
    ("local", &["capture", "client", "dialects", "fds", "identity", "images", "model"]),
    ("samples", &[]),
    // All that the program does is the command line's.
    ("ironmesh", &["cli"]),
];

/// Crates that may use any other.
const MAY_USE_ALL: &[&str] = &["cli", "testkit"];

/// Crates that know nothing of one another, in their tests neither.
const APART: &[(&str, &str)] =
    &[("control", "apiserver"), ("control", "local"), ("apiserver", "local")];

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
            "apiserver/src/clock.rs",
            "identity/src/clock.rs",
            "local/src/clock.rs",
            "samples/src/clock.rs",
        ],
    ),
    (
        "randomness",
        r"\bRandomState::new\(|\brand::fill\(|\bgetrandom\b",
        &[
            "apiserver/src/clock.rs",
            "identity/src/random.rs",
            "proxy/src/random.rs",
            "samples/src/random.rs",
        ],
    ),
    (
        "sockets",
        r"\b(TcpListener|UdpSocket|UnixListener|UnixDatagram)::bind|\b(TcpStream|UnixStream)::connect|\b(Tcp)?Socket::new|\bsocket\(AddressFamily",
        &[
            "client/src/lib.rs",
            "cli/src/verb/port_forward.rs",
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

fn directions(root: &Path, breaches: &mut Vec<String>) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = std::process::Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    let metadata = serde_json::from_slice(&metadata.stdout).context("output of cargo metadata")?;
    breaches.extend(wrong_directions(&metadata));
    Ok(())
}

/// What is wrong with the dependencies between our crates, as `cargo metadata` tells them: by whatever
/// name, for whatever target.
fn wrong_directions(metadata: &Value) -> Vec<String> {
    let mut breaches = Vec::new();
    let crates = format!("{}/crates/", text(metadata, "workspace_root"));
    for package in list(metadata, "packages") {
        let name = ours(package);
        if !text(package, "manifest_path").starts_with(&crates) || MAY_USE_ALL.contains(&name) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(krate, _)| *krate == name) else {
            breaches.push(format!("crates/{name}: a new crate needs a row in xtask's MAY_USE"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let used = ours(dependency);
            if !text(dependency, "name").starts_with("ironmesh") {
                continue;
            }
            if text(dependency, "kind") == "dev" {
                if APART
                    .iter()
                    .any(|(one, other)| [(one, other), (other, one)].contains(&(&name, &used)))
                {
                    breaches.push(format!(
                        "crates/{name}: may not depend on {used}, not even in tests"
                    ));
                }
            } else if !allowed.contains(&used) {
                breaches.push(format!("crates/{name}: may not depend on {used}"));
            }
        }
    }
    breaches
}

/// The name of one of our packages, or of a dependency on it, as its folder is called.
fn ours(package: &Value) -> &str {
    let name = text(package, "name");
    name.strip_prefix("ironmesh-").unwrap_or(name)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
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
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rules_are_kept() {
        run(&crate::root()).unwrap();
    }

    #[test]
    fn control_and_apiserver_know_nothing_of_each_other() {
        let breaches = |name: &str, used: &str, kind: Value| {
            let dependency =
                json!({"name": format!("ironmesh-{used}"), "rename": "x", "kind": kind});
            wrong_directions(&json!({"workspace_root": "/here", "packages": [{
                "name": format!("ironmesh-{name}"),
                "manifest_path": format!("/here/crates/{name}/Cargo.toml"),
                "dependencies": [dependency, {"name": "serde", "kind": null}],
            }]}))
        };
        for (name, used) in [("control", "apiserver"), ("apiserver", "control")] {
            for kind in [Value::Null, json!("dev"), json!("build")] {
                assert_eq!(breaches(name, used, kind.clone()).len(), 1, "{name} {used} {kind}");
            }
        }
        assert_eq!(breaches("capture", "model", Value::Null).len(), 1);
        assert_eq!(breaches("nobody", "model", Value::Null).len(), 1);
        assert!(breaches("control", "dialects", Value::Null).is_empty());
        // Tests may use more.
        assert!(breaches("dialects", "testkit", json!("dev")).is_empty());
    }
}
