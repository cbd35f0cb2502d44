//! Columns of the core group, but for pods.

use super::{Columns, NONE, age, column, holds, or_none, pairs, since, wide};
use crate::kubernetes::kinds::{
    ConfigMap, Endpoints, Event, Lease, Namespace, Node, PersistentVolumeClaim, Secret, Service,
    ServiceAccount, ServicePort, ServiceType,
};
use crate::schema::Fields;

pub(crate) const SERVICE: Columns = Columns {
    all: &[
        column("Name"),
        column("Type"),
        column("Cluster-IP"),
        column("External-IP"),
        column("Port(s)"),
        column("Age"),
        wide("Selector"),
    ],
    cells: |object, now| {
        let service = Service::of(object);
        let (metadata, spec) = (service.metadata(), service.spec());
        let ports: Vec<_> = spec.ports().map(port).collect();
        vec![
            metadata.name().into(),
            spec.of().word().into(),
            or_none(spec.cluster_ip()),
            external(service).into(),
            or_none(&ports.join(",")),
            age(metadata, now),
            pairs(spec.selector()),
        ]
    },
};

fn port(port: Fields<'_, ServicePort>) -> String {
    let (number, protocol) = (port.port(), port.protocol().word());
    match port.node_port().filter(|port| port.get() != 0) {
        Some(node_port) => format!("{number}:{}/{protocol}", node_port.get()),
        None => format!("{number}/{protocol}"),
    }
}

fn external(service: Fields<'_, Service>) -> String {
    let spec = service.spec();
    let given: Vec<&str> = spec.external_ips().collect();
    let ingress = service.status().load_balancer().ingress();
    let ingress: Vec<&str> =
        ingress.map(|at| if at.ip().is_empty() { at.hostname() } else { at.ip() }).collect();
    match spec.of() {
        ServiceType::LoadBalancer if !ingress.is_empty() => [ingress, given].concat().join(","),
        ServiceType::LoadBalancer if given.is_empty() => "<pending>".to_owned(),
        ServiceType::ExternalName => spec.external_name().to_owned(),
        _ if given.is_empty() => NONE.to_owned(),
        _ => given.join(","),
    }
}

pub(crate) const NAMESPACE: Columns = Columns {
    all: &[column("Name"), column("Status"), column("Age")],
    cells: |object, now| {
        let namespace = Namespace::of(object);
        let metadata = namespace.metadata();
        vec![metadata.name().into(), namespace.status().phase().into(), age(metadata, now)]
    },
};

pub(crate) const NODE: Columns = Columns {
    all: &[
        column("Name"),
        column("Status"),
        column("Roles"),
        column("Age"),
        column("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    cells: |object, now| {
        let node = Node::of(object);
        let (metadata, status) = (node.metadata(), node.status());
        let ready = if holds(status.conditions(), "Ready") { "Ready" } else { "NotReady" };
        let cordoned = node.spec().unschedulable();
        let ready = format!("{ready}{}", if cordoned { ",SchedulingDisabled" } else { "" });
        let address = |kind: &str| {
            let found = status.addresses().find(|address| address.of() == kind);
            or_none(found.map_or("", |address| address.address()))
        };
        let info = status.node_info();
        let known = |text: &str| if text.is_empty() { "<unknown>".into() } else { text.into() };
        let labels = metadata.labels().iter();
        let roles: Vec<&str> =
            labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
        vec![
            metadata.name().into(),
            ready.into(),
            or_none(&roles.join(",")),
            age(metadata, now),
            info.kubelet_version().into(),
            address("InternalIP"),
            address("ExternalIP"),
            known(info.os_image()),
            known(info.kernel_version()),
            known(info.container_runtime_version()),
        ]
    },
};

pub(crate) const SERVICE_ACCOUNT: Columns = Columns {
    all: &[column("Name"), column("Secrets"), column("Age")],
    cells: |object, now| {
        let account = ServiceAccount::of(object);
        let metadata = account.metadata();
        vec![metadata.name().into(), account.secrets().len().into(), age(metadata, now)]
    },
};

pub(crate) const SECRET: Columns = Columns {
    all: &[column("Name"), column("Type"), column("Data"), column("Age")],
    cells: |object, now| {
        let secret = Secret::of(object);
        let metadata = secret.metadata();
        vec![
            metadata.name().into(),
            secret.of().into(),
            secret.data().len().into(),
            age(metadata, now),
        ]
    },
};

pub(crate) const CLAIM: Columns = Columns {
    all: &[
        column("Name"),
        column("Status"),
        column("Volume"),
        column("Capacity"),
        column("Access Modes"),
        column("StorageClass"),
        column("VolumeAttributesClass"),
        column("Age"),
        wide("VolumeMode"),
    ],
    cells: |object, now| {
        let claim = PersistentVolumeClaim::of(object);
        let (metadata, spec, status) = (claim.metadata(), claim.spec(), claim.status());
        let phase = match metadata.deletion_timestamp() {
            Some(_) => "Terminating",
            None => status.phase(),
        };
        let is_bound = !spec.volume_name().is_empty();
        let capacity = status.capacity().get("storage").filter(|_| is_bound);
        let modes = status.access_modes().filter(|_| is_bound);
        let modes: Vec<_> = modes.map(|mode| abbreviated(mode.word())).collect();
        vec![
            metadata.name().into(),
            phase.into(),
            spec.volume_name().into(),
            capacity.map(|size| size.to_string()).unwrap_or_default().into(),
            modes.join(",").into(),
            spec.storage_class_name().unwrap_or_default().into(),
            "<unset>".into(),
            age(metadata, now),
            spec.volume_mode().word().into(),
        ]
    },
};

/// An access mode as tables show it.
pub(super) fn abbreviated(mode: &str) -> &str {
    match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    }
}

