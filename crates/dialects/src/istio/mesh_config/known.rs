//! The fields of MeshConfig, those of Istio 0.2 to today, and what becomes of each here.

use Meaning::{Holds, Later, Locality, NoEffect, Setting, Switch, Unneeded};

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is this setting of the mesh, which may change while it runs.
    Setting(&'static str),
    /// It turns this setting on, whatever it has.
    Switch(&'static str),
    /// It says which endpoints are preferred for being near.
    Locality,
    /// It holds fields with meanings of their own, of which only those of the table count.
    Holds,
    /// It has no effect, for this reason.
    NoEffect(&'static str),
    /// It is not honoured yet.
    Later,
    /// Nothing needs to be done, for this reason.
    Unneeded(&'static str),
}

/// The meaning of the field of this path, `defaultConfig.concurrency`; `None` if there is no such field.
pub(super) fn meaning(path: &str) -> Option<Meaning> {
    let of = |found: &&(&str, Meaning)| found.0 == path;
    KNOWN.iter().find(of).map(|(_, meaning)| *meaning)
}

/// All paths, for those who misspell one.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(path, _)| *path)
}

const MIXER: Meaning = Unneeded("there is no Mixer: sidecars report by themselves");
const ADDONS: Meaning = Unneeded("the mesh collects telemetry itself; nothing is sent elsewhere");
const ONE_PROCESS: Meaning = Unneeded("proxies find the control plane of their mesh by themselves");
const PORTS: Meaning = NoEffect("the ports of a sidecar are fixed: 15001, 15006, 15000");
const ENVOY: Meaning = Unneeded("the proxy is ironmesh itself, not Envoy");
const EXPORT_TO: Meaning =
    NoEffect("each object says it by exportTo; without it all namespaces see it");
const STATISTICS: Meaning = NoEffect("statistics have the names that Istio gives them by default");
const CERTIFICATES: Meaning =
    Unneeded("certificates come over the proxy's own connection; see certificateTtl");

const KNOWN: &[(&str, Meaning)] = &[
    ("outboundTrafficPolicy", Holds),
    ("outboundTrafficPolicy.mode", Setting("outboundTrafficPolicy.mode")),
    ("accessLogFile", Setting("accessLogFile")),
    ("accessLogEncoding", Setting("accessLogEncoding")),
    ("accessLogFormat", Setting("accessLogFormat")),
    ("connectTimeout", Setting("connectTimeout")),
    ("protocolDetectionTimeout", Setting("protocolDetectionTimeout")),
    ("mtlsMode", Setting("mtlsMode")),
    ("gatewayTopology.proxyProtocol", Setting("gatewayTopology.proxyProtocol")),
    ("gatewayTopology.numTrustedProxies", Setting("gatewayTopology.numTrustedProxies")),
    (
        "gatewayTopology.forwardClientCertDetails",
        Setting("gatewayTopology.forwardClientCertDetails"),
    ),
    ("certificateTtl", Setting("certificateTtl")),
    ("terminationDrainDuration", Setting("terminationDrainDuration")),
    ("trustDomain", Setting("trustDomain")),
    ("rootNamespace", Setting("rootNamespace")),
    ("limits", Setting("limits")),
    ("enableAutoMtls", NoEffect("between members mutual TLS is always spoken where it is taken")),
    (
        "enableTracing",
        NoEffect(
            "no spans are collected; requests carry x-request-id and the headers of a trace in any case, \
             so look for a request by its x-request-id in the access logs",
        ),
    ),
    ("enablePrometheusMerge", Later),
    ("enableEnvoyAccessLogService", Later),
    ("disableEnvoyListenerLog", Later),
    ("extensionProviders", Later),
    ("defaultProviders", Later),
    ("localityLbSetting", Locality),
    ("localityLbSetting.enabled", Setting("localityLbSetting.enabled")),
    ("zoneAwareLbSetting", Locality),
    ("defaultServiceExportTo", EXPORT_TO),
    ("defaultVirtualServiceExportTo", EXPORT_TO),
    ("defaultDestinationRuleExportTo", EXPORT_TO),
    (
        "defaultHttpRetryPolicy",
        NoEffect(
            "each VirtualService says it by retries; without it retries are as Istio has them",
        ),
    ),
    (
        "h2UpgradePolicy",
        NoEffect("each DestinationRule says it by connectionPool.http.h2UpgradePolicy"),
    ),
    ("tcpKeepalive", NoEffect("each DestinationRule says it by connectionPool.tcp.tcpKeepalive")),
    ("serviceSettings", Unneeded("there is one cluster, so every service is of it alone")),
    (
        "discoverySelectors",
        NoEffect("the mesh looks at all namespaces; a Sidecar says what workloads see"),
    ),
    ("trustDomainAliases", Later),
    ("caCertificates", Later),
    ("certificates", Later),
    ("configSources", NoEffect("objects come from the API of the mesh")),
    (
        "meshMTLS",
        NoEffect("members of the mesh speak TLS 1.3 with each other, with its own suites"),
    ),
    ("tlsDefaults", NoEffect("each server of a Gateway says its versions and suites")),
    (
        "verifyCertificateAtClient",
        Unneeded("servers are always verified; insecureSkipVerify turns it off"),
    ),
    ("ingressService", Setting("ingressService")),
    ("ingressSelector", Setting("ingressSelector")),
    ("ingressClass", Setting("ingressClass")),
    ("ingressControllerMode", Setting("ingressControllerMode")),
    ("pathNormalization", Holds),
    (
        "pathNormalization.normalization",
        NoEffect("paths are normalised as BASE has it, the default"),
    ),
    ("hboneIdleTimeout", Unneeded("nothing speaks HBONE here")),
    ("ca", NoEffect("the mesh signs certificates itself")),
    (
        "defaultTrafficPolicy",
        NoEffect(
            "each DestinationRule says it by trafficPolicy; one for `*.svc.cluster.local` in the root \
             namespace is for all services that have none of their own",
        ),
    ),
    ("serviceEntryVisibility", EXPORT_TO),
    ("serviceScopeConfigs", Unneeded("there is one cluster, so every service is of it alone")),
    ("inboundClusterStatName", STATISTICS),
    ("outboundClusterStatName", STATISTICS),
    (
        "inboundTrafficPolicy",
        NoEffect(
            "connections reach a workload at the address that was called, as PASSTHROUGH has it; a \
             Sidecar leads them elsewhere by ingress.defaultEndpoint",
        ),
    ),
    (
        "dnsRefreshRate",
        NoEffect("names are asked for again when their answers have had their time"),
    ),
    ("proxyListenPort", PORTS),
    ("proxyInboundListenPort", PORTS),
    (
        "proxyHttpPort",
        NoEffect(
            "no proxy listens as an HTTP proxy for applications: what they send out is captured",
        ),
    ),
    ("thriftConfig", NoEffect("Thrift is carried as TCP")),
    ("networks", NoEffect("there is one network")),
    ("enableProxyProtocol", NoEffect("write defaultConfig.gatewayTopology.proxyProtocol")),
    ("rdsRefreshDelay", Unneeded("proxies are told of every change at once")),
    ("egressProxyAddress", NoEffect("traffic to the outside leaves from the sidecar itself")),
    ("disablePolicyChecks", MIXER),
    ("policyCheckFailOpen", MIXER),
    ("disableMixerHttpReports", MIXER),
    ("disableReportCalls", MIXER),
    ("reportBatchMaxEntries", MIXER),
    ("reportBatchMaxTime", MIXER),
    ("enableClientSidePolicyCheck", MIXER),
    ("sidecarToTelemetrySessionAffinity", MIXER),
    ("mixerAddress", MIXER),
    ("mixerCheckServer", MIXER),
    ("mixerReportServer", MIXER),
    ("sdsUdsPath", CERTIFICATES),
    ("sdsRefreshDelay", CERTIFICATES),
    ("sdsUseK8sSaJwt", CERTIFICATES),
    ("enableSdsTokenMount", CERTIFICATES),
    ("defaultConfig", Holds),
    ("defaultConfig.terminationDrainDuration", Setting("terminationDrainDuration")),
    ("defaultConfig.connectTimeout", Setting("connectTimeout")),
    (
        "defaultConfig.concurrency",
        NoEffect("workers follow the cores; `up --set limits.proxy.workers=N`"),
    ),
    ("defaultConfig.drainDuration", Unneeded("a change of configuration ends no connection")),
    ("defaultConfig.parentShutdownDuration", ENVOY),
    ("defaultConfig.discoveryRefreshDelay", Unneeded("proxies are told of every change at once")),
    ("defaultConfig.discoveryAddress", ONE_PROCESS),
    ("defaultConfig.configPath", ENVOY),
    ("defaultConfig.binaryPath", ENVOY),
    ("defaultConfig.serviceCluster", ENVOY),
    ("defaultConfig.customConfigFile", ENVOY),
    ("defaultConfig.proxyBootstrapTemplatePath", ENVOY),
    (
        "defaultConfig.availabilityZone",
        NoEffect("localities come from the labels of nodes and pods"),
    ),
    ("defaultConfig.proxyAdminPort", PORTS),
    ("defaultConfig.statusPort", PORTS),
    (
        "defaultConfig.interceptionMode",
        NoEffect("traffic is captured by nf_tables redirection only"),
    ),
    ("defaultConfig.controlPlaneAuthPolicy", Unneeded("the control plane speaks TLS always")),
    ("defaultConfig.zipkinAddress", ADDONS),
    ("defaultConfig.statsdUdpAddress", ADDONS),
    ("defaultConfig.envoyMetricsServiceAddress", ADDONS),
    ("defaultConfig.envoyMetricsService", ADDONS),
    ("defaultConfig.envoyAccessLogService", Later),
    ("defaultConfig.tracing", Later),
    ("defaultConfig.sds", CERTIFICATES),
    (
        "defaultConfig.proxyMetadata",
        NoEffect("the proxy reads no variables; its settings are those of `ironmesh settings`"),
    ),
    ("defaultConfig.runtimeValues", ENVOY),
    ("defaultConfig.statNameLength", ENVOY),
    ("defaultConfig.extraStatTags", Later),
    ("defaultConfig.proxyStatsMatcher", ENVOY),
    ("defaultConfig.statsCompression", ENVOY),
    (
        "defaultConfig.connectionSettings",
        NoEffect(
            "buffers, times and numbers of connections are limits: `up --set limits.proxy...`",
        ),
    ),
    ("defaultConfig.readinessProbe", NoEffect("workloads are probed as their pods say it")),
    ("defaultConfig.gatewayTopology", Holds),
    ("defaultConfig.gatewayTopology.proxyProtocol", Switch("gatewayTopology.proxyProtocol")),
    (
        "defaultConfig.gatewayTopology.numTrustedProxies",
        Setting("gatewayTopology.numTrustedProxies"),
    ),
    (
        "defaultConfig.gatewayTopology.forwardClientCertDetails",
        Setting("gatewayTopology.forwardClientCertDetails"),
    ),
    (
        "defaultConfig.proxyHeaders",
        NoEffect(
            "proxies write the headers that Istio's write without it; `headers` of a VirtualService \
             remove them",
        ),
    ),
    ("defaultConfig.caCertificatesPem", Later),
    ("defaultConfig.image", ENVOY),
    ("defaultConfig.privateKeyProvider", CERTIFICATES),
    ("defaultConfig.meshId", Later),
    ("defaultConfig.fileFlushInterval", ENVOY),
    ("defaultConfig.fileFlushMinSizeKb", ENVOY),
    ("defaultConfig.holdApplicationUntilProxyStarts", Unneeded("the sidecar always starts first")),
];
