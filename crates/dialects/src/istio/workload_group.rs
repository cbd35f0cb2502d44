//! `WorkloadGroup` and `ProxyConfig`: checked as Istio checks them, with what stands in for them here.

use std::collections::BTreeMap;

use ironmesh_model::{Finding, FindingCode};

use super::{WorkloadSelector, service_entry};
use crate::Object;
use crate::schema::{Bounded, fields, kind, read};

pub(crate) mod health;

pub use health::{HealthCheck, HealthChecks, is_known, with_condition};

/// Checks a WorkloadGroup: workloads that register themselves, which nothing here does. Its probe is for
/// the WorkloadEntries that it has (see [`HealthChecks`]).
pub(crate) fn workload_group(object: &Object, findings: &mut Vec<Finding>) {
    let Some(WorkloadGroup { spec, .. }) = read(object, findings) else { return };
    let mut find = |path: &str, message: &str| {
        findings.push(Finding::new(object.id(), path, FindingCode::NoEffect, message));
    };
    find(
        "spec.template",
        "no workload registers itself in this mesh; write a WorkloadEntry for each, with the labels of \
         spec.metadata",
    );
    let Some(probe) = spec.probe else { return };
    if probe.exec.is_some() {
        find(
            "spec.probe.exec",
            "no command can be run where the workload is; take httpGet or tcpSocket",
        );
    }
    let hosts = [
        ("spec.probe.httpGet.host", probe.http_get.map(|get| get.host)),
        ("spec.probe.tcpSocket.host", probe.tcp_socket.map(|tcp| tcp.host)),
    ];
    for (path, host) in hosts {
        if !matches!(host.as_deref(), None | Some("" | "localhost" | "127.0.0.1")) {
            find(
                path,
                "the workload is asked at its own address; a header Host says by which name",
            );
        }
    }
}

/// Checks a ProxyConfig.
pub(crate) fn proxy_config(object: &Object, findings: &mut Vec<Finding>) {
    read::<ProxyConfig>(object, findings);
}

kind! {
    istio;
    /// Workloads that are none of the platform's and register themselves.
    pub struct WorkloadGroup "WorkloadGroup" {
        /// What they are.
        required spec: GroupSpec,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

kind! {
    istio;
    /// How the proxies of some workloads are run.
    pub struct ProxyConfig "ProxyConfig" {
        /// Which proxies, and how.
        honoured spec: ProxySpec,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

fields! {
    istio;
    /// What a `WorkloadGroup` says.
    pub struct GroupSpec "WorkloadGroup.spec" {
        /// Labels and annotations of the entries.
        honoured metadata: GroupMetadata,
        /// What the entries say.
        honoured template: Option<service_entry::WorkloadEntry>,
        /// How it is known that a workload is healthy.
        honoured probe: Option<Probe>,
    }

    /// Labels and annotations of entries.
    pub struct GroupMetadata "metadata" {
        /// Labels.
        honoured labels: BTreeMap<String, String>,
        /// Annotations.
        honoured annotations: BTreeMap<String, String>,
    }

    /// How it is known that a workload is healthy.
    pub struct Probe "probe" {
        /// Seconds before the first look.
        honoured initial_delay_seconds "initialDelaySeconds": i32,
        /// Seconds that a look may take; 1 if left out.
        honoured timeout_seconds "timeoutSeconds": i32,
        /// Seconds between looks; 10 if left out.
        honoured period_seconds "periodSeconds": i32,
        /// Successes in a row after which it is healthy.
        honoured success_threshold "successThreshold": i32,
        /// Failures in a row after which it is not.
        honoured failure_threshold "failureThreshold": i32,
        /// A request that is answered.
        honoured http_get "httpGet": Option<HttpGet>,
        /// A connection that is taken.
        honoured tcp_socket "tcpSocket": Option<TcpSocket>,
        /// A command that ends with 0.
        honoured exec: Option<Exec>,
        /// A check by gRPC's health service.
        honoured grpc: Option<Grpc>,
    }

    /// A request that is answered.
    pub struct HttpGet "httpGet" {
        /// Its path.
        honoured path: String,
        /// Its port.
        honoured port: Option<Bounded<0, 65_535>>,
        /// Its host; the workload is asked at its own address.
        honoured host: String,
        /// `HTTP` or `HTTPS`.
        honoured scheme: String,
        /// Its headers.
        honoured http_headers "httpHeaders": Vec<HttpHeader>,
    }

    /// A header of a probe.
    pub struct HttpHeader "a header" {
        /// Its name.
        honoured name: String,
        /// Its value.
        honoured value: String,
    }

    /// A connection that is taken.
    pub struct TcpSocket "tcpSocket" {
        /// Its host; the workload is asked at its own address.
        honoured host: String,
        /// Its port.
        honoured port: Option<Bounded<0, 65_535>>,
    }

    /// A command.
    pub struct Exec "exec" {
        /// The program and its arguments.
        honoured command: Vec<String>,
    }

    /// A check by gRPC's health service.
    pub struct Grpc "grpc" {
        /// Its port.
        honoured port: Option<Bounded<0, 65_535>>,
        /// The service that is asked for.
        honoured service: String,
    }

    /// What a `ProxyConfig` says.
    pub struct ProxySpec "ProxyConfig.spec" {
        /// The workloads; none: all of the namespace, or of the mesh if that is the root namespace.
        honoured selector: WorkloadSelector,
        /// Workers of the proxy.
        no_effect("workers follow the cores; `up --set limits.proxy.workers=N` is for all proxies")
            concurrency: Option<i32>,
        /// Variables of its environment.
        no_effect("the proxy reads no variables; its settings are those of `ironmesh settings`")
            environment_variables "environmentVariables": BTreeMap<String, String>,
        /// Its image.
        no_effect("the proxy is ironmesh itself, of the version that runs the mesh")
            image: Option<ProxyImage>,
    }

    /// An image of the proxy.
    pub struct ProxyImage "image" {
        /// Which of Istio's images.
        honoured image_type "imageType": String,
    }
}
