//! Who to be at a registry: `config.json` of Docker, and Secrets of the same form.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironmesh_model::limits::ImageLimits;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::name::ImageName;

/// A user of a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) secret: Secret,
}

/// What proves who a user is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Password(String),
    /// What `docker login` got from a server of tokens, for tokens that are used once
    /// (`identitytoken`).
    IdentityToken(String),
}

/// What is secret is not shown.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What of this machine concerns registries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// The folder of `config.json`.
    pub(crate) config_folder: Option<PathBuf>,
    /// Folders with a folder for each registry that has certificates of its own.
    pub(crate) certificate_folders: Vec<PathBuf>,
    /// Where programs are; `None`: as for this process.
    pub(crate) path: Option<OsString>,
}

impl Machine {
    /// This one: `DOCKER_CONFIG`, else `~/.docker`, and `/etc/docker`.
    pub(crate) fn this() -> Self {
        let given = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
        let config_folder = given.map(PathBuf::from).or_else(home);
        let folders = config_folder.iter().cloned().chain([PathBuf::from("/etc/docker")]);
        let certificate_folders = folders.map(|folder| folder.join("certs.d")).collect();
        Self { config_folder, certificate_folders, path: None }
    }
}

/// Who to be for an image: by these texts first, each a `.dockerconfigjson` or `.dockercfg`, then by the
/// user's own `config.json`, which may name a helper; none: nobody.
///
/// # Errors
///
/// If the user's own file, or what its helper says, cannot be read.
pub(crate) async fn find(
    name: &ImageName,
    texts: &[String],
    machine: &Machine,
    limits: &ImageLimits,
) -> Result<Option<Credentials>, String> {
    for text in texts {
        let Ok(config) = serde_json::from_str::<Value>(text) else { continue };
        // The older form has no `auths` around it.
        let auths = config.get("auths").unwrap_or(&config);
        if let Some(found) = of_auths(auths, name) {
            return Ok(Some(found));
        }
    }
    let Some(folder) = &machine.config_folder else { return Ok(None) };
    let path = folder.join("config.json");
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
        return ask_helper(helper, key, machine, limits).await;
    }
    if let Some(found) = of_auths(&config["auths"], name) {
        return Ok(Some(found));
    }
    let key = if name.registry() == DOCKER_HUB { DOCKER_HUB_KEY } else { name.registry() };
    match config["credsStore"].as_str() {
        Some(helper) => ask_helper(helper, key, machine, limits).await,
        None => Ok(None),
    }
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
    let decoded = text("auth").and_then(|auth| STANDARD.decode(auth.trim()).ok());
    let decoded = decoded.and_then(|decoded| String::from_utf8(decoded).ok()).unwrap_or_default();
    let (user, password) = decoded.split_once(':').unwrap_or_default();
    if let Some(token) = text("identitytoken") {
        let user = text("username").unwrap_or(user).to_owned();
        return Some(Credentials { user, secret: Secret::IdentityToken(token.to_owned()) });
    }
    let (user, password) = match (text("username"), text("password")) {
        (Some(user), Some(password)) => (user, password),
        _ => (user, password.trim_end_matches('\0')),
    };
    let secret = Secret::Password(password.to_owned());
    (!user.is_empty()).then(|| Credentials { user: user.to_owned(), secret })
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

