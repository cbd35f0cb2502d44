//! Settings of the mesh, by the names of Istio's MeshConfig where it has one.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::log_format::{BadFormat, LogFormat};
use crate::name::Name;
use crate::policy::{LocalityBalance, MtlsMode};
use crate::topology::Topology;

/// Settings of the mesh, the same for every proxy. Set by `up --set NAME=VALUE` and MeshConfig.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `outboundTrafficPolicy.mode`; default `ALLOW_ANY`.
    pub outbound_policy: OutboundPolicy,
    /// `accessLogFile`: whether proxies write an access log to standard output; default yes
    /// (`/dev/stdout`), an empty value turns it off.
    pub access_log: bool,
    /// `accessLogEncoding`; default `TEXT`.
    pub access_log_encoding: AccessLogEncoding,
    /// `accessLogFormat`: what a line of it says; default: what Istio's say by default.
    #[serde(default)]
    pub access_log_format: LogFormat,
    /// `certificateTtl`: lifetime of workload certificates; default 24 h, at least 10 s.
    pub certificate_ttl: Duration,
    /// `trustDomain`; default `cluster.local`.
    pub trust_domain: Name,
    /// `rootNamespace`: where policies hold for the whole mesh; default `istio-system`.
    pub root_namespace: Name,
    /// `protocolDetectionTimeout`: how long an inbound listener waits for the first bytes of a
    /// caller of whom it does not know whether it is in the mesh, and an outbound one for those of a
    /// client whose destination may not be dialled; default 5 s.
    pub detect_timeout: Duration,
    /// `connectTimeout`: how long a connection attempt to an endpoint may take; default 10 s.
    pub connect_timeout: Duration,
    /// `terminationDrainDuration`: how long a proxy that is told to stop waits for open requests;
    /// default 5 s.
    pub drain_duration: Duration,
    /// `mtlsMode`: what workloads take unless a PeerAuthentication says otherwise; default
    /// `PERMISSIVE`.
    pub mtls_mode: MtlsMode,
    /// `gatewayTopology.proxyProtocol`: whether gateways are behind a load balancer that speaks the
    /// PROXY protocol to them; default no. Then connections without it are refused.
    pub gateway_proxy_protocol: bool,
    /// The rest of `gatewayTopology`: `numTrustedProxies`, default 0, and `forwardClientCertDetails`,
    /// default `SANITIZE_SET`.
    pub gateway_topology: Topology,
    /// `localityLbSetting`, or `zoneAwareLbSetting` in its place: which endpoints are preferred for
    /// being near, where neither a policy nor the service says so; default: the nearer ones. All but
    /// `localityLbSetting.enabled` comes from MeshConfig.
    pub locality: Arc<LocalityBalance>,
    /// Which Ingresses the mesh serves, and where. Proxies are not told of it.
    pub ingress: IngressControl,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outbound_policy: OutboundPolicy::AllowAny,
            access_log: true,
            access_log_encoding: AccessLogEncoding::Text,
            access_log_format: LogFormat::default(),
            certificate_ttl: Duration::from_secs(24 * 3600),
            trust_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            detect_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            drain_duration: Duration::from_secs(5),
            mtls_mode: MtlsMode::Permissive,
            gateway_proxy_protocol: false,
            gateway_topology: Topology::default(),
            locality: Arc::default(),
            ingress: IngressControl::default(),
        }
    }
}

/// Which Ingresses the mesh serves, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressControl {
    /// `ingressControllerMode`; default `STRICT`.
    pub mode: IngressMode,
    /// `ingressClass`: the class that the annotation of an Ingress names; default `istio`.
    pub class: Name,
    /// `ingressService`: the Service in the root namespace whose address Ingresses show; default
    /// `istio-ingressgateway`.
    pub service: Name,
    /// `ingressSelector`: the label `istio` of the gateways that serve Ingresses; empty: as
    /// `ingressService` says.
    pub selector: Name,
}

