//! Releases: what a chart installed, noted in the mesh so that it can be deleted.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use ironmesh_control::gateway;
use ironmesh_dialects::install::Installation;
use ironmesh_dialects::kinds::Resource;
use ironmesh_model::Severity;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::command::{Chart, Line};
use crate::api::{Api, ApiError, Query, STRATEGIC_PATCH};
use crate::charts;
use crate::output::table::Columns;
use crate::output::yaml::to_yaml;
use crate::say;
use crate::verb::settings;

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Release {
    /// Its name.
    pub(super) name: String,
    chart: String,
    version: String,
    namespace: String,
    /// Kind, apiVersion, namespace and name of what it made.
    objects: Vec<Value>,
    /// Settings that it changed.
    settings: Vec<String>,
    /// Ports that it gave the Service of the ingress gateway.
    #[serde(default)]
    gateway_ports: Vec<Value>,
}

/// What a chart makes.
struct Rendered {
    objects: Vec<Value>,
    settings: Vec<(String, String)>,
    ignored: Vec<String>,
    gateway_ports: Vec<Value>,
}

/// Installs a chart, or brings a release of it up to date.
pub(super) async fn install(
    api: &Api,
    line: &Line,
    name: &str,
    chart: &Chart,
) -> anyhow::Result<ExitCode> {
    let rendered = render(chart, line, name)?;
    let before = Release::find(api, name).await?;
    if before.is_some() && line.words()[0] == "install" {
        bail!("a release named {name} already exists; `helm upgrade` changes it");
    }
    if line.flag("dry-run").is_some() {
        return print(chart, line, name);
    }
    let namespace = line.namespace();
    let own = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    charts::install(api, &[own]).await?;
    let changes: Vec<_> =
        rendered.settings.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    settings::set(api, &changes).await?;
    let release = Release {
        name: name.to_owned(),
        chart: chart.name.clone(),
        version: chart.version.clone(),
        namespace: namespace.to_owned(),
        objects: rendered.objects.iter().map(charts::reference).collect(),
        settings: rendered.settings.iter().map(|(name, _)| name.clone()).collect(),
        gateway_ports: rendered.gateway_ports,
    };
    // Noted before it is made: what ends halfway can be deleted, too.
    release.note(api).await?;
    charts::install(api, &rendered.objects).await?;
    change_gateway(api, release.gateway_ports.clone()).await?;
    if let Some(before) = before {
        for object in before.objects.iter().filter(|object| !release.objects.contains(object)) {
            charts::delete(api, object).await?;
        }
    }
    for path in &rendered.ignored {
        let word = say::severity(Severity::Warning);
        say::notice(&format!("{word} {path}: changes nothing here"));
    }
    release.say()?;
    writeln!(
        stdout(),
        "\nNOTES:\nironmesh is the control plane and gives gateways their proxy; what is listed answers \
         under the names of this chart."
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a chart makes.
pub(super) fn print(chart: &Chart, line: &Line, name: &str) -> anyhow::Result<ExitCode> {
    let mut out = stdout().lock();
    for object in render(chart, line, name)?.objects {
        write!(out, "---\n{}", to_yaml(&object)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows releases.
pub(super) fn list(releases: &[Release]) -> anyhow::Result<()> {
    let mut columns = Columns::default();
    columns.push(["NAME", "NAMESPACE", "STATUS", "CHART"]);
    for release in releases {
        let chart = format!("{}-{}", release.chart, release.version);
        let chart = chart.trim_end_matches('-');
        columns.push([&*release.name, &*release.namespace, "deployed", chart]);
    }
    write!(stdout(), "{}", columns.take_text())?;
    Ok(())
}

fn render(chart: &Chart, line: &Line, name: &str) -> anyhow::Result<Rendered> {
    let values = line.values()?;
    let (namespace, version) = (line.namespace(), chart.version.as_str());
    let nothing = Rendered {
        objects: Vec::new(),
        settings: Vec::new(),
        ignored: Vec::new(),
        gateway_ports: Vec::new(),
    };
    Ok(match chart.name.as_str() {
        "istio-init" | "istio" if version.is_empty() => {
            bail!("say which version of the chart: --version 1.3.2")
        }
        "istio-init" => Rendered { objects: charts::istio_init(namespace, version), ..nothing },
        "istio" => {
            let installation = Installation::of_chart(version, &values)?;
            let mut objects = charts::istio(&installation, namespace, version);
            if installation.egress_gateway {
                objects.extend(gateway::egress());
            }
            if !installation.injects_by_label {
                objects.push(charts::injector(false));
            }
            let Installation { settings, ignored, .. } = installation;
            Rendered { objects, settings, ignored, gateway_ports: charts::gateway_ports(version) }
        }
        "istiod" => {
            let read = Installation::of_istiod_chart(&values)?;
            let Installation { settings, ignored, .. } = read;
            let plain = |path: String| path.trim_start_matches("values.").to_owned();
            let ignored = ignored.into_iter().map(plain).collect();
            Rendered { objects: charts::istiod(), settings, ignored, ..nothing }
        }
        "gateway" if (name, namespace) != (charts::GATEWAY, charts::ROOT) => {
            let of = charts::GatewayRelease { name, namespace, version };
            let (objects, ignored) =
                charts::gateway(of, &values).map_err(|why| anyhow!("chart gateway: {why}"))?;
            Rendered { objects, ignored, ..nothing }
        }
        // Its kinds and the gateway of that name the mesh has.
        _ => nothing,
    })
}

impl Release {
    /// The release of a name.
    pub(super) async fn find(api: &Api, name: &str) -> Result<Option<Self>, ApiError> {
        match api.get(&maps().path(Some(PLACE), Some(&map_name(name)))).await {
            Ok(map) => Ok(Self::of(&map)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All of them.
    pub(super) async fn all(api: &Api) -> Result<Vec<Self>, ApiError> {
        let path = Query::new(maps().path(Some(PLACE), None)).with("labelSelector", LABEL);
        let list = api.get(&path.build()).await?;
        Ok(list["items"].as_array().into_iter().flatten().filter_map(Self::of).collect())
    }

    fn of(map: &Value) -> Option<Self> {
        serde_json::from_str(map["data"]["release"].as_str()?).ok()
    }

    async fn note(&self, api: &Api) -> anyhow::Result<()> {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": map_name(&self.name), "namespace": PLACE, "labels": {LABEL: self.name}},
            "data": {"release": serde_json::to_string(self)?},
        });
        Ok(charts::install(api, &[map]).await?)
    }

    /// Deletes what it made, and takes its settings back.
    pub(super) async fn delete(&self, api: &Api) -> anyhow::Result<()> {
        for object in &self.objects {
            charts::delete(api, object).await?;
        }
        let gone = |port: &Value| json!({"$patch": "delete", "port": port["port"], "protocol": port["protocol"]});
        change_gateway(api, self.gateway_ports.iter().map(gone).collect()).await?;
        let changes: Vec<_> = self.settings.iter().map(|name| (name.clone(), None)).collect();
        settings::set(api, &changes).await?;
        api.delete(&maps().path(Some(PLACE), Some(&map_name(&self.name)))).await?;
        writeln!(stdout(), "release {:?} deleted", self.name)?;
        Ok(())
    }

    /// Shows it as Helm 2 does.
    pub(super) fn say(&self) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        let Self { name, namespace, .. } = self;
        writeln!(out, "NAME:   {name}\nNAMESPACE: {namespace}\nSTATUS: DEPLOYED\n\nRESOURCES:")?;
        for object in &self.objects {
            let (resource, _, name) = charts::identity(object);
            writeln!(out, "{}/{name}", resource.qualified_singular())?;
        }
        Ok(())
    }
}

/// Changes ports of the Service of the mesh's own gateway, each found by its number.
async fn change_gateway(api: &Api, ports: Vec<Value>) -> Result<(), ApiError> {
    if ports.is_empty() {
        return Ok(());
    }
    let path = Resource::of("v1", "Service").path(Some(charts::ROOT), Some(charts::GATEWAY));
    let patch = json!({"spec": {"ports": ports}});
    api.patch(&path, STRATEGIC_PATCH, &patch).await.map(drop)
}

fn maps() -> Resource {
    Resource::of("v1", "ConfigMap")
}

fn map_name(release: &str) -> String {
    format!("helm-release-{release}")
}

/// Where releases are noted.
const PLACE: &str = "kube-system";
const LABEL: &str = "ironmesh.io/helm-release";
