//! Istio's MeshConfig: the settings of the mesh, as the ConfigMap `istio` of the root namespace has them
//! under the key `mesh`. What it leaves out is as the mesh was started with.

use std::sync::Arc;

use ironmesh_model::policy::LocalityBalance;
use ironmesh_model::settings::{BadSetting, Settings};
use ironmesh_model::{Finding, FindingCode, Name, ObjectId};
use serde_json::Value;

use super::destination_rule::{self, ZoneBalance};
use super::topology;
use crate::kubernetes::kinds::ConfigMap;
use crate::kubernetes::read_workload;
use crate::schema::{nearest, parse};
use crate::translate::Part;
use crate::{Object, manifest, path};

mod known;

use known::Meaning;

/// Settings that a ConfigMap gives, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MeshConfig {
    /// Where the ConfigMap is: it holds only in the root namespace.
    pub(crate) namespace: Name,
    /// Names and values, each of which can be set.
    given: Vec<(String, String)>,
    /// Which endpoints are preferred for being near, if it says so.
    locality: Option<Arc<LocalityBalance>>,
}

impl MeshConfig {
    /// These settings with those given in place of their own.
    pub(crate) fn over(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        for (name, value) in &self.given {
            // It was tried when it was read.
            let _ = settings.set(name, value);
        }
        settings.locality = self.locality.clone().unwrap_or(settings.locality);
        settings
    }

    /// Its id.
    pub(crate) fn id(&self) -> ObjectId {
        ObjectId::new("ConfigMap", self.namespace.clone(), "istio")
    }

    /// That it does not hold where it is.
    pub(crate) fn elsewhere(&self, root: &str) -> Finding {
        let message = format!("MeshConfig is read in namespace {root}; nothing of it holds here");
        Finding::new(&self.id(), PLACE, FindingCode::NoEffect, message)
    }

    /// What is wrong with these settings, which it has had a part in, and could not be seen in it alone.
    pub(crate) fn found(&self, settings: &Settings) -> Vec<Finding> {
        let Err(bad) = settings.check() else { return Vec::new() };
        let is_given = self.given.iter().any(|(name, _)| name == FORMAT);
        let place = path::field(PLACE, if is_given { FORMAT } else { ENCODING });
        let message = format!("{bad}; until then lines are as they are by default");
        vec![Finding::new(&self.id(), place, FindingCode::NoEffect, message)]
    }
}

/// Reads a ConfigMap: any is checked, and that of the mesh is more.
pub(crate) fn mesh_config(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let ConfigMap { data, .. } = read_workload(object, findings)?;
    let text = data.get("mesh").filter(|_| **object.name() == *"istio")?;
    let (given, locality) = read(text, object.id(), findings);
    let namespace = object.namespace().clone();
    Some(Part::MeshConfig(Box::new(MeshConfig { namespace, given, locality })))
}

/// These settings with those that the text of a MeshConfig gives in place of their own.
pub fn settings_with(text: &str, settings: &Settings) -> Settings {
    let id = ObjectId::new("ConfigMap", settings.root_namespace.clone(), "istio");
    // Who takes the object has said what is wrong with it.
    let (given, locality) = read(text, &id, &mut Vec::new());
    let namespace = settings.root_namespace.clone();
    MeshConfig { namespace, given, locality }.over(settings)
}

/// Reads the text of the annotation `proxy.istio.io/config`, at this path of an object: settings of one
/// proxy, which are those of `defaultConfig`.
pub(crate) fn proxy_settings(text: &str, id: &ObjectId, at: &str, findings: &mut Vec<Finding>) {
    let mut reading = Reading { id, findings, of_pod: true, given: Vec::new(), locality: None };
    reading.document(text, at, |reading, value| {
        reading.field("defaultConfig", at, value);
    });
    for (place, flaw) in topology::flaws(text) {
        let place = place.split('.').fold(at.to_owned(), |at, name| path::field(&at, name));
        findings.push(Finding::new(id, place, FindingCode::NoEffect, flaw));
    }
}