pub(crate) const CONFIG_MAP: Columns = Columns {
    all: &[column("Name"), column("Data"), column("Age")],
    cells: |object, now| {
        let map = ConfigMap::of(object);
        let (metadata, count) = (map.metadata(), map.data().len() + map.binary_data().len());
        vec![metadata.name().into(), count.into(), age(metadata, now)]
    },
};

pub(crate) const LEASE: Columns = Columns {
    all: &[column("Name"), column("Holder"), column("Age")],
    cells: |object, now| {
        let lease = Lease::of(object);
        let metadata = lease.metadata();
        let holder = lease.spec().holder_identity();
        vec![metadata.name().into(), holder.into(), age(metadata, now)]
    },
};

pub(crate) const EVENT: Columns = Columns {
    all: &[
        column("Last Seen"),
        column("Type"),
        column("Reason"),
        column("Object"),
        wide("Subobject"),
        wide("Source"),
        column("Message"),
        wide("First Seen"),
        wide("Count"),
        wide("Name"),
    ],
    cells: |object, now| {
        let event = Event::of(object);
        let (metadata, about, source) = (event.metadata(), event.involved_object(), event.source());
        let seen = |time| {
            let times = [time, event.event_time(), metadata.creation_timestamp()];
            since(times.into_iter().find(|time| !time.is_empty()).unwrap_or_default(), now)
        };
        let sources = [source.component(), source.host()];
        let sources: Vec<&str> = sources.into_iter().filter(|part| !part.is_empty()).collect();
        vec![
            seen(event.last_timestamp()).into(),
            event.of().into(),
            event.reason().into(),
            format!("{}/{}", about.kind().to_ascii_lowercase(), about.name()).into(),
            about.field_path().into(),
            sources.join(", ").into(),
            event.message().trim().into(),
            seen(event.first_timestamp()).into(),
            event.count().max(1).into(),
            metadata.name().into(),
        ]
    },
};

pub(crate) const ENDPOINTS: Columns = Columns {
    all: &[column("Name"), column("Endpoints"), column("Age")],
    cells: |object, now| {
        let endpoints = Endpoints::of(object);
        let mut all = Vec::new();
        for subset in endpoints.subsets() {
            for address in subset.addresses() {
                all.extend(subset.ports().map(|port| format!("{}:{}", address.ip(), port.port())));
            }
        }
        let shown = all.iter().take(ENDPOINTS_SHOWN).cloned().collect::<Vec<_>>().join(",");
        let text = match all.len().saturating_sub(ENDPOINTS_SHOWN) {
            0 => shown,
            more => format!("{shown} + {more} more..."),
        };
        let metadata = endpoints.metadata();
        vec![metadata.name().into(), or_none(&text), age(metadata, now)]
    },
};

const ENDPOINTS_SHOWN: usize = 3;
