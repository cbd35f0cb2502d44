//! `ironmesh dashboard`: the pages of what looks at the mesh, as `istioctl dashboard` opens them.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::charts::ROOT;
use crate::cli::Context;
use crate::say;
use crate::verb::{pods_by_label, port_forward, text};

/// Lead a port of this machine to the page of an addon or proxy, print its URL and open it.
///
/// Ends with Ctrl-C. Where there is no browser the URL is printed only.
#[derive(Debug, Args)]
#[command(visible_aliases = ["dash", "d"])]
#[command(after_help = "Examples:
  ironmesh dashboard kiali
  ironmesh dashboard prometheus -p 9999
  ironmesh dashboard grafana --browser=false &
  ironmesh dashboard envoy deploy/productpage-v1.default")]
pub(crate) struct Dashboard {
    /// What to look at.
    page: Page,
    /// For envoy: the pod of the proxy, POD, POD.NAMESPACE or KIND/NAME.
    pod: Option<String>,
    /// Port of this machine; by default that of the page, or another one if it is taken.
    #[arg(short, long)]
    port: Option<u16>,
    /// Whether to open a browser.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    browser: bool,
}

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Page {
    Kiali,
    Grafana,
    Prometheus,
    Jaeger,
    Zipkin,
    Servicegraph,
    /// What a sidecar or gateway says of itself.
    #[value(alias = "proxy")]
    Envoy,
}

impl Page {
    /// The values of the label `app` that its pods may have, its port and its path.
    fn place(self) -> (&'static [&'static str], u16, &'static str) {
        match self {
            Self::Kiali => (&["kiali"], 20001, "/kiali"),
            Self::Grafana => (&["grafana"], 3000, ""),
            Self::Prometheus => (&["prometheus"], 9090, ""),
            Self::Jaeger => (&["jaeger"], 16686, ""),
            // Jaeger speaks for it, too.
            Self::Zipkin => (&["zipkin", "jaeger"], 9411, ""),
            Self::Servicegraph => (&["servicegraph"], 8088, "/dotviz"),
            Self::Envoy => (&[], 15000, ""),
        }
    }
}

impl Dashboard {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut context = context.clone();
        let (apps, port, path) = self.page.place();
        let pod = if self.page == Page::Envoy {
            let word = self.pod.context("say whose proxy: ironmesh dashboard envoy POD")?;
            let (pod, namespace) = super::proxy_config::split(&word, &context);
            context.namespace = Some(namespace);
            pod
        } else {
            if self.pod.is_some() {
                bail!("{:?} is one for the whole mesh; only envoy takes a pod", self.page);
            }
            context.namespace.get_or_insert(ROOT.to_owned());
            addon(&context, apps).await?
        };
        let wants_browser = self.browser;
        let ready = |local: u16| {
            let url = format!("http://localhost:{local}{path}");
            let mut out = stdout().lock();
            writeln!(out, "{url}")?;
            out.flush()?;
            if wants_browser && !open(&url) {
                say::notice("there is no browser to open it with");
            }
            Ok(())
        };
        port_forward::lead(&context, &pod, (self.port.unwrap_or(port), port), ready).await
    }
}

/// The pod of an addon.
async fn addon(context: &Context, apps: &[&str]) -> anyhow::Result<String> {
    let namespace = context.namespace();
    for app in apps {
        let pods = pods_by_label(&context.api(), namespace, &format!("app={app}")).await?;
        if let Some(pod) = pods.first() {
            return Ok(text(pod, "/metadata/name").to_owned());
        }
    }
    let app = apps.first().copied().unwrap_or_default();
    bail!(
        "no pod with the label app={app} is in {namespace}: install it, such as with \
         `ironmesh apply -f samples/addons/`, or name its namespace with -n"
    )
}

/// Opens a page where there is a screen. Returns whether a browser was asked to.
fn open(url: &str) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let browser = match std::env::var_os("BROWSER").filter(|browser| !browser.is_empty()) {
        Some(browser) => PathBuf::from(browser),
        None if is_set("DISPLAY") || is_set("WAYLAND_DISPLAY") => PathBuf::from("xdg-open"),
        None => return false,
    };
    let mut command = Command::new(browser);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It goes on by itself; init takes it over when this ends.
    command.spawn().is_ok()
}
