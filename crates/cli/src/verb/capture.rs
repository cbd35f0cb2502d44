//! `ironmesh capture`: installs the capture rules in a network namespace, for an init container or
//! a CNI plugin.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use ironmesh_capture::{CaptureSpec, Exemption, apply};
use ironmesh_local::{PROXY_PORTS, marks};

/// Install capture rules in a network namespace, in place of those that were there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh capture --netns /proc/self/ns/net             the proxy runs as user and group 1337
  ironmesh capture --netns /proc/4711/ns/net --marks     the proxy marks its sockets, and nobody else may
  ironmesh capture --netns /proc/4711/ns/net --marks --uid 1337     they are the proxy's user's, too")]
pub(crate) struct Capture {
    /// The network namespace, such as /proc/PID/ns/net.
    #[arg(long, value_name = "PATH")]
    netns: PathBuf,
    /// The proxy's traffic is told by socket marks, with --uid by the user, too.
    #[arg(long, conflicts_with = "gid")]
    marks: bool,
    /// User that the proxy runs as [default: 1337, with --marks any].
    #[arg(long)]
    uid: Option<u32>,
    /// Group that the proxy runs as.
    #[arg(long, default_value_t = 1337)]
    gid: u32,
    /// Address of the pod.
    #[arg(long)]
    pod: Option<Ipv4Addr>,
    /// DNS resolver whose TCP port 53 is not captured.
    #[arg(long)]
    resolver: Option<Ipv4Addr>,
}

impl Capture {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let netns = File::open(&self.netns)
            .with_context(|| format!("opening the network namespace {}", self.netns.display()))?;
        let exemption = match self.marks {
            true => marks(self.uid),
            false => Exemption::Owner { uid: self.uid.unwrap_or(PROXY_UID), gid: self.gid },
        };
        let spec =
            CaptureSpec { ports: PROXY_PORTS, exemption, pod: self.pod, resolver: self.resolver };
        apply(netns.as_fd(), &spec).context("installing the capture rules")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// User of Istio's proxy, and of ours in a pod of Kubernetes.
const PROXY_UID: u32 = 1_337;