/// What a text gives: settings by their names, and which endpoints are preferred for being near.
fn read(text: &str, id: &ObjectId, findings: &mut Vec<Finding>) -> Given {
    let mut reading = Reading { id, findings, of_pod: false, given: Vec::new(), locality: None };
    reading.document(text, PLACE, Reading::top);
    reading.check();
    (reading.given, reading.locality)
}

type Given = (Vec<(String, String)>, Option<Arc<LocalityBalance>>);

struct Reading<'a> {
    id: &'a ObjectId,
    findings: &'a mut Vec<Finding>,
    /// Whether the text is of one pod, which takes its settings from the mesh.
    of_pod: bool,
    given: Vec<(String, String)>,
    locality: Option<Arc<LocalityBalance>>,
}

impl Reading<'_> {
    fn report(&mut self, path: &str, code: FindingCode, message: impl Into<String>) {
        self.findings.push(Finding::new(self.id, path, code, message));
    }

    /// Reads the one document of a text.
    fn document(&mut self, text: &str, at: &str, read: impl FnOnce(&mut Self, &Value)) {
        // A pod is taken all the same: its applications can do without.
        let wrong = if self.of_pod { FindingCode::NoEffect } else { FindingCode::Invalid };
        match &manifest::parse(text) {
            parsed if !parsed.errors.is_empty() => {
                let error = &parsed.errors[0];
                let message = format!("line {} of the text: {}", error.line, error.message);
                self.report(at, wrong, message);
            }
            parsed => match &parsed.documents[..] {
                [] => {}
                [one] => read(self, &one.value),
                _ => {
                    let message = "the text holds several documents, and must be one";
                    self.report(at, wrong, message);
                }
            },
        }
    }

    fn top(&mut self, value: &Value) {
        let Value::Object(fields) = value else {
            return self.report(PLACE, FindingCode::Invalid, "this takes an object");
        };
        for (name, value) in fields {
            self.field(name, &path::field(PLACE, name), value);
        }
    }

    /// A field, or what is in it.
    fn field(&mut self, name: &str, path: &str, value: &Value) {
        let said = |why: &str| format!("{name}: {why}");
        match known::meaning(name) {
            _ if value.is_null() => {}
            _ if name == "authPolicy" => self.auth_policy(path, value),
            _ if name == OUTBOUND && value == BY_NAME => {
                let message = format!(
                    "{BY_NAME}: requests for hosts that nobody knows go where they are dialled, as with \
                     {BY_ADDRESS}, and not where their names lead"
                );
                self.report(path, FindingCode::NotHonoured, message);
                self.given.push((OUTBOUND.to_owned(), BY_ADDRESS.to_owned()));
            }
            // A gateway says itself what stands in front of it.
            Some(Meaning::Setting(_) | Meaning::Switch(_))
                if self.of_pod && name.starts_with("defaultConfig.gatewayTopology.") => {}
            Some(Meaning::Setting(_) | Meaning::Switch(_)) if self.of_pod => {
                let message = format!("{name}: MeshConfig says it, for all proxies alike");
                self.report(path, FindingCode::NotDoneHere, message);
            }
            Some(Meaning::Setting(setting)) => self.set(setting, path, value),
            Some(Meaning::Switch(setting)) => self.set(setting, path, &Value::Bool(true)),
            Some(Meaning::Holds) => match value {
                Value::Object(fields) => {
                    for (inner, value) in fields {
                        self.field(&format!("{name}.{inner}"), &path::field(path, inner), value);
                    }
                }
                _ if self.of_pod => {
                    self.report(
                        path,
                        FindingCode::NoEffect,
                        format!("{name}: this takes an object"),
                    );
                }
                _ => self.report(path, FindingCode::Invalid, "this takes an object"),
            },
            Some(Meaning::Locality) => self.locality(name, path, value),
            Some(Meaning::NoEffect(why)) => self.report(path, FindingCode::NoEffect, said(why)),
            Some(Meaning::Unneeded(why)) => self.report(path, FindingCode::NotNeeded, said(why)),
            Some(Meaning::Later) => {
                let message = format!("{name:?} is not honoured yet");
                self.report(path, FindingCode::NotHonoured, message);
            }
            None => {
                let near = nearest(name, known::paths());
                let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                let message = format!("MeshConfig has no field {name:?}{hint}");
                self.report(path, FindingCode::UnknownField, message);
            }
        }
    }

    /// Which endpoints are preferred for being near, as DestinationRules say it. Of the two ways to say
    /// it the one by zones counts, as in Istio.
    fn locality(&mut self, name: &str, path: &str, value: &Value) {
        let read = match name {
            "zoneAwareLbSetting" => parse::<ZoneBalance>(value).map(|own| own.meaning()),
            _ => parse::<destination_rule::LocalityBalance>(value).map(|own| own.meaning()),
        };
        let counts = |own: &Arc<LocalityBalance>| own.zone_aware.is_none();
        match read {
            Ok(own) if own.zone_aware.is_some() || self.locality.as_ref().is_none_or(counts) => {
                self.locality = Some(Arc::new(own));
            }
            Ok(_) => {}
            Err(unreadable) => self.report(path, FindingCode::Invalid, unreadable.to_string()),
        }
    }

    /// Istio's switch of mutual TLS before 0.8.
    fn auth_policy(&mut self, path: &str, value: &Value) {
        let mode = match value.as_str() {
            Some("MUTUAL_TLS") => "STRICT",
            Some("NONE") => "PERMISSIVE",
            _ => {
                let message = format!("this takes MUTUAL_TLS or NONE, not {value}");
                return self.report(path, FindingCode::Invalid, message);
            }
        };
        let message = format!("authPolicy: {value} is taken as mtlsMode: {mode}");
        self.report(path, FindingCode::Deprecated, message.replace('"', ""));
        self.given.push(("mtlsMode".to_owned(), mode.to_owned()));
    }

    /// Checks what settings must be together, of those that it gives: of the others the mesh knows.
    fn check(&mut self) {
        let is_given = |wanted: &str| self.given.iter().any(|(name, _)| name == wanted);
        if !is_given(FORMAT) || !is_given(ENCODING) {
            return;
        }
        let mut trial = Settings::default();
        for (name, value) in &self.given {
            // It was tried when it was read.
            let _ = trial.set(name, value);
        }
        if let Err(BadSetting::Format(flaw)) = trial.check() {
            self.report(&path::field(PLACE, FORMAT), FindingCode::Invalid, flaw.to_string());
            self.given.retain(|(name, _)| name != FORMAT);
        }
    }

    fn set(&mut self, name: &str, path: &str, value: &Value) {
        if Settings::is_fixed(name) || name == "limits" {
            let message = format!("{name} is set when the mesh starts: up --set {name}=...");
            return self.report(path, FindingCode::FixedAtStart, message);
        }
        let value = match value {
            Value::String(text) => text.clone(),
            // As YAML has the word without quotes.
            Value::Bool(false) if name == "ingressControllerMode" => "OFF".to_owned(),
            other => other.to_string(),
        };
        let mut trial = Settings::default();
        match trial.set(name, &value) {
            Ok(()) => {
                for note in trial.access_log_format.notes() {
                    self.report(path, FindingCode::NoEffect, note);
                }
                self.given.push((name.to_owned(), value));
            }
            Err(BadSetting::Value { value, expected, .. }) => {
                let message = format!("this takes {expected}, not {value:?}");
                self.report(path, FindingCode::Invalid, message);
            }
            Err(BadSetting::Format(flaw)) => {
                self.report(path, FindingCode::Invalid, flaw.to_string());
            }
            // The table names none that is not there; a test keeps that.
            Err(bad) => self.report(path, FindingCode::NotHonoured, bad.to_string()),
        }
    }
}

