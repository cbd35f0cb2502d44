//! Fields of `Sidecar`.

use std::collections::BTreeMap;

use super::super::destination_rule::ConnectionPool;
use super::super::virtual_service::Destination;
use crate::schema::{Bounded, fields, kind, words};

kind! {
    istio;
    /// What of the mesh the workloads of a namespace see, and where what enters them goes.
    pub struct Sidecar "Sidecar" {
        /// The workloads, and what holds for them.
        honoured spec: Spec,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

fields! {
    istio;
    /// What a `Sidecar` says.
    pub struct Spec "Sidecar.spec" {
        /// The workloads; none: all of the namespace, or of the mesh if that is the root namespace.
        honoured workload_selector "workloadSelector": LabelSelector,
        /// Ports of the workloads, and where their connections go; none: those of their services.
        honoured ingress: Vec<IngressListener>,
        /// What of the mesh they see; none: all.
        honoured egress: Vec<EgressListener>,
        /// Bounds for what enters them at ports that have none of their own.
        honoured inbound_connection_pool "inboundConnectionPool": Option<ConnectionPool>,
        /// What happens to traffic for destinations that they do not see.
        honoured outbound_traffic_policy "outboundTrafficPolicy": Option<OutboundTrafficPolicy>,
    }

    /// Workloads, by labels.
    pub struct LabelSelector "workloadSelector" {
        /// Labels that they have.
        honoured labels: BTreeMap<String, String>,
    }

    /// A port of the workloads.
    pub struct IngressListener "a listener of ingress" {
        /// Which, and what is spoken there.
        required port: ListenerPort,
        /// The address on which it is.
        no_effect("what comes to the port at any address of the workload is captured")
            bind: String,
        /// How connections come to it.
        honoured capture_mode "captureMode": Option<CaptureMode>,
        /// Where its connections go: `127.0.0.1:PORT`, or `0.0.0.0:PORT` for the workload's own
        /// address; to the port itself if left out. Unix sockets are a finding: proxies do not see the
        /// files of their workloads.
        honoured default_endpoint "defaultEndpoint": String,
        /// TLS of callers outside the mesh that the proxy ends.
        no_effect("sidecars speak the mesh's own mutual TLS alone, and do not see the files of their \
                   workloads; end other TLS at a Gateway, or in the application")
            tls: serde_json::Value,
        /// Bounds for what enters there.
        honoured connection_pool "connectionPool": Option<ConnectionPool>,
    }

    /// What of the mesh is seen.
    pub struct EgressListener "a listener of egress" {
        /// On this port alone; none: on all that no other listener names.
        honoured port: Option<ListenerPort>,
        /// The address on which it is.
        no_effect("the proxy listens on no address of its own for applications, since all that they \
                   send out is captured: call the hosts by their names and ports")
            bind: String,
        /// How connections come to it.
        honoured capture_mode "captureMode": Option<CaptureMode>,
        /// Hosts: `NAMESPACE/HOST`, the namespace `.` for the own one, `*` for any, `~` for none.
        required hosts: Vec<String>,
    }

    /// A port of a listener.
    pub struct ListenerPort "the port of a listener" {
        /// Its number; left out where `bind` is a unix socket.
        honoured number: u16,
        /// What is spoken there.
        honoured protocol: String,
        /// Its name.
        honoured name: String,
        /// The port of the workload.
        no_effect("Istio does not honour it any more either; for what enters, write defaultEndpoint")
            target_port "targetPort": Option<Bounded<0, 65_535>>,
    }

    /// What happens to traffic for destinations that are not known.
    pub struct OutboundTrafficPolicy "outboundTrafficPolicy" {
        /// Whether it goes where it was going.
        honoured mode: OutboundMode,
        /// The service through which it goes instead.
        honoured egress_proxy "egressProxy": Option<Destination>,
    }
}

words! {
    /// How connections come to a listener.
    pub enum CaptureMode {
        /// As the mesh has it.
        honoured Default = "DEFAULT",
        /// They are led to it.
        honoured IpTables = "IPTABLES",
        /// Callers dial it. What enters is led to it all the same; what leaves has a finding.
        honoured None = "NONE",
    }

    /// What happens to traffic for destinations that are not known.
    pub enum OutboundMode {
        /// It is refused.
        honoured RegistryOnly = "REGISTRY_ONLY",
        /// It goes where it was going.
        honoured AllowAny = "ALLOW_ANY",
    }
}
