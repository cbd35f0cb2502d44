//! Fields of `ServiceEntry`, and of the endpoints that it shares with `WorkloadEntry`.

use std::collections::BTreeMap;

use crate::schema::{Bounded, fields, kind, words};

kind! {
    istio;
    /// Services that are not of this mesh, or not of its platform.
    pub struct ServiceEntry "ServiceEntry" {
        /// The services, and where they are.
        required spec: Spec,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

fields! {
    istio;
    /// What a `ServiceEntry` says.
    pub struct Spec "ServiceEntry.spec" {
        /// The names of the services; a wildcard stands for a first label.
        required hosts: Vec<String>,
        /// Addresses of the services, or networks (`10.0.0.0/8`); none: each name gets one of the
        /// mesh's own, but where connections go to where callers dial.
        honoured addresses: Vec<String>,
        /// Their ports.
        honoured ports: Vec<Port>,
        /// Whether they are of the mesh.
        honoured location: Location,
        /// How it is known where connections go.
        honoured resolution: Resolution,
        /// Where the services are.
        honoured endpoints: Vec<WorkloadEntry>,
        /// The workloads of the namespace that are the services, by labels.
        honoured workload_selector "workloadSelector": Option<LabelSelector>,
        /// The namespaces that see the services: names, `.` for the own one, `*` for all.
        honoured export_to "exportTo": Vec<String>,
        /// Names of which the certificate of the service has one where a DestinationRule begins TLS
        /// that names none itself. Of the mesh's own mutual TLS each endpoint's `serviceAccount` says
        /// it; without one, an identity (`spiffe://`) that stands here alone.
        honoured subject_alt_names "subjectAltNames": Vec<String>,
    }

    /// A port of a service outside.
    pub struct Port "a port of a ServiceEntry" {
        /// Its number.
        required number: u16,
        /// What is spoken there.
        honoured protocol: String,
        /// Its name.
        required name: String,
        /// The port of the endpoints; the same number if left out.
        honoured target_port "targetPort": Option<Bounded<0, 65_535>>,
    }

    /// Workloads, by labels.
    pub struct LabelSelector "workloadSelector" {
        /// Labels that they have; none: all of them.
        honoured labels: BTreeMap<String, String>,
    }

    /// Where a workload is that is none of the platform's.
    pub struct WorkloadEntry "an endpoint" {
        /// Its address, or its name where `resolution` is `DNS`.
        honoured address: String,
        /// Its ports, by the names of the service's.
        honoured ports: BTreeMap<String, Bounded<1, 65_535>>,
        /// Its labels.
        honoured labels: BTreeMap<String, String>,
        /// The network that it is in.
        honoured network: String,
        /// Region, zone and subzone.
        honoured locality: String,
        /// Its share of requests relative to the others.
        honoured weight: Option<u32>,
        /// Whose identity it has.
        honoured service_account "serviceAccount": String,
    }
}

words! {
    /// Whether a service is of the mesh.
    pub enum Location {
        /// It is not: it has no identity of the mesh.
        honoured External = "MESH_EXTERNAL",
        /// It is.
        honoured Internal = "MESH_INTERNAL",
    }

    /// How it is known where connections go.
    pub enum Resolution {
        /// To where callers dial.
        honoured None = "NONE",
        /// To the endpoints.
        honoured Static = "STATIC",
        /// To all addresses of the endpoints' names, or of the host.
        honoured Dns = "DNS",
        /// To the first address of the one endpoint's name, or of the host.
        honoured DnsRoundRobin = "DNS_ROUND_ROBIN",
        /// To the host that each request names, and connections of TLS by their server name.
        honoured DynamicDns = "DYNAMIC_DNS",
    }
}
