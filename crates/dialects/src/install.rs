//! How Istio is installed: IstioOperator files and the values of its charts, as what they ask of the
//! mesh. Pure.

use ironmesh_model::settings::Settings;
use serde_json::{Value, json};

mod assign;
mod known;

pub use assign::{BadAssignment, assign, assign_all};

/// What an installation asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Its profile: which components there are.
    pub profile: String,
    /// Settings of the mesh, by MeshConfig's names, each of which can be set.
    pub settings: Vec<(String, String)>,
    /// Whether the label of a namespace injects its pods. Default yes.
    pub injects_by_label: bool,
    /// Whether there is to be the egress gateway, `istio-egressgateway`.
    pub egress_gateway: bool,
    /// What looks at the mesh and is to be there.
    pub addons: Vec<Addon>,
    /// Values that change nothing here, by their paths.
    pub ignored: Vec<String>,
}

/// A program that looks at the mesh, as older charts install it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addon {
    /// Metrics.
    Prometheus,
    /// Dashboards.
    Grafana,
    /// Traces: Jaeger and Zipkin.
    Tracing,
    /// A graph.
    Kiali,
    /// An older graph.
    Servicegraph,
}

/// An installation that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadInstallation {
    /// No profile has this name.
    #[error("no profile is called {0:?}; there are: {names}", names = PROFILES.map(|(name, _)| name).join(", "))]
    Profile(String),
    /// A value that does not fit.
    #[error("{path}: {message}")]
    Value {
        /// Where.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Something else than an IstioOperator.
    #[error("this is {found}, and must be an IstioOperator of install.istio.io/v1alpha1")]
    Kind {
        /// What it is.
        found: String,
    },
}

impl Installation {
    /// Reads the `spec` of IstioOperators that were laid over one another.
    ///
    /// # Errors
    ///
    /// If the profile or the name of a field is unknown, or a setting has a value that it cannot have.
    pub fn of_operator(spec: &Value) -> Result<Self, BadInstallation> {
        known::check(spec)?;
        Self::of_spec(spec)
    }

    /// Reads the values of the chart `istiod`. As Helm does, it takes names that the chart does not
    /// know: they are among what changes nothing.
    ///
    /// # Errors
    ///
    /// If a setting has a value that it cannot have.
    pub fn of_istiod_chart(values: &Value) -> Result<Self, BadInstallation> {
        Self::of_spec(&json!({"values": values}))
    }

    fn of_spec(spec: &Value) -> Result<Self, BadInstallation> {
        let profile = spec["profile"].as_str().unwrap_or("default").to_owned();
        if components(&profile).is_none() {
            return Err(BadInstallation::Profile(profile));
        }
        let mut reading = Reading::new(profile);
        for (name, value) in fields(spec) {
            match name {
                "profile" => {}
                "meshConfig" => reading.mesh_config("", "meshConfig", value)?,
                "values" => reading.values("values.", value)?,
                "components" => reading.components(value),
                "addonComponents" => reading.values("addonComponents.", value)?,
                // There is one version and one namespace of everything.
                other => reading.ignore(other, value),
            }
        }
        Ok(reading.installation)
    }

    /// Reads the values of the chart `istio` of older versions. Version 1.0 left what is outside the
    /// mesh closed, and mutual TLS off, and had the egress gateway by itself.
    ///
    /// # Errors
    ///
    /// If a setting has a value that it cannot have.
    pub fn of_chart(version: &str, values: &Value) -> Result<Self, BadInstallation> {
        let mut reading = Reading::new("default".to_owned());
        if version.starts_with("1.0") || version.starts_with("0.") {
            reading.installation.egress_gateway = true;
            reading.set(EGRESS, EGRESS, "REGISTRY_ONLY")?;
            reading.set(MTLS, MTLS, "DISABLE")?;
        } else {
            reading.set(EGRESS, EGRESS, "ALLOW_ANY")?;
        }
        // What the chart had by itself.
        reading.installation.addons.push(Addon::Prometheus);
        reading.values("", values)?;
        Ok(reading.installation)
    }

