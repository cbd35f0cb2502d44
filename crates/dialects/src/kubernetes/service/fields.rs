//! Fields of a `Service` (API reference, v1.30).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kubernetes::kinds::Condition;
use crate::schema::{Bounded, IntegerOrText, fields, kind, words};

/// The condition of a Service by which the local platform says which of its ports do not answer on the
/// host.
pub const PUBLISHED: &str = "ironmesh.io/Published";

kind! {
    kubernetes;
    /// A name for some pods, with ports.
    pub struct Service "Service" {
        /// Which pods, and which ports.
        required spec: ServiceSpec,
        /// How it is.
        honoured status: ServiceStatus,
    }
}

fields! {
    open;
    /// How a `Service` is.
    pub struct ServiceStatus "Service.status" {
        /// Its load balancer.
        honoured load_balancer "loadBalancer": LoadBalancer,
        /// What else is said of it.
        honoured conditions: Vec<Condition>,
    }

    /// A load balancer.
    pub struct LoadBalancer "loadBalancer" {
        /// Where it can be reached.
        honoured ingress: Vec<LoadBalancerIngress>,
    }

    /// Where a load balancer can be reached.
    pub struct LoadBalancerIngress "an ingress" {
        /// Its address.
        honoured ip: String,
        /// Its host name.
        honoured hostname: String,
    }
}

fields! {
    kubernetes;
    /// What a `Service` says.
    pub struct ServiceSpec "Service.spec" {
        /// From where it can be reached.
        honoured of "type": ServiceType = ServiceType::ClusterIp,
        /// Its address; `None` if its name has those of its pods.
        honoured cluster_ip "clusterIP": String,
        /// Its addresses, the first of which is `clusterIP`.
        honoured cluster_ips "clusterIPs": Vec<String>,
        /// Labels of its pods; none: its endpoints are listed elsewhere.
        honoured selector: BTreeMap<String, String>,
        /// Its ports.
        honoured ports: Vec<ServicePort>,
        /// Whether pods that are not ready count.
        honoured publish_not_ready_addresses "publishNotReadyAddresses": bool,
        /// The name that it stands for.
        honoured external_name "externalName": String,
        /// Whether a caller meets the same pod again.
        honoured session_affinity "sessionAffinity": SessionAffinity = SessionAffinity::None,
        /// For how long.
        not_here("a caller meets the same pod for as long as the Service has the same ones")
            session_affinity_config "sessionAffinityConfig": Value,
        /// Further addresses.
        not_here("the addresses lead nowhere in the mesh") external_ips "externalIPs": Vec<String>,
        /// Address of the load balancer.
        not_here("each Service has an address of its own, which follows from its name") load_balancer_ip "loadBalancerIP": String,
        /// Networks from which the load balancer can be reached.
        not_here("it is reached from this machine alone")
            load_balancer_source_ranges "loadBalancerSourceRanges": Vec<String>,
        /// Kind of the load balancer.
        unbounded("there is one kind") load_balancer_class "loadBalancerClass": String,
        /// Whether the load balancer needs ports of the node.
        unbounded("node ports are always given")
            allocate_load_balancer_node_ports "allocateLoadBalancerNodePorts": bool,
        /// Port at which the load balancer asks.
        unbounded("there is one node") health_check_node_port "healthCheckNodePort": f64,
        /// Which pods take calls from outside; on one node both words mean the same.
        honoured external_traffic_policy "externalTrafficPolicy": Option<NodePolicy>,
        /// Which pods take calls from inside; on one node both words mean the same.
        honoured internal_traffic_policy "internalTrafficPolicy": Option<NodePolicy>,
        /// Which endpoints are preferred.
        honoured traffic_distribution "trafficDistribution": String,
        /// Which endpoints are preferred, once.
        unbounded("there is one node") topology_keys "topologyKeys": Vec<String>,
        /// Versions of IP.
        honoured ip_families "ipFamilies": Vec<String>,
        /// How many of them.
        honoured ip_family_policy "ipFamilyPolicy": String,
    }

    /// A port of a `Service`.
    pub struct ServicePort "a port of a Service" {
        /// Its name, which tells the protocol.
        honoured name: String,
        /// Its number.
        required port: u16,
        /// What is under it. The mesh carries TCP.
        honoured protocol: ServiceProtocol = ServiceProtocol::Tcp,
        /// The protocol that it carries.
        honoured app_protocol "appProtocol": Option<String>,
        /// The port of the pods, by number or name; the same number if left out.
        honoured target_port "targetPort": Option<IntegerOrText>,
        /// A port of the node that leads there.
        honoured node_port "nodePort": Option<Bounded<0, 65_535>>,
    }
}

words! {
    /// From where a Service can be reached.
    pub enum ServiceType {
        /// From inside.
        honoured ClusterIp = "ClusterIP",
        /// At a port of each node.
        honoured NodePort = "NodePort",
        /// At a load balancer.
        honoured LoadBalancer = "LoadBalancer",
        /// It stands for another name.
        honoured ExternalName = "ExternalName",
    }

    /// Whether a caller meets the same pod again.
    pub enum SessionAffinity {
        /// Any pod will do.
        honoured None = "None",
        /// By the caller's address.
        honoured ClientIp = "ClientIP",
    }

    /// Which pods take calls.
    pub enum NodePolicy {
        /// All.
        honoured Cluster = "Cluster",
        /// Those of the node.
        honoured Local = "Local",
    }

    /// The protocol under a port.
    pub enum ServiceProtocol {
        /// TCP.
        honoured Tcp = "TCP",
        /// UDP, which the mesh leaves alone.
        honoured Udp = "UDP",
        /// SCTP.
        later Sctp = "SCTP",
    }
}
