//! Annotations that Istio knows (and Linkerd's), on the objects that Kubernetes itself has: which do
//! what they say, and what is wrong with the others, as Istio's analyzer of annotations has it.

use ironmesh_model::network::Network;
use ironmesh_model::{Finding, FindingCode};

use crate::Object;
use crate::istio::proxy_settings;
use crate::path;
use crate::schema::{DID_YOU_MEAN, Quantity, nearest};

/// What becomes of an annotation.
#[derive(Clone, Copy)]
enum Meaning {
    /// It does what it says, or is only a note.
    Honoured,
    /// It would ask for this, which is not done.
    NotHere(&'static str),
    /// Nothing needs to be done, for this reason.
    Unneeded(&'static str),
    /// Its text holds settings of the proxy.
    Settings,
}

/// What its text has to be.
#[derive(Clone, Copy)]
enum Text {
    Any,
    Boolean,
    Number,
    Port,
    Ports,
    /// Ports, or `*`.
    PortsOrAll,
    Networks,
    /// Networks, or `*`.
    NetworksOrAll,
    Names,
    Interception,
    Amount,
}

use Meaning::{Honoured, NotHere, Settings, Unneeded};

/// An annotation: its name, the kinds that may have it, what becomes of it, and what its text has to be.
type Known = (&'static str, &'static [&'static str], Meaning, Text);

const POD: &[&str] = &["Pod"];
const SERVICE: &[&str] = &["Service"];
/// Those that any kind may have.
const ANY: &[&str] = &[];

const ALONE: Meaning = NotHere("the proxy takes its settings from the mesh alone");
const CAPTURED: Meaning = NotHere("all traffic of a pod with a sidecar is captured");
const NO_AMBIENT: Meaning =
    NotHere("there is no ambient mode; a pod is captured if it has a sidecar");
const STATISTICS: Meaning =
    NotHere("statistics are those that Istio's proxies have by default, of every request");
const READINESS: Meaning = Unneeded("a pod is ready when its sidecar and its applications are");

const KNOWN: &[Known] = &[
    ("sidecar.istio.io/inject", POD, Honoured, Text::Any),
    ("sidecar.istio.io/status", POD, Honoured, Text::Any),
    ("inject.istio.io/templates", POD, Honoured, Text::Any),
    ("istio.io/rev", ANY, Honoured, Text::Any),
    ("istio.io/dry-run", &["AuthorizationPolicy"], ALONE, Text::Any),
    ("gateway.istio.io/controller-version", ANY, Honoured, Text::Any),
    (
        "galley.istio.io/analyze-suppress",
        ANY,
        NotHere("findings are shown all the same"),
        Text::Any,
    ),
    ("kubernetes.io/ingress.class", &["Ingress"], Honoured, Text::Any),
    ("networking.istio.io/exportTo", SERVICE, Honoured, Text::Any),
    (
        "networking.istio.io/traffic-distribution",
        &["Namespace", "Service", "ServiceEntry"],
        Honoured,
        Text::Any,
    ),
    (
        "traffic.istio.io/nodeSelector",
        SERVICE,
        Unneeded("there is one node, at whose address node ports are"),
        Text::Any,
    ),
    (
        "alpha.istio.io/canonical-serviceaccounts",
        SERVICE,
        NotHere("identities are those of service accounts"),
        Text::Any,
    ),
    (
        "alpha.istio.io/kubernetes-serviceaccounts",
        SERVICE,
        Unneeded("endpoints are known by the service accounts of their pods"),
        Text::Any,
    ),
    (
        "istio.io/use-waypoint-canary-weight",
        &["Service", "ServiceEntry", "Namespace"],
        NotHere("there are no waypoints"),
        Text::Any,
    ),
    (
        "topology.istio.io/controlPlaneClusters",
        &["Namespace"],
        NotHere("there is one cluster"),
        Text::Any,
    ),
    ("ambient.istio.io/bypass-inbound-capture", POD, NO_AMBIENT, Text::Any),
    ("ambient.istio.io/dns-capture", POD, NO_AMBIENT, Text::Any),
    ("ambient.istio.io/redirection", POD, NO_AMBIENT, Text::Any),
    ("istio.io/reroute-virtual-interfaces", POD, CAPTURED, Text::Names),
    (
        "prometheus.istio.io/merge-metrics",
        POD,
        NotHere("the metrics of applications are not merged with the proxy's"),
        Text::Boolean,
    ),
    ("proxy.istio.io/config", POD, Settings, Text::Any),
    ("proxy.istio.io/overrides", POD, ALONE, Text::Any),
    ("readiness.status.sidecar.istio.io/applicationPorts", POD, READINESS, Text::Any),
    ("readiness.status.sidecar.istio.io/failureThreshold", POD, READINESS, Text::Number),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", POD, READINESS, Text::Number),
    ("readiness.status.sidecar.istio.io/periodSeconds", POD, READINESS, Text::Number),
    ("sidecar.istio.io/agentLogLevel", POD, ALONE, Text::Any),
    ("sidecar.istio.io/bootstrapOverride", POD, ALONE, Text::Any),
    ("sidecar.istio.io/componentLogLevel", POD, ALONE, Text::Any),
    ("sidecar.istio.io/discoveryAddress", POD, ALONE, Text::Any),
    ("sidecar.istio.io/extraStatTags", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/interceptionMode", POD, ALONE, Text::Interception),
    ("sidecar.istio.io/logLevel", POD, ALONE, Text::Any),
    (
        "sidecar.istio.io/nativeSidecar",
        POD,
        Unneeded("the sidecar starts before the applications and ends after them"),
        Text::Any,
    ),
    ("sidecar.istio.io/proxyCPU", POD, ALONE, Text::Amount),
    ("sidecar.istio.io/proxyCPULimit", POD, ALONE, Text::Amount),
    ("sidecar.istio.io/proxyImage", POD, ALONE, Text::Any),
    ("sidecar.istio.io/proxyImageType", POD, ALONE, Text::Any),
    ("sidecar.istio.io/proxyMemory", POD, ALONE, Text::Amount),
    ("sidecar.istio.io/proxyMemoryLimit", POD, ALONE, Text::Amount),
    (
        "sidecar.istio.io/rewriteAppHTTPProbers",
        POD,
        Unneeded("the kubelet asks applications past their sidecar"),
        Text::Any,
    ),
    ("sidecar.istio.io/statsCompression", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/statsEvictionInterval", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/statsFlushInterval", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/statsHistogramBins", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/statsHistogramBuckets", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/statsInclusionPrefixes", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/statsInclusionRegexps", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/statsInclusionSuffixes", POD, STATISTICS, Text::Any),
    ("sidecar.istio.io/userVolume", POD, ALONE, Text::Any),
    ("sidecar.istio.io/userVolumeMount", POD, ALONE, Text::Any),
    ("status.sidecar.istio.io/port", POD, ALONE, Text::Port),
    ("traffic.sidecar.istio.io/excludeInboundPorts", POD, CAPTURED, Text::Ports),
    ("traffic.sidecar.istio.io/excludeInterfaces", POD, CAPTURED, Text::Names),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", POD, CAPTURED, Text::Networks),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", POD, CAPTURED, Text::Ports),
    ("traffic.sidecar.istio.io/includeInboundPorts", POD, CAPTURED, Text::PortsOrAll),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", POD, CAPTURED, Text::NetworksOrAll),
    ("traffic.sidecar.istio.io/includeOutboundPorts", POD, CAPTURED, Text::PortsOrAll),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", POD, CAPTURED, Text::Names),
];

/// Annotations that Istio means to drop, and what it would have in their place.
const OLD: &[(&str, &str)] = &[
    ("sidecar.istio.io/inject", "; write the label sidecar.istio.io/inject"),
    ("alpha.istio.io/canonical-serviceaccounts", ""),
    ("alpha.istio.io/kubernetes-serviceaccounts", ""),
    ("sidecar.istio.io/discoveryAddress", ""),
    ("sidecar.istio.io/extraStatTags", ""),
    ("sidecar.istio.io/statsCompression", ""),
    ("sidecar.istio.io/statsInclusionPrefixes", ""),
    ("sidecar.istio.io/statsInclusionRegexps", ""),
    ("sidecar.istio.io/statsInclusionSuffixes", ""),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", "; write istio.io/reroute-virtual-interfaces"),
];

/// Checks the annotations in the `metadata` at a path of an object.
pub(crate) fn annotations(object: &Object, metadata: &str, findings: &mut Vec<Finding>) {
    let pointer = format!("/{}", metadata.replace('.', "/"));
    let Some(of) = object.value().pointer(&pointer) else { return };
    let kind = if metadata == "metadata" { object.kind() } else { "Pod" };
    let has_label = of["labels"].get(INJECT).is_some();
    for (name, value) in of["annotations"].as_object().into_iter().flatten() {
        let at = path::field(&format!("{metadata}.annotations"), name);
        let mut report = |code, message: String| {
            findings.push(Finding::new(object.id(), &at, code, format!("{name}: {message}")));
        };
        if name == "linkerd.io/inject" {
            let why = "it injects nothing; what does is the label istio-injection=enabled of the \
                       namespace, or sidecar.istio.io/inject=true of the pod";
            report(FindingCode::NotHonoured, why.to_owned());
            continue;
        }
        let Some((_, kinds, meaning, text)) = KNOWN.iter().find(|known| known.0 == name) else {
            if is_istios(name) && LOOKED_AT.contains(&kind) {
                report(FindingCode::UnknownField, unknown(name));
            }
            continue;
        };
        if let Some((_, instead)) = OLD.iter().find(|old| old.0 == name)
            && !(name == INJECT && has_label)
        {
            report(FindingCode::Deprecated, format!("Istio means to drop it{instead}"));
        }
        if !kinds.is_empty() && !kinds.contains(&kind) && LOOKED_AT.contains(&kind) {
            report(FindingCode::NoEffect, misplaced(kinds, kind));
            continue;
        }
        let given = value.as_str().unwrap_or_default();
        if let Some(expected) = text.flaw(given) {
            report(FindingCode::NoEffect, format!("this takes {expected}, not {given:?}"));
        }
        match meaning {
            Honoured => {}
            NotHere(why) => report(FindingCode::NotDoneHere, (*why).to_owned()),
            Unneeded(why) => report(FindingCode::NotNeeded, (*why).to_owned()),
            Settings => proxy_settings(given, object.id(), &at, findings),
        }
    }
}

/// Whether a name is one of Istio's to give.
fn is_istios(name: &str) -> bool {
    name.split_once('/').is_some_and(|(prefix, _)| prefix.ends_with("istio.io"))
}

fn unknown(name: &str) -> String {
    let names = KNOWN.iter().map(|known| known.0);
    let near = (name.len() <= NAME_MAX).then(|| nearest(name, names)).flatten();
    let hint = near.map(|near| format!("{DID_YOU_MEAN}{near:?}?")).unwrap_or_default();
    format!("Istio has no such annotation{hint}")
}

fn misplaced(kinds: &[&str], kind: &str) -> String {
    let template = match kinds {
        ["Pod"] if !matches!(kind, "Namespace" | "Service") => {
            "; write it into spec.template.metadata"
        }
        _ => "",
    };
    format!("it has a meaning on {} only, not on a {kind}{template}", kinds.join(", "))
}

impl Text {
    /// What it has to be, if it is not.
    fn flaw(self, text: &str) -> Option<&'static str> {
        let all = |is_one: &dyn Fn(&str) -> bool| text.is_empty() || text.split(',').all(is_one);
        let is_port = |text: &str| text.trim().parse::<u16>().is_ok();
        let is_network = |text: &str| text.parse::<Network>().is_ok();
        let booleans =
            ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
        let (is_right, expected) = match self {
            Self::Any => (true, ""),
            Self::Boolean => (booleans.contains(&text), "true or false"),
            Self::Number => (text.parse::<u32>().is_ok(), "a whole number"),
            Self::Port => (is_port(text), "a port"),
            Self::Ports => (all(&is_port), "ports, separated by commas"),
            Self::PortsOrAll => (text == "*" || all(&is_port), "ports, separated by commas, or *"),
            Self::Networks => (all(&is_network), "networks (ADDRESS/BITS), separated by commas"),
            Self::NetworksOrAll => {
                let is_right = text == "*" || all(&is_network);
                (is_right, "networks (ADDRESS/BITS), separated by commas, or *")
            }
            Self::Names => {
                (all(&|name| !name.trim().is_empty()), "names of interfaces, separated by commas")
            }
            Self::Interception => {
                (matches!(text, "REDIRECT" | "TPROXY" | "NONE"), "REDIRECT, TPROXY or NONE")
            }
            Self::Amount => (
                Quantity(text.to_owned()).thousandths().is_some(),
                "an amount such as 100m or 128Mi",
            ),
        };
        (!is_right).then_some(expected)
    }
}

/// The label and annotation by which a pod says whether it gets a sidecar.
const INJECT: &str = "sidecar.istio.io/inject";

/// Longer names are no misspelt ones.
const NAME_MAX: usize = 128;

/// Kinds on which annotations of Istio that are unknown, or elsewhere at home, are found.
const LOOKED_AT: &[&str] = &[
    "Namespace",
    "Service",
    "Pod",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "ReplicationController",
    "Job",
];
