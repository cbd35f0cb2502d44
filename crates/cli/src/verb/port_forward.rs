//! `ironmesh port-forward`: ports of this machine that lead to ports of a pod.

mod ports;

use std::io::{Write, stdout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ironmesh_local::agent_api::streams::Agent;
use ironmesh_local::carry::both_ways;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

use crate::api::{Api, JSON, Query};
use crate::cli::Context;
use crate::say;
use crate::target;
use crate::verb::rollout::parse_duration;
use crate::verb::{pods_of, text};
use ports::Forwarding;

/// Forward ports of this machine to a pod.
///
/// Connections go to the pod's own 127.0.0.1, past its sidecar, so no policy of the mesh concerns them. It
/// ends when the pod does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh port-forward pod/mypod 5000 6000          the same ports here
  ironmesh port-forward deploy/productpage-v1 8888:9080
  ironmesh port-forward svc/grafana :3000            any free port here, which is printed
  ironmesh port-forward --address 127.0.0.2 mypod 8888:5000")]
pub(crate) struct PortForward {
    /// POD, or KIND/NAME of what has pods (deploy/NAME, svc/NAME).
    pod: String,
    /// PORT, LOCAL:PORT or :PORT; of a pod a number or the name of a container's port, of a Service its
    /// port.
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    ports: Vec<String>,
    /// Addresses to listen on, with commas between; `localhost` is 127.0.0.1 and ::1.
    #[arg(long, default_value = "localhost", value_delimiter = ',')]
    address: Vec<String>,
    /// How long to wait until a pod runs.
    #[arg(long, default_value = "1m", value_parser = parse_duration)]
    pod_running_timeout: Duration,
}

impl PortForward {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let pod = self.running_pod(&api, context.namespace()).await?;
        let service = match self.pod.split_once('/') {
            Some((kind, name)) if target::resource(kind)?.plural.as_ref() == "services" => {
                let services = target::resource("services")?;
                Some(api.get(&services.path(Some(context.namespace()), Some(name))).await?)
            }
            _ => None,
        };
        let wanted = self.ports.iter().map(|word| Forwarding::read(word, &pod, service.as_ref()));
        let wanted = wanted.collect::<anyhow::Result<Vec<_>>>()?;
        let agent = Agent::of_mesh(nix::unistd::geteuid().as_raw(), &context.mesh);
        let to = Rc::new(Destination { agent, api, pod, is_quiet: false });
        LocalSet::new().run_until(self.forward(&to, &wanted)).await
    }

    /// Listens, and forwards until the pod ends.
    async fn forward(
        &self,
        to: &Rc<Destination>,
        wanted: &[Forwarding],
    ) -> anyhow::Result<ExitCode> {
        let mut listening = JoinSet::new();
        for forwarding in wanted {
            match self.listen(forwarding.local).await {
                Ok(listeners) => {
                    for listener in listeners {
                        let port = forwarding.remote;
                        let mut out = stdout().lock();
                        writeln!(out, "Forwarding from {} -> {port}", listener.local_addr()?)?;
                        out.flush()?;
                        listening.spawn_local(accept(listener, Rc::clone(to), port));
                    }
                }
                Err(error) => {
                    let local = forwarding.local;
                    say::notice(&format!("Unable to listen on port {local}: {error:#}"));
                }
            }
        }
        if listening.is_empty() {
            let ports: Vec<_> = wanted.iter().map(|port| port.local.to_string()).collect();
            bail!("unable to listen on any of the requested ports: {}", ports.join(", "));
        }
        tokio::select! {
            () = to.ended() => bail!("lost connection to pod"),
            Some(ended) = listening.join_next() => ended??,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The sockets of one port, on every address that is wanted.
    async fn listen(&self, mut port: u16) -> anyhow::Result<Vec<TcpListener>> {
        let mut listeners = Vec::new();
        for address in &self.address {
            // Where there is no IPv6, or not for us, the other one is enough; and the other way round.
            let (addresses, all): (&[IpAddr], bool) = match (&**address, address.parse()) {
                ("localhost", _) => (&LOCALHOST, false),
                (_, Ok(ip)) => (&[ip], true),
                _ => bail!("--address {address:?} is neither an IP address nor localhost"),
            };
            let mut refused = None;
            let before = listeners.len();
            for ip in addresses {
                let at = SocketAddr::new(*ip, port);
                match TcpListener::bind(at).await {
                    Ok(listener) => {
                        // The second address gets the port that was free at the first.
                        port = listener.local_addr()?.port();
                        listeners.push(listener);
                    }
                    Err(error) => refused = Some((at, error)),
                }
            }
            if let Some((at, error)) = refused.filter(|_| all || listeners.len() == before) {
                return Err(error).with_context(|| format!("unable to create listener at {at}"));
            }
        }
        Ok(listeners)
    }

    /// The pod that is meant, once it runs.
    async fn running_pod(&self, api: &Api, namespace: &str) -> anyhow::Result<Value> {
        let waiting = async {
            loop {
                let pods = pods_of(api, namespace, &self.pod).await?;
                let runs = |pod: &&Value| {
                    text(pod, "/status/phase") == "Running"
                        && pod["metadata"]["deletionTimestamp"].is_null()
                };
                let is_ready = |pod: &&Value| {
                    let conditions = pod["status"]["conditions"].as_array();
                    conditions.is_some_and(|all| {
                        all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
                    })
                };
                let mut running = pods.iter().filter(runs);
                if let Some(pod) = running.clone().find(is_ready).or_else(|| running.next()) {
                    return anyhow::Ok(pod.clone());
                }
                if let Some(done) = pods.iter().find(|pod| is_finished(pod)) {
                    let phase = text(done, "/status/phase");
                    bail!(
                        "unable to forward port because pod is not running. Current status={phase}"
                    );
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        match tokio::time::timeout(self.pod_running_timeout, waiting).await {
            Ok(pod) => pod,
            Err(_) => bail!("timed out waiting until a pod of {} runs", self.pod),
        }
    }
}

/// Leads a port of 127.0.0.1 to one of a pod, until that ends; another port if this one is taken, which
/// is said. Calls back with the port.
///
/// # Errors
///
/// If there is no such pod, it does not run in time, or it has ended.
pub(crate) async fn lead(
    context: &Context,
    pod: &str,
    (local, remote): (u16, u16),
    ready: impl FnOnce(u16) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let forward = PortForward {
        pod: pod.to_owned(),
        ports: Vec::new(),
        address: vec![Ipv4Addr::LOCALHOST.to_string()],
        pod_running_timeout: RUNNING_TIMEOUT,
    };
    let api = context.api();
    let pod = forward.running_pod(&api, context.namespace()).await?;
    let listeners = match forward.listen(local).await {
        Ok(listeners) => listeners,
        Err(error) => {
            say::notice(&format!(
                "Unable to listen on port {local}: Listeners failed to create with the following \
                 errors: [{error:#}]"
            ));
            forward.listen(0).await?
        }
    };
    let listener = listeners.into_iter().next().context("no port of 127.0.0.1 is free")?;
    let agent = Agent::of_mesh(nix::unistd::geteuid().as_raw(), &context.mesh);
    let to = Rc::new(Destination { agent, api, pod, is_quiet: true });
    ready(listener.local_addr()?.port())?;
    let forwarding = async {
        tokio::select! {
            () = to.ended() => bail!("lost connection to pod"),
            ended = accept(listener, Rc::clone(&to), remote) => ended,
        }
    };
    LocalSet::new().run_until(forwarding).await?;
    Ok(ExitCode::SUCCESS)
}

/// Where connections go.
struct Destination {
    agent: Agent,
    api: Api,
    pod: Value,
    /// Whether connections are not told of.
    is_quiet: bool,
}

impl Destination {
    /// Returns when the pod has ended, or is another one.
    async fn ended(&self) {
        let uid = &self.pod["metadata"]["uid"];
        loop {
            let path = self.path();
            match self.api.get(&path).await {
                Ok(pod) if pod["metadata"]["uid"] == *uid && !is_finished(&pod) => {}
                // The control plane is away for a moment; while it is, the pod goes on.
                Err(error) if !error.is_not_found() && self.agent.is_there().await => {
                    tokio::time::sleep(LOOK_PAUSE).await;
                    continue;
                }
                _ => return,
            }
            let watch = Query::new(path).with("watch", "true").build();
            let Ok(mut events) = self.api.stream(&watch, JSON).await else { continue };
            while let Ok(Some(event)) = events.next_json().await {
                let pod = &event["object"];
                if event["type"] == "DELETED" || pod["metadata"]["uid"] != *uid || is_finished(pod)
                {
                    break;
                }
            }
        }
    }

    fn path(&self) -> String {
        let metadata = |field| text(&self.pod["metadata"], field);
        format!("/api/v1/namespaces/{}/pods/{}", metadata("/namespace"), metadata("/name"))
    }

    /// Carries one connection until both sides have ended, or one has broken off.
    async fn carry(&self, mut stream: TcpStream, port: u16) {
        let metadata = |field| text(&self.pod["metadata"], field);
        match self.agent.forward(metadata("/namespace"), metadata("/name"), port).await {
            Ok(mut pod) => both_ways(&mut stream, &mut pod).await,
            Err(error) => {
                say::notice(&format!("an error occurred forwarding to port {port}: {error}"));
            }
        }
    }
}

/// Takes connections for ever.
async fn accept(listener: TcpListener, to: Rc<Destination>, port: u16) -> anyhow::Result<()> {
    let local = listener.local_addr()?.port();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: connections that end give some back.
            tokio::time::sleep(LOOK_PAUSE).await;
            continue;
        };
        if !to.is_quiet {
            writeln!(stdout(), "Handling connection for {local}")?;
        }
        let to = Rc::clone(&to);
        tokio::task::spawn_local(async move { to.carry(stream, port).await });
    }
}

fn is_finished(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// What `localhost` is.
const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// How long a page is waited for whose pod does not run yet.
const RUNNING_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause before what was not there is looked for again.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
