//! Settings of the mesh, by the names of Istio's MeshConfig where it has one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::policy::MtlsMode;

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
    /// `certificateTtl`: lifetime of workload certificates; default 24 h, at least 10 s.
    pub certificate_ttl: Duration,
    /// `trustDomain`; default `cluster.local`.
    pub trust_domain: Name,
    /// `rootNamespace`: where policies hold for the whole mesh; default `istio-system`.
    pub root_namespace: Name,
    /// `protocolDetectionTimeout`: how long an inbound listener waits for the first bytes of a
    /// caller of whom it does not know whether it is in the mesh; default 5 s.
    pub detect_timeout: Duration,
    /// `connectTimeout`: how long a connection attempt to an endpoint may take; default 10 s.
    pub connect_timeout: Duration,
    /// `terminationDrainDuration`: how long a proxy that is told to stop waits for open requests;
    /// default 5 s.
    pub drain_duration: Duration,
    /// `mtlsMode`: what workloads take unless a PeerAuthentication says otherwise; default
    /// `PERMISSIVE`.
    pub mtls_mode: MtlsMode,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outbound_policy: OutboundPolicy::AllowAny,
            access_log: true,
            access_log_encoding: AccessLogEncoding::Text,
            certificate_ttl: Duration::from_secs(24 * 3600),
            trust_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            detect_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            drain_duration: Duration::from_secs(5),
            mtls_mode: MtlsMode::Permissive,
        }
    }
}

/// What happens to traffic for destinations that the mesh does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A setting that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// No setting has this name.
    #[error("no setting is called {name:?}; there are: {}", Settings::NAMES.join(", "))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The value does not fit.
    #[error("setting {name}: {value:?} is not {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it would take.
        expected: &'static str,
    },
}

impl Settings {
    /// Names that [`Settings::set`] takes.
    pub const NAMES: [&'static str; 10] = [
        "outboundTrafficPolicy.mode",
        "accessLogFile",
        "accessLogEncoding",
        "certificateTtl",
        "trustDomain",
        "rootNamespace",
        "protocolDetectionTimeout",
        "connectTimeout",
        "terminationDrainDuration",
        "mtlsMode",
    ];

    /// Sets one setting by its name. A leading `meshConfig.` is taken, too, as Istio's `--set` has
    /// it.
    ///
    /// # Errors
    ///
    /// If no setting has this name, or the value does not fit it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadSetting> {
        let name = name.strip_prefix("meshConfig.").unwrap_or(name);
        let Some(name) = Self::NAMES.into_iter().find(|known| *known == name) else {
            return Err(BadSetting::Unknown { name: name.to_owned() });
        };
        let bad = |expected| BadSetting::Value { name, value: value.to_owned(), expected };
        let duration = || parse_duration(value).ok_or(bad("a duration such as 30s or 1m30s"));
        match name {
            "outboundTrafficPolicy.mode" => {
                self.outbound_policy = match value {
                    "ALLOW_ANY" => OutboundPolicy::AllowAny,
                    "REGISTRY_ONLY" => OutboundPolicy::RegistryOnly,
                    _ => return Err(bad("ALLOW_ANY or REGISTRY_ONLY")),
                }
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
            _ => {
                self.mtls_mode = match value {
                    "PERMISSIVE" => MtlsMode::Permissive,
                    "STRICT" => MtlsMode::Strict,
                    "DISABLE" => MtlsMode::Disable,
                    _ => return Err(bad("PERMISSIVE, STRICT or DISABLE")),
                }
            }
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
