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
const CERTIFICATES: Meaning =
    Unneeded("certificates come over the proxy's own connection; see certificateTtl");

const KNOWN: &[(&str, Meaning)] = &[
    ("outboundTrafficPolicy", Holds),
    ("outboundTrafficPolicy.mode", Setting("outboundTrafficPolicy.mode")),
    ("accessLogFile", Setting("accessLogFile")),
    ("accessLogEncoding", Setting("accessLogEncoding")),
    ("accessLogFormat", Later),
    ("connectTimeout", Setting("connectTimeout")),
    ("protocolDetectionTimeout", Setting("protocolDetectionTimeout")),
    ("mtlsMode", Setting("mtlsMode")),
    ("gatewayTopology.proxyProtocol", Setting("gatewayTopology.proxyProtocol")),
    ("certificateTtl", Setting("certificateTtl")),
    ("terminationDrainDuration", Setting("terminationDrainDuration")),
    ("trustDomain", Setting("trustDomain")),
    ("rootNamespace", Setting("rootNamespace")),
    ("limits", Setting("limits")),
    ("enableAutoMtls", NoEffect("between members mutual TLS is always spoken where it is taken")),
    ("enableTracing", Later),
    ("enablePrometheusMerge", Later),
    ("enableEnvoyAccessLogService", Later),
    ("disableEnvoyListenerLog", Later),
    ("extensionProviders", Later),
    ("defaultProviders", Later),
    ("localityLbSetting", Locality),
    ("localityLbSetting.enabled", Setting("localityLbSetting.enabled")),
    ("zoneAwareLbSetting", Locality),
    ("defaultServiceExportTo", Later),
    ("defaultVirtualServiceExportTo", Later),
    ("defaultDestinationRuleExportTo", Later),
    ("defaultHttpRetryPolicy", Later),
    ("h2UpgradePolicy", Later),
    ("tcpKeepalive", Later),
    ("serviceSettings", Later),
    ("discoverySelectors", Later),
    ("trustDomainAliases", Later),
    ("caCertificates", Later),
    ("certificates", Later),
    ("configSources", NoEffect("objects come from the API of the mesh")),
    ("meshMTLS", Later),
    ("tlsDefaults", Later),
    ("verifyCertificateAtClient", Later),
    ("ingressService", Unneeded("the gateways of the mesh write their address into each Ingress")),
    ("ingressSelector", Later),
    ("ingressClass", Later),
    ("ingressControllerMode", Later),
    ("pathNormalization", Holds),
    ("pathNormalization.normalization", Later),
    ("hboneIdleTimeout", Later),
    ("inboundClusterStatName", Later),
    ("outboundClusterStatName", Later),
    ("inboundTrafficPolicy", Later),
    ("dnsRefreshRate", Later),
    ("proxyListenPort", PORTS),
    ("proxyInboundListenPort", PORTS),
    ("proxyHttpPort", Later),
    ("thriftConfig", NoEffect("Thrift is carried as TCP")),
    ("networks", Later),
    ("enableProxyProtocol", Later),
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
    ("defaultConfig.proxyMetadata", Later),
    ("defaultConfig.runtimeValues", ENVOY),
    ("defaultConfig.statNameLength", ENVOY),
    ("defaultConfig.extraStatTags", Later),
    ("defaultConfig.proxyStatsMatcher", ENVOY),
    ("defaultConfig.readinessProbe", Later),
    ("defaultConfig.gatewayTopology", Holds),
    ("defaultConfig.gatewayTopology.proxyProtocol", Switch("gatewayTopology.proxyProtocol")),
    ("defaultConfig.gatewayTopology.numTrustedProxies", Later),
    ("defaultConfig.gatewayTopology.forwardClientCertDetails", Later),
    ("defaultConfig.proxyHeaders", Later),
    ("defaultConfig.caCertificatesPem", Later),
    ("defaultConfig.image", ENVOY),
    ("defaultConfig.privateKeyProvider", CERTIFICATES),
    ("defaultConfig.meshId", Later),
    ("defaultConfig.fileFlushInterval", ENVOY),
    ("defaultConfig.fileFlushMinSizeKb", ENVOY),
    ("defaultConfig.holdApplicationUntilProxyStarts", Unneeded("the sidecar always starts first")),
];