/// Asks a program of the user's, as Docker does. It has `answer_timeout` to answer.
async fn ask_helper(
    helper: &str,
    key: &str,
    machine: &Machine,
    limits: &ImageLimits,
) -> Result<Option<Credentials>, String> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: &dyn std::fmt::Display| format!("{program}: {error}");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if helper.is_empty() || !helper.bytes().all(is_plain) {
        return Err(failed(&"config.json names a helper that is no name of a program"));
    }
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(path) = &machine.path {
        command.env("PATH", path);
    }
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| failed(&error))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let asked = async {
        if let Some(mut input) = input {
            // One that does not read it answers without.
            let _ = input.write_all(key.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(output) = output {
            output.take(limits.answer_bytes_max as u64 + 1).read_to_end(&mut answer).await?;
        }
        // One that goes on talking is not waited for.
        let is_whole = answer.len() <= limits.answer_bytes_max;
        let status = if is_whole { Some(child.wait().await?) } else { None };
        Ok::<_, std::io::Error>((answer, status))
    };
    let longest = limits.answer_timeout;
    let asked = tokio::time::timeout(longest, asked).await.map_err(|_| {
        failed(&format!("it has not answered within {longest:?} (limits.images.answer_timeout)"))
    })?;
    let (answer, status) = asked.map_err(|error| failed(&error))?;
    let Some(status) = status else {
        return Err(failed(&"its answer is longer than limits.images.answer_bytes_max"));
    };
    if !status.success() {
        // It has none for this registry.
        return Ok(None);
    }
    let answer: Value = serde_json::from_slice(&answer).map_err(|error| failed(&error))?;
    let text = |field: &str| answer[field].as_str().map(str::to_owned);
    Ok(match (text("Username"), text("Secret")) {
        (Some(user), Some(token)) if user == "<token>" => {
            Some(Credentials { user, secret: Secret::IdentityToken(token) })
        }
        (Some(user), Some(password)) => {
            Some(Credentials { user, secret: Secret::Password(password) })
        }
        _ => None,
    })
}

const DOCKER_HUB: &str = "docker.io";
/// What Docker calls it.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(config: &Value, name: &str) -> Option<String> {
        of_auths(config, &name.parse().unwrap()).map(|found| shown(&found))
    }

    fn shown(found: &Credentials) -> String {
        match &found.secret {
            Secret::Password(password) => format!("{}:{password}", found.user),
            Secret::IdentityToken(token) => format!("{} by token {token}", found.user),
        }
    }

    #[test]
    fn entries_are_found_by_registry_and_repository() {
        let auths = json!({
            "https://index.docker.io/v1/": { "auth": STANDARD.encode("hub:a:b") },
            "localhost:5000": { "username": "ann", "password": "p" },
            "localhost:5000/team": { "auth": STANDARD.encode("team:t") },
            "example.com": { "auth": "no base64" },
            "token.example": { "auth": STANDARD.encode("00-00:"), "identitytoken": "refresh" },
        });
        assert_eq!(of(&auths, "redis").unwrap(), "hub:a:b");
        assert_eq!(of(&auths, "localhost:5000/web").unwrap(), "ann:p");
        assert_eq!(of(&auths, "localhost:5000/team/web").unwrap(), "team:t");
        assert_eq!(of(&auths, "localhost:5000/teammate/web").unwrap(), "ann:p");
        assert_eq!(of(&auths, "token.example/web").unwrap(), "00-00 by token refresh");
        for other in ["localhost:5001/web", "example.com/web", "evil.io/localhost/x"] {
            assert_eq!(of(&auths, other), None, "{other}");
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        for secret in [Secret::Password("hidden".into()), Secret::IdentityToken("hidden".into())] {
            let one = Credentials { user: "ann".to_owned(), secret };
            assert!(!format!("{one:?}").contains("hidden"));
        }
    }

    /// A folder with a `config.json` and helpers, each a script.
    fn machine(config: &Value, helpers: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        for (name, script) in helpers {
            let path = folder.path().join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let own = folder.path().to_owned();
        let path = Some(std::env::join_paths([own.clone(), "/bin".into(), "/usr/bin".into()]));
        let path = path.map(Result::unwrap);
        let config_folder = Some(own);
        (folder, Machine { config_folder, path, ..Machine::default() })
    }

    async fn found(machine: &Machine, name: &str) -> Result<Option<String>, String> {
        let limits = ImageLimits {
            answer_timeout: std::time::Duration::from_secs(2),
            answer_bytes_max: 1_000,
            ..ImageLimits::default()
        };
        let found = find(&name.parse().unwrap(), &[], machine, &limits).await?;
        Ok(found.map(|found| shown(&found)))
    }

    #[tokio::test]
    async fn helpers_are_asked_for_their_registries() {
        let config = json!({
            "credHelpers": { "a.example": "own", "token.example": "token" },
            "credsStore": "all",
            "auths": { "b.example": { "username": "ann", "password": "p" } },
        });
        let answer = r#"read key; printf '{"Username":"%s","Secret":"s"}' "$1-$key""#;
        let token = r#"printf '{"Username":"<token>","Secret":"refresh"}'"#;
        let none = "read key; [ $key = c.example ] && exit 1; printf '{\"Username\":\"all\",\"Secret\":\"'$key'\"}'";
        let helpers = [("own", answer), ("token", token), ("all", none)];
        let (_folder, machine) = machine(&config, &helpers);
        let found = async |name: &str| found(&machine, name).await.unwrap();
        assert_eq!(found("a.example/x").await.unwrap(), "get-a.example:s");
        assert_eq!(found("token.example/x").await.unwrap(), "<token> by token refresh");
        assert_eq!(found("b.example/x").await.unwrap(), "ann:p");
        assert_eq!(found("c.example/x").await, None, "it has none");
        assert_eq!(found("redis").await.unwrap(), "all:https://index.docker.io/v1/");
    }

    #[tokio::test]
    async fn a_helper_that_is_none_or_never_ends_is_given_up() {
        let endless = "while true; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";
        let helpers =
            [("silent", "exec sleep 1000"), ("endless", endless), ("broken", "echo no json")];
        for (helper, why) in [
            ("../../../bin/sh", "no name of a program"),
            ("a/b", "no name of a program"),
            ("", "no name of a program"),
            ("a b", "no name of a program"),
            ("missing", "docker-credential-missing"),
            ("silent", "limits.images.answer_timeout"),
            ("endless", "limits.images.answer_bytes_max"),
            ("broken", "docker-credential-broken: expected"),
        ] {
            let (_folder, machine) = machine(&json!({ "credsStore": helper }), &helpers);
            let refused = found(&machine, "a.example/x").await.unwrap_err();
            assert!(refused.contains(why), "{helper}: {refused}");
        }
    }
}
