//! Names of images, and those that ironmesh itself answers for.

/// The parts of an image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageName<'a> {
    /// The name without tag and digest.
    pub repository: &'a str,
    /// The repository without the host of its registry.
    pub path: &'a str,
    /// Its tag; by default `latest`.
    pub tag: &'a str,
}

impl<'a> ImageName<'a> {
    /// Splits a name as a manifest has it.
    pub fn new(image: &'a str) -> Self {
        let name = image.split('@').next().unwrap_or(image);
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (name, "latest"),
        };
        let path = match repository.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
            _ => repository,
        };
        Self { repository, path, tag }
    }
}

/// A program that ironmesh itself answers for on the local platform: part of an older control
/// plane, whose work the mesh does, or an addon that is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// What the image is called without its folder.
    pub name: &'static str,
    /// Folders of it; one that ends in `*` stands for all that begin so.
    folders: &'static [&'static str],
    /// Ports of the image, besides those that a manifest declares.
    pub ports: &'static [u16],
    /// What it was.
    pub role: Role,
}

/// What a program was that ironmesh answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part of a mesh's control plane or its gateways: ironmesh does the same.
    ControlPlane,
    /// A command that sets a control plane up and ends: there is nothing to do.
    Setup,
    /// A program that looks at the mesh. The real one can be run instead.
    Addon,
}

impl Role {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Setup => "setup",
            Self::Addon => "addon",
        }
    }
}

/// What ironmesh answers for under the name of an image.
pub fn stand_in(image: &str) -> Option<&'static StandIn> {
    let (folder, name) = ImageName::new(image).path.rsplit_once('/')?;
    let is_folder = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => folder.starts_with(start),
        None => folder == *pattern,
    };
    STAND_INS.iter().find(|known| known.name == name && known.folders.iter().any(is_folder))
}

const fn row(
    name: &'static str,
    folders: &'static [&'static str],
    ports: &'static [u16],
    role: Role,
) -> StandIn {
    StandIn { name, folders, ports, role }
}

const ISTIO: &[&str] = &["istio*"];

/// The names.
const STAND_INS: &[StandIn] = &[
    row("pilot", ISTIO, &[8080, 15010, 15011, 15014], Role::ControlPlane),
    row("mixer", ISTIO, &[9091, 15004, 15014, 42422], Role::ControlPlane),
    row("proxy_debug", ISTIO, &[], Role::ControlPlane),
    row("proxy", ISTIO, &[], Role::ControlPlane),
    row("proxyv2", ISTIO, &[], Role::ControlPlane),
    row("istio-ca", ISTIO, &[8060], Role::ControlPlane),
    row("citadel", ISTIO, &[8060, 15014], Role::ControlPlane),
    row("galley", ISTIO, &[443, 9901, 15014], Role::ControlPlane),
    row("sidecar_injector", ISTIO, &[443], Role::ControlPlane),
    row("statsd-exporter", &["prom"], &[9102, 9125], Role::ControlPlane),
    row("kubectl", ISTIO, &[], Role::Setup),
    row("hyperkube", &["coreos", "google_containers"], &[], Role::Setup),
    row("kiali", &["kiali"], &[20001, 9090], Role::Addon),
    row("grafana", &["grafana"], &[3000], Role::Addon),
    row("prometheus", &["prom", "prometheus", "coreos"], &[9090], Role::Addon),
    row("configmap-reload", &["jimmidyson"], &[9533], Role::Addon),
    row(
        "all-in-one",
        &["jaegertracing"],
        &[5778, 9411, 14250, 14268, 14269, 16685, 16686],
        Role::Addon,
    ),
    row("zipkin", &["openzipkin"], &[9411], Role::Addon),
    row("zipkin-slim", &["openzipkin"], &[9411], Role::Addon),
    row("servicegraph", ISTIO, &[8088], Role::Addon),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split() {
        for (image, repository, path, tag) in [
            ("redis", "redis", "redis", "latest"),
            ("docker.io/istio/pilot:0.2.10", "docker.io/istio/pilot", "istio/pilot", "0.2.10"),
            ("localhost:5000/a/b", "localhost:5000/a/b", "a/b", "latest"),
            ("a/b:1@sha256:00", "a/b", "a/b", "1"),
        ] {
            assert_eq!(ImageName::new(image), ImageName { repository, path, tag }, "{image}");
        }
    }

    #[test]
    fn only_the_original_names_are_answered_for() {
        for (image, name) in [
            ("docker.io/istio/pilot:0.2.10", "pilot"),
            ("gcr.io/istio-release/mixer:release-1.0-latest", "mixer"),
            ("quay.io/kiali/kiali:v1.50", "kiali"),
            ("prom/statsd-exporter", "statsd-exporter"),
            ("quay.io/coreos/prometheus:v1.1.1", "prometheus"),
            ("openzipkin/zipkin-slim:2.23.0", "zipkin-slim"),
        ] {
            assert_eq!(stand_in(image).map(|known| known.name), Some(name), "{image}");
        }
        for image in ["pilot", "acme/pilot", "acme/istio/pilot:1", "kiali/kiali-operator", ""] {
            assert_eq!(stand_in(image), None, "{image}");
        }
    }
}
