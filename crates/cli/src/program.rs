//! Under which name this program was called: it answers to those of the programs that texts use.

use std::path::Path;

/// A program that ironmesh stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Itself.
    Ironmesh,
    /// `kubectl`, or `k` for short: the same verbs.
    Kubectl,
    /// `istioctl`: the same verbs.
    Istioctl,
    /// `helm`: Istio's charts; other charts go to the real one.
    Helm,
}

impl Program {
    /// The names of the others, as `ironmesh shims` makes them.
    pub(crate) const SHIMS: [&'static str; 4] = ["kubectl", "k", "istioctl", "helm"];

    /// The one that was called.
    pub(crate) fn called() -> Self {
        let name = std::env::args_os().next().unwrap_or_default();
        Self::of(Path::new(&name))
    }

    fn of(path: &Path) -> Self {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("kubectl" | "k") => Self::Kubectl,
            Some("istioctl") => Self::Istioctl,
            Some("helm") => Self::Helm,
            _ => Self::Ironmesh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_by_the_name_of_the_file() {
        for (path, program) in [
            ("/usr/local/bin/kubectl", Program::Kubectl),
            ("k", Program::Kubectl),
            ("shims/istioctl", Program::Istioctl),
            ("./helm", Program::Helm),
            ("ironmesh", Program::Ironmesh),
            ("/helm/ironmesh", Program::Ironmesh),
            ("", Program::Ironmesh),
        ] {
            assert_eq!(Program::of(Path::new(path)), program, "{path}");
        }
    }
}
