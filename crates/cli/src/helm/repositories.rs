//! The repositories of Istio that were added: their URLs say which version is meant.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

/// Notes a repository.
pub(super) fn add(name: &str, url: &str) -> anyhow::Result<()> {
    let file = file().context("neither XDG_CONFIG_HOME nor HOME is set")?;
    let mut lines: Vec<String> = fs::read_to_string(&file)
        .unwrap_or_default()
        .lines()
        .filter(|line| line.split(' ').next() != Some(name))
        .map(str::to_owned)
        .collect();
    lines.push(format!("{name} {url}"));
    let folder = file.parent().context("the file has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(&file, lines.join("\n") + "\n").with_context(|| format!("writing {}", file.display()))
}

/// The version that the URL of a repository names; empty if none does.
pub(super) fn version(name: &str) -> String {
    let text = file().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let url = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    url.map(version_of).unwrap_or_default().to_owned()
}

/// The part of a URL that is a version, as in `.../releases/1.3.2/charts/`.
fn version_of(url: &str) -> &str {
    let is_version = |part: &&str| {
        part.starts_with(|c: char| c.is_ascii_digit()) && part.matches('.').count() == 2
    };
    url.split('/').find(is_version).unwrap_or_default()
}

fn file() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = given("XDG_CONFIG_HOME").or_else(|| Some(given("HOME")?.join(".config")))?;
    Some(config.join("ironmesh/helm-repositories"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_a_part_of_the_url() {
        for (url, version) in [
            ("https://storage.googleapis.com/istio-release/releases/1.3.2/charts/", "1.3.2"),
            ("https://istio-release.storage.googleapis.com/charts", ""),
            ("http://1.2.3.4/charts", ""),
        ] {
            assert_eq!(version_of(url), version, "{url}");
        }
    }
}
