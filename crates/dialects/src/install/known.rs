//! The fields that Istio's installation knows, whatever ironmesh makes of them: IstioOperatorSpec,
//! MeshConfig and ProxyConfig, and the values of its charts down to those of `global` (Istio 0.8 to
//! 1.26). What stands nowhere here is a mistake.

use ironmesh_model::settings::Settings;
use serde_json::Value;

use super::{BadInstallation, fields};
use crate::schema::nearest;

/// Checks the names in the `spec` of an IstioOperator.
pub(super) fn check(spec: &Value) -> Result<(), BadInstallation> {
    names("", spec, SPEC)?;
    names("components.", &spec["components"], COMPONENTS)?;
    names("addonComponents.", &spec["addonComponents"], ADDONS)?;
    for list in ["components", "addonComponents"] {
        for (name, component) in fields(&spec[list]) {
            let path = format!("{list}.{name}");
            for (at, one) in component.as_array().into_iter().flatten().enumerate() {
                names(&format!("{path}[{at}]."), one, COMPONENT)?;
            }
            names(&format!("{path}."), component, COMPONENT)?;
        }
    }
    mesh_config("meshConfig", &spec["meshConfig"])?;
    let values = &spec["values"];
    names("values.", values, VALUES)?;
    names("values.global.", &values["global"], GLOBAL)?;
    mesh_config("values.meshConfig", &values["meshConfig"])
}

fn mesh_config(path: &str, config: &Value) -> Result<(), BadInstallation> {
    let settings = Settings::names().filter_map(|name| name.split('.').next());
    let known: Vec<&str> = MESH_CONFIG.iter().copied().chain(settings).collect();
    names(&format!("{path}."), config, &known)?;
    let traffic = &["mode", "egressProxy"];
    names(&format!("{path}.outboundTrafficPolicy."), &config["outboundTrafficPolicy"], traffic)?;
    let proxy = &config["defaultConfig"];
    names(&format!("{path}.defaultConfig."), proxy, PROXY_CONFIG)
}

fn names(prefix: &str, value: &Value, known: &[&str]) -> Result<(), BadInstallation> {
    let unknown = fields(value).find(|(name, _)| !known.contains(name));
    let Some((name, _)) = unknown else { return Ok(()) };
    let near = nearest(name, known.iter().copied());
    let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    let message = format!("there is no such field{hint}");
    Err(BadInstallation::Value { path: format!("{prefix}{name}"), message })
}

#[rustfmt::skip]
const SPEC: &[&str] = &[
    "profile", "installPackagePath", "hub", "tag", "resourceSuffix", "namespace", "revision",
    "defaultRevision", "compatibilityVersion", "meshConfig", "components", "addonComponents", "values",
    "unvalidatedValues", "tagPrefix",
];
#[rustfmt::skip]
const COMPONENTS: &[&str] = &[
    "base", "pilot", "policy", "telemetry", "sidecarInjector", "galley", "citadel", "nodeAgent",
    "certManager", "proxy", "ingressGateways", "egressGateways", "istiodRemote", "cni", "ztunnel",
];
const ADDONS: &[&str] = &["prometheus", "kiali", "grafana", "tracing", "coreDNS", "istiocoredns"];
#[rustfmt::skip]
const COMPONENT: &[&str] =
    &["enabled", "namespace", "hub", "tag", "spec", "k8s", "name", "label", "kubernetes"];
