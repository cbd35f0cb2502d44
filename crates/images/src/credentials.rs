//! Who to be at a registry: `config.json` of Docker, and Secrets of the same form.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::name::ImageName;

/// A user of a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// What is secret is not shown.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Who to be for an image: by these texts first, each a `.dockerconfigjson` or `.dockercfg`, then by the
/// user's own `config.json`, which may name a helper; none: nobody.
///
/// # Errors
///
/// If the user's own file, or what its helper says, cannot be read.
pub(crate) fn find(name: &ImageName, texts: &[String]) -> Result<Option<Credentials>, String> {
    for text in texts {
        let Ok(config) = serde_json::from_str::<Value>(text) else { continue };
        // The older form has no `auths` around it.
        let auths = config.get("auths").unwrap_or(&config);
        if let Some(found) = of_auths(auths, name) {
            return Ok(Some(found));
        }
    }
    let Some(path) = config_path() else { return Ok(None) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let config: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let of_registry = config["credHelpers"].as_object().into_iter().flatten();
    let helper = of_registry
        .filter(|(key, _)| is_registry(key, name))
        .find_map(|(key, helper)| Some((key.as_str(), helper.as_str()?)));
    if let Some((key, helper)) = helper {
        return ask_helper(helper, key);
    }
    if let Some(found) = of_auths(&config["auths"], name) {
        return Ok(Some(found));
    }
    match config["credsStore"].as_str() {
        Some(helper) if name.registry() == DOCKER_HUB => ask_helper(helper, DOCKER_HUB_KEY),
        Some(helper) => ask_helper(helper, name.registry()),
        None => Ok(None),
    }
}

/// `config.json` in `DOCKER_CONFIG`, else in `~/.docker`.
fn config_path() -> Option<PathBuf> {
    let given = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
    Some(given.map(PathBuf::from).or_else(home)?.join("config.json"))
}

/// The entry for an image; one for its repository goes before one for its registry.
fn of_auths(auths: &Value, name: &ImageName) -> Option<Credentials> {
    let mut entries: Vec<_> =
        auths.as_object()?.iter().filter(|(key, _)| is_registry(key, name)).collect();
    entries.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
    entries.into_iter().find_map(|(_, entry)| of_entry(entry))
}

fn of_entry(entry: &Value) -> Option<Credentials> {
    let text = |field: &str| entry[field].as_str().filter(|text| !text.is_empty());
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Some(Credentials { user: user.to_owned(), password: password.to_owned() });
    }
    let decoded = STANDARD.decode(text("auth")?.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let password = password.trim_end_matches('\0').to_owned();
    Some(Credentials { user: user.to_owned(), password })
}

/// Whether an entry is for the registry of an image, or for folders of it that have the image.
fn is_registry(key: &str, name: &ImageName) -> bool {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.trim_end_matches('/').split_once('/').unwrap_or((key, ""));
    let host = host.trim_end_matches('/');
    if name.registry() == DOCKER_HUB {
        let hosts = [DOCKER_HUB, "index.docker.io", "registry-1.docker.io"];
        return hosts.contains(&host) && matches!(path, "" | "v1" | "v2");
    }
    let is_within = || {
        name.repository()
            .strip_prefix(path)
            .is_some_and(|rest| matches!(rest.chars().next(), None | Some('/')))
    };
    host == name.registry() && (matches!(path, "" | "v1" | "v2") || is_within())
}

/// Asks a program of the user's, as Docker does.
fn ask_helper(helper: &str, key: &str) -> Result<Option<Credentials>, String> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: &dyn std::fmt::Display| format!("{program}: {error}");
    if !helper
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Err(failed(&"config.json names a helper that is no name of a program"));
    }
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read it answers without.
        let _ = input.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        // It has none for this registry.
        return Ok(None);
    }
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
    let text = |field: &str| answer[field].as_str().map(str::to_owned);
    match (text("Username"), text("Secret")) {
        (Some(user), Some(_)) if user == "<token>" => Err(failed(
            &"it has an identity token, which is not supported: log in with a password or an access token",
        )),
        (Some(user), Some(password)) => Ok(Some(Credentials { user, password })),
        _ => Ok(None),
    }
}

const DOCKER_HUB: &str = "docker.io";
/// What Docker calls it.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(config: &Value, name: &str) -> Option<String> {
        let found = of_auths(config, &name.parse().unwrap())?;
        Some(format!("{}:{}", found.user, found.password))
    }

    #[test]
    fn entries_are_found_by_registry_and_repository() {
        let auths = json!({
            "https://index.docker.io/v1/": { "auth": STANDARD.encode("hub:a:b") },
            "localhost:5000": { "username": "ann", "password": "p" },
            "localhost:5000/team": { "auth": STANDARD.encode("team:t") },
            "example.com": { "auth": "no base64" },
        });
        assert_eq!(of(&auths, "redis").unwrap(), "hub:a:b");
        assert_eq!(of(&auths, "localhost:5000/web").unwrap(), "ann:p");
        assert_eq!(of(&auths, "localhost:5000/team/web").unwrap(), "team:t");
        assert_eq!(of(&auths, "localhost:5000/teammate/web").unwrap(), "ann:p");
        for other in ["localhost:5001/web", "example.com/web", "evil.io/localhost/x"] {
            assert_eq!(of(&auths, other), None, "{other}");
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let one = Credentials { user: "ann".to_owned(), password: "hidden".to_owned() };
        assert!(!format!("{one:?}").contains("hidden"));
        assert!(ask_helper("../../bin/sh", "x").is_err());
    }
}