impl Default for IngressControl {
    fn default() -> Self {
        Self {
            mode: IngressMode::Strict,
            class: "istio".into(),
            service: INGRESS_SERVICE.into(),
            selector: Name::default(),
        }
    }
}

impl IngressControl {
    /// The label `istio` of the gateways that serve Ingresses.
    pub fn gateway_label(&self) -> &Name {
        static OF_THE_MESH: LazyLock<Name> = LazyLock::new(|| "ingressgateway".into());
        match (&*self.selector, self.shown_service()) {
            ("", "" | INGRESS_SERVICE) => &OF_THE_MESH,
            ("", _) => &self.service,
            _ => &self.selector,
        }
    }

    /// The Service whose address Ingresses show. For the one of Istio up to 0.8 the mesh's own stands in,
    /// as for all of that control plane.
    pub fn shown_service(&self) -> &str {
        match &*self.service {
            OLD_INGRESS_SERVICE if self.selector.is_empty() => INGRESS_SERVICE,
            service => service,
        }
    }
}

/// Of which class an Ingress is that the mesh serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum IngressMode {
    /// None is served.
    Off,
    /// Of the mesh's class, or without one.
    Default,
    /// Of the mesh's class.
    Strict,
}

/// The Service of the gateway that every mesh has.
const INGRESS_SERVICE: &str = "istio-ingressgateway";
/// The one of Istio up to 0.8, whose manifests name it.
const OLD_INGRESS_SERVICE: &str = "istio-ingress";

/// What happens to traffic for destinations that the mesh does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OutboundPolicy {
    /// It goes where it was going.
    #[default]
    #[serde(rename = "ALLOW_ANY")]
    AllowAny,
    /// It is refused.
    #[serde(rename = "REGISTRY_ONLY")]
    RegistryOnly,
}

/// How an access log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessLogEncoding {
    /// Istio's default text format.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// One thing that can be set, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Name, as `--set` takes it.
    pub name: String,
    /// What it is now.
    pub value: String,
    /// What it is if nobody sets it.
    pub default: String,
    /// What it does.
    pub about: String,
}

/// A setting that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// No setting has this name.
    #[error("no setting is called {name:?}; there are: {}", Settings::names().collect::<Vec<_>>().join(", "))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// No limit has this name.
    #[error("no limit is called {name:?}; `ironmesh settings` lists them")]
    UnknownLimit {
        /// What was given.
        name: String,
    },
    /// The value does not fit.
    #[error("setting {name}: {value:?} is not {expected}")]
    Value {
        /// The setting.
        name: String,
        /// What was given.
        value: String,
        /// What it would take.
        expected: &'static str,
    },
    /// The format of the access log is none, or not in its encoding.
    #[error("setting {LOG_FORMAT}: {0}")]
    Format(BadFormat),
}

/// The name of a setting that another one has a say in.
const LOG_FORMAT: &str = "accessLogFormat";

