//! Contexts: which mesh a command means, and which one the user has chosen for all commands.
//!
//! A mesh is a context. `--context` beats `--mesh`, that beats `IRONMESH_MESH`, and that beats what
//! `config use-context` chose; without any of them it is `default`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

/// The mesh that is meant where nothing names one.
pub(crate) const DEFAULT_MESH: &str = "default";

/// What the user has chosen for all commands, in `$XDG_CONFIG_HOME/ironmesh/contexts.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Contexts {
    /// The mesh that is meant where nothing else names one; none: [`DEFAULT_MESH`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// The namespaces that are meant in meshes where nothing else names one.
    pub(crate) namespaces: BTreeMap<String, String>,
}

impl Contexts {
    /// Reads them. None are there before something was chosen, or where the folder is another user's.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read, or is not what [`Contexts::save`] wrote.
    pub(crate) fn load() -> anyhow::Result<Self> {
        let Some(path) = path() else { return Ok(Self::default()) };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{}: remove the file, or mend it", path.display())),
            // Under another user's HOME, as sudo may leave it, there are none of one's own.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Keeps them for later commands: a reader finds the old file or the new one, whole.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or the user has no folder for it.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let path =
            path().context("there is no folder for settings: set HOME or XDG_CONFIG_HOME")?;
        let folder = path.parent().context("the file of contexts has no folder")?;
        let new = folder.join(format!(".contexts.json.{}", std::process::id()));
        let write = || {
            fs::create_dir_all(folder)?;
            fs::write(&new, format!("{}\n", serde_json::to_string_pretty(self)?))?;
            fs::rename(&new, &path)
        };
        write().with_context(|| path.display().to_string())
    }

    /// Takes back a choice, named as kubectl names it.
    ///
    /// # Errors
    ///
    /// If the name is that of no choice.
    pub(crate) fn unset(&mut self, property: &str) -> anyhow::Result<()> {
        let context = property.strip_prefix("contexts.");
        match context.map(|of| of.strip_suffix(".namespace").unwrap_or(of)) {
            Some(name) => drop(self.namespaces.remove(name)),
            None if property == "current-context" => self.current = None,
            None => bail!("{property:?} is neither current-context nor contexts.NAME.namespace"),
        }
        Ok(())
    }

    /// The mesh that is meant, given what the command line and the environment say.
    pub(crate) fn choose(
        &self,
        context: Option<&str>,
        mesh: Option<&str>,
        environment: Option<&str>,
    ) -> String {
        let named = context.or(mesh).or(environment.filter(|name| !name.is_empty()));
        named.or(self.current.as_deref()).unwrap_or(DEFAULT_MESH).to_owned()
    }
}

/// The meshes of the calling user that run now, in the order of their names: those of which the
/// kernel lists an API socket.
///
/// # Errors
///
/// If the kernel's list cannot be read.
pub(crate) fn running() -> io::Result<Vec<String>> {
    let uid = nix::unistd::geteuid();
    let mut names = names_in(&fs::read_to_string("/proc/net/unix")?, uid.as_raw());
    names.sort();
    names.dedup();
    Ok(names)
}

/// The meshes that run, for who has named none of them.
pub(crate) fn others() -> String {
    match running() {
        Ok(running) if !running.is_empty() => format!("; running: {}", running.join(", ")),
        _ => String::new(),
    }
}

fn names_in(table: &str, uid: u32) -> Vec<String> {
    let begin = format!("@ironmesh/{uid}/");
    let paths = table.lines().filter_map(|line| line.split_whitespace().nth(7));
    let names = paths.filter_map(|path| path.strip_prefix(&begin)?.strip_suffix("/api"));
    names.map(str::to_owned).collect()
}

/// Checks the name of a mesh.
///
/// # Errors
///
/// If it is none.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    ensure!(
        ironmesh_local::is_mesh_name(name),
        "{}",
        ironmesh_local::UpError::Name { mesh: name.to_owned() }
    );
    Ok(())
}

fn path() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = match variable("XDG_CONFIG_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(variable("HOME")?).join(".config"),
    };
    Some(folder.join("ironmesh/contexts.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins() {
        let chosen = Contexts { current: Some("chosen".into()), ..Contexts::default() };
        let none = Contexts::default();
        assert_eq!(chosen.choose(Some("c"), Some("m"), Some("e")), "c");
        assert_eq!(chosen.choose(None, Some("m"), Some("e")), "m");
        assert_eq!(chosen.choose(None, None, Some("e")), "e");
        assert_eq!(chosen.choose(None, None, Some("")), "chosen");
        assert_eq!(chosen.choose(None, None, None), "chosen");
        assert_eq!(none.choose(None, None, None), "default");
    }

    #[test]
    fn what_was_chosen_is_taken_back() {
        let namespaces = [("a.b".to_owned(), "shop".to_owned()), ("c".to_owned(), "x".to_owned())];
        let mut chosen = Contexts { current: Some("c".into()), namespaces: namespaces.into() };
        chosen.unset("current-context").unwrap();
        chosen.unset("contexts.a.b.namespace").unwrap();
        chosen.unset("contexts.none").unwrap();
        assert_eq!((chosen.current.as_deref(), chosen.namespaces.len()), (None, 1));
        chosen.unset("contexts.c").unwrap();
        assert_eq!(chosen, Contexts::default());
        assert!(chosen.unset("users.x").is_err());
    }

    #[test]
    fn meshes_are_found_by_their_sockets() {
        let table = "Num RefCount Protocol Flags Type St Inode Path\n\
            0: 02 0 00010000 0001 01 11 @ironmesh/7/one/api\n\
            0: 02 0 00010000 0001 01 12 @ironmesh/7/one/agent\n\
            0: 02 0 00010000 0001 01 13 @ironmesh/77/other/api\n\
            0: 02 0 00010000 0001 01 14\n\
            0: 02 0 00010000 0001 01 15 /run/@ironmesh/7/no/api\n";
        assert_eq!(names_in(table, 7), ["one"]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for good in ["default", "CTX_CLUSTER2", "a.b-c", "7"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "bad name", "a/b", "..", ".a", "-a", "_a", "a\n", "ä", &"a".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