    /// Whether the profile has the gateway, which every mesh has.
    pub fn has_gateway(&self) -> bool {
        self.components().contains(&INGRESS)
    }

    /// The value that a setting is to have, if anything is said of it.
    pub fn setting(&self, name: &str) -> Option<&str> {
        let said = self.settings.iter().find(|(said, _)| said == name);
        said.map(|(_, value)| value.as_str())
    }

    /// What the profile installs, as istioctl names it.
    pub fn components(&self) -> Vec<&'static str> {
        let of_profile = components(&self.profile).unwrap_or_default();
        let all = [CORE, ISTIOD, EGRESS_GATEWAYS, INGRESS];
        let has = |name: &&str| match *name {
            EGRESS_GATEWAYS => self.egress_gateway,
            other => of_profile.contains(&other),
        };
        all.into_iter().filter(has).collect()
    }
}

/// The `spec` of an IstioOperator document.
///
/// # Errors
///
/// If it is something else.
pub fn operator_spec(document: &Value) -> Result<Value, BadInstallation> {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    let kind = document["kind"].as_str().unwrap_or_default();
    if kind == "IstioOperator" && version.starts_with("install.istio.io/") {
        return Ok(document
            .get("spec")
            .filter(|spec| spec.is_object())
            .cloned()
            .unwrap_or(json!({})));
    }
    let found = if kind.is_empty() { "no object" } else { kind };
    Err(BadInstallation::Kind { found: format!("{found} {version}").trim_end().to_owned() })
}