/// Where the text is.
const PLACE: &str = "data.mesh";

/// Settings of which one has a say in the other.
const FORMAT: &str = "accessLogFormat";
const ENCODING: &str = "accessLogEncoding";

/// What becomes of traffic for destinations that are not known, and two words for where it goes.
const OUTBOUND: &str = "outboundTrafficPolicy.mode";
const BY_ADDRESS: &str = "ALLOW_ANY";
const BY_NAME: &str = "ALLOW_ANY_DYNAMIC_DNS";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::translate_one;

    fn read(mesh: &str) -> (Part, Vec<String>) {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh},
        });
        let read = translate_one(&Object::new(object).unwrap());
        let show =
            |finding: &Finding| format!("{} {}: {}", finding.code, finding.path, finding.message);
        (read.part, read.findings.iter().map(show).collect())
    }

    #[test]
    fn settings_have_meshconfigs_names_and_form() {
        let text = "accessLogFile: \"\"\noutboundTrafficPolicy:\n  mode: REGISTRY_ONLY\nconnectTimeout: 3s\n";
        let (Part::MeshConfig(config), findings) = read(text) else { panic!("not read") };
        assert_eq!(findings, [""; 0]);
        let base = Settings { trust_domain: "example.org".into(), ..Settings::default() };
        let settings = config.over(&base);
        assert!(!settings.access_log);
        assert_eq!(settings.value("outboundTrafficPolicy.mode"), "REGISTRY_ONLY");
        assert_eq!(settings.value("connectTimeout"), "3s");
        assert_eq!(settings.value("trustDomain"), "example.org");
        let (Part::MeshConfig(old), findings) = read("authPolicy: MUTUAL_TLS") else {
            panic!("not read")
        };
        assert_eq!(old.over(&base).value("mtlsMode"), "STRICT");
        let said =
            "IM0113 data.mesh.authPolicy: authPolicy: MUTUAL_TLS is taken as mtlsMode: STRICT";
        assert_eq!(findings, [said]);
        let (Part::MeshConfig(empty), _) = read("") else { panic!("not read") };
        assert_eq!(empty.over(&base), base);
    }

    #[test]
    fn what_cannot_be_set_is_found_with_its_place() {
        for (text, said) in [
            ("mtlsMode: SOMETIMES", "IM0001 data.mesh.mtlsMode: this takes PERMISSIVE, STRICT"),
            ("accessLogFile: {a: 1}", "IM0001 data.mesh.accessLogFile: this takes /dev/stdout"),
            ("outboundTrafficPolicy: {mode: 1}", "IM0001 data.mesh.outboundTrafficPolicy.mode:"),
            (
                "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}",
                "IM0101 data.mesh.outboundTrafficPolicy.mode: ALLOW_ANY_DYNAMIC_DNS: requests for",
            ),
            ("authPolicy: MTLS", "IM0001 data.mesh.authPolicy: this takes MUTUAL_TLS or NONE"),
            ("trustDomain: other", "IM0119 data.mesh.trustDomain: trustDomain is set when"),
            ("limits: {proxy: {workers: 1}}", "IM0119 data.mesh.limits: limits is set when"),
            ("defaultConfig: {concurrency: 2}", "IM0114 data.mesh.defaultConfig.concurrency: "),
            ("defaultConfig: {zipkinAddress: a}", "IM0120 data.mesh.defaultConfig.zipkinAddress: "),
            ("mixerAddress: a:1", "IM0120 data.mesh.mixerAddress: mixerAddress: there is no Mixer"),
            (
                "defaultConfig: {gatewayTopology: {numTrustedProxies: -1}}",
                "IM0001 data.mesh.defaultConfig.gatewayTopology.numTrustedProxies: this takes a whole",
            ),
            (
                "defaultConfig: {gatewayTopology: {forwardClientCertDetails: FORWARD}}",
                "IM0001 data.mesh.defaultConfig.gatewayTopology.forwardClientCertDetails: this takes",
            ),
            ("h2UpgradePolicy: UPGRADE", "IM0114 data.mesh.h2UpgradePolicy: "),
            ("enableTracing: true", "IM0114 data.mesh.enableTracing: enableTracing: no spans"),
            ("defaultConfig: 1", "IM0001 data.mesh.defaultConfig: this takes an object"),
            ("authPolicy: 1", "IM0001 data.mesh.authPolicy: this takes MUTUAL_TLS or NONE"),
            (
                "outboundTrafficPolicy: {mdoe: ALLOW_ANY}",
                "IM0003 data.mesh.outboundTrafficPolicy.mdoe: MeshConfig has no field \
                 \"outboundTrafficPolicy.mdoe\"; did you mean \"outboundTrafficPolicy.mode\"?",
            ),
            ("acessLogFile: /dev/stdout", "IM0003 data.mesh.acessLogFile: "),
            ("a: [", "IM0001 data.mesh: line 1 of the text:"),
            ("- a", "IM0001 data.mesh: line 1 of the text: a document must be an object"),
            ("a: 1\n---\nb: 1", "IM0001 data.mesh: the text holds several documents"),
        ] {
            let (_, findings) = read(text);
            assert!(findings.len() == 1 && findings[0].starts_with(said), "{text}: {findings:?}");
        }
    }

    #[test]
    fn a_format_of_the_log_is_checked_with_its_encoding() {
        let over = |text: &str| {
            let (Part::MeshConfig(config), findings) = read(text) else { panic!("not read") };
            let settings = config.over(&Settings::default());
            (settings.value("accessLogFormat"), findings)
        };
        assert_eq!(over("accessLogFormat: a %PROTOCOL%"), ("a %PROTOCOL%".to_owned(), vec![]));
        let object = r#"{"code": "%RESPONSE_CODE%"}"#;
        let text = format!("accessLogFormat: '{object}'\naccessLogEncoding: JSON");
        assert_eq!(over(&text), (object.to_owned(), vec![]));
        for (text, said) in [
            (
                "accessLogFormat: '%RESPONSE_CDE%'",
                "IM0001 data.mesh.accessLogFormat: there is no operator %RESPONSE_CDE%; did you mean \
                 %RESPONSE_CODE%?",
            ),
            ("accessLogFormat: 50% of it", "IM0001 data.mesh.accessLogFormat: \"% of it\" is no"),
            (
                "accessLogEncoding: JSON\naccessLogFormat: '%PROTOCOL%'",
                "IM0001 data.mesh.accessLogFormat: accessLogEncoding is JSON, so the format must be",
            ),
            (
                "accessLogFormat: '{\"a\": {\"b\": \"%PROTOCOL(x)%\"}}'\naccessLogEncoding: JSON",
                "IM0001 data.mesh.accessLogFormat: \"a\": \"b\": %PROTOCOL% takes no argument",
            ),
        ] {
            let (part, findings) = read(text);
            assert_eq!(part, Part::Nothing, "it is refused, and the mesh goes on as before");
            assert!(findings.len() == 1 && findings[0].starts_with(said), "{text}: {findings:?}");
        }
        let (format, findings) = over("accessLogFormat: '%DYNAMIC_METADATA(istio.mixer:status)%'");
        let said =
            "IM0114 data.mesh.accessLogFormat: %DYNAMIC_METADATA% is always \"-\", or null: ";
        assert!(!format.is_empty() && findings[0].starts_with(said), "{findings:?}");
    }

    /// The layout of Istio 0.2 gives settings as today's does, and every field of both is known.
    #[test]
    fn both_layouts_are_read() {
        let old =
            "authPolicy: MUTUAL_TLS\nmixerAddress: a:1\ndefaultConfig:\n  connectTimeout: 7s\n";
        let (Part::MeshConfig(config), findings) = read(old) else { panic!("not read") };
        let settings = config.over(&Settings::default());
        assert_eq!(settings.value("connectTimeout"), "7s");
        assert_eq!(settings.value("mtlsMode"), "STRICT");
        assert_eq!(findings.len(), 2, "{findings:?}");
        let new = "defaultConfig:\n  terminationDrainDuration: 9s\n  gatewayTopology:\n    proxyProtocol: {}\n    numTrustedProxies: 2\n    forwardClientCertDetails: SANITIZE\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n";
        let (Part::MeshConfig(config), findings) = read(new) else { panic!("not read") };
        let settings = config.over(&Settings::default());
        assert_eq!(settings.value("terminationDrainDuration"), "9s");
        assert_eq!(settings.value("gatewayTopology.proxyProtocol"), "true");
        assert_eq!(settings.value("gatewayTopology.numTrustedProxies"), "2");
        assert_eq!(settings.value("gatewayTopology.forwardClientCertDetails"), "SANITIZE");
        assert_eq!(settings.value("outboundTrafficPolicy.mode"), "REGISTRY_ONLY");
        assert_eq!(findings, [""; 0]);
    }

    #[test]
    fn localities_are_read_as_destination_rules_say_them() {
        let over = |text: &str| {
            let (Part::MeshConfig(config), findings) = read(text) else { panic!("not read") };
            assert_eq!(findings, [""; 0]);
            config.over(&Settings::default()).locality
        };
        let failover = over("localityLbSetting: {failover: [{from: eu, to: us}]}");
        assert_eq!((failover.enabled, &*failover.failover[0].to), (true, "us"));
        assert!(!over("localityLbSetting: {enabled: false}").enabled);
        let zones = "zoneAwareLbSetting: {minClusterSize: 2}";
        for text in [
            format!("{zones}\nlocalityLbSetting: {{}}"),
            format!("localityLbSetting: {{}}\n{zones}"),
        ] {
            assert_eq!(over(&text).zone_aware.unwrap().endpoints_min, 2);
        }
        let (_, findings) = read("localityLbSetting: {enabled: maybe}");
        assert!(
            findings[0].starts_with("IM0001 data.mesh.localityLbSetting: enabled: "),
            "{findings:?}"
        );
    }

    #[test]
    fn every_setting_is_in_the_table_and_the_table_names_no_other() {
        for name in Settings::names() {
            assert_eq!(known::meaning(name), Some(Meaning::Setting(name)), "{name}");
        }
        for path in known::paths() {
            if let Some(Meaning::Setting(setting)) = known::meaning(path) {
                assert!(setting == "limits" || Settings::names().any(|n| n == setting), "{path}");
            }
        }
    }

    /// What concerns traffic is honoured, or has its reason; other subjects have fields to come.
    #[test]
    fn nothing_that_concerns_traffic_is_left_for_later() {
        let later: Vec<&str> =
            known::paths().filter(|path| known::meaning(path) == Some(Meaning::Later)).collect();
        assert_eq!(
            later,
            [
                "enablePrometheusMerge",
                "enableEnvoyAccessLogService",
                "disableEnvoyListenerLog",
                "extensionProviders",
                "defaultProviders",
                "trustDomainAliases",
                "caCertificates",
                "certificates",
                "defaultConfig.envoyAccessLogService",
                "defaultConfig.tracing",
                "defaultConfig.extraStatTags",
                "defaultConfig.caCertificatesPem",
                "defaultConfig.meshId",
            ]
        );
    }

    #[test]
    fn another_config_map_is_nothing_to_the_mesh() {
        let object = |name: &str| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": "istio-system"}, "data": {"mesh": ": ["},
            })
        };
        let read = translate_one(&Object::new(object("other")).unwrap());
        assert_eq!((read.part, read.findings), (Part::Nothing, Vec::new()));
    }
}