impl Settings {
    /// Names that [`Settings::set`] takes, and what they do.
    const TABLE: [(&'static str, &'static str); 19] = [
        (
            "outboundTrafficPolicy.mode",
            "What happens to traffic for destinations that the mesh does not know: ALLOW_ANY lets \
             it pass, REGISTRY_ONLY refuses it.",
        ),
        ("accessLogFile", "/dev/stdout, or empty for no access log."),
        ("accessLogEncoding", "How access log lines are written: TEXT (Istio's format) or JSON."),
        (
            LOG_FORMAT,
            "What access log lines say, with Envoy's command operators: a text such as \
             \"%START_TIME% %REQ(:METHOD)% %RESPONSE_CODE%\", or with JSON an object of such texts; \
             empty for Istio's default.",
        ),
        ("certificateTtl", "Lifetime of workload certificates, at least 10s."),
        ("trustDomain", "Trust domain of all identities; fixed while the mesh runs."),
        (
            "rootNamespace",
            "Namespace whose policies hold for the whole mesh; fixed while the mesh runs.",
        ),
        (
            "protocolDetectionTimeout",
            "How long an inbound listener waits for the first bytes of a caller of whom it does \
             not know whether it is in the mesh.",
        ),
        ("connectTimeout", "How long a connection attempt to an endpoint may take."),
        (
            "terminationDrainDuration",
            "How long a proxy that is told to stop waits for open requests.",
        ),
        (
            "mtlsMode",
            "What workloads take unless a PeerAuthentication says otherwise: PERMISSIVE, STRICT or \
             DISABLE.",
        ),
        (
            "gatewayTopology.proxyProtocol",
            "Whether a load balancer in front of the gateways speaks the PROXY protocol to them: true \
             or false. Connections without it are refused then.",
        ),
        (
            "gatewayTopology.numTrustedProxies",
            "How many trusted proxies are in front of the gateways: the client is the one that the \
             outermost of them names in x-forwarded-for.",
        ),
        (
            "gatewayTopology.forwardClientCertDetails",
            "What becomes of x-forwarded-client-cert at gateways: SANITIZE, FORWARD_ONLY, \
             APPEND_FORWARD, SANITIZE_SET or ALWAYS_FORWARD_ONLY.",
        ),
        (
            "localityLbSetting.enabled",
            "Whether endpoints that are near are preferred where outlier detection tells which \
             do badly: true or false.",
        ),
        (
            "ingressControllerMode",
            "Which Ingresses are served: STRICT: those of the mesh's class, DEFAULT: those without \
             a class, too, OFF: none.",
        ),
        ("ingressClass", "The class of Ingresses that the mesh serves."),
        (
            "ingressService",
            "The Service in the root namespace whose address Ingresses show; the gateways that serve \
             them have its name for their label istio, where ingressSelector says no other.",
        ),
        ("ingressSelector", "The label istio of the gateways that serve Ingresses."),
    ];

