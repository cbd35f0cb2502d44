//! What the parts of the agent share: the API, what is known of its objects, and the pods that run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use ironmesh_client::Client;

use ironmesh_dialects::istio::service_entry::EntryNames;
use ironmesh_dialects::kubernetes::kinds::{ConfigMap, Endpoints, Secret, Service};
use ironmesh_identity::TokenKey;
use ironmesh_model::limits::Limits;
use tokio::sync::Notify;

use super::addresses::Addresses;
use super::environment::Objects;
use super::events::Events;
use super::exposure::Exposure;
use super::externals::Externals;
use super::gateways::GatewayPorts;
use super::host_link::HostLink;
use super::images::Images;
use super::kubelet::claims::Claims;
use super::kubelet::cordon::Cordon;
use super::kubelet::host_ports::HostPorts;
use super::kubelet::pod::PodState;
use super::logs::Logs;
use super::reaper::Reaper;
use super::reflector::{Key, Reflector};
use crate::sandbox::ProgramFile;
use crate::sandbox::container::ProgramLimits;
use crate::sandbox::user_ranges::UserRanges;

/// The agent of one mesh.
pub(crate) struct Node {
    /// Name of the mesh.
    pub(crate) mesh: String,
    pub(crate) limits: Limits,
    /// The API.
    pub(crate) api: Client,
    pub(crate) services: Reflector<Service>,
    /// Read only for Services without a selector.
    pub(crate) given_endpoints: Reflector<Endpoints>,
    pub(crate) secrets: Reflector<Secret>,
    pub(crate) config_maps: Reflector<ConfigMap>,
    pub(crate) gateway_ports: GatewayPorts,
    /// Names that workloads with a proxy reach by addresses of the mesh's own.
    pub(crate) entries: RefCell<EntryNames>,
    pub(crate) claims: Claims,
    pub(crate) cordon: Cordon,
    pub(crate) host_ports: HostPorts,
    /// Rung when a `Gateway` or Ingress changes, or whose an Ingress is.
    pub(crate) edge: Notify,
    /// Rung when a Service or the readiness of a pod changes.
    pub(crate) topology: Notify,
    /// Rung when a Secret, a ConfigMap, or what a pod says of itself changes: what volumes hold.
    pub(crate) configuration: Notify,
    /// The pods that are here, by namespace and name.
    pub(crate) pods: RefCell<BTreeMap<Key, Rc<PodState>>>,
    pub(crate) addresses: Addresses,
    /// What of the mesh is on the host.
    pub(crate) exposure: Exposure,
    pub(crate) images: Images,
    /// The sample applications, if they were found.
    pub(crate) samples: Option<ProgramFile>,
    /// Where programs are that were built.
    pub(crate) programs: PathBuf,
    pub(crate) logs: Logs,
    pub(crate) reaper: Reaper,
    pub(crate) events: Events,
    pub(crate) host: HostLink,
    /// Signs the tokens of proxies.
    pub(crate) token_key: TokenKey,
    /// Folder in which the control plane leaves its trust anchors.
    pub(crate) state: PathBuf,
    /// Where the proxies reach the control plane.
    pub(crate) push_address: SocketAddr,
    /// Whether proxies get sockets of the host's network.
    pub(crate) egress: bool,
    /// Names that lead out of the mesh to where they were said to lead.
    pub(crate) externals: Rc<Externals>,
    /// The users of pods, where the mesh was started by root; else there is only one.
    pub(crate) users: Option<UserRanges>,
    /// Folders of the host that containers do not see.
    pub(crate) hidden: Vec<PathBuf>,
    pub(crate) control_pid: Cell<Option<i32>>,
    /// Whether the control plane has answered once.
    pub(crate) has_started: Cell<bool>,
    /// Whether the mesh ends: its pods end, but their objects stay as they are, for a mesh that
    /// starts from the same `--state`.
    pub(crate) is_ending: Cell<bool>,
}

impl Objects for Node {
    fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.secrets.object(namespace, name)
    }

    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap> {
        self.config_maps.object(namespace, name)
    }
}

impl Node {
    /// Notes that a Service or the readiness of a pod has changed.
    pub(crate) fn note_topology(&self) {
        self.topology.notify_one();
        self.exposure.changed.notify_one();
    }

    /// Notes that a `Gateway` or Ingress has changed, or whose an Ingress is.
    pub(crate) fn note_edge(&self) {
        self.edge.notify_waiters();
        self.exposure.changed.notify_one();
    }

    /// Notes what MeshConfig says now.
    pub(crate) fn note_mesh_config(&self) {
        let namespace = &self.gateway_ports.settings.root_namespace;
        let config = self.config_maps.object(namespace, "istio");
        let text = config.as_ref().and_then(|config| config.data.get("mesh"));
        if self.gateway_ports.take_mesh_config(text.map(String::as_str)) {
            self.note_edge();
        }
    }

    /// A pod that is here.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<Rc<PodState>> {
        self.pods.borrow().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The pods that a Service sends traffic to, with their addresses, ordered by name.
    pub(crate) fn endpoints(&self, service: &Service) -> Vec<(Rc<PodState>, Ipv4Addr)> {
        let pods = self.pods.borrow();
        let unready_too = service.spec.publish_not_ready_addresses;
        pods.values()
            .filter(|pod| service.selects(&pod.pod.borrow().metadata))
            .filter(|pod| pod.takes_traffic() || unready_too)
            .filter_map(|pod| Some((Rc::clone(pod), pod.ip()?)))
            .collect()
    }

    /// What the program of a container may take of the machine.
    pub(crate) fn program_limits(&self) -> ProgramLimits {
        let limits = &self.limits.platform;
        ProgramLimits {
            processes: limits.processes_max,
            open_files: limits.open_files_max,
            capabilities: 0,
        }
    }

    /// The text of the trust anchors of the control plane.
    pub(crate) fn anchors(&self) -> std::io::Result<String> {
        std::fs::read_to_string(self.state.join("anchors.pem"))
    }
}