#[rustfmt::skip]
const MESH_CONFIG: &[&str] = &[
    "proxyListenPort", "proxyInboundListenPort", "proxyHttpPort", "connectTimeout",
    "protocolDetectionTimeout", "tcpKeepalive", "ingressClass", "ingressService", "ingressControllerMode",
    "ingressSelector", "enableTracing", "accessLogFile", "accessLogFormat", "accessLogEncoding",
    "enableEnvoyAccessLogService", "disableEnvoyListenerLog", "defaultConfig", "outboundTrafficPolicy",
    "inboundTrafficPolicy", "configSources", "enableAutoMtls", "trustDomain", "trustDomainAliases",
    "caCertificates", "defaultServiceExportTo", "defaultVirtualServiceExportTo",
    "defaultDestinationRuleExportTo", "rootNamespace", "localityLbSetting", "dnsRefreshRate",
    "h2UpgradePolicy", "inboundClusterStatName", "outboundClusterStatName", "certificates", "thriftConfig",
    "enablePrometheusMerge", "verifyCertificateAtClient", "ca", "extensionProviders", "defaultProviders",
    "discoverySelectors", "pathNormalization", "defaultHttpRetryPolicy", "meshMTLS", "tlsDefaults",
    "serviceSettings", "serviceScopeConfigs", "enableClientSidePolicyCheck", "disablePolicyChecks",
    "policyCheckFailOpen", "sidecarToTelemetrySessionAffinity", "mixerCheckServer", "mixerReportServer",
    "mixerAddress", "disableMixerHttpReports", "disableReportCalls", "reportBatchMaxEntries",
    "reportBatchMaxTime", "authPolicy", "rdsRefreshDelay", "sdsUdsPath", "sdsRefreshDelay",
    "sdsUseK8sSaJwt", "enableSdsTokenMount", "defaultTrafficPolicy", "serviceEntryVisibility",
];
#[rustfmt::skip]
const PROXY_CONFIG: &[&str] = &[
    "configPath", "binaryPath", "serviceCluster", "drainDuration", "parentShutdownDuration",
    "discoveryAddress", "discoveryRefreshDelay", "zipkinAddress", "statsdUdpAddress",
    "envoyMetricsServiceAddress", "proxyAdminPort", "availabilityZone", "controlPlaneAuthPolicy",
    "customConfigFile", "statNameLength", "concurrency", "proxyBootstrapTemplatePath", "interceptionMode",
    "tracing", "sds", "envoyAccessLogService", "envoyMetricsService", "proxyMetadata", "runtimeValues",
    "statusPort", "extraStatTags", "gatewayTopology", "terminationDrainDuration", "meshId",
    "readinessProbe", "proxyStatsMatcher", "holdApplicationUntilProxyStarts", "caCertificatesPem", "image",
    "privateKeyProvider", "proxyHeaders", "fileFlushInterval", "fileFlushMinSizeKb", "statsCompression",
    "connectTimeout", "connectionSettings",
];
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "global", "meshConfig", "base", "pilot", "gateways", "cni", "istio_cni", "ztunnel", "istiodRemote",
    "sidecarInjectorWebhook", "telemetry", "mixer", "galley", "security", "citadel", "nodeagent",
    "nodeAgent", "certmanager", "grafana", "kiali", "prometheus", "prometheusOperator", "tracing",
    "servicegraph", "istiocoredns", "ingress", "revision", "revisionTags", "defaultRevision", "ownerName",
    "experimental", "profile", "platform", "compatibilityVersion", "clusterResources", "version",
    "oneNamespace", "rbac",
];
#[rustfmt::skip]
const GLOBAL: &[&str] = &[
    "agentSDSUDSPath", "arch", "autoscalingv2API", "caAddress", "caName", "certSigners", "certificates",
    "configCluster", "configNamespace", "configRootNamespace", "configValidation",
    "controlPlaneSecurityEnabled", "createRemoteSvcEndpoints", "crds", "defaultConfigVisibilitySettings",
    "defaultNodeSelector", "defaultPodDisruptionBudget", "defaultResources", "defaultTolerations",
    "disablePolicyChecks", "enableHelmTest", "enableTracing", "enabled", "externalIstiod", "hub",
    "imagePullPolicy", "imagePullSecrets", "ipFamilies", "ipFamilyPolicy", "istioNamespace",
    "istioRemote", "istiod", "jwtPolicy", "k8sIngress", "k8sIngressHttps", "k8sIngressSelector",
    "localityLbSetting", "logAsJson", "logging", "meshExpansion", "meshExpansionILB", "meshID",
    "meshNetworks", "monitoringPort", "mountMtlsCerts", "mtls", "multiCluster", "namespace", "network",
    "networkPolicy", "nativeNftables", "omitSidecarInjectorConfigMap", "oneNamespace",
    "operatorManageWebhooks", "outboundTrafficPolicy", "pilotCertProvider", "platform",
    "podDNSSearchNamespaces", "policyCheckFailOpen", "policyNamespace", "priorityClassName",
    "prometheusNamespace", "proxy", "proxy_init", "refreshInterval", "remotePilotAddress",
    "remotePilotCreateSvcEndpoint", "remotePolicyAddress", "remoteTelemetryAddress",
    "remoteZipkinAddress", "resourceScope", "sds", "securityNamespace", "sts", "tag", "telemetryNamespace",
    "tracer", "trustBundleName", "trustDomain", "trustDomainAliases", "useMCP", "variant", "version",
    "waypoint",
];