    /// Names that [`Settings::set`] takes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::TABLE.into_iter().map(|(name, _)| name)
    }

    /// Whether a setting cannot change while the mesh runs: it is part of every identity, or says
    /// where the others are found.
    pub fn is_fixed(name: &str) -> bool {
        matches!(name, "trustDomain" | "rootNamespace")
    }

    /// Every setting.
    pub fn rows(&self) -> Vec<Setting> {
        let default = Self::default();
        let row = |(name, about): (&str, &str)| Setting {
            name: name.to_owned(),
            value: self.value(name),
            default: default.value(name),
            about: about.to_owned(),
        };
        Self::TABLE.into_iter().map(row).collect()
    }

    /// The value of a setting, as [`Settings::set`] takes it; empty for a name that is none.
    pub fn value(&self, name: &str) -> String {
        match name {
            "outboundTrafficPolicy.mode" => match self.outbound_policy {
                OutboundPolicy::AllowAny => "ALLOW_ANY".to_owned(),
                OutboundPolicy::RegistryOnly => "REGISTRY_ONLY".to_owned(),
            },
            "accessLogFile" if self.access_log => "/dev/stdout".to_owned(),
            "accessLogEncoding" => match self.access_log_encoding {
                AccessLogEncoding::Text => "TEXT".to_owned(),
                AccessLogEncoding::Json => "JSON".to_owned(),
            },
            LOG_FORMAT => self.access_log_format.source().to_owned(),
            "certificateTtl" => show_duration(self.certificate_ttl),
            "trustDomain" => self.trust_domain.to_string(),
            "rootNamespace" => self.root_namespace.to_string(),
            "protocolDetectionTimeout" => show_duration(self.detect_timeout),
            "connectTimeout" => show_duration(self.connect_timeout),
            "terminationDrainDuration" => show_duration(self.drain_duration),
            "mtlsMode" => self.mtls_mode.word().to_owned(),
            "gatewayTopology.proxyProtocol" => self.gateway_proxy_protocol.to_string(),
            "gatewayTopology.numTrustedProxies" => {
                self.gateway_topology.trusted_proxies.to_string()
            }
            "gatewayTopology.forwardClientCertDetails" => {
                self.gateway_topology.client_cert.to_string()
            }
            "localityLbSetting.enabled" => self.locality.enabled.to_string(),
            "ingressControllerMode" => match self.ingress.mode {
                IngressMode::Off => "OFF".to_owned(),
                IngressMode::Default => "DEFAULT".to_owned(),
                IngressMode::Strict => "STRICT".to_owned(),
            },
            "ingressClass" => self.ingress.class.to_string(),
            "ingressService" => self.ingress.service.to_string(),
            "ingressSelector" => self.ingress.selector.to_string(),
            _ => String::new(),
        }
    }

    /// Sets one setting by its name. A leading `meshConfig.` is taken, too, as Istio's `--set` has
    /// it.
    ///
    /// # Errors
    ///
    /// If no setting has this name, or the value does not fit it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadSetting> {
        let name = name.strip_prefix("meshConfig.").unwrap_or(name);
        let Some(name) = Self::names().find(|known| *known == name) else {
            return Err(BadSetting::Unknown { name: name.to_owned() });
        };
        let bad = |expected| BadSetting::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected,
        };
        let duration = || parse_duration(value).ok_or(bad("a duration such as 30s or 1m30s"));
        match name {
            "outboundTrafficPolicy.mode" => {
                self.outbound_policy = outbound(value).ok_or(bad("ALLOW_ANY or REGISTRY_ONLY"))?;
            }
            "accessLogFile" => {
                self.access_log = match value {
                    "" => false,
                    "/dev/stdout" => true,
                    _ => return Err(bad("/dev/stdout, or empty for no log")),
                }
            }
            "accessLogEncoding" => {
                self.access_log_encoding = match value {
                    "TEXT" => AccessLogEncoding::Text,
                    "JSON" => AccessLogEncoding::Json,
                    _ => return Err(bad("TEXT or JSON")),
                }
            }
            LOG_FORMAT => {
                self.access_log_format = LogFormat::parse(value).map_err(BadSetting::Format)?;
            }
            "certificateTtl" => {
                self.certificate_ttl = duration()?;
                if self.certificate_ttl < Duration::from_secs(10) {
                    return Err(bad("a duration of 10s or more"));
                }
            }
            "trustDomain" => self.trust_domain = value.into(),
            "rootNamespace" => self.root_namespace = value.into(),
            "protocolDetectionTimeout" => self.detect_timeout = duration()?,
            "connectTimeout" => self.connect_timeout = duration()?,
            "terminationDrainDuration" => self.drain_duration = duration()?,
            "gatewayTopology.proxyProtocol" => {
                self.gateway_proxy_protocol = value.parse().map_err(|_| bad("true or false"))?;
            }
            "gatewayTopology.numTrustedProxies" => {
                let proxies = value.parse().map_err(|_| bad("a whole number"))?;
                self.gateway_topology.trusted_proxies = proxies;
            }
            "gatewayTopology.forwardClientCertDetails" => {
                let words = "SANITIZE, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET or \
                             ALWAYS_FORWARD_ONLY";
                self.gateway_topology.client_cert = value.parse().map_err(|_| bad(words))?;
            }
            "localityLbSetting.enabled" => {
                let enabled = value.parse().map_err(|_| bad("true or false"))?;
                Arc::make_mut(&mut self.locality).enabled = enabled;
            }
            "ingressControllerMode" => {
                self.ingress.mode = ingress_mode(value).ok_or(bad("STRICT, DEFAULT or OFF"))?;
            }
            "ingressClass" => self.ingress.class = value.into(),
            "ingressService" => self.ingress.service = value.into(),
            "ingressSelector" => self.ingress.selector = value.into(),
            _ => self.mtls_mode = mtls(value).ok_or(bad("PERMISSIVE, STRICT or DISABLE"))?,
        }
        Ok(())
    }

    /// Checks what settings must be together, once all are set.
    ///
    /// # Errors
    ///
    /// If the format of the access log is none in its encoding.
    pub fn check(&self) -> Result<(), BadSetting> {
        self.access_log_format.check(self.access_log_encoding).map_err(BadSetting::Format)
    }
}