/// Lays a value over another: objects field by field, all else as a whole.
pub fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                overlay(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

fn components(profile: &str) -> Option<&'static [&'static str]> {
    PROFILES.iter().find(|(name, _)| *name == profile).map(|(_, components)| *components)
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

struct Reading {
    installation: Installation,
}

impl Reading {
    fn new(profile: String) -> Self {
        let of_profile = components(&profile).unwrap_or_default();
        Self {
            installation: Installation {
                egress_gateway: of_profile.contains(&EGRESS_GATEWAYS),
                profile,
                settings: Vec::new(),
                injects_by_label: true,
                addons: Vec::new(),
                ignored: Vec::new(),
            },
        }
    }

    /// Notes each value below a path as one that changes nothing.
    fn ignore(&mut self, path: &str, value: &Value) {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                for (name, value) in inner {
                    self.ignore(&format!("{path}.{name}"), value);
                }
            }
            Value::Null => {}
            _ => self.installation.ignored.push(path.to_owned()),
        }
    }

    fn set(&mut self, path: &str, name: &str, value: &str) -> Result<(), BadInstallation> {
        Settings::default().set(name, value).map_err(|error| BadInstallation::Value {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        self.installation.settings.retain(|(set, _)| set != name);
        self.installation.settings.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// MeshConfig: the settings of the mesh by their names.
    fn mesh_config(
        &mut self,
        name: &str,
        path: &str,
        value: &Value,
    ) -> Result<(), BadInstallation> {
        let elsewhere = ELSEWHERE.iter().find(|(there, _)| *there == name);
        let name = elsewhere.map_or(name, |(_, here)| here);
        let is_setting = |name: &str| Settings::names().any(|known| known == name);
        let leads_on = |name: &str| {
            Settings::names()
                .chain(ELSEWHERE.iter().map(|(there, _)| *there))
                .any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
        };
        match value {
            Value::Object(inner) if name.is_empty() || leads_on(name) => {
                for (field, value) in inner {
                    let dot = if name.is_empty() { "" } else { "." };
                    self.mesh_config(
                        &format!("{name}{dot}{field}"),
                        &format!("{path}.{field}"),
                        value,
                    )?;
                }
                Ok(())
            }
            Value::String(text) if is_setting(name) => self.set(path, name, text),
            Value::Bool(_) | Value::Number(_) if is_setting(name) => {
                self.set(path, name, &value.to_string())
            }
            other => {
                self.ignore(path, other);
                Ok(())
            }
        }
    }

    /// Which components are on. Those that are on are what the profile has, with the egress gateway or
    /// without; another answer changes nothing.
    fn components(&mut self, value: &Value) {
        for (name, component) in fields(value) {
            let path = format!("components.{name}");
            let listed = component.as_array().map_or(vec![component], |all| all.iter().collect());
            for (at, one) in listed.into_iter().enumerate() {
                let item = if component.is_array() { format!("[{at}]") } else { String::new() };
                self.component(name, &format!("{path}{item}"), one);
            }
        }
    }

    fn component(&mut self, name: &str, path: &str, given: &Value) {
        let known = match name {
            "ingressGateways" => Some("istio-ingressgateway"),
            "egressGateways" => Some(EGRESS_GATEWAY),
            _ => None,
        };
        // One without a name is the profile's own.
        let is_own = known.is_some_and(|known| given["name"].as_str().unwrap_or(known) == known);
        let is_here = matches!(name, "base" | "pilot") || is_own;
        for (field, value) in fields(given) {
            match (field, value.as_bool()) {
                ("enabled", Some(on)) if is_own && name == "egressGateways" => {
                    self.installation.egress_gateway = on;
                }
                ("enabled", Some(on)) if on == is_here => {}
                ("name", _) if is_own => {}
                _ => self.ignore(&format!("{path}.{field}"), value),
            }
        }
    }

    /// The values of the charts.
    fn values(&mut self, prefix: &str, values: &Value) -> Result<(), BadInstallation> {
        for (name, value) in fields(values) {
            let path = format!("{prefix}{name}");
            match name {
                "global" => self.global(&path, value)?,
                "meshConfig" => self.mesh_config("", &path, value)?,
                "sidecarInjectorWebhook" => {
                    self.switch(&path, value, |to, on| to.injects_by_label = on);
                }
                "grafana" => self.addon(&path, value, Addon::Grafana),
                "kiali" => self.addon(&path, value, Addon::Kiali),
                "prometheus" => self.addon(&path, value, Addon::Prometheus),
                "servicegraph" => self.addon(&path, value, Addon::Servicegraph),
                "tracing" => self.addon(&path, value, Addon::Tracing),
                "gateways" => self.gateways(&path, value),
                _ => self.ignore(&path, value),
            }
        }
        Ok(())
    }

    fn gateways(&mut self, path: &str, value: &Value) {
        for (name, value) in fields(value) {
            let path = format!("{path}.{name}");
            match name {
                EGRESS_GATEWAY => self.switch(&path, value, |to, on| to.egress_gateway = on),
                _ => self.ignore(&path, value),
            }
        }
    }

    fn addon(&mut self, path: &str, value: &Value, addon: Addon) {
        self.switch(path, value, |to, on| {
            to.addons.retain(|other| *other != addon);
            if on {
                to.addons.push(addon);
            }
        });
    }

    /// `enabled` of a component; its other values change nothing.
    fn switch(&mut self, path: &str, value: &Value, set: impl Fn(&mut Installation, bool)) {
        for (name, value) in fields(value) {
            match (name, value.as_bool()) {
                ("enabled", Some(on)) => set(&mut self.installation, on),
                _ => self.ignore(&format!("{path}.{name}"), value),
            }
        }
    }

    fn global(&mut self, path: &str, value: &Value) -> Result<(), BadInstallation> {
        for (name, value) in fields(value) {
            let path = format!("{path}.{name}");
            match (name, value) {
                ("mtls", value) if value["enabled"] == true => self.set(&path, MTLS, "STRICT")?,
                // As it is without a word.
                ("mtls", value) if value["enabled"] == false => {}
                ("outboundTrafficPolicy", value) if value["mode"].is_string() => {
                    self.set(&path, EGRESS, value["mode"].as_str().unwrap_or_default())?;
                }
                ("trustDomain", Value::String(domain)) => self.set(&path, "trustDomain", domain)?,
                // Between control plane and proxies there is always TLS, and there is one node.
                ("controlPlaneSecurityEnabled", Value::Bool(true)) | ("defaultNodeSelector", _) => {
                }
                _ => self.ignore(&path, value),
            }
        }
        Ok(())
    }
}

/// The setting for how long a proxy that stops waits for open requests.
const DRAIN: &str = "terminationDrainDuration";

/// Settings that Istio has at another place, and their names here.
const ELSEWHERE: [(&str, &str); 1] = [("defaultConfig.terminationDrainDuration", DRAIN)];

/// The setting for what is outside the mesh.
const EGRESS: &str = "outboundTrafficPolicy.mode";
const MTLS: &str = "mtlsMode";

const CORE: &str = "Istio core";
const ISTIOD: &str = "Istiod";
const INGRESS: &str = "Ingress gateways";
const EGRESS_GATEWAYS: &str = "Egress gateways";
const EGRESS_GATEWAY: &str = "istio-egressgateway";

/// The profiles, and what istioctl says that they install.
const PROFILES: [(&str, &[&str]); 6] = [
    ("default", &[CORE, ISTIOD, INGRESS]),
    ("demo", &[CORE, ISTIOD, EGRESS_GATEWAYS, INGRESS]),
    ("minimal", &[CORE, ISTIOD]),
    ("preview", &[CORE, ISTIOD, INGRESS]),
    ("openshift", &[CORE, ISTIOD, INGRESS]),
    ("empty", &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_operator_sets_the_mesh_and_what_changes_nothing_is_named() {
        let spec = json!({
            "profile": "demo",
            "hub": "docker.io/istio",
            "meshConfig": {
                "accessLogFile": "/dev/stdout",
                "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
                "enableTracing": true,
                "defaultConfig": {
                    "tracing": {"sampling": 100}, "terminationDrainDuration": "7s",
                },
            },
            "components": {
                "pilot": {"enabled": true, "k8s": {"replicaCount": 3}},
                "ingressGateways": [{
                    "name": "istio-ingressgateway", "enabled": true,
                    "k8s": {"service": {"loadBalancerIP": "1.2.3.4"}},
                }],
                "cni": {"enabled": true},
                "egressGateways": [{"name": "istio-egressgateway", "enabled": false}],
            },
            "values": {"global": {"proxy": {"image": "x"}}},
        });
        let read = Installation::of_operator(&spec).unwrap();
        assert_eq!(
            read.components(),
            ["Istio core", "Istiod", "Ingress gateways"],
            "the egress gateway of the profile is turned off"
        );
        assert_eq!(
            read.settings,
            settings(
                &[("accessLogFile", "/dev/stdout"), (EGRESS, "REGISTRY_ONLY"), (DRAIN, "7s"),]
            )
        );
        assert_eq!(
            read.ignored,
            [
                "hub",
                "meshConfig.enableTracing",
                "meshConfig.defaultConfig.tracing.sampling",
                "components.pilot.k8s.replicaCount",
                "components.ingressGateways[0].k8s.service.loadBalancerIP",
                "components.cni.enabled",
                "values.global.proxy.image",
            ]
        );
    }

    #[test]
    fn the_egress_gateway_is_there_where_it_is_asked_for() {
        let gateways = |items: Value| json!({"components": {"egressGateways": items}});
        let value = |on: bool| json!({"gateways": {"istio-egressgateway": {"enabled": on}}});
        for (spec, expected) in [
            (json!({}), false),
            (json!({"profile": "demo"}), true),
            (gateways(json!([{"enabled": true}])), true),
            (gateways(json!([{"name": "istio-egressgateway", "enabled": true}])), true),
            (gateways(json!([{"name": "istio-egressgateway"}])), false),
            (json!({"values": value(true)}), true),
            (json!({"profile": "demo", "values": value(false)}), false),
        ] {
            let read = Installation::of_operator(&spec).unwrap();
            assert_eq!(read.egress_gateway, expected, "{spec}");
            assert_eq!(read.components().contains(&"Egress gateways"), expected, "{spec}");
            assert_eq!(read.ignored, [""; 0], "{spec}");
        }
        // Others of a user's are no part of an installation here.
        let other = json!([{"name": "mine", "enabled": true}, {"name": 3}]);
        let read = Installation::of_operator(&gateways(other)).unwrap();
        assert!(!read.egress_gateway);
        let at = |field: &str| format!("components.egressGateways[0].{field}");
        assert_eq!(read.ignored, [at("name"), at("enabled")]);
        // The chart of 1.0 had one by itself.
        for (version, values, expected) in [
            ("1.0.0", json!({}), true),
            ("1.0.0", value(false), false),
            ("1.3.2", json!({}), false),
        ] {
            let read = Installation::of_chart(version, &values).unwrap();
            assert_eq!(read.egress_gateway, expected, "{version} {values}");
        }
    }

    #[test]
    fn charts_of_older_versions_set_what_they_set_then() {
        let values = json!({
            "sidecarInjectorWebhook": {"enabled": false},
            "grafana": {"enabled": true}, "servicegraph": {"enabled": true},
            "tracing": {"enabled": true}, "prometheus": {"enabled": false},
        });
        let read = Installation::of_chart("1.0.0-snapshot.1", &values).unwrap();
        assert!(!read.injects_by_label);
        assert_eq!(read.addons, [Addon::Grafana, Addon::Servicegraph, Addon::Tracing]);
        assert_eq!(read.settings, settings(&[(EGRESS, "REGISTRY_ONLY"), (MTLS, "DISABLE")]));
        assert_eq!(read.ignored, [""; 0]);
        let values = json!({
            "global": {
                "mtls": {"enabled": true}, "controlPlaneSecurityEnabled": true,
                "defaultNodeSelector": {"beta.kubernetes.io/os": "linux"},
            },
            "grafana": {"enabled": true, "security": {"enabled": true}},
        });
        let read = Installation::of_chart("1.3.2", &values).unwrap();
        assert_eq!(read.settings, settings(&[(EGRESS, "ALLOW_ANY"), (MTLS, "STRICT")]));
        assert_eq!(read.ignored, ["grafana.security.enabled"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (spec, error) in [
            (
                json!({"profile": "best"}),
                "no profile is called \"best\"; there are: default, demo, minimal, preview, openshift, empty",
            ),
            (
                json!({"meshConfig": {"outboundTrafficPolicy": {"mode": "MAYBE"}}}),
                "meshConfig.outboundTrafficPolicy.mode: setting outboundTrafficPolicy.mode: \"MAYBE\" is not ALLOW_ANY or REGISTRY_ONLY",
            ),
        ] {
            assert_eq!(Installation::of_operator(&spec).unwrap_err().to_string(), error);
        }
        let no_field = |spec: Value| Installation::of_operator(&spec).unwrap_err().to_string();
        for (spec, error) in [
            (
                json!({"meshconfig": {}}),
                "meshconfig: there is no such field; did you mean \"meshConfig\"?",
            ),
            (
                json!({"meshConfig": {"acessLogFile": "x"}}),
                "meshConfig.acessLogFile: there is no such field; did you mean \"accessLogFile\"?",
            ),
            (
                json!({"components": {"ingressGateways": [{"enable": true}]}}),
                "components.ingressGateways[0].enable: there is no such field; did you mean \"enabled\"?",
            ),
            (
                json!({"values": {"global": {"proxyy": {}}}}),
                "values.global.proxyy: there is no such field; did you mean \"proxy\"?",
            ),
            (json!({"zzzzzzzzzz": 1}), "zzzzzzzzzz: there is no such field"),
        ] {
            assert_eq!(no_field(spec), error);
        }
        let error = operator_spec(&json!({"apiVersion": "v1", "kind": "Service"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this is Service v1, and must be an IstioOperator of install.istio.io/v1alpha1"
        );
        // Odd shapes are no reason to panic.
        for odd in [
            json!(null),
            json!([]),
            json!({"meshConfig": 3, "components": {"pilot": [3]}, "values": "x"}),
        ] {
            assert!(Installation::of_operator(&odd).is_ok(), "{odd}");
        }
    }
}