fn outbound(word: &str) -> Option<OutboundPolicy> {
    Some(match word {
        "ALLOW_ANY" => OutboundPolicy::AllowAny,
        "REGISTRY_ONLY" => OutboundPolicy::RegistryOnly,
        _ => return None,
    })
}

fn mtls(word: &str) -> Option<MtlsMode> {
    Some(match word {
        "PERMISSIVE" => MtlsMode::Permissive,
        "STRICT" => MtlsMode::Strict,
        "DISABLE" => MtlsMode::Disable,
        _ => return None,
    })
}

fn ingress_mode(word: &str) -> Option<IngressMode> {
    Some(match word {
        "OFF" => IngressMode::Off,
        "DEFAULT" => IngressMode::Default,
        "STRICT" => IngressMode::Strict,
        _ => return None,
    })
}

/// Parses a duration as Go and Istio write it: `1h`, `1m30s`, `2.5s`, `300ms`. `None` if it is
/// none, negative, or longer than [`Duration`] holds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[unit_end..];
        total = total.checked_add(Duration::try_from_secs_f64(amount * seconds).ok()?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// Writes a duration so that [`parse_duration`] reads it: in the largest unit that leaves it whole.
pub fn show_duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let nanos = duration.as_nanos();
    match UNITS.into_iter().find(|(_, unit)| nanos > 0 && nanos.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", nanos / unit),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_as_they_are_read() {
        for text in ["24h", "5m", "90s", "1500ms", "10us", "7ns", "0s"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn durations_as_go_writes_them() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("1h", Some(ms(3_600_000))),
            ("1m30s", Some(ms(90_000))),
            ("2.5s", Some(ms(2_500))),
            ("300ms", Some(ms(300))),
            ("0", Some(ms(0))),
            ("0s", Some(ms(0))),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1x", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn every_setting_can_be_set_to_what_it_shows() {
        let mut settings = Settings::default();
        for name in Settings::names() {
            let value = settings.value(name);
            // Of what it leaves open another one says.
            let may_be_empty = ["ingressSelector", LOG_FORMAT].contains(&name);
            assert!(!value.is_empty() || may_be_empty, "{name}");
            settings.set(name, &value).unwrap();
        }
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn settings_are_set_by_meshconfig_names() {
        let mut settings = Settings::default();
        settings.set("outboundTrafficPolicy.mode", "REGISTRY_ONLY").unwrap();
        settings.set("meshConfig.accessLogEncoding", "JSON").unwrap();
        settings.set("certificateTtl", "30s").unwrap();
        assert_eq!(settings.outbound_policy, OutboundPolicy::RegistryOnly);
        assert_eq!(settings.access_log_encoding, AccessLogEncoding::Json);
        assert_eq!(settings.certificate_ttl, Duration::from_secs(30));
        assert!(settings.set("certificateTtl", "1s").is_err());
        let unknown = settings.set("acessLogFile", "x").unwrap_err().to_string();
        assert!(unknown.contains("accessLogFile"), "{unknown}");
    }

    #[test]
    fn a_format_of_the_log_goes_with_its_encoding() {
        let mut settings = Settings::default();
        settings.set("accessLogFormat", "%RESPONSE_CODE%").unwrap();
        assert_eq!(settings.value("accessLogFormat"), "%RESPONSE_CODE%");
        settings.check().unwrap();
        settings.set("accessLogEncoding", "JSON").unwrap();
        let error = settings.check().unwrap_err().to_string();
        assert!(error.starts_with("setting accessLogFormat: accessLogEncoding is JSON"), "{error}");
        let error = settings.set("accessLogFormat", "%RESPONSE_CDE%").unwrap_err().to_string();
        assert!(error.contains("did you mean %RESPONSE_CODE%?"), "{error}");
        assert_eq!(settings.value("accessLogFormat"), "%RESPONSE_CODE%", "it stays as it was");
        settings.set("accessLogFormat", r#"{"a": "%RESPONSE_CODE%"}"#).unwrap();
        settings.check().unwrap();
    }
}
